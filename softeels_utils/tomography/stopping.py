"""When an iterative algorithm is done: rules that look at the run, and never at a truth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from ..checks import check_count, check_number, check_positive, check_seed
from ..doors import checked

__all__ = ["Change", "Discrepancy", "Gap", "HeldOut", "IterationInfo", "StopRule"]


@checked(volume="C Y Z X")
@dataclass(frozen=True)
class IterationInfo:
    """What stopping rules and callbacks see of a run, every few iterations.

    Attributes
    ----------
    iteration, iterations : int
        Done so far, and the maximum planned.
    volume : array (C, Y, Z, X)
    chi2 : float
        Chi-square per fitted value (SIRT, CGLS: of the volume before this iteration); NaN where not computed.
    heldout, heldout_best, heldout_before : float
        Chi-square per held-out value: now, the lowest so far, and the lowest in the first half of the iterations
        (NaN: none held out).
    objective, gap : float
        Objective and relative primal-dual gap (total variation), or relative residual of the normal equations (CGLS);
        NaN elsewhere.
    change : float
        Relative change of the volume since the previous call.
    best_iteration : int
        Iteration at which held-out values were predicted best.
    seconds : float
        Time since the run began.
    """

    iteration: int
    volume: np.ndarray | None
    iterations: int = 0
    chi2: float = np.nan
    heldout: float = np.nan
    heldout_best: float = np.nan
    heldout_before: float = np.nan
    objective: float = np.nan
    gap: float = np.nan
    change: float = np.nan
    best_iteration: int = 0
    seconds: float = 0.0


@checked
class StopRule(ABC):
    """Base class: called with the `IterationInfo` (its ``volume`` is None), returns the reason to stop or an empty
    string.

    ``every`` is the number of iterations between calls. A rule with ``watches_chi2`` is called after every iteration
    for which the solver computes chi-square.
    """

    every = 10
    watches_chi2 = False

    def __repr__(self) -> str:  # the same in every process: checkpoints know a rule by it
        return f"{type(self).__name__}({vars(self)})"

    @abstractmethod
    def __call__(self, info: IterationInfo) -> str: ...


def _check_tolerance(tolerance):
    check_positive(tolerance=tolerance)


@checked
@dataclass(frozen=True)
class Gap(StopRule):
    """Stop when the relative primal-dual gap, which bounds the distance to the minimum, is at most ``tolerance``."""

    tolerance: float = 1e-3
    every = 20

    def __post_init__(self):
        _check_tolerance(self.tolerance)

    def __call__(self, info: IterationInfo) -> str:
        return "primal-dual gap" if info.gap <= self.tolerance else ""


@checked
@dataclass(frozen=True)
class Change(StopRule):
    """Stop when ten iterations change the volume by at most ``tolerance`` (relative) or the equations are solved."""

    tolerance: float = 1e-3

    def __post_init__(self):
        _check_tolerance(self.tolerance)

    def __call__(self, info: IterationInfo) -> str:
        if info.change <= self.tolerance:
            return "relative change"
        return "normal equations solved" if info.gap <= 1e-6 else ""


@checked
@dataclass(frozen=True)
class Discrepancy(StopRule):
    """Stop when chi-square per value is at most 1 (V. A. Morozov, 1966); like `Change` if that is never reached."""

    tolerance: float = 1e-3
    watches_chi2 = True

    def __post_init__(self):
        _check_tolerance(self.tolerance)

    def __call__(self, info: IterationInfo) -> str:
        return "discrepancy principle" if info.chi2 <= 1 else Change(self.tolerance)(info)


@checked
@dataclass(frozen=True)
class HeldOut(StopRule):
    """Stop when the prediction of detector pixels that are not fitted has hardly improved for some time.

    That time grows with the run: what counts is the gain over the last half of the iterations. A short plateau says
    little, since SIRT gains as much from iteration 500 to 1,000 as from 50 to 100; and a run that overfits at iteration
    20 ends at 40. The first iteration that predicts the pixels as well as the best one, within one standard error of
    the difference, is chosen, and that number of iterations is then done with all pixels.

    Attributes
    ----------
    fraction : float
        Fraction of the detector pixels that is held out.
    gain : float
        The run ends when their chi-square fell by less than this fraction over the last half of the iterations.
    least : int
        Iterations before the run may end. None before a third of the best iteration is chosen.
    tolerance : float
        The run also ends when the volume changes by less than a tenth of this.
    seed : int
        Of the choice of pixels.
    """

    fraction: float = 0.05
    gain: float = 1e-3
    least: int = 20
    tolerance: float = 1e-3
    seed: int = 0
    every = 2

    def __post_init__(self):
        _check_tolerance(self.tolerance)
        check_number(self.fraction, "fraction", 0, 1)
        check_number(self.gain, "gain", 0, 1)
        check_count(self.least, "least")
        check_seed(self.seed)
        if not 0 < self.fraction < 1 or self.gain == 1:
            wanted = "fraction and gain between 0 and 1, and at least one iteration"
            raise ValueError(f"HeldOut: got {self}, wants {wanted}")

    def __call__(self, info: IterationInfo) -> str:
        waited = info.iteration >= self.least and info.heldout_best >= (1 - self.gain) * info.heldout_before
        return "held-out pixels" if waited or info.change <= self.tolerance / 10 else ""
