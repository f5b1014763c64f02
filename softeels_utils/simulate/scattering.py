"""Inelastic scattering of fast electrons: cross-sections, mean free paths, near-edge shapes, materials.

Cross-sections are built on the atomic scattering factors f2 of Henke, Gullikson and Davis (1993, At. Data
Nucl. Data Tables 54, 181; tables of `periodictable`), in the dipole approximation (Egerton 2011, *Electron
Energy-Loss Spectroscopy in the Electron Microscope*, chapters 3 and 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

BOHR_NM = 0.0529177210903
RYDBERG_EV = 13.605693123
ELECTRON_REST_EV = 510998.95
BARN_NM2 = 1e-10
HC_NM_EV = 1239.841984

# First ionisation threshold of each edge (eV), as the Henke tables have it.
ONSET_EV = {
    ("Fe", "M2,3"): 53.5,
    ("Fe", "L2,3"): 706.8,
    ("Mn", "M2,3"): 48.0,
    ("Mn", "L2,3"): 638.7,
    ("O", "K"): 543.1,
    ("C", "K"): 284.2,
}


def electron(beam_energy_keV: float) -> tuple[float, float]:
    """Lorentz factor and T = m v^2 / 2 (eV) of a beam electron."""
    if not (np.isfinite(beam_energy_keV) and beam_energy_keV > 0):
        raise ValueError(f"beam_energy_keV must be positive, got {beam_energy_keV!r}")
    gamma = 1 + beam_energy_keV * 1e3 / ELECTRON_REST_EV
    return gamma, ELECTRON_REST_EV * (1 - gamma**-2) / 2


def characteristic_angle(energy_eV, beam_energy_keV: float):
    """theta_E = E / (gamma m v^2), in rad."""
    gamma, t_eV = electron(beam_energy_keV)
    return np.asarray(energy_eV) / (2 * gamma * t_eV)


def angular_factor(
    energy_eV,
    *,
    beam_energy_keV: float,
    collection_mrad: float,
    convergence_mrad: float = 0.0,
    bethe_ridge: bool = False,
):
    r"""Share of a Lorentzian scattering distribution that an aperture collects.

    :math:`\frac1\pi\int d^2\theta/(\theta^2+\theta_E^2)` over the collection aperture, averaged over the
    directions of a convergent probe; :math:`\ln(1+\beta^2/\theta_E^2)` for a parallel beam (Egerton 2011,
    eq. 4.65 ff.).

    Parameters
    ----------
    bethe_ridge
        Stop the integral at the Bethe ridge, :math:`\theta_r = \sqrt{E/(\gamma^2 T)}`, past which the dipole
        approximation counts scattering that does not happen.
    """
    for name, value in (("collection_mrad", collection_mrad), ("convergence_mrad", convergence_mrad)):
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be finite and not negative, got {value!r}")
    if collection_mrad == 0:
        raise ValueError("collection_mrad must be positive, got 0")
    energy = np.asarray(energy_eV, dtype=float)
    theta2 = characteristic_angle(energy, beam_energy_keV) ** 2
    beta2 = (collection_mrad * 1e-3) ** 2
    if convergence_mrad == 0:
        factor = np.log1p(beta2 / theta2)
    else:
        # Closed form of the disc integral for a probe direction at angle t; uniform probe: weight 2 t / alpha^2.
        node, weight = np.polynomial.legendre.leggauss(48)
        u = (node + 1) / 2
        t2 = (u * convergence_mrad * 1e-3) ** 2
        psi = beta2 + theta2[..., None] - t2
        inner = np.log((psi + np.sqrt(psi**2 + 4 * t2 * theta2[..., None])) / (2 * theta2[..., None]))
        factor = (inner * (weight * u)).sum(axis=-1)
    if bethe_ridge:
        gamma, t_eV = electron(beam_energy_keV)
        factor = np.minimum(factor, np.log1p(np.abs(energy) / (gamma**2 * t_eV) / theta2))
    return factor


@lru_cache
def _henke(element: str) -> tuple[np.ndarray, np.ndarray]:
    import periodictable

    try:
        table = periodictable.elements.symbol(element).xray.sftable
    except (ValueError, AttributeError, KeyError):
        table = None
    if table is None:
        raise ValueError(f"element must be a symbol that the Henke tables hold, got {element!r}")
    energy, f2 = table[0] * 1e3, table[2]
    good = np.isfinite(f2) & (f2 > 0)
    return np.log(energy[good]), np.log(f2[good])


def oscillator_strength(element: str, energy_eV):
    """Optical oscillator strength df/dE = 2 f2 / (pi E) of one atom, 1/eV, from the Henke tables.

    Raises
    ------
    ValueError
        If an energy is outside the tables (10 eV to 30 keV).
    """
    energy = np.asarray(energy_eV, dtype=float)
    log_e, log_f2 = _henke(element)
    if energy.size and (energy.min() < np.exp(log_e[0]) - 1e-6 or energy.max() > np.exp(log_e[-1])):
        raise ValueError(
            f"energy_eV must be within {np.exp(log_e[0]):.0f} to {np.exp(log_e[-1]):.0f} eV (Henke tables of "
            f"{element}), got {energy.min():.4g} to {energy.max():.4g}"
        )
    return 2 / np.pi * np.exp(np.interp(np.log(energy), log_e, log_f2)) / energy


def onset(element: str, edge: str) -> float:
    """Threshold of an edge (eV); edges that the project does not list come from eXSpy's table."""
    if (element, edge) in ONSET_EV:
        return ONSET_EV[element, edge]
    from exspy.material import elements

    shells = {"K": "K", "L2,3": "L3", "M2,3": "M3", "M4,5": "M5", "L1": "L1", "M1": "M1"}
    if edge not in shells:
        raise ValueError(f"edge must be one of {sorted(shells)}, got {edge!r}")
    try:
        return float(elements[element]["Atomic_properties"]["Binding_energies"][shells[edge]]["onset_energy (eV)"])
    except (KeyError, AttributeError, TypeError):
        raise ValueError(f"edge {edge!r} of element {element!r} is not known") from None


@lru_cache
def _pre_edge(element: str, edge: str) -> tuple[float, float]:
    """Power law through df/dE below the edge: (exponent, log of the factor)."""
    start = onset(element, edge)
    energy = np.geomspace(0.85 * start, 0.97 * start, 60)
    return tuple(np.polyfit(np.log(energy), np.log(oscillator_strength(element, energy)), 1))


def edge_oscillator_strength(element: str, edge: str, energy_eV):
    """df/dE of one shell, 1/eV: the Henke value less the other electrons' share, zero below the onset.

    The share of the less bound electrons is the power law through 85 % to 97 % of the onset energy,
    extrapolated, as a background under an edge is; the deeper shells of `ONSET_EV` are taken off, too.
    """
    energy = np.asarray(energy_eV, dtype=float)
    start = onset(element, edge)
    above = energy >= start
    safe = np.where(above, energy, start)
    exponent, log_factor = _pre_edge(element, edge)
    rest = np.exp(log_factor) * safe**exponent
    shell = oscillator_strength(element, safe) - rest
    for (other, deeper), deeper_start in ONSET_EV.items():
        if other == element and deeper_start > start:
            shell = shell - edge_oscillator_strength(element, deeper, safe)
    return np.where(above, np.maximum(shell, 0.0), 0.0)


def differential_cross_section(oscillator_per_eV, energy_eV, *, beam_energy_keV: float, **angles):
    r"""Energy-differential inelastic cross-section, nm²/eV, from df/dE in the dipole approximation.

    .. math:: \frac{d\sigma}{dE} = \frac{4\pi a_0^2 R^2}{E\,T}\,\frac{df}{dE}\,\ln(1+\beta^2/\theta_E^2),
        \qquad T = m v^2/2

    (Egerton 2011, eq. 3.151 integrated over angle). ``angles`` as for `angular_factor`.
    """
    _, t_eV = electron(beam_energy_keV)
    energy = np.asarray(energy_eV, dtype=float)
    factor = 4 * np.pi * BOHR_NM**2 * RYDBERG_EV**2 / (energy * t_eV)
    return factor * angular_factor(energy, beam_energy_keV=beam_energy_keV, **angles) * oscillator_per_eV


def inelastic_mean_free_path(
    density_g_cm3: float, *, beam_energy_keV: float, collection_mrad: float, convergence_mrad: float = 0.0
) -> float:
    """Mean free path of all inelastic scattering into the aperture, nm.

    Iakoubovskii, Mitsuishi, Nakayama and Furuya 2008, Microsc. Res. Tech. 71, 626 (scales with density; about
    10 % uncertain, as any such formula).
    """
    electron(beam_energy_keV)  # checks the argument
    f = (1 + beam_energy_keV / 1022.12) / (1 + beam_energy_keV / 511.06) ** 2
    theta_e2 = (5.5 * density_g_cm3**0.3 / (f * beam_energy_keV)) ** 2
    theta_c2 = 20.0**2
    a2, b2 = convergence_mrad**2, collection_mrad**2
    wide = a2 + b2 + abs(a2 - b2)
    log = np.log((wide + 2 * theta_e2) / (wide + 2 * theta_c2) * theta_c2 / theta_e2)
    return float(200 * f * beam_energy_keV / (11 * density_g_cm3**0.3) / log)


def delocalisation_nm(energy_eV: float, *, beam_energy_keV: float, collection_mrad: float) -> float:
    """Diameter that holds half of the inelastic signal, nm.

    d50² = (0.5 λ / θE^(3/4))² + (0.6 λ / β)², Egerton 2011, eq. 3.145 ff.
    """
    eV = beam_energy_keV * 1e3
    wavelength = HC_NM_EV / np.sqrt(eV * (eV + 2 * ELECTRON_REST_EV))
    theta = characteristic_angle(energy_eV, beam_energy_keV)
    return float(np.hypot(0.5 * wavelength / theta**0.75, 0.6 * wavelength / (collection_mrad * 1e-3)))


# ---------------------------------------------------------------------------------------------- materials


@dataclass(frozen=True)
class Material:
    """A phase: what is in it and how its spectrum looks.

    Attributes
    ----------
    atoms_per_nm3
        Number density of each element.
    density_g_cm3
        For the mean free path.
    plasmon
        Terms (weight, energy, width; eV) of the valence loss function
        sum of w E Γ Ep² / ((E² - Ep²)² + (E Γ)²), below about 40 eV.
    iron
        Share of each ion in the iron of this phase: columns of the multiplet tables.
    oxygen_k
        Terms (area over the height of the step, energy, FWHM; eV) on top of the O-K step: schematic.
    """

    name: str
    atoms_per_nm3: dict
    density_g_cm3: float
    plasmon: tuple
    iron: dict
    oxygen_k: tuple = ()


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

HOLES = {"Fe2+ Oh": 4, "Fe3+ Oh": 5, "Fe3+ Td": 5}
# White-line area over the continuum's in the window, for one 3d hole. L2,3: 1.0 for the five holes of Fe3+, read
# off the Fe2O3 spectrum of the EELS Data Base. M2,3: what stands above a smooth onset of the 3p continuum in
# the Henke table of iron (about four holes) between 53 and 73 eV.
WHITE_LINE_PER_HOLE = {"L2,3": 0.20, "M2,3": 0.16}
WINDOW_EV = {"M2,3": (53.0, 73.0), "L2,3": (706.0, 746.0), "K": (528.0, 568.0)}
L2_SPLITTING_EV = 13.1
M1_ONSET_EV, M1_SHARE = 91.3, 0.05  # a schematic 3s edge: 5 % of the 3p continuum


@lru_cache
def multiplets(edge: str) -> tuple[np.ndarray, dict]:
    """Multiplet table of Fe-M2,3 or Fe-L2,3: energies (eV) and the shape of each ion (1/eV, area 1)."""
    name = {"M2,3": "fe_m23.csv", "L2,3": "fe_l23.csv"}[edge]
    path = Path(__file__).resolve().parents[2] / "data" / "multiplets" / name
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: install the project from its folder, with `pip install -e .`")
    table = np.loadtxt(path, delimiter=",")
    return table[:, 0], dict(zip(HOLES, table[:, 1:].T, strict=True))


def _step(energy, centre, width):
    return 0.5 + np.arctan((energy - centre) / (width / 2)) / np.pi


def near_edge(element: str, edge: str, energy_eV, material: Material):
    """df/dE of one atom in a material, 1/eV, with near-edge structure.

    Fe-M2,3 and Fe-L2,3: white lines (multiplets) and a rounded continuum step share the Henke strength of the
    edge's window (`WINDOW_EV`, `WHITE_LINE_PER_HOLE`), so that partial cross-sections over it do not depend on
    valence; tens of eV past the window the strength returns to the table's. O-K: the table's continuum, shifted to
    the oxide's threshold, with schematic peaks on it.
    """
    energy = np.asarray(energy_eV, dtype=float)
    start = onset(element, edge)
    lo, hi = WINDOW_EV[edge]

    def table(e):
        return edge_oscillator_strength(element, edge, np.maximum(e, start))

    if edge == "K":
        step = table(energy + start - 534.0) * _step(energy, 535.0, 3.0)
        peak = table(start + 5.0)
        for area, centre, width in material.oxygen_k:
            step = step + peak * area / width * np.exp(-4 * np.log(2) * ((energy - centre) / width) ** 2)
        return np.where(energy > 0.9 * lo, step, 0.0)

    def continuum(e):
        if edge == "L2,3":
            return table(e) * (2 * _step(e, 709.0, 1.0) + _step(e, 709.0 + L2_SPLITTING_EV, 1.0)) / 3
        # the resonance stands on a smooth rise to what is left of the edge past it
        plateau = table(hi + 2.0) * (hi + 2.0) / np.maximum(e, start)
        return np.where(e > hi, table(e), np.minimum(table(e), plateau)) / (1 + np.exp((57.5 - e) / 1.5))

    fine = np.arange(lo, hi + 0.01, 0.02)
    total, smooth_area = np.trapezoid(table(fine), fine), np.trapezoid(continuum(fine), fine)
    grid, shapes = multiplets(edge)
    late = 10 if edge == "M2,3" else 60  # where the strength returns to the table's
    past = 1 / (1 + np.exp((hi + late - energy) / (late / 5)))
    out = table(energy) * past
    for ion, share in material.iron.items():
        ratio = WHITE_LINE_PER_HOLE[edge] * HOLES[ion]
        white = np.interp(energy, grid, shapes[ion], 0, 0) / np.trapezoid(np.interp(fine, grid, shapes[ion]), fine)
        out = out + share * total / (1 + ratio) * (ratio * white + continuum(energy) / smooth_area) * (1 - past)
    return np.where(energy > 0.8 * lo, out, 0.0)
