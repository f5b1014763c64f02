"""Conjugate gradients for least squares."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import ArrayLike

from ..doors import checked
from .constraint import FREE, Constraint
from .iterate import Loop, Reconstruction
from .measurement import Measurement
from .sirt import default_stop, solve_algebraic
from .stopping import StopRule

__all__ = ["CGLS", "cgls"]


@checked
def cgls(
    measurement: Measurement, *, stop: StopRule | None = None, initial: ArrayLike | None = None, **loop: Any
) -> Reconstruction:
    r"""Conjugate gradients for :math:`\min_v \lVert L(Av - p) \rVert^2`, without constraints.

    Early stopping regularises. Å. Björck, *Numerical Methods for Least Squares Problems* (SIAM, 1996), sec. 7.4.

    Parameters
    ----------
    measurement : Measurement
    stop : StopRule, optional
        `Discrepancy` where the noise is known, else `Change`; or `HeldOut`.
    initial : array (C, Y, Z, X), optional
    **loop
        Fields of `Loop`: ``iterations``, ``callbacks``, ``checkpoint``, ...
    """
    loop, stop = Loop.from_keywords(loop), default_stop(measurement) if stop is None else stop
    return solve_algebraic(CGLS, measurement.as_gaussian(), FREE, stop, initial, loop)


class CGLS:
    """The iteration of `cgls`, preconditioned by the column sums of ``|L| A``."""

    def __init__(self, measurement: Measurement, constraint: Constraint = FREE, initial: torch.Tensor | None = None):
        self.measurement = measurement
        volume = measurement.projections.new_zeros(measurement.volume_shape) if initial is None else initial.clone()
        columns = measurement.sums()[1]
        self.scale = torch.where(columns > 1e-6 * columns.max(), columns.clamp_min(1e-30).rsqrt(), 0)
        residual = -measurement.residual(volume)
        gradient = self.scale * measurement.adjoint(residual)
        square = (gradient**2).sum(dtype=torch.float64)
        self.state = {
            "volume": volume, "residual": residual, "direction": gradient, "square": square, "first": square.clone(),
        }  # fmt: skip

    @property
    def volume(self) -> torch.Tensor:
        """Where it is."""
        return self.state["volume"]

    def step(self, measure: bool = False) -> dict:
        """One iteration; returns chi-square per value of the volume before it."""
        s, m = self.state, self.measurement
        chi2 = float((s["residual"] ** 2).sum(dtype=torch.float64)) / max(m.size, 1)
        update = self.scale * s["direction"]
        image = m.forward(update)
        length = (image**2).sum(dtype=torch.float64)
        if length == 0:
            return {"chi2": chi2, "gap": 0.0}
        alpha = (s["square"] / length).to(update.dtype)
        s["volume"] = s["volume"] + alpha * update
        s["residual"] = s["residual"] - alpha * image
        gradient = self.scale * m.adjoint(s["residual"])
        square = (gradient**2).sum(dtype=torch.float64)
        s["direction"] = gradient + (square / s["square"]).to(update.dtype) * s["direction"]
        s["square"] = square
        # The relative residual of the normal equations stands in for the gap: 0 at the least-squares solution.
        return {"chi2": chi2, "gap": float((square / s["first"]).sqrt())}
