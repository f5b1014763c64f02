"""Kinematics of the beam electron: relativistic factors, scattering angles, and the part an aperture collects."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_flag, check_not_negative, check_positive, finite_array
from ..doors import checked

__all__ = [
    "ELECTRON_REST_EV",
    "angular_factor",
    "characteristic_angle",
    "collected_fraction",
    "effective_energy_eV",
    "lorentz_factor",
]

ELECTRON_REST_EV = 510998.95
LARGEST_KEV = 1e4  # no microscope reaches it: a larger number is in eV


@checked
def lorentz_factor(beam_energy_keV: float) -> float:
    r"""Lorentz factor :math:`\gamma = 1 + E_0/m_0c^2` of a beam electron."""
    check_positive(beam_energy_keV=beam_energy_keV)
    if beam_energy_keV > LARGEST_KEV:
        raise ValueError(f"beam_energy_keV: got {beam_energy_keV!r}, wants keV, at most {LARGEST_KEV:g}")
    return 1 + beam_energy_keV * 1e3 / ELECTRON_REST_EV


@checked
def effective_energy_eV(beam_energy_keV: float) -> float:
    """Effective incident energy T = m₀ v² / 2 (eV) of a beam electron (Egerton 2011)."""
    return ELECTRON_REST_EV * (1 - lorentz_factor(beam_energy_keV) ** -2) / 2


@checked
def characteristic_angle(energy_eV: ArrayLike, beam_energy_keV: float) -> NDArray:
    """Characteristic angle θ_E = E / (γ m₀ v²) of an energy loss, in rad, in the shape of ``energy_eV``."""
    energy = finite_array(energy_eV, "energy_eV")
    if energy.min(initial=0) < 0:
        raise ValueError(f"energy_eV: got {energy.min():g}, wants energy losses of at least 0")
    return energy / (2 * lorentz_factor(beam_energy_keV) * effective_energy_eV(beam_energy_keV))


@checked
def collected_fraction(collection_mrad: float, convergence_mrad: float = 0.0) -> float:
    """Fraction of the electrons of an evenly filled probe that reach the spectrometer without a specimen, at most 1.

    Cross-sections are per electron of the probe. Amounts in a spectrum are relative to the zero loss, and so per
    electron that the aperture lets through: the cross-sections it shows are those divided by this fraction (Egerton
    2011, section 4.5.3, F2).

    Parameters
    ----------
    collection_mrad, convergence_mrad
        Half angles of the collection aperture and of the probe.

    Examples
    --------
    >>> collected_fraction(40.0, 20.0), collected_fraction(10.0, 20.0)
    (1.0, 0.25)
    """
    check_positive(collection_mrad=collection_mrad)
    check_not_negative(convergence_mrad=convergence_mrad)
    return 1.0 if convergence_mrad <= collection_mrad else float((collection_mrad / convergence_mrad) ** 2)


@checked
def angular_factor(
    energy_eV: ArrayLike,
    *,
    beam_energy_keV: float,
    collection_mrad: float,
    convergence_mrad: float = 0.0,
    bethe_ridge: bool = False,
) -> NDArray:
    r"""Integral of a Lorentzian scattering distribution over the collection aperture.

    :math:`\frac1\pi\int d^2\theta/(\theta^2+\theta_E^2)`, averaged over the directions of a convergent probe;
    :math:`\ln(1+\beta^2/\theta_E^2)` for a parallel beam (Egerton 2011, eq. 4.65 ff.).

    Parameters
    ----------
    energy_eV
        Energy losses, an array of any shape; the result, without unit, has the same shape.
    beam_energy_keV
        Beam energy.
    collection_mrad, convergence_mrad
        Half angles of the collection aperture and of the probe (0: parallel beam).
    bethe_ridge
        Stop the integral at the Bethe ridge, :math:`\theta_r = \sqrt{E/(\gamma^2 T)}`; beyond it, the dipole
        approximation includes scattering that does not occur.

    Raises
    ------
    ValueError
        For a beam energy or angle out of range.
    """
    check_positive(collection_mrad=collection_mrad)
    check_not_negative(convergence_mrad=convergence_mrad)
    check_flag(bethe_ridge, "bethe_ridge")
    energy = finite_array(energy_eV, "energy_eV")
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
        ridge2 = np.abs(energy) / (lorentz_factor(beam_energy_keV) ** 2 * effective_energy_eV(beam_energy_keV))
        factor = np.minimum(factor, np.log1p(ridge2 / theta2))
    return factor
