"""Background shapes of a fit: fixed powers of the energy, whose amplitudes are free.

For a background extrapolated from before an edge, whose exponent is fitted, see `spectra.fit_background`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_choice, finite_array
from ..doors import checked

__all__ = ["FIXED_POWERS", "background_shapes"]

#: Exponents r of the fixed powers E**-r that make up each named background.
FIXED_POWERS = {"plasmon_tail": (1.0, 3.0, 5.0), "power_law": (2.0, 4.0)}


@checked
def background_shapes(energy_eV: ArrayLike, background: str | ArrayLike | None = "plasmon_tail") -> NDArray[np.float64]:
    """Background shapes whose amplitudes are free.

    Parameters
    ----------
    energy_eV : (E,)
    background : str, sequence of float, array (P, E) or None
        A name in `FIXED_POWERS`; exponents r of powers E**-r; your own shapes (a measured tail, the low loss of a
        support film, ...); None for no background.

        "plasmon_tail": the tail of the valence losses and their plural scattering falls as a power whose exponent
        changes slowly with energy (Drude: E**-3 far above the plasmon). A few fixed powers with amplitudes of either
        sign follow it; with the low loss of each pixel, `fit_phases` computes the plural scattering instead, which is
        better. "power_law": two fixed powers, which stand in for a power law A·E**-r of any r near 3, for a core-loss
        edge far above the one before it.

    Returns
    -------
    (P, E); powers are 1 at the geometric middle of the range.

    Raises
    ------
    ValueError
        Naming ``energy_eV`` or ``background`` for a wrong shape, or ``window_eV`` for powers of energies that are not
        positive.

    Examples
    --------
    >>> background_shapes([50.0, 100.0], "power_law")
    array([[2.  , 0.5 ],
           [4.  , 0.25]])
    """
    energy = finite_array(energy_eV, "energy_eV")
    if energy.ndim != 1 or not energy.size:
        raise ValueError(f"energy_eV: got shape {energy.shape}, wants (E,)")
    if background is None:
        return np.empty((0, energy.size))
    if isinstance(background, str):
        background = FIXED_POWERS[check_choice(background, "background", FIXED_POWERS)]
    background = finite_array(background, "background")
    if background.ndim == 1:
        if energy[0] <= 0:
            raise ValueError(
                f"energy_eV, window_eV: got a start at {energy[0]:g} eV, wants one above 0 for powers of the energy"
            )
        return (energy / np.sqrt(energy[0] * energy[-1])) ** -background[:, None]
    if background.ndim != 2 or background.shape[1] != energy.size or not len(background):
        raise ValueError(f"background: got shape {background.shape}, wants (P, {energy.size})")
    return background
