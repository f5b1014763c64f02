"""The long studies: which cells each has, and how a cell is measured."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_fill_holes, center_of_mass

from .. import dip, fitting, metrics, simulate, study
from ..checks import check_choice
from ..simulate import draw_specimen
from ..source import code_stamp, parts
from .store import cell_name

__all__ = ["ALONE", "NONNEGATIVE", "PAPER_RATE", "SCRIPTS", "STUDIES", "Study", "cuts_through_void", "script_stamp"]

#: Learning rate of the paper's formulation; on the phantom at 48³ and 5 % noise the least NRMSE of 1,000 iterations was
#: 0.465, 0.365 and 0.342 with 5e-4 (the default), 2e-3 and 8e-3.
PAPER_RATE = 8e-3
MEASURES = ("metrics.errors", "metrics.fourier", "metrics.interfaces", "metrics.features")
# Of the networks all but their ensembles and audits, which the studies of single volumes do not use.
NETWORK = tuple(f"dip.{path.stem}" for path in parts()["dip"] if path.stem not in ("ensemble", "audit"))
# Cases with drawn noise are in nm: nothing of theirs depends on how an unknown scale is learned.
CALIBRATED = tuple(f"tomography.{path.stem}" for path in parts()["tomography"] if path.stem != "scale")
NOISE = ("dose.bounds", "scattering")  # what the covariance of a fit depends on
ENGINE = (*CALIBRATED, *NETWORK, *MEASURES, *NOISE, "simulate", "study")
FROM_COUNTS = (*ENGINE, "tomography.scale", "standards", "fitting", "spectra")
PHASES = ("feo", "fe3o4")  # in names of columns
SURE = ("dip.ensemble", "metrics.intervals")
OF_SPECTRA = ("scattering", "simulate", "spectra", "standards", "fitting")
#: Of scripts in ``benchmarks/`` whose records pages show: the modules that their results depend on.
SCRIPTS: dict[str, tuple[str, ...]] = {
    "bound": ENGINE,
    "chemistry": OF_SPECTRA,
    "draws": ENGINE,
    "geometry": (*CALIBRATED, *NETWORK, "scattering", "simulate"),
    "standards": OF_SPECTRA,
    "withheld": (*CALIBRATED, "tomography.scale", *NETWORK),
}
PHANTOM = "phantom"  # the specimen of arXiv:2606.10893; any other is a draw's number, of the report half
VIEWS, FLUENCES, ANGLES = (5, 7, 9, 15, 29), (1000, 4000, 16000, 64000), (70, 60, 50)
SPARSE = ("specimen", "n", "views", "max_tilt", "fluence", "edge", "seed", "method")
CENTRE = {"views": 9, "max_tilt": 70, "fluence": 4000, "edge": "M2,3"}
METHODS = tuple(study.METHODS)
NOISES = {
    "independent": {"noise": "independent", "level": 0.05}, "fit": {"noise": "fit", "fluence_e_per_A2": 4000.0}
}  # fmt: skip
NETWORKS = ("DIP", "DIPm-TV", "paper", "ensemble")


@dataclass(frozen=True)
class Study:
    """A long study.

    Attributes
    ----------
    title : str
        What it tells.
    parameters : tuple of str
        Names of what makes a cell.
    cells : callable
        Returns them, as dictionaries of these parameters, the most telling first.
    measure : callable
        Takes a cell's parameters; returns rows (dictionaries with ``nrmse``, and ``method`` where the cell has none)
        and at most one picture.
    modules : tuple of str
        Modules that a result depends on, as for `source.code_stamp`.
    """

    title: str
    parameters: tuple[str, ...]
    cells: Callable[[], list[dict[str, Any]]]
    measure: Callable[..., tuple[list[dict[str, Any]], list[NDArray]]]
    modules: tuple[str, ...]

    def stamp(self, row: Mapping[str, Any]) -> str:
        """Stamp of the present code that a row depends on: that of the networks only where the method is one."""
        networks = row.get("method") in NETWORKS
        return code_stamp(tuple(name for name in self.modules if networks or not name.startswith("dip.")))


def script_stamp(script: str) -> str:
    """Return the stamp of the present code that the results of a script in ``benchmarks/`` depend on.

    Parameters
    ----------
    script : str
        Its name, without ending.
    """
    return code_stamp(SCRIPTS[check_choice(script, "script", tuple(SCRIPTS))])


# ---------------------------------------------------------------- sparse views


def _draw(specimen, half, n, fit_covariance=study.pixel_covariance, **series):
    """A specimen of two phases without a support; its series is aligned and complete."""
    plain = {"views": 9, "max_tilt_deg": 70, "missing_tilt": False, "shift_px": 0.0, "axis_angle_deg": 0.0}
    plain |= {"support": False, "third_phase": None}
    return draw_specimen(specimen, half, n, fit_covariance=fit_covariance, **plain | series)


@lru_cache(maxsize=2)
def _case(specimen: str | int, n: int, views: int, max_tilt: int, fluence: int, edge: str, seed: int) -> study.Case:
    """The phantom or a draw, with the noise of a fit of that edge."""
    if specimen == PHANTOM:
        return study.make_case(n, views, float(fluence), seed, max_tilt_deg=max_tilt, edge=edge)

    def covariance(projections_nm, fluence_e_per_A2, pixel_size_nm):
        return study.pixel_covariance(projections_nm, fluence_e_per_A2, pixel_size_nm, edge)

    series = {"views": views, "max_tilt_deg": max_tilt, "noise": "fit", "fluence_e_per_A2": float(fluence)}
    draw = _draw(int(specimen), "report", n, fit_covariance=covariance, **series)
    label = {"n": n, "views": views, "fluence": float(fluence), "seed": seed}
    arrays = draw.truth, draw.projections, draw.covariance, draw.tilt_angles_deg
    return study.Case(*arrays, draw.voxel_size_nm, label)


def _scores(volume: NDArray, case: study.Case) -> dict[str, float]:
    """What is told of a volume; lengths in nm."""
    size = case.voxel_size_nm
    edges = metrics.interface_error(volume, case.truth, size)
    skin, film = metrics.skin_error(volume, case.truth, size), metrics.film_about_voids(volume, case.truth)
    directions = metrics.directional_resolution(volume, case.truth, size)
    return {
        "nrmse": metrics.nrmse(volume, case.truth), "ssim": metrics.ssim(volume, case.truth),
        "core_nm": edges.core_rms_nm, "surface_nm": edges.outer_rms_nm, "missed": edges.missed,
        "skin_nm": edges.skin_nm, "true_skin_nm": edges.true_skin_nm, "skin_rms_nm": skin.rms_nm,
        "corner_nm": metrics.corner_error(volume, case.truth, size).rms_nm, "film": film.mean,
        "void_nm3": edges.void_nm3, "true_void_nm3": edges.true_void_nm3,
        "fraction_error": metrics.phase_fraction_error(volume, case.truth)[1],
        "resolution_nm": float(np.median(directions.resolution_nm)), "worst_resolution_nm": directions.worst_nm,
    }  # fmt: skip


def _sparse(specimen, n, views, max_tilt, fluence, edge, seed, method):
    """One method on one case; a picture of the middle slice of the phantom's first seed."""
    case = _case(specimen, n, views, max_tilt, fluence, edge, seed)
    found = study.run_method(method, case, seed=seed, oracle=False)
    row = {"seconds": found.seconds} | _scores(found.volume, case)
    return [row], [found.volume[:, n // 2]] if specimen == PHANTOM and seed == 0 else []


# The first five draws, octahedra but for one truncated cube; and of every other shape the next with a core (cube,
# sphere, square rod, truncated cube, cylinder): chosen by their labels, before any was measured.
DRAWS = (0, 1, 2, 3, 4, 5, 7, 8, 10, 15)


def _specimens():
    """(specimen, seed of the noise): the phantom three times, and each draw once."""
    first = [(PHANTOM, 0), (0, 0), (PHANTOM, 1), (1, 1), (2, 2), (PHANTOM, 2)]
    return first + [(draw, draw) for draw in DRAWS if (draw, draw) not in first]


def _sparse_cells():
    """Views and fluences fully crossed, ranges of tilt, and the other edge, for every specimen."""
    wide = [CENTRE | {"views": v, "fluence": f} for v, f in itertools.product(VIEWS, FLUENCES)]
    wide.sort(key=lambda c: (c["views"] != 9) + (c["fluence"] != 4000))  # the middle of the study first
    narrow = [
        CENTRE | {"max_tilt": angle, "views": v, "fluence": f}
        for angle in ANGLES[1:] for v in (9, 29) for f in (4000, 16000)
    ]  # fmt: skip
    other = [CENTRE | {"edge": "L2,3", "fluence": f} for f in FLUENCES]
    first = [{"specimen": p, "n": 32, **c, "seed": s} for p, s in _specimens() for c in wide]
    then = [{"specimen": p, "n": 32, **c, "seed": s} for p, s in _specimens() for c in narrow + other]
    cheap = ("SIRT", "TV", "joint TV")
    low, high = ([c for c in first if c["fluence"] == fluence] for fluence in (4000, 16000))
    middle = [c for c in low if c["views"] == 9]
    edges = [c for c in then if c["edge"] == "L2,3"]
    groups = [(edges, ("DIPm-TV",)), (middle, METHODS), (first, cheap), (first, ("DIPm-TV",)), (low, ("DIP",))]
    groups += [(then, (*cheap, "DIPm-TV")), (high, ("DIP",))]
    cells = [cell | {"method": method} for cells, names in groups for cell in cells for method in names]
    return list({cell_name(cell, SPARSE): cell for cell in cells}.values())


def _fine_cells():
    """The phantom at 64³ over views."""
    table = itertools.product((0, 1, 2), (9, 5, 15, 7, 29), ("SIRT", "joint TV", "DIPm-TV"))
    return [
        {"specimen": PHANTOM, "n": 64, **CENTRE, "views": v, "seed": s, "method": method} for s, v, method in table
    ]  # fmt: skip


def _rule(specimen, fluence, seed, method):
    """What a method's own rule chose, what the truth would have chosen, and the run without a rule."""
    case = _case(specimen, 32, **CENTRE | {"fluence": fluence}, seed=seed)
    found = study.run_method(method, case, seed=seed, run_to_end=True)
    row = {"seconds": found.seconds, "nrmse": found.automatic, "oracle": found.oracle, "end": found.end}
    return [row], []


def _rule_cells():
    table = itertools.product((4000, 1000, 16000), _specimens(), METHODS)
    return [{"specimen": p, "fluence": f, "seed": s, "method": method} for f, (p, s), method in table]


# ---------------------------------------------------------------- what each part does

TV, FREQUENCY = dip.TrainingSettings().tv_weight, dip.CoordinateSettings().frequency_deviation
NONNEGATIVE = "non-negative head"  # volume fractions would need all phases
ALONE = "non-negative head, one phase at a time"
CHANGES = {
    "as it is": {}, "three networks": {"preset": "full"}, NONNEGATIVE: {"head": "nonnegative"},
    ALONE: {"head": "nonnegative"},
    "no TV": {"tv_weight": 0.0}, **{f"TV x {x:g}": {"tv_weight": x * TV} for x in (1e-3, 1e-2, 0.1, 10, 100, 1000)},
    "no first reconstruction": {"initial_tv_weight": 0.0}, "filled voids left": {"empty_voids": False},
    "no last stage": {"correction_tv_weight": 0.0, "empty_voids": False, "mix": False},
    "no stop": {"iterations": 1000, "return_to_best": False}, "variances only": {}, "one variance": {},
    "frequencies halved": {"frequency_deviation": FREQUENCY / 2},
    "frequencies doubled": {"frequency_deviation": FREQUENCY * 2},
}  # fmt: skip


def _ablation(specimen, seed, change):
    """DIPm-TV with one thing changed, in the middle of the study."""
    case = _case(specimen, 32, **CENTRE, seed=seed)
    if change == "variances only":
        case = replace(case, covariance=case.covariance * np.eye(2))
    elif change == "one variance":
        case = replace(case, covariance=case.covariance.diagonal(0, -2, -1).mean() * np.eye(2))
    began = time.process_time()
    shares = [slice(0, 1), slice(1, 2)] if change == ALONE else [slice(None)]
    parts = [dip.fit(case.measurement(c), seed=seed, progress=False, **CHANGES[change]).volume for c in shares]
    volume = np.concatenate(parts)
    return [{"method": "DIPm-TV", "seconds": time.process_time() - began} | _scores(volume, case)], []


def _ablation_cells():
    few, together = [(PHANTOM, 0), (0, 0), (1, 1)], (NONNEGATIVE, ALONE)
    cells = [{"specimen": p, "seed": s, "change": change} for change in CHANGES for p, s in few]
    more = [(p, s) for p, s in _specimens() if (p, s) not in few]
    return cells + [{"specimen": p, "seed": s, "change": change} for p, s in more for change in together]


# ---------------------------------------------------------------- the nanocube, from electrons


def _inside(truth):
    """What is empty inside a volume, (Y, Z, X)."""
    solid = np.sum(truth, axis=0) > 0.5
    return binary_fill_holes(solid) & ~solid


def cuts_through_void(volume: ArrayLike, truth: ArrayLike) -> NDArray:
    """Two slices (2, 2, n, n) of a volume (2, n, n, n) through the middle of a void.

    Parameters
    ----------
    volume, truth : array (2, n, n, n)
        The second says where the void is.

    Returns
    -------
    array (2, 2, n, n)
        The first axis: across Z, as (2, Y, X); across Y, as (2, Z, X).
    """
    volume, inside = np.asarray(volume), _inside(truth)
    if not inside.any():
        raise ValueError("truth: got no closed void, wants one")
    y, z, _ = (round(at) for at in center_of_mass(inside))
    return np.stack([volume[:, :, z], volume[:, y]])


@lru_cache(maxsize=2)
def _counts(n, fluence, seed):
    return study.make_case_from_counts(n, 9, float(fluence), seed)


def _outcome(case: study.Case, method: str, seed: int) -> study.Outcome:
    """What a method makes of a case by its own rule; the paper's formulation has none: it does its iterations."""
    if method != "paper":
        return study.run_method(method, case, seed=seed, oracle=False)
    began = time.process_time()
    options = {"variant": "paper", "preset": "full", "learning_rate": PAPER_RATE}
    fit = dip.fit(case.measurement(), seed=seed, progress=False, **options)
    seconds, error = time.process_time() - began, metrics.nrmse(fit.volume, case.truth)
    return study.Outcome(method, fit.volume, np.nan, error, np.nan, seconds, "")


def _nanocube(n, fluence, edge, seed, method):
    """From dual-EELS counts to the volume; for L2,3 the maps are drawn with the errors of its fit."""
    if edge == "M2,3":
        case = _counts(n, fluence, seed)
    else:
        case = study.make_case(n, 9, float(fluence), seed, edge=edge)
    found = _outcome(case, method, seed)
    row = {"seconds": found.seconds} | _scores(found.volume, case)
    scale = case.label.get("scale")
    row |= {"scale_feo": scale[0], "scale_fe3o4": scale[1]} if scale else {}
    row |= _resolutions(found.volume, case.truth, case.voxel_size_nm, 0.5)
    if method == "DIPm-TV":
        row |= _void_test(case, found.volume)
    return [row], [cuts_through_void(found.volume, case.truth)] if seed == 0 and edge == "M2,3" else []


def _resolutions(first, second, size, threshold):
    """Where two volumes correlate to a threshold, along each axis, in nm."""
    options = {"voxel_size_nm": size, "threshold": threshold}
    found = {axis: metrics.fourier_shell_correlation(first, second, axis=axis, **options) for axis in "XYZ"}
    return {f"resolution_{axis.lower()}_nm": one.resolution_nm for axis, one in found.items()}


def _void_test(case, volume):
    """What part of the void the data ask for at its true place, given the volume about it (1: as empty as it is)."""
    region = _inside(case.truth)
    emptiness = float(1 - case.truth.sum(axis=0)[region].mean())  # voxels at its edge are partly full
    without = dip.fill_in(volume, region)
    test = dip.feature_test(
        case.measurement(), np.where(region, 0, without), region, alternative=without, feature="vacuum"
    )
    return {
        "void_effect": test.effect / emptiness,
        "void_effect_error": test.standard_error / emptiness,
        "void_p": test.p_value,
    }


def _nanocube_cells():
    """The paper's scale; a coarser grid; and the paper's voxel."""
    methods = ("SIRT", "TV", "joint TV", "DIPm-TV", "paper")
    table = itertools.product((0, 1, 2), (4000, 1000, 16000, 64000), ("M2,3", "L2,3"), methods)
    cells = [{"n": 112, "fluence": f, "edge": e, "seed": s, "method": m} for s, f, e, m in table]
    largest = [cell | {"n": 160} for cell in cells[: len(methods)]]
    return cells[: len(methods)] + [cell | {"n": 48} for cell in cells] + cells[len(methods) :] + largest


def _halves(n, fluence, method):
    """Two series of half the fluence, each with its own counts and references: where do the volumes agree?"""
    first, second = (_counts(n, fluence // 2, seed) for seed in (100, 101))
    one, two = (_outcome(case, method, seed) for case, seed in ((first, 100), (second, 101)))
    row = {"nrmse": (one.automatic + two.automatic) / 2, "between": metrics.nrmse(one.volume, two.volume)}
    size = first.voxel_size_nm
    row |= _resolutions(one.volume, two.volume, size, 0.143)
    options = {"voxel_size_nm": size, "threshold": 0.143}
    row["resolution_nm"] = metrics.fourier_shell_correlation(one.volume, two.volume, **options).resolution_nm
    row["to_truth_nm"] = metrics.fourier_shell_correlation(
        one.volume, first.truth, voxel_size_nm=size, threshold=0.143**0.5
    ).resolution_nm
    return [row], []


def _halves_cells():
    return [
        {"n": n, "fluence": 4000, "method": method} for n in (112, 48) for method in ("SIRT", "joint TV", "DIPm-TV")
    ]


def _references(n, fluence, seed):
    """How much of each phase the maps show, against the truth and the errors that are stated."""
    case = _counts(n, fluence, seed)
    amount, true = case.label["amount"], len(case.tilt_angles_deg) * case.voxel_size_nm * case.truth.sum((1, 2, 3))
    row = {"method": "fit", "nrmse": float(np.linalg.norm(amount.value - true) / np.linalg.norm(true))}
    row["warnings"] = len(case.label["warnings"])
    for k, phase in enumerate(PHASES):
        row |= {f"{phase}_found": amount.value[k] / true[k], f"{phase}_error": amount.error[k] / true[k]}
        row |= {f"{phase}_statistical": amount.statistical[k] / true[k]}
    return [row], []


def _references_cells():
    seeds = [(48, s) for s in range(8)] + [(112, s) for s in range(3)]
    return [{"n": n, "fluence": f, "seed": s} for n, s in seeds for f in sorted(FLUENCES)]


# ---------------------------------------------------------------- how sure

MEMBERS = 6  # of an ensemble


def _held(found, draw):
    """Part of the voxels of each region whose 90 % interval holds the truth; how far off each amount is, in errors."""
    amounts, true = found.amounts(), draw.truth.sum((1, 2, 3))
    row = {"nrmse": metrics.nrmse(found.best, draw.truth)}
    row |= metrics.coverage(*found.interval(0.9), draw.truth, draw.regions)
    for k, phase in enumerate(PHASES):
        row |= {f"{phase}_off": (amounts.value[k] - true[k]) / amounts.error[k]}
        row |= {f"{phase}_error": amounts.error[k] / true[k] if true[k] else None}
    return row


def _intervals(half, noise, specimen):
    """An ensemble of a drawn specimen; its maps are in nm."""
    draw = _draw(specimen, half, 32, **NOISES[noise])
    stated = {"covariance": draw.covariance, "voxel_size_nm": draw.voxel_size_nm, "progress": False}
    began = time.process_time()
    found = dip.ensemble(draw.projections, draw.tilt_angles_deg, members=MEMBERS, seed=specimen, **stated)
    return [{"method": "ensemble", "seconds": time.process_time() - began} | _held(found, draw)], []


def _intervals_cells():
    table = itertools.product(("report", "tune"), range(20), NOISES)
    return [{"half": half, "noise": noise, "specimen": specimen} for half, specimen, noise in table]


def _chain(fluence, specimen):
    """The command, from the counts of a drawn specimen; beside it, DIPm-TV of maps with drawn noise, in nm: without
    errors of the references, and with three draws of those that the command states (the median)."""
    draw = _draw(specimen, "report", 32, noise="fit", fluence_e_per_A2=float(fluence))
    about = {"tilt_angles_deg": draw.tilt_angles_deg, "pixel_size_nm": draw.voxel_size_nm, "seed": specimen}
    spectra = simulate.dual_eels(draw.clean, float(fluence), progress=False, **about)
    with tempfile.TemporaryDirectory() as place:
        files = [str(Path(place) / f"{name}.hspy") for name in ("low_loss", "core_loss")]
        for file, signal in zip(files, spectra, strict=True):
            del signal.metadata.Simulation
            signal.save(file)
        options = {"members": MEMBERS, "workers": 1, "half_dose": False, "audit": False, "seed": specimen}
        chosen = [word for name, value in options.items() for word in ("-p", name, str(value).lower())]
        command = [sys.executable, "-m", "softeels_utils", "reconstruct", files[0], "--core", files[1], *chosen]
        found, began = Path(place) / "found", time.perf_counter()
        one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run([*command, "-o", str(found)], capture_output=True, text=True, env=one_thread, check=False)
        if done.returncode:
            raise RuntimeError(f"reconstruct, specimen {specimen}: {done.stderr.strip()}")
        seconds = time.perf_counter() - began
        facts = {
            path.stem: json.loads(path.read_text(encoding="utf-8"))["facts"] for path in found.glob("steps/*.json")
        }
        with np.load(found / "volume.npz", allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ("best", "std", "systematic", "members", "transformed", "scale")}
        modes = fitting.PhaseFit.load(found / "fit.hspy").systematic
    fractions = {"mean": arrays["members"].mean(axis=0), "unit": np.ones(2), "stopped_at": (), "reasons": ()}
    result = dip.EnsembleResult(**fractions, **arrays)
    row = {"method": "ensemble", "seconds": seconds} | _held(result, draw)
    row["warnings"] = sum(len(one.get("warnings", ())) for one in facts.values())
    row["aligned"] = int(facts["alignment"]["kept"])  # shifts of a series that has none
    row["drawn_nrmse"] = metrics.nrmse(dip.fit(draw.measurement(), seed=specimen, progress=False).volume, draw.truth)
    errors = []
    for shifts in np.random.default_rng([specimen, 6]).standard_normal((3, len(modes))):
        off = draw.projections + np.einsum("ctyx,mck,m->ktyx", draw.clean, modes, shifts)
        measurement = replace(draw, projections=off.astype(np.float32)).measurement()
        fit = dip.fit(measurement, calibrated=False, seed=specimen, progress=False)
        errors.append(metrics.nrmse(fit.volume, draw.truth))
    row["drawn_with_references_nrmse"] = float(np.median(errors))
    return [row], []


def _chain_cells():
    return [{"fluence": f, "specimen": specimen} for specimen in range(20) for f in (4000, 16000)]


STUDIES: dict[str, Study] = {
    "sparse_views": Study("How many views, how many electrons, which method", SPARSE, _sparse_cells, _sparse, ENGINE),
    "fine_grid": Study("The same on a finer grid", SPARSE, _fine_cells, _sparse, ENGINE),
    "rules": Study(
        "What a method's own rule costs, against the truth's choice and none",
        ("specimen", "fluence", "seed", "method"), _rule_cells, _rule, ENGINE,
    ),
    "ablations": Study(
        "What each part of DIPm-TV does", ("specimen", "seed", "change"), _ablation_cells, _ablation, ENGINE
    ),
    "nanocube": Study(
        "The nanocube, from electrons to the volume", ("n", "fluence", "edge", "seed", "method"), _nanocube_cells,
        _nanocube, FROM_COUNTS,
    ),
    "halves": Study(
        "The nanocube from two half doses", ("n", "fluence", "method"), _halves_cells, _halves, FROM_COUNTS
    ),
    "references": Study(
        "How much of each phase, and how sure, from the nanocube's counts", ("n", "fluence", "seed"),
        _references_cells, _references, FROM_COUNTS,
    ),
    "intervals": Study(
        "Whether 90 % intervals hold the truth, in each region", ("half", "noise", "specimen"),
        _intervals_cells, _intervals, (*ENGINE, *SURE),
    ),
    "chain": Study(
        "From the counts of drawn specimens to volumes and their intervals, by the command", ("fluence", "specimen"),
        _chain_cells, _chain, (*FROM_COUNTS, *SURE, "data", "pipeline"),
    ),
}  # fmt: skip
