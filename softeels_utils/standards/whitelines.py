"""The white lines of an L2,3 edge: positions, L3/L2 ratio, and how similar two spectra are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from ..checks import check_number, check_positive, check_window, describe, finite_array
from ..doors import checked
from ..scattering import System, arctangent_step, as_system
from ..spectra import FWHM_PER_SIGMA, data_of, energy_axis, in_window

__all__ = ["Match", "WhiteLines", "broaden", "match_spectrum", "spectral_angle_deg", "white_lines"]

MOST_SHIFT_EV = 1e3  # that is looked for


@checked
@dataclass(frozen=True)
class WhiteLines:
    """White lines of L2,3 spectra ``(..., E)``; every attribute has shape ``(...)``.

    Attributes
    ----------
    l3_position_eV, l2_position_eV : energies of the two maxima
    l3, l2 : intensities above the continuum steps, integrated over their windows (spectrum unit times eV)
    ratio : L3/L2
    continuum : height of the continuum beyond both lines
    """

    l3_position_eV: NDArray
    l2_position_eV: NDArray
    l3: NDArray
    l2: NDArray
    ratio: NDArray
    continuum: NDArray


@checked
def white_lines(
    spectra: ArrayLike,
    energy_eV: ArrayLike | None = None,
    *,
    system: System | str | None = None,
    l3_search_eV: tuple[float, float] | None = None,
    splitting_eV: float | None = None,
    window_eV: tuple[float, float] = (-5.0, 7.0),
    continuum_eV: tuple[float, float] = (24.0, 40.0),
    step_width_eV: float = 1.0,
    smoothing_eV: float = 0.4,
) -> WhiteLines:
    """Positions and intensities of the L3 and L2 white lines.

    The continuum is taken as two arctangent steps under the maxima, with heights 2 : 1 (the 2p3/2 and 2p1/2
    occupations) that add up to the mean over ``continuum_eV``. The intensity above them is integrated over
    ``window_eV`` around each maximum.

    Parameters
    ----------
    spectra : (..., E) array or HyperSpy signal
        Background removed, and plural scattering if the specimen is thick.
    energy_eV : (E,), for plain arrays
    system : System or str, optional
        Whose metal it is; by default the iron oxides.
    l3_search_eV : (float, float), optional
        Where the maximum of L3 is looked for; by default within 9 eV of that of the system.
    splitting_eV : float, optional
        Spin-orbit splitting of the 2p level, by default that of the system (iron: 13.1 eV); the maximum of L2 is looked
        for within 3 eV of it.
    window_eV : (float, float)
        Integration window, relative to each maximum.
    continuum_eV : (float, float)
        Where the continuum is read, relative to the L3 maximum (for iron: past the L2 line, before Fe-L1).
    step_width_eV : float
        Width of the arctangent.
    smoothing_eV : float
        Standard deviation of the Gaussian that smooths the spectrum before the maxima are found (by a parabola through
        the top).

    Returns
    -------
    WhiteLines

    Raises
    ------
    ValueError
        If the energies do not cover the windows.

    Notes
    -----
    The subtraction of two steps follows Pearson, Ahn and Fultz, Phys. Rev. B 47, 8471 (1993), and, with
    arctangents, van Aken and Liebscher, Phys. Chem. Minerals 29, 188 (2002). Absolute ratios depend on the
    windows and the step (Tan et al., Ultramicroscopy 116, 24 (2012), compare such choices for Fe and Mn oxides;
    Cavé et al., Micron 37, 301 (2006), map Fe valence by them), so compare only ratios measured in the same
    way.
    """
    energy = energy_axis(spectra, energy_eV)
    y = np.asarray(data_of(spectra), float)
    if l3_search_eV is None or splitting_eV is None:
        edge = as_system(system).edge("L2,3").standards
        l3_search_eV = (edge["l3_eV"] - 9, edge["l3_eV"] + 9) if l3_search_eV is None else l3_search_eV
        splitting_eV = edge["splitting_eV"] if splitting_eV is None else splitting_eV
    check_window(l3_search_eV, "l3_search_eV")
    for name, window in (("window_eV", window_eV), ("continuum_eV", continuum_eV)):
        if np.abs(check_window(window, name, relative=True)).max() > np.ptp(energy):
            raise ValueError(
                f"{name}: got {window!r}, wants energies relative to a maximum, within those of the spectra"
            )
    check_positive(splitting_eV=splitting_eV, step_width_eV=step_width_eV)
    check_number(smoothing_eV, "smoothing_eV", 0, np.ptp(energy))
    need = l3_search_eV[0], l3_search_eV[1] + continuum_eV[0]
    if energy[0] > need[0] or energy[-1] < need[1]:
        raise ValueError(
            f"energy_eV: got {energy[0]:g} to {energy[-1]:g} eV for spectra, wants {need[0]:g} to {need[1]:g} eV (the "
            "lines of L2,3: from l3_search_eV to continuum_eV beyond it)"
        )
    step = energy[1] - energy[0]
    smooth = ndimage.gaussian_filter1d(y, max(smoothing_eV / step, 0.3), axis=-1)
    l3 = _maximum(energy, smooth, np.asarray(l3_search_eV[0]), np.asarray(l3_search_eV[1]))
    l2 = _maximum(energy, smooth, l3 + splitting_eV - 3.0, l3 + splitting_eV + 3.0)
    height = _mean_within(y, energy - l3[..., None], continuum_eV)
    step3, step2 = (arctangent_step(energy, line[..., None], step_width_eV) for line in (l3, l2))
    above = y - height[..., None] * (2 * step3 + step2) / 3
    i3, i2 = (_sum_within(above, energy - line[..., None], window_eV) * step for line in (l3, l2))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = i3 / i2
    return WhiteLines(l3, l2, i3, i2, ratio, height)


def _maximum(energy, smooth, low, high):
    """Energy of the maximum between low and high (...), refined by a parabola through three channels."""
    inside = (energy >= low[..., None]) & (energy <= high[..., None])
    top = np.where(inside, smooth, -np.inf).argmax(-1)
    top = np.clip(top, 1, energy.size - 2)
    left, mid, right = (np.take_along_axis(smooth, (top + i)[..., None], -1)[..., 0] for i in (-1, 0, 1))
    bend = left - 2 * mid + right
    offset = np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, -1.0), 0.0)
    return energy[top] + (energy[1] - energy[0]) * np.clip(offset, -1, 1)


def _sum_within(y, away, window):
    return np.where(in_window(away, window), y, 0).sum(-1)


def _mean_within(y, away, window):
    return _sum_within(y, away, window) / np.maximum(_sum_within(np.ones_like(away), away, window), 1)


@checked
def spectral_angle_deg(a: ArrayLike, b: ArrayLike) -> NDArray:
    """Angle between spectra ``(..., E)`` as vectors, in degrees: 0 for the same shape, whatever the scale.

    Examples
    --------
    >>> float(spectral_angle_deg([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]).round(6))
    0.0
    """
    a, b = finite_array(a, "a"), finite_array(b, "b")
    if a.shape[-1:] != b.shape[-1:] or not a.ndim:
        raise ValueError(f"a, b: got shapes {a.shape} and {b.shape}, wants spectra of as many channels")
    if not (a.any() and b.any()):
        raise ValueError(f"{'b' if a.any() else 'a'}: got zeros, wants a spectrum")
    a = a / np.linalg.norm(a, axis=-1, keepdims=True)
    b = b / np.linalg.norm(b, axis=-1, keepdims=True)
    # half-angle form: exact for small angles too, where arccos loses half of the digits
    return np.degrees(2 * np.arctan2(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1)))


@checked
def broaden(spectra: ArrayLike, energy_eV: ArrayLike, fwhm_eV: float) -> NDArray:
    """Spectra broadened by a Gaussian of ``fwhm_eV``, which adds in quadrature to their own resolution."""
    energy = energy_axis(spectra, energy_eV)
    check_number(fwhm_eV, "fwhm_eV", 0, 10 * np.ptp(energy))
    width = fwhm_eV / FWHM_PER_SIGMA / (energy[1] - energy[0])
    return ndimage.gaussian_filter1d(np.asarray(spectra, float), width, axis=-1, mode="nearest") if width else spectra


@checked
@dataclass(frozen=True)
class Match:
    """How well a spectrum agrees with a reference, see `match_spectrum`."""

    shift_eV: float
    extra_fwhm_eV: float
    scale: float
    angle_deg: float
    correlation: float
    matched: NDArray


@checked
def match_spectrum(
    spectrum: ArrayLike,
    energy_eV: ArrayLike,
    reference: ArrayLike,
    reference_energy_eV: ArrayLike,
    *,
    window_eV: tuple[float, float],
    max_shift_eV: float = 15.0,
    fwhm_eV: tuple[float, float] = (0.0, 3.0),
) -> Match:
    """Calibrate a spectrum's energy axis on a reference, broadened to its resolution.

    Shift and broadening minimise the least-squares distance between the spectrum and a multiple of the reference, over
    ``window_eV`` of the reference's axis.

    Parameters
    ----------
    spectrum, reference : (E,), (E2,)
        Background removed.
    energy_eV, reference_energy_eV : (E,), (E2,)
    window_eV : (float, float)
        On the reference's energy axis.
    max_shift_eV : float
        Largest error of the energy axis to be looked for.
    fwhm_eV : (float, float)
        Range for the Gaussian by which the reference is broadened.

    Returns
    -------
    Match
        ``shift_eV`` is to be added to ``energy_eV``; ``matched`` is the reference, broadened and scaled, on
        ``energy_eV + shift_eV`` (NaN outside of the reference's axis).

    Raises
    ------
    ValueError
        If the reference's axis does not cover the window, or the spectrum's does not at any allowed shift.
    """
    energy = energy_axis(spectrum, energy_eV, of="spectrum")
    reference_energy = energy_axis(reference, reference_energy_eV, name="reference_energy_eV", of="reference")
    y, reference = (_one_spectrum(values, name) for name, values in (("spectrum", spectrum), ("reference", reference)))
    low, high = check_window(window_eV)
    check_number(max_shift_eV, "max_shift_eV", (energy[1] - energy[0]) / 2, MOST_SHIFT_EV)
    _check_widths(fwhm_eV)
    if reference_energy[0] > low or reference_energy[-1] < high:
        raise ValueError(
            f"window_eV: got ({low:g}, {high:g}), wants it inside reference_energy_eV, "
            f"{reference_energy[0]:g} to {reference_energy[-1]:g} eV"
        )
    step = energy[1] - energy[0]
    best, shifts, widths = None, np.arange(-max_shift_eV, max_shift_eV + step / 2, step), np.linspace(*fwhm_eV, 9)
    for _ in range(3):  # on ever finer grids around the best so far
        best = _search(y, energy, reference, reference_energy, window_eV, shifts, widths, best)
        if best is None:
            raise ValueError(
                f"energy_eV: got {energy[0]:g} to {energy[-1]:g} eV, wants window_eV ({low:g}, {high:g}) within "
                f"{max_shift_eV:g} eV of it"
            )
        _, shift, width, scale = best
        finer_width, finer_shift = widths[1] - widths[0], shifts[1] - shifts[0]
        widths = np.clip(width + finer_width * np.linspace(-1, 1, 9), *fwhm_eV)
        shifts = shift + finer_shift * np.linspace(-1, 1, 9)
    blurred = broaden(reference, reference_energy, width)
    matched = scale * np.interp(energy + shift, reference_energy, blurred, left=np.nan, right=np.nan)
    inside = in_window(energy + shift, window_eV)
    return Match(
        shift_eV=float(shift),
        extra_fwhm_eV=float(width),
        scale=float(scale),
        angle_deg=float(spectral_angle_deg(y[inside], matched[inside])),
        correlation=float(np.corrcoef(y[inside], matched[inside])[0, 1]),
        matched=matched,
    )


def _one_spectrum(values, name):
    found = finite_array(data_of(values), name)
    if found.ndim != 1 or not found.any():
        raise ValueError(f"{name}: got {describe(found)}, wants one spectrum that is not 0 everywhere")
    return found


def _check_widths(fwhm_eV):
    widths = finite_array(fwhm_eV, "fwhm_eV")
    if widths.shape != (2,) or not 0 <= widths[0] <= widths[1] <= MOST_SHIFT_EV:
        raise ValueError(f"fwhm_eV: got {describe(fwhm_eV)}, wants two widths that increase from 0 or more")


def _search(y, energy, reference, reference_energy, window_eV, shifts, widths, best):
    """Cosine, shift, width and scale of the best match on a grid, or ``best`` where none of the grid is better."""
    (low, high), step = window_eV, energy[1] - energy[0]
    for width in widths:
        blurred = broaden(reference, reference_energy, width)
        for shift in shifts:
            inside = in_window(energy + shift, window_eV)
            if inside.sum() * step < 0.98 * (high - low):
                continue
            model = np.interp(energy[inside] + shift, reference_energy, blurred)
            cosine = (model @ y[inside]) / (np.linalg.norm(model) * np.linalg.norm(y[inside]))
            if best is None or cosine > best[0]:
                best = cosine, shift, width, (model @ y[inside]) / (model @ model)
    return best
