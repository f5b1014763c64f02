"""Background shapes with free amplitudes."""

from __future__ import annotations

import numpy as np

#: Exponents r of the power laws E**-r that make up each named background.
BACKGROUNDS = {"plasmon_tail": (1.0, 3.0, 5.0), "power_law": (2.0, 4.0)}


def background_shapes(energy_eV, background="plasmon_tail"):
    """Shapes of a background made of fixed components with free amplitudes.

    Parameters
    ----------
    energy_eV : (E,)
    background : str, sequence of float, array (P, E) or None
        A name of `BACKGROUNDS`; exponents r of power laws E**-r; shapes of your own (a measured tail, the low loss
        of a support film, ...); None for no background.

        "plasmon_tail": the tail of the valence losses and their plural scattering falls as a power whose exponent
        changes slowly with energy (Drude: E**-3 far above the plasmon), which a few fixed powers with
        amplitudes of either sign follow; plural scattering better so where `fit_phases` has the low loss of each
        pixel and computes it. "power_law": the same for a core-loss edge far above the last one.

    Returns
    -------
    (P, E), each 1 at the middle of the range.
    """
    energy = np.asarray(energy_eV, float)
    if background is None:
        return np.empty((0, energy.size))
    if isinstance(background, str):
        if background not in BACKGROUNDS:
            raise ValueError(
                f"background must be one of {sorted(BACKGROUNDS)}, exponents or shapes, got {background!r}"
            )
        background = BACKGROUNDS[background]
    background = np.asarray(background, float)
    if background.ndim == 1:
        if energy[0] <= 0:
            raise ValueError(f"window_eV must lie above 0 for a power-law background, it starts at {energy[0]:g} eV")
        return (energy / np.sqrt(energy[0] * energy[-1])) ** -background[:, None]
    if background.ndim != 2 or background.shape[1] != energy.size:
        raise ValueError(f"background shapes must be (P, {energy.size}), got {background.shape}")
    if not np.isfinite(background).all():
        raise ValueError("background shapes must be finite")
    return background
