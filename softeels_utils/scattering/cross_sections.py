"""Inelastic cross-sections of atoms in the dipole approximation, from optical oscillator strengths.

Egerton 2011, *Electron Energy-Loss Spectroscopy in the Electron Microscope*, chapters 3 and 4.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_flag, check_positive, check_window, finite_array
from ..doors import checked
from .edges import onset
from .kinematics import angular_factor, effective_energy_eV
from .oscillator_strengths import edge_oscillator_strength

__all__ = ["differential_cross_section", "hydrogenic_cross_section", "partial_cross_section"]

BOHR_NM = 0.0529177210903
RYDBERG_EV = 13.605693123
BARN_NM2 = 1e-10


@checked
def differential_cross_section(
    oscillator_strength_per_eV: ArrayLike, energy_eV: ArrayLike, *, beam_energy_keV: float, **angles: float | bool
) -> NDArray:
    r"""Energy-differential inelastic cross-section, nm²/eV, from df/dE in the dipole approximation.

    .. math:: \frac{d\sigma}{dE} = \frac{4\pi a_0^2 R^2}{E\,T}\,\frac{df}{dE}\,\ln(1+\beta^2/\theta_E^2),
        \qquad T = m_0 v^2/2

    (Egerton 2011, eq. 3.151 integrated over angle).

    Parameters
    ----------
    oscillator_strength_per_eV, energy_eV
        df/dE (1/eV) at each energy loss; arrays of the same shape, which is also that of the result.
    beam_energy_keV
        Beam energy.
    **angles
        ``collection_mrad``, ``convergence_mrad`` and ``bethe_ridge``, as for `angular_factor`.
    """
    t_eV = effective_energy_eV(beam_energy_keV)
    strength, energy = (
        finite_array(oscillator_strength_per_eV, "oscillator_strength_per_eV"),
        finite_array(energy_eV, "energy_eV"),
    )
    if not (energy > 0).all():
        raise ValueError(f"energy_eV: got {energy.min():g}, wants energy losses above 0")
    if strength.ndim and strength.shape != energy.shape:
        wanted = f"that of energy_eV, {energy.shape}"
        raise ValueError(f"oscillator_strength_per_eV: got shape {strength.shape}, wants {wanted}")
    factor = 4 * np.pi * BOHR_NM**2 * RYDBERG_EV**2 / (energy * t_eV)
    return factor * angular_factor(energy, beam_energy_keV=beam_energy_keV, **angles) * strength


@checked
def partial_cross_section(
    element: str,
    edge: str,
    *,
    beam_energy_keV: float,
    collection_mrad: float,
    window_eV: tuple[float, float],
    convergence_mrad: float = 0.0,
    bethe_ridge: bool = False,
) -> float:
    r"""Cross-section of one edge over an energy window and collection angle, barn.

    .. math:: \sigma = \int dE\,\frac{4\pi a_0^2R^2}{E\,T}\frac{df}{dE}\ln\!\left(1+\frac{\beta^2}{\theta_E^2}\right),
        \quad \frac{df}{dE} = \frac{2 f_2}{\pi E},\quad T = \tfrac12 m_0 v^2

    with Henke's :math:`f_2` minus the contribution of the other electrons (`edge_oscillator_strength`).

    Parameters
    ----------
    element, edge
        ``"Fe"`` and ``"M2,3"``, ``"L2,3"``; ``"K"`` of O, C and others in the Henke tables.
    beam_energy_keV
        Beam energy.
    collection_mrad, convergence_mrad
        Half angles of the collection aperture and of the probe (0: parallel beam).
    window_eV
        Energies ``(from, to)``.
    bethe_ridge
        Cut the angles off at the Bethe ridge, beyond which the dipole formula overestimates: 12 mrad for Fe-M2,3 and 43
        mrad for Fe-L2,3 at 300 kV.

    Raises
    ------
    ValueError
        For an unknown element or edge, or a window that does not increase or lies below the edge.

    Examples
    --------
    >>> m = partial_cross_section("Fe", "M2,3", beam_energy_keV=300, collection_mrad=40, window_eV=(53, 73))
    >>> print(f"{m:.2e} barn")
    1.05e+05 barn
    """
    low, high = check_window(window_eV)
    start = onset(element, edge)
    if high <= start:
        raise ValueError(f"window_eV: got {window_eV!r}, wants energies above the {element}-{edge} onset at {start} eV")
    energy = np.linspace(max(low, start), high, max(400, int(50 * (high - low))))
    sigma_nm2_per_eV = differential_cross_section(
        edge_oscillator_strength(element, edge, energy),
        energy,
        beam_energy_keV=beam_energy_keV,
        collection_mrad=collection_mrad,
        convergence_mrad=convergence_mrad,
        bethe_ridge=bethe_ridge,
    )
    return float(np.trapezoid(sigma_nm2_per_eV, energy) / BARN_NM2)


@checked
def hydrogenic_cross_section(
    element: str = "Fe",
    *,
    beam_energy_keV: float,
    collection_mrad: float,
    window_eV: tuple[float, float],
    near_edge_reduction: bool = True,
) -> float:
    """Partial cross-section of L2,3 from eXSpy's hydrogenic model (Egerton's SIGMAL3), in barn, for comparison.

    Parameters
    ----------
    element
        Symbol of the element.
    beam_energy_keV, collection_mrad, window_eV
        As for `partial_cross_section`.
    near_edge_reduction
        The model multiplies its strength near the edge by ((E - E_L3) / 1.8 Z²)^u (u = 0.18 for iron), an empirical
        reduction meant for fits well above white lines. False undoes it (iron only).

    Raises
    ------
    ValueError
        For a window that does not increase, or ``near_edge_reduction=False`` with an element other than iron.
    """
    check_flag(near_edge_reduction, "near_edge_reduction")
    if not near_edge_reduction and element != "Fe":
        raise ValueError(f"element: got {element!r}, wants 'Fe' where near_edge_reduction=False")
    with warnings.catch_warnings():  # importing HyperSpy warns of its own deprecations
        warnings.simplefilter("ignore")
        from exspy.components import EELSCLEdge

    low, high = check_window(window_eV)
    check_positive(beam_energy_keV=beam_energy_keV, collection_mrad=collection_mrad)
    start = onset(element, "L2,3")
    if high <= start:
        raise ValueError(f"window_eV: got {window_eV!r}, wants energies above the {element}-L2,3 onset at {start} eV")
    edge = EELSCLEdge(f"{element}_L3", GOS="hydrogenic")  # its Fe_L3 is the whole L shell
    edge.set_microscope_parameters(E0=beam_energy_keV, alpha=1e-3, beta=collection_mrad, energy_scale=1.0)
    start = edge.onset_energy.value
    energy = np.linspace(max(low, start), high, 800)
    strength = edge.function(energy)
    if not near_edge_reduction:
        strength = strength / ((energy + 0.1 - start) / (1.8 * 26**2)) ** 0.18
    return float(np.trapezoid(strength, energy))
