"""Geometry of a tilt series, refined inside the fit: shifts and the direction of the tilt axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..checks import check_count, check_flag
from ..doors import checked
from .constraint import NONNEGATIVE, Constraint
from .iterate import start_from
from .measurement import Measurement
from .stopping import Gap
from .tv import joint_tv

__all__ = ["Geometry", "refine_geometry"]

MEMORY = 4  # rounds that the next step is extrapolated from
LEAST_PX, LARGEST_PX = 0.02, 3.0  # of a step, at the rim of the specimen
# What joint TV's prior may pull the axis by, pixels at the rim, and what statistical errors are too small by: found on
# 40 drawn specimens of 48³ voxels.
PULL_PX, ERROR_FACTOR = 0.1, 2.0
USUAL = 0.25  # part of what is missing that a step makes, where the steps do not tell


@checked(shifts_px="T 2")
@dataclass(frozen=True)
class Geometry:
    """Position of each projection, and direction of the tilt axis, see `refine_geometry`.

    Attributes
    ----------
    shifts_px : array (T, 2)
        ``(dy, dx)`` by which each projection is displaced.
    axis_angle_deg, axis_angle_error_deg : float
        Angle of the tilt axis on the detector, from +Y towards +X, and its standard error.
    last_px : float
        Largest displacement, at the rim of the specimen, in the last step: the distance from a fixed point, not from
        the truth.
    """

    shifts_px: NDArray
    axis_angle_deg: float
    axis_angle_error_deg: float
    last_px: float

    def applied_to(self, measurement: Measurement) -> Measurement:
        """The measurement with this geometry."""
        return measurement.with_geometry(shifts_px=self.shifts_px, axis_angle_deg=self.axis_angle_deg)


@checked
def refine_geometry(
    measurement: Measurement,
    *,
    axis_angle: bool = True,
    constraint: Constraint = NONNEGATIVE,
    rounds: int = 16,
) -> Geometry:
    """Refine shifts and the direction of the tilt axis inside the fit.

    Alternately, the series is reconstructed by joint TV with the current geometry, and the geometry takes one
    Gauss-Newton step, from how the whitened residuals of all channels change with it. A volume that fits a wrong
    geometry absorbs most of the error, so that plain alternation is slow; the next geometry is extrapolated from the
    last few steps (Anderson acceleration; H. F. Walker & P. Ni, SIAM J. Numer. Anal. 49, 1715 (2011)). The prior that
    volumes are piecewise flat makes the error visible: after SIRT, the residuals contain next to nothing about the
    geometry.

    A translation of the specimen as a whole, which no series can reveal, is left as it is. So are the tilts: with nine
    of them, errors of half a degree cannot be told from the specimen's shape.

    Parameters
    ----------
    measurement : Measurement
        With the initial geometry, such as `align` finds; the shifts may be off by a few pixels, the axis by about five
        degrees.
    axis_angle : bool
        Refine the direction of the tilt axis.
    constraint : Constraint
        For joint TV.
    rounds : int
        At most.

    Returns
    -------
    Geometry

    Raises
    ------
    ValueError
        For images of fewer than 3 rows or columns, or with too little contrast to see them move.

    Examples
    --------
    >>> from softeels_utils import tomography
    >>> A = tomography.ParallelBeam(16, np.linspace(-70, 70, 9), axis_angle_deg=2.0)
    >>> cube = np.zeros((1, 16, 16, 16), np.float32)
    >>> cube[:, 4:11, 5:12, 4:11] = 1
    >>> seen = tomography.Measurement(A(cube), A.tilt_angles_deg, covariance=[0.01])
    >>> tomography.refine_geometry(seen).axis_angle_deg > 1
    True
    """
    start_from(measurement, None)  # checks it
    check_flag(axis_angle, "axis_angle")
    check_count(rounds, "rounds")
    seen, start = measurement.as_gaussian(), measurement.projector
    if min(seen.projections.shape[2:]) < 3:
        size = tuple(seen.projections.shape[2:])
        raise ValueError(f"measurement: got images of {size} pixels, wants at least 3 rows and columns")
    volume, past = None, []
    parameters = _Parameters(start, axis_angle, seen.projections.shape[2:])
    x = np.zeros(parameters.size)
    for _ in range(rounds):
        here = seen.with_geometry(**parameters.geometry(x))
        options = {"weight": "noise", "constraint": constraint, "stop": Gap(5e-3), "initial": volume, "progress": False}
        volume = joint_tv(here, **options).volume
        step, deviation = parameters.step(here, volume)
        past = [*past[-MEMORY:], (x, step)]
        change = step if len(past) < 2 else _extrapolated(past) - x
        x = x + change * min(1.0, LARGEST_PX / max(np.abs(change).max(), 1e-12))
        last = float(np.abs(change).max())
        if last < LEAST_PX and len(past) > 2:
            break
    geometry = parameters.geometry(x)
    return Geometry(**geometry, axis_angle_error_deg=parameters.angle_error(past, deviation), last_px=last)


class _Parameters:
    """Shifts (2 T) and the angle of the axis, all as displacements in pixels at the rim of the specimen."""

    def __init__(self, start, axis_angle, shape):
        self.start, self.n = start, start.n_tilts
        self.rim = np.rad2deg(3 / min(shape))  # degrees that turn the rim, a third of the image away, by a pixel
        self.size = 2 * self.n + 1
        self.free = np.arange(self.size) < self.size - (not axis_angle)
        angle = np.deg2rad(start.tilt_angles_deg)
        along = np.array([np.ones(self.n), np.zeros(self.n), np.zeros(self.n)])  # translations of the specimen: along
        across = np.array([np.zeros(self.n), np.cos(angle), np.sin(angle)])  # the tilt axis, and across it
        cos, sin = np.cos(np.deg2rad(start.axis_angle_deg)), np.sin(np.deg2rad(start.axis_angle_deg))
        moved = np.stack([cos * along - sin * across, sin * along + cos * across], axis=-1).reshape(3, -1)
        self.unseen = np.linalg.qr(np.pad(moved, ((0, 0), (0, 1))).T)[0].T

    def geometry(self, x):
        n, start = self.n, self.start
        return {
            "shifts_px": start.shifts_px + x[:-1].reshape(n, 2),
            "axis_angle_deg": float(start.axis_angle_deg + x[-1] * self.rim),
        }

    @torch.no_grad()
    def step(self, here, volume):
        """Gauss-Newton step, and the standard deviation of each if the volume were known."""
        volume = torch.as_tensor(volume, device=here.device)
        slopes, residual = self._slopes(here, volume), here.residual(volume)
        blocks = torch.einsum("actyx,bctyx->tab", slopes.double(), slopes.double()).cpu().numpy()
        pulls = -torch.einsum("actyx,ctyx->ta", slopes.double(), residual.double()).cpu().numpy()
        hessian, slope = np.zeros((self.size, self.size)), np.zeros(self.size)
        for t, (block, pull) in enumerate(zip(blocks, pulls, strict=True)):
            which = [2 * t, 2 * t + 1, 2 * self.n]
            hessian[np.ix_(which, which)] += block
            slope[which] += pull
        strong = np.median(np.diag(hessian)[:-1])
        if not strong > 0:
            raise ValueError("measurement: got images in which nothing can be seen to move, wants a specimen in view")
        hessian = hessian + strong * (1e-6 * np.eye(self.size) + self.unseen.T @ self.unseen)
        free = np.ix_(self.free, self.free)
        inverse = np.zeros_like(hessian)
        inverse[free] = np.linalg.inv(hessian[free])
        step = inverse @ slope
        return step - self.unseen.T @ (self.unseen @ step), np.sqrt(np.diag(inverse))

    def _slopes(self, here, volume):
        """Whitened derivatives of the projections by dy, dx and the axis' angle, (3, C, T, Y, X)."""
        projector = here.projector
        seen = projector(volume)
        by_y, by_x = torch.gradient(seen, dim=(-2, -1))
        shifts = torch.as_tensor(projector.shifts_px, dtype=seen.dtype, device=seen.device)
        y, x = (torch.arange(n, device=seen.device) - (n - 1) / 2 for n in seen.shape[-2:])
        y, x = y[:, None] - shifts[:, 0, None, None], x - shifts[:, 1, None, None]
        turned = (by_y * x - by_x * y) * np.deg2rad(self.rim)
        return torch.stack([here.loss.whiten(slope) for slope in (-by_y, -by_x, turned)])

    def angle_error(self, past, deviation):
        """Standard error of the axis' angle, degrees: larger than with the volume known, by what a step falls short."""
        x, step = (np.array([pair[k][-1] for pair in past]) for k in (0, 1))
        known = np.ptp(x) > LEAST_PX
        taken = -np.polyfit(x, step, 1)[0] if known else USUAL
        statistical = ERROR_FACTOR * deviation[-1] / np.sqrt(np.clip(taken, 0.05, 1.0))
        return float(np.hypot(statistical, PULL_PX) * self.rim) if self.free[-1] else 0.0


def _extrapolated(past):
    """Where steps, linear in the parameters as the last ones say, would vanish."""
    x, step = (np.array([pair[k] for pair in past]) for k in (0, 1))
    change_x, change_step = np.diff(x, axis=0).T, np.diff(step, axis=0).T
    mix = np.linalg.lstsq(change_step, step[-1], rcond=1e-3)[0]
    return x[-1] + step[-1] - (change_x + change_step) @ mix
