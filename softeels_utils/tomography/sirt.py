"""Simultaneous iterative reconstruction technique."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..doors import checked
from .constraint import NONNEGATIVE, Constraint, check_constraint
from .eigen import eigvalsh
from .iterate import HeldOutPixels, Loop, Reconstruction, iterate, start_from
from .losses import apply_per_pixel
from .measurement import Measurement
from .stopping import Change, Discrepancy, Gap, HeldOut, StopRule

__all__ = ["SIRT", "default_stop", "sirt", "solve_algebraic"]


@checked
def sirt(
    measurement: Measurement,
    *,
    constraint: Constraint = NONNEGATIVE,
    stop: StopRule | None = None,
    initial: ArrayLike | None = None,
    **loop: Any,
) -> Reconstruction:
    """Simultaneous iterative reconstruction technique, projected onto the constraint (see `SIRT`).

    Parameters
    ----------
    measurement : Measurement
    constraint : Constraint
    stop : StopRule, optional
        `Discrepancy` where the noise is known, else `Change`; or `HeldOut`.
    initial : array (C, Y, Z, X), optional
        Start: ``3 × 10`` iterations, each from the last volume, are 30.
    **loop
        Fields of `Loop`: ``iterations``, ``callbacks``, ``checkpoint``, ...
    """
    loop, constraint = Loop.from_keywords(loop), check_constraint(constraint)
    if isinstance(stop, Gap):
        raise ValueError(f"stop: got {stop!r}, wants another rule (SIRT knows no gap)")
    stop = default_stop(measurement) if stop is None else stop
    return solve_algebraic(SIRT, measurement.as_gaussian(), constraint, stop, initial, loop)


def default_stop(measurement: Measurement, tolerance: float = 1e-3) -> StopRule:
    """`Discrepancy` where the noise is known, else `Change`."""
    start_from(measurement, None)  # checks it
    return Discrepancy(tolerance) if measurement.noise_is_known else Change(tolerance)


def solve_algebraic(solver, measurement, constraint, stop, initial, loop) -> Reconstruction:
    """Run `SIRT` or `CGLS` until the stop rule ends it.

    Held-out pixels choose the number of iterations, which are then done again with all pixels.
    """
    if not isinstance(stop, StopRule):
        raise ValueError(f"stop: got {stop!r}, wants a stop rule such as Discrepancy()")
    start, name = start_from(measurement, initial), solver.__name__.lower()
    checkpoint = loop.open_checkpoint(measurement, name, constraint, stop, initial=start)
    with torch.no_grad():
        chosen, stage = {}, name
        if isinstance(stop, HeldOut) and loop.iterations is None:
            chosen = _choose_iterations(solver, measurement, constraint, stop, start, loop, checkpoint)
            loop, stage = replace(loop, iterations=chosen["iteration"], callbacks=()), f"{name} of all pixels"
        algorithm = solver(measurement, constraint, start)
        volume, record = iterate(algorithm, stop, loop, checkpoint=checkpoint, stage=stage)
        return Reconstruction(volume.cpu().numpy(), chi2=measurement.chi2(volume), **record | chosen)


def _choose_iterations(solver, measurement, constraint, stop, start, loop, checkpoint) -> dict:
    """The record of a run without the held-out pixels, with the iteration that they choose."""
    known = checkpoint.content.get("held out")
    if known is None or not (known["converged"] or known["most"] == loop.max_iterations):
        fitted, rest = measurement.split(stop.fraction, stop.seed)
        if not rest.size:
            raise ValueError(f"stop: got {stop!r}, which holds out no measured pixel, wants a larger fraction")
        pixels, algorithm = HeldOutPixels(rest), solver(fitted, constraint, start)
        _, known = iterate(algorithm, stop, loop, checkpoint=checkpoint, stage="held-out pixels", held_out=pixels)
        known |= {"iteration": pixels.choose(), "most": loop.max_iterations}
        checkpoint.content["held out"] = known | {"history": {k: v.tolist() for k, v in known["history"].items()}}
    history = {name: np.asarray(values) for name, values in known["history"].items()}
    return {name: known[name] for name in ("iteration", "converged", "reason")} | {"history": history}


class SIRT:
    r"""The iteration of SIRT, projected onto the constraint.

    .. math:: v \leftarrow P\,[\,v + C A^T R M (p - A v)\,]

    with R the inverse row sums of A, M a pixel's inverse covariance relative to that of the mean pixel
    (1 if all are equal, 0 where not measured), C the inverse of :math:`A^T` applied to M's largest eigenvalues, and P
    the projection onto the constraint. A covariance that is the same everywhere drops out, as it does from every
    least-squares problem in which all channels see the same A (J. Gregor & T. Benson, IEEE Trans. Med. Imaging 27,
    918 (2008)).
    """

    def __init__(self, measurement: Measurement, constraint: Constraint, initial: torch.Tensor | None = None):
        self.measurement, self.constraint = measurement, constraint
        A, size = measurement.projector, measurement.projector.voxel_size_nm
        volume = measurement.projections.new_zeros(measurement.volume_shape) if initial is None else initial.clone()
        self.precision, largest = _relative_precision(measurement)
        rows = A(volume.new_ones((1, *volume.shape[1:])))
        self.by_row = torch.where(rows > 1e-3 * size, 1 / rows.clamp_min(1e-6 * size), 0)
        columns = A.T(largest)
        self.by_column = torch.where(columns > 1e-4 * size, 1 / columns.clamp_min(1e-6 * size), 0)
        self.state = {"volume": volume}

    @property
    def volume(self) -> torch.Tensor:
        """Where it is."""
        return self.state["volume"]

    def step(self, measure: bool = False) -> dict:
        """One iteration; returns chi-square per value of the volume before it."""
        m, volume = self.measurement, self.volume
        residual = torch.where(m.used, m.projections - m.projector(volume), 0)
        change = self.by_row * apply_per_pixel(self.precision, residual)
        update = m.projector.T(change).mul_(self.by_column)
        self.state["volume"] = self.constraint(update.add_(volume))
        return {"chi2": float((m.loss.whiten(residual) ** 2).sum(dtype=torch.float64)) / max(m.size, 1)}


def _relative_precision(measurement):
    """(M, its largest eigenvalue): M = mean(W)⁻¹ W with W = Lᵀ L, over the measured pixels."""
    L, used = measurement.loss.whitener, measurement.used
    pixels = used.any(0)
    if L[0, 0].numel() == 1:
        return torch.eye(len(L), dtype=L.dtype, device=L.device)[..., None, None, None], pixels[None].to(L.dtype)
    W = torch.einsum("ki...,kj...->ij...", L, L)
    mean = (W * pixels).flatten(2).sum(-1).double() / pixels.sum().clamp_min(1)
    values, vectors = torch.linalg.eigh(mean)
    root = (vectors * values.clamp_min(1e-300).rsqrt()) @ vectors.T  # mean^(-1/2)
    root = root.to(L.dtype)
    M = torch.einsum("ij,jk,kl...->il...", root, root, W)
    symmetric = torch.einsum("ij,jk...,kl->il...", root, W, root)
    if len(L) == 1:
        largest = symmetric[0]
    else:
        largest = eigvalsh(symmetric.movedim((0, 1), (-2, -1)))[..., -1][None]
    return M, (largest * pixels).clamp_min(0)
