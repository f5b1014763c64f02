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
from .style import NEUTRAL, WIDTH, phase_colors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "as_drawn_rows",
    "correlations",
    "draws_rows",
    "ladder_rows",
    "methods_over_views",
    "sections",
    "shape_rows",
    "shifts",
    "stopping",
    "weights",
]

# Of each method, in every figure: color, marker, line.
METHODS = {
    "SIRT": {"color": NEUTRAL[0], "marker": "o", "ls": ":"},
    "TV": {"color": NEUTRAL[2], "marker": "D", "ls": "-."},
    "joint TV": {"color": NEUTRAL[1], "marker": "s", "ls": "--"},
    "DIP": {"color": NEUTRAL[3], "marker": "^", "ls": ":"},
    "DIPm-TV": {"color": NEUTRAL[4], "marker": "v", "ls": "-"},
}
SHADES = "0", "0.55"  # of directions and quantities: no method's colour


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
    joint_tv = METHODS["joint TV"]["color"]
    left.semilogy(iterations, np.maximum(gap, 1e-5), "o-", ms=4, color=joint_tv)
    left.set(xlabel="iterations", ylabel="primal-dual gap (relative)")
    right.semilogx(*zip(*sorted(errors.items()), strict=True), "o-", color=joint_tv, label="NRMSE (truth)")
    right.semilogx(*zip(*sorted(heldout.items()), strict=True), "s--", color="0.25", label="$\\chi^2$, held out")
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
        A dotted line.
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
            color = SHADES[k // 2 % 2]
            ax.plot(curve.frequency, curve.correlation, style, color=color, label=label)
        ax.axhline(threshold, color="0.4", ls=":", lw=1)
        ax.set(title=title, xlabel="spatial frequency (1/nm)", ylim=(-0.2, 1.05))
    for ax in axes[:, 0]:
        ax.set_ylabel("Fourier shell correlation")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def shifts(tilt_angles_deg: ArrayLike, found: ArrayLike, unit: str = "pixels") -> Figure:
    """Shifts (T, 2) that alignment found, over the tilt angle (T,)."""
    figure, ax = plt.subplots(figsize=(WIDTH, 2.8))
    for values, marker, color, label in zip(
        np.asarray(found, float).T, "os", SHADES, ("along Y, the tilt axis", "across it, along X"), strict=False
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
    colors = phase_colors(channels)
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

# Methods of the record in the order in which each adds something, in words.
LADDER = {
    "SIRT": "SIRT",
    "TV": "TV of each phase",
    "TV, simplex after": "TV of each phase, fractions afterwards",
    "joint TV, non-negative": "joint TV, non-negative values",
    "joint TV": "joint TV",
    "joint TV, best": "joint TV, best weight (oracle)",
    "TGV": "total generalised variation",
    "free voxels": "free voxels, softmax and TV",
    "discrete": "free voxels, softmax, TV and entropy",
    "voxels": "DIPm-TV with voxels for the network",
    "DIP one channel": "a network for each phase, non-negative values, no TV",
    "paper": "the paper's formulation, at the best of three learning rates",
    "network": "network alone: fractions of all phases, no TV",
    "network and TV": "network and TV",
    "DIPm-TV, no last stage": "DIPm-TV without its last stage",
    "DIPm-TV, no support": "DIPm-TV without its initial reconstruction",
    "DIPm-TV, no TV": "DIPm-TV without TV in the training",
    "DIPm-TV, filled voids left": "DIPm-TV that empties no voids",
    "DIPm-TV, non-negative": "DIPm-TV with non-negative values in place of fractions",
    "DIPm-TV": "DIPm-TV",
}
LENGTHS = {"surface": "surface", "corners": "corner"}  # columns, and their names in the record
FILLED = 0.2  # of its contrast: with less, a void counts as filled


def draws_rows(recorded: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of a table of the record of `benchmarks/draws.py`: methods that were run on all drawn specimens.

    Medians over the specimens; the core's edge is that of the specimens that have a core. ``voids filled``: specimens
    whose voids keep less than a fifth of their contrast, of those that have voids.
    """
    rows = []
    for name, found in _by_method(recorded["rows"]):
        if len(found) < len(recorded["rows"]):
            continue
        core = [row["methods"][name]["core"] for row in recorded["rows"] if row["label"]["core"]]
        rows.append(
            {"method": LADDER[name], "error over joint TV's": _number([one["ratio"] for one in found])}
            | {"worst tenth": f"{np.quantile([one['ratio'] for one in found], 0.9):.2f}"}
            | {"core's edge": _number(core)}
            | _measures(found)
        )
    return rows


def ladder_rows(recorded: Mapping[str, Any], least: int = 10) -> list[dict[str, Any]]:
    """Rows of a table of the same record: every method, on those specimens on which nearly all methods were run.

    These are the specimens of the methods that were run on ``least`` specimens or more. Methods that were run on fewer
    say on how many.
    """
    usual = {name for name, found in _by_method(recorded["rows"]) if len(found) >= least}
    shared = [row for row in recorded["rows"] if usual <= set(row["methods"])]
    rows = []
    for name, found in _by_method(shared):
        ratios = [one["ratio"] for one in found]
        words = LADDER[name] + (f" (on {len(found)} of them)" if len(found) < len(shared) else "")
        ends = [f"{end(ratios):.2f}" for end in (min, max)]
        span = f" ({' to '.join(ends)})" if ends[0] != ends[1] else ""
        rows.append({"method": words, "error over joint TV's": _number(ratios) + span} | _measures(found))
    return rows


def shape_rows(recorded: Mapping[str, Any], name: str = "DIPm-TV") -> list[dict[str, Any]]:
    """Rows of a table of the same record: one method, shape by shape.

    Parameters
    ----------
    recorded : dict
        Record of `benchmarks/draws.py`.
    name : str
        The method.
    """
    shapes: dict[str, list] = {}
    for row in recorded["rows"]:
        if name in row["methods"]:
            shapes.setdefault(row["label"]["shape"]["name"], []).append(row)
    table = []
    for shape in sorted(shapes):
        found = [row["methods"][name] for row in shapes[shape]]
        ratios = [one["ratio"] for one in found]
        core = [row["methods"][name]["core"] for row in shapes[shape] if row["label"]["core"]]
        span = f"{np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        line = {
            "shape": shape,
            "specimens": f"{len(found)}",
            "error over joint TV's": span,
            "core's edge": _number(core),
        }
        table.append(line | _measures(found))
    return table


NOISES = {"fit": "of a fit", "poisson": "Poisson"}


def as_drawn_rows(recorded: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of a table of the record of draws of which nothing is fixed: what each is, and the errors of methods.

    Methods that were run on all of them, each by its own rule.

    Parameters
    ----------
    recorded : dict
        Record of `benchmarks/draws.py` with ``--as-drawn``.
    """
    rows, table = recorded["rows"], []
    names = [name for name in LADDER if all(name in row["methods"] for row in rows)]
    for row in rows:
        label, methods = row["label"], row["methods"]
        odd = {
            "support": label["support"], label["third_phase"] and "third phase": label["third_phase"],
            label["mixture"] and "a mixed part": label["mixture"], "missing tilt": label["missing_tilt"],
            f"shifts to {label['largest_shift_px']:.1f} px": label["largest_shift_px"] >= 0.05,
            f"axis turned by {abs(label['axis_angle_deg']):.1f}°": abs(label["axis_angle_deg"]) >= 0.05,
        }  # fmt: skip
        line = {
            "specimen": f"{row['seed']}: {label['shape']['name']}",
            "tilts": f"{label['views']} over ±{label['max_tilt_deg']:.0f}°",
            "noise": NOISES.get(label["noise"]["kind"], label["noise"]["kind"]),
            "also": ", ".join(name for name, there in odd.items() if there) or "–",
        }  # fmt: skip
        table.append(line | {LADDER[name]: f"{methods[name]['nrmse']:.3f}" for name in names})
    return table


def _by_method(rows):
    """(name, its cells) of the methods that were run, in the order of the ladder."""
    found = [(name, [row["methods"][name] for row in rows if name in row["methods"]]) for name in LADDER]
    return [(name, cells) for name, cells in found if cells]


def _measures(cells):
    contrasts = [one["void_contrast"] for one in cells if one["void_contrast"] is not None]
    filled = sum(value < FILLED for value in contrasts)
    return {column: _number([one[key] for one in cells]) for column, key in LENGTHS.items()} | {
        "contrast of voids": _number(contrasts),
        "voids filled": f"{filled} of {len(contrasts)}",
    }


def _number(values):
    """The median of what is a number, as text."""
    values = [value for value in values if value is not None]
    return f"{np.median(values):.2f}" if values else "–"
