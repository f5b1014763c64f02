"""Inelastic cross-sections of atoms, from optical oscillator strengths.

Cross-sections are built on the atomic scattering factors f2 of Henke, Gullikson and Davis (1993, At. Data
Nucl. Data Tables 54, 181; tables of `periodictable`), in the dipole approximation (Egerton 2011, *Electron
Energy-Loss Spectroscopy in the Electron Microscope*, chapters 3 and 4).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

BOHR_NM = 0.0529177210903
RYDBERG_EV = 13.605693123
ELECTRON_REST_EV = 510998.95
BARN_NM2 = 1e-10

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
