"""Figures of the long studies, from the rows and pictures of their records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from .sparse import METHODS, phase_image
from .style import COLORS

__all__ = [
    "change_figure",
    "curve_figure",
    "growth_rows",
    "nanocube_figures",
    "nanocube_rows",
    "picture_figure",
    "study_figures",
    "study_words",
    "time_figure",
]


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
    styles = styles or METHODS
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
        ax.set(title=title, xlabel=xlabel or x)
    axes[0, 0].set(ylabel=ylabel, ylim=(0, None))  # after all panels, which share it
    axes[0, -1].legend(fontsize=9)
    return figure


def picture_figure(pictures: Mapping[str, Mapping[str, ArrayLike | None]]) -> Figure:
    """Return slices ``{row: {column: fractions (2, Z, X) or None}}`` as a table of pictures in the phases' colours."""
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
                axes[r, c].imshow(phase_image(pictures[row][column], [COLORS[phase] for phase in ("FeO", "Fe3O4")]))
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
        ax.plot(ratios[name], [k] * len(ratios[name]), "o", color=METHODS["DIPm-TV"]["color"], ms=5, alpha=0.7)
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
    for name, style in METHODS.items():
        found = np.array([(row["seconds"], row[y]) for row in rows if row["method"] == name]).reshape(-1, 2)
        if len(found):
            dot = {key: style[key] for key in ("color", "marker")}
            ax.plot(*found.T, ls="", ms=3, alpha=0.35, **dot)
            ax.plot(*np.median(found, axis=0), ls="", ms=10, mfc="none", mew=2, label=name, **dot)
    ax.set(xscale="log", xlabel="processor time (s), one core", ylabel=ylabel, ylim=(0, None))
    ax.legend(fontsize=9)
    return figure


def study_figures(
    rows: Sequence[Mapping[str, Any]], picture: Callable[[Mapping[str, Any]], ArrayLike | None]
) -> dict[str, tuple[Figure, str, str]]:
    """Return the figures of the record ``sparse_views`` as ``{name: (figure, caption, alternative text)}``.

    Parameters
    ----------
    rows : list of dict
        Rows of the record; without any there is no figure.
    picture : callable
        Gives the slice (2, Z, X) of a row, in fractions; None where none was kept.
    """
    wide = [row for row in rows if row["max_tilt"] == 70]
    soft = [row for row in wide if row["edge"] == "M2,3"]
    found = {}
    over_views = {f"{f:,} e/Å² per tilt": [row for row in soft if row["fluence"] == f] for f in (4000, 16000)}
    if all(over_views.values()):
        found["views"] = (
            curve_figure(over_views, "views", xlabel="tilts over ±70°"),
            f"Error over the number of tilts, {len(rows)} recorded cells: medians over the specimens; bars reach from "
            "the best to the worst.",
            "Error over the number of tilts for each method, at two fluences.",
        )
    nine = [row for row in wide if row["views"] == 9]
    edges = {
        name: [row for row in nine if row["edge"] == edge]
        for name, edge in (("Fe-M$_{2,3}$", "M2,3"), ("Fe-L$_{2,3}$, same electrons", "L2,3"))
    }
    edges = {name: kept for name, kept in edges.items() if kept}
    if edges:
        found["fluence"] = (
            curve_figure(edges, "fluence", xlabel="fluence per tilt (e/Å²)"),
            "Error over the fluence, nine tilts, with the noise of a fit of either edge.",
            "Error over the fluence for each method and edge.",
        )
    shown = _pictures_over_views([row for row in soft if row["fluence"] == 4000], picture)
    if shown:
        found["pictures"] = (
            picture_figure(shown),
            "The middle slice of the phantom over the number of tilts, 4,000 e/Å² each: FeO blue, Fe<sub>3</sub>O<sub>4"
            "</sub> orange, vacuum white. The beam at 0° runs down.",
            "Slices of the phantom for each method and number of tilts.",
        )
    if len({row["method"] for row in soft}) > 1:
        middle = [row for row in soft if row["views"] == 9 and row["fluence"] == 4000]
        found["time"] = (
            time_figure(middle),
            "Time against error, nine tilts, 4,000 e/Å² each. Points: specimens; rings: medians.",
            "Processor time and error of each method.",
        )
    return found


def _pictures_over_views(rows, picture):
    """``{method: {tilts: slice or None}}`` of the rows that have pictures, methods in their order."""
    found = {(row["method"], row["views"]): kept for row in rows if (kept := picture(row)) is not None}
    views = sorted({count for _, count in found})
    methods = [method for method in METHODS if any(method == name for name, _ in found)]
    return {method: {f"{count} tilts": found.get((method, count)) for count in views} for method in methods}


def study_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return when the record was made and how large it is, in words."""
    if not rows:
        return "This copy of the book has no record of the study."
    dates = sorted(row["date"] for row in rows)
    when = f"on {dates[0]}" if dates[0] == dates[-1] else f"from {dates[0]} to {dates[-1]}"
    draws = {(row["specimen"], row["seed"]) for row in rows}
    return f"Recorded {when}: {len(rows)} cells; specimens and draws of their noise: {len(draws)}."


def growth_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return what fails first as tilts go down: errors at nine and at five tilts over those at 29, of each method.

    Of the rows with M2,3 over ±70° at 4,000 e/Å² per tilt; medians over the specimens. Methods without all three
    numbers of tilts are left out.
    """
    soft = [row for row in rows if row["max_tilt"] == 70 and row["edge"] == "M2,3" and row["fluence"] == 4000]
    table = []
    for method in METHODS:
        mine, line = [row for row in soft if row["method"] == method], {"method": method}
        for key, name in {"nrmse": "NRMSE", "core_nm": "core's edge", "surface_nm": "surface"}.items():
            views, (middle, _, _) = _medians(mine, "views", key)
            at = dict(zip(views, middle, strict=True))
            if {5, 9, 29} <= set(at):
                line[f"{name}, 29 tilts"] = f"{at[29]:.3f}" if key == "nrmse" else f"{at[29]:.2f} nm"
                line[f"{name} at 9 and 5"] = f"× {at[9] / at[29]:.2f}, × {at[5] / at[29]:.2f}"
        if len(line) > 1:
            table.append(line)
    return table


# ---------------------------------------------------------------- the nanocube

SCORES = ("nrmse", "core_nm", "surface_nm", "skin_nm", "true_skin_nm", "void_nm3", "true_void_nm3")
SCORES += tuple(f"resolution_{axis}_nm" for axis in "xyz")


def nanocube_figures(
    rows: Sequence[Mapping[str, Any]],
    picture: Callable[[Mapping[str, Any]], ArrayLike | None],
    truth: Callable[[int], ArrayLike],
) -> dict[str, tuple[Figure, str, str]]:
    """Return the figures of the record ``nanocube`` as ``{name: (figure, caption, alternative text)}``.

    Parameters
    ----------
    rows : list of dict
        Rows of the record; without any there is no figure.
    picture : callable
        Gives the cuts (2, 2, n, n) of a row (`records.cuts_through_void`), in fractions; None where none was kept.
    truth : callable
        Gives those of the true volume on n voxels per side.
    """
    found, soft = {}, _finest(rows)
    kept = {row["method"]: cuts for row in soft if (cuts := picture(row)) is not None}
    if kept:
        kept["truth"] = np.asarray(truth(soft[0]["n"]))
        across = {}
        for k, plane in enumerate(("Y-X", "Z-X")):
            solid = np.argwhere(kept["truth"][k].sum(axis=0) > 0.5)
            near = (slice(max(0, low - 5), high + 6) for low, high in zip(solid.min(0), solid.max(0), strict=True))
            near = (slice(None), *near)
            across[plane] = {name: cuts[k][near] for name, cuts in kept.items()}
        found["scale"] = (
            picture_figure(across),
            f"The nanocube on {soft[0]['n']}³ voxels of {64 / soft[0]['n']:.2f} nm, from {soft[0]['fluence']:,} e/Å² "
            "in each of nine tilts, cut through the void: FeO blue, Fe<sub>3</sub>O<sub>4</sub> orange, vacuum white. "
            "Top: across the beam, tilt axis down. Bottom: across the tilt axis, the beam at 0° down.",
            "Two cuts through the void of the nanocube, for each method and in truth.",
        )
    coarse = [row for row in rows if row["n"] < (soft[0]["n"] if soft else 0)]
    edges = {
        "Fe-M$_{2,3}$, counted and fitted": [row for row in coarse if row["edge"] == "M2,3"],
        "Fe-L$_{2,3}$, drawn": [row for row in coarse if row["edge"] == "L2,3"],
    }
    if all(len({row["fluence"] for row in kept}) > 1 for kept in edges.values()):
        found["dose"] = (
            curve_figure(edges, "fluence", xlabel="fluence per tilt (e/Å²)"),
            f"Error over the fluence, on {coarse[0]['n']}³ voxels. Maps from M<sub>2,3</sub> hold the error of their "
            "own references; those from L<sub>2,3</sub> have noise alone, as if its references were exact.",
            "Error over the fluence for each method, from M2,3 and from L2,3.",
        )
    return found


def nanocube_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return what each method makes of the nanocube on the finest grid: medians over the seeds, lengths in nm."""
    table, soft = [], _finest(rows)
    for method in METHODS:
        mine = [row for row in soft if row["method"] == method]
        if not mine:
            continue
        middle = {key: np.median([row[key] for row in mine if row[key] is not None] or [np.nan]) for key in SCORES}
        void, true = middle["void_nm3"], middle["true_void_nm3"]
        table.append({
            "method": method, "NRMSE": f"{middle['nrmse']:.3f}", "core's edge (nm)": f"{middle['core_nm']:.2f}",
            "surface (nm)": f"{middle['surface_nm']:.2f}",
            "skin (nm)": f"{middle['skin_nm']:.2f} of {middle['true_skin_nm']:.2f}",
            "void (nm³)": f"{void:.0f} of {true:.0f}",
            "resolution X, Y, Z (nm)": ", ".join(f"{middle[f'resolution_{axis}_nm']:.1f}" for axis in "xyz"),
            "seeds": f"{len(mine)}",
        })  # fmt: skip
    return table


def _finest(rows):
    """Rows of M2,3 on the finest grid, at the fluence that most of them have."""
    soft = [row for row in rows if row["edge"] == "M2,3" and row["n"] == max(one["n"] for one in rows)]
    fluences = [row["fluence"] for row in soft]
    return [row for row in soft if row["fluence"] == max(fluences, key=fluences.count)]
