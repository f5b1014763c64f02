"""Materials: what is in a phase, how dense it is, and what its valence losses and near-edge structure are made of."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["IRON_PER_NM3", "MATERIALS", "PHASES", "Material"]

#: The two phases of the nanocubes, in the order of the channels.
PHASES = ("FeO", "Fe3O4")


@dataclass(frozen=True)
class Material:
    """A phase: what is in it and how its spectrum looks.

    Attributes
    ----------
    name
        Chemical formula or common name.
    atoms_per_nm3
        Number density of each element.
    density_g_cm3
        For the mean free path.
    plasmon
        Terms (weight, energy, width; eV) of the valence loss function
        sum of w E Γ Ep² / ((E² - Ep²)² + (E Γ)²), below about 40 eV.
    ion_fractions
        Fraction of each ion in the iron of this phase; the ions are columns of the multiplet tables.
    oxygen_k
        Peaks (area over the height of the step, energy, FWHM; eV) on top of the O-K step: schematic.
    """

    name: str
    atoms_per_nm3: dict[str, float]
    density_g_cm3: float
    plasmon: tuple[tuple[float, float, float], ...]
    ion_fractions: dict[str, float]
    oxygen_k: tuple[tuple[float, float, float], ...] = ()


# Lattice: FeO a = 4.307 Å, 4 formula units (stoichiometric; real wüstite lacks about 5 % Fe);
# Fe3O4 a = 8.396 Å, 8 formula units. The plasmon terms and O-K terms are schematic, after the low-loss and
# O-K spectra of Colliex, Manoubi and Ortiz 1991, Phys. Rev. B 44, 11402.
MATERIALS = {
    "FeO": Material(
        "FeO",
        {"Fe": 4 / 0.4307**3, "O": 4 / 0.4307**3},
        5.97,
        ((0.10, 8.0, 5.0), (1.0, 22.5, 15.0), (0.40, 33.0, 18.0)),
        {"Fe2+ Oh": 1.0},
        ((0.5, 532.0, 2.0), (3.0, 537.5, 4.0), (1.5, 542.5, 5.0)),
    ),
    "Fe3O4": Material(
        "Fe3O4",
        {"Fe": 24 / 0.8396**3, "O": 32 / 0.8396**3},
        5.20,
        ((0.10, 7.0, 5.0), (1.0, 23.5, 16.0), (0.30, 33.0, 18.0)),
        {"Fe2+ Oh": 1 / 3, "Fe3+ Oh": 1 / 3, "Fe3+ Td": 1 / 3},
        ((2.2, 530.5, 2.2), (3.5, 540.0, 6.0), (1.0, 546.0, 6.0)),
    ),
    "carbon": Material("carbon", {"C": 100.0}, 2.0, ((0.12, 6.0, 3.0), (1.0, 24.0, 17.0)), {}),
}

#: Iron atoms per nm³ of each phase, from the lattice constants.
IRON_PER_NM3 = {name: MATERIALS[name].atoms_per_nm3["Fe"] for name in PHASES}
