"""Figures of what the data can tell at all: bounds beside the errors of reconstructions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import ArrayLike

from .sparse import METHODS
from .style import WIDTH

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["bound_rows", "errors_figure", "visibility_figure"]

INTERFACES = {"surface": "outer surface", "core": "edge of the core", "skin": "skin, thickness"}
NORMALS = ("Y", "X", "Z", "edges")
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def visibility_figure(
    normals: ArrayLike,
    standard_errors: ArrayLike,
    *,
    max_tilt_deg: float | None = None,
    unit: str = "voxels",
    title: str | None = None,
) -> Figure:
    """How well interfaces are known over the direction of their normal: all directions, seen along the tilt axis.

    Y is in the middle, X to the sides, Z (the beam at 0°) at the top and bottom; opposite normals are the same
    interface. Equal areas of the figure are equal solid angles (J. H. Lambert, 1772).

    Parameters
    ----------
    normals : array (N, 3)
        (y, z, x), of any length: of discs (`tomography.visibility`) or of a volume's own patches.
    standard_errors : array (N,)
        Infinite ones are left out.
    max_tilt_deg : float, optional
        Dashed lines to the largest tilt: interfaces with normals above and below them are never seen edge-on.
    unit : str
        Of the standard errors.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        Normals and standard errors that disagree in number.
    """
    normals, values = np.asarray(normals, float), np.asarray(standard_errors, float)
    if normals.ndim != 2 or normals.shape[1] != 3 or values.shape != normals.shape[:1]:
        raise ValueError(f"normals: got {normals.shape} with {values.shape} standard errors, wants (N, 3) with (N,)")
    normals = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.where(normals[:, :1] < 0, -normals, normals)
    y, z, x = normals.T
    across, up = x / np.sqrt(1 + y), z / np.sqrt(1 + y)  # the rim, y = 0, is the unit circle
    figure, ax = plt.subplots(figsize=(4.6, 3.8))
    known = np.isfinite(values)
    size = np.clip(60000 / max(known.sum(), 1), 15, 400)
    shown = ax.scatter(across[known], up[known], c=values[known], s=size, cmap="viridis", linewidths=0)
    ax.add_patch(plt.Circle((0, 0), 1, fill=False, color="0.4"))
    if max_tilt_deg is not None:
        for angle in np.deg2rad([max_tilt_deg, -max_tilt_deg]):
            ends = np.array([-1, 1])
            ax.plot(ends * np.cos(angle), ends * np.sin(angle), "--", color="0.3", linewidth=1, zorder=3)
    for label, place in (("X", (1.1, 0)), ("Y", (0, 0)), ("Z", (0, 1.1))):
        ax.text(*place, label, ha="center", va="center", bbox={"boxstyle": "circle", "fc": "w", "ec": "none"})
    ax.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal", title=title)
    ax.axis("off")
    figure.colorbar(shown, ax=ax, shrink=0.8, label=f"standard error of the position ({unit})")
    return figure


def errors_figure(row: Mapping[str, Any], methods: Sequence[str]) -> Figure:
    """Errors of interfaces in patches, a panel for each interface, beside the smallest scatter that is possible.

    Parameters
    ----------
    row : dict
        Of one fluence, as `benchmarks/bound.py` records it.
    methods : sequence of str
        Of those in it.
    """
    figure, axes = plt.subplots(1, len(INTERFACES), figsize=(WIDTH, 3.4), sharey=True, layout="constrained")
    place = np.arange(len(NORMALS))
    least_of_all = []
    for ax, (name, title) in zip(axes, INTERFACES.items(), strict=True):
        least = [row["bounds"][name][group]["bound"] for group in NORMALS]
        least_of_all += least
        ax.bar(place, least, color="0.85", width=0.8, label="bound", zorder=0)
        for k, method in enumerate(methods):
            style = {key: METHODS[method][key] for key in ("color", "marker")}
            beside = place + 0.24 * (k - (len(methods) - 1) / 2)
            for what, fill in (("rms", style["color"]), ("scatter", "none")):
                values = [row[method][name][group][what] for group in NORMALS]
                label = f"{method}, {'error' if what == 'rms' else 'scatter alone'}"
                ax.plot(beside, values, ls="", **style, mfc=fill, label=label)
        ax.set(title=title, yscale="log")
        ax.set_xticks(place, NORMALS)
        ax.minorticks_off()
    axes[0].set_yticks(TICKS, [f"{t:g}" for t in TICKS])
    axes[0].set(ylabel="voxels", ylim=(min(least_of_all) / 1.5, None))
    axes[1].set_xlabel("direction of the normal")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def bound_rows(row: Mapping[str, Any], methods: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of a table: volumes of void and phases, the bound, and errors of methods, as parts of the volume."""
    rows = []
    for name, label in {"void volume": "void", "volume of FeO": "FeO", "volume of Fe3O4": "Fe3O4"}.items():
        known = row["bounds"][name]
        value = known["value"]
        line = {"volume of": label, "voxels": f"{value:,.0f}", "bound": f"{100 * known['bound'] / value:.2g} %"}
        for method in methods:
            bias, scatter = (100 * row[method][name][what] / value for what in ("bias", "scatter"))
            line[method] = f"{bias:+z.2f} ± {scatter:.2f} %" if scatter < 1 else f"{bias:+z.1f} ± {scatter:.1f} %"
        rows.append(line)
    return rows
