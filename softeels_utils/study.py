"""Sparse-view studies: cases with a known truth, methods run on the same cases, errors by oracle, rule and end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import data, dip, dose, fitting, metrics, scattering, simulate, standards
from .progress import progress_bar
from .simulate import project_fine
from .tomography import (
    NONNEGATIVE,
    SIMPLEX,
    HeldOut,
    IterationInfo,
    Measurement,
    joint_tv,
    learn_scale,
    reconstruct,
    sirt,
    tv,
)

__all__ = [
    "METHODS",
    "Case",
    "Outcome",
    "make_case",
    "make_case_from_counts",
    "own_data",
    "pixel_covariance",
    "project_fine",
    "reconstruct_all",
    "run_method",
    "run_study",
    "summarise",
]

WEIGHTS = 2.0 ** np.array([-1.5, -1, -0.5, 0.5, 1, 1.5])  # of total variation, for the oracle: times the automatic one


@dataclass(frozen=True)
class Case:
    """One simulated experiment, with its truth.

    Attributes
    ----------
    truth : array (2, Y, Z, X)
        Volume fractions of FeO and Fe3O4 on the grid of the reconstruction.
    projections : array (2, T, Y, X)
        nm, noisy, made on a grid twice as fine.
    covariance : array (T, Y, X, 2, 2)
        Of the noise, nm².
    tilt_angles_deg : array (T,)
    voxel_size_nm : float
    label : dict
        What makes the case: ``views``, ``fluence``, ``seed``, ...
    """

    truth: np.ndarray
    projections: np.ndarray
    covariance: np.ndarray
    tilt_angles_deg: np.ndarray
    voxel_size_nm: float
    label: dict

    def measurement(self, channels: slice = slice(None), device: str | None = None) -> Measurement:
        """The projections of some channels with their covariance: what every method is given."""
        options = {"covariance": self.covariance[..., channels, channels], "voxel_size_nm": self.voxel_size_nm}
        return Measurement(self.projections[channels], self.tilt_angles_deg, device=device, **options)


@dataclass(frozen=True)
class Outcome:
    """What one method made of one case. The errors are NRMSE against the truth.

    Attributes
    ----------
    method : str
    volume : array (2, Y, Z, X)
        The automatic result.
    oracle, automatic, end : float
        Least error over iterations or weights (chosen by the truth); error of the result that the method's own rule
        chose; and of the last iterate without a rule: 300 iterations of SIRT, the last look of a network (without its
        last stage; where `run_method` was told to run to the end, of one that did not stop), the result of total
        variation, which is converged. NaN where they were not asked for.
    seconds : float
        Of the automatic run, choice of its weight or stop included: time of the processor, of all its cores together;
        it says nothing of a GPU's.
    note : str
        Weight or iteration chosen.
    """

    method: str
    volume: np.ndarray
    oracle: float
    automatic: float
    end: float
    seconds: float
    note: str


# ---------------------------------------------------------------- cases


@lru_cache(maxsize=8)
def _covariance_table(fluence_e_per_A2, pixel_size_nm, top_nm, edge, points=9):
    """Covariance of the fitted thicknesses over a grid of true ones (P, P, 2, 2), and that grid."""
    model = simulate.spectrum_model()
    grid = np.linspace(0, top_nm, points)
    table = np.empty((points, points, 2, 2))
    for i, feo in enumerate(grid):
        for j, magnetite in enumerate(grid):
            # Where there is no specimen there is still a support and a camera: never less than 3 nm of both.
            thickness = (max(feo, 1.5), max(magnetite, 1.5))
            table[i, j] = dose.phase_bound(
                model, fluence_e_per_A2, edge=edge, thickness_nm=thickness, pixel_size_nm=pixel_size_nm
            )
    return grid, table


def pixel_covariance(
    projections_nm: ArrayLike, fluence_e_per_A2: float, pixel_size_nm: float, edge: str = "M2,3"
) -> NDArray:
    """Covariance (T, Y, X, 2, 2) of the phase thicknesses that a fit of an iron edge gives in each pixel, nm².

    The Cramér-Rao bound of `dose.phase_bound`, which `fitting.fit_phases` reaches, interpolated between the
    thicknesses of FeO and Fe3O4. The two errors come out of one fit of similar shapes: they are anti-correlated.

    Parameters
    ----------
    projections_nm : array (2, T, Y, X)
        Noise-free thicknesses.
    edge : {"M2,3", "L2,3"}
    """
    from scipy.interpolate import RegularGridInterpolator

    top = float(np.ceil(np.max(projections_nm)))
    grid, table = _covariance_table(float(fluence_e_per_A2), float(pixel_size_nm), top, edge)
    return RegularGridInterpolator((grid, grid), table)(np.moveaxis(projections_nm, 0, -1))


def make_case(
    n: int = 48,
    views: int = 9,
    fluence_e_per_A2: float = 10000.0,
    seed: int = 0,
    *,
    box_nm: float = 64.0,
    max_tilt_deg: float = 70.0,
    edge: str = "M2,3",
    volume: ArrayLike | None = None,
    **specimen: Any,
) -> Case:
    """Simulate one tilt series of phase maps.

    Projections are made from a grid twice as fine and binned (`project_fine`), and get Gaussian noise with the
    covariance of a fit at this fluence (`pixel_covariance`).

    Parameters
    ----------
    n : int
        Voxels per side.
    views : int
        Tilts, evenly from ``-max_tilt_deg`` to ``max_tilt_deg``.
    fluence_e_per_A2 : float
        Per tilt.
    box_nm : float
        Side of the field of view.
    edge : {"M2,3", "L2,3"}
        That the maps are fitted with.
    volume : array (2, 2 n, 2 n, 2 n), optional
        Another specimen on the fine grid, in place of the nanocube.
    **specimen
        Further arguments of `simulate.core_shell_nanocube`.
    """
    fine = simulate.core_shell_nanocube(2 * n, **specimen) if volume is None else np.asarray(volume, np.float32)
    if fine.ndim != 4 or len(fine) != 2 or any(s % 2 for s in fine.shape[1:]) or fine.shape[2] != fine.shape[3]:
        raise ValueError(f"volume: got shape {fine.shape}, wants (2, Y, Z, X) with even sides and Z = X")
    n = fine.shape[3] // 2
    size, tilts = box_nm / n, np.linspace(-max_tilt_deg, max_tilt_deg, views)
    truth, clean = project_fine(fine, tilts, size)
    covariance = pixel_covariance(clean, fluence_e_per_A2, size, edge)
    white = np.random.default_rng(seed).standard_normal((*clean.shape[1:], 2, 1))
    noise = np.moveaxis((np.linalg.cholesky(covariance) @ white)[..., 0], -1, 0)
    label = {"n": n, "views": views, "fluence": float(fluence_e_per_A2), "seed": seed}
    return Case(truth, (clean + noise).astype(np.float32), covariance, tilts, size, label)


def make_case_from_counts(
    n: int = 32,
    views: int = 9,
    fluence_e_per_A2: float = 4000.0,
    seed: int = 0,
    *,
    box_nm: float = 64.0,
    max_tilt_deg: float = 70.0,
) -> Case:
    """Simulate one tilt series electron by electron, and take it through the chapters: counts, references, maps.

    The references are extracted from the same counts (chapter 2), M2,3 is fitted pixel by pixel (chapter 3), and the
    value of a pure voxel is learned from the maps.

    Parameters
    ----------
    n, views, fluence_e_per_A2, seed, box_nm, max_tilt_deg
        As for `make_case`.

    Returns
    -------
    Case
        Its label holds the learned ``scale`` of each phase, the ``warnings`` of references and fit, and the ``amount``
        of each phase, an `Estimate`: the sum of its maps, in nm, before they are divided by the scale.
    """
    size, tilts = box_nm / n, np.linspace(-max_tilt_deg, max_tilt_deg, views)
    truth, thickness = project_fine(simulate.core_shell_nanocube(2 * n, oversample=2), tilts, size)
    series = {"tilt_angles_deg": tilts, "pixel_size_nm": size, "seed": seed}
    low, core = simulate.dual_eels(thickness, fluence_e_per_A2, **series)
    bins = max(1, n // 48)  # references need no fine pixels
    image = (signal.rebin(scale=(bins, bins, 1, 1)) for signal in (low, core))
    found = standards.extract_standards(*image, bootstrap=20, seed=seed)
    options = scattering.load_system(found.system).edge("M2,3").fit_options
    fit = fitting.fit_phases(low, None, found, low_loss=low, nonnegative=False, **options)
    maps = np.moveaxis(fit.coefficients, -1, 0)
    scale = learn_scale(Measurement(maps, tilts, covariance=fit.covariance, voxel_size_nm=size))
    label = {
        "n": n,
        "views": views,
        "fluence": float(fluence_e_per_A2),
        "seed": seed,
        "scale": [float(v) for v in scale],
    }
    label["warnings"] = [*found.warnings, *fit.warnings]
    total = fit.summed()
    label["amount"] = fitting.Estimate(total.coefficients, total.standard_error, total.systematic_error)
    maps = (maps / scale[:, None, None, None]).astype(np.float32)
    return Case(truth, maps, fit.covariance / np.outer(scale, scale), tilts, size, label)


# ---------------------------------------------------------------- methods


@dataclass(frozen=True)
class _Settings:
    """Of `run_method`."""

    seed: int
    network: dict
    oracle: bool
    oracle_weights: Sequence[float]
    run_to_end: bool


@dataclass
class _Errors:
    """A callback that keeps the squared error of every iterate it sees (for the oracle and the end; it stops none)."""

    truth: np.ndarray
    squares: list = field(default_factory=list)

    def __call__(self, info: IterationInfo) -> None:
        self.squares.append(float(np.sum((info.volume - self.truth) ** 2)))


# Each returns the volume by the method's own rule, a note on what that chose, and a function that returns squared
# errors: the least over iterations or weights, and that of the run without a rule.


def _sirt(case, settings):
    """Stops by held-out pixels; the end is 300 iterations."""
    fit = sirt(case.measurement(), stop=HeldOut(), progress=False)

    def further():
        errors = _Errors(case.truth)
        sirt(case.measurement(), iterations=300, callbacks=[errors], progress=False)
        return min(errors.squares), errors.squares[-1]

    return fit.volume, f"{fit.iteration} iterations", further


def _variation(algorithm, constraint):
    """Weight by held-out pixels; the oracle tries others. Always converged, so that the end is the result."""

    def run(case, settings):
        options, measurement = {"constraint": constraint, "progress": False}, case.measurement()
        fit = algorithm(measurement, weight="heldout", **options)

        def further():
            weights = [fit.weight * factor for factor in settings.oracle_weights]
            volumes = [algorithm(measurement, weight=weight, **options).volume for weight in weights]
            squares = [np.sum((volume - case.truth) ** 2) for volume in (fit.volume, *volumes)]
            return min(squares), squares[0]

        return fit.volume, f"weight {fit.weight:.2g}", further

    return run


def _network(parts, **options):
    """A network for each part of the channels. Without `run_to_end`, its looks stand for the run without a stop."""

    def run(case, settings):
        given = {"progress": False, "seed": settings.seed} | settings.network | options
        device = given.pop("device", None)
        fits, errors = [], [_Errors(case.truth[part]) for part in parts]
        for part, seen in zip(parts, errors, strict=True):
            callbacks = [seen] if settings.oracle and not settings.run_to_end else []
            fits.append(dip.fit(case.measurement(part, device), callbacks=callbacks, **given))

        def further():
            if settings.run_to_end:
                for part, seen, fit in zip(parts, errors, fits, strict=True):
                    on = {"iterations": fit.settings["iterations"], "return_to_best": False, "callbacks": [seen]}
                    dip.fit(case.measurement(part, device), **given | on)
            own = [np.sum((fit.volume - case.truth[part]) ** 2) for fit, part in zip(fits, parts, strict=True)]
            best = sum(min(mine, *seen.squares) for mine, seen in zip(own, errors, strict=True))
            return best, sum(seen.squares[-1] for seen in errors)

        note = "+".join(str(fit.stopped_at) for fit in fits) + " iterations"
        return np.concatenate([fit.volume for fit in fits]), note, further

    return run


# One channel at a time there is no total variation anywhere, and no vacuum: a phase alone has no partner to add up to
# one with, and as a fraction of vacuum it would stop after a few steps.
ALONE = {
    "head": "nonnegative", "split": "pixels", "tv_weight": 0.0, "initial_tv_weight": 0.0, "correction_tv_weight": 0.0,
}  # fmt: skip
METHODS: dict[str, Callable] = {
    "SIRT": _sirt,
    "TV": _variation(tv, NONNEGATIVE),
    "joint TV": _variation(joint_tv, SIMPLEX),
    "DIP": _network([slice(0, 1), slice(1, 2)], **ALONE),
    "DIPm-TV": _network([slice(0, 2)]),
}


def run_method(
    name: str,
    case: Case,
    *,
    seed: int | None = None,
    network: dict | None = None,
    oracle: bool = True,
    oracle_weights: Sequence[float] = WEIGHTS,
    run_to_end: bool = False,
) -> Outcome:
    """Run one method of ``METHODS`` on a case, by its own rule.

    Parameters
    ----------
    seed : int, optional
        Of the networks; default: that of the case.
    network : dict, optional
        Keyword arguments of `dip.fit`, and ``device``.
    oracle : bool
        Also find out what the truth would have chosen, and where the method ends without a rule. False: both are NaN.
    oracle_weights : sequence of float
        Of total variation, times the automatic one.
    run_to_end : bool
        Run networks a second time without their stop and last stage, for the oracle and the end.

    Returns
    -------
    Outcome
    """
    if name not in METHODS:
        raise ValueError(f"name: got {name!r}, wants one of {list(METHODS)}")
    seed = case.label.get("seed", 0) if seed is None else seed
    began = time.process_time()
    volume, note, further = METHODS[name](case, _Settings(seed, network or {}, oracle, oracle_weights, run_to_end))
    seconds = time.process_time() - began
    automatic, best, end = metrics.nrmse(volume, case.truth), np.nan, np.nan
    if oracle:
        best, end = (float(np.sqrt(square) / np.linalg.norm(case.truth)) for square in further())
        best = min(best, automatic)
    return Outcome(name, volume, best, automatic, end, seconds, note)


def reconstruct_all(
    projections: ArrayLike,
    tilt_angles_deg: ArrayLike,
    *,
    voxel_size_nm: float = 1.0,
    covariance: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    network: dict | None = None,
) -> dict[str, NDArray]:
    """Own projections through every method, each by its own rule (there is no truth to choose by).

    Parameters
    ----------
    projections : array (C, T, Y, X)
        Of any number of channels and in any unit: one scale per channel is learnt.
    network : dict, optional
        Keyword arguments of `dip.dipm_tv`.

    Returns
    -------
    dict of str to array (C, Y, Z, X)
        In the projections' unit per ``voxel_size_nm``.
    """
    options = {"voxel_size_nm": voxel_size_nm, "covariance": covariance, "mask": mask, "calibrated": False}
    rules = {"SIRT": {"algorithm": "sirt", "stop": "heldout"}, "TV": {"algorithm": "tv"}}
    rules["joint TV"] = {"algorithm": "joint_tv"}
    volumes = {name: reconstruct(projections, tilt_angles_deg, **rule, **options) for name, rule in rules.items()}
    volumes["DIPm-TV"] = dip.dipm_tv(projections, tilt_angles_deg, **options, **(network or {})).volume
    return volumes


def own_data(path: str | Path) -> data.TiltSeries | NDArray:
    """Read a user's file: a tilt series of maps, or a phantom.

    Returns
    -------
    TiltSeries or array (2, Y, Z, X)
        The latter for a ``.npy``, or a ``.npz`` with an array ``volume``: volume fractions of two phases on the fine
        grid that `make_case` takes.
    """
    path = Path(path)
    if path.suffix in (".npy", ".npz") and path.exists():
        content = np.load(path, allow_pickle=False)
        volume = content if path.suffix == ".npy" else content.get("volume")
        if volume is not None:
            if volume.ndim != 4 or len(volume) != 2:
                raise ValueError(f"path: got shape {volume.shape} in {path}, wants a volume (2, Y, Z, X)")
            return np.asarray(volume, np.float32)
    return data.read_tilt_series(path)


# ---------------------------------------------------------------- studies


def run_study(
    cases: list[dict],
    methods: tuple[str, ...] = tuple(METHODS),
    *,
    path: str | Path | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> tuple[list[dict], dict[str, NDArray]]:
    """Run methods on cases.

    Parameters
    ----------
    cases : iterable of dict
        Keyword arguments of `make_case`, one dictionary per case.
    path : path, optional
        JSON file of the rows, written after each; a study that was killed goes on behind the last one.
    progress : bool, optional
    **settings
        Of `run_method`.

    Returns
    -------
    (list of dict, dict of str to array)
        Rows (the case's label, method, ``oracle``, ``automatic``, ``end``, ``seconds``, ``core_nm``, ``outer_nm``,
        ``ssim``, ...), and the volumes of the last case run, under ``"truth"`` and the methods' names.
    """
    path = None if path is None else Path(path)
    finished = json.loads(path.read_text()) if path is not None and path.exists() else []
    rows, volumes = [], {}
    if finished and path.with_suffix(".npz").exists():
        with np.load(path.with_suffix(".npz")) as content:
            volumes = {name: content[name] for name in content.files}
    work = [(condition, name) for condition in cases for name in methods]
    for condition, name in progress_bar(work, show=progress, desc="study"):
        key = {k: v for k, v in condition.items() if not isinstance(v, np.ndarray)} | {"method": name}
        earlier = [row for row in finished if all(row["key"].get(k) == v for k, v in key.items())]
        if earlier:
            rows.append(earlier[0])
            continue
        case = make_case(**condition)
        outcome = run_method(name, case, **settings)
        rows.append({"key": key} | _row(case, outcome))
        if not volumes or not np.array_equal(volumes["truth"], case.truth):
            volumes = {"truth": case.truth}
        volumes[name] = outcome.volume
        if path is not None:
            finished.append(rows[-1])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(finished))
            np.savez_compressed(path.with_suffix(".npz"), **volumes)
    return rows, volumes


def _row(case, outcome):
    """What a study keeps of one outcome."""
    edges = metrics.interface_error(outcome.volume, case.truth, case.voxel_size_nm)
    numbers = {k: v for k, v in asdict(replace(outcome, volume=None)).items() if k != "volume"}
    return {
        **case.label,
        **numbers,
        "ssim": metrics.ssim(outcome.volume, case.truth),
        "core_nm": edges.core_rms_nm,
        "outer_nm": edges.outer_rms_nm,
        "fraction_error": metrics.phase_fraction_error(outcome.volume, case.truth)[1],
    }


def summarise(
    rows: list[dict],
    by: tuple[str, ...] = ("method", "views", "fluence"),
    values: tuple[str, ...] = ("oracle", "automatic", "end", "seconds"),
) -> list[dict]:
    """Median over the rows that agree in ``by`` (over seeds), in order of appearance, with the number of rows.

    Returns
    -------
    list of dict
    """
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[k] for k in by), []).append(row)
    return [
        dict(zip(by, key, strict=True))
        | {value: float(np.median([row[value] for row in group])) for value in values}
        | {"runs": len(group)}
        for key, group in groups.items()
    ]
