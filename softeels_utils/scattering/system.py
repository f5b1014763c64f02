"""Phases and systems: the materials an analysis assumes, what they are made of, and the edges it looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_not_negative, check_number, describe
from ..doors import checked

__all__ = ["Edge", "EdgeChange", "Ion", "Phase", "System"]

METAL_EDGES = ("M2,3", "L2,3")


@checked
@dataclass(frozen=True, eq=False)
class Edge:
    """An edge of a system.

    Attributes
    ----------
    name, element
        ``"M2,3"``, ``"L2,3"``, ``"M1"`` of the metal or ``"K"`` of the anion.
    onset_eV
        Energy at which it begins.
    signal_eV
        Energy at which its delocalisation is taken.
    window_eV
        Window in which its signal is counted; None: not counted.
    fit_window_eV
        Window of a fit, including background before the edge; None: not fitted.
    fit_background
        Background of a fit: a name, or exponents of powers of the energy (`fitting.background_shapes`).
    near_edge
        Constants of the twin's near-edge structure, see `near_edge_oscillator_strength`. No estimator reads them.
    standards
        Windows, energies and uncertainties with which reference spectra are found in a specimen: read by `standards`,
        not by the twin. Empty where the file has none.
    """

    name: str
    element: str
    onset_eV: float
    signal_eV: float
    window_eV: tuple[float, float] | None = None
    fit_window_eV: tuple[float, float] | None = None
    fit_background: str | tuple[float, ...] = "power_law"
    near_edge: Mapping[str, float] = field(default_factory=dict)
    standards: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fit_options(self) -> dict[str, Any]:
        """Window and background, as `fitting.fit_phases` takes them."""
        return {"window_eV": self.fit_window_eV, "background": self.fit_background}


@checked
@dataclass(frozen=True, eq=False)
class Ion:
    """An ion of the metal.

    Attributes
    ----------
    valence, holes
        Charge, and holes in the 3d shell.
    tables
        ``{edge: (energy_eV, shape)}``, two arrays (E,): the white lines, without the continuum. Used by the twin only.
    strengths
        Factor on each edge of this ion, 1 where it is not listed. Used by the twin only.
    """

    valence: float
    holes: float
    tables: Mapping[str, tuple[NDArray, NDArray]] = field(repr=False)
    strengths: Mapping[str, float] = field(default_factory=dict)


@checked
@dataclass(frozen=True)
class EdgeChange:
    """How an edge of a phase departs from what its composition implies.

    Attributes
    ----------
    strength
        Factor on the whole edge.
    shift_eV
        Shift to higher energy.
    fwhm_eV
        Gaussian that broadens the white lines.
    normalisation
        For edges of the metal. 0: all ions have the same strength in the edge's window; 1: all have the same continuum;
        or a value in between.
    peaks
        Peaks on the step of the anion's K edge, each (area divided by the step's height, energy, FWHM), all in eV.
    """

    strength: float = 1.0
    shift_eV: float = 0.0
    fwhm_eV: float = 0.0
    normalisation: float = 0.0
    peaks: tuple[tuple[float, float, float], ...] = ()

    def __post_init__(self):
        check_not_negative(strength=self.strength, fwhm_eV=self.fwhm_eV)
        for name in ("shift_eV", "normalisation"):
            check_number(getattr(self, name), name)


@checked
@dataclass(frozen=True, eq=False)
class Phase:
    """A material: composition, density and valences, and what the twin makes its spectrum from.

    Attributes
    ----------
    name, title
        Key (``"FeO"``) and name (``"wüstite"``).
    atoms_per_nm3
        Number density of each element.
    density_g_cm3
        Density, for the mean free path.
    ion_fractions
        Fraction of each ion in the metal of this phase; empty where it contains no metal.
    atoms_uncertainty
        Relative standard uncertainty that all number densities share.
    metal_range
        Lowest and highest factor by which vacancies may change the number density of the metal.
    vacancies
        Two ions: the one that a vacancy of the metal oxidises, and what it becomes. None: not known.
    expected_vacancies
        For the extraction of reference spectra: standard deviation of the half-Gaussian prior of the vacancy fraction,
        and the largest fraction allowed.
    valence_loss
        Terms (weight, energy, width; eV) of the valence loss function sum of w E Γ Ep² / ((E² - Ep²)² + (E Γ)²), below
        about 40 eV. Used by the twin only.
    near_edge
        `EdgeChange` of each edge. Used by the twin only.
    """

    name: str
    title: str
    atoms_per_nm3: Mapping[str, float]
    density_g_cm3: float
    ion_fractions: Mapping[str, float] = field(default_factory=dict)
    atoms_uncertainty: float = 0.0
    metal_range: tuple[float, float] = (1.0, 1.0)
    vacancies: tuple[str, str] | None = None
    expected_vacancies: tuple[float, float] = (0.0, 0.0)
    valence_loss: tuple[tuple[float, float, float], ...] = ()
    near_edge: Mapping[str, EdgeChange] = field(default_factory=dict)

    def edge_change(self, edge: str) -> EdgeChange:
        """The changes to one edge; by default none."""
        return self.near_edge.get(edge, EdgeChange())

    def with_edge(self, edge: str, **changes: object) -> Phase:
        """The same phase with an edge changed; ``changes`` are attributes of `EdgeChange`."""
        return replace(self, near_edge={**self.near_edge, edge: replace(self.edge_change(edge), **changes)})


@checked
@dataclass(frozen=True, eq=False)
class System:
    """The phases that an analysis assumes, one metal and one anion, and the edges of both.

    `load_system` reads one from a file.

    Attributes
    ----------
    name, title
        Name of the file and of the system.
    metal, anion
        Symbols of the elements.
    edges
        ``{name: Edge}``.
    ions
        ``{name: Ion}`` of the metal.
    phases
        ``{name: Phase}``: all known phases, including what may surround the specimen.
    channels
        Names of the phases that an analysis assumes by default, in the order of its channels.

    Examples
    --------
    >>> from softeels_utils.scattering import load_system
    >>> iron = load_system("iron_oxides")
    >>> iron.channels, [iron.mean_valence(phase) for phase in iron.channels]
    (('FeO', 'Fe3O4'), [2.0, 2.67])
    >>> iron.with_vacancies("FeO", 0.05).mean_valence("FeO")  # Fe0.95O
    2.11
    """

    name: str
    title: str
    metal: str
    anion: str
    edges: Mapping[str, Edge]
    ions: Mapping[str, Ion]
    phases: Mapping[str, Phase]
    channels: tuple[str, ...]

    @cached_property
    def metal_name(self) -> str:
        """Name of the metal, for instance ``"iron"``."""
        import periodictable

        return periodictable.elements.symbol(self.metal).name

    def phase(self, name: str) -> Phase:
        """One phase by its name.

        Raises
        ------
        ValueError
            If it is not in the system.
        """
        if name not in self.phases:
            raise ValueError(f"phase: got {name!r}, wants one of {sorted(self.phases)} ({self.title})")
        return self.phases[name]

    def check_phases(self, phases: str | Sequence[str] | None) -> tuple[str, ...]:
        """Names of phases as a tuple, by default `channels`; `ValueError` unless all are known and distinct."""
        if not isinstance(phases, (str, Sequence, np.ndarray, type(None))):
            raise ValueError(f"phases: got {describe(phases)}, wants names of {sorted(self.phases)} ({self.title})")
        names = self.channels if phases is None else (phases,) if isinstance(phases, str) else tuple(phases)
        if not names or len(set(names)) < len(names) or any(name not in self.phases for name in names):
            raise ValueError(f"phases: got {phases!r}, wants distinct names of {sorted(self.phases)} ({self.title})")
        return names

    def edge(self, name: str) -> Edge:
        """One edge by its name.

        Raises
        ------
        ValueError
            If it is not in the system.
        """
        if name not in self.edges:
            raise ValueError(f"edge: got {name!r}, wants one of {sorted(self.edges)} ({self.title})")
        return self.edges[name]

    def edges_of(self, element: str) -> tuple[str, ...]:
        """Edges among which the strength of an element is divided; carbon K is one, although it is not analysed."""
        if element == self.metal:
            return METAL_EDGES
        return ("K",) if element in (self.anion, "C") else ()

    # ------------------------------------------------------------------ what is in a phase

    def metal_per_nm3(self, phases: str | Sequence[str] | None = None) -> NDArray:
        """Atoms of the metal per nm³ of each phase (P,), by default of `channels`."""
        return np.array([self.phase(p).atoms_per_nm3.get(self.metal, 0.0) for p in self.check_phases(phases)])

    def anion_per_metal(self, phase: str) -> float:
        """Atoms of the anion per atom of the metal; infinite where there is no metal."""
        atoms = self.phase(phase).atoms_per_nm3
        metal = atoms.get(self.metal, 0.0)
        return atoms.get(self.anion, 0.0) / metal if metal else float("inf")

    def mean_valence(self, phase: str) -> float:
        """Mean valence of the metal in a phase; NaN where it contains none."""
        fractions = self.phase(phase).ion_fractions
        return sum(f * self.ions[ion].valence for ion, f in fractions.items()) if fractions else float("nan")

    def metal_and_valence(
        self, thickness_nm: ArrayLike, phases: str | Sequence[str] | None = None
    ) -> tuple[NDArray, NDArray]:
        """Atoms of the metal per nm² and their mean valence, two arrays (...), for a thickness (P, ...) of each phase.

        The valence is NaN where there is no metal.
        """
        names, thickness = self.check_phases(phases), np.asarray(thickness_nm, dtype=float)
        if thickness.ndim == 0 or len(thickness) != len(names):
            raise ValueError(f"thickness_nm: got shape {thickness.shape}, wants a first axis of {len(names)} phases")
        metal = self.metal_per_nm3(names)
        charge = metal * np.nan_to_num([self.mean_valence(p) for p in names])
        atoms, charges = (np.tensordot(weights, thickness, axes=1) for weights in (metal, charge))
        return atoms, np.divide(charges, atoms, out=np.full_like(atoms, np.nan), where=atoms > 0)

    # ------------------------------------------------------------------ other systems

    def with_phases(self, *phases: Phase) -> System:
        """The system with some phases added; they replace those of the same name."""
        return replace(self, phases={**self.phases, **{phase.name: phase for phase in phases}})

    def with_vacancies(self, phase: str, fraction: float, name: str | None = None) -> System:
        """The system with a fraction of a phase's metal missing; oxidising the rest keeps the charge balanced.

        Parameters
        ----------
        phase
            Name of the phase.
        fraction
            Fraction of the metal's sites that are empty.
        name
            Name of the new phase; None: it replaces the old one.

        Raises
        ------
        ValueError
            If it is not known what a vacancy oxidises, or there are not enough ions to oxidise.
        """
        old = self.phase(phase)
        if old.vacancies is None:
            raise ValueError(f"phase: got {phase!r}, wants one whose file says what vacancies oxidise")
        source, target = old.vacancies
        step = self.ions[target].valence - self.ions[source].valence
        oxidised = fraction * self.mean_valence(phase) / step / (1 - fraction)
        left = old.ion_fractions.get(source, 0.0) - oxidised
        if not 0 <= fraction < 1 or left < -1e-9:
            raise ValueError(f"fraction: got {fraction!r}, wants at least 0, and enough {source} left to oxidise")
        ions = {**old.ion_fractions, source: max(left, 0.0), target: old.ion_fractions.get(target, 0.0) + oxidised}
        atoms = {**old.atoms_per_nm3, self.metal: old.atoms_per_nm3[self.metal] * (1 - fraction)}
        density = old.density_g_cm3 * mass_of(atoms) / mass_of(old.atoms_per_nm3)
        new = replace(
            old,
            name=name or phase,
            atoms_per_nm3=atoms,
            density_g_cm3=density,
            ion_fractions=ions,
            metal_range=(1.0, 1.0),
            expected_vacancies=(0.0, 0.0),
        )
        return self.with_phases(new)


def mass_of(atoms: Mapping[str, float]) -> float:
    """Mass of numbers of atoms, atomic mass units."""
    import periodictable

    return sum(n * periodictable.elements.symbol(element).mass for element, n in atoms.items())
