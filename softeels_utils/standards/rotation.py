"""Where in the plane of M2,3 spectra the two pure phases are.

The plane is found from the M2,3 edge, which has the counts. Where in it the two phases are is a 2 x 2 matrix that no
factorisation can know (the rotation ambiguity); constraints on what the core loss counts determine it. With h a point
of the plane and ``Fe(h)`` the iron atoms that the core loss counts, the points with ``Fe(h) = 1`` form a line: one
coordinate x is left, the pixels lie between x0 (pure Fe3O4) and x1 (pure FeO), and everything else that the core loss
counts is linear in x.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from ..scattering import IRON_PER_NM3, PHASES
from .constraints import CONSTRAINTS, Constraint, Evidence, select_constraints

__all__ = ["IronLine", "Rotation", "estimate_range", "estimate_rotation", "outermost_phase", "rotated_references"]


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

    def mixing(self, x0: float, x1: float, draw: int = 0) -> NDArray:
        """Coordinates (2, 2) of 1 nm of FeO, at x1, and of Fe3O4, at x0."""
        density = np.array([IRON_PER_NM3[name] for name in PHASES])
        return density[:, None] * (self.origin[draw] + np.array([x1, x0])[:, None] * self.direction[draw])


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


@dataclass(frozen=True)
class Rotation:
    """Where the pure phases are on the line, and how sure that is.

    Attributes
    ----------
    x0, x1 : float
        Coordinates of Fe3O4 and FeO.
    covariance : (2, 2)
        Of (x0, x1).
    grid0, grid1 : (G,)
        Coordinates that were tried.
    probability : (G, G)
        Of each (x0, x1), first axis x0.
    parts : dict of str to (G, G)
        Log-likelihood of each constraint alone.
    left_out : dict of str to str
        Constraints that were asked for and could not be used, and why.
    """

    x0: float
    x1: float
    covariance: NDArray
    grid0: NDArray
    grid1: NDArray
    probability: NDArray = field(repr=False)
    parts: dict[str, NDArray] = field(repr=False)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def width(self) -> float:
        """Distance of the phases on the line."""
        return self.x1 - self.x0

    def loss(self, name: str) -> float:
        """Log-likelihood of one constraint at the result, less the best that it has anywhere."""
        part = self.parts[name]
        i, j = np.argmin(np.abs(self.grid0 - self.x0)), np.argmin(np.abs(self.grid1 - self.x1))
        return float(part[i, j] - part[np.isfinite(part)].max())

    def draw(self, rng: np.random.Generator, size: int) -> NDArray:
        """Pairs (x0, x1), (size, 2), drawn from the probability."""
        flat = rng.choice(self.probability.size, size=size, p=self.probability.ravel())
        i, j = np.unravel_index(flat, self.probability.shape)
        within = rng.random((2, size)) - 0.5
        step0, step1 = self.grid0[1] - self.grid0[0], self.grid1[1] - self.grid1[0]
        return np.stack([self.grid0[i] + step0 * within[0], self.grid1[j] + step1 * within[1]], axis=1)


def estimate_rotation(
    evidence: Evidence,
    constraints: str | Constraint | Iterable[str | Constraint] = tuple(CONSTRAINTS),
    points: int = 81,
) -> Rotation:
    """Probability of the places x0, x1 of the pure phases, from what the core loss counts along the line.

    Parameters
    ----------
    evidence : Evidence
        Constraints that it has no data for are left out.
    constraints : names of `CONSTRAINTS`, or constraints
    points : int
        Of the grid, along each of x0 and x1.

    Raises
    ------
    ValueError
        If no constraint has data, or none of the places satisfies all of them.
    """
    constraints = select_constraints(constraints)
    left_out = {c.name: reason for c in constraints if (reason := c.missing(evidence))}
    usable = [c for c in constraints if c.name not in left_out]
    if not usable:
        raise ValueError(f"constraints: got {left_out}, wants at least one that has data")
    low, high = evidence.ends
    span = high - low
    reach = (low - 1.0 * span, low + 0.15 * span), (high - 0.15 * span, high + 2.0 * span)
    for _ in range(2):  # the second time around what the first has found
        rotation = _on_grid(evidence, usable, left_out, *(np.linspace(*r, points) for r in reach))
        sigma = np.sqrt(np.diag(rotation.covariance))
        reach = [
            (max(r[0], x - 6 * s), min(r[1], x + 6 * s))
            for r, x, s in zip(reach, (rotation.x0, rotation.x1), sigma, strict=True)
        ]
    return rotation


def _on_grid(evidence, constraints, left_out, grid0, grid1):
    x0, x1 = np.meshgrid(grid0, grid1, indexing="ij")
    parts = {c.name: c.log_likelihood(evidence, x0, x1) for c in constraints}
    total = sum(parts.values())
    if not np.isfinite(total).any():
        raise ValueError(
            "core_loss: got no rotation that satisfies the constraints, wants one (is there iron, in two phases?)"
        )
    probability = np.exp(total - total[np.isfinite(total)].max())
    probability = probability / probability.sum()
    mean = np.array([(probability * x0).sum(), (probability * x1).sum()])
    away = np.stack([x0 - mean[0], x1 - mean[1]])
    covariance = np.einsum("ixy,jxy,xy->ij", away, away, probability)
    return Rotation(float(mean[0]), float(mean[1]), covariance, grid0, grid1, probability, parts, left_out)


def rotated_references(references: ArrayLike, feo: float = 0.0, fe3o4: float = 0.0) -> tuple[NDArray, NDArray]:
    """Other references that fit the same data equally well: the rotation ambiguity of two components.

    Per iron atom, the FeO reference moves to ``FeO + feo (FeO - Fe3O4)``, the other to
    ``Fe3O4 + fe3o4 (FeO - Fe3O4)``; the maps change so that every spectrum stays what it was.

    Parameters
    ----------
    references : (2, E)
        FeO, Fe3O4, per nm.
    feo, fe3o4 : float
        In units of the FeO fraction of the iron. ``feo=-0.2`` holds 20 % Fe3O4; ``fe3o4=0.2`` holds 20 % FeO.

    Returns
    -------
    references, transform : (2, E), (2, 2)
        ``transform @ abundances`` are the maps that go with the new references.
    """
    density = np.array([IRON_PER_NM3[name] for name in PHASES])
    mix = np.array([[1 + feo, -feo], [fe3o4, 1 - fe3o4]])
    mix = density[:, None] * mix / density[None, :]
    return mix @ np.asarray(references), np.linalg.inv(mix).T
