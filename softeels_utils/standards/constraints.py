"""What is known of the two phases without a reference spectrum, each statement with its uncertainty and its source.

What is not known and touches several statements at once, vacancies and the strength of L2,3, is in `Chemistry`.

To add a constraint: write a subclass of `Constraint` and add an instance to `CONSTRAINTS`; if it needs something that
is not counted yet, add that to `Evidence`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..checks import check_kind, check_not_negative, check_number, check_positive
from ..doors import checked
from .pair import PhasePair

__all__ = [
    "CONSTRAINTS",
    "Chemistry",
    "Constraint",
    "Evidence",
    "LeadingEdge",
    "LeadingEdgeWindow",
    "OxygenCount",
    "OxygenRatio",
    "PixelRange",
    "PureRim",
    "select_constraints",
]


@checked
@dataclass(frozen=True)
class Chemistry:
    """What is unknown about the oxides, and averaged over.

    The oxygen lattices are complete; where metal is missing, ions of the higher valence keep them neutral.

    Attributes
    ----------
    vacancies, most_vacancies : float
        The reduced phase is M(1-y)O: y is drawn from the positive half of a Gaussian of standard deviation
        ``vacancies``, cut off at ``most_vacancies``. `of` takes both from a system: 0.07 and 0.13 for wüstite.
    oxidised_vacancies, most_oxidised_vacancies, oxidised_probability : float
        The same for the oxidised phase, on the way from magnetite (0) to maghemite (1/9); ``oxidised_probability`` is
        that of its lacking any metal at all. `of` takes the most from the system's ``metal_range``: 0.111 for
        magnetite; none for oxides of manganese, whose file names no ions that vacancies oxidise.
    valence_strength, valence_strength_uncertainty : float
        L2,3 of an ion of the higher valence over that of one of the lower, in the window in which the metal is counted:
        1 if the edge has the same strength whatever the valence; 1.10 (Mn) or 1.11 (Fe) if white lines proportional to
        the number of 3d holes add to the same continuum.
    metal_strength, metal_strength_uncertainty : float
        L2,3 of an ion of the lower valence over the calculated continuum, and the standard deviation of its logarithm:
        1 if the white lines take their strength from the continuum, 1.8 (Fe) or 2 (Mn) if they add to it.
    oxygen_uncertainty : float
        Relative uncertainty of the cross-section of O-K: the difference between calculations and measured
        photoabsorption.
    """

    vacancies: float = 0.0
    most_vacancies: float = 0.0
    oxidised_vacancies: float = 0.05
    most_oxidised_vacancies: float = 0.0
    oxidised_probability: float = 0.3
    valence_strength: float = 1.05
    valence_strength_uncertainty: float = 0.05
    metal_strength: float = 1.3
    metal_strength_uncertainty: float = 0.3
    oxygen_uncertainty: float = 0.06

    def __post_init__(self):
        check_positive(
            valence_strength=self.valence_strength,
            metal_strength=self.metal_strength,
            metal_strength_uncertainty=self.metal_strength_uncertainty,
            oxygen_uncertainty=self.oxygen_uncertainty,
        )
        check_not_negative(
            vacancies=self.vacancies,
            most_vacancies=self.most_vacancies,
            oxidised_vacancies=self.oxidised_vacancies,
            most_oxidised_vacancies=self.most_oxidised_vacancies,
            valence_strength_uncertainty=self.valence_strength_uncertainty,
        )
        if not self.most_vacancies < 0.25:
            raise ValueError(f"most_vacancies: got {self.most_vacancies!r}, wants 0 or more, below 0.25 (MO is M3O4)")
        if not self.most_oxidised_vacancies < 0.25:
            raise ValueError(
                f"most_oxidised_vacancies: got {self.most_oxidised_vacancies!r}, wants 0 or more, below 0.25"
            )
        check_number(self.oxidised_probability, "oxidised_probability", 0, 1)

    @classmethod
    def of(cls, pair: PhasePair) -> Chemistry:
        """With the vacancies of both phases from their system, and defaults for the rest."""
        oxidised = pair.system.phase(pair.oxidised)
        most = 1 - oxidised.metal_range[0] if oxidised.vacancies else 0.0
        return cls(*pair.system.phase(pair.reduced).expected_vacancies, most_oxidised_vacancies=most)

    def nodes(self) -> tuple[NDArray, NDArray, NDArray]:
        """What to average over: vacancies of both phases (Q, 2), strengths of the higher valence (Q,), and their joint
        probabilities (Q,).
        """
        y, vacancy = np.zeros(1), np.ones(1)
        if self.vacancies and self.most_vacancies:
            y = np.linspace(0, self.most_vacancies, 6)
            vacancy = np.exp(-0.5 * (y / self.vacancies) ** 2)
            vacancy[0] /= 2  # half a step wide
        z, oxidised = np.zeros(1), np.ones(1)
        if self.oxidised_vacancies and self.most_oxidised_vacancies and self.oxidised_probability:
            z = np.linspace(0, self.most_oxidised_vacancies, 4)
            oxidised = np.exp(-0.5 * (z / self.oxidised_vacancies) ** 2)
            oxidised *= self.oxidised_probability / oxidised[1:].sum()
            oxidised[0] = 1 - self.oxidised_probability
        away, strength = np.zeros(1), np.ones(1)
        if self.valence_strength_uncertainty:
            away, strength = np.array([-1, 0, 1]) * np.sqrt(3), np.array([1, 4, 1]) / 6  # as a Gaussian, to 5th order
        higher = self.valence_strength + self.valence_strength_uncertainty * away
        *lacking, higher = (grid.ravel() for grid in np.meshgrid(y, z, higher, indexing="ij"))
        probability = np.einsum("i,j,k->ijk", vacancy, oxidised, strength).ravel()
        return np.column_stack(lacking), higher, probability / probability.sum()

    def phase_strengths(self, pair: PhasePair) -> NDArray:
        """L2,3 per metal atom in both phases without vacancies, (2,), relative to that of the lower valence."""
        return pair.strength(pair.valence, self.valence_strength)


@checked
@dataclass(frozen=True)
class Evidence:
    """What the core loss counts per metal atom along the line of one metal atom per nm², and where pixels lie on it.

    A count is ``a + b x``, given as (a, b) for each of B bootstrap draws; draw 0 is all pixels, not resampled. x grows
    towards the reduced phase.

    Attributes
    ----------
    ends, end_errors : (2,)
        Values of x between which the pixels lie, and their errors, see `estimate_range`.
    outermost : str or None
        The phase at the rim, one of the pair; None: either may be the one seen pure.
    oxygen, oxygen_atoms : (B, 2) or None
        See `CoreLossEstimators`.
    leading_edge : (W, B, 2) or None
        Windows on the leading edge of L3.
    leading_edge_eV : (W,) or None
        Their centres, evenly spaced.
    pair : PhasePair
        The phases; by default those of the iron oxides.
    chemistry : Chemistry
        By default that of the pair's system.
    """

    ends: NDArray
    end_errors: NDArray
    outermost: str | None = None
    oxygen: NDArray | None = field(repr=False, default=None)
    oxygen_atoms: NDArray | None = field(repr=False, default=None)
    leading_edge: NDArray | None = field(repr=False, default=None)
    leading_edge_eV: NDArray | None = field(repr=False, default=None)
    pair: PhasePair = field(default_factory=PhasePair.of)
    chemistry: Chemistry | None = None

    def __post_init__(self):
        if self.outermost not in (*self.pair.names, None):
            raise ValueError(f"outermost: got {self.outermost!r}, wants one of {self.pair.names}, or None")
        if self.chemistry is None:
            object.__setattr__(self, "chemistry", Chemistry.of(self.pair))


@checked
class Constraint(ABC):
    """A statement, with its uncertainty, about where the oxidised phase (x0) and the reduced one (x1) are on the line.

    Numbers that are None come from the system: `of` fills them in.

    Attributes
    ----------
    name, description : str
    uncertainty : float
        One standard deviation of what the statement assumes.
    source : str
        Where that number comes from.
    counts_valence : bool
        Whether the statement is about valence: x0 and x1 are then where both phases without vacancies would be, even if
        the specimen contains none. Otherwise they are the phases as they are in the specimen, with their vacancies.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    counts_valence: ClassVar[bool] = False
    uncertainty: float
    source: str

    @property
    @abstractmethod
    def stated(self) -> str:
        """The uncertainty in words, with its unit."""

    def of(self, pair: PhasePair) -> Constraint:
        """The same statement about two phases, with what it leaves to their system filled in."""
        return self

    def missing(self, evidence: Evidence) -> str:
        """What the evidence lacks for this constraint; empty if nothing."""
        return ""

    @abstractmethod
    def log_likelihood(self, evidence: Evidence, x0: NDArray, x1: NDArray) -> NDArray:
        """Log-likelihood of each pair (x0, x1), up to a constant; minus infinity where the pair is impossible.

        To be called only if nothing is `missing`.
        """


@checked
@dataclass(frozen=True)
class OxygenRatio(Constraint):
    """Oxygen per metal atom in the oxidised phase over that in the reduced one, from O-K."""

    name = "oxygen"
    description = (
        "oxygen per metal atom differs between the phases as their formulas say (O-K without its pre-peak; no "
        "cross-section needed)"
    )
    counts_valence = True
    ratio: float | None = None
    uncertainty: float = 0.03  # relative
    source: str = "estimate: near-edge structure of O-K, which takes from the window or adds to it"

    def __post_init__(self):
        check_positive(**_stated(self, "ratio", "uncertainty"))

    @property
    def stated(self) -> str:
        return f"±{100 * self.uncertainty:.1f} %"

    def of(self, pair: PhasePair) -> OxygenRatio:
        reduced, oxidised = pair.anion_per_metal
        return self if self.ratio is not None else replace(self, ratio=float(oxidised / reduced))

    def missing(self, evidence: Evidence) -> str:
        return "" if evidence.oxygen is not None else _NO_OXYGEN

    def log_likelihood(self, evidence: Evidence, x0: NDArray, x1: NDArray) -> NDArray:
        # counted per metal atom as L2,3 counts it, of which the higher valence may show more
        (log0, log1), possible = _logs(evidence.oxygen, x0, x1)
        reduced, oxidised = evidence.chemistry.phase_strengths(evidence.pair)
        expected = np.log(self.of(evidence.pair).ratio / (oxidised / reduced))
        return np.where(possible, _gaussian(log0 - log1, expected, self.uncertainty), -np.inf)


@checked
@dataclass(frozen=True)
class OxygenCount(Constraint):
    """Oxygen per metal atom, counted with calculated cross-sections: it shows what a metal atom counts at L2,3."""

    name = "cross_section"
    description = (
        "oxygen per metal atom, counted with calculated cross-sections, is that of the formulas, within white lines"
    )
    counts_valence = True
    product: float | None = None  # of oxygen per metal atom of the two phases
    uncertainty: float = 0.30  # relative
    source: str = "white lines: on the continuum of L2,3, or taken from it; tables of L2,3 differ by a factor of two"

    def __post_init__(self):
        check_positive(**_stated(self, "product", "uncertainty"))

    @property
    def stated(self) -> str:
        return f"±{100 * self.uncertainty:.0f} %"

    def of(self, pair: PhasePair) -> OxygenCount:
        return self if self.product is not None else replace(self, product=float(np.prod(pair.anion_per_metal)))

    def missing(self, evidence: Evidence) -> str:
        return "" if evidence.oxygen_atoms is not None else _NO_OXYGEN

    def log_likelihood(self, evidence: Evidence, x0: NDArray, x1: NDArray) -> NDArray:
        (log0, log1), possible = _logs(evidence.oxygen_atoms, x0, x1)
        chemistry, pair = evidence.chemistry, evidence.pair
        strength = chemistry.metal_strength * np.sqrt(np.prod(chemistry.phase_strengths(pair)))
        expected = np.log(self.of(pair).product) / 2 - np.log(strength)
        return np.where(possible, _gaussian((log0 + log1) / 2, expected, self.uncertainty), -np.inf)


@checked(counts="B 2", shifted="B 2", least="B 2", most="B 2")
@dataclass(frozen=True)
class LeadingEdgeWindow:
    """The window on the leading edge of L3 that leaves the phases least uncertain.

    Attributes
    ----------
    energy_eV : float
        Its centre.
    counts : (B, 2)
    shifted, least, most : (B, 2)
        Counts at energies lower by the shift between the valences, and by that shift plus and minus its uncertainty:
        how much of the higher valence reaches the window.
    """

    energy_eV: float
    counts: NDArray = field(repr=False)
    shifted: NDArray = field(repr=False)
    least: NDArray = field(repr=False)
    most: NDArray = field(repr=False)


@checked
@dataclass(frozen=True)
class LeadingEdge(Constraint):
    """Fraction of the metal that has the lower valence, from the leading edge of L3, which starts at lower energy for
    it.

    All the metal in the reduced phase has the lower valence, and ``lower_fraction`` of it in the oxidised one. The
    leading edge of the higher valence is taken to be that of the lower, shifted up by ``shift_eV`` and ``strength``
    times as high per ion: midway between 1 (equal lines) and the ratio of the 3d holes. That of the lower valence is
    taken to be the same in both phases, within ``lower_uncertainty``.
    """

    name = "leading_edge"
    description = "below the onset of the higher valence, L3 is due to the lower one, a fraction that formulas state"
    counts_valence = True
    lower_fraction: float | None = None
    shift_eV: float | None = None
    uncertainty: float | None = None  # eV, of the shift
    source: str = "the system"
    strength: float | None = None
    strength_uncertainty: float = 0.4  # more than that: the shape of its foot differs, too
    lower_uncertainty: float = 0.10  # relative: 0.1 eV, where the edge grows e-fold within 1 eV

    def __post_init__(self):
        for name, value in _stated(self, "lower_fraction").items():
            check_number(value, name, 0, 1)
        check_positive(**_stated(self, "uncertainty", "strength"))
        check_not_negative(**_stated(self, "shift_eV", "strength_uncertainty", "lower_uncertainty"))

    @property
    def stated(self) -> str:
        if self.shift_eV is None:
            return "as the system says"
        return f"the higher valence lies {self.shift_eV:.1f} ± {self.uncertainty:.2f} eV higher"

    def of(self, pair: PhasePair) -> LeadingEdge:
        known = pair.system.edge("L2,3").standards
        low, high = pair.holes
        filled = {"lower_fraction": float(pair.lower_fraction[1]), "strength": (1 + high / low) / 2}
        if "shift_eV" in known:
            filled |= {"shift_eV": known["shift_eV"][0], "uncertainty": known["shift_eV"][1]}
        filled = {name: value for name, value in filled.items() if getattr(self, name) is None}
        if "shift_eV" in filled:
            filled["source"] = known["shift_source"]
        return replace(self, **filled) if filled else self

    def missing(self, evidence: Evidence) -> str:
        statement = self.of(evidence.pair)
        if None in (statement.shift_eV, statement.uncertainty):
            return "the system does not say how far L3 lies apart in the two valences"
        if evidence.pair.lower_fraction[0] < 1 - 1e-6:
            return f"{evidence.pair.reduced} holds both valences"
        usable = self.choose_window(evidence) is not None
        return "" if usable else "no leading edge of L3 above the noise that extends down by the shift between valences"

    def choose_window(self, evidence: Evidence) -> LeadingEdgeWindow | None:
        """The window that leaves the phases least uncertain, if they were at the ends of the pixels.

        Far down the leading edge there is little of the higher valence, but there are few counts; higher up it is the
        other way round. None if no window both has a signal above the noise and keeps the leading edge of the higher
        valence within the windows.
        """
        statement = self.of(evidence.pair)
        if evidence.leading_edge is None or None in (statement.shift_eV, statement.uncertainty):
            return None
        if statement is not self:
            return statement.choose_window(evidence)
        energy = evidence.leading_edge_eV
        first = energy[0] + self.shift_eV + self.uncertainty
        windows = [self._window(evidence, i) for i in np.flatnonzero(energy >= first - 1e-9)]
        errors = [self._error(window, *evidence.ends) for window in windows]
        return windows[int(np.argmin(errors))] if np.isfinite(errors).any() else None

    def _window(self, evidence, i):
        counts, energy = evidence.leading_edge, evidence.leading_edge_eV
        step = energy[1] - energy[0]

        def lower_by(shift_eV):
            place = (energy[i] - shift_eV - energy[0]) / step
            j = min(int(place), len(energy) - 2)
            return (1 - place + j) * counts[j] + (place - j) * counts[j + 1]

        shifts = (self.shift_eV, self.shift_eV + self.uncertainty, self.shift_eV - self.uncertainty)
        return LeadingEdgeWindow(float(energy[i]), counts[i], *(lower_by(shift) for shift in shifts))

    def _error(self, window, low, high):
        """Of the ratio of the phases, taken at the ends of the pixels."""
        lines = (window.counts, window.shifted, window.least, window.most)
        reduced, shifted, least, most = (line[:, 0] + line[:, 1] * high for line in lines)
        good = reduced > 0
        if not good[0] or good.mean() < 0.5:
            return np.inf
        higher = 1 - self.lower_fraction
        ratio = (window.counts[good] @ [1, low] - higher * self.strength * shifted[good]) / reduced[good]
        scatter = 1.4826 * np.median(np.abs(ratio - np.median(ratio))) / good.mean()
        leak = np.array([self.strength * (most - least)[0] / 2, self.strength_uncertainty * shifted[0]]) / reduced[0]
        return np.hypot(scatter, higher * np.linalg.norm(leak))

    def log_likelihood(self, evidence: Evidence, x0: NDArray, x1: NDArray) -> NDArray:
        statement = self.of(evidence.pair)
        if statement is not self:
            return statement.log_likelihood(evidence, x0, x1)
        window = self.choose_window(evidence)
        # per atom: the lower valence counts 1, the higher as much as the same line at higher energy leaves, the leak
        reduced = _on_line(window.counts, x1)
        possible = reduced[0] > 0
        reduced = np.where((reduced > 0) | ~possible, reduced, np.nan)  # draws without a leading edge do not count
        reduced = np.where(possible, reduced, 1.0)
        lines = (window.shifted, window.least, window.most)
        leak, least, most = (self.strength * _on_line(line, x1) / reduced for line in lines)
        error = np.hypot(leak[0] * self.strength_uncertainty / self.strength, (most[0] - least[0]) / 2)
        higher = 1 - self.lower_fraction
        expected = (self.lower_fraction + higher * leak) / evidence.chemistry.phase_strengths(evidence.pair)[1]
        error = np.hypot(higher * error, self.lower_fraction * self.lower_uncertainty)
        return np.where(possible, _gaussian(_on_line(window.counts, x0) / reduced - expected, 0.0, error), -np.inf)


@checked
@dataclass(frozen=True)
class PureRim(Constraint):
    """The outermost phase is seen nearly pure at the rim.

    ``uncertainty`` is how much of the other phase the purest pixels may contain, owing to the delocalisation of M2,3
    and to pixels that are not quite outermost. ``probability`` is that of a phase being seen that pure at all. It is an
    assumption: one specimen in two is not what its rim looks like (a patchy skin, one that is rough below the pixel
    size, or a mixture). The rest of the probability is spread over all purities, so that counted atoms may overrule the
    rim.
    """

    name = "pure_rim"
    description = (
        "the outermost phase is seen nearly pure, where the rim resolves it: lines of sight there meet no other"
    )
    uncertainty: float = 0.02  # fraction of the metal
    probability: float = 0.5
    source: str = "estimate: a few parts in a hundred"

    def __post_init__(self):
        check_positive(uncertainty=self.uncertainty)
        check_number(self.probability, "probability", 0, 1)

    @property
    def stated(self) -> str:
        return f"±{100 * self.uncertainty:.0f} % of the metal in the other phase"

    def log_likelihood(self, evidence: Evidence, x0: NDArray, x1: NDArray) -> NDArray:
        (low, high), (error0, error1), width = evidence.ends, evidence.end_errors, x1 - x0
        seen0 = np.exp(-0.5 * ((low - x0) / np.hypot(error0, self.uncertainty * width)) ** 2)
        seen1 = np.exp(-0.5 * ((x1 - high) / np.hypot(error1, self.uncertainty * width)) ** 2)
        # a half Gaussian, or anything up to a whole width away: of equal area where the ends have no error, which
        # widens the Gaussian and so favours it a little
        otherwise = (1 - self.probability) * np.sqrt(np.pi / 2) * self.uncertainty
        reduced, oxidised = evidence.pair.names
        seen = {oxidised: seen0, reduced: seen1, None: np.maximum(seen0, seen1)}[evidence.outermost]
        return np.log(self.probability * seen + otherwise)


@checked
@dataclass(frozen=True)
class PixelRange(Constraint):
    """Both phases lie outside the range of the pixels, or at its ends."""

    name = "pixels"
    description = "no pixel lies outside of the two phases"
    uncertainty: float = 0.01  # fraction of the metal, added to the noise of the pixels
    source: str = "noise of the pixels, from the data; the rest is an estimate"

    def __post_init__(self):
        check_positive(uncertainty=self.uncertainty)

    @property
    def stated(self) -> str:
        return f"noise of the pixels, and ±{100 * self.uncertainty:.0f} % of the metal"

    def log_likelihood(self, evidence: Evidence, x0: NDArray, x1: NDArray) -> NDArray:
        (low, high), (error0, error1), width = evidence.ends, evidence.end_errors, x1 - x0
        beyond0 = np.maximum(x0 - low, 0) / np.hypot(error0, self.uncertainty * width)
        beyond1 = np.maximum(high - x1, 0) / np.hypot(error1, self.uncertainty * width)
        return -0.5 * (beyond0**2 + beyond1**2)


def _stated(constraint, *names):
    """Numbers of a constraint that are not left to the system."""
    return {name: getattr(constraint, name) for name in names if getattr(constraint, name) is not None}


#: The constraints that are used by default, by name, with what is left to the system not filled in.
CONSTRAINTS: dict[str, Constraint] = {
    c.name: c for c in (OxygenRatio(), OxygenCount(), LeadingEdge(), PureRim(), PixelRange())
}

_NO_OXYGEN = "the core loss does not hold O-K"


@checked
def select_constraints(
    constraints: str | Constraint | Iterable[str | Constraint] = tuple(CONSTRAINTS),
    pair: PhasePair | None = None,
) -> tuple[Constraint, ...]:
    """Return constraints, given by name or as instances, as instances in the order of `CONSTRAINTS`.

    What they leave to the system is filled in for a pair of phases, by default that of the iron oxides.

    Raises
    ------
    ValueError
        For names that do not exist, two constraints of the same name, or no constraint at all.

    Examples
    --------
    >>> [c.stated for c in select_constraints(["pixels", OxygenRatio(uncertainty=0.03)])]
    ['±3.0 %', 'noise of the pixels, and ±1 % of the metal']
    """
    several = isinstance(constraints, Iterable) and not isinstance(constraints, str)
    asked = tuple(constraints) if several else (constraints,)
    chosen = [CONSTRAINTS.get(c) if isinstance(c, str) else c for c in asked]
    good = all(isinstance(c, Constraint) for c in chosen)
    if not chosen or not good or len({c.name for c in chosen}) < len(chosen):
        raise ValueError(f"constraints: got {asked}, wants some of {tuple(CONSTRAINTS)}, each once")
    order, pair = list(CONSTRAINTS), PhasePair.of() if pair is None else check_kind(pair, "pair", PhasePair)
    return tuple(
        sorted((c.of(pair) for c in chosen), key=lambda c: order.index(c.name) if c.name in order else len(order))
    )


def _on_line(line, x):
    """Counts a + b x, (B, ...), of every draw at each x (...)."""
    return line[:, 0, None, None] + line[:, 1, None, None] * x


def _logs(line, x0, x1):
    """Logarithms of the counts at x0 and at x1, and where both are positive."""
    counts = [_on_line(line, x) for x in (x0, x1)]
    least = 1e-3 * np.abs(line[0, 0])
    return [np.log(np.maximum(c, least)) for c in counts], (counts[0][0] > 0) & (counts[1][0] > 0)


def _gaussian(values, expected, systematic):
    """Log-likelihood of values[0], whose bootstrap scatter adds to the systematic uncertainty."""
    median = np.median if np.isfinite(values).all() else np.nanmedian
    scatter = 1.4826 * median(np.abs(values - median(values, axis=0)), axis=0)
    sigma = np.hypot(scatter, systematic)
    return -0.5 * ((values[0] - expected) / sigma) ** 2 - np.log(sigma)
