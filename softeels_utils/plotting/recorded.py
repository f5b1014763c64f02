"""Figures of the long studies, from the rows and pictures of their records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from .style import COLORS

__all__ = ["change_figure", "curve_figure", "phase_image", "picture_figure", "time_figure"]

# Methods are told apart by line and marker, as phases are by colour.
STYLES = {
    "SIRT": {"color": "0.6", "marker": "s", "ls": ":"},
    "TV": {"color": "0.45", "marker": "v", "ls": "-."},
    "joint TV": {"color": "0.25", "marker": "^", "ls": "--"},
    "DIP": {"color": "#AA4499", "marker": "D", "ls": ":"},
    "DIPm-TV": {"color": "#117733", "marker": "o", "ls": "-"},
}


def _medians(rows, x, y):
    """Sorted values of x, and median, least and greatest of y at each."""
    found = {}
    for row in rows:
        if row.get(y) is not None:
            found.setdefault(row[x], []).append(row[y])
    at = sorted(found)
    return at, np.array([(np.median(found[v]), min(found[v]), max(found[v])) for v in at]).reshape(-1, 3).T


def curve_figure(
    panels: Mapping[str, Sequence[Mapping[str, Any]]],
    x: str,
    *,
    y: str = "nrmse",
    by: str = "method",
    xlabel: str = "",
    ylabel: str = "NRMSE",
    styles: Mapping[str, Mapping[str, Any]] | None = None,
) -> Figure:
    """Return medians of a measure over a parameter, a line for each method; bars reach from the least to the greatest.

    Parameters
    ----------
    panels : dict of str to list of dict
        Rows of a record, a panel for each title.
    x, y, by : str
        Columns: along the axis, the measure, and what the lines are.
    styles : dict, optional
        Of the lines, by the value of ``by``; default: those of the methods.
    """
    styles = styles or STYLES
    figure, axes = plt.subplots(1, len(panels), figsize=(7.2, 3.2), sharey=True, squeeze=False)
    for ax, (title, rows) in zip(axes[0], panels.items(), strict=True):
        names = [name for name in styles if any(row[by] == name for row in rows)]
        for k, name in enumerate(names):
            at, (middle, low, high) = _medians([row for row in rows if row[by] == name], x, y)
            shifted = np.array(at, float) * 1.02 ** (k - len(names) / 2)  # so that bars stand side by side
            reach = [middle - low, high - middle]
            ax.errorbar(shifted, middle, np.maximum(reach, 0), label=name, ms=5, lw=1.3, elinewidth=0.8, **styles[name])
        ax.set_xscale("log")
        ticks = sorted({row[x] for row in rows})
        ax.set_xticks(ticks, [f"{value:g}" for value in ticks])
        ax.minorticks_off()
        ax.set(title=title, xlabel=xlabel or x, ylim=(0, None))
    axes[0, 0].set_ylabel(ylabel)
    axes[0, -1].legend(fontsize=9)
    return figure


def phase_image(fractions: ArrayLike, phases: Sequence[str] = ("FeO", "Fe3O4")) -> NDArray:
    """Return volume fractions (P, rows, columns) as a picture (rows, columns, 3), each phase in its colour."""
    fractions = np.clip(np.asarray(fractions, float), 0, 1)
    ink = np.array([1 - np.array(to_rgb(COLORS[phase])) for phase in phases])
    return np.clip(1 - np.tensordot(fractions, ink, axes=(0, 0)), 0, 1)


def picture_figure(pictures: Mapping[str, Mapping[str, ArrayLike | None]]) -> Figure:
    """Return slices ``{row: {column: fractions (2, Z, X) or None}}`` as a table of `phase_image` pictures."""
    rows, columns = list(pictures), list(next(iter(pictures.values())))
    size = 7.2 / (len(columns) + 0.6)
    figure, axes = plt.subplots(len(rows), len(columns), figsize=(7.2, size * len(rows) + 0.3), squeeze=False)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    for r, row in enumerate(rows):
        axes[r, 0].set_ylabel(row)
        for c, column in enumerate(columns):
            if r == 0:
                axes[r, c].set_title(column)
            if pictures[row].get(column) is not None:
                axes[r, c].imshow(phase_image(pictures[row][column]))
    return figure


def change_figure(rows: Sequence[Mapping[str, Any]], *, reference: str = "as it is", y: str = "nrmse") -> Figure:
    """Return what each change does to the error: a point for each specimen, over that of the method as it is."""
    base = {(row["specimen"], row["seed"]): row[y] for row in rows if row["change"] == reference}
    ratios = {}
    for row in rows:
        key = row["specimen"], row["seed"]
        if row["change"] != reference and key in base:
            ratios.setdefault(row["change"], []).append(row[y] / base[key])
    names = sorted(ratios, key=lambda name: np.median(ratios[name]), reverse=True)
    figure, ax = plt.subplots(figsize=(7.2, 0.28 * len(names) + 0.9))
    for k, name in enumerate(names):
        ax.plot(ratios[name], [k] * len(ratios[name]), "o", color=STYLES["DIPm-TV"]["color"], ms=5, alpha=0.7)
        ax.plot(np.median(ratios[name]), k, "|", color="k", ms=14)
    ax.axvline(1, color="0.6", lw=1)
    ax.set_yticks(range(len(names)), names)
    ax.set(xscale="log", xlabel="error over that of DIPm-TV as it is")
    ticks = [t for t in (0.5, 0.7, 1, 1.5, 2, 3, 5, 7) if t <= 1.1 * max(map(max, ratios.values()), default=1)]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()
    return figure


def time_figure(rows: Sequence[Mapping[str, Any]], *, y: str = "nrmse", ylabel: str = "NRMSE") -> Figure:
    """Return time against error: a point for each cell, a ring at each method's median."""
    figure, ax = plt.subplots(figsize=(7.2, 3.2))
    for name, style in STYLES.items():
        found = np.array([(row["seconds"], row[y]) for row in rows if row["method"] == name]).reshape(-1, 2)
        if len(found):
            dot = {key: style[key] for key in ("color", "marker")}
            ax.plot(*found.T, ls="", ms=3, alpha=0.35, **dot)
            ax.plot(*np.median(found, axis=0), ls="", ms=10, mfc="none", mew=2, label=name, **dot)
    ax.set(xscale="log", xlabel="processor time (s), one core", ylabel=ylabel, ylim=(0, None))
    ax.legend(fontsize=9)
    return figure
