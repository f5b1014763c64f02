"""The claims of arXiv:2606.10893, one by one: how each is tested here, the number that was found, and a verdict.

Every number comes from a record or from a calculation that takes a second, and every verdict from its number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import dose, records, scattering, simulate
from .plotting import recorded
from .records import CENTRE

__all__ = ["CLAIMS", "LANDING", "VERDICTS", "Claim", "Finding", "findings", "markdown", "placeholders", "readme"]

VERDICTS = ("holds", "holds in part", "does not hold", "cannot be tested here")
LANDING = ("dose", "nine views", "resolution")  # the three that the first page shows
PAPER_SCALE = {"n": 112, "fluence": 4000, "edge": "M2,3"}  # of the nanocube of chapter 5


@dataclass(frozen=True)
class Finding:
    """What was found.

    Attributes
    ----------
    number : str
        In words, with its spread.
    verdict : str
        One of `VERDICTS`.
    """

    number: str
    verdict: str


NO_RECORD = Finding("its record is not there", VERDICTS[3])


@dataclass(frozen=True)
class Claim:
    """A claim and its test.

    Attributes
    ----------
    name : str
    text : str
        The claim, in our words.
    test : str
        How it is tested, on what.
    page : str
        Where in the book, from its folder.
    figure : str
        Name of the figure that shows it there; "" where a table does.
    find : callable
        Returns the `Finding`; None where its record is not there.
    """

    name: str
    text: str
    test: str
    page: str
    figure: str
    find: Callable[[], Finding | None]


def _judge(full: bool, part: bool) -> str:
    return VERDICTS[0] if full else VERDICTS[1] if part else VERDICTS[2]


def _spread(values: NDArray, digits: int = 2) -> str:
    """Median, and the extremes where there are several."""
    return f"{values[0]:.{digits}f}" if len(values) == 1 else recorded.spread(values, digits)


def _pairs(kept: records.Record, measure: str, first: dict, second: dict) -> NDArray:
    """One measure of two kinds of cells, (N, 2), of the same specimens and seeds."""
    one, two = (
        {(row["specimen"], row["seed"]): row[measure] for row in kept.where(**wanted)} for wanted in (first, second)
    )
    return np.array([(one[key], two[key]) for key in one if key in two], float).reshape(-1, 2)


# ---------------------------------------------------------------- dose


def _dose() -> Finding:
    free, fixed = dose.compare_edges(), dose.compare_edges(background_a=[3.0], background_b=[3.0])
    bounds = [value for comparison in (free, fixed) for value in comparison.phases.values()]
    return Finding(
        f"{free.signal:.0f} times the signal; against shot noise {free.shot_noise:.0f} times fewer electrons; for the "
        f"same error of a phase {min(bounds):.0f} to {max(bounds):.0f} times fewer, depending on the phase and on how "
        "free the background is",
        _judge(min(bounds) > 40, 40 < free.signal < 70),
    )


def _maps() -> Finding:
    model = simulate.spectrum_model()
    errors = {e: np.sqrt(dose.phase_bound(model, 4000.0, edge=e).diagonal()) for e in ("M2,3", "L2,3")}
    ratio = errors["L2,3"] / errors["M2,3"]
    return Finding(
        f"errors of FeO and Fe<sub>3</sub>O<sub>4</sub> {ratio[0]:.1f} and {ratio[1]:.1f} times smaller at "
        "M<sub>2,3</sub>",
        _judge(min(ratio) > 2, min(ratio) > 1),
    )


def _delocalisation() -> Finding:
    edges = {e: scattering.load_system("iron_oxides").edge(e).signal_eV for e in ("M2,3", "L2,3")}
    blur = {
        e: scattering.delocalisation_nm(energy, beam_energy_keV=300.0, collection_mrad=40.0)
        for e, energy in edges.items()
    }
    return Finding(
        f"half of the signal comes from a disc {blur['M2,3']:.2f} nm across at M<sub>2,3</sub>, "
        f"{blur['L2,3']:.2f} nm at L<sub>2,3</sub> (300 keV, 40 mrad)",
        _judge(blur["M2,3"] < 0.5, blur["M2,3"] < 1.0),
    )


# ---------------------------------------------------------------- references


def _standards() -> Finding | None:
    kept = records.benchmark("standards")
    if kept is None:
        return None
    worst = {name: entry["angle_deg"] for name, entry in kept["worst"].items()}
    return Finding(
        f"{max(worst.values()):.1f}° off in the worst of {len(worst)} kinds of specimen, "
        f"{np.median(list(worst.values())):.1f}° in the median",
        _judge(max(worst.values()) < 5, np.median(list(worst.values())) < 5),
    )


def _chemistry() -> Finding | None:
    kept = records.benchmark("chemistry_report_48")
    if kept is None:
        return None
    found = kept["summary"]
    silent, within = found["silent_errors"], found["mean_valence_within_0.05"]
    return Finding(
        f"{100 * silent:.0f} % of {found['rows']} specimens wrong beyond three standard errors without a flag; "
        f"mean valence within 0.05 in {100 * within:.0f} %, total iron within 5 % in "
        f"{100 * found['total_metal_within_5_percent']:.0f} %",
        _judge(silent <= 0.02 and within >= 0.9, silent <= 0.02),
    )


# ---------------------------------------------------------------- reconstruction


def _nine_views() -> Finding | None:
    kept = records.load("sparse_views")
    nine = CENTRE | {"method": "DIPm-TV"}
    ratio = _pairs(kept, "nrmse", nine, CENTRE | {"method": "SIRT", "views": 29})
    all_views = _pairs(kept, "nrmse", nine, nine | {"views": 29})
    if not len(ratio) or not len(all_views):
        return None
    better, loss = ratio[:, 0] / ratio[:, 1], all_views[:, 0] / all_views[:, 1]
    return Finding(
        f"error of DIPm-TV from nine views {_spread(better)} times that of SIRT from 29, and {_spread(loss)} times its "
        f"own from 29 ({len(ratio)} specimens or draws of the noise)",
        _judge(max(better) < 1 and np.median(loss) < 1.25, np.median(better) < 1),
    )


def _no_symmetry() -> Finding | None:
    kept = records.benchmark("draws_report_48")
    if kept is None:
        return None
    found = kept["medians"]["DIPm-TV"]
    return Finding(
        f"{found['ratio']:.2f} of the error of the best joint TV in the median, "
        f"{found['ratio_worst_tenth']:.2f} in the worst tenth of {found['draws']} specimens of any shape and rotation",
        _judge(found["ratio_worst_tenth"] < 1, found["ratio"] < 1),
    )


def _all_channels() -> Finding | None:
    kept = records.load("sparse_views")
    cells = [{"fluence": f, "views": v} for f in (4000, 16000) for v in (5, 7, 9, 15, 29)]
    pairs = [_pairs(kept, "nrmse", CENTRE | c | {"method": "DIPm-TV"}, CENTRE | c | {"method": "DIP"}) for c in cells]
    pairs = np.concatenate(pairs)
    if not len(pairs):
        return None
    ratio = pairs[:, 0] / pairs[:, 1]
    return Finding(
        f"error {_spread(ratio)} times that of the phases one at a time; smaller in "
        f"{100 * np.mean(ratio < 1):.0f} % of {len(ratio)} cells",
        _judge(np.mean(ratio < 1) >= 0.9, np.median(ratio) < 1),
    )


def _conventional() -> Finding | None:
    kept = records.load("sparse_views")
    ratios = {}
    for rival in ("SIRT", "joint TV"):
        pairs = _pairs(kept, "nrmse", CENTRE | {"method": "DIPm-TV"}, CENTRE | {"method": rival})
        if not len(pairs):
            return None
        ratios[rival] = pairs[:, 1] / pairs[:, 0]
    core = _pairs(kept, "core_nm", CENTRE | {"method": "DIPm-TV"}, CENTRE | {"method": "joint TV"})
    return Finding(
        f"SIRT has {_spread(ratios['SIRT'], 1)} times the error of DIPm-TV, joint TV {_spread(ratios['joint TV'], 1)} "
        f"times; the edge of the core is {np.median(core[:, 0]):.2f} nm off with DIPm-TV, {np.median(core[:, 1]):.2f} "
        "with joint TV",
        _judge(min(ratios["joint TV"]) > 2, np.median(ratios["SIRT"]) > 2),
    )


def _less_dose() -> Finding | None:
    kept = records.load("sparse_views")
    method = {"views": 9, "max_tilt": 70, "method": "DIPm-TV"}
    fluences = sorted({row["fluence"] for row in kept.where(edge="L2,3", **method)})
    of_l = [np.median(kept.values("nrmse", edge="L2,3", fluence=f, **method)) for f in fluences]
    of_m = kept.values("nrmse", edge="M2,3", fluence=4000, **method)
    if len(of_l) < 3 or not len(of_m):
        return None
    target = float(np.median(of_m))
    falling = np.minimum.accumulate(of_l)
    if target < falling[-1]:
        factor, more = fluences[-1] / 4000, "more than "
    else:
        factor, more = float(np.exp(np.interp(-target, -falling, np.log(fluences)))) / 4000, ""
    return Finding(
        f"{more}{factor:.0f} times as many electrons at L<sub>2,3</sub> for the same error (NRMSE {target:.2f})",
        _judge(factor >= 100, factor >= 5),
    )


# ---------------------------------------------------------------- the nanocube


def _nanocube(*measures: str) -> list[NDArray] | None:
    """Measures of DIPm-TV at the paper's scale; None without them."""
    kept = records.load("nanocube")
    found = [kept.values(measure, method="DIPm-TV", **PAPER_SCALE) for measure in measures]
    return found if all(len(values) for values in found) else None


def _resolution() -> Finding | None:
    found = _nanocube("resolution_x_nm", "resolution_y_nm", "resolution_z_nm", "worst_resolution_nm")
    if found is None:
        return None
    x, y, z, worst = map(np.median, found)
    return Finding(
        f"{x:.1f}, {y:.1f} and {z:.1f} nm along X, Y and Z (Fourier shell correlation with the truth 0.5; voxels of "
        f"0.57 nm, nothing finer than 1.1 nm can be read); {worst:.1f} nm in the worst of 40 directions",
        _judge(worst < 1.5, max(x, y, z) < 1.75),
    )


def _cubic() -> Finding | None:
    kept = records.benchmark("draws_report_48")
    if kept is None:
        return None
    found, rival = (kept["medians"][name] for name in ("DIPm-TV", "joint TV"))
    return Finding(
        f"corners {found['corner']:.2f} voxels off (joint TV {rival['corner']:.2f}), surface {found['surface']:.2f} "
        f"({rival['surface']:.2f}), RMS",
        _judge(found["corner"] < 0.25 and found["surface"] < 0.25, found["corner"] < rival["corner"]),
    )


def _skin() -> Finding | None:
    found = _nanocube("skin_nm", "true_skin_nm")
    if found is None:
        return None
    ratio = np.median(found[0]) / np.median(found[1])
    return Finding(
        f"{_spread(found[0])} nm thick on average, {np.median(found[1]):.2f} in truth",
        _judge(abs(ratio - 1) < 0.15, ratio > 0.5),
    )


def _void() -> Finding | None:
    found, draws = _nanocube("void_nm3", "true_void_nm3"), records.benchmark("draws_report_48")
    if found is None or draws is None:
        return None
    contrasts = [row["methods"]["DIPm-TV"]["void_contrast"] for row in draws["rows"] if "DIPm-TV" in row["methods"]]
    contrasts = np.array([c for c in contrasts if c is not None])
    part, filled = np.median(found[0]) / np.median(found[1]), np.mean(contrasts < 0.2)
    asked = ""
    if evidence := _nanocube("void_effect", "void_effect_error"):
        effect, error = map(np.median, evidence)
        asked = f"; at its place the maps ask for {effect:.2f} ± {error:.2f} of it"
    return Finding(
        f"{_spread(found[0], 0)} of {np.median(found[1]):.0f} nm³ of the phantom's void{asked}; filled in "
        f"{100 * filled:.0f} % of {len(contrasts)} drawn specimens with voids of 1 to 6 voxels",
        _judge(part > 0.8 and filled < 0.05, part > 0.5),
    )


def _intervals() -> Finding | None:
    rows = records.load("intervals").where(half="report")
    regions = {
        name: [row[name] for row in rows if row[name] is not None] for name in recorded.REGIONS if name != "bulk"
    }
    found = {name: np.mean(values) for name, values in regions.items() if values}
    if not found:
        return None
    low, high = min(found, key=found.get), max(found, key=found.get)
    return Finding(
        f"90 % intervals hold {100 * found[low]:.0f} % ({recorded.REGIONS[low]}) to {100 * found[high]:.0f} % "
        f"({recorded.REGIONS[high]}) of the voxels, by region; {len(rows)} series",
        _judge(found[low] >= 0.85 and found[high] <= 0.96, found[low] >= 0.75),
    )


CLAIMS = (
    Claim("dose", "M<sub>2,3</sub> has about fifty times the dose efficiency of L<sub>2,3</sub>.",
          "Three definitions, 300 keV, 40 mrad, 10 nm of each phase.",
          "../notebooks/01_dose_analysis", "signal", _dose),
    Claim("maps", "Maps from M<sub>2,3</sub> have the better signal-to-noise ratio.",
          "Cramér-Rao bounds of both fits for the same electrons, background free.", "../notebooks/01_dose_analysis",
          "bounds", _maps),
    Claim("delocalisation", "Maps from M<sub>2,3</sub> have the resolution that is needed, delocalisation included.",
          "Egerton's formula for the delocalisation.", "../notebooks/01_dose_analysis", "", _delocalisation),
    Claim("standards", "Reference spectra are found inside the specimen, through L<sub>2,3</sub>.",
          "Angle between found and true references, simulated specimens.",
          "../notebooks/02_standards", "references", _standards),
    Claim("chemistry", "Oxidation states can be told without outside references.",
          "Simulated specimens of a chemistry that the method does not know.",
          "../notebooks/02_standards", "hidden", _chemistry),
    Claim("nine views", "Nine projections over ±70° suffice.",
          "Phantom and drawn specimens, 32³ voxels of 2 nm, noise of an M<sub>2,3</sub> fit at 4,000 e/Å² per tilt.",
          "../notebooks/04_sparse_view_study", "recorded-views", _nine_views),
    Claim("no symmetry", "No HAADF image and no symmetry is needed.",
          "Drawn specimens, 48³ voxels, nine views, 5 % noise; phase maps alone.", "../notebooks/04_sparse_view_study",
          "", _no_symmetry),
    Claim("channels", "All channels together are better than one at a time.",
          "The same network, one for both phases or one for each; 5 to 29 views.", "../notebooks/04_sparse_view_study",
          "recorded-views", _all_channels),
    Claim("conventional", "Conventional methods cannot see what DIPm-TV shows.",
          "The same projections through methods that are tuned by rules of their own.",
          "../notebooks/04_sparse_view_study", "recorded-pictures", _conventional),
    Claim("less dose", "Orders of magnitude fewer electrons are needed.",
          "DIPm-TV from nine maps with the errors of either edge.",
          "../notebooks/04_sparse_view_study", "recorded-fluence", _less_dose),
    Claim("resolution", "The resolution is about 1 nm in all directions.",
          "The paper's phantom from simulated counts, 112³ voxels, nine tilts, 4,000 e/Å² each.",
          "../notebooks/05_dipm_tv_nanocubes", "recorded-scale", _resolution),
    Claim("cubic", "The cubic shape is kept.", "Corners and surfaces of drawn specimens, 48³ voxels.",
          "../notebooks/04_sparse_view_study", "", _cubic),
    Claim("skin", "The outer skin of FeO is recovered.", "The phantom from counts, as above.",
          "../notebooks/05_dipm_tv_nanocubes", "recorded-scale", _skin),
    Claim("void", "A small void is revealed.", "The phantom from counts, and drawn specimens with voids.",
          "../notebooks/05_dipm_tv_nanocubes", "recorded-scale", _void),
    Claim("intervals", "(Ours, not the paper's.) The error bars of the volume are true.",
          "Ensembles of six on drawn specimens that nothing was calibrated on, 32³ voxels.",
          "../notebooks/05_dipm_tv_nanocubes", "nanocube-uncertainty", _intervals),
)  # fmt: skip


def findings() -> dict[str, Finding | None]:
    """What was found of each claim, by its name."""
    return {claim.name: claim.find() for claim in CLAIMS}


def markdown(found: Mapping[str, Finding | None]) -> str:
    """Return claims as a table in Markdown; those without a record say so.

    Parameters
    ----------
    found : dict
        Some of `findings`.
    """
    rows = ["| the claim | how it is tested | found here | verdict |", "|---|---|---|---|"]
    for claim in CLAIMS:
        if claim.name in found:
            one = found[claim.name] or NO_RECORD
            shown = claim.figure and found[claim.name]
            figure = f' <a href="{claim.page}.html#fig-{claim.figure}"></a>' if shown else ""
            rows.append(f"| {claim.text} | [{claim.test}]({claim.page}){figure} | {one.number} | **{one.verdict}** |")
    return "\n".join(rows)


def readme() -> str:
    """The three claims of the first page as a list for ``README.md``, which a test holds to it."""
    shown = [(claim.text, claim.find() or NO_RECORD) for claim in CLAIMS if claim.name in LANDING]
    return "\n".join(f"- {text} *{found.verdict.capitalize()}*: {found.number}." for text, found in shown)


def placeholders() -> dict[str, str]:
    """Return ``{mark: MyST text}``: all claims, and the three of the first page."""
    found = findings()
    first = markdown({name: found[name] for name in LANDING})
    return {
        "<!-- generated: claims -->": markdown(found),
        "<!-- generated: three claims -->": f"{first}\n\n{{doc}}`All claims, one by one <claims>`.",
    }
