"""Figures of the long studies, from the rows and pictures of their records."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from .sparse import METHODS, phase_image
from .style import COLORS, WIDTH

__all__ = [
    "amount_rows",
    "change_figure",
    "curve_figure",
    "grid_figure",
    "growth_rows",
    "half_rows",
    "interval_rows",
    "nanocube_figures",
    "nanocube_rows",
    "picture_figure",
    "range_rows",
    "reference_rows",
    "rule_rows",
    "specimen_rows",
    "spread",
    "study_figures",
    "study_words",
    "time_figure",
    "void_rows",
]


BRACKETS = " In brackets: specimens and draws of the noise, where a method has fewer of them than another."


def spread(values: ArrayLike, digits: int = 2) -> str:
    """Return the median and the extremes, in words."""
    return f"{np.median(values):.{digits}f} ({np.min(values):.{digits}f} to {np.max(values):.{digits}f})"


def _medians(rows, x, y):
    """Sorted values of x, and median, least and greatest of y at each."""
    found = {}
    for row in rows:
        if row.get(y) is not None:
            found.setdefault(row[x], []).append(row[y])
    at = sorted(found)
    return at, np.array([(np.median(found[v]), min(found[v]), max(found[v])) for v in at]).reshape(-1, 3).T


def _specimen(row):
    """What a row is of, draw of the noise included."""
    return row.get("specimen"), row.get("seed")


def _shared(rows, x, y):
    """Rows of the same specimens at every x, so that a curve compares like with like: as many rows as can be had."""
    rows, at = [row for row in rows if row.get(y) is not None], {}
    for row in rows:
        at.setdefault(_specimen(row), set()).add(row[x])
    wanted = max(at.values(), key=lambda some: len(some) * sum(some <= other for other in at.values()), default=set())
    return [row for row in rows if row[x] in wanted and wanted <= at[_specimen(row)]]


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

    All points of a line are of the same specimens. Lines of fewer specimens than another have their number in the
    legend.

    Parameters
    ----------
    panels : dict of str to list of dict
        Rows of a record, a panel for each title.
    x, y, by : str
        Columns: along the axis, the measure, and what the lines are.
    styles : dict, optional
        Of the lines, by the value of ``by``; default: those of the methods.
    """
    styles, lines = styles or METHODS, {}
    fewer = {}
    for rows in panels.values():
        fewer |= _fewer(rows, x, y, by, styles)
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.4), sharey=True, squeeze=False)
    for ax, (title, rows) in zip(axes[0], panels.items(), strict=True):
        names = [name for name in styles if any(row[by] == name for row in rows)]
        for k, name in enumerate(names):
            at, (middle, low, high) = _medians(_shared([row for row in rows if row[by] == name], x, y), x, y)
            shifted = np.array(at, float) * 1.02 ** (k - len(names) / 2)  # so that bars stand side by side
            reach = [middle - low, high - middle]
            label = f"{name} ({fewer[name]})" if name in fewer else name
            look = {"ms": 5, "lw": 1.3, "elinewidth": 0.8} | dict(styles[name])
            lines[name] = ax.errorbar(shifted, middle, np.maximum(reach, 0), label=label, **look)
        ax.set_xscale("log")
        ticks = sorted({row[x] for row in rows})
        ax.set_xticks(ticks, [f"{value:,}" for value in ticks])
        ax.minorticks_off()
        ax.set(title=title, xlabel=xlabel or x)
    axes[0, 0].set(ylabel=ylabel, ylim=(0, None))  # after all panels, which share it
    # Room between the last tick's label of a panel and the first of the next.
    figure.set_layout_engine("constrained", wspace=0.08)
    shown = [lines[name] for name in styles if name in lines]  # a panel may lack some
    figure.legend(handles=shown, loc="outside lower center", ncols=len(shown))
    return figure


def _fewer(rows, x, y, by, names):
    """``{name: specimens}`` of the lines of a panel that have fewer specimens than another."""
    lines = {name: _shared([row for row in rows if row[by] == name], x, y) for name in names}
    counts = {name: len({_specimen(row) for row in line}) for name, line in lines.items() if line}
    return {name: count for name, count in counts.items() if count < max(counts.values())}


def _with_brackets(figure, caption):
    """A caption that explains the numbers in the legend, where there are any."""
    names = (text.get_text() for text in figure.legends[0].get_texts())
    return caption + BRACKETS if any("(" in name for name in names) else caption


def picture_figure(pictures: Mapping[str, Mapping[str, ArrayLike | None]]) -> Figure:
    """Return slices ``{row: {column: fractions (2, Z, X) or None}}`` as a table of pictures in the phases' colours."""
    rows, columns = list(pictures), list(next(iter(pictures.values())))
    size = WIDTH / (len(columns) + 0.6)
    figure, axes = plt.subplots(len(rows), len(columns), figsize=(WIDTH, size * len(rows) + 0.3), squeeze=False)
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
    figure, ax = plt.subplots(figsize=(WIDTH, 0.28 * len(names) + 0.9))
    for k, name in enumerate(names):
        ax.plot(ratios[name], [k] * len(ratios[name]), "o", color=METHODS["DIPm-TV"]["color"], ms=5, alpha=0.7)
        ax.plot(np.median(ratios[name]), k, "|", color="k", ms=14)
    ax.axvline(1, color="0.6", lw=1)
    ax.set_yticks(range(len(names)), [name.replace(" x ", " × ").replace("first", "initial") for name in names])
    ax.set(xscale="log", xlabel="error over that of DIPm-TV as it is")
    ticks = [t for t in (0.5, 0.7, 1, 1.5, 2, 3, 5, 7) if t <= 1.1 * max(map(max, ratios.values()), default=1)]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()
    return figure


def time_figure(rows: Sequence[Mapping[str, Any]], *, y: str = "nrmse", ylabel: str = "NRMSE") -> Figure:
    """Return time against error: a point for each cell that has a time, a ring at each method's median."""
    figure, ax = plt.subplots(figsize=(WIDTH, 3.2))
    for name, style in METHODS.items():
        timed = [row for row in rows if row["method"] == name and row.get("seconds")]
        found = np.array([(row["seconds"], row[y]) for row in timed]).reshape(-1, 2)
        if len(found):
            dot = {key: style[key] for key in ("color", "marker")}
            ax.plot(*found.T, ls="", ms=3, alpha=0.35, **dot)
            ax.plot(*np.median(found, axis=0), ls="", ms=10, mfc="none", mew=2, label=name, **dot)
    ax.set(xscale="log", xlabel="processor time (s), one core", ylabel=ylabel, ylim=(0, None))
    ax.legend()
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
        drawn = [
            _shared([r for r in panel if r["method"] == m], "views", "nrmse")
            for panel in over_views.values()
            for m in METHODS
        ]
        figure = curve_figure(over_views, "views", xlabel="tilts over ±70°")
        caption = (
            f"Error over the number of tilts, {sum(map(len, drawn)):,} recorded cells: medians over the specimens, the "
            "same at every point of a line; bars reach from the best to the worst."
        )
        found["views"] = (
            figure,
            _with_brackets(figure, caption),
            "Error over the number of tilts for each method, at two fluences.",
        )
    nine = [row for row in wide if row["views"] == 9]
    edges = {
        name: [row for row in nine if row["edge"] == edge]
        for name, edge in (("Fe-M2,3", "M2,3"), ("Fe-L2,3, same electrons", "L2,3"))
    }
    edges = {name: kept for name, kept in edges.items() if kept}
    if edges:
        figure = curve_figure(edges, "fluence", xlabel="fluence per tilt (e/Å²)")
        found["fluence"] = (
            figure,
            _with_brackets(figure, "Error over the fluence, nine tilts, with the noise of a fit of either edge."),
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
    middle = [row for row in soft if row["views"] == 9 and row["fluence"] == 4000]
    if len({row["method"] for row in middle if row.get("seconds")}) > 1:
        found["time"] = (
            time_figure(middle),
            "Time against error, nine tilts, 4,000 e/Å² each. Small: specimens; large: medians.",
            "Processor time and error of each method.",
        )
    return found


def grid_figure(rows: Sequence[Mapping[str, Any]], *, field_nm: float = 64.0) -> Figure:
    """Return the error over the number of tilts, a panel for each grid, for what all grids have.

    Parameters
    ----------
    rows : list of dict
        Rows of the records ``sparse_views`` and ``fine_grid`` together; M2,3 over ±70° at 4,000 e/Å² are taken, of
        which there must be some.
    field_nm : float
        Side of the field of view.
    """
    same = {"max_tilt": 70, "edge": "M2,3", "fluence": 4000}
    rows = [row for row in rows if all(row[key] == value for key, value in same.items())]
    grids = sorted({row["n"] for row in rows})

    def kind(row):
        return row["specimen"], row["seed"], row["views"], row["method"]

    common = set.intersection(*({kind(row) for row in rows if row["n"] == n} for n in grids))
    panels = {
        f"{n}³ voxels of {field_nm / n:g} nm": [row for row in rows if row["n"] == n and kind(row) in common]
        for n in grids
    }
    return curve_figure(panels, "views", xlabel="tilts over ±70°")


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
    return f"Recorded {when}: {len(rows):,} cells; specimens and draws of their noise: {len(draws)}."


def growth_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return what fails first as the number of tilts falls: errors at nine and at five tilts over those at 29.

    Of the rows with M2,3 over ±70° at 4,000 e/Å² per tilt; medians over the specimens that have all three numbers of
    tilts. The core's edge is that of the specimens that have one (`records.read`).
    """
    soft = [row for row in rows if row["max_tilt"] == 70 and row["edge"] == "M2,3" and row["fluence"] == 4000]
    table = []
    for method in METHODS:
        mine, line, counts = [row for row in soft if row["method"] == method], {"method": method}, {}
        for key, name in {"nrmse": "NRMSE", "core_nm": "core's edge", "surface_nm": "surface"}.items():
            same = _at_all(mine, key, (5, 9, 29))
            if same:
                views, (middle, _, _) = _medians(same, "views", key)
                at, counts[key] = dict(zip(views, middle, strict=True)), len({_specimen(row) for row in same})
                line[f"{name}, 29 tilts"] = f"{at[29]:.3f}" if key == "nrmse" else f"{at[29]:.2f} nm"
                line[f"{name} at 9 and 5"] = f"× {at[9] / at[29]:.2f}, × {at[5] / at[29]:.2f}"
        if counts:
            table.append(line | {"series (with a core)": f"{max(counts.values())} ({counts.get('core_nm', 0)})"})
    return table


def _at_all(rows, y, views):
    """Rows at these numbers of tilts, of the specimens that have y at all of them."""
    rows, at = [row for row in rows if row["views"] in views and row.get(y) is not None], {}
    for row in rows:
        at.setdefault(_specimen(row), set()).add(row["views"])
    return [row for row in rows if at[_specimen(row)] == set(views)]


def specimen_rows(rows: Sequence[Mapping[str, Any]], body: Callable[[str | int], str]) -> list[dict[str, str]]:
    """Return the error of each method, specimen by specimen: nine tilts over ±70°, M2,3 at 4,000 e/Å² per tilt.

    Parameters
    ----------
    rows : list of dict
        Rows of the record ``sparse_views``; medians over draws of the noise.
    body : callable
        Says what a specimen is, such as `records.body`.
    """
    middle = {"max_tilt": 70, "edge": "M2,3", "fluence": 4000, "views": 9}
    rows = [row for row in rows if all(row[key] == value for key, value in middle.items())]
    table = []
    for specimen in sorted({row["specimen"] for row in rows}, key=lambda one: (not isinstance(one, str), one)):
        mine = [row for row in rows if row["specimen"] == specimen]
        line = {"specimen": body(specimen) if isinstance(specimen, str) else f"{specimen}: {body(specimen)}"}
        for method in METHODS:
            errors = [row["nrmse"] for row in mine if row["method"] == method]
            line[method] = f"{np.median(errors):.3f}" if errors else "–"
        table.append(line)
    return table


CONVERGED = ("TV", "joint TV")  # they have no iteration to stop at


def rule_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return what each method's own rule costs: its error, and those of the truth's choice and of no rule over it.

    Parameters
    ----------
    rows : list of dict
        Rows of the record ``rules``; medians over specimens and draws of the noise, with the extremes of the ratios.
    """
    table = []
    for method in METHODS:
        for fluence in sorted({row["fluence"] for row in rows}):
            mine = [row for row in rows if row["method"] == method and row["fluence"] == fluence]
            if mine:
                own = np.array([row["nrmse"] for row in mine])
                line = {"method": method, "e/Å² per tilt": f"{fluence:,}", "own rule": f"{np.median(own):.3f}"}
                for name, key in {"truth's choice": "oracle", "no rule": "end"}.items():
                    ratio = np.array([row[key] for row in mine]) / own
                    line[name] = f"× {spread(ratio)}"
                if method in CONVERGED:
                    line["no rule"] = "converged"
                table.append(line | {"cases": f"{len(mine)}"})
    return table


def range_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return what a smaller range of tilt costs: the error over that at ±70°, of the same specimens and electrons.

    Parameters
    ----------
    rows : list of dict
        Rows of the record ``sparse_views``; medians over specimens and fluences.
    """
    key = ("specimen", "seed", "views", "fluence", "method")
    soft = [row for row in rows if row["edge"] == "M2,3"]
    wide = {tuple(row[k] for k in key): row["nrmse"] for row in soft if row["max_tilt"] == 70}
    table = []
    for method in METHODS:
        for views in (9, 29):
            line, counts = {"method": method, "tilts": f"{views}"}, []
            for angle in (60, 50):
                mine = [row for row in soft if (row["method"], row["views"], row["max_tilt"]) == (method, views, angle)]
                pairs = [(row["nrmse"], wide.get(tuple(row[k] for k in key))) for row in mine]
                ratios = [one / other for one, other in pairs if other]
                if ratios:
                    line[f"±{angle}°"] = f"× {spread(ratios)}"
                    counts.append(f"{len(ratios)}")
            if counts:
                table.append(line | {"cells": ", ".join(counts)})
    return table


# ---------------------------------------------------------------- the nanocube

PAPER_VOXELS = 112  # per side
PAPER = "paper"  # the formulation of arXiv:2606.10893, where tables name it
SCORES = (
    "nrmse", "core_nm", "surface_nm", "corner_nm", "skin_nm", "true_skin_nm", "skin_rms_nm", "void_nm3", "true_void_nm3"
)  # fmt: skip
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
    found, soft = {}, _at_paper_scale(rows)
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
    for n in sorted({row["n"] for row in rows}, reverse=True):
        edges = {
            "Fe-M2,3, counted and fitted": [row for row in rows if (row["n"], row["edge"]) == (n, "M2,3")],
            "Fe-L2,3, drawn": [row for row in rows if (row["n"], row["edge"]) == (n, "L2,3")],
        }
        if any(len({row["fluence"] for row in kept}) < 2 for kept in edges.values()):
            continue
        figure = curve_figure(edges, "fluence", xlabel="fluence per tilt (e/Å²)")
        caption = (
            f"Error over the fluence, on {n}³ voxels. Maps from M<sub>2,3</sub> hold the error of their "
            "own references; those from L<sub>2,3</sub> have noise alone, as if its references were exact."
        )
        found["dose"] = (
            figure,
            _with_brackets(figure, caption),
            "Error over the fluence for each method, from M2,3 and from L2,3.",
        )
        break
    return found


def nanocube_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return what each method makes of the nanocube at the paper's scale or finer: medians over the seeds.

    And on the grids on which the paper's own formulation was run.
    """
    table, soft = [], _at_paper_scale(rows)
    same = [row for row in rows if soft and row["edge"] == "M2,3" and row["fluence"] == soft[0]["fluence"]]
    kinds = sorted({row["n"] for row in same if row["n"] >= soft[0]["n"] or row["method"] == PAPER})
    for n, method in itertools.product(kinds, (*METHODS, PAPER)):
        mine = [row for row in same if row["method"] == method and row["n"] == n]
        if not mine:
            continue
        middle = {key: np.median([row[key] for row in mine if row[key] is not None] or [np.nan]) for key in SCORES}
        void, true = middle["void_nm3"], middle["true_void_nm3"]
        table.append({
            "method": method, "voxels": f"{n}³", "NRMSE": f"{middle['nrmse']:.3f}",
            "core's edge (nm)": f"{middle['core_nm']:.2f}", "surface (nm)": f"{middle['surface_nm']:.2f}",
            "corners (nm)": f"{middle['corner_nm']:.2f}",
            "skin (nm)": f"{middle['skin_nm']:.2f} of\N{NO-BREAK SPACE}{middle['true_skin_nm']:.2f}",
            "skin, local error (nm)": f"{middle['skin_rms_nm']:.2f}",
            "void (nm³)": f"{void:.0f} of {true:.0f}",
            "resolution X, Y, Z (nm)": ", ".join(f"{middle[f'resolution_{axis}_nm']:.1f}" for axis in "xyz"),
            "seeds": f"{len(mine)}",
        })  # fmt: skip
    return table


def void_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return what the data say of the void, and what is shown of it, over the fluence: medians over the seeds.

    Parameters
    ----------
    rows : list of dict
        Rows of the record ``nanocube``. The test is `dip.feature_test` at the place that the truth has the void, given
        what DIPm-TV shows about it.
    """
    table = []
    for n in sorted({row["n"] for row in rows}):
        for edge in ("M2,3", "L2,3"):
            for fluence in sorted({row["fluence"] for row in rows}):
                mine = [row for row in rows if (row["n"], row["edge"], row["fluence"]) == (n, edge, fluence)]
                tested = [row for row in mine if row.get("void_p") is not None]
                if not tested:
                    continue
                effect, error = (
                    np.median([row[key] for row in tested]) for key in ("void_effect", "void_effect_error")
                )
                line = {"edge": edge, "voxels": f"{n}³", "e/Å² per tilt": f"{fluence:,}"}
                line["emptiness that the data require"] = f"{effect:.2f} ± {error:.2f}"
                line["largest p-value"] = _small(max(row["void_p"] for row in tested))
                for method in ("DIPm-TV", "joint TV"):
                    shown = [row["void_nm3"] / row["true_void_nm3"] for row in mine if row["method"] == method]
                    line[f"{method} shows"] = f"{np.median(shown):.2f}" if shown else ""
                table.append(line | {"seeds": f"{len(tested)}"})
    return table


def _small(value):
    """A number with one digit, a small one as a power of ten."""
    digit, power = f"{value:.0e}".split("e")
    return f"{digit} × 10<sup>−{-int(power)}</sup>" if value < 1e-3 else f"{value:.1g}"


REGIONS = {  # of a drawn specimen
    "skin": "skin", "void_rim": "about voids", "core_edge": "core's edge", "corners": "corners", "surface": "surface",
    "wedge": "faces that no tilt shows", "bulk": "inside",
}  # fmt: skip
NOISES = {"independent": "independent noise", "fit": "noise of a fit"}
PHASES = {"feo": "FeO", "fe3o4": "Fe3O4"}


def interval_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return what fraction of each region's voxels has the truth in its 90 % interval: means, and the worst specimen.

    Parameters
    ----------
    rows : list of dict
        Rows of the record ``intervals``.
    """
    halves = {"on which the width was chosen": "tune", "with which nothing was chosen": "report"}
    table = [{"region": words} for words in REGIONS.values()]
    for title, half in halves.items():
        mine = [row for row in rows if row["half"] == half]
        title += f" ({' and '.join(words for noise, words in NOISES.items() if noise in {r['noise'] for r in mine})})"
        for line, region in zip(table, REGIONS, strict=True):
            found = [row[region] for row in mine if row[region] is not None]
            if found:
                line[f"specimens {title}"] = f"{np.mean(found):.0%} ({min(found):.0%}; {len(found)} series)"
    return table if rows else []


def amount_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return how the amount of each phase compares with its stated error, over the fluence.

    Parameters
    ----------
    rows : list of dict
        Rows of the record ``chain``. A phase that a specimen does not hold has no relative error, and is left out.
    """
    table = []
    for fluence in sorted({row["fluence"] for row in rows}):
        mine = [row for row in rows if row["fluence"] == fluence]
        line = {"e/Å² per tilt": f"{fluence:,}", "specimens": f"{len(mine)}"}
        line["NRMSE"] = f"{np.median([row['nrmse'] for row in mine]):.3f}"
        line["over that of drawn maps"] = spread([row["nrmse"] / row["drawn_nrmse"] for row in mine])
        moved = [row for row in mine if row.get("drawn_with_references_nrmse")]
        if moved:
            ratios = [row["nrmse"] / row["drawn_with_references_nrmse"] for row in moved]
            line["the same, references off as stated"] = spread(ratios)
        for key, phase in PHASES.items():
            there = [row for row in mine if row[f"{key}_error"] is not None]
            off = np.abs([row[f"{key}_off"] for row in there])
            line[f"{phase}: stated error"] = f"{np.median([row[f'{key}_error'] for row in there]):.0%}"
            line[f"{phase}: within 1, 2, 3 of it"] = ", ".join(f"{np.mean(off < k):.0%}" for k in (1, 2, 3))
        line["warned"] = f"{np.mean([row['warnings'] > 0 for row in mine]):.0%}"
        table.append(line)
    return table


def reference_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return how much of each phase the maps from counts show, over the truth, and what error is stated.

    Parameters
    ----------
    rows : list of dict
        Rows of the record ``references``.
    """
    table = []
    for n in sorted({row["n"] for row in rows}):
        for fluence in sorted({row["fluence"] for row in rows if row["n"] == n}):
            mine = [row for row in rows if (row["n"], row["fluence"]) == (n, fluence)]
            line = {"pixels": f"{n}²", "e/Å² per tilt": f"{fluence:,}"}
            for key, phase in PHASES.items():
                line[f"{phase} found"] = spread([row[f"{key}_found"] for row in mine])
                line[f"{phase}: stated error"] = f"{np.median([row[f'{key}_error'] for row in mine]):.0%}"
            table.append(line | {"draws": f"{len(mine)}"})
    return table


def half_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return where the volumes of two half doses agree, and where one of them agrees with the truth.

    Parameters
    ----------
    rows : list of dict
        Rows of the record ``halves``.
    """
    return [
        {
            "method": row["method"], "voxels": f"{row['n']}³", "e/Å² per tilt": f"2 × {row['fluence'] // 2:,}",
            "halves agree to (nm)": _length(row["resolution_nm"]),
            "along X, Y, Z": ", ".join(_length(row[f"resolution_{axis}_nm"]) for axis in "xyz"),
            "one half and the truth agree to (nm)": _length(row["to_truth_nm"]),
            "difference of the halves": f"{row['between']:.3f}", "error of a half": f"{row['nrmse']:.3f}",
        }
        for row in rows
    ]  # fmt: skip


def _length(nm):
    """With one digit; a dash where two volumes correlate nowhere."""
    return "–" if nm is None else f"{nm:.1f}"


def _at_paper_scale(rows):
    """Rows of M2,3 at the paper's scale, or on the finest grid, at the fluence that most of them have."""
    sizes = {row["n"] for row in rows}
    n = PAPER_VOXELS if PAPER_VOXELS in sizes else max(sizes, default=0)
    soft = [row for row in rows if row["edge"] == "M2,3" and row["n"] == n]
    fluences = [row["fluence"] for row in soft]
    return [row for row in soft if row["fluence"] == max(fluences, key=fluences.count)]
