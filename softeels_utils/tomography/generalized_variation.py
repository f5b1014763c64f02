"""Total generalised variation of second order, and the primal-dual method that minimises with it."""

from __future__ import annotations

import torch

from .constraint import Constraint
from .measurement import Measurement
from .total_variation import (
    RELAXATION,
    TotalVariation,
    field_norm,
    gradient,
    gradient_transpose,
    project_dual,
)

__all__ = ["TotalGeneralizedVariation", "symmetrized_gradient", "symmetrized_gradient_transpose"]

PAIRS = ((0, 1), (0, 2), (1, 2))  # of axes: the components off the diagonal
ROOT = 2**0.5
SECOND_STEP = 1.0  # of the second dual field, in parts of ratio times that of the first


class TotalGeneralizedVariation(TotalVariation):
    r"""Minimise half the chi-square plus a total generalised variation of second order over a constraint set.

    .. math:: \min_{v \in S,\, w}\; \tfrac12 \lVert L(Av - p) \rVert^2
        + \lambda \Big( \sum_{voxels} \lVert \nabla v - w \rVert + \rho \sum_{voxels} \lVert \mathcal{E} w \rVert \Big),
        \qquad \mathcal{E} w = \tfrac12 (\nabla w + \nabla w^T)

    The slope w follows v where it changes evenly, and what is penalised there is only the change of the slope: volumes
    that are linear cost nothing, where total variation makes stairs of them. The larger the ratio ρ, the nearer to
    total variation. Channels are coupled by the norm of the 3 × C matrix of a voxel, and by that of the 6 × C matrix
    of the second term, as in `TotalVariation`; differences are forward in the first and backward in the second.

    Solved as there. The gap is a restricted one: it takes the slope of the solution to be nowhere steeper than the
    volume is at its steepest.

    K. Bredies, K. Kunisch & T. Pock, SIAM J. Imaging Sci. 3, 492 (2010); of several channels: F. Knoll et al., IEEE
    Trans. Med. Imaging 36, 1 (2017).

    Parameters
    ----------
    measurement, constraint, weight, initial, unit, coupling, warm_start
        See `TotalVariation`.
    ratio : float
        ρ, above 0, in voxels.
    """

    row_sum = 3

    def __init__(
        self,
        measurement: Measurement,
        constraint: Constraint,
        weight: float,
        initial: torch.Tensor,
        unit: float = 1.0,
        coupling: str = "nuclear",
        warm_start: TotalGeneralizedVariation | None = None,
        ratio: float = 2.0,
    ):
        super().__init__(measurement, constraint, weight, initial, unit, coupling, warm_start)
        self.ratio = float(ratio)
        # Absolute values of the second operator add up to at most 2 √2 in a row and 2 + 2 √2 in a column.
        self.second_step = SECOND_STEP * self.ratio * self.gradient_step
        self.slope_step = 1 / (self.row_sum * self.gradient_step + 2 * ROOT * (2 + 2 * ROOT) * self.second_step)
        z = self.state["z"]
        slope, second = z.new_zeros(z.shape), z.new_zeros((6, *z.shape[1:]))
        if warm_start is not None and warm_start.weight > 0:
            slope = warm_start.state["w"].clone()
            second = warm_start.state["q"] * (self.weight / warm_start.weight)
        self.state |= {"w": slope, "w_ahead": slope.clone(), "q": second}
        self._second = torch.empty_like(second)

    def step(self, measure: bool = False) -> dict:
        """One iteration; with ``measure`` also the objective and the relative primal-dual gap."""
        s, (field, image), m = self.state, self._work, self.measurement
        x, y, z, q = s["x"], s["y"], s["z"], s["q"]
        change = gradient_transpose(z, image).add_(m.adjoint(y))
        volume = self.constraint(torch.addcmul(x, self.step_size, change, value=-1))
        change = symmetrized_gradient_transpose(q, field).sub_(z)
        slope = s["w_ahead"].add(change, alpha=-self.slope_step)
        ahead, slope_ahead = 2 * volume - x, 2 * slope - s["w_ahead"]
        new_y = (y + self.dual_step * m.residual(ahead)) / (1 + self.dual_step)
        new_z = _rest(ahead, slope_ahead, field).mul_(self.gradient_step).add_(z)
        project_dual(new_z, self.weight, self.coupling)
        new_q = symmetrized_gradient(slope_ahead, self._second).mul_(self.second_step).add_(q)
        project_dual(new_q, self.ratio * self.weight, self.coupling)
        result = self._measure_all(volume, slope, new_y, new_z, new_q) if measure else {}
        s["volume"], s["w"] = volume, slope
        s["x"], s["y"] = x.lerp(volume, RELAXATION), y.lerp(new_y, RELAXATION)
        s["w_ahead"].lerp_(slope, RELAXATION)
        z.lerp_(new_z, RELAXATION)
        q.lerp_(new_q, RELAXATION)
        return result

    def _measure_all(self, volume, slope, y, z, q):
        """Objective and gap; the dual's constraint z = Eᵀq holds only in the end, and costs until then."""
        first = field_norm(_rest(volume, slope), self.coupling)
        second = field_norm(symmetrized_gradient(slope), self.coupling)
        result = self._measure(volume, y, z, self.weight * (first + self.ratio * second))
        steepest = float(gradient(volume).abs().max())
        violation = float((symmetrized_gradient_transpose(q) - z).abs().sum(dtype=torch.float64))
        result["gap"] += steepest * violation / max(abs(result["objective"]), 1e-30)
        return result


def symmetrized_gradient(field: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Symmetric part of the backward differences of a field (3, C, Y, Z, X), 0 at the near side: (6, C, Y, Z, X).

    The diagonal along Y, Z, X, then YZ, YX, ZX times √2, so that the norm of the six is that of the 3 × 3 matrix.
    """
    out = field.new_zeros((6, *field.shape[1:])) if out is None else out.zero_()
    for row, (axis, component, factor) in _entries():
        n = field.shape[axis]
        part = out[row].narrow(axis, 1, n - 1)
        part.add_(field[component].narrow(axis, 1, n - 1), alpha=factor)
        part.sub_(field[component].narrow(axis, 0, n - 1), alpha=factor)
    return out


def symmetrized_gradient_transpose(second: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """The transpose of `symmetrized_gradient`."""
    out = second.new_zeros((3, *second.shape[1:])) if out is None else out.zero_()
    for row, (axis, component, factor) in _entries():
        n = second.shape[axis]
        part = second[row].narrow(axis, 1, n - 1)
        out[component].narrow(axis, 1, n - 1).add_(part, alpha=factor)
        out[component].narrow(axis, 0, n - 1).sub_(part, alpha=factor)
    return out


def _entries():
    """(row, (axis of the difference, component of the field, factor)) of all differences."""
    for d in range(3):
        yield d, (d - 3, d, 1.0)
    for k, (i, j) in enumerate(PAIRS):
        yield 3 + k, (i - 3, j, 1 / ROOT)
        yield 3 + k, (j - 3, i, 1 / ROOT)


def _rest(volume, slope, out=None):
    """``gradient(volume) - slope``, 0 at the far side, where the gradient is not known: the slope is free there."""
    out = gradient(volume, out)
    for d, axis in enumerate((-3, -2, -1)):
        n = volume.shape[axis]
        out[d].narrow(axis, 0, n - 1).sub_(slope[d].narrow(axis, 0, n - 1))
    return out
