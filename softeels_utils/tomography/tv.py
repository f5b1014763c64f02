"""Reconstruction with total variation, and the choice of its weight."""

from __future__ import annotations

import numbers
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..checks import LARGEST, check_count, check_kind, check_positive, check_seed
from ..doors import checked
from .checkpoint import Checkpoint
from .checks import check_volume
from .constraint import NONNEGATIVE, Constraint, check_constraint
from .generalized_variation import TotalGeneralizedVariation
from .iterate import Loop, Reconstruction, iterate, start_from
from .measurement import Measurement
from .sirt import SIRT
from .stopping import Gap, HeldOut, StopRule
from .total_variation import COUPLINGS, TotalVariation

__all__ = ["joint_tv", "noise_weight", "short_sirt", "tgv", "tv"]

WARM_START = 20  # iterations of SIRT before total variation
SEARCH_STOP, SEARCH_ITERATIONS = Gap(1e-2), 500  # while a weight is only being tried
SEARCH_RANGE = 64  # about the weight of the noise: data that are nearly all noise want an ever larger one
LEAST_GAIN = 1e-4  # of the score: less is not worth another trial
WEIGHT_RULES = ("noise", "discrepancy", "heldout")


@checked
def tv(
    measurement: Measurement,
    *,
    weight: float | str = "heldout",
    constraint: Constraint = NONNEGATIVE,
    stop: Gap | None = None,
    initial: ArrayLike | None = None,
    seed: int = 0,
    **loop: Any,
) -> Reconstruction:
    """Total variation of each channel on its own; parameters as for `joint_tv`."""
    prior = _Prior(TotalVariation, {"coupling": "none"})
    return _solve(measurement, weight, constraint, prior, stop, initial, seed, Loop.from_keywords(loop))


@checked
def joint_tv(
    measurement: Measurement,
    *,
    weight: float | str = "heldout",
    coupling: str = "nuclear",
    constraint: Constraint = NONNEGATIVE,
    stop: Gap | None = None,
    initial: ArrayLike | None = None,
    seed: int = 0,
    **loop: Any,
) -> Reconstruction:
    """Total variation of all channels together, in 3-D, minimised until the primal-dual gap is small.

    Parameters
    ----------
    measurement : Measurement
    weight : float, "noise", "discrepancy" or "heldout"
        Of the total variation. ``"noise"``: `noise_weight` (no search); ``"discrepancy"``: such that chi-square per
        value is 1 (V. A. Morozov, 1966); ``"heldout"``: such that a random twentieth of the detector pixels, not
        fitted, is predicted best. Both are searched for within a factor of 64 of `noise_weight`; the result says if
        that was not enough (``weight_at_bound``).
    coupling : {"nuclear", "frobenius"}
        Norm of a voxel's Jacobian.
    constraint : Constraint
    stop : Gap, optional
        By default a relative gap of 1e-3.
    initial : array (C, Y, Z, X), optional
        By default a few iterations of SIRT.
    seed : int
        Of the choice of held-out pixels.
    **loop
        Fields of `Loop`: ``iterations``, ``callbacks``, ``checkpoint``, ...

    Examples
    --------
    >>> from softeels_utils.tomography import ParallelBeam
    >>> volume = np.zeros((2, 4, 16, 16), np.float32)
    >>> volume[0, :, 5:11, 4:9] = 1
    >>> tilts = np.linspace(-70, 70, 9)
    >>> fit = joint_tv(Measurement(ParallelBeam(16, tilts)(volume), tilts), weight=2.0)
    >>> fit.converged, bool(np.abs(fit.volume - volume).max() < 0.05)
    (True, True)
    """
    prior = _Prior(TotalVariation, {"coupling": check_coupling(coupling)})
    return _solve(measurement, weight, constraint, prior, stop, initial, seed, Loop.from_keywords(loop))


@checked
def tgv(
    measurement: Measurement,
    *,
    weight: float | str = "heldout",
    ratio: float = 2.0,
    coupling: str = "nuclear",
    constraint: Constraint = NONNEGATIVE,
    stop: Gap | None = None,
    initial: ArrayLike | None = None,
    seed: int = 0,
    **loop: Any,
) -> Reconstruction:
    """Total generalised variation of second order, all channels together; see `joint_tv` for the other parameters.

    Where volumes change gradually, total variation makes staircases. This does not, since it penalises only changes of
    slope there. Interfaces stay equally sharp.

    Parameters
    ----------
    ratio : float
        Weight of changes of slope relative to that of changes that the slope does not explain, in voxels. A large value
        gives joint total variation.

    References
    ----------
    K. Bredies, K. Kunisch & T. Pock, SIAM J. Imaging Sci. 3, 492 (2010); of several channels: F. Knoll et al., IEEE
    Trans. Med. Imaging 36, 1 (2017).

    Examples
    --------
    >>> from softeels_utils.tomography import ParallelBeam
    >>> volume = np.zeros((2, 4, 16, 16), np.float32)
    >>> volume[0, :, 5:11, 4:12] = np.linspace(0.2, 1, 8)  # a ramp, on which total variation makes stairs
    >>> tilts = np.linspace(-70, 70, 9)
    >>> fit = tgv(Measurement(ParallelBeam(16, tilts)(volume), tilts), weight=2.0)
    >>> fit.converged, bool(np.abs(fit.volume - volume).max() < 0.05)
    (True, True)
    """
    prior = _Prior(TotalGeneralizedVariation, {"coupling": check_coupling(coupling), "ratio": check_ratio(ratio)})
    return _solve(measurement, weight, constraint, prior, stop, initial, seed, Loop.from_keywords(loop))


def check_coupling(coupling: str) -> str:
    """The coupling; ValueError for one that does not exist."""
    if not isinstance(coupling, str) or coupling not in COUPLINGS[:2]:
        raise ValueError(f"coupling: got {coupling!r}, wants one of {COUPLINGS[:2]}")
    return coupling


def check_ratio(ratio: float) -> float:
    """The ratio; ValueError for one that is no number above 0."""
    check_positive(ratio=ratio)
    return float(ratio)


def check_weight(weight: float | str) -> float | str:
    """The weight; ValueError for one that is neither a rule nor a number of at least 0."""
    number = isinstance(weight, numbers.Real) and not isinstance(weight, bool) and 0 <= weight <= LARGEST
    if not number and not (isinstance(weight, str) and weight in WEIGHT_RULES):
        raise ValueError(f"weight: got {weight!r}, wants a number of at least 0, or one of {WEIGHT_RULES}")
    return weight


def _solve(measurement, weight, constraint, prior, stop, initial, seed, loop) -> Reconstruction:
    weight, constraint, stop = check_weight(weight), check_constraint(constraint), Gap() if stop is None else stop
    if not isinstance(stop, StopRule) or isinstance(stop, HeldOut):
        raise ValueError(f"stop: got {stop!r}, wants a rule such as Gap() (held-out pixels choose the weight)")
    start, seed = start_from(measurement, initial), check_seed(seed)
    measurement = measurement.as_gaussian()
    settings = ("tv", weight, constraint, prior.name, stop, seed)
    checkpoint = loop.open_checkpoint(measurement, *settings, initial=start)
    with torch.no_grad():
        start = short_sirt(measurement, constraint) if start is None else start
        problem = _Problem(measurement, constraint, prior, _typical(start), loop, checkpoint)
        warm_start, at_bound = None, False
        if weight == "noise":
            weight = noise_weight(measurement, start)
        elif weight == "heldout":
            fitted, held_out = measurement.split(HeldOut.fraction, seed)
            trials = _Trials(replace(problem, measurement=fitted), held_out, start)
            weight, at_bound = _minimum(trials, noise_weight(measurement, start))
        elif weight == "discrepancy":
            trials = _Trials(problem, measurement, start)
            weight, at_bound = _crossing(trials, noise_weight(measurement, start))
        scores = checkpoint.content["scores"]
        if scores:
            start, warm_start = trials.nearest(weight)
        solver = problem.solver(weight, start, warm_start)
        volume, record = iterate(solver, stop, loop, checkpoint=checkpoint, stage="total variation")
        scores = {float(w): score for w, score in scores.items()}
        chi2 = measurement.chi2(volume)
    record |= {"chi2": chi2, "weight": float(weight), "weight_at_bound": at_bound, "scores": scores}
    return Reconstruction(volume.cpu().numpy(), **record)


@dataclass(frozen=True)
class _Prior:
    """What is minimised beside the misfit: its solver and what that takes."""

    solver: type[TotalVariation]
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """Checkpoints know it by this."""
        return f"{self.solver.__name__}({self.options})"


@dataclass(frozen=True)
class _Problem:
    """All but the weight."""

    measurement: Measurement
    constraint: Constraint
    prior: _Prior
    unit: float
    loop: Loop
    checkpoint: Checkpoint

    def solver(self, weight, start, warm_start=None) -> TotalVariation:
        options = self.prior.options | {"warm_start": warm_start}
        return self.prior.solver(self.measurement, self.constraint, weight, start, self.unit, **options)


@dataclass
class _Trials:
    """Chi-square per value at weights tried so far; each starts where the nearest one ended."""

    problem: _Problem
    judged: Measurement
    start: torch.Tensor
    solved: dict = field(default_factory=dict)

    def nearest(self, weight):
        """(volume, solver) to start from."""
        if not self.solved:
            return self.start, None
        solver = min(self.solved.values(), key=lambda s: abs(np.log(s.weight / weight)))
        return solver.volume, solver

    def __call__(self, weight):
        weight, checkpoint = float(f"{weight:.6g}"), self.problem.checkpoint
        scores = checkpoint.content["scores"]
        if f"{weight:.6g}" not in scores:
            solver = self.problem.solver(weight, *self.nearest(weight))
            loop = self.problem.loop
            quiet = Loop(max_iterations=min(loop.max_iterations, SEARCH_ITERATIONS), progress=loop.progress)
            iterate(solver, SEARCH_STOP, quiet, stage=f"weight {weight:.3g}")
            scores[f"{weight:.6g}"] = self.judged.chi2(solver.volume)
            self.solved[weight] = solver
            best = float(min(scores, key=scores.get))
            while len(self.solved) > 3:  # the field of a large volume is large
                self.solved.pop(max(self.solved, key=lambda w: abs(np.log(w / best))))
            if checkpoint.due():
                checkpoint.write()
        return scores[f"{weight:.6g}"]


@checked
def short_sirt(
    measurement: Measurement, constraint: Constraint = NONNEGATIVE, iterations: int = WARM_START
) -> torch.Tensor:
    """A few iterations of SIRT: an initial volume, tensor (C, Y, Z, X)."""
    check_kind(measurement, "measurement", Measurement)
    check_constraint(constraint)
    check_count(iterations, "iterations")
    with torch.no_grad():
        solver = SIRT(measurement.as_gaussian(), constraint)
        for _ in range(iterations):
            solver.step()
    return solver.volume


@checked
def noise_weight(measurement: Measurement, volume: torch.Tensor) -> float:
    """Weight of the total variation at which noise alone would be flattened.

    The RMS, over the specimen's voxels, of the gradient of the data term if residuals are pure noise with the stated
    errors.

    Parameters
    ----------
    measurement : Measurement
    volume : tensor (C, Y, Z, X)
        Shows where the specimen is.
    """
    check_kind(measurement, "measurement", Measurement)
    check_volume(volume, measurement.volume_shape)
    measurement, generator = measurement.as_gaussian(), torch.Generator().manual_seed(0)
    shape, dtype = measurement.projections.shape, measurement.projections.dtype
    noise = torch.randn(shape, generator=generator, dtype=dtype).to(measurement.device)
    where = volume.abs().sum(0)
    slope = (measurement.adjoint(noise) ** 2).mean(0)
    return float((slope * where).sum() / where.sum().clamp_min(1e-30)) ** 0.5


def _crossing(score, weight, target=1.0):
    """(weight at which a growing score is ``target``, whether it lies beyond the range of the search).

    To 2 % of the score or 5 % of the weight.
    """
    low, high, least, most = weight, weight, weight / SEARCH_RANGE, weight * SEARCH_RANGE
    while score(low) > target and low > least:
        high, low = low, low / 4
    while score(high) <= target and high < most:
        low, high = high, high * 4
    if score(low) > target or score(high) <= target:
        return (low if score(low) > target else high), True
    for _ in range(8):
        a, b = score(low), score(high)
        if high / low < 1.05 or min(target - a, b - target) < 0.01 * target:
            break
        # Regula falsi in the logarithms, kept off the ends so that it cannot stall.
        part = np.clip((np.log(target) - np.log(a)) / (np.log(b) - np.log(a)), 0.15, 0.85)
        middle = low * (high / low) ** part
        low, high = (middle, high) if score(middle) <= target else (low, middle)
    return (low if target - score(low) < score(high) - target else high), False


def _minimum(score, weight):
    """(weight of the lowest score, whether it lies beyond the range of the search).

    On a grid of factors 2 and then √2 about the best.
    """
    factor = 0.5 if score(weight / 2) < score(weight) else 2.0
    best, most = weight, SEARCH_RANGE
    while most > 1 and score(best * factor) < (1 - LEAST_GAIN) * score(best):
        best, most = best * factor, most / 2
    return min((best / np.sqrt(2), best, best * np.sqrt(2)), key=score), most <= 1


def _typical(volume):
    """The value that volumes reach: the 99.5th percentile of the largest channel, to set step sizes."""
    values = [np.quantile(c, 0.995) for c in volume.abs().cpu().numpy().reshape(len(volume), -1)]
    return max(float(max(values)), 1e-12)
