"""Ionisation edges: their onsets, and the energy windows in which their signal is counted."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ONSET_EV", "WINDOW_EV", "arctangent_step", "onset"]

#: First ionisation threshold of each edge (eV), as the Henke tables have it.
ONSET_EV = {
    ("Fe", "M2,3"): 53.5,
    ("Fe", "L2,3"): 706.8,
    ("Mn", "M2,3"): 48.0,
    ("Mn", "L2,3"): 638.7,
    ("O", "K"): 543.1,
    ("C", "K"): 284.2,
}
#: Energy window (eV) over which the signal of an edge of the iron oxides is counted.
WINDOW_EV = {"M2,3": (53.0, 73.0), "L2,3": (706.0, 746.0), "K": (528.0, 568.0)}

_SHELLS = {"K": "K", "L2,3": "L3", "M2,3": "M3", "M4,5": "M5", "L1": "L1", "M1": "M1"}  # names in eXSpy's table


def onset(element: str, edge: str) -> float:
    """Threshold of an edge (eV): from `ONSET_EV`, or from eXSpy's table for edges that are not listed there.

    Raises
    ------
    ValueError
        If the edge is of no known kind, or the element has no such edge.

    Examples
    --------
    >>> onset("Fe", "M2,3")
    53.5
    """
    if (element, edge) in ONSET_EV:
        return ONSET_EV[element, edge]
    from exspy.material import elements

    if edge not in _SHELLS:
        raise ValueError(f"edge: got {edge!r}, wants one of {sorted(_SHELLS)}")
    try:
        shells = elements[element]["Atomic_properties"]["Binding_energies"]
        return float(shells[_SHELLS[edge]]["onset_energy (eV)"])
    except (KeyError, AttributeError, TypeError):
        raise ValueError(f"element, edge: got {element!r}, {edge!r}, wants an edge in eXSpy's table") from None


def arctangent_step(energy_eV: ArrayLike, centre_eV: ArrayLike, width_eV: float) -> NDArray[np.float64]:
    """The rise of a continuum from 0 to 1: an arctangent, a quarter and three quarters high at the ends of its width.

    Parameters
    ----------
    energy_eV, centre_eV
        Energies and the middle of the step; both broadcast.
    width_eV
        Full width, that of the Lorentzian whose integral the step is.

    Examples
    --------
    >>> arctangent_step([707.5, 708.0, 708.5], 708.0, 1.0)
    array([0.25, 0.5 , 0.75])
    """
    return 0.5 + np.arctan((np.asarray(energy_eV, dtype=float) - centre_eV) / (width_eV / 2)) / np.pi
