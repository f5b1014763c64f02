"""Measured data that hold less than a core-shell cube: L2,3 beside a known spectrum, M and L edges of one phase."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from ..spectra import align_zero_loss, energy_axis, fourier_log, remove_background, remove_spikes, zero_loss
from .plane import reference_from_abundances
from .whitelines import broaden, match_spectrum, white_lines


@dataclass(frozen=True)
class L23Comparison:
    """Fe-L2,3 of a spectrum image beside a known spectrum, see `compare_l23`.

    Attributes
    ----------
    energy_eV, spectrum, matched : (E,)
        Calibrated energies, mean over the specimen, and the known spectrum, broadened and scaled (NaN outside of it).
    shift_eV, extra_fwhm_eV, angle_deg : float
        What the energy axis had to move by, the Gaussian that the known spectrum was broadened by, and how they
        differ.
    rows : list of dict
        L3 position, splitting and L3/L2 ratio of both.
    position_map, ratio_map : (...)
        L3 maximum (eV) and L3/L2 ratio of each pixel, NaN off the specimen.
    contrast_eV, contrast_error_eV : float
        Pixels are sorted into two halves by the L3 position of their neighbours (so that their own noise does not sort
        them): difference of the L3 position of the two halves, and one standard error.
    no_contrast : bool
        The two halves differ by less than three standard errors, or less than 0.1 eV (Fe2+ to Fe3+ is 1.7 eV).
    """

    energy_eV: np.ndarray
    spectrum: np.ndarray
    matched: np.ndarray
    shift_eV: float
    extra_fwhm_eV: float
    angle_deg: float
    rows: list
    position_map: np.ndarray
    ratio_map: np.ndarray
    contrast_eV: float
    contrast_error_eV: float
    no_contrast: bool = field(default=True)


def compare_l23(measured, known=None, *, window_eV=(704.0, 730.0), background_eV=50.0, max_shift_eV=15.0):
    """Compare Fe-L2,3 of a measured spectrum image with a known spectrum.

    Spikes and a power-law background are removed, the energy axis is calibrated on the known spectrum (shift
    and broadening by least squares), and white lines of both are measured in the same way.

    Parameters
    ----------
    measured, known : HyperSpy signals, (Y, X | E) and (E2)
        Without a known spectrum, the axis is left as it is, and ``matched`` is NaN.
    window_eV : (float, float)
        Of the known spectrum, in which both are matched.
    background_eV : float
        Width of the background window, which ends 8 eV before the edge.
    max_shift_eV : float
        Largest error of the energy axis that is looked for.
    """
    energy = energy_axis(measured)
    clean = remove_spikes(np.asarray(measured.data, float))
    mean = clean.reshape(-1, energy.size).mean(0)
    near = (energy > 680) & (energy < 735)
    if energy[0] > 640 or energy[-1] < 735:
        raise ValueError(f"measured: energies {energy[0]:g} to {energy[-1]:g} eV, wants 640 to 735 eV for Fe-L2,3")
    l3 = energy[near][np.argmax(ndimage.gaussian_filter1d(mean, 0.5 / (energy[1] - energy[0]))[near])]
    edge = remove_background(clean, energy, window_eV=(l3 - 11.0 - background_eV, l3 - 11.0))
    counts = edge[..., (energy > l3 - 5) & (energy < l3 + 25)].sum(-1)
    mask = counts > 0.5 * np.percentile(counts, 95)
    spectrum = edge[mask].mean(0)
    options = {"continuum_eV": (24.0, 34.0)}
    shift, extra, angle, matched, other = 0.0, 0.0, float("nan"), np.full(energy.size, np.nan), None
    if known is not None:
        known_energy, known_y = energy_axis(known), np.asarray(known.data, float)
        before = known_energy < known_energy[0] + 8.0
        known_y = known_y - np.polyval(np.polyfit(known_energy[before], known_y[before], 1), known_energy)
        match = match_spectrum(
            spectrum, energy, known_y, known_energy, window_eV=window_eV, max_shift_eV=max_shift_eV, fwhm_eV=(0.0, 5.0)
        )
        shift, extra, angle, matched = match.shift_eV, match.extra_fwhm_eV, match.angle_deg, match.matched
        other = white_lines(broaden(known_y, known_energy, extra), known_energy, **options)
    calibrated = energy + shift
    search = {"l3_search_eV": (l3 + shift - 5, l3 + shift + 5), **options}
    lines = white_lines(spectrum, calibrated, **search)
    # single pixels are too noisy for a maximum: 3 x 3 means, for the maps only
    smooth = ndimage.uniform_filter(edge, (3, 3, 0)) if edge.ndim == 3 else edge
    pixels = white_lines(smooth, calibrated, **search)
    place = np.where(mask, pixels.l3_position_eV, np.nan)
    ratio = np.where(mask, pixels.ratio, np.nan)
    around = 9 * ndimage.uniform_filter(edge, (3, 3, 0)) - edge if edge.ndim == 3 else edge
    sorting = white_lines(around, calibrated, **search).l3_position_eV
    high = mask & (sorting > np.median(sorting[mask]))
    low = mask & ~high
    rng = np.random.default_rng(0)

    def scatter(where):
        """L3 position of a group of pixels, and its standard error by bootstrap."""
        rows = edge[where]
        some = np.array([rows[rng.integers(len(rows), size=len(rows))].mean(0) for _ in range(60)])
        every = white_lines(some, calibrated, **search).l3_position_eV
        return white_lines(rows.mean(0), calibrated, **search).l3_position_eV, every.std()

    (e1, de1), (e2, de2) = scatter(high), scatter(low)
    named = {"measured": lines} | ({f"known, broadened by {extra:.1f} eV": other} if other else {})
    rows = [
        {
            "spectrum": name,
            "L3 maximum (eV)": f"{w.l3_position_eV:.2f}",
            "L2 - L3 (eV)": f"{w.l2_position_eV - w.l3_position_eV:.2f}",
            "L3/L2": f"{w.ratio:.2f}",
            "angle between them (°)": f"{angle:.1f}" if other and w is lines else "",
        }
        for name, w in named.items()
    ]
    return L23Comparison(
        energy_eV=calibrated,
        spectrum=spectrum,
        matched=matched,
        shift_eV=shift,
        extra_fwhm_eV=extra,
        angle_deg=angle,
        rows=rows,
        position_map=place,
        ratio_map=ratio,
        contrast_eV=float(e1 - e2),
        contrast_error_eV=float(np.hypot(de1, de2)),
        no_contrast=bool(e1 - e2 < max(0.1, 3 * np.hypot(de1, de2))),
    )


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

    energy_eV: np.ndarray
    reference: np.ndarray
    uncertainty: np.ndarray
    core_signal: np.ndarray
    core_error: np.ndarray
    low_signal: np.ndarray
    low_error: np.ndarray
    correlation: float


def pair_edges(
    low_loss,
    core_loss,
    *,
    core_background_eV=(575.0, 618.0),
    core_edge_eV=(622.0, 662.0),
    background_eV=(38.0, 46.0),
    edge_eV=(47.0, 65.0),
    bootstrap=100,
    seed=0,
):
    """M2,3 reference of a one-phase specimen: low loss regressed on the L2,3 signal of the same pixels.

    With one phase there is no rotation to settle. The windows are those of manganese, on the energy axis that
    the core loss has after alignment of the zero loss.

    Parameters
    ----------
    low_loss, core_loss : HyperSpy signals, (..., | E) and (..., | E2)
        The low loss with a stretch before the zero loss, from which the detector's offset is read.
    core_background_eV, core_edge_eV : (float, float)
        Of the core loss.
    background_eV, edge_eV : (float, float)
        Of M2,3: where the power law is fitted, and where the edge is integrated.
    """
    energy, core_energy = energy_axis(low_loss), energy_axis(core_loss)
    for name, axis, low, high in (
        ("low_loss", energy, -10.0, edge_eV[1]),
        ("core_loss", core_energy, core_background_eV[0], core_edge_eV[1]),
    ):
        if axis[0] > low or axis[-1] < high:
            raise ValueError(f"{name}: energies {axis[0]:g} to {axis[-1]:g} eV, wants {low:g} to {high:g} eV")
    low, core = align_zero_loss(low_loss, core_loss)
    low = np.asarray(low.data, float).reshape(-1, energy.size)
    core = np.asarray(core.data, float).reshape(-1, core_energy.size)
    low = low - low[:, energy < -8].mean(axis=1, keepdims=True)  # offset of the detector
    direct = zero_loss(low, energy).sum(-1, keepdims=True)
    single = fourier_log(low, energy) / direct
    edge = remove_background(core, core_energy, window_eV=core_background_eV) / direct
    inside = (core_energy > core_edge_eV[0]) & (core_energy < core_edge_eV[1])
    before = (core_energy > core_background_eV[0]) & (core_energy < core_background_eV[1])
    signal = edge[:, inside].sum(1)
    # errors from the scatter of the channels before the edge, extrapolation of the background included
    spread = edge[:, before].std(axis=1)
    core_error = spread * np.sqrt(inside.sum() * (1 + inside.sum() / before.sum()))
    scale = signal.mean()
    signal, core_error = signal / scale, core_error / scale
    reference, _ = reference_from_abundances(single, signal, core_error**2, bootstrap=0, seed=seed)
    rng = np.random.default_rng(seed)

    def stripped(y):
        """Less the power law before the edge (a fit that needs no counts: y is in any unit)."""
        window = (energy >= background_eV[0]) & (energy <= background_eV[1])
        slope = np.polyfit(np.log(energy[window]), np.log(np.maximum(y[window], 1e-12)), 1)
        return y - np.exp(np.polyval(slope, np.log(np.maximum(energy, 1.0))))

    some = []
    for _ in range(bootstrap):
        i = rng.integers(len(single), size=len(single))
        some.append(stripped(reference_from_abundances(single[i], signal[i], core_error[i] ** 2, bootstrap=0)[0][0]))
    reference = stripped(reference[0])
    # M2,3 of each pixel: amplitude of the mean edge beside a power law and its derivative, by least squares
    fitted = (energy >= background_eV[0]) & (energy <= edge_eV[1])
    mean = np.maximum(single.mean(0), 1e-12)
    slope = np.polyfit(np.log(energy[fitted]), np.log(mean[fitted]), 1)[0]
    power = (energy[fitted] / 50.0) ** slope
    shapes = np.stack([reference[fitted], power, power * np.log(energy[fitted] / 50.0)]).T
    solved, *_ = np.linalg.lstsq(shapes, single[:, fitted].T, rcond=None)
    noise = (single[:, fitted].T - shapes @ solved).std(axis=0)
    low_error = noise * np.sqrt(np.linalg.inv(shapes.T @ shapes)[0, 0])
    return EdgePair(
        energy_eV=energy,
        reference=reference,
        uncertainty=np.std(some, axis=0),
        core_signal=signal,
        core_error=core_error,
        low_signal=solved[0] / solved[0].mean(),
        low_error=low_error / solved[0].mean(),
        correlation=float(np.corrcoef(signal, solved[0])[0, 1]),
    )
