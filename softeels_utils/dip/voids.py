"""Voids that a reconstruction has filled and the data ask for: found in the residuals, ball by ball."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage, stats

from softeels_utils.tomography import Measurement

from .features import as_gaussian
from .initial import specimen_size

__all__ = ["empty_voids", "inside_specimen"]

SMALLEST, FACTOR = 1.2, 1.5  # voxels: radius of the smallest ball; of each next one, over that before
LARGEST = 0.2  # of the specimen's size
OUTLIER = 4.0  # robust standard deviations of the map of residuals
CHANCE = 0.02  # of a ball as likely anywhere in the specimen, by noise alone
SURFACE = 1.5  # voxels: nearer to the surface, a voxel may be partly empty
FULL = 0.4  # of a ball, at least, before it is emptied
FEWEST = 200  # voxels inside, for a spread of the map
MOST = 30  # balls
STEPS = np.concatenate([np.eye(3), -np.eye(3)]) / 2  # voxels


@torch.no_grad()
def empty_voids(volume: torch.Tensor, parts: Sequence[Measurement]) -> tuple[torch.Tensor, int]:
    r"""Empty balls inside a specimen where the residuals ask for it: matching pursuit.

    A prior of smooth or closed bodies fills a void that is small beside the specimen, and what it leaves in the
    residuals is spread over pixels none of which stands out. With g the gradient of the misfit, :math:`\sum_c v_c g_c`,
    summed over a ball, is what emptying it would gain; less its mean about the ball, it stands out from the rest of the
    inside where a void is. The ball that stands out most is emptied by the amount :math:`a \le 1` of most likelihood,
    its radius and centre too are those of most likelihood, and the map is made again. It ends when no ball stands out
    by four robust standard deviations, or when the best one gains no more than noise would somewhere in one specimen of
    fifty.

    Parameters
    ----------
    volume : tensor (C, Y, Z, X)
        Volume fractions.
    parts : sequence of Measurement
        Whose values are disjoint, as those fitted and those held out; all are used.

    Returns
    -------
    volume, balls : tensor (C, Y, Z, X), int
        How many were emptied.

    References
    ----------
    S. Mallat & Z. Zhang, IEEE Trans. Signal Process. 41, 3397 (1993): matching pursuit.
    """
    views = [_View(part, volume) for part in parts if part.size]
    solid, depth = inside_specimen(volume.sum(0).cpu().numpy())
    depth = torch.as_tensor(depth, dtype=volume.dtype, device=volume.device)
    inside = depth > SURFACE
    if int(inside.sum()) < FEWEST:
        return volume, 0
    largest = max(LARGEST * specimen_size(volume, torch.as_tensor(solid, device=volume.device)), SMALLEST)
    radii = [float(r) for r in SMALLEST * FACTOR ** np.arange(12) if r <= largest]
    maps = _Maps(depth, inside, radii)
    for found in range(MOST):
        residuals = [view.residual(volume) for view in views]
        gradient = sum(view.adjoint(residual) for view, residual in zip(views, residuals, strict=True))
        place = maps.outlier((volume * gradient).sum(0), volume.sum(0))
        if place is None:
            return volume, found

        @functools.cache
        def gain(radius, centre, volume=volume, residuals=residuals):
            return _gain(volume, radius, centre, views, residuals)

        radius = max(radii, key=lambda radius: gain(radius, place).ratio)
        radius, place = _climb(gain, radius, place)
        best = gain(radius, place)
        if stats.norm.sf((best.ratio / best.misfit) ** 0.5) * int(inside.sum()) > CHANCE:
            return volume, found
        volume = volume * (1 - best.amount * _ball(radius, _offsets(volume, place)))
    return volume, MOST


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


def _climb(gain, radius, centre):
    """The most likely ball, from one nearby: half a voxel or a sixth of the radius a step."""
    while True:
        moved = [(radius, tuple(np.add(centre, step).tolist())) for step in STEPS]
        best = max([*moved, (radius * 7 / 6, centre), (radius * 6 / 7, centre)], key=lambda ball: gain(*ball).ratio)
        if gain(*best).ratio <= gain(radius, centre).ratio:
            return radius, centre
        radius, centre = best


class _View:
    """A measurement, its noise Gaussian: of counts, as large as a volume predicts."""

    def __init__(self, measurement, volume):
        self.projector = measurement.projector
        self.loss = as_gaussian(measurement.loss, self.projector(volume))
        self.reach = int(np.ceil(np.abs(self.projector.shifts_px[:, 0]).max()))

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


class _Maps:
    """Sums over balls less their mean about the ball, by Fourier transform."""

    def __init__(self, depth, inside, radii):
        self.depth, self.inside, self.radii = depth, inside, radii
        self.shape = [n + 2 * int(np.ceil(2 * radii[-1])) for n in inside.shape]
        whole = [torch.fft.fftfreq(n, device=inside.device) for n in self.shape]
        half = torch.fft.rfftfreq(self.shape[-1], device=inside.device)
        square = sum(f.square() for f in torch.meshgrid(*whole[:2], half, indexing="ij"))
        offsets = [n * f for n, f in zip(self.shape, whole, strict=True)]
        self.balls = [torch.fft.rfftn(_ball(radius, offsets)).real for radius in radii]
        self.means = [torch.exp(-2 * (torch.pi * 2 * radius) ** 2 * square) for radius in radii]
        self.parts = [self._filtered(inside.float(), mean).clamp_min(1e-3) for mean in self.means]

    def _filtered(self, image, transfer):
        found = torch.fft.irfftn(torch.fft.rfftn(image, self.shape) * transfer, self.shape)
        return found[tuple(slice(n) for n in image.shape)]

    def outlier(self, gain, total):
        """The place (y, z, x) that stands out most from the rest of the inside, None where none does."""
        best, place = OUTLIER, None
        for radius, ball, mean, part in zip(self.radii, self.balls, self.means, self.parts, strict=True):
            deep = self.inside & (self.depth > 0.7 * radius)
            if int((self.depth > radius).sum()) < FEWEST / 4:
                continue
            sums = self._filtered(gain * self.inside, ball)
            sums = sums - self._filtered(sums * self.inside, mean) / part
            values = sums[deep]
            middle = values.median()
            spread = 1.4826 * (values - middle).abs().median()
            full = self._filtered(total, ball) > FULL * ball.flatten()[0]
            score = torch.where(deep & full, (sums - middle) / spread.clamp_min(1e-12), -torch.inf)
            if float(score.max()) > best:
                best, place = float(score.max()), np.unravel_index(int(score.argmax()), score.shape)
        return None if place is None else tuple(map(float, place))


@dataclass(frozen=True)
class _Gain:
    """Of emptying a ball by the best amount: twice the logarithm of the likelihood's ratio, and the misfit left."""

    ratio: float
    misfit: float
    amount: float


def _gain(volume, radius, centre, views, residuals):
    """Of the slices that the ball meets: others stay as they are."""
    reach = radius + 1 + max(view.reach for view in views)
    rows = slice(max(int(centre[0] - reach), 0), int(np.ceil(centre[0] + reach)) + 1)
    y, z, x = _offsets(volume, centre)
    change = -volume[:, rows] * _ball(radius, (y[rows], z, x))
    seen = [view.rows(change, rows) for view in views]
    residuals = [residual[:, :, rows] for residual in residuals]
    slope = -_sum(s * r for s, r in zip(seen, residuals, strict=True))
    curvature = max(_sum(s.square() for s in seen), 1e-12)
    amount = min(max(slope / curvature, 0.0), 1.0)
    left = _sum((s * (r + amount * s)).square() for s, r in zip(seen, residuals, strict=True))
    return _Gain(amount * (2 * slope - amount * curvature), max(1.0, left / curvature), amount)


def _sum(tensors):
    return sum(float(tensor.sum(dtype=torch.float64)) for tensor in tensors)
