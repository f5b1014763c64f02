"""Figures of chapter 5: the network, its training, the parts of the nanocube with their errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyBboxPatch
from numpy.typing import ArrayLike

from .sparse import METHODS, SHADES, phase_image
from .style import COLORS, NEUTRAL, WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["anatomy", "anatomy_rows", "network_diagram", "training"]

BEHIND = {"facecolor": "w", "edgecolor": "none", "pad": 1}  # a label is read over a line
OTHERS = [NEUTRAL[0], NEUTRAL[3], NEUTRAL[2]]  # of runs that are no method's

# Boxes of the diagram: centre (x, y), width and height in a field of 12 by 7, text. Left to right what the network
# computes, then right to left what its volume is compared with.
BOXES = {
    "point": (1.15, 5.6, 1.7, 1.5, "point $r$\n$(y, z, x)$"),
    "features": (3.75, 5.6, 2.75, 1.5, "Fourier features\n$\\cos, \\sin(2\\pi q_k\\!\\cdot\\!r)$"),
    "perceptron": (6.6, 5.6, 2.2, 1.5, "perceptron\nweights $w$"),
    "softmax": (8.95, 5.6, 1.5, 1.5, "softmax"),
    "fractions": (11.0, 5.6, 1.75, 1.9, ""),
    "projector": (9.5, 3.0, 2.0, 1.3, "projector\n$A f_w$"),
    "misfit": (6.1, 3.0, 3.6, 1.3, "whitened misfit\n$\\frac{1}{2}\\|\\Sigma^{-1/2}(A f_w - p)\\|^2$"),
    "variation": (6.1, 1.0, 3.6, 1.3, "joint TV\n$\\lambda\\,\\mathrm{TV}(f_w)$"),
    "maps": (2.2, 4.1, 3.6, 0.9, "maps $p$, covariance $\\Sigma$"),
    "sum": (2.2, 2.0, 2.0, 1.3, "loss\n$E(w)$"),
}
FRACTIONS = (("", "volume $f_w$", 0.63), ("FeO", "FeO", 0.21), ("Fe3O4", "Fe$_3$O$_4$", -0.21), ("", "vacuum", -0.63))
ARROWS = (
    ((2.0, 5.6), (2.35, 5.6)),
    ((5.15, 5.6), (5.5, 5.6)),
    ((7.7, 5.6), (8.2, 5.6)),
    ((9.7, 5.6), (10.1, 5.6)),
    ((11.0, 4.65), (11.0, 3.0), (10.5, 3.0)),  # the volume to the projector
    ((11.5, 4.65), (11.5, 1.0), (7.9, 1.0)),  # and to the variation
    ((8.5, 3.0), (7.9, 3.0)),
    ((4.0, 4.1), (6.1, 4.1), (6.1, 3.65)),
    ((4.3, 3.0), (3.75, 3.0), (3.75, 2.3), (3.2, 2.3)),
    ((4.3, 1.0), (3.75, 1.0), (3.75, 1.7), (3.2, 1.7)),
)
GRADIENT = ((1.2, 2.0), (0.15, 2.0), (0.15, 6.8), (6.6, 6.8), (6.6, 6.35))


def network_diagram() -> Figure:
    """What DIPm-TV is made of: from the coordinates of a point to the loss, and back to the weights."""
    figure, ax = plt.subplots(figsize=(WIDTH, 4.3))
    for name, (x, y, width, height, text) in BOXES.items():
        face = {"perceptron": "#FFF3D6", "sum": "#EDEDED"}.get(name, "white")
        corner = (x - width / 2, y - height / 2)
        style = {"boxstyle": "round,pad=0,rounding_size=0.15", "fc": face, "ec": "0.3"}
        ax.add_patch(FancyBboxPatch(corner, width, height, **style))
        ax.text(x, y, text, ha="center", va="center", fontsize=11)
    x, y, *_ = BOXES["fractions"]
    for name, label, offset in FRACTIONS:
        ax.text(x, y + offset, label, ha="center", va="center", fontsize=11, color=COLORS.get(name, "0.25"))
    for points in ARROWS:
        _arrow(ax, points, color="0.3")
    _arrow(ax, GRADIENT, color=NEUTRAL[1], ls="--")
    ax.text(0.3, 6.9, "gradient: each step changes the weights $w$, and nothing else", color="0.25", fontsize=11)
    ax.set(xlim=(0, 12), ylim=(0.2, 7.3))
    ax.axis("off")
    return figure


def _arrow(ax, points, **style):
    """A line through points, with a head at its end."""
    ax.plot(*zip(*points, strict=True), lw=1.3, **style)
    head = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, "color": style["color"]}
    ax.annotate("", points[-1], points[-2], arrowprops=head)


def training(runs: Mapping[str, Mapping[str, ArrayLike]], *, marks: Mapping[str, float] | None = None) -> Figure:
    """Training histories of networks: error against the truth where known, and misfit of held-out and fitted pixels.

    Parameters
    ----------
    runs : dict of str to dict of str to array
        ``{label: {"step": ..., "heldout": ..., "fitted": ..., "error": ...}}``; without ``"error"`` that panel is
        left out. Misfits are chi-square per value: 1 is the noise level.
    marks : dict of str to float, optional
        Steps to mark, ``{label: step}``.
    """
    with_truth = any("error" in run for run in runs.values())
    figure, axes = plt.subplots(1 + with_truth, 1, figsize=(WIDTH, 3.0 + 2.2 * with_truth), sharex=True, squeeze=False)
    misfit = axes[-1, 0]
    for k, (label, run) in enumerate(runs.items()):
        color = METHODS[label]["color"] if label in METHODS else OTHERS[k % len(OTHERS)]
        if "error" in run:
            axes[0, 0].plot(run["step"], run["error"], color=color, label=label)
        many = "" if with_truth else "_"
        misfit.plot(run["step"], run["heldout"], color=color, label=f"{many}{label}: held out")
        misfit.plot(run["step"], run["fitted"], color=color, ls=":", label=f"{many}{label}: fitted")
    for label, step in (marks or {}).items():
        for ax in axes[:, 0]:
            ax.axvline(step, color="0.6", lw=1, label=label if ax is axes[0, 0] else None)
    misfit.axhline(1, color="k", lw=1)
    below = {"xycoords": misfit.get_yaxis_transform(), "xytext": (0, -4), "textcoords": "offset points"}
    misfit.annotate("noise level", (0.99, 1), **below, ha="right", va="top", bbox=BEHIND)
    largest = max(np.median(run["heldout"]) for run in runs.values())
    misfit.set(xlabel="step", ylabel="$\\chi^2$ per value", ylim=(0, max(1.4, 1.6 * largest)))
    if with_truth:
        axes[0, 0].set(ylabel="NRMSE (truth)", ylim=(0, None))
        axes[0, 0].legend()
        misfit.legend(ncols=2)
    return figure


# ---------------------------------------------------------------- core, shell, skin and void


def anatomy(
    truth: ArrayLike,
    volumes: Mapping[str, ArrayLike],
    measures: Mapping[str, tuple[Any, Any]],
    *,
    members: Sequence[tuple[Any, Any]] = (),
    voxel_size_nm: float = 1.0,
) -> Figure:
    """Core's edge, surface, skin and void of a core-shell particle: where each volume puts them, and how far off.

    Parameters
    ----------
    truth : array (2, Y, Z, X)
        FeO and Fe3O4; its middle slice is shown.
    volumes : dict of str to array (2, Y, Z, X)
        One or two, whose interfaces are drawn onto it.
    measures : dict of str to (`metrics.InterfaceError`, `metrics.SkinError`)
        ``{method: measures}``.
    members : sequence of the same pairs
        Of other members of the last method's ensemble: small dots beside its result.
    """
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 6.2))
    _draw_interfaces(axes[0, 0], np.asarray(truth), volumes, voxel_size_nm)
    names, places = list(measures), np.arange(len(measures))
    panels = {
        axes[0, 1]: ("RMS error (nm)", {"core's edge": _core, "surface": _surface}, None),
        axes[1, 0]: ("mean thickness of the skin (nm)", {"": _skin}, measures[names[0]][1].true_mean_nm),
        axes[1, 1]: ("volume of the void (nm³)", {"": _void}, measures[names[0]][0].true_void_nm3),
    }
    for ax, (label, quantities, true) in panels.items():
        for k, (quantity, read) in enumerate(quantities.items()):
            offset = 0.2 * (k - (len(quantities) - 1) / 2)
            color = SHADES[k]
            ax.plot([read(m) for m in members], [places[-1] + offset + 0.15] * len(members), ".", ms=5, color=color)
            ax.plot([read(measures[n]) for n in names], places + offset, "os"[k], color=color, label=quantity or None)
        if true is not None:
            ax.axvline(true, color=COLORS["truth"], lw=1, ls="--", label="truth")
        ax.set(xlabel=label, xlim=(0, 1.05 * ax.get_xlim()[1]), ylim=(len(names) - 0.5, -0.6))
        ax.set_yticks(places, names)
        ax.legend(fontsize=10)
    return figure


def _core(pair):
    return pair[0].core_rms_nm


def _surface(pair):
    return pair[0].outer_rms_nm


def _skin(pair):
    return pair[1].mean_nm


def _void(pair):
    return pair[0].void_nm3


def _draw_interfaces(ax: Axes, truth, volumes, voxel_size_nm):
    """The truth's middle slice, with the lines on which volumes have as much FeO as Fe3O4, and half of either."""
    middle = truth.shape[1] // 2
    side_z, side_x = (voxel_size_nm * n for n in truth.shape[2:])
    ax.imshow(phase_image(truth[:, middle], (COLORS["FeO"], COLORS["Fe3O4"])), extent=(0, side_x, side_z, 0), alpha=0.6)
    z, x = (voxel_size_nm * (np.arange(n) + 0.5) for n in truth.shape[2:])
    for (name, volume), style in zip(volumes.items(), ("-", ":"), strict=False):
        total = volume[:, middle].sum(axis=0)
        core = np.where(total > 0.5, volume[0, middle] - volume[1, middle], np.nan)
        for field, level in ((total, 0.5), (core, 0.0)):
            ax.contour(x, z, field, [level], colors="k", linestyles=style, linewidths=1.3)
        ax.plot([], [], color="k", ls=style, label=name)
    ax.set(xlabel="X (nm)", ylabel="Z, beam (nm)")
    ax.legend(fontsize=10, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)


def anatomy_rows(measures: Mapping[str, tuple[Any, Any]]) -> list[dict[str, Any]]:
    """Rows of a table of the measures that `anatomy` takes, the truth's last."""
    rows = [
        {
            "": name,
            "core's edge, RMS (nm)": edges.core_rms_nm,
            "surface, RMS (nm)": edges.outer_rms_nm,
            "skin (nm)": skin.mean_nm,
            "skin found": f"{1 - skin.missed:.0%}",
            "void (nm³)": edges.void_nm3,
            "interfaces missed": f"{edges.missed:.0%}",
        }
        for name, (edges, skin) in measures.items()
    ]
    edges, skin = next(iter(measures.values()))
    return [*rows, {"": "truth", "skin (nm)": skin.true_mean_nm, "void (nm³)": edges.true_void_nm3}]
