"""Measured data that hold less than a core-shell cube: L2,3 beside a reference, M and L edges of one phase."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..checks import check_count, check_number, check_positive, check_seed, check_window, named, real_array
from ..doors import checked
from ..scattering import System, as_system
from ..spectra import (
    align_zero_loss,
    energy_axis,
    fourier_log,
    in_window,
    remove_background,
    remove_spikes,
    zero_loss,
)
from .coreloss import find_l3
from .plane import reference_from_abundances
from .whitelines import MOST_SHIFT_EV, broaden, match_spectrum, white_lines

if TYPE_CHECKING:
    from hyperspy.signals import BaseSignal

__all__ = ["EdgePair", "L23Comparison", "compare_l23", "pair_edges"]

CONTINUUM_EV = (24.0, 34.0)  # above the L3 maximum


@checked(energy_eV="E", spectrum="E", matched="E", position_map="...", ratio_map="...")
@dataclass(frozen=True)
class L23Comparison:
    """L2,3 of a spectrum image compared with a reference, see `compare_l23`.

    Attributes
    ----------
    energy_eV, spectrum, matched : (E,)
        Calibrated energies, mean spectrum of the specimen, and the reference, broadened and scaled (NaN outside its
        range).
    shift_eV, extra_fwhm_eV, angle_deg : float
        Shift of the energy axis, FWHM of the Gaussian by which the reference was broadened, and angle between the two
        spectra.
    rows : list of dict
        L3 position, splitting and L3/L2 ratio of both.
    position_map, ratio_map : (...)
        L3 maximum (eV) and L3/L2 ratio of each pixel, NaN off the specimen.
    contrast_eV, contrast_error_eV : float
        Difference in L3 position between two halves of the pixels, and one standard error. Pixels are sorted by the L3
        position of their neighbours, so that their own noise does not sort them.
    no_contrast : bool
        The two halves differ by less than three standard errors, or less than 0.1 eV (Fe2+ to Fe3+ is 1.7 eV).
    """

    energy_eV: NDArray
    spectrum: NDArray
    matched: NDArray
    shift_eV: float
    extra_fwhm_eV: float
    angle_deg: float
    rows: list[dict[str, str]]
    position_map: NDArray
    ratio_map: NDArray
    contrast_eV: float
    contrast_error_eV: float
    no_contrast: bool


@checked
def compare_l23(
    measured: BaseSignal,
    reference: BaseSignal | None = None,
    *,
    system: System | str | None = None,
    window_eV: tuple[float, float] | None = None,
    background_eV: float = 50.0,
    max_shift_eV: float = 15.0,
) -> L23Comparison:
    """Compare L2,3 of a measured spectrum image with a reference spectrum.

    Spikes and a power-law background are removed, the energy axis is calibrated on the reference (shift
    and broadening by least squares), and white lines of both are measured in the same way.

    Parameters
    ----------
    measured, reference : HyperSpy signals, (Y, X | E) and (E2)
        Without a reference, the axis is left as it is, and ``matched`` is NaN.
    system : System or str, optional
        Whose metal it is; by default the iron oxides.
    window_eV : (float, float), optional
        Of the reference, in which both are matched; by default from 5 eV before L3 to 21 eV beyond it.
    background_eV : float
        Width of the background window, which ends 11 eV before the L3 maximum.
    max_shift_eV : float
        Largest error of the energy axis that is looked for.

    Raises
    ------
    ValueError
        If the energies of ``measured`` do not cover 69 eV before L3 to 26 eV beyond it (iron: 640 to 735 eV).
    """
    energy, system = energy_axis(measured, of="measured"), as_system(system)
    expected = system.edge("L2,3").standards["l3_eV"]
    window_eV = (expected - 4.7, expected + 21.3) if window_eV is None else window_eV
    check_window(window_eV)
    check_positive(background_eV=background_eV)
    check_number(max_shift_eV, "max_shift_eV", energy[1] - energy[0], MOST_SHIFT_EV)
    if reference is not None:
        reference_energy = energy_axis(reference, of="reference")
        y = np.asarray(real_array(reference.data, "reference", ndim=1), float)
    l3, edge, mask = _edge_above_background(measured, energy, background_eV, system)
    spectrum = edge[mask].mean(0)
    match = reference_lines = None
    if reference is not None:
        before = reference_energy < reference_energy[0] + 8.0
        y = y - np.polyval(np.polyfit(reference_energy[before], y[before], 1), reference_energy)
        match = match_spectrum(
            spectrum, energy, y, reference_energy, window_eV=window_eV, max_shift_eV=max_shift_eV, fwhm_eV=(0.0, 5.0)
        )
        broadened = broaden(y, reference_energy, match.extra_fwhm_eV)
        reference_lines = white_lines(broadened, reference_energy, system=system, continuum_eV=CONTINUUM_EV)
    shift = match.shift_eV if match else 0.0
    measure = partial(
        white_lines,
        energy_eV=energy + shift,
        system=system,
        l3_search_eV=(l3 + shift - 5, l3 + shift + 5),
        continuum_eV=CONTINUUM_EV,
    )
    # single pixels are too noisy for a maximum: 3 x 3 means, for the maps only
    pixels = measure(ndimage.uniform_filter(edge, (3, 3, 0)) if edge.ndim == 3 else edge)
    contrast, error = _contrast(edge, mask, measure)
    return L23Comparison(
        energy_eV=energy + shift,
        spectrum=spectrum,
        matched=match.matched if match else np.full(energy.size, np.nan),
        shift_eV=shift,
        extra_fwhm_eV=match.extra_fwhm_eV if match else 0.0,
        angle_deg=match.angle_deg if match else float("nan"),
        rows=_rows(measure(spectrum), reference_lines, match),
        position_map=np.where(mask, pixels.l3_position_eV, np.nan),
        ratio_map=np.where(mask, pixels.ratio, np.nan),
        contrast_eV=contrast,
        contrast_error_eV=error,
        no_contrast=bool(contrast < max(0.1, 3 * error)),
    )


def _edge_above_background(measured, energy, background_eV, system):
    """The L3 maximum of the mean, spectra less their background, and the pixels in which the edge stands out."""
    expected = system.edge("L2,3").standards["l3_eV"]
    first, last = expected - 68.7, expected + 26.3
    if energy[0] > first + 1e-6 or energy[-1] < last - 1e-6:
        raise ValueError(
            f"measured: got energies {energy[0]:g} to {energy[-1]:g} eV, wants {first:g} to {last:g} eV for "
            f"{system.metal}-L2,3"
        )
    clean = remove_spikes(np.asarray(measured.data, float))
    mean = clean.reshape(-1, energy.size).mean(0)
    l3 = find_l3(energy, mean, window_eV=(expected - 28.7, last))
    with named("background_eV", of="window_eV"):
        edge = remove_background(clean, energy, window_eV=(l3 - 11.0 - background_eV, l3 - 11.0))
    counts = edge[..., (energy > l3 - 5) & (energy < l3 + 25)].sum(-1)
    return l3, edge, counts > 0.5 * np.percentile(counts, 95)


def _contrast(edge, mask, measure):
    """L3 position of one half of the pixels less that of the other, and its standard error.

    Pixels are sorted by the L3 position of their neighbours, without themselves.
    """
    around = 9 * ndimage.uniform_filter(edge, (3, 3, 0)) - edge if edge.ndim == 3 else edge
    sorting = measure(around).l3_position_eV
    high = mask & (sorting > np.median(sorting[mask]))
    rng = np.random.default_rng(0)
    (high_eV, high_error), (low_eV, low_error) = (
        _l3_position(edge[half], measure, rng) for half in (high, mask & ~high)
    )
    return float(high_eV - low_eV), float(np.hypot(high_error, low_error))


def _l3_position(spectra, measure, rng, bootstrap=60):
    """L3 position of the mean of spectra (N, E), and its standard error by bootstrap."""
    means = np.array([spectra[rng.integers(len(spectra), size=len(spectra))].mean(0) for _ in range(bootstrap)])
    return measure(spectra.mean(0)).l3_position_eV, measure(means).l3_position_eV.std()


def _rows(lines, reference_lines, match):
    named = {"measured": lines}
    if match:
        named[f"reference, broadened by {match.extra_fwhm_eV:.1f} eV"] = reference_lines
    return [
        {
            "spectrum": name,
            "L3 maximum (eV)": f"{w.l3_position_eV:.2f}",
            "L2 - L3 (eV)": f"{w.l2_position_eV - w.l3_position_eV:.2f}",
            "L3/L2": f"{w.ratio:.2f}",
            "angle between them (°)": f"{match.angle_deg:.1f}" if match and w is lines else "",
        }
        for name, w in named.items()
    ]


@checked(energy_eV="E", reference="E", uncertainty="E", core_signal="N", core_error="N", low_signal="N", low_error="N")
@dataclass(frozen=True)
class EdgePair:
    """An M2,3 reference found through the L2,3 edge of the same pixels, see `pair_edges`.

    Attributes
    ----------
    energy_eV, reference, uncertainty : (E,)
        Of the low loss; per unit of the mean L2,3 signal.
    core_signal, core_error, low_signal, low_error : (N,)
        L2,3 and M2,3 intensities of each pixel over their means, with standard errors.
    correlation : float
        Between the two.
    """

    energy_eV: NDArray
    reference: NDArray
    uncertainty: NDArray
    core_signal: NDArray
    core_error: NDArray
    low_signal: NDArray
    low_error: NDArray
    correlation: float


@checked
def pair_edges(
    low_loss: BaseSignal,
    core_loss: BaseSignal,
    *,
    system: System | str | None = None,
    core_background_eV: tuple[float, float] | None = None,
    core_edge_eV: tuple[float, float] | None = None,
    background_eV: tuple[float, float] | None = None,
    edge_eV: tuple[float, float] | None = None,
    bootstrap: int = 100,
    seed: int = 0,
) -> EdgePair:
    """M2,3 reference of a one-phase specimen: low loss regressed on the L2,3 signal of the same pixels.

    With one phase there is no rotation to determine.

    Parameters
    ----------
    low_loss, core_loss : HyperSpy signals, (..., | E) and (..., | E2)
        The low loss must start before the zero loss: the detector's offset is read there.
    system : System or str, optional
        Whose metal it is; by default the iron oxides.
    core_background_eV, core_edge_eV : (float, float), optional
        Of the core loss, after alignment of the zero loss; by default 66 to 23 eV below L3, and from 19 eV below it to
        21 eV above.
    background_eV, edge_eV : (float, float), optional
        Of M2,3: where the power law is fitted, and where the edge is integrated; by default 10 to 2 eV below the onset,
        and from 1 eV below it to 17 eV above.
    bootstrap : int
        Draws of the pixels.
    seed : int

    Raises
    ------
    ValueError
        If the energies do not cover the windows.
    """
    energy, core_energy = energy_axis(low_loss, of="low_loss"), energy_axis(core_loss, of="core_loss")
    system = as_system(system)
    l3_eV, onset_eV = system.edge("L2,3").standards["l3_eV"], system.edge("M2,3").onset_eV
    core_background_eV, core_edge_eV, background_eV, edge_eV = (
        check_window((place + low, place + high) if window is None else window, name)
        for name, window, place, (low, high) in (
            ("core_background_eV", core_background_eV, l3_eV, (-66.0, -23.0)),
            ("core_edge_eV", core_edge_eV, l3_eV, (-19.0, 21.0)),
            ("background_eV", background_eV, onset_eV, (-10.0, -2.0)),
            ("edge_eV", edge_eV, onset_eV, (-1.0, 17.0)),
        )
    )
    check_count(bootstrap, "bootstrap", 2, 100_000)
    check_seed(seed)
    for name, axis, first, last, wanted in (
        ("low_loss", energy, -10.0, edge_eV[1], "up to edge_eV"),
        ("core_loss", core_energy, core_background_eV[0], core_edge_eV[1], "core_background_eV to core_edge_eV"),
    ):
        if axis[0] > first or axis[-1] < last:
            got = f"{axis[0]:g} to {axis[-1]:g} eV"
            raise ValueError(f"{name}: got energies {got}, wants {first:g} to {last:g} eV ({wanted})")
    low, core = align_zero_loss(low_loss, core_loss)
    low = np.asarray(low.data, float).reshape(-1, energy.size)
    core = np.asarray(core.data, float).reshape(-1, core_energy.size)
    low = low - low[:, energy < -8].mean(axis=1, keepdims=True)  # offset of the detector
    direct = zero_loss(low, energy).sum(-1, keepdims=True)
    single = fourier_log(low, energy) / direct
    core = remove_background(core, core_energy, window_eV=core_background_eV) / direct
    signal, error = _core_signal(core, core_energy, core_background_eV, core_edge_eV)

    rng = np.random.default_rng(seed)
    draws = [slice(None)] + [rng.integers(len(single), size=len(single)) for _ in range(bootstrap)]
    spectra = [reference_from_abundances(single[i], signal[i], error[i] ** 2, bootstrap=0)[0][0] for i in draws]
    references = [_above_power_law(y, energy, background_eV) for y in spectra]
    fitted = in_window(energy, (background_eV[0], edge_eV[1]))
    low_signal, low_error = _low_signal(single[:, fitted], references[0][fitted], energy[fitted])
    return EdgePair(
        energy_eV=energy,
        reference=references[0],
        uncertainty=np.std(references[1:], axis=0),
        core_signal=signal,
        core_error=error,
        low_signal=low_signal,
        low_error=low_error,
        correlation=float(np.corrcoef(signal, low_signal)[0, 1]),
    )


def _core_signal(core, energy, background_eV, edge_eV):
    """L2,3 of each pixel over its mean, and its error.

    The error is from the scatter of the channels before the edge, extrapolation of the background included.
    """
    inside = (energy > edge_eV[0]) & (energy < edge_eV[1])
    before = (energy > background_eV[0]) & (energy < background_eV[1])
    signal = core[:, inside].sum(1)
    error = core[:, before].std(axis=1) * np.sqrt(inside.sum() * (1 + inside.sum() / before.sum()))
    return signal / signal.mean(), error / signal.mean()


def _above_power_law(y, energy, window_eV):
    """Less the power law before the edge (a fit that needs no counts: y is in any unit)."""
    window = in_window(energy, window_eV)
    slope = np.polyfit(np.log(energy[window]), np.log(np.maximum(y[window], 1e-12)), 1)
    return y - np.exp(np.polyval(slope, np.log(np.maximum(energy, 1.0))))


def _low_signal(single, reference, energy):
    """M2,3 of each pixel over its mean, and its error.

    The amplitude of the mean edge beside a power law and its derivative, by least squares.
    """
    mean = np.maximum(single.mean(0), 1e-12)
    slope = np.polyfit(np.log(energy), np.log(mean), 1)[0]
    power = (energy / 50.0) ** slope
    shapes = np.stack([reference, power, power * np.log(energy / 50.0)]).T
    amplitudes, *_ = np.linalg.lstsq(shapes, single.T, rcond=None)
    noise = (single.T - shapes @ amplitudes).std(axis=0)
    error = noise * np.sqrt(np.linalg.inv(shapes.T @ shapes)[0, 0])
    return amplitudes[0] / amplitudes[0].mean(), error / amplitudes[0].mean()
