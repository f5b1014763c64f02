"""Sets that a volume may be held to: bounds on each value, or volume fractions that add up to at most one."""

from __future__ import annotations

import hashlib
import numbers
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike

from ..checks import LARGEST, check_flag, describe
from ..doors import checked

__all__ = ["FREE", "NONNEGATIVE", "SIMPLEX", "Constraint", "ConstraintAbout", "check_constraint"]


@checked
@dataclass(frozen=True)
class Constraint:
    """``lower <= v <= upper``; with ``simplex`` instead ``v >= 0`` and the channels of a voxel sum to at most 1.

    Calling it projects a volume (C, ...) onto the set.
    """

    lower: float | None = 0.0
    upper: float | None = None
    simplex: bool = False

    def __post_init__(self):
        bounds = [bound for bound in (self.lower, self.upper) if bound is not None]
        if not all(isinstance(bound, numbers.Real) and abs(bound) <= LARGEST for bound in bounds):
            got = (self.lower, self.upper)
            raise ValueError(f"bounds: got (lower, upper) = {got}, wants numbers up to {LARGEST:g} or None")
        if len(bounds) == 2 and not bounds[0] < bounds[1]:
            got = (self.lower, self.upper)
            raise ValueError(f"bounds: got (lower, upper) = {got}, wants (low, high), low < high, finite or None")
        check_flag(self.simplex, "simplex")

    def __call__(self, volume: torch.Tensor) -> torch.Tensor:
        if not self.simplex:
            return volume if self.lower is self.upper is None else volume.clamp(self.lower, self.upper)
        result = volume.clamp_min(0)
        over = result.sum(0) > 1
        if over.any():
            values = volume[:, over]
            ordered = values.sort(0, descending=True).values
            rank = torch.arange(1, len(values) + 1, dtype=values.dtype, device=values.device)[:, None]
            excess = (ordered.cumsum(0) - 1) / rank
            last = (ordered > excess).sum(0, keepdim=True) - 1
            result[:, over] = (values - excess.gather(0, last)).clamp_min(0)
        return result

    def support(self, slope: torch.Tensor, volume: torch.Tensor) -> float:
        """``max <slope, v>`` over the set. An unbounded side is closed at twice the volume's largest magnitude (a
        restricted gap).
        """
        if self.simplex:
            return float(slope.amax(0).clamp_min(0).sum(dtype=torch.float64))
        reach = 2 * float(volume.abs().max()) + 1e-12
        lower = -reach if self.lower is None else self.lower
        upper = max(reach, lower) if self.upper is None else self.upper
        best = torch.where(slope > 0, slope * upper, slope * lower)
        return float(best.sum(dtype=torch.float64))

    def about(self, volume: ArrayLike | torch.Tensor) -> ConstraintAbout:
        """The same set as seen from a volume (C, Y, Z, X) in it: all corrections r with volume + r in the set.

        A correction is thus solved for inside the set. Projecting it onto the set afterwards would not give a solution.

        Examples
        --------
        >>> volume = torch.tensor([[0.0, 0.3, 0.9]])
        >>> NONNEGATIVE.about(volume)(torch.tensor([[-1.0, -1.0, -0.5]]))
        tensor([[ 0.0000, -0.3000, -0.5000]])
        """
        centre = torch.as_tensor(volume)
        if not centre.is_floating_point() or not centre.isfinite().all():
            raise ValueError(f"volume: got {centre.dtype} or not finite values, wants finite floats")
        return ConstraintAbout(self.lower, self.upper, self.simplex, centre)


@dataclass(frozen=True, repr=False, eq=False)
class ConstraintAbout(Constraint):
    """What `Constraint.about` returns: projection ``P(centre + r) - centre`` of a correction r.

    It never leaves bounds at 0 by rounding: ``centre + r`` is at least 0.
    """

    centre: torch.Tensor | None = None

    __eq__, __hash__ = object.__eq__, object.__hash__

    def __repr__(self) -> str:  # the same for the same set: checkpoints know it by this
        digest = hashlib.sha256(self.centre.cpu().contiguous().numpy().tobytes()).hexdigest()
        return f"{Constraint(self.lower, self.upper, self.simplex)}.about({tuple(self.centre.shape)} {digest})"

    def __call__(self, volume: torch.Tensor) -> torch.Tensor:
        centre = self._beside(volume)
        return super().__call__(centre + volume) - centre

    def support(self, slope: torch.Tensor, volume: torch.Tensor) -> float:
        """``max <slope, r>`` over the set."""
        centre = self._beside(volume)
        return super().support(slope, centre + volume) - float((slope * centre).sum(dtype=torch.float64))

    def about(self, volume: ArrayLike | torch.Tensor) -> ConstraintAbout:
        """Seen from a correction in the set."""
        return super().about(self.centre + torch.as_tensor(volume))

    def _beside(self, volume):
        if volume.shape != self.centre.shape:
            raise ValueError(f"constraint: got one about {tuple(self.centre.shape)}, wants {tuple(volume.shape)}")
        return self.centre.to(volume)


def check_constraint(constraint: Constraint) -> Constraint:
    """The constraint; ValueError for anything else."""
    if not isinstance(constraint, Constraint):
        raise ValueError(f"constraint: got {describe(constraint)}, wants a Constraint such as NONNEGATIVE or SIMPLEX")
    return constraint


FREE = Constraint(None, None)
NONNEGATIVE = Constraint(0.0, None)
SIMPLEX = Constraint(0.0, None, simplex=True)
