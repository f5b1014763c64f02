"""Plural scattering: out of the data, or into the references."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import fft

from ..checks import check_choice, check_positive, finite_array
from ..doors import checked
from .arrays import data_of, energy_axis, is_signal, with_data
from .blocks import map_spectra

__all__ = [
    "convolve_low_loss",
    "default_split_eV",
    "fourier_log",
    "fourier_ratio",
    "low_loss_axis",
    "relative_thickness",
    "repeated_losses",
    "zero_loss",
]


@checked
def zero_loss(low_loss: Any, energy_eV: ArrayLike | None = None, *, split_eV: float | None = None) -> Any:
    """The zero-loss peak alone: the measured peak up to ``split_eV``, then the mirror image of its left side.

    Parameters
    ----------
    low_loss : (..., E), zero loss at 0 eV (`align_zero_loss`)
    energy_eV : (E,), for plain arrays
    split_eV : float, optional
        Where inelastic scattering is taken to begin; by default three half widths at half maximum of the peak
        in the first row of pixels, at least 1 eV.

    Returns
    -------
    Spectra of the same kind, zero beyond the mirrored tail.

    Raises
    ------
    ValueError
        If the energies do not include the peak, ``split_eV`` is not on their axis, or the peak is not at 0 eV.
    """
    energy = energy_axis(low_loss, energy_eV, of="low_loss")
    if split_eV is not None:
        check_positive(split_eV=split_eV)
    if energy[0] > -1 or energy[-1] < 5:
        raise ValueError(f"energy_eV: got {energy[0]:g} to {energy[-1]:g} eV for low_loss, wants at least -1 to 5 eV")
    split = default_split_eV(low_loss, energy) if split_eV is None else float(split_eV)
    if not 0 < split < energy[-1]:
        raise ValueError(f"split_eV: got {split:g}, wants a value between 0 and {energy[-1]:g}")
    step = energy[1] - energy[0]
    beyond = energy > split
    source = (-energy[beyond] - energy[0]) / step  # channel of -E, a fraction
    low = np.floor(source).astype(int)
    part = source - low
    usable = low >= 0

    def separate(y):
        peak = np.array(y, dtype=float)
        tail = np.zeros((len(y), beyond.sum()))
        at, w = low[usable], part[usable]
        tail[:, usable] = (1 - w) * y[:, at] + w * y[:, at + 1]
        peak[:, beyond] = np.minimum(tail, peak[:, beyond])
        return peak

    return with_data(low_loss, map_spectra(separate, low_loss, core_shape=energy.shape))


def default_split_eV(low_loss: Any, energy: np.ndarray) -> float:
    """Where inelastic scattering begins: three half widths of the zero-loss peak, at least 1 eV.

    From one row of pixels, so that it is the same for all chunks of a lazy signal.
    """
    data = data_of(low_loss)
    row = np.asarray(data[(0,) * (data.ndim - 2)], float)
    mean = np.nanmean(row.reshape(-1, energy.size), axis=0)
    at = energy[np.nanargmax(mean)] if np.nanmax(mean) > 0 else 0.0
    if abs(at) > 1.5:
        raise ValueError(f"low_loss: got its zero-loss peak at {at:.1f} eV, wants it at 0: use align_zero_loss first")
    left = energy <= 0
    above = np.flatnonzero(mean[left] > 0.5 * mean[np.abs(energy) < 2].max())
    half_width = max(-energy[left][above[0]] if above.size else 0.0, energy[1] - energy[0])
    return max(1.0, 3 * half_width)


@checked
def relative_thickness(low_loss: Any, energy_eV: ArrayLike | None = None, *, split_eV: float | None = None) -> Any:
    """Thickness in inelastic mean free paths, t/λ = ln(total / zero-loss intensity), Egerton (2011) eq. 5.1.

    Parameters
    ----------
    low_loss, energy_eV, split_eV
        See `zero_loss`.

    Returns
    -------
    ndarray or Dask array (...)
    """
    energy = energy_axis(low_loss, energy_eV, of="low_loss")
    peak = data_of(zero_loss(low_loss, energy, split_eV=split_eV))
    return np.log(data_of(low_loss).sum(-1) / peak.sum(-1))


@checked
def fourier_log(low_loss: Any, energy_eV: ArrayLike | None = None, *, split_eV: float | None = None) -> Any:
    """Single-scattering distribution of a low-loss spectrum, plural scattering removed (Fourier-log).

    ``S(ν) = Z(ν) ln[J(ν) / Z(ν)]``, with J the spectrum and Z its zero-loss peak (Egerton 2011, sect. 4.1.1);
    multiplying by Z keeps the resolution of the data and damps the noise. The spectrum is continued beyond its end by a
    power law that fades out, since an abrupt end would cause ringing.

    Parameters
    ----------
    low_loss : (..., E), counts, zero loss at 0 eV
    energy_eV, split_eV
        See `zero_loss`.

    Returns
    -------
    Spectra of the same kind, in counts; their sum divided by that of the zero-loss peak is t/λ. M edges within the low
    loss become single scattering, too.
    """
    energy = energy_axis(low_loss, energy_eV, of="low_loss")
    peak = zero_loss(low_loss, energy, split_eV=split_eV)
    n = fft.next_fast_len(2 * energy.size, real=True)

    def deconvolve(y, z):
        with np.errstate(divide="ignore", invalid="ignore"):
            j, zf = fft.rfft(_fade_out(y, n), n), fft.rfft(z, n)
            log = np.where(np.abs(zf) > 0, np.log(j / zf), 0.0)
        return fft.irfft(zf * np.nan_to_num(log, nan=0.0, posinf=0.0, neginf=0.0), n)[:, : energy.size]

    return with_data(low_loss, map_spectra(deconvolve, low_loss, peak, core_shape=energy.shape))


@checked
def repeated_losses(
    low_loss: Any, energy_eV: ArrayLike | None = None, *, below_eV: float, split_eV: float | None = None
) -> Any:
    """Counts of electrons that scattered two or more times and lost less than ``below_eV`` each time.

    The single-scattering distribution s (`fourier_log`), cut off at ``below_eV``, gives ``exp(s) - 1 - s`` of plural
    scattering (Egerton 2011, eq. 4.8). Under an edge at low energy this is a hump near twice the plasmon energy, which
    no power law follows; the part of the spectrum before the edge determines it.

    Parameters
    ----------
    low_loss : (..., E), counts, zero loss at 0 eV
    below_eV : float
    energy_eV, split_eV
        See `zero_loss`.

    Returns
    -------
    Spectra of the same kind, in counts.

    Raises
    ------
    ValueError
        If ``below_eV`` is not on the energy axis.
    """
    energy = energy_axis(low_loss, energy_eV, of="low_loss")
    check_positive(below_eV=below_eV)
    if below_eV > energy[-1]:
        raise ValueError(f"below_eV: got {below_eV:g}, wants a value between 0 and {energy[-1]:g}")
    peak = zero_loss(low_loss, energy, split_eV=split_eV)
    single = fourier_log(low_loss, energy, split_eV=split_eV)
    first = int(np.argmin(np.abs(energy)))  # the channel of 0 eV
    n = fft.next_fast_len(2 * energy.size, real=True)

    def repeat(once, z):
        direct = z.sum(-1, keepdims=True)
        s = fft.rfft(np.where(energy < below_eV, once, 0)[:, first:] / np.where(direct > 0, direct, np.inf), n)
        out = np.zeros_like(once)
        out[:, first:] = direct * fft.irfft(np.exp(s) - 1 - s, n)[:, : energy.size - first]
        return out

    return with_data(low_loss, map_spectra(repeat, single, peak, core_shape=energy.shape))


@checked
def fourier_ratio(
    core_loss: Any,
    low_loss: Any,
    energy_eV: ArrayLike | None = None,
    low_loss_energy_eV: ArrayLike | None = None,
    *,
    split_eV: float | None = None,
) -> Any:
    """Core loss with plural scattering removed, ``core(ν) Z(ν) / J(ν)`` (Egerton 2011, sect. 4.2.1).

    Written as ``core(ν) (1 - I(ν)/J(ν))`` with I = J - Z the inelastic part and ``I/J = I J* / (|J|² + ΣJ)``: ΣJ is the
    power of the Poisson noise of J, so that no cut-off has to be chosen. At high frequencies the ratio goes to 1, so
    resolution and noise of the core loss stay as measured.

    Parameters
    ----------
    core_loss : (..., E), background removed
    low_loss : (..., E2) or (E2,), counts, zero loss at 0 eV; the same eV per channel as the core loss
    energy_eV, low_loss_energy_eV : arrays, for plain arrays
    split_eV
        See `zero_loss`.

    Returns
    -------
    Spectra of the same kind as ``core_loss``: what the zero-loss electrons alone would have given. Divide by the
    zero-loss intensity (not by the total) to get probabilities per electron.
    """
    energy = energy_axis(core_loss, energy_eV, of="core_loss")
    low_energy = low_loss_axis(low_loss, low_loss_energy_eV, energy)
    peak = zero_loss(low_loss, low_energy, split_eV=split_eV)
    n = fft.next_fast_len(energy.size + 2 * low_energy.size, real=True)

    def deconvolve(core, y, z):
        j = fft.rfft(_fade_out(y, n), n)
        inelastic = j - fft.rfft(z, n)
        ratio = 1 - inelastic * j.conj() / (np.abs(j) ** 2 + np.abs(y).sum(-1, keepdims=True))
        pad = n - energy.size
        ends = np.concatenate([core, _bridge(core, pad)], axis=-1)
        return fft.irfft(fft.rfft(ends) * ratio, n)[:, : energy.size]

    return with_data(core_loss, map_spectra(deconvolve, core_loss, low_loss, peak, core_shape=energy.shape))


@checked
def convolve_low_loss(
    references: ArrayLike,
    low_loss: Any,
    energy_eV: ArrayLike,
    low_loss_energy_eV: ArrayLike | None = None,
    *,
    zero_loss_peak: str = "delta",
    split_eV: float | None = None,
) -> Any:
    """References as they appear after plural scattering: their convolution with the low loss.

    An edge of single-scattering probability s(E) adds ``∫ s(E') J(E - E') dE'`` to the spectrum, J the low loss of
    the same electrons (to first order in the edge, which is exact within 1e-3 for edges of 1e-3 per electron).

    Parameters
    ----------
    references : (K, E)
        Per electron (and per nm, ...), at the resolution of the data, on ``energy_eV``; taken as 0 below it.
    low_loss : (..., E2), counts or any scale, zero loss at 0 eV
    energy_eV, low_loss_energy_eV : arrays
    zero_loss_peak : {"delta", "keep"}
        "delta": references already have the resolution of the data, and the peak is put into one channel. "keep":
        references are intrinsic, and the peak broadens them.
    split_eV
        See `zero_loss`.

    Returns
    -------
    (..., K, E), array or Dask array, in the scale of ``low_loss``.

    Raises
    ------
    ValueError
        Naming ``zero_loss_peak``, or energies that do not match.
    """
    check_choice(zero_loss_peak, "zero_loss_peak", ("delta", "keep"))
    if split_eV is not None:
        check_positive(split_eV=split_eV)
    references = np.atleast_2d(finite_array(references, "references"))
    energy = energy_axis(references, energy_eV, of="references")
    low_energy = low_loss_axis(low_loss, low_loss_energy_eV, energy)
    n = fft.next_fast_len(energy.size + low_energy.size, real=True)
    zero = -low_energy[0] / (low_energy[1] - low_energy[0])  # the channel of 0 eV, a fraction
    frequency = fft.rfftfreq(n)
    spectrum = fft.rfft(references, n) * (np.exp(2j * np.pi * frequency * zero) if zero_loss_peak == "keep" else 1)
    whole = round(zero)

    def convolve(y, z=None):
        if z is None:
            kernel = fft.rfft(y, n)
        else:
            kernel = np.exp(2j * np.pi * frequency * whole) * fft.rfft(y - z, n) + z.sum(-1, keepdims=True)
        return fft.irfft(spectrum * kernel[:, None], n)[..., : energy.size]

    inputs = [data_of(low_loss)]
    if zero_loss_peak == "delta":
        inputs.append(data_of(zero_loss(low_loss, low_energy, split_eV=split_eV)))
    single = inputs[0].ndim == 1
    inputs = [x[None] for x in inputs] if single else inputs
    out = map_spectra(convolve, *inputs, core_shape=references.shape)
    return out[0] if single else out


def low_loss_axis(low_loss: Any, low_loss_energy_eV: ArrayLike | None, energy: np.ndarray) -> np.ndarray:
    """Energies of a low loss: its own, ``low_loss_energy_eV``, or those of the spectra if they hold the zero loss.

    Raises
    ------
    ValueError
        If its eV per channel are not those of the spectra (``energy``).
    """
    if low_loss_energy_eV is None and not is_signal(low_loss) and energy[0] < 0 < energy[-1]:
        low_loss_energy_eV = energy
    low_energy = energy_axis(low_loss, low_loss_energy_eV, name="low_loss_energy_eV", of="low_loss")
    step, low_step = energy[1] - energy[0], low_energy[1] - low_energy[0]
    if abs(step - low_step) > 1e-3 * step:
        raise ValueError(
            f"low_loss: got {low_step:.4g} eV per channel, wants {step:.4g} as in the spectra: interpolate one of them"
        )
    return low_energy


def _fade_out(y, n):
    """Continue spectra from their last channels by a power law times a cosine bell, to n channels."""
    y = np.asarray(y, float)
    size = y.shape[-1]
    tenth = max(4, size // 10)
    far, near = y[:, -tenth:].mean(-1, keepdims=True), y[:, -2 * tenth : -tenth].mean(-1, keepdims=True)
    good = (far > 0) & (near > 0)
    middle = np.log((size - 0.5 * tenth) / (size - 1.5 * tenth))
    power = np.clip(np.log(np.where(good, near / np.where(good, far, 1), 1)) / middle, 0, 6)
    x = np.arange(size, n)
    bell = 0.5 + 0.5 * np.cos(np.pi * (x - size) / max(1, (n - size) * 0.75))
    bell[(x - size) > (n - size) * 0.75] = 0.0
    tail = np.maximum(far, 0) * (x / (size - 0.5 * tenth)) ** -power * bell
    return np.concatenate([y, tail], axis=-1)


def _bridge(y, pad):
    """A smooth way from the last channels back to the first, for transforms that wrap around."""
    edge = min(8, y.shape[-1])
    first, last = y[:, :edge].mean(-1, keepdims=True), y[:, -edge:].mean(-1, keepdims=True)
    bell = 0.5 + 0.5 * np.cos(np.pi * np.linspace(0, 1, pad))
    return last * bell + first * (1 - bell)
