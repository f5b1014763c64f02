"""The two phases that a specimen is taken to hold: what their formulas say of oxygen, metal and valence."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..doors import checked
from ..scattering import System, as_system

__all__ = ["PhasePair"]

KNOWN = ("M2,3", "L2,3", "K")  # edges


@checked(metal_per_nm3="2", anion_per_metal="2", valence="2")
@dataclass(frozen=True, eq=False)
class PhasePair:
    """Two phases of a system, the reduced one first, with two valences of the metal between them.

    Each may lack some of its metal; part of the rest is then oxidised, so that the charge stays balanced.

    Attributes
    ----------
    system : System
    names : (str, str)
        The reduced phase and the oxidised one: ``("FeO", "Fe3O4")``.
    metal_per_nm3, anion_per_metal, valence : (2,)
        Number density of the metal, O/metal and mean valence of each phase, without vacancies.
    ion_valence : (float, float)
        The lower and the higher valence.
    holes : (float, float)
        In the 3d shell, of each valence.
    """

    system: System
    names: tuple[str, str]
    metal_per_nm3: NDArray = field(repr=False)
    anion_per_metal: NDArray = field(repr=False)
    valence: NDArray = field(repr=False)
    ion_valence: tuple[float, float]
    holes: tuple[float, float]

    @classmethod
    def of(cls, system: System | str | Path | None = None) -> PhasePair:
        """The pair formed by a system's channels.

        Parameters
        ----------
        system
            A `scattering.System`, or the name or path of one; None: the iron oxides.

        Raises
        ------
        ValueError
            If the channels are not two phases, the one of lower valence first, with two valences between them, or the
            file lacks what finding reference spectra needs (``standards`` of each edge).

        Examples
        --------
        >>> pair = PhasePair.of("manganese_oxides")
        >>> pair.names, pair.ion_valence, pair.lower_fraction.round(3).tolist()
        (('MnO', 'Mn3O4'), (2.0, 3.0), [1.0, 0.333])
        """
        system = as_system(system)
        if missing := [edge for edge in KNOWN if not system.edge(edge).standards]:
            raise ValueError(f"system: got {system.name!r}, without standards of {missing}, wants them in its file")
        names = system.channels
        ions = {name: system.ions[name] for phase in names for name in system.phase(phase).ion_fractions}
        valences = sorted({ion.valence for ion in ions.values()})
        mean = np.array([system.mean_valence(name) for name in names])
        if len(names) != 2 or not mean[0] < mean[1] or len(valences) != 2:
            raise ValueError(
                f"system: got channels {names} of {system.name!r} with mean valences {mean.round(2).tolist()}, wants "
                "two phases, that of the lower valence first, of two valences"
            )
        return cls(
            system=system,
            names=names,
            metal_per_nm3=system.metal_per_nm3(),
            anion_per_metal=np.array([system.anion_per_metal(name) for name in names]),
            valence=mean,
            ion_valence=tuple(valences),
            holes=tuple(float(np.mean([i.holes for i in ions.values() if i.valence == v])) for v in valences),
        )

    @property
    def reduced(self) -> str:
        """Name of the phase of lower valence."""
        return self.names[0]

    @property
    def oxidised(self) -> str:
        """Name of the other one."""
        return self.names[1]

    @property
    def lower_fraction(self) -> NDArray:
        """Fraction of the metal in each phase that has the lower valence, (2,)."""
        low, high = self.ion_valence
        return (high - self.valence) / (high - low)

    @property
    def ion_names(self) -> tuple[str, str]:
        """Both valences of the metal: ``("Fe2+", "Fe3+")``."""
        return tuple(f"{self.system.metal}{valence:g}+" for valence in self.ion_valence)

    # ------------------------------------------------------------------ with vacancies

    @checked(vacancies="... 2")
    def metal_with(self, vacancies: ArrayLike) -> NDArray[np.float64]:
        """Metal atoms per nm³ of both phases, (..., 2), with a fraction (..., 2) missing; their lattices keep their
        size.
        """
        return self.metal_per_nm3 * (1 - np.asarray(vacancies, float))

    @checked(vacancies="... 2")
    def valence_with(self, vacancies: ArrayLike) -> NDArray[np.float64]:
        """Mean valence of the metal of both phases, (..., 2), with a fraction (..., 2) of it missing."""
        return self.valence / (1 - np.asarray(vacancies, float))

    @checked(x0="*", x1="*", vacancies="... 2")
    def stoichiometric(self, x0: ArrayLike, x1: ArrayLike, vacancies: ArrayLike) -> tuple[NDArray, NDArray]:
        """Where both phases would be without vacancies, the oxidised one first.

        Parameters
        ----------
        x0, x1 : array_like
            Places of the oxidised phase and of the reduced one, as they are, on a line along which valence is linear.
        vacancies : (..., 2)
            Of the reduced phase and of the oxidised one.
        """
        reduced, oxidised = np.moveaxis(self.valence_with(vacancies), -1, 0)
        per_valence = (np.asarray(x1) - x0) / (oxidised - reduced)
        lower, higher = self.valence
        return x0 + (oxidised - higher) * per_valence, x0 + (oxidised - lower) * per_valence

    @checked(valence="*", higher="*")
    def strength(self, valence: ArrayLike, higher: ArrayLike) -> NDArray[np.float64]:
        """L2,3 per atom at a mean valence, relative to the lower valence; ``higher`` is that of the higher valence."""
        low, high = self.ion_valence
        return 1 + (np.asarray(higher, float) - 1) * (np.asarray(valence, float) - low) / (high - low)
