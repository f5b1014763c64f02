"""Figures and tables of chapter 4: stopping, weights, methods over views, correlations, shifts, sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from .panels import checked_volume
from .style import COLORS, WIDTH

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["correlations", "draws_rows", "methods_over_views", "sections", "shifts", "stopping", "weights"]

NEUTRAL = ["#6A3D9A", "#B8860B", "#1B7837", "#C51B7D", "#4D4D4D"]  # of methods and runs: no phase's colour
# Of each method, in every figure: color, marker, line.
METHODS = {
    "SIRT": {"color": NEUTRAL[0], "marker": "o", "ls": ":"},
    "TV": {"color": NEUTRAL[2], "marker": "D", "ls": "-."},
    "joint TV": {"color": NEUTRAL[1], "marker": "s", "ls": "--"},
    "DIP": {"color": NEUTRAL[3], "marker": "^", "ls": ":"},
    "DIPm-TV": {"color": NEUTRAL[4], "marker": "v", "ls": "-"},
}


def stopping(iterations: Sequence[int], chi2: ArrayLike, errors: ArrayLike, stops: Mapping[str, int]) -> Figure:
    """Residual and true error of an iterative method, with the iterations at which rules would stop it.

    Parameters
    ----------
    iterations : sequence of int, length N
    chi2, errors : array (N,)
        Chi-square per value, and NRMSE against the truth.
    stops : dict of str to int
        ``{rule: iteration}``.
    """
    figure, axes = plt.subplots(2, 1, figsize=(WIDTH, 5.2), sharex=True)
    for ax, values, label in zip(axes, (chi2, errors), ("$\\chi^2$ per value", "NRMSE (truth)"), strict=True):
        ax.semilogx(iterations, values, "o-", ms=4, color=NEUTRAL[0])
        ax.set(ylabel=label)
        for (rule, at), style in zip(stops.items(), ("--", ":", "-."), strict=False):
            ax.axvline(at, color="0.25", ls=style, label=f"{rule}: {at}")
    axes[0].axhline(1, color="0.7", lw=1, zorder=0)
    axes[0].text(iterations[0], 1, "noise", va="bottom", color="0.35")
    axes[0].set_ylim(0, None)
    axes[1].set(xlabel="iterations")
    axes[1].legend(title="stopped by")
    return figure


def weights(
    iterations: Sequence[int], gap: ArrayLike, errors: Mapping[float, float], heldout: Mapping[float, float]
) -> Figure:
    """Convergence of one total-variation run, and error and held-out misfit over the weight.

    Parameters
    ----------
    iterations : sequence of int, length N
    gap : array (N,)
        Relative primal-dual gap.
    errors, heldout : dict of float to float
        ``{weight: NRMSE}`` and ``{weight: chi-square per held-out value}``; the least of the latter is the choice.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.4))
    left.semilogy(iterations, np.maximum(gap, 1e-5), "o-", ms=4, color=NEUTRAL[0])
    left.set(xlabel="iterations", ylabel="primal-dual gap (relative)")
    right.semilogx(*zip(*sorted(errors.items()), strict=True), "o-", color=NEUTRAL[0], label="NRMSE (truth)")
    right.semilogx(*zip(*sorted(heldout.items()), strict=True), "s--", color=NEUTRAL[1], label="$\\chi^2$, held out")
    right.axvline(min(heldout, key=heldout.get), color="0.25", ls=":", label="chosen")
    ticks = sorted(errors)
    right.set_xticks(ticks, [f"{weight:.2g}" for weight in ticks])
    right.minorticks_off()
    right.set(xlabel="weight $\\lambda$", ylim=(0, None))
    right.legend(frameon=True, framealpha=1, edgecolor="none")  # over the line of the choice
    return figure


def methods_over_views(summary: Sequence[Mapping[str, Any]]) -> Figure:
    """Error of each method over the number of views: a point by its own rule, a bar from the oracle to the end.

    Parameters
    ----------
    summary : list of dict
        With ``method``, ``views``, ``fluence``, ``oracle``, ``automatic`` and ``end``, as of `study.summarise`. One
        panel for each fluence.
    """
    fluences = sorted({row["fluence"] for row in summary})
    methods = list(dict.fromkeys(row["method"] for row in summary))
    views = sorted({row["views"] for row in summary})
    columns = min(2, len(fluences))
    rows = -(-len(fluences) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, 3.4 * rows), squeeze=False, sharey=True)
    for ax, fluence in zip(axes.flat, fluences, strict=False):
        for k, method in enumerate(methods):
            found = sorted((r for r in summary if r["method"] == method and r["fluence"] == fluence), key=_views)
            place = [views.index(r["views"]) + 0.1 * (k - (len(methods) - 1) / 2) for r in found]
            low, mid, high = ([r[name] for r in found] for name in ("oracle", "automatic", "end"))
            style = METHODS[method]
            ax.vlines(place, low, np.maximum(mid, high), color=style["color"], lw=2, alpha=0.5)
            ax.plot(place, mid, label=method, **style | {"ls": ""})
        ax.set_xticks(range(len(views)), views)
        ax.set_xticks(np.arange(1, len(views)) - 0.5, minor=True)
        ax.grid(which="minor", axis="x", color="0.85", lw=0.8)
        ax.tick_params(which="minor", length=0)
        ax.set(xlabel="views", title=f"{fluence:,g} e/Å² per tilt", xlim=(-0.5, len(views) - 0.5), ylim=(0, None))
    for ax in axes[:, 0]:
        ax.set_ylabel("NRMSE")
    figure.legend(*axes[0, -1].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def _views(row):
    return row["views"]


def correlations(curves: Mapping[str, Mapping[str, Any]], *, threshold: float = 0.143, columns: int = 2) -> Figure:
    """Fourier shell correlations, ``{panel: {label: curve}}``; labels that speak of the truth are dashed.

    Parameters
    ----------
    curves : dict of str to dict of str to `metrics.FourierShellCorrelation`
    threshold : float
        A thin line.
    columns : int
        Panels in a row.
    """
    columns = min(columns, len(curves))
    rows = -(-len(curves) // columns)
    size = (WIDTH, 3.6 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharey=True)
    for ax, (title, found) in zip(axes.flat, curves.items(), strict=False):
        for k, (label, curve) in enumerate(found.items()):
            style = "--" if "truth" in label else "-"
            ax.plot(curve.frequency, curve.correlation, style, color=NEUTRAL[k // 2 % len(NEUTRAL)], label=label)
        ax.axhline(threshold, color="0.6", lw=1)
        ax.set(title=title, xlabel="spatial frequency (1/nm)", ylim=(-0.2, 1.05))
    for ax in axes[:, 0]:
        ax.set_ylabel("Fourier shell correlation")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def shifts(tilt_angles_deg: ArrayLike, found: ArrayLike, unit: str = "pixels") -> Figure:
    """Shifts (T, 2) that alignment found, over the tilt angle (T,)."""
    figure, ax = plt.subplots(figsize=(WIDTH, 2.8))
    for values, marker, color, label in zip(
        np.asarray(found, float).T, "os", NEUTRAL, ("along Y, the tilt axis", "across it, along X"), strict=False
    ):
        ax.plot(tilt_angles_deg, values, marker, color=color, label=label)
    ax.axhline(0, color="0.7", lw=1, zorder=0)
    ax.set(xlabel="tilt (°)", ylabel=f"shift ({unit})")
    ax.legend()
    return figure


# ---------------------------------------------------------------- sections through volumes


def sections(
    volumes: Mapping[str, ArrayLike],
    *,
    channels: Sequence[str] = ("FeO", "Fe3O4"),
    voxel_size_nm: float | None = None,
    index: int | None = None,
    columns: int = 3,
) -> Figure:
    """The slice across the tilt axis of ``{label: volume}``, one panel each: the phases in their colours, vacuum white.

    Parameters
    ----------
    volumes : dict of str to array, shape (C, Y, Z, X)
        Volume fractions.
    channels : sequence of str
        Names of the C phases.
    voxel_size_nm : float, optional
        Axes in nm; otherwise in voxels.
    index : int, optional
        Which slice along Y; by default the middle one.
    columns : int
        Panels in a row.

    Raises
    ------
    ValueError
        A volume of another shape.
    """
    columns = min(columns, len(volumes))
    rows = -(-len(volumes) // columns)
    side = min(2.05, (WIDTH - 0.7) / columns)
    size = (side * columns + 0.7, (side + 0.35) * rows + 0.9)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="compressed")
    colors = [COLORS.get(name) or NEUTRAL[k % len(NEUTRAL)] for k, name in enumerate(channels)]
    for ax in axes.flat[len(volumes) :]:
        ax.remove()
    for ax, (label, volume) in zip(axes.flat, volumes.items(), strict=False):
        volume = checked_volume(f"volumes[{label!r}]", volume, channels)
        image = phase_image(volume[:, volume.shape[1] // 2 if index is None else index], colors)
        size = 1 if voxel_size_nm is None else voxel_size_nm
        ax.imshow(image, extent=(0, size * image.shape[1], size * image.shape[0], 0))
        ax.set_title(label, fontsize=13)
        ax.tick_params(labelsize=11)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        ax.label_outer()
    unit = "voxels" if voxel_size_nm is None else "nm"
    for ax in axes[:, 0]:
        ax.set_ylabel(f"Z, beam ({unit})", fontsize=12)
    for column in range(columns):
        last = max(row for row in range(rows) if row * columns + column < len(volumes))
        axes[last, column].tick_params(labelbottom=True)
        axes[last, column].set_xlabel(f"X ({unit})", fontsize=12)
    entries = [Patch(color=color, label=name) for name, color in zip(channels, colors, strict=True)]
    entries.append(Patch(fc="white", ec="0.6", label="vacuum"))
    figure.legend(handles=entries, loc="outside lower center", ncols=len(entries), fontsize=12)
    return figure


def phase_image(fractions: ArrayLike, colors: Sequence[str]) -> NDArray:
    """A slice (C, Z, X) of volume fractions as an RGB image (Z, X, 3): each phase in its colour on white.

    Where fractions add up to more than one, they are divided by their sum.
    """
    fractions = np.clip(np.nan_to_num(np.asarray(fractions, float)), 0, None)
    fractions = fractions / np.maximum(fractions.sum(axis=0), 1)
    darkening = 1 - np.array([to_rgb(color) for color in colors])
    return 1 - np.einsum("czx,ck->zxk", fractions, darkening)


# ---------------------------------------------------------------- the record of drawn specimens

DRAWS_COLUMNS = {
    "error over joint TV's": "ratio",
    "worst tenth": "ratio_worst_tenth",
    "surface": "surface",
    "core's edge": "core",
    "corners": "corner",
    "contrast of voids": "void_contrast",
}


def draws_rows(recorded: Mapping[str, Any], least: int = 20) -> list[dict[str, Any]]:
    """Rows of a table of the record of `benchmarks/draws.py`: medians over drawn specimens, a row for each method.

    Methods run on fewer than ``least`` specimens, and the free voxels without a network, are left out. The core's edge
    is that of the specimens that have a core. ``voids filled``: specimens whose voids keep less than a fifth of their
    contrast, of those that have voids.
    """
    rows = []
    for name, medians in recorded["medians"].items():
        if medians["draws"] < least or name == "voxels":
            continue
        contrasts = [cell["methods"][name]["void_contrast"] for cell in recorded["rows"] if name in cell["methods"]]
        contrasts = [value for value in contrasts if value is not None]
        shown = medians | {"core": _core(recorded["rows"], name)}
        rows.append(
            {"method": name, "specimens": medians["draws"]}
            | {label: f"{shown[key]:.2f}" for label, key in DRAWS_COLUMNS.items()}
            | {"voids filled": f"{sum(value < 0.2 for value in contrasts)} of {len(contrasts)}"}
        )
    return rows


def _core(rows, name):
    """Median distance of the core's edge of one method, over the specimens that have a core."""
    own = [row["methods"][name]["core"] for row in rows if name in row["methods"] and row["label"]["core"]]
    return np.median([value for value in own if value is not None] or [np.nan])
