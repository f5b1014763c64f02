"""What a core-loss spectrum counts, as linear estimators: iron, oxygen, and the leading edge of Fe-L3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from ..scattering import differential_cross_section
from ..spectra import in_window
from .plane import weighted_fit
from .subshells import subshell_oscillator_strength

__all__ = ["CoreLossEstimators", "core_loss_estimators", "edge_cross_section", "find_l3", "power_law_basis"]

# between Fe2+ (707.8 eV) and Fe3+ (709.5 eV): van Aken, Liebscher and Styrsa, Phys. Chem. Minerals 25, 323 (1998)
IRON_L3_EV = 708.7
CALIBRATED_EV = 1.2  # half of the distance of the two, and the accuracy of an axis that is called calibrated
IRON_WINDOW_EV = (704.0, 748.0)  # both white lines and some of the continuum
OXYGEN_WINDOW_EV = (534.5, 582.0)  # O-K without its pre-peak
BEFORE_L3_EV = (690.0, 703.5)
L3_WINDOW_EV = (693.0, 725.0)  # where the L3 maximum is looked for: about 15 eV to either side


@dataclass(frozen=True)
class CoreLossEstimators:
    """Vectors f such that ``spectrum @ f`` is what a core-loss spectrum counts, see `core_loss_estimators`.

    Attributes
    ----------
    iron : (E,)
        Iron atoms per nm² if L2,3 had the strength of its calculated continuum; white lines add to it, and what an atom
        of iron counts is found from the oxygen (`Rotation`).
    leading_edge : (W, E)
        Intensity of windows of 1 eV on the leading edge of L3, below half of its height in the mean spectrum, less
        the local background.
    leading_edge_eV : (W,)
        Centres of these windows.
    l3_eV : float
        Where the L3 maximum is on the energy axis of the data.
    oxygen : (E,) or None
        Oscillator strength of O-K, 534.5 to 582 eV, to be compared between phases; None where the axis begins after
        515 eV.
    oxygen_atoms : (E,) or None
        Oxygen atoms per nm², from the continuum alone.
    """

    iron: NDArray = field(repr=False)
    leading_edge: NDArray = field(repr=False)
    leading_edge_eV: NDArray
    l3_eV: float
    oxygen: NDArray | None = field(repr=False, default=None)
    oxygen_atoms: NDArray | None = field(repr=False, default=None)


def edge_cross_section(element: str, edge: str, energy_eV: ArrayLike, **microscope: float) -> NDArray:
    """Differential cross-section of the continuum of one edge, per atom, in nm²/eV.

    Calculated subshells (`subshell_oscillator_strength`) in the dipole approximation: near-edge structure is not in it,
    so use it well above an edge.

    Parameters
    ----------
    element, edge : ("O", "K"), ("Fe", "L2,3") or ("Fe", "M2,3")
    energy_eV : (E,)
    **microscope
        ``beam_energy_keV``, ``collection_mrad``, ``convergence_mrad``.
    """
    energy = np.maximum(np.asarray(energy_eV, float), 12.0)
    return differential_cross_section(subshell_oscillator_strength(element, edge, energy), energy, **microscope)


def power_law_basis(energy_eV: NDArray, spectrum: NDArray, window_eV: tuple[float, float], terms: int = 2) -> NDArray:
    """A power law with the exponent of the spectrum in a window, and its first derivatives by the exponent.

    With them a background ``A E^-r`` whose r differs a little from spectrum to spectrum is linear.

    Returns
    -------
    (terms, E)
    """
    inside = in_window(energy_eV, window_eV)
    y = np.asarray(spectrum)[inside]
    good = y > 0
    if good.sum() < 4:
        raise ValueError(f"window_eV: got {window_eV} with {good.sum()} channels of signal, wants at least 4")
    middle = np.sqrt(window_eV[0] * window_eV[1])
    log = np.log(np.maximum(energy_eV, 1.0) / middle)
    exponent, _ = np.polyfit(log[inside][good], np.log(y[good]), 1, w=np.sqrt(y[good]))
    return np.exp(exponent * log) * np.stack([log**i for i in range(terms)])


@dataclass(frozen=True)
class _Fit:
    """Shapes (P, E) fitted together, and the rows (P, E) that give their amplitudes in a spectrum."""

    shapes: NDArray
    rows: NDArray

    @classmethod
    def weighted(cls, shapes, channels, mean):
        """Least squares over some channels, weighted by the inverse of the mean spectrum."""
        rows = np.zeros_like(shapes)
        rows[:, channels] = weighted_fit(shapes[:, channels], 1 / mean[channels])
        return cls(shapes, rows)

    def sum_above(self, windows: NDArray, below: Sequence[int]) -> NDArray:
        """Estimator of a weighted sum over channels (..., E) of what stands above some of the shapes."""
        return windows - (windows @ self.shapes[below].T) @ self.rows[below]


def core_loss_estimators(
    energy_eV: NDArray,
    mean_spectrum: NDArray,
    *,
    l3_eV: float | None = None,
    beam_energy_keV: float,
    collection_mrad: float,
    convergence_mrad: float = 0.0,
) -> CoreLossEstimators:
    """Vectors f such that ``spectrum @ f`` is what a core-loss spectrum counts.

    A power-law background and the continuum of O-K are fitted together by weighted least squares where no
    near-edge structure is: before O-K, and from 50 eV above it to 20 eV before Fe-L3 (model-based
    quantification, Verbeeck and Van Aert, Ultramicroscopy 101, 207 (2004)). What stands above the background is
    integrated.

    Oxygen is compared without the pre-peak of O-K: it is due to holes in the 3d shell of the neighbouring iron
    (de Groot et al., Phys. Rev. B 40, 5715 (1989)), and so counts valence, not oxygen.

    Iron is counted by the whole edge (704 to 748 eV). How much of it an atom of iron gives is not known from tables:
    they hold the continuum without white lines (calculations) or with some of them (photoabsorption), and white
    lines differ with valence. `OxygenCount` finds it in the specimen.

    Parameters
    ----------
    energy_eV : (E,)
        Zero loss at 0.
    mean_spectrum : (E,)
        Mean over pixels, single scattering, with its background, probability per eV and electron.
    l3_eV : float, optional
        Where the L3 maximum is on this energy axis; by default found in the mean spectrum. Within 1.2 eV of 708.7 eV
        (between Fe2+ and Fe3+) the axis is taken as calibrated; else all windows move.

    Raises
    ------
    ValueError
        If the axis does not hold the whole of Fe-L2,3.
    """
    l3_eV = find_l3(energy_eV, mean_spectrum) if l3_eV is None else l3_eV
    offset = 0.0 if abs(l3_eV - IRON_L3_EV) < CALIBRATED_EV else l3_eV - IRON_L3_EV
    e = energy_eV - offset
    if e[0] > 690.0 or e[-1] < 750.0:
        raise ValueError(
            f"core_loss: got energies {energy_eV[0]:g} to {energy_eV[-1]:g} eV (L3 at {l3_eV:.1f}), wants "
            f"{690 + offset:.0f} to {750 + offset:.0f} eV at least, for Fe-L2,3"
        )
    step = e[1] - e[0]
    mean = np.maximum(mean_spectrum, 1e-3 * np.abs(mean_spectrum).max())
    microscope = dict(
        beam_energy_keV=beam_energy_keV, collection_mrad=collection_mrad, convergence_mrad=convergence_mrad
    )
    has_oxygen = e[0] <= 515.0
    fit = _fit_continuum(e, mean, has_oxygen, microscope)
    # the cross-section is a strength times a factor that falls with energy: white lines count as strength
    per_strength = differential_cross_section(1.0, e, **microscope)
    edge = in_window(e, IRON_WINDOW_EV)
    iron_strength = step * subshell_oscillator_strength("Fe", "L2,3", e[edge]).sum()
    leading_edge, centres = _leading_edge(e, mean, l3_eV - offset)
    return CoreLossEstimators(
        iron=step * fit.sum_above(edge / per_strength, range(len(fit.shapes))) / iron_strength,
        leading_edge=leading_edge,
        leading_edge_eV=centres + offset,
        l3_eV=float(l3_eV),
        oxygen=step * fit.sum_above(in_window(e, OXYGEN_WINDOW_EV) / per_strength, range(2)) if has_oxygen else None,
        oxygen_atoms=fit.rows[2] if has_oxygen else None,
    )


def find_l3(energy_eV: NDArray, mean_spectrum: NDArray, window_eV: tuple[float, float] = L3_WINDOW_EV) -> float:
    """Energy of the L3 maximum of iron in a mean spectrum (E,), wherever the axis puts it inside a window.

    Raises
    ------
    ValueError
        If fewer than 20 channels lie inside the window.
    """
    low, high = window_eV
    near = (energy_eV > low) & (energy_eV < high)  # without the ends, where an edge beyond the window would show
    if near.sum() < 20:
        raise ValueError(
            f"core_loss: got energies {energy_eV[0]:g} to {energy_eV[-1]:g} eV, {near.sum()} of them inside the window "
            f"of Fe-L3 ({low:g} to {high:g} eV), wants at least 20"
        )
    smooth = ndimage.gaussian_filter1d(mean_spectrum, 0.5 / (energy_eV[1] - energy_eV[0]))
    return float(energy_eV[near][np.argmax(smooth[near])])


def _fit_continuum(e, mean, has_oxygen, microscope):
    """Power law and, where the axis holds O-K, its continuum, fitted where no near-edge structure is."""
    before = (e[0] + 1, 527.0) if has_oxygen else (max(e[0] + 1, 600.0), 701.0)
    shapes = power_law_basis(e, mean, before)
    if has_oxygen:
        shapes = np.concatenate([shapes, [edge_cross_section("O", "K", e, **microscope)]])
    return _Fit.weighted(shapes, in_window(e, before) | in_window(e, (582.0, 688.0)), mean)


def _leading_edge(e, mean, l3_eV):
    """Estimators (W, E) of windows of 1 eV on the leading edge of L3, and their centres (W,).

    They stand above a background from just before L3, and reach up to where the line has half of its height: above, it
    is the line itself, whose width differs between phases.
    """
    step = e[1] - e[0]
    before = in_window(e, BEFORE_L3_EV)
    shapes = power_law_basis(e, mean, BEFORE_L3_EV)
    background = np.linalg.lstsq(shapes[:, before].T, mean[before], rcond=None)[0] @ shapes
    line = ndimage.gaussian_filter1d(mean - background, 0.3 / step)
    climb = (e > BEFORE_L3_EV[1]) & (e <= l3_eV)
    half = e[climb][np.argmax(line[climb] > 0.5 * line[climb].max())] if climb.any() else 705.0
    centres = np.arange(702.5, max(half - 0.5, 705.0) + 0.01, 0.25)
    windows = (np.abs(e - centres[:, None]) < 0.5 + 1e-9).astype(float)
    return step * _Fit.weighted(shapes, before, mean).sum_above(windows, range(2)), centres
