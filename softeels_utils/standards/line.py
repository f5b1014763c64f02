"""The line of one metal atom per nm² in the plane of M2,3 spectra, and between which of its points the pixels lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from ..checks import check_count, check_number, describe, real_array
from ..doors import checked

__all__ = ["MetalLine", "estimate_range", "neighbours", "outermost_phase"]

MOST_AXES = 32
MOST_STEPS = 10_000  # of a grid, and of an iteration


@checked(metal="B 2", origin="B 2", direction="B 2")
@dataclass(frozen=True)
class MetalLine:
    """The line of one metal atom per nm² in the plane, ``origin + x direction``, in each of B bootstrap draws.

    Attributes
    ----------
    metal, origin, direction : (B, 2)
        Metal atoms per nm² along each axis of the plane, and the line, in coordinates of the plane.
    """

    metal: NDArray
    origin: NDArray
    direction: NDArray

    @classmethod
    @checked(metal="B 2", lower="W B 2")
    def through(cls, metal: NDArray, lower: NDArray) -> MetalLine:
        """The line for metal counts (B, 2); x grows where the counts of the lower valence, ``lower`` (W, B, 2), do."""
        origin = metal / (metal**2).sum(1, keepdims=True)
        direction = np.array([-metal[0, 1], metal[0, 0]]) / np.linalg.norm(metal[0])
        direction = direction[None] - origin * (metal @ direction)[:, None]  # keeps one atom per nm² in every draw
        line = cls(metal, origin, direction)
        slopes = line.count(lower)[:, 0, 1]
        return cls(metal, origin, -direction) if np.median(slopes) < 0 else line

    @checked(counts="W B 2")
    def contrast(self, counts: NDArray) -> float:
        """By how many standard errors counts (W, B, 2) change along the line, in the window where they do so most."""
        slopes = self.count(counts)[..., 1]
        return float((np.abs(slopes[:, 0]) / slopes[:, 1:].std(axis=1)).max())

    @checked(counts="... B 2")
    def count(self, counts: NDArray) -> NDArray:
        """Intercept and slope (..., B, 2) in x of what counts (..., B, 2) along the axes of the plane."""
        return np.stack([(counts * self.origin).sum(-1), (counts * self.direction).sum(-1)], axis=-1)

    @checked(coordinates="N 2")
    def position(self, coordinates: NDArray) -> NDArray:
        """x (N,) of points (N, 2) of the plane, by draw 0."""
        metal, direction = coordinates @ self.metal[0], self.direction[0]
        return (coordinates - metal[:, None] * self.origin[0]) @ direction / (direction @ direction) / metal

    @checked(coordinates="N 2", variance="N")
    def position_error(self, coordinates: NDArray, variance: NDArray) -> NDArray:
        """Standard deviation (N,) of `position`, for a variance (N,) that both coordinates share."""
        x, direction = self.position(coordinates), self.direction[0]
        lever = direction / (direction @ direction) - x[:, None] * self.metal[0]
        return np.sqrt(variance) * np.linalg.norm(lever, axis=1) / (coordinates @ self.metal[0])

    @checked(counted_per_nm3="2")
    def mixing(self, x0: float, x1: float, counted_per_nm3: ArrayLike, draw: int = 0) -> NDArray:
        """Coordinates (2, 2) of 1 nm of the reduced phase, at x1, and of the oxidised one, at x0.

        ``counted_per_nm3`` (2,) is the metal counted per nm³ of each phase.
        """
        check_count(draw, "draw", 0, len(self.metal) - 1)
        places = self.origin[draw] + np.array([x1, x0])[:, None] * self.direction[draw]
        return np.asarray(counted_per_nm3)[:, None] * places


@checked
def neighbours(ndim: int) -> NDArray[np.bool_]:
    """Structure of the nearest neighbours within an image; the images of a series (axes before the last two) are not
    neighbours.
    """
    plane = ndimage.generate_binary_structure(min(check_count(ndim, "ndim", most=MOST_AXES), 2), 1)
    return plane.reshape((1,) * (ndim - plane.ndim) + plane.shape)


@checked(x="N", metal="N", ends="2")
def outermost_phase(mask: NDArray, x: NDArray, metal: NDArray, ends: ArrayLike, names: tuple[str, str]) -> str | None:
    """The phase at the rim, or None where the rim is not within a quarter of the way from an end of the pixels.

    The outermost line of sight through a particle crosses only what is outermost, if that is thicker than a pixel and
    the delocalisation. A rim that is not mostly one phase is not resolved and says nothing about purity.

    Parameters
    ----------
    mask : bool (...), with N pixels in it
    x, metal : (N,)
        Position of each pixel on the line, and its metal atoms per nm².
    ends : (2,)
        See `estimate_range`.
    names : (str, str)
        Of the phases, the reduced one first.
    """
    if mask.dtype != bool or mask.sum() != len(x):
        raise ValueError(f"mask: got {describe(mask)}, wants bools with {len(x)} pixels, as many as x")
    rim = (mask & ~ndimage.binary_erosion(mask, neighbours(mask.ndim), border_value=1))[mask]
    if metal[rim].sum() <= 0 or rim.sum() < 8:
        return None
    reduced = ((metal[rim] @ x[rim]) / metal[rim].sum() - ends[0]) / (ends[1] - ends[0])
    return names[0] if reduced > 0.75 else names[1] if reduced < 0.25 else None


@checked
def estimate_range(
    x: ArrayLike, sigma: ArrayLike, points: int = 120, iterations: int = 120, strays: float = 0.01
) -> tuple[NDArray, NDArray]:
    """Ends of a distribution, with the noise removed, and their errors.

    Each possible end is given the log-likelihood of the best mixing distribution inside it (non-parametric maximum
    likelihood: Laird, J. Am. Stat. Assoc. 73, 805 (1978)). It is constant as long as the end is outside the values and
    falls when the end cuts them off. A parabola through the points where it has fallen by 2 and by 8 (two and four
    standard errors: the last few values alone do not cost that much) gives the end.

    The parabola is exact if a fraction of the values lies right at the end. If they thin out towards it, the fall
    begins more slowly, and the end found is up to one standard deviation of the noise too far in: however many values
    there are, noise hides the edge of a continuous distribution (Fan, Ann. Stat. 19, 1257 (1991)). The error is
    therefore the whole distance between the two points, twice what the parabola says, combined with half of that
    standard deviation. If cutting off half of the range does not cost 8, the end is not resolved at all: the outermost
    value is returned, with the whole span searched, and the noise, as its error.

    Parameters
    ----------
    x, sigma : (N,)
        Values and their standard deviations.
    points, iterations : int
        Number of possible values on the grid, and of steps of expectation maximisation.
    strays : float
        Fraction of values left out, half of it the lowest and half the highest: bad pixels, which must not set an end.
        0.3 % of Gaussian noise lies beyond three standard deviations; 1 % leaves room for cosmic rays and dead pixels,
        and removes a real end only if fewer pixels than that are at it.

    Returns
    -------
    ends, errors : (2,), (2,)
        Low and high.

    Raises
    ------
    ValueError
        For fewer than two values, or standard deviations that are not positive.
    """
    x, sigma = (np.asarray(real_array(a, name), np.float32) for a, name in ((x, "x"), (sigma, "sigma")))
    check_count(points, "points", 4, MOST_STEPS)
    check_count(iterations, "iterations", 1, MOST_STEPS)
    check_number(strays, "strays", 0, 0.9)
    if sigma.shape != x.shape:
        raise ValueError(f"sigma: got shape {sigma.shape}, wants that of x, {x.shape}")
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
