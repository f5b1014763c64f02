"""Zero-loss alignment."""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage

from .arrays import data_of, energy_axis, is_dask, like, map_spectra


def zero_loss_position(low_loss, energy_eV=None, *, smoothing_eV=0.5):
    """Energy of the zero-loss peak of each spectrum, to a fraction of a channel.

    The spectrum is smoothed by a Gaussian of ``smoothing_eV`` (standard deviation; close to a matched filter
    where it is near the width of the peak) and a parabola is put through the logarithm of the three
    highest channels.

    Returns
    -------
    ndarray or Dask array (...,), eV.
    """
    energy = energy_axis(low_loss, energy_eV)
    step = energy[1] - energy[0]
    width = max(smoothing_eV / step, 0.5)

    def locate(y):
        smooth = ndimage.gaussian_filter1d(np.asarray(y, float), width, axis=-1)
        top = np.clip(smooth.argmax(-1), 1, energy.size - 2)
        at = np.take_along_axis(smooth, top[:, None] + np.arange(-1, 2), axis=-1)
        left, mid, right = np.log(np.maximum(at, np.finfo(float).tiny)).T
        bend = left - 2 * mid + right
        offset = np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, -1.0), 0.0)
        return energy[top] + step * np.clip(offset, -1, 1)

    return map_spectra(locate, low_loss, core_shape=())


def shift_spectra(spectra, shift_eV, energy_eV=None, *, method="linear"):
    """Move spectra along the energy axis by ``shift_eV`` (positive: towards higher energy).

    Parameters
    ----------
    spectra : (..., E)
    shift_eV : float or array (...,)
    method : {"linear", "nearest", "fourier"}
        "linear" keeps counts non-negative, and their sum, but ties neighbouring channels together (the noise of
        broad features is unchanged, the scatter of single channels falls); "nearest" moves by whole channels
        and leaves Poisson counts Poisson; "fourier" keeps white noise white and may ring at sharp peaks.
        Channels moved in from outside repeat the last one.
    """
    energy = energy_axis(spectra, energy_eV)
    if method not in ("linear", "nearest", "fourier"):
        raise ValueError(f"method must be 'linear', 'nearest' or 'fourier', got {method!r}")
    lead = data_of(spectra).shape[:-1]
    shift = shift_eV if is_dask(shift_eV) else np.broadcast_to(np.asarray(shift_eV, float), lead)
    if shift.shape != lead:
        raise ValueError(f"shift_eV must have shape {lead}, got {shift.shape}")
    channels = shift[..., None] / (energy[1] - energy[0])
    data = data_of(spectra)
    move = _shift_fourier if method == "fourier" else _shift_linear
    if method == "nearest":
        channels = channels.round()
    if not lead:
        return like(spectra, map_spectra(move, data[None], channels[None], core_shape=energy.shape)[0])
    return like(spectra, map_spectra(move, data, channels, core_shape=energy.shape))


def _shift_linear(y, channels):
    last = y.shape[-1] - 1
    source = np.clip(np.arange(last + 1) - channels, 0, last)
    low = np.minimum(source.astype(np.intp), last - 1)
    part = source - low
    return (1 - part) * np.take_along_axis(y, low, -1) + part * np.take_along_axis(y, low + 1, -1)


def _shift_fourier(y, channels):
    y = np.asarray(y, float)
    n = y.shape[-1]
    pad = int(np.ceil(np.abs(channels).max())) + 32
    ramp = np.linspace(0, 1, 2 * pad)  # a smooth bridge from the last channel back to the first
    bell = 0.5 - 0.5 * np.cos(np.pi * ramp)
    bridge = y[:, -1:] * (1 - bell) + y[:, :1] * bell
    whole = np.concatenate([y, bridge], axis=-1)
    phase = np.exp(-2j * np.pi * fft.rfftfreq(n + 2 * pad) * channels)
    return fft.irfft(fft.rfft(whole) * phase, n + 2 * pad)[:, :n]


def align_zero_loss(low_loss, *others, energy_eV=None, others_energy_eV=None, method="linear", smoothing_eV=0.5):
    """Put the zero-loss peak of every pixel at 0 eV, and move co-acquired spectra with it.

    Parameters
    ----------
    low_loss : (..., E)
        Spectra that contain the zero-loss peak.
    *others : (..., E2)
        Spectra of the same pixels (core loss) that drifted in the same way.
    energy_eV, others_energy_eV : arrays
        Energies, for plain arrays. One ``others_energy_eV`` serves all others.

    Returns
    -------
    The aligned low loss; with ``others``, a tuple of it and them.

    Notes
    -----
    HyperSpy's ``align_zero_loss_peak`` does the same pixel by pixel; this one does blocks of pixels, and agrees
    with it within a small part of a channel (tests).
    """
    energy = energy_axis(low_loss, energy_eV)
    shift = -zero_loss_position(low_loss, energy, smoothing_eV=smoothing_eV)
    aligned = [shift_spectra(low_loss, shift, energy, method=method)]
    for other in others:
        axis = energy_axis(other, others_energy_eV, name="others_energy_eV")
        aligned.append(shift_spectra(other, shift, axis, method=method))
    return tuple(aligned) if others else aligned[0]
