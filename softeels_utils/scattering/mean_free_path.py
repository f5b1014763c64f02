"""How far a beam electron travels before it loses energy, and how far away the atom is that it excites."""

from __future__ import annotations

import numpy as np

from ..checks import check_not_negative, check_positive
from ..doors import checked
from .kinematics import ELECTRON_REST_EV, characteristic_angle

__all__ = ["delocalisation_nm", "inelastic_mean_free_path"]

HC_NM_EV = 1239.841984


@checked
def inelastic_mean_free_path(
    density_g_cm3: float, *, beam_energy_keV: float, collection_mrad: float, convergence_mrad: float = 0.0
) -> float:
    """Mean free path of all inelastic scattering into the aperture, nm.

    Iakoubovskii, Mitsuishi, Nakayama and Furuya 2008, Microsc. Res. Tech. 71, 626 (scales with density; about 10 %
    uncertain, like any such formula).
    """
    check_positive(density_g_cm3=density_g_cm3, beam_energy_keV=beam_energy_keV, collection_mrad=collection_mrad)
    check_not_negative(convergence_mrad=convergence_mrad)
    f = (1 + beam_energy_keV / 1022.12) / (1 + beam_energy_keV / 511.06) ** 2
    theta_e2 = (5.5 * density_g_cm3**0.3 / (f * beam_energy_keV)) ** 2
    theta_c2 = 20.0**2
    a2, b2 = convergence_mrad**2, collection_mrad**2
    wide = a2 + b2 + abs(a2 - b2)
    log = np.log((wide + 2 * theta_e2) / (wide + 2 * theta_c2) * theta_c2 / theta_e2)
    return float(200 * f * beam_energy_keV / (11 * density_g_cm3**0.3) / log)


@checked
def delocalisation_nm(energy_eV: float, *, beam_energy_keV: float, collection_mrad: float) -> float:
    """Diameter that contains half of the inelastic signal of an energy loss, nm.

    d50² = (0.5 λ / θE^(3/4))² + (0.6 λ / β)², Egerton 2011, eq. 3.145 ff.
    """
    check_positive(energy_eV=energy_eV, beam_energy_keV=beam_energy_keV, collection_mrad=collection_mrad)
    beam_eV = beam_energy_keV * 1e3
    wavelength_nm = HC_NM_EV / np.sqrt(beam_eV * (beam_eV + 2 * ELECTRON_REST_EV))
    theta = characteristic_angle(energy_eV, beam_energy_keV)
    return float(np.hypot(0.5 * wavelength_nm / theta**0.75, 0.6 * wavelength_nm / (collection_mrad * 1e-3)))
