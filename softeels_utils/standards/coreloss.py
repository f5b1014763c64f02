"""What a core-loss spectrum counts, as linear functionals: iron, oxygen, and the foot of Fe-L3."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..scattering import WINDOW_EV, differential_cross_section, edge_oscillator_strength

OXIDE_SHIFT_EV = 9.0  # O-K starts near 534 eV in oxides, at 543 eV in the tables of free atoms
# between Fe2+ (707.8 eV) and Fe3+ (709.5 eV): van Aken, Liebscher and Styrsa, Phys. Chem. Minerals 25, 323 (1998)
IRON_L3_EV = 708.7


def edge_cross_section(element, edge, energy_eV, **angles):
    """Differential cross-section of the continuum of one edge, per atom, in nm²/eV.

    Henke's tables in the dipole approximation, less the shells below the edge (`softeels_utils.simulate`): near-edge
    structure is not in it, so use it well above an edge.

    Parameters
    ----------
    element, edge : ("O", "K"), ("Fe", "L2,3") or ("Fe", "M2,3")
    energy_eV : (E,)
    **angles
        ``beam_energy_keV``, ``collection_mrad``, ``convergence_mrad``.
    """
    energy = np.asarray(energy_eV, float)
    strength = edge_oscillator_strength(element, edge, np.maximum(energy, 12.0))
    return differential_cross_section(strength, np.maximum(energy, 12.0), **angles)


def power_law_basis(energy_eV, spectrum, window_eV, terms=2):
    """A power law with the exponent of the spectrum in a window, and its first derivatives by the exponent.

    With them a background ``A E^-r`` whose r differs a little from spectrum to spectrum is linear.

    Returns
    -------
    (terms, E)
    """
    inside = (energy_eV >= window_eV[0]) & (energy_eV <= window_eV[1])
    y = np.asarray(spectrum)[inside]
    good = y > 0
    if good.sum() < 4:
        raise ValueError(f"window_eV: {window_eV} holds {good.sum()} channels with signal, wants at least 4")
    middle = np.sqrt(window_eV[0] * window_eV[1])
    log = np.log(np.maximum(energy_eV, 1.0) / middle)
    exponent, _ = np.polyfit(log[inside][good], np.log(y[good]), 1, w=np.sqrt(y[good]))
    return np.exp(exponent * log) * np.stack([log**i for i in range(terms)])


def _least_squares(basis, weights):
    """Rows that give the amplitudes of ``basis`` (P, E) in a spectrum (E,), for weights (E,)."""
    scale = np.abs(basis).max(axis=1, keepdims=True)
    b = basis / scale
    return np.linalg.solve((b * weights) @ b.T, b * weights) / scale


def core_loss_estimators(energy_eV, mean_spectrum, *, l3_eV, beam_energy_keV, collection_mrad, convergence_mrad=0.0):
    """Vectors f such that ``spectrum @ f`` is what a core-loss spectrum counts.

    A power-law background and the continuum of O-K are fitted together by weighted least squares where no
    near-edge structure is: before O-K, and from 50 eV above it to 20 eV before Fe-L3 (model-based
    quantification, Verbeeck and Van Aert, Ultramicroscopy 101, 207 (2004)). What stands above the background is
    integrated.

    Oxygen is compared without the pre-peak of O-K: it is due to holes in the 3d shell of the neighbouring iron
    (de Groot et al., Phys. Rev. B 40, 5715 (1989)), and so counts valence, not oxygen.

    Iron is counted by the whole edge (706 to 746 eV), whose partial cross-section is taken to be the same for each
    valence, as k-factors do; white lines stronger by 25 % in Fe3+ (five 3d holes in place of four) on a continuum of
    equal height would make it 7 % larger in Fe3O4.

    Parameters
    ----------
    energy_eV : (E,)
        Zero loss at 0.
    mean_spectrum : (E,)
        Mean over pixels, single scattering, background kept, probability per eV and electron.
    l3_eV : float
        Where the L3 maximum is on this energy axis. Within 2.5 eV of 708.7 eV (between Fe2+ and Fe3+) the axis
        is taken as calibrated; else all windows move.

    Returns
    -------
    dict
        ``"Fe"`` (E,): atoms/nm². Where the axis begins before 515 eV, ``"O"`` (E,): oscillator strength of O-K, 534.5
        to 582 eV, to be compared between phases; ``"O atoms"`` (E,): atoms/nm² from the continuum alone.
        ``"feet"`` (W, E): intensity of windows of 1 eV on the leading edge of L3, below half of its height in the
        mean spectrum, less the local background; ``"feet_eV"`` (W,): their centres.

    Raises
    ------
    ValueError
        If the axis does not hold the whole of Fe-L2,3.
    """
    off = 0.0 if abs(l3_eV - IRON_L3_EV) < 2.5 else l3_eV - IRON_L3_EV
    e = energy_eV - off
    step = e[1] - e[0]
    if e[0] > 690.0 or e[-1] < 750.0:
        raise ValueError(
            f"core_loss: energies {energy_eV[0]:g} to {energy_eV[-1]:g} eV (L3 at {l3_eV:.1f}), wants "
            f"{690 + off:.0f} to {750 + off:.0f} eV at least, for Fe-L2,3"
        )
    mean = np.maximum(mean_spectrum, 1e-3 * np.abs(mean_spectrum).max())
    angles = {"beam_energy_keV": beam_energy_keV, "collection_mrad": collection_mrad}
    angles["convergence_mrad"] = convergence_mrad
    oxygen = edge_cross_section("O", "K", e + OXIDE_SHIFT_EV, **angles)
    has_oxygen = e[0] <= 515.0
    first = (e[0] + 1, 527.0) if has_oxygen else (max(e[0] + 1, 600.0), 701.0)
    basis = power_law_basis(e, mean, first)
    fitted = ((e >= first[0]) & (e <= first[1])) | ((e >= max(e[0], 582.0)) & (e <= 688.0))
    if has_oxygen:
        basis = np.concatenate([basis, [oxygen]])
    amplitudes = np.zeros((len(basis), e.size))
    amplitudes[:, fitted] = _least_squares(basis[:, fitted], 1 / mean[fitted])
    out = {}

    # Near-edge structure is assumed to move oscillator strength about inside an edge's window and to keep its sum (the
    # sum rule is for all energies; a window may gain or lose some %, by white lines above all). The cross-section is
    # that strength times a factor that falls with energy: white lines are then 1 % brighter than the table's step
    per_strength = differential_cross_section(1.0, e, **angles)

    def integral(low, high, ground):
        """Strength in a window above the sum of some of the basis."""
        inside = ((e >= low) & (e <= high)) / per_strength
        return step * (inside - (basis[ground] @ inside) @ amplitudes[ground])

    if has_oxygen:
        out["O"] = integral(534.5, 582.0, [0, 1])
        out["O atoms"] = amplitudes[2]
    whole = [0, 1, 2] if has_oxygen else [0, 1]
    edge = (e >= WINDOW_EV["L2,3"][0]) & (e <= WINDOW_EV["L2,3"][1])
    fine = (e[edge, None] + step * (np.arange(20) - 9.5) / 20).ravel()  # the table begins inside a channel
    out["Fe"] = integral(*WINDOW_EV["L2,3"], whole) / (step / 20 * edge_oscillator_strength("Fe", "L2,3", fine).sum())
    # foot of L3, above a background from just before it
    local = (e >= 690.0) & (e <= 703.5)
    ground = power_law_basis(e, mean, (690.0, 703.5))
    fit = np.zeros((2, e.size))
    fit[:, local] = _least_squares(ground[:, local], 1 / mean[local])
    # up to where the line has half of its height: above, it is the line itself, whose width differs between phases
    line = ndimage.gaussian_filter1d(
        mean - np.linalg.lstsq(ground[:, local].T, mean[local], rcond=None)[0] @ ground, 0.3 / step
    )
    climb = (e > 703.5) & (e <= l3_eV - off)
    half = e[climb][np.argmax(line[climb] > 0.5 * line[climb].max())] if climb.any() else 705.0
    centres = np.arange(702.5, max(half - 0.5, 705.0) + 0.01, 0.25)
    inside = (np.abs(e - centres[:, None]) < 0.5 + 1e-9).astype(float)
    out["feet"], out["feet_eV"] = step * (inside - (inside @ ground.T) @ fit), centres + off
    return out
