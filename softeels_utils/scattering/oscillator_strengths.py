"""Optical oscillator strengths of atoms and of single edges.

From the atomic scattering factors f2 of Henke, Gullikson and Davis (1993, At. Data Nucl. Data Tables 54, 181; tables
of `periodictable`).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import finite_array
from ..doors import checked
from .edges import ONSET_EV, onset

__all__ = ["edge_oscillator_strength", "oscillator_strength"]


@lru_cache
def _henke(element: str) -> tuple[NDArray, NDArray]:
    """Logarithms of the tabulated energies (eV) and of f2."""
    import periodictable

    try:
        table = periodictable.elements.symbol(element).xray.sftable
    except (ValueError, AttributeError, KeyError):
        table = None
    if table is None:
        raise ValueError(f"element: got {element!r}, wants the symbol of an element in the Henke tables")
    energy, f2 = table[0] * 1e3, table[2]
    good = np.isfinite(f2) & (f2 > 0)
    return np.log(energy[good]), np.log(f2[good])


@checked
def oscillator_strength(element: str, energy_eV: ArrayLike) -> NDArray:
    """Optical oscillator strength df/dE = 2 f2 / (π E) of one atom, 1/eV, from the tables of Henke et al. (1993).

    Parameters
    ----------
    element
        Symbol of the element.
    energy_eV
        Energies of any shape; the result has the same.

    Raises
    ------
    ValueError
        If the element is not in the tables, or an energy is outside them (10 eV to 30 keV).
    """
    energy = finite_array(energy_eV, "energy_eV")
    if not isinstance(element, str):
        raise ValueError(f"element: got {element!r}, wants the symbol of an element")
    log_energy, log_f2 = _henke(element)
    first, last = np.exp(log_energy[0]), np.exp(log_energy[-1])
    if energy.size and (energy.min() < first - 1e-6 or energy.max() > last):
        raise ValueError(
            f"energy_eV: got {energy.min():.4g} to {energy.max():.4g}, wants energies within {first:.0f} to "
            f"{last:.0f} eV (Henke tables of {element})"
        )
    return 2 / np.pi * np.exp(np.interp(np.log(energy), log_energy, log_f2)) / energy


@lru_cache
def _pre_edge(element: str, edge: str) -> tuple[float, float]:
    """Power law through df/dE below the edge: (exponent, log of the factor)."""
    start = onset(element, edge)
    energy = np.geomspace(0.85 * start, 0.97 * start, 60)
    return tuple(np.polyfit(np.log(energy), np.log(oscillator_strength(element, energy)), 1))


@checked
def edge_oscillator_strength(element: str, edge: str, energy_eV: ArrayLike) -> NDArray:
    """df/dE of one shell, 1/eV: the Henke value minus the contribution of all other electrons, zero below the onset.

    The contribution of the less tightly bound electrons is extrapolated from below the edge, like a background: by a
    power law fitted between 85 % and 97 % of the onset energy. The deeper shells of `ONSET_EV` are subtracted, too.

    Parameters
    ----------
    element, edge
        For example ``"Fe"`` and ``"M2,3"``; for onsets see `onset`.
    energy_eV
        Energies of any shape; the result has the same.

    Raises
    ------
    ValueError
        If the element or edge is unknown, or an energy lies above the Henke tables.
    """
    energy = finite_array(energy_eV, "energy_eV")
    if energy.min(initial=0) < 0:
        raise ValueError(f"energy_eV: got {energy.min():g}, wants energy losses of at least 0")
    start = onset(element, edge)
    above = energy >= start
    safe = np.where(above, energy, start)
    exponent, log_factor = _pre_edge(element, edge)
    shell = oscillator_strength(element, safe) - np.exp(log_factor) * safe**exponent
    for (other, deeper), deeper_start in ONSET_EV.items():
        if other == element and deeper_start > start:
            shell = shell - edge_oscillator_strength(element, deeper, safe)
    return np.where(above, np.maximum(shell, 0.0), 0.0)
