"""What is known of the two phases without a reference spectrum, each statement with its uncertainty and its source.

What is not known and touches several statements at once, vacancies and the strength of L2,3, is in `Chemistry`.

To add a constraint: write a subclass of `Constraint` and add an instance to `CONSTRAINTS`; if it needs something that
is not counted yet, add that to `Evidence`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..scattering import check_not_negative, check_positive

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


@dataclass(frozen=True)
class Chemistry:
    """What is left open about the oxides, and averaged over.

    Attributes
    ----------
    vacancies, most_vacancies : float
        Wüstite is Fe(1-y)O: y is drawn from the positive half of a Gaussian of standard deviation ``vacancies``, cut
        off at ``most_vacancies``. Bulk wüstite has y from 0.05 to 0.12 in equilibrium (Hazen and Jeanloz, Rev.
        Geophys. 22, 37 (1984)), that of nanocrystals may be nearly stoichiometric. The oxygen lattice is complete,
        Fe3+ keeps it neutral.
    ferric_strength, ferric_strength_uncertainty : float
        L2,3 of an Fe3+ ion over that of an Fe2+ ion, in the window in which iron is counted: 1 if the edge has the same
        strength whatever the valence, 1.11 if white lines in proportion to the 3d holes stand on the same continuum.
    iron_strength, iron_strength_uncertainty : float
        L2,3 of an Fe2+ ion over the calculated continuum, and the standard deviation of its logarithm: 1 if white lines
        take from the continuum what they have, 1.8 if they stand on it.
    oxygen_uncertainty : float
        Of the cross-section of O-K (relative): what calculations and measured photoabsorption differ by.
    """

    vacancies: float = 0.07
    most_vacancies: float = 0.13
    ferric_strength: float = 1.05
    ferric_strength_uncertainty: float = 0.05
    iron_strength: float = 1.3
    iron_strength_uncertainty: float = 0.3
    oxygen_uncertainty: float = 0.06

    def __post_init__(self):
        check_positive(
            ferric_strength=self.ferric_strength,
            iron_strength=self.iron_strength,
            iron_strength_uncertainty=self.iron_strength_uncertainty,
            oxygen_uncertainty=self.oxygen_uncertainty,
        )
        check_not_negative(vacancies=self.vacancies, ferric_strength_uncertainty=self.ferric_strength_uncertainty)
        if not 0 <= self.most_vacancies < 0.25:
            raise ValueError(f"most_vacancies: got {self.most_vacancies!r}, wants 0 or more, below 0.25 (FeO is gone)")

    def nodes(self) -> tuple[NDArray, NDArray, NDArray]:
        """Vacancies (Q,) and strengths of Fe3+ (Q,) to average over, and the probability (Q,) of each pair."""
        y, vacancy = np.zeros(1), np.ones(1)
        if self.vacancies and self.most_vacancies:
            y = np.linspace(0, self.most_vacancies, 6)
            vacancy = np.exp(-0.5 * (y / self.vacancies) ** 2)
            vacancy[0] /= 2  # half a step wide
        away, strength = np.zeros(1), np.ones(1)
        if self.ferric_strength_uncertainty:
            away, strength = np.array([-1, 0, 1]) * np.sqrt(3), np.array([1, 4, 1]) / 6  # as a Gaussian, to 5th order
        probability = np.outer(vacancy, strength).ravel()
        ferric = self.ferric_strength + self.ferric_strength_uncertainty * away
        return np.repeat(y, len(away)), np.tile(ferric, len(y)), probability / probability.sum()

    @property
    def magnetite_strength(self) -> float:
        """L2,3 per iron of Fe3O4 over that of stoichiometric FeO."""
        return (1 + 2 * self.ferric_strength) / 3


def valence_of_wustite(vacancies: ArrayLike) -> NDArray:
    """Mean valence 2 / (1 - y) of the iron in Fe(1-y)O."""
    return 2 / (1 - np.asarray(vacancies, float))


def ferrous_part_of_wustite(vacancies: ArrayLike) -> NDArray:
    """Where Fe(1-y)O is on the line from Fe3O4 (0) to stoichiometric FeO (1), by its valence."""
    return 4 - 1.5 * valence_of_wustite(vacancies)


@dataclass(frozen=True)
class Evidence:
    """What the core loss counts per iron atom along the line of one iron atom per nm², and where the pixels lie on it.

    A count is ``a + b x``, given as (a, b) for each of B bootstrap draws; draw 0 is all pixels as they are. x grows
    towards FeO.

    Attributes
    ----------
    ends, end_errors : (2,)
        Values of x between which the pixels lie, and their errors, see `estimate_range`.
    outermost : "FeO", "Fe3O4" or None
        The phase at the rim; None: either may be the one that is seen pure.
    oxygen, oxygen_atoms : (B, 2) or None
        See `CoreLossEstimators`.
    leading_edge : (W, B, 2) or None
        Windows on the leading edge of L3.
    leading_edge_eV : (W,) or None
        Their centres, evenly spaced.
    chemistry : Chemistry
    """

    ends: NDArray
    end_errors: NDArray
    outermost: str | None = None
    oxygen: NDArray | None = field(repr=False, default=None)
    oxygen_atoms: NDArray | None = field(repr=False, default=None)
    leading_edge: NDArray | None = field(repr=False, default=None)
    leading_edge_eV: NDArray | None = field(repr=False, default=None)
    chemistry: Chemistry = Chemistry()

    def __post_init__(self):
        if self.outermost not in ("FeO", "Fe3O4", None):
            raise ValueError(f"outermost: got {self.outermost!r}, wants 'FeO', 'Fe3O4' or None")


class Constraint(ABC):
    """A statement on where Fe3O4 (at x0) and FeO (at x1) are on the line, with a stated uncertainty.

    Attributes
    ----------
    name, description : str
    uncertainty : float
        One standard deviation of what the statement assumes.
    source : str
        Where that number comes from.
    counts_valence : bool
        Whether the statement is on valence: x1 is then where stoichiometric FeO would be, of which the specimen may
        hold none. Otherwise x1 is FeO as it is in the specimen, with its vacancies.
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

    def missing(self, evidence: Evidence) -> str:
        """What the evidence lacks for this constraint; empty where it lacks nothing."""
        return ""

    @abstractmethod
    def log_likelihood(self, evidence: Evidence, x0: NDArray, x1: NDArray) -> NDArray:
        """Of each pair (x0, x1), up to a constant; minus infinity where it is impossible.

        To be asked only where nothing is `missing`.
        """


@dataclass(frozen=True)
class OxygenRatio(Constraint):
    """O/Fe of Fe3O4 over that of FeO, by O-K."""

    name = "oxygen"
    description = "O/Fe of Fe3O4 is 4/3 that of FeO (O-K without its pre-peak; no cross-section needed)"
    counts_valence = True
    ratio: float = 4 / 3
    uncertainty: float = 0.03  # relative
    source: str = "estimate: near-edge structure of O-K, which takes from the window or adds to it"

    @property
    def stated(self) -> str:
        return f"±{100 * self.uncertainty:.1f} %"

    def missing(self, evidence: Evidence) -> str:
        return "" if evidence.oxygen is not None else _NO_OXYGEN

    def log_likelihood(self, evidence: Evidence, x0: NDArray, x1: NDArray) -> NDArray:
        # counted per iron atom as L2,3 counts it, of which Fe3+ may show more
        (log0, log1), possible = _logs(evidence.oxygen, x0, x1)
        expected = np.log(self.ratio / evidence.chemistry.magnetite_strength)
        return np.where(possible, _gaussian(log0 - log1, expected, self.uncertainty), -np.inf)


@dataclass(frozen=True)
class OxygenCount(Constraint):
    """O/Fe of both phases, counted with calculated cross-sections: it tells what an atom of iron counts at L2,3."""

    name = "cross_section"
    description = "O/Fe counted with calculated cross-sections is 1 in FeO and 4/3 in Fe3O4, white lines allowed for"
    counts_valence = True
    product: float = 4 / 3  # of O/Fe of the two phases
    uncertainty: float = 0.30  # relative
    source: str = "white lines: on the continuum of L2,3, or taken from it; tables of L2,3 differ by a factor of two"

    @property
    def stated(self) -> str:
        return f"±{100 * self.uncertainty:.0f} %"

    def missing(self, evidence: Evidence) -> str:
        return "" if evidence.oxygen_atoms is not None else _NO_OXYGEN

    def log_likelihood(self, evidence: Evidence, x0: NDArray, x1: NDArray) -> NDArray:
        (log0, log1), possible = _logs(evidence.oxygen_atoms, x0, x1)
        strength = evidence.chemistry.iron_strength * np.sqrt(evidence.chemistry.magnetite_strength)
        expected = np.log(self.product) / 2 - np.log(strength)
        return np.where(possible, _gaussian((log0 + log1) / 2, expected, self.uncertainty), -np.inf)


@dataclass(frozen=True)
class LeadingEdgeWindow:
    """The window on the leading edge of L3 that leaves the phases least uncertain.

    Attributes
    ----------
    energy_eV : float
        Its centre.
    counts : (B, 2)
    shifted, least, most : (B, 2)
        Counts at energies that are lower by the shift between Fe2+ and Fe3+, and by that shift plus and minus its
        uncertainty: what of Fe3+ reaches the window.
    """

    energy_eV: float
    counts: NDArray = field(repr=False)
    shifted: NDArray = field(repr=False)
    least: NDArray = field(repr=False)
    most: NDArray = field(repr=False)


@dataclass(frozen=True)
class LeadingEdge(Constraint):
    """Fe2+ over all iron, by the leading edge of L3, which starts lower for Fe2+ than for Fe3+.

    The leading edge of Fe3+ is taken to be that of Fe2+, shifted up by ``shift_eV`` and ``strength`` times as high per
    ion: between 1 (one line like the other) and 5/4 (in proportion to the 3d holes). That of Fe2+ is taken to be the
    same in both phases, within ``ferrous_uncertainty``.
    """

    name = "leading_edge"
    description = "below the onset of Fe3+, L3 is due to Fe2+: all iron in FeO, a third in Fe3O4"
    counts_valence = True
    ferrous_fraction: float = 1 / 3  # of the iron in Fe3O4
    shift_eV: float = 1.7
    uncertainty: float = 0.15  # eV, of the shift
    source: str = (
        "L3 at 707.8 and 709.5 eV, each known to 0.1 eV: "
        "van Aken, Liebscher and Styrsa, Phys. Chem. Minerals 25, 323 (1998)"
    )
    strength: float = 1.125
    strength_uncertainty: float = 0.4  # more than that: the shape of its foot differs, too
    ferrous_uncertainty: float = 0.10  # of Fe2+ in Fe3O4 (relative): 0.1 eV, where the edge grows e-fold within 1 eV

    @property
    def stated(self) -> str:
        return f"Fe3+ lies {self.shift_eV:.1f} ± {self.uncertainty:.2f} eV higher"

    def missing(self, evidence: Evidence) -> str:
        usable = self.choose_window(evidence) is not None
        return "" if usable else "no leading edge of L3 above the noise that extends down by the shift to Fe3+"

    def choose_window(self, evidence: Evidence) -> LeadingEdgeWindow | None:
        """The window that leaves the phases least uncertain, taken to be at the ends of the pixels.

        Far down the leading edge there is little of Fe3+, but few counts; higher up it is the other way round. None
        where no window has both a signal above the noise and the leading edge of Fe3+ within the windows.
        """
        if evidence.leading_edge is None:
            return None
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
        feo, shifted, least, most = (line[:, 0] + line[:, 1] * high for line in lines)
        good = feo > 0
        if not good[0] or good.mean() < 0.5:
            return np.inf
        ferric = 1 - self.ferrous_fraction
        ratio = (window.counts[good] @ [1, low] - ferric * self.strength * shifted[good]) / feo[good]
        scatter = 1.4826 * np.median(np.abs(ratio - np.median(ratio))) / good.mean()
        leak = np.array([self.strength * (most - least)[0] / 2, self.strength_uncertainty * shifted[0]]) / feo[0]
        return np.hypot(scatter, ferric * np.linalg.norm(leak))

    def log_likelihood(self, evidence: Evidence, x0: NDArray, x1: NDArray) -> NDArray:
        # per atom: Fe2+ counts 1, Fe3+ as much as the same line at higher energy leaves here, the leak
        window = self.choose_window(evidence)
        feo = _on_line(window.counts, x1)
        possible = feo[0] > 0
        feo = np.where((feo > 0) | ~possible, feo, np.nan)  # draws without a leading edge do not count
        feo = np.where(possible, feo, 1.0)
        lines = (window.shifted, window.least, window.most)
        leak, least, most = (self.strength * _on_line(line, x1) / feo for line in lines)
        error = np.hypot(leak[0] * self.strength_uncertainty / self.strength, (most[0] - least[0]) / 2)
        ferric = 1 - self.ferrous_fraction
        expected = (self.ferrous_fraction + ferric * leak) / evidence.chemistry.magnetite_strength
        error = np.hypot(ferric * error, self.ferrous_fraction * self.ferrous_uncertainty)
        return np.where(possible, _gaussian(_on_line(window.counts, x0) / feo - expected, 0.0, error), -np.inf)


@dataclass(frozen=True)
class PureRim(Constraint):
    """The outermost phase is seen nearly pure at the rim.

    ``uncertainty`` is how much of the other phase the purest pixels may hold: what reaches the rim by the
    delocalisation of M2,3 and by a pixel that is not quite outermost. ``probability`` is that of a phase being seen
    that pure at all. A belief: every other specimen is not what its rim looks like (a patchy skin, one that is
    rough below the pixel, or a mixture). The other half is spread over all purities, so that counted atoms may
    overrule the rim.
    """

    name = "pure_rim"
    description = (
        "the outermost phase is seen nearly pure, where the rim resolves it: lines of sight there meet no other"
    )
    uncertainty: float = 0.02  # FeO fraction of the iron
    probability: float = 0.5
    source: str = "estimate: a few parts in a hundred"

    @property
    def stated(self) -> str:
        return f"±{100 * self.uncertainty:.0f} % FeO"

    def log_likelihood(self, evidence: Evidence, x0: NDArray, x1: NDArray) -> NDArray:
        (low, high), (error0, error1), width = evidence.ends, evidence.end_errors, x1 - x0
        seen0 = np.exp(-0.5 * ((low - x0) / np.hypot(error0, self.uncertainty * width)) ** 2)
        seen1 = np.exp(-0.5 * ((x1 - high) / np.hypot(error1, self.uncertainty * width)) ** 2)
        # a half Gaussian, or anything up to a whole width away: of equal area where the ends have no error, which
        # widens the Gaussian and so favours it a little
        otherwise = (1 - self.probability) * np.sqrt(np.pi / 2) * self.uncertainty
        seen = {"Fe3O4": seen0, "FeO": seen1, None: np.maximum(seen0, seen1)}[evidence.outermost]
        return np.log(self.probability * seen + otherwise)


@dataclass(frozen=True)
class PixelRange(Constraint):
    """Both phases lie outside of the pixels, or at their ends."""

    name = "pixels"
    description = "no pixel lies outside of the two phases"
    uncertainty: float = 0.01  # FeO fraction of the iron, added to the noise of the pixels
    source: str = "noise of the pixels, from the data; the rest is an estimate"

    @property
    def stated(self) -> str:
        return f"noise of the pixels, and ±{100 * self.uncertainty:.0f} % FeO"

    def log_likelihood(self, evidence: Evidence, x0: NDArray, x1: NDArray) -> NDArray:
        (low, high), (error0, error1), width = evidence.ends, evidence.end_errors, x1 - x0
        beyond0 = np.maximum(x0 - low, 0) / np.hypot(error0, self.uncertainty * width)
        beyond1 = np.maximum(high - x1, 0) / np.hypot(error1, self.uncertainty * width)
        return -0.5 * (beyond0**2 + beyond1**2)


#: The constraints that are used by default, by name.
CONSTRAINTS: dict[str, Constraint] = {
    c.name: c for c in (OxygenRatio(), OxygenCount(), LeadingEdge(), PureRim(), PixelRange())
}

_NO_OXYGEN = "the core loss does not hold O-K"


def select_constraints(
    constraints: str | Constraint | Iterable[str | Constraint] = tuple(CONSTRAINTS),
) -> tuple[Constraint, ...]:
    """Constraints by name or by instance, one or several, as instances, in the order of `CONSTRAINTS`.

    Raises
    ------
    ValueError
        For names that do not exist, two constraints of one name, and no constraint at all.

    Examples
    --------
    >>> [c.stated for c in select_constraints(["pixels", OxygenRatio(uncertainty=0.03)])]
    ['±3.0 %', 'noise of the pixels, and ±1 % FeO']
    """
    asked = (constraints,) if isinstance(constraints, (str, Constraint)) else tuple(constraints)
    chosen = [CONSTRAINTS.get(c) if isinstance(c, str) else c for c in asked]
    good = all(isinstance(c, Constraint) for c in chosen)
    if not chosen or not good or len({c.name for c in chosen}) < len(chosen):
        raise ValueError(f"constraints: got {asked}, wants some of {tuple(CONSTRAINTS)}, each once")
    order = list(CONSTRAINTS)
    return tuple(sorted(chosen, key=lambda c: order.index(c.name) if c.name in order else len(order)))


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
