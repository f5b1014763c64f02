"""Voids that a reconstruction has filled and the data ask for: found in the residuals, ball by ball."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft, ndimage, stats

from softeels_utils.tomography import Measurement

from .features import VolumeErrors, as_gaussian, other_compositions
from .initial import specimen_size

__all__ = ["find_voids", "inside_specimen"]

SMALLEST, FACTOR = 1.2, 1.5  # voxels: radius of the smallest ball; of each next one, over that before
LARGEST = 0.2  # of the specimen's size: radius of the largest ball
OUTLIER = 4.0  # robust standard deviations of the map of residuals
CHANCE = 0.02  # of a ball as likely anywhere in the specimen, by noise alone
EMPTY = 0.5  # of a ball, at least: less is a wrong scale, reference or alignment
SURFACE = 1.5  # voxels: nearer to the surface, a voxel may be partly empty
OUTSIDE = 0.25  # of what is taken away, at most, nearer to the surface than that
FULL = 0.4  # of a ball, at least, before it is emptied
FEWEST = 50  # voxels, for a spread of the map
MISFIT = 2.0  # chi-square per value: above, residuals are those of a wrong model
MOST = 30  # balls
STEPS = np.concatenate([np.eye(3), -np.eye(3)]) / 2  # voxels


@torch.no_grad()
def find_voids(volume: torch.Tensor, parts: Sequence[Measurement]) -> tuple[torch.Tensor, int]:
    r"""Find balls inside a specimen that the data do not want filled: matching pursuit on the residuals.

    A prior of smooth or closed bodies fills a void that is small beside the specimen, and what it leaves in the
    residuals is spread over pixels none of which stands out. With g the gradient of the misfit, :math:`\sum_c v_c g_c`,
    summed over a ball, is what emptying it would gain; less its mean about the ball, it stands out from the rest of the
    solid where a void is. From the ball that stands out most, by four robust standard deviations at least, radius,
    centre and amount :math:`a \le 1` climb to the largest likelihood. The ball is emptied by that amount, and the map
    is made again, until there is no such ball.

    A ball is left as it is if noise would make one as likely somewhere in one specimen of fifty, also where one phase
    may have been taken for another (the exchange of phases in the ball is profiled out of the likelihood); if all tilts
    but the one that speaks most for it do not; if it would be less than half emptied, as by a wrong reference; or if it
    reaches out to the surface, as by a wrong alignment. Nothing is done where chi-square per value is above 2, nor in a
    body that is at most three voxels thick.

    Parameters
    ----------
    volume : tensor (C, Y, Z, X)
        Volume fractions.
    parts : sequence of Measurement
        Whose values are disjoint, as those fitted and those held out; all are used.

    Returns
    -------
    kept, balls : tensor (Y, Z, X), int
        What the volume is to be multiplied by, 1 where it stays as it is; and how many balls there are.

    References
    ----------
    S. Mallat & Z. Zhang, IEEE Trans. Signal Process. 41, 3397 (1993): matching pursuit.
    """
    kept = torch.ones_like(volume[0])
    series = [_Series(part, volume) for part in parts if part.size]
    solid, depth = inside_specimen(volume.sum(0).cpu().numpy())
    depth = torch.as_tensor(depth, dtype=volume.dtype, device=volume.device)
    inside = depth > SURFACE
    residuals = [one.residual(volume) for one in series]
    misfit = _sum(residual.square() for residual in residuals) / sum(one.loss.size for one in series)
    if int(inside.sum()) < FEWEST or misfit > MISFIT:
        return kept, 0
    largest = max(LARGEST * specimen_size(volume, torch.as_tensor(solid, device=volume.device)), SMALLEST)
    radii = [float(r) for r in SMALLEST * FACTOR ** np.arange(12) if r <= largest]
    chance = CHANCE / (int(inside.sum()) * len(radii))
    maps, balls = _Maps(depth, radii), 0
    for _ in range(MOST):
        gradient = sum(one.adjoint(residual) for one, residual in zip(series, residuals, strict=True))
        centre = maps.outlier((volume * gradient).sum(0), volume.sum(0))
        if centre is None:
            break

        @functools.cache
        def gain(radius, centre, volume=volume, residuals=residuals):
            allowed = radius <= largest and _holds(inside, centre)
            return _gain(volume, radius, centre, series, residuals) if allowed else _NONE

        first = centre
        radius = max(radii, key=lambda radius: gain(radius, first).ratio)
        radius, centre = _climb(gain, radius, first)
        best = gain(radius, centre)
        part = best.amount * _ball(radius, _offsets(volume, centre))
        change = volume * part
        outside = float(change.sum(0)[~inside].sum()) > OUTSIDE * float(change.sum())
        by_chance = stats.norm.sf((best.ratio / best.misfit) ** 0.5) > chance
        of_one_tilt = stats.norm.sf((best.ratio_of_others / best.misfit) ** 0.5) > chance / CHANCE
        if by_chance or of_one_tilt or outside or best.amount < EMPTY:
            break
        beyond = _beyond_exchange(volume, radius, centre, series, residuals)
        if stats.norm.sf((beyond / best.misfit) ** 0.5) > chance:  # one phase taken for another
            maps.leave_out(radius, first, centre)
            continue
        volume, kept, balls = volume - change, kept * (1 - part), balls + 1
        residuals = [one.residual(volume) for one in series]
    return kept, balls


def inside_specimen(total: NDArray) -> tuple[NDArray[np.bool_], NDArray]:
    """Where a particle is, its voids included, and how many voxels below its surface.

    Parameters
    ----------
    total : array (Y, Z, X)
        Sum of the phases' fractions.

    Returns
    -------
    solid, depth : array (Y, Z, X)
    """
    solid = ndimage.binary_closing(np.pad(total > 0.5, 2))[2:-2, 2:-2, 2:-2]
    solid = ndimage.binary_fill_holes(solid)
    return solid, ndimage.distance_transform_edt(np.pad(solid, 1))[1:-1, 1:-1, 1:-1]


def _holds(inside, centre):
    """Whether a centre lies in a mask."""
    at = [round(x) for x in centre]
    return all(0 <= x < n for x, n in zip(at, inside.shape, strict=True)) and bool(inside[tuple(at)])


def _climb(gain, radius, centre):
    """The most likely ball, from one nearby: half a voxel or a sixth of the radius a step."""
    while True:
        moved = [(radius, tuple(np.add(centre, step).tolist())) for step in STEPS]
        best = max([*moved, (radius * 7 / 6, centre), (radius * 6 / 7, centre)], key=lambda ball: gain(*ball).ratio)
        if gain(*best).ratio <= gain(radius, centre).ratio:
            return radius, centre
        radius, centre = best


class _Series:
    """A measurement, its noise Gaussian: of counts, as large as a volume predicts."""

    def __init__(self, measurement, volume):
        self.projector = measurement.projector
        self.loss = as_gaussian(measurement.loss, self.projector(volume))
        self.reach = self.projector.reach(volume.shape[1])

    def residual(self, volume):
        return self.loss.whiten(self.projector(volume)) - self.loss.target

    def adjoint(self, dual):
        return self.projector.T(self.loss.whiten_transposed(dual))

    def rows(self, change, rows):
        """What a change of some slices, and of those within reach of a shift, does to these rows."""
        return self.loss.rows(rows).whiten(self.projector(change))


def _offsets(volume, centre):
    return [torch.arange(n, device=volume.device) - at for n, at in zip(volume.shape[1:], centre, strict=True)]


def _ball(radius, offsets):
    """1 inside, with an edge of a voxel, at offsets along each axis from the centre."""
    y, z, x = (offset.float().square() for offset in offsets)
    return (radius + 0.5 - (y[:, None, None] + z[:, None] + x).sqrt()).clamp(0, 1)


def _around(volume, radius, centre, series):
    """Slices that a ball meets, and the ball in them."""
    reach = radius + 1 + max(one.reach for one in series)
    rows = slice(max(int(centre[0] - reach), 0), int(np.ceil(centre[0] + reach)) + 1)
    y, z, x = _offsets(volume, centre)
    return rows, _ball(radius, (y[rows], z, x))


class _Maps:
    """Sums over balls less their mean about the ball, by Fourier transform of the box that holds the specimen."""

    def __init__(self, depth, radii):
        (box,) = ndimage.find_objects((depth > 0).cpu().numpy().astype(int))
        self.corner, self.box = [part.start for part in box], box
        self.depth, self.radii = depth[box], radii
        self.inside = self.depth > SURFACE
        self.open = torch.ones_like(self.inside)
        self.shape = [fft.next_fast_len(n + int(np.ceil(6 * radii[-1])), real=True) for n in self.depth.shape]

    def leave_out(self, radius, *centres):
        """No ball is looked for any more about these centres."""
        for centre in centres:
            offsets = _offsets(self.depth[None], [at - start for at, start in zip(centre, self.corner, strict=True)])
            self.open &= _ball(radius + 1, offsets) == 0

    def _filtered(self, image, transfer):
        found = torch.fft.irfftn(torch.fft.rfftn(image, self.shape) * transfer, self.shape)
        return found[tuple(slice(n) for n in image.shape)]

    def _transfers(self, radius):
        """Of the ball, and of the Gaussian that takes the mean about it."""
        offsets = [n * torch.fft.fftfreq(n, device=self.depth.device) for n in self.shape]
        mean = torch.ones((), device=self.depth.device)
        for axis, n in enumerate(self.shape):
            frequency = (torch.fft.fftfreq if axis < 2 else torch.fft.rfftfreq)(n, device=self.depth.device)
            along = torch.exp(-2 * (2 * torch.pi * radius * frequency).square())
            mean = mean * along.reshape([-1 if k == axis else 1 for k in range(3)])
        return torch.fft.rfftn(_ball(radius, offsets)).real, mean

    def outlier(self, reduction, total):
        """Where the misfit's reduction by emptying, summed over a ball, stands out most: (y, z, x), or None."""
        best, place = OUTLIER, None
        reduction, total = reduction[self.box] * self.inside, total[self.box]
        for radius in self.radii:
            ball, mean = self._transfers(radius)
            deep = self.inside & (self.depth > 0.7 * radius)
            deep &= self._filtered(total, ball) > FULL * ball.flatten()[0]
            if int(deep.sum()) < FEWEST:
                continue
            sums, part = self._filtered(reduction, ball), self._filtered(self.inside.float(), mean).clamp_min(1e-3)
            sums = sums - self._filtered(sums * self.inside, mean) / part
            middle = sums[deep].median()
            spread = 1.4826 * (sums[deep] - middle).abs().median()
            score = torch.where(deep & self.open, (sums - middle) / spread.clamp_min(1e-12), -torch.inf)
            if float(score.max()) > best:
                best, place = float(score.max()), np.unravel_index(int(score.argmax()), score.shape)
        return None if place is None else tuple(float(at + start) for at, start in zip(place, self.corner, strict=True))


@dataclass(frozen=True)
class _Gain:
    """Of emptying a ball by the best amount.

    Attributes
    ----------
    ratio, ratio_of_others : float
        Twice the logarithm of the likelihood's ratio; without the tilt that has most of it.
    misfit : float
        Chi-square per value that is left where the ball shows, at least 1.
    amount : float
    """

    ratio: float
    ratio_of_others: float
    misfit: float
    amount: float


_NONE = _Gain(0.0, 0.0, 1.0, 0.0)


def _gain(volume, radius, centre, series, residuals):
    """Of the slices that the ball meets: others stay as they are."""
    rows, ball = _around(volume, radius, centre, series)
    change = -volume[:, rows] * ball
    seen = [one.rows(change, rows) for one in series]
    residuals = [residual[:, :, rows] for residual in residuals]
    slope = -_by_tilt(s * r for s, r in zip(seen, residuals, strict=True))
    curvature = _by_tilt(s.square() for s in seen)
    amount = float((slope.sum() / curvature.sum().clip(1e-12)).clip(0, 1))
    left = _by_tilt((s * (r + amount * s)).square() for s, r in zip(seen, residuals, strict=True))
    ratio = amount * (2 * slope - amount * curvature)
    others = max(ratio.sum() - ratio.max(), 0.0)
    return _Gain(max(ratio.sum(), 0.0), others, max(1.0, left.sum() / curvature.sum().clip(1e-12)), amount)


def _beyond_exchange(volume, radius, centre, series, residuals):
    """Twice the logarithm of the likelihood's ratio of emptying a ball in which phases may also be exchanged."""
    rows, ball = _around(volume, radius, centre, series)
    share = VolumeErrors().composition * 2**0.5 * volume[:, rows].sum(0) * ball
    directions = torch.as_tensor(other_compositions(len(volume)).T, dtype=volume.dtype, device=volume.device)
    changes = [-volume[:, rows] * ball, *(direction[:, None, None, None] * share for direction in directions)]
    seen = [[one.rows(change, rows) for one in series] for change in changes]
    left = [residual[:, :, rows] for residual in residuals]
    products = np.array([[_sum(a * b for a, b in zip(p, q, strict=True)) for p in seen] for q in seen])
    slopes = -np.array([_sum(a * r for a, r in zip(p, left, strict=True)) for p in seen])
    prior = np.eye(len(directions))
    profile = np.linalg.solve(products[1:, 1:] + prior, np.column_stack([products[1:, 0], slopes[1:]]))
    curvature, slope = np.array([products[0, 0], slopes[0]]) - products[0, 1:] @ profile
    return max(slope, 0.0) ** 2 / max(curvature, 1e-12)


def _by_tilt(tensors):
    """Sums over all but the tilts of tensors (C, T, Y, X)."""
    return sum(tensor.sum((0, 2, 3), dtype=torch.float64).cpu().numpy() for tensor in tensors)


def _sum(tensors):
    return sum(float(tensor.sum(dtype=torch.float64)) for tensor in tensors)
