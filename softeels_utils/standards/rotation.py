"""Where in the plane of M2,3 spectra the two pure phases are.

The plane is found from the M2,3 edge, which has the counts. Where in it the two phases are is a 2 x 2 matrix that no
factorisation can know (the rotation ambiguity); constraints on what the core loss counts determine it. With h a point
of the plane and ``M(h)`` the metal atoms that the core loss counts, the points with ``M(h) = 1`` form a line: one
coordinate x is left, the pixels lie between x0 (the oxidised phase: Fe3O4) and x1 (the reduced one: FeO), and
everything else that the core loss counts is linear in x.

Oxygen and the leading edge of L3 both count valence: they place both phases without vacancies. Where these lie as they
are in the specimen, wüstite that lacks iron and magnetite on the way to maghemite, only the pixels tell. One statement
out of many may be wrong. The probability is therefore a mixture: all constraints hold, or one of them, each in turn,
does not. Where they agree the first term dominates; where they contradict each other what remains is the spread of
leaving one out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from scipy.stats import chi2

from ..checks import check_number, real_array
from ..doors import checked
from ..scattering import System
from .constraints import CONSTRAINTS, Constraint, Evidence, select_constraints
from .pair import PhasePair

__all__ = ["Rotation", "counted_metal", "estimate_rotation", "rotated_references"]

MOST_MIXED = 10.0  # of the other phase in a reference
WRONG = 0.05  # prior probability that a constraint does not hold
OTHER_PHASE = (
    0.10  # that the specimen holds a phase that is not in the set: pixels then tell nothing of where phases are
)
SPREAD = 10.0  # standard errors over which it then says nothing
ENOUGH = 4  # constraints, of which two determine the places: with fewer nobody can say which one is wrong


@checked(
    covariance="2 2",
    grid0="G",
    grid1="G",
    probability="G G",
    nodes="Q 3",
    joint_probability="Q G G",
    end_valence="2",
    end_valence_error="2",
)
@dataclass(frozen=True)
class Rotation:
    """Where the pure phases lie on the line, and how certain that is.

    Attributes
    ----------
    x0, x1 : float
        Coordinates of the oxidised phase, and of the reduced one, as they are in the specimen.
    covariance : (2, 2)
        Mean square of how far (x0, x1) may be off.
    grid0, grid1 : (G,)
        Coordinates that were tried.
    probability : (G, G)
        Probability of each (x0, x1), x0 along the first axis.
    parts : dict of str to (G, G)
        Log-likelihood of each constraint alone, averaged over vacancies.
    left_out : dict of str to str
        Constraints that were asked for but could not be used, and why.
    nodes : (Q, 3)
        Vacancies of the reduced phase, those of the oxidised one, and ratio of L2,3 of the higher valence to that of
        the lower, that were tried.
    joint_probability : (Q, G, G)
        Probability of each of these with each (x0, x1).
    tension : float
        p-value: the probability that constraints that all hold contradict each other at least this much. NaN for fewer
        than three constraints, which cannot contradict each other.
    doubt : dict of str to float
        Probability that each constraint is the one that does not hold; under "phases", that none of those about the
        pixels' position holds (a phase that is not in the set). Empty for fewer than four constraints.
    without : dict of str to (2,)
        (x0, x1) with one constraint left out.
    end_valence, end_valence_error : (2,)
        Mean valence of the metal at the ends of the pixels (high x, then low x), from the constraints on valence alone,
        and one standard error; NaN with fewer than two such constraints.
    """

    x0: float
    x1: float
    covariance: NDArray
    grid0: NDArray
    grid1: NDArray
    probability: NDArray = field(repr=False)
    parts: dict[str, NDArray] = field(repr=False)
    left_out: dict[str, str] = field(default_factory=dict)
    nodes: NDArray = field(repr=False, default_factory=lambda: np.array([[0.0, 0.0, 1.0]]))
    joint_probability: NDArray | None = field(repr=False, default=None)
    tension: float = float("nan")
    doubt: dict[str, float] = field(default_factory=dict)
    without: dict[str, NDArray] = field(repr=False, default_factory=dict)
    end_valence: NDArray = field(default_factory=lambda: np.full(2, np.nan))
    end_valence_error: NDArray = field(default_factory=lambda: np.full(2, np.nan))

    @property
    def width(self) -> float:
        """Distance between the phases on the line."""
        return self.x1 - self.x0

    @property
    def place(self) -> NDArray:
        """x0, x1, vacancies of the reduced and of the oxidised phase, and strength of the higher valence, (5,).

        As for x0 and x1: means where the oxidised phase has no vacancies, or where it has, whichever is likelier.
        """
        p = self.joint_probability.sum(axis=(1, 2)) * _likelier(self.nodes, self.joint_probability)
        return np.r_[self.x0, self.x1, p @ self.nodes / p.sum()]

    @property
    def lacking_probability(self) -> float:
        """Probability that the oxidised phase lacks metal at all."""
        return float(self.joint_probability[self.nodes[:, 1] > 0].sum() / self.joint_probability.sum())

    def loss(self, name: str) -> float:
        """Log-likelihood of one constraint at the result, minus the highest that it reaches anywhere."""
        part = self.parts[name]
        i, j = np.argmin(np.abs(self.grid0 - self.x0)), np.argmin(np.abs(self.grid1 - self.x1))
        return float(part[i, j] - part[np.isfinite(part)].max())

    def draw(self, rng: np.random.Generator, size: int) -> NDArray:
        """Draws of what `place` is the mean of, (size, 5), from the probability."""
        flat = rng.choice(self.joint_probability.size, size=size, p=self.joint_probability.ravel())
        q, i, j = np.unravel_index(flat, self.joint_probability.shape)
        axes = (self.grid0, self.grid1, *(np.unique(column) for column in self.nodes.T))
        steps = np.array([axis[1] - axis[0] if axis.size > 1 else 0.0 for axis in axes])
        drawn = np.column_stack([self.grid0[i], self.grid1[j], self.nodes[q]])
        widths = np.where(np.arange(5) == 3, steps * (drawn[:, [3]] > 0), steps)  # none may be stoichiometric
        drawn += widths * (rng.random((size, 5)) - 0.5)
        drawn[:, 2:4] = np.abs(drawn[:, 2:4])  # vacancies go one way
        return drawn


@checked
def estimate_rotation(
    evidence: Evidence,
    constraints: str | Constraint | Iterable[str | Constraint] = tuple(CONSTRAINTS),
    points: int = 61,
) -> Rotation:
    """Probability of the positions x0, x1 of the pure phases, from what the core loss counts along the line.

    Parameters
    ----------
    evidence : Evidence
        Constraints that it has no data for are left out.
    constraints : names of `CONSTRAINTS`, or constraints
    points : int
        Number of grid points along each of x0 and x1.

    Raises
    ------
    ValueError
        If no constraint has data, or no position satisfies all of them.
    """
    constraints = select_constraints(constraints, evidence.pair)
    left_out = {c.name: reason for c in constraints if (reason := c.missing(evidence))}
    usable = [c for c in constraints if c.name not in left_out]
    if not usable:
        raise ValueError(f"constraints: got {left_out}, wants at least one that has data")
    low, high = evidence.ends
    span = high - low
    reach = (low - 1.5 * span, low + 0.7 * span), (high - 0.7 * span, high + 2.5 * span)
    wide = _Grid.filled(evidence, usable, *(np.linspace(*r, points) for r in reach))
    grid = wide
    for _ in range(2):  # ever closer around what the wide grid has found
        (x0, x1), covariance = grid.moments(grid.mixture())
        steps = [axis[1] - axis[0] for axis in (grid.grid0, grid.grid1)]
        sigma = np.maximum(np.sqrt(np.diag(covariance)), steps)
        reach = [(max(r[0], x - 5 * s), min(r[1], x + 5 * s)) for r, x, s in zip(reach, (x0, x1), sigma, strict=True)]
        grid = _Grid.filled(evidence, usable, *(np.linspace(*r, points) for r in reach))
    return grid.rotation(left_out, wide)


@dataclass(frozen=True)
class _Grid:
    """Log-likelihoods on a grid of nodes (see `Chemistry`), x0 and x1: parts (Q or 1, G, G) of each constraint."""

    evidence: Evidence
    constraints: Sequence[Constraint]
    grid0: NDArray
    grid1: NDArray
    prior: NDArray
    parts: dict[str, NDArray]

    @classmethod
    def filled(cls, evidence, constraints, grid0, grid1):
        vacancies, higher, prior = evidence.chemistry.nodes()
        x0, x1 = np.meshgrid(grid0, grid1, indexing="ij")
        stoichiometric = zip(*evidence.pair.stoichiometric(x0, x1, vacancies[:, None, None]), strict=True)
        stoichiometric = list(stoichiometric)
        seen = [replace(evidence, chemistry=replace(evidence.chemistry, valence_strength=h)) for h in higher]
        parts = {}
        for c in constraints:
            if c.counts_valence:
                each = [c.log_likelihood(e, *x) for e, x in zip(seen, stoichiometric, strict=True)]
                parts[c.name] = np.stack(each)
            else:
                parts[c.name] = c.log_likelihood(evidence, x0, x1)[None]
        low, high = evidence.ends
        apart = np.where(x1 - x0 > 0.02 * (high - low), 0.0, -np.inf)
        grid = cls(evidence, constraints, grid0, grid1, np.log(prior)[:, None, None] + apart, parts)
        if not np.isfinite(grid.total()).any():
            raise ValueError(
                "core_loss: got no rotation that satisfies the constraints, wants one (is there "
                f"{evidence.pair.system.metal_name}, in two phases?)"
            )
        return grid

    def total(self, without: Sequence[str] = ()) -> NDArray:
        """Logarithm of prior times likelihood, (Q, G, G), of all constraints or of all but some."""
        return self.prior + sum(part for name, part in self.parts.items() if name not in without)

    def hypotheses(self) -> dict[str | None, NDArray]:
        """Logarithms of prior times likelihood if all constraints hold (None), if one does not, or none on phases."""
        found = {None: self.total()}
        if len(self.parts) < ENOUGH:
            return found
        places = [c.name for c in self.constraints if not c.counts_valence]
        alternatives = {name: ([name], WRONG) for name in self.parts}
        if len(places) > 1 and len(self.parts) - len(places) > 1:
            alternatives["phases"] = (places, OTHER_PHASE)
        for name, (left_out, prior) in alternatives.items():
            best = sum(part[np.isfinite(part)].max() for n, part in self.parts.items() if n in left_out)
            nothing_said = best - len(left_out) * np.log(SPREAD)
            found[name] = self.total(left_out) + nothing_said + np.log(prior / (1 - prior))
        return found

    def mixture(self) -> NDArray:
        """Probability (Q, G, G)."""
        return _normalised(logsumexp(np.stack(list(self.hypotheses().values())), axis=0))

    def moments(self, probability: NDArray, about: NDArray | None = None) -> tuple[NDArray, NDArray]:
        """Mean (2,) of (x0, x1), and the mean squares (2, 2) of the distance from it, or from another place."""
        p = probability.sum(axis=0)
        mean = np.array([p.sum(1) @ self.grid0, p.sum(0) @ self.grid1])
        away0, away1 = (
            grid - x for grid, x in zip((self.grid0, self.grid1), mean if about is None else about, strict=True)
        )
        cross = away0 @ p @ away1
        return mean, np.array([[p.sum(1) @ away0**2, cross], [cross, p.sum(0) @ away1**2]])

    def tension(self) -> float:
        """p-value of twice what the constraints lose by each other, as chi² of as many as are more than two."""
        freedom = len(self.parts) - 2
        if freedom < 1:
            return float("nan")
        best = sum(part[np.isfinite(part)].max() for part in self.parts.values())
        agreed = (self.total() - self.prior.max()).max()
        return float(chi2.sf(2 * max(best - agreed, 0.0), freedom))

    def end_valence(self) -> tuple[NDArray, NDArray]:
        """Mean valence of the metal at the high and the low end of the pixels, and errors, by what counts valence."""
        counting = [c.name for c in self.constraints if c.counts_valence]
        if len(counting) < 2:
            return np.full(2, np.nan), np.full(2, np.nan)
        vacancies, _, probability = self.evidence.chemistry.nodes()
        none = np.flatnonzero((vacancies == 0).all(axis=1))  # what a place's valence is does not depend on them
        log_prior = np.log(probability[none])[:, None, None] + np.where(np.isfinite(self.prior[:1]), 0.0, -np.inf)
        p = _normalised(log_prior + sum(self.parts[name][none] for name in counting)).sum(axis=0)
        width = np.where(p > 0, self.grid1 - self.grid0[:, None], np.inf)
        reduced, oxidised = self.evidence.pair.valence
        away, ends = oxidised - reduced, self.evidence.ends[::-1]
        valence = np.stack([oxidised - away * (end - self.grid0[:, None]) / width for end in ends])
        noise = np.stack([away * error / width for error in self.evidence.end_errors[::-1]])
        mean = (p * valence).sum((1, 2))
        return mean, np.sqrt((p * ((valence - mean[:, None, None]) ** 2 + noise**2)).sum((1, 2)))

    def rotation(self, left_out: dict[str, str], wide: _Grid) -> Rotation:
        hypotheses, probability = self.hypotheses(), self.mixture()
        nodes = np.column_stack(self.evidence.chemistry.nodes()[:2])
        likelier = probability * _likelier(nodes, probability)[:, None, None]
        mean, _ = self.moments(likelier / likelier.sum())
        _, covariance = self.moments(probability, mean)
        evidences = np.array([logsumexp(h) for h in hypotheses.values()])
        doubt = np.exp(evidences - logsumexp(evidences))
        end_valence, end_valence_error = wide.end_valence()
        return Rotation(
            x0=float(mean[0]),
            x1=float(mean[1]),
            covariance=covariance,
            grid0=self.grid0,
            grid1=self.grid1,
            probability=probability.sum(axis=0),
            parts={name: logsumexp(part + self._share(part), axis=0) for name, part in self.parts.items()},
            left_out=left_out,
            nodes=nodes,
            joint_probability=probability,
            tension=wide.tension(),
            doubt={name: float(d) for name, d in zip(hypotheses, doubt, strict=True) if name is not None},
            without={n: self.moments(_normalised(h))[0] for n, h in hypotheses.items() if n is not None},
            end_valence=end_valence,
            end_valence_error=end_valence_error,
        )

    def _share(self, part):
        """Logarithm of the prior of each of the nodes that a part (Q or 1, G, G) tells apart."""
        return 0.0 if len(part) == 1 else np.log(self.evidence.chemistry.nodes()[2])[:, None, None]


def _likelier(nodes, probability):
    """Nodes (Q,) at which the oxidised phase is stoichiometric, or those at which it is not: the likelier ones."""
    oxidised = nodes[:, 1] > 0
    return oxidised == (probability[oxidised].sum() > probability.sum() / 2)


def _normalised(log_probability):
    probability = np.exp(log_probability - log_probability.max())
    return probability / probability.sum()


@checked
def counted_metal(
    evidence: Evidence, place: ArrayLike, draw: int = 0, rng: np.random.Generator | None = None
) -> NDArray[np.float64]:
    """Metal that L2,3 counts per nm³ of both phases, (2,), in one draw of the pixels.

    This is the metal in the phases times what an atom counts. For the lower valence, the latter is measured: oxygen
    atoms are counted with a known cross-section (`Chemistry.oxygen_uncertainty`), and their ratio to the metal is that
    of the phases.

    Parameters
    ----------
    evidence : Evidence
    place : (5,)
        As `Rotation.place` or a row of `Rotation.draw`.
    draw : int
        Of the pixels.
    rng : Generator, optional
        Draws what an atom counts from its uncertainty; by default the mean.
    """
    x0, x1, *vacancies, higher = place
    chemistry, pair = replace(evidence.chemistry, valence_strength=float(higher)), evidence.pair
    strengths = chemistry.phase_strengths(pair)
    log_strength, sigma = np.log(chemistry.metal_strength), chemistry.metal_strength_uncertainty
    if evidence.oxygen_atoms is not None:
        line = evidence.oxygen_atoms[draw]
        places = np.array(pair.stoichiometric(x0, x1, vacancies))
        counted = np.maximum(line[0] + line[1] * places, 1e-3 * abs(line[0]))
        per_metal = (pair.anion_per_metal / strengths)[::-1]
        measured, error = np.log(per_metal / counted).mean(), chemistry.oxygen_uncertainty
        weights = np.array([sigma**-2, error**-2])
        log_strength, sigma = weights @ [log_strength, measured] / weights.sum(), weights.sum() ** -0.5
    if rng is not None:
        log_strength = rng.normal(log_strength, sigma)
    shown = pair.strength(pair.valence_with(vacancies), higher)
    return np.exp(log_strength) * pair.metal_with(vacancies) * shown


@checked
def rotated_references(
    references: ArrayLike,
    reduced: float = 0.0,
    oxidised: float = 0.0,
    *,
    system: System | str | None = None,
) -> tuple[NDArray, NDArray]:
    """Other references that fit the same data equally well: the rotation ambiguity of two components.

    Per metal atom, the first reference moves to ``first + reduced (first - second)``, the other to
    ``second + oxidised (first - second)``; the maps change so that every spectrum stays what it was.

    Parameters
    ----------
    references : (2, E)
        The reduced phase (FeO) and the oxidised one (Fe3O4), per nm.
    reduced, oxidised : float
        As fractions of the metal. ``reduced=-0.2``: the reduced reference contains 20 % of the other phase;
        ``oxidised=0.2``: the oxidised one does.
    system : System or str, optional
        Of the two phases; by default the iron oxides.

    Returns
    -------
    references, transform : (2, E), (2, 2)
        ``transform @ abundances`` are the maps that go with the new references.
    """
    density, references = PhasePair.of(system).metal_per_nm3, real_array(references, "references", ndim=2)
    if len(references) != 2:
        raise ValueError(f"references: got {len(references)}, wants two")
    check_number(reduced, "reduced", -MOST_MIXED, MOST_MIXED)
    check_number(oxidised, "oxidised", -MOST_MIXED, MOST_MIXED)
    if abs(1 + reduced - oxidised) < 1e-9:
        raise ValueError(f"oxidised: got {oxidised!r}, 1 more than reduced, wants references that are not alike")
    mix = np.array([[1 + reduced, -reduced], [oxidised, 1 - oxidised]])
    mix = density[:, None] * mix / density[None, :]
    return mix @ references, np.linalg.inv(mix).T
