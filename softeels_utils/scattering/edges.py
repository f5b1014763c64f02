"""Ionisation edges: where the tables of free atoms step up."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d

from ..checks import check_positive, finite_array
from ..doors import checked

__all__ = ["ONSET_EV", "arctangent_step", "broaden_shape", "onset"]

FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))

#: First ionisation threshold of each edge (eV), as the Henke tables have it.
ONSET_EV = {
    ("Fe", "M2,3"): 53.5,
    ("Fe", "L2,3"): 706.8,
    ("Mn", "M2,3"): 44.0,  # the table of manganese rises over 6 eV, from well below the threshold at 48 eV
    ("Mn", "L2,3"): 638.7,
    ("O", "K"): 543.1,
    ("C", "K"): 284.2,
}
_SHELLS = {"K": "K", "L2,3": "L3", "M2,3": "M3", "M4,5": "M5", "L1": "L1", "M1": "M1"}  # names in eXSpy's table


@checked
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
    for name, value in (("element", element), ("edge", edge)):
        if not isinstance(value, str):
            raise ValueError(f"{name}: got {value!r}, wants its name")
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


@checked
def arctangent_step(energy_eV: ArrayLike, centre_eV: ArrayLike, width_eV: float) -> NDArray[np.float64]:
    """The rise of a continuum from 0 to 1: an arctangent that reaches 1/4 and 3/4 at the ends of its width.

    Parameters
    ----------
    energy_eV, centre_eV
        Energies and the middle of the step; both broadcast.
    width_eV
        Full width at half maximum of the Lorentzian whose integral the step is.

    Examples
    --------
    >>> arctangent_step([707.5, 708.0, 708.5], 708.0, 1.0)
    array([0.25, 0.5 , 0.75])
    """
    energy, centre = finite_array(energy_eV, "energy_eV"), finite_array(centre_eV, "centre_eV")
    check_positive(width_eV=width_eV)
    return 0.5 + np.arctan((energy - centre) / (width_eV / 2)) / np.pi


def broaden_shape(energy_eV: NDArray, shape: NDArray, fwhm_eV: float) -> NDArray:
    """A shape (E,) on an even axis, convolved with a Gaussian."""
    return gaussian_filter1d(shape, fwhm_eV / FWHM_PER_SIGMA / (energy_eV[1] - energy_eV[0]), mode="nearest")
