"""What a core-loss spectrum counts, as linear estimators: metal, oxygen, and the leading edge of L3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from ..checks import check_positive, check_window, finite_array, real_array
from ..doors import checked
from ..scattering import System, as_system, collected_fraction, differential_cross_section
from ..spectra import FWHM_PER_SIGMA, energy_axis, in_window
from .plane import weighted_fit
from .subshells import subshell_oscillator_strength

__all__ = [
    "CoreLossEstimators",
    "core_loss_estimators",
    "edge_cross_section",
    "find_l3",
    "oxygen_to_l3",
    "power_law_basis",
]

DISTANCE_FWHM_EV, DISTANCE_REACH_EV = 2.0, 6.0  # the pre-peak of O-K lies 7 to 10 eV below its maximum
O_K_FOOT_EV = 14.0  # from the foot of O-K to its maximum


@checked(metal="E", leading_edge="W E", leading_edge_eV="W", oxygen="E", oxygen_atoms="E")
@dataclass(frozen=True)
class CoreLossEstimators:
    """Vectors f such that ``spectrum @ f`` is a count in a core-loss spectrum, see `core_loss_estimators`.

    Attributes
    ----------
    metal : (E,)
        Metal atoms per nm² if L2,3 had the strength of its calculated continuum. White lines add to it: what an atom
        really counts is found from the oxygen (`Rotation`).
    leading_edge : (W, E)
        Intensity in windows of 1 eV on the leading edge of L3, below half of its height in the mean spectrum, minus the
        local background.
    leading_edge_eV : (W,)
        Centres of these windows.
    l3_eV : float
        Position of the L3 maximum on the energy axis of the data.
    oxygen : (E,) or None
        Oscillator strength of O-K without its pre-peak, to be compared between phases; None if the axis does not cover
        O-K or the anion is not oxygen.
    oxygen_atoms : (E,) or None
        Oxygen atoms per nm², from the continuum alone.
    """

    metal: NDArray = field(repr=False)
    leading_edge: NDArray = field(repr=False)
    leading_edge_eV: NDArray
    l3_eV: float
    oxygen: NDArray | None = field(repr=False, default=None)
    oxygen_atoms: NDArray | None = field(repr=False, default=None)


@checked
def edge_cross_section(element: str, edge: str, energy_eV: ArrayLike, **microscope: float) -> NDArray:
    """Differential cross-section of the continuum of one edge, per atom, in nm²/eV.

    Calculated subshells (`subshell_oscillator_strength`) in the dipole approximation, without near-edge structure: use
    it well above an edge.

    Parameters
    ----------
    element, edge : ("O", "K"), ("Fe", "L2,3"), ...
        See `subshell_oscillator_strength`.
    energy_eV : (E,)
    **microscope
        ``beam_energy_keV``, ``collection_mrad``, ``convergence_mrad``.
    """
    energy = np.maximum(finite_array(energy_eV, "energy_eV"), 12.0)
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


@checked(energy_eV="E", mean_spectrum="E")
def core_loss_estimators(
    energy_eV: NDArray,
    mean_spectrum: NDArray,
    *,
    system: System | str | None = None,
    l3_eV: float | None = None,
    beam_energy_keV: float,
    collection_mrad: float,
    convergence_mrad: float = 0.0,
) -> CoreLossEstimators:
    """Vectors f such that ``spectrum @ f`` is a count in a core-loss spectrum: metal, oxygen, leading edge of L3.

    A power-law background and the continuum of O-K are fitted together by weighted least squares where no near-edge
    structure is: before O-K, and from 50 eV above it to 20 eV before L3 (model-based quantification, Verbeeck and Van
    Aert, Ultramicroscopy 101, 207 (2004)). The signal above the background is integrated.

    Oxygen is compared without the pre-peak of O-K: it is due to holes in the 3d shell of the neighbouring metal
    (de Groot et al., Phys. Rev. B 40, 5715 (1989)), and so counts valence, not oxygen.

    The metal is counted by its whole edge. The strength per atom is not known from tables: they give the continuum
    without white lines (calculations) or with some of them (photoabsorption), and white lines differ with valence.
    `OxygenCount` finds it in the specimen.

    Parameters
    ----------
    energy_eV : (E,)
        Zero loss at 0.
    mean_spectrum : (E,)
        Mean over pixels, single scattering, with its background, probability per eV and electron.
    system : System or str, optional
        Metal, anion and windows; by default the iron oxides.
    l3_eV : float, optional
        Position of the L3 maximum on this energy axis; by default found in the mean spectrum. If it is near that of the
        system (within 1.2 eV of 708.7 eV for iron, between Fe2+ and Fe3+), the axis is taken as calibrated; otherwise
        all windows move with it.

    Raises
    ------
    ValueError
        If the axis does not cover all of L2,3.
    """
    system = as_system(system)
    edge = system.edge("L2,3").standards
    energy_eV, mean_spectrum = _mean_spectrum(energy_eV, mean_spectrum)
    if l3_eV is not None:
        check_positive(l3_eV=l3_eV)
    l3_eV = find_l3(energy_eV, mean_spectrum, system=system) if l3_eV is None else l3_eV
    offset = 0.0 if abs(l3_eV - edge["l3_eV"]) < edge["calibrated_eV"] else l3_eV - edge["l3_eV"]
    e = energy_eV - offset
    first, last = edge["before_eV"][0], edge["window_eV"][1] + 2
    if e[0] > first or e[-1] < last:
        raise ValueError(
            f"core_loss: got energy_eV from {energy_eV[0]:g} to {energy_eV[-1]:g} eV (l3_eV: {l3_eV:.1f}), wants "
            f"{first + offset:.0f} to {last + offset:.0f} eV at least, for {system.metal}-L2,3"
        )
    step = e[1] - e[0]
    mean = np.maximum(mean_spectrum, 1e-3 * np.abs(mean_spectrum).max())
    microscope = dict(
        beam_energy_keV=beam_energy_keV, collection_mrad=collection_mrad, convergence_mrad=convergence_mrad
    )
    oxygen = system.edge("K").standards
    has_oxygen = system.anion == "O" and e[0] <= oxygen["from_eV"]
    fit = _fit_continuum(e, mean, system, has_oxygen, microscope)
    # the cross-section is a strength times a factor that falls with energy: white lines count as strength
    per_strength = differential_cross_section(1.0, e, **microscope)
    lines = in_window(e, edge["window_eV"])
    metal_strength = step * subshell_oscillator_strength(system.metal, "L2,3", e[lines]).sum()
    leading_edge, centres = _leading_edge(e, mean, l3_eV - offset, edge["before_eV"])
    above_k = in_window(e, oxygen["window_eV"])
    collected = collected_fraction(collection_mrad, convergence_mrad)  # the spectra are per electron that is
    return CoreLossEstimators(
        metal=collected * step * fit.sum_above(lines / per_strength, range(len(fit.shapes))) / metal_strength,
        leading_edge=leading_edge,
        leading_edge_eV=centres + offset,
        l3_eV=float(l3_eV),
        oxygen=collected * step * fit.sum_above(above_k / per_strength, range(2)) if has_oxygen else None,
        oxygen_atoms=collected * fit.rows[2] if has_oxygen else None,
    )


@checked
def find_l3(
    energy_eV: NDArray,
    mean_spectrum: NDArray,
    window_eV: tuple[float, float] | None = None,
    system: System | str | None = None,
) -> float:
    """Energy (eV) of the L3 maximum in a mean spectrum (E,), on whatever axis, inside a window.

    By default, the window is that of the system, and the system the iron oxides.

    Raises
    ------
    ValueError
        If fewer than 20 channels lie inside the window.
    """
    system = as_system(system)
    energy_eV, mean_spectrum = _mean_spectrum(energy_eV, mean_spectrum)
    low, high = system.edge("L2,3").standards["search_eV"] if window_eV is None else check_window(window_eV)
    near = (energy_eV > low) & (energy_eV < high)  # without the ends, where an edge beyond the window would show
    if near.sum() < 20:
        raise ValueError(
            f"core_loss: got energy_eV from {energy_eV[0]:g} to {energy_eV[-1]:g} eV, {near.sum()} of them inside the "
            f"window_eV of {system.metal}-L3 ({low:g} to {high:g} eV), wants at least 20"
        )
    smooth = ndimage.gaussian_filter1d(mean_spectrum, 0.5 / (energy_eV[1] - energy_eV[0]))
    return float(energy_eV[near][np.argmax(smooth[near])])


def _mean_spectrum(energy_eV, mean_spectrum):
    """One spectrum (E,) and its energies, checked."""
    energy = energy_axis(mean_spectrum, energy_eV, of="mean_spectrum")
    return energy, real_array(mean_spectrum, "mean_spectrum", ndim=1)


@checked(energy_eV="E", spectra="... E")
def oxygen_to_l3(
    energy_eV: NDArray, spectra: NDArray, l3_eV: float, system: System | str | None = None
) -> NDArray[np.float64] | None:
    """Distance from the main maximum of O-K to that of L3 in each spectrum: a wrong dispersion stretches it.

    Unlike the positions of the edges, it does not depend on the zero of the axis.

    Parameters
    ----------
    energy_eV : (E,)
    spectra : (..., E)
        Single scattering, with its background.
    l3_eV : float
        Approximate position of L3 on this axis.
    system : System or str, optional
        Its file states what the distance should be; by default the iron oxides.

    Returns
    -------
    (...), eV, or None
        None if the axis does not cover the edges, or the system does not state the distance.
    """
    check_positive(l3_eV=l3_eV)
    system = as_system(system)
    oxygen = system.edge("K").standards
    if "to_l3_eV" not in oxygen or energy_eV[0] > oxygen["from_eV"]:
        return None
    step, middle = energy_eV[1] - energy_eV[0], l3_eV - oxygen["to_l3_eV"][0]
    before = in_window(energy_eV, (energy_eV[0] + 1, middle - O_K_FOOT_EV))
    if before.sum() < 20 or energy_eV[-1] < l3_eV + DISTANCE_REACH_EV:
        return None
    shapes = power_law_basis(
        energy_eV, np.mean(np.reshape(spectra, (-1, energy_eV.size)), axis=0), tuple(energy_eV[before][[0, -1]])
    )
    background = spectra[..., before] @ np.linalg.pinv(shapes[:, before]) @ shapes
    smooth = ndimage.gaussian_filter1d(spectra, DISTANCE_FWHM_EV / FWHM_PER_SIGMA / step, axis=-1)

    def maximum(spectrum: NDArray, center: float) -> NDArray:
        near = in_window(energy_eV, (center - DISTANCE_REACH_EV, center + DISTANCE_REACH_EV))
        return energy_eV[near][np.argmax(spectrum[..., near], axis=-1)]

    return maximum(smooth, l3_eV) - maximum(smooth - background, middle)


def _fit_continuum(e, mean, system, has_oxygen, microscope):
    """Power law and, where the axis holds O-K, its continuum, fitted where no near-edge structure is."""
    oxygen, (first, last) = system.edge("K").standards, system.edge("L2,3").standards["background_eV"]
    before = (e[0] + 1, oxygen["before_eV"]) if has_oxygen else (max(e[0] + 1, first), last)
    shapes = power_law_basis(e, mean, before)
    if has_oxygen:
        shapes = np.concatenate([shapes, [edge_cross_section("O", "K", e, **microscope)]])
    return _Fit.weighted(shapes, in_window(e, before) | in_window(e, oxygen["continuum_eV"]), mean)


def _leading_edge(e, mean, l3_eV, before_eV):
    """Estimators (W, E) of windows of 1 eV on the leading edge of L3, and their centres (W,).

    They stand above a background from just before L3, and reach up to where the line has half of its height: above, it
    is the line itself, whose width differs between phases.
    """
    step = e[1] - e[0]
    before, foot = in_window(e, before_eV), before_eV[1] - 1.0
    shapes = power_law_basis(e, mean, before_eV)
    background = np.linalg.lstsq(shapes[:, before].T, mean[before], rcond=None)[0] @ shapes
    line = ndimage.gaussian_filter1d(mean - background, 0.3 / step)
    climb = (e > before_eV[1]) & (e <= l3_eV)
    half = e[climb][np.argmax(line[climb] > 0.5 * line[climb].max())] if climb.any() else foot + 2.5
    centres = np.arange(foot, max(half - 0.5, foot + 2.5) + 0.01, 0.25)
    windows = (np.abs(e - centres[:, None]) < 0.5 + 1e-9).astype(float)
    return step * _Fit.weighted(shapes, before, mean).sum_above(windows, range(2)), centres
