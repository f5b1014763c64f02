"""The line of one iron atom per nm² in the plane of M2,3 spectra, and between which of its points the pixels lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from ..scattering import IRON_PER_NM3, PHASES

__all__ = ["IronLine", "estimate_range", "outermost_phase"]


@dataclass(frozen=True)
class IronLine:
    """The line of one iron atom per nm² in the plane, ``origin + x direction``, in each of B bootstrap draws.

    Attributes
    ----------
    iron, origin, direction : (B, 2)
        Iron atoms per nm² along each axis of the plane, and the line, in coordinates of the plane.
    """

    iron: NDArray
    origin: NDArray
    direction: NDArray

    @classmethod
    def through(cls, iron: NDArray, ferrous: NDArray) -> IronLine:
        """The line for iron counts (B, 2); x grows towards FeO, where the counts of Fe2+, ``ferrous`` (W, B, 2), do."""
        origin = iron / (iron**2).sum(1, keepdims=True)
        direction = np.array([-iron[0, 1], iron[0, 0]]) / np.linalg.norm(iron[0])
        direction = direction[None] - origin * (iron @ direction)[:, None]  # keeps Fe = 1 in every draw
        line = cls(iron, origin, direction)
        slopes = line.count(ferrous)[:, 0, 1]
        return cls(iron, origin, -direction) if np.median(slopes) < 0 else line

    def count(self, counts: NDArray) -> NDArray:
        """Intercept and slope (..., B, 2) in x of what counts (..., B, 2) along the axes of the plane."""
        return np.stack([(counts * self.origin).sum(-1), (counts * self.direction).sum(-1)], axis=-1)

    def position(self, coordinates: NDArray) -> NDArray:
        """x (N,) of points (N, 2) of the plane, by draw 0."""
        iron, direction = coordinates @ self.iron[0], self.direction[0]
        return (coordinates - iron[:, None] * self.origin[0]) @ direction / (direction @ direction) / iron

    def position_error(self, coordinates: NDArray, variance: NDArray) -> NDArray:
        """Standard deviation (N,) of `position`, for the same variance (N,) of both coordinates."""
        x, direction = self.position(coordinates), self.direction[0]
        lever = direction / (direction @ direction) - x[:, None] * self.iron[0]
        return np.sqrt(variance) * np.linalg.norm(lever, axis=1) / (coordinates @ self.iron[0])

    def mixing(self, x0: float, x1: float, draw: int = 0, counted_per_nm3: ArrayLike | None = None) -> NDArray:
        """Coordinates (2, 2) of 1 nm of FeO, at x1, and of Fe3O4, at x0.

        ``counted_per_nm3`` is the iron that each phase counts per nm³: by default as much as it holds.
        """
        if counted_per_nm3 is None:
            counted_per_nm3 = [IRON_PER_NM3[name] for name in PHASES]
        places = self.origin[draw] + np.array([x1, x0])[:, None] * self.direction[draw]
        return np.asarray(counted_per_nm3)[:, None] * places


def outermost_phase(mask: NDArray, x: NDArray, iron: NDArray, ends: ArrayLike) -> str | None:
    """The phase at the rim, or None where the rim is not within a quarter of the way from an end of the pixels.

    The last line of sight that meets a particle runs through what is outermost only, if that is thicker than a pixel
    and the delocalisation. A rim that is not mostly one phase is not resolved, and tells nothing of purity.

    Parameters
    ----------
    mask : bool (...), with N pixels in it
    x, iron : (N,)
        Place of each pixel on the line, and its iron atoms per nm².
    ends : (2,)
        See `estimate_range`.
    """
    rim = (mask & ~ndimage.binary_erosion(mask, border_value=1))[mask]
    if iron[rim].sum() <= 0 or rim.sum() < 8:
        return None
    feo = ((iron[rim] @ x[rim]) / iron[rim].sum() - ends[0]) / (ends[1] - ends[0])
    return "FeO" if feo > 0.75 else "Fe3O4" if feo < 0.25 else None


def estimate_range(
    x: ArrayLike, sigma: ArrayLike, points: int = 120, iterations: int = 120, strays: float = 0.01
) -> tuple[NDArray, NDArray]:
    """Ends of a distribution freed of noise, and their errors.

    The likelihood that no value lies beyond an end: at each possible end, that of the best mixing distribution inside
    (non-parametric maximum likelihood: Laird, J. Am. Stat. Assoc. 73, 805 (1978)). It is flat as long as the end is
    outside of the values and falls when it cuts them off. A parabola through the points where it has lost 2 and 8 (two
    and four standard errors: the last few values alone do not lose that much) gives the end.

    The parabola is exact where a fraction of the values is right at the end. Where they thin out towards it the loss
    begins more slowly, and the end found is up to one standard deviation of the noise further in: however many the
    values, noise hides the edge of a continuous distribution (Fan, Ann. Stat. 19, 1257 (1991)). The error is therefore
    the whole distance between the two points, twice what the parabola says, and half of that standard deviation. An end
    that half of the range does not cost 8 is not resolved at all: it is the outermost value, with the whole span
    searched, and the noise, as its error.

    Parameters
    ----------
    x, sigma : (N,)
        Values and their standard deviations.
    points, iterations : int
        Of the grid of possible values, and of expectation maximisation.
    strays : float
        Fraction of values left out, half of it the lowest and half the highest: bad pixels, which must set no end. Of
        Gaussian noise 0.3 % lies beyond three standard deviations; 1 % leaves as much again to cosmic rays and dead
        pixels, and cuts a real end only if fewer pixels than that are at it.

    Returns
    -------
    ends, errors : (2,), (2,)
        Low and high.

    Raises
    ------
    ValueError
        For fewer than two values, or standard deviations that are not positive.
    """
    x, sigma = np.asarray(x, np.float32), np.asarray(sigma, np.float32)
    if x.size < 2 or not (sigma > 0).all():
        raise ValueError(f"x, sigma: got {x.size} values, wants at least 2, each with a positive standard deviation")
    first, last = np.quantile(x, strays / 2, method="lower"), np.quantile(x, 1 - strays / 2, method="higher")
    within = (x >= first) & (x <= last)
    x, sigma = x[within], sigma[within]
    grid = np.linspace(first, last, points, dtype=np.float32)
    likelihood = np.exp(-0.5 * ((x[:, None] - grid) / sigma[:, None]) ** 2)
    noise = (sigma**-2.0).mean() ** -0.5  # that of the values that decide
    start = _best_distribution(likelihood, np.ones(points, bool), np.ones(points, np.float32), iterations)
    low, high = (_end(grid, likelihood, side, start, noise, iterations) for side in (1, -1))
    return tuple(np.array(pair) for pair in zip(low, high, strict=True))


def _best_distribution(likelihood, inside, start, iterations):
    """Log-likelihood of the best distribution on some points of the grid, and that distribution, from a start."""
    part = np.ascontiguousarray(likelihood[:, inside])
    weights = start[inside] + 1e-3 / start.size
    weights = weights / weights.sum()
    for _ in range(iterations):  # expectation maximisation
        density = np.maximum(part @ weights, 1e-30)
        weights = weights * (part / density[:, None]).mean(0)
    distribution = np.zeros(start.size, np.float32)
    distribution[inside] = weights
    return np.log(density).sum(dtype=float), distribution


def _end(grid, likelihood, side, start, noise, iterations):
    """Low (side 1) or high (side -1) end and its error, by what moving it inwards costs in log-likelihood."""
    best, distribution = start
    from_outside, loss = grid[::side], [0.0]
    while loss[-1] < 8 and len(loss) < grid.size // 2:
        inside = side * (grid - from_outside[len(loss)]) >= 0
        value, distribution = _best_distribution(likelihood, inside, distribution, iterations)
        loss.append(max(best - value, loss[-1] + 1e-9))
    if loss[-1] < 8:
        return from_outside[0], np.hypot(from_outside[len(loss) - 1] - from_outside[0], noise)
    two, four = np.interp([2.0, 8.0], loss, from_outside[: len(loss)])
    return 2 * two - four, np.hypot(four - two, noise / 2)
