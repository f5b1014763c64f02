"""Dual EELS made ready: aligned, freed of spikes, single scattering; and where the specimen is."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..spectra import align_zero_loss, energy_axis, find_spikes, fourier_log, fourier_ratio, remove_spikes, zero_loss


def prepare_dual_eels(
    low_loss,
    core_loss,
    *,
    energy_eV=None,
    core_energy_eV=None,
    core_exposure=1.0,
    spikes=True,
    gain=1.0,
    window_eV=(36.0, 110.0),
):
    """Align, clean and deconvolve dual EELS to single-scattering probabilities per eV and electron.

    Returns
    -------
    low, core : (..., E), (..., E2)
        Single scattering: of the whole low loss by Fourier-log, of the core loss, its background kept, by
        Fourier-ratio.
    energy, core_energy : (E,), (E2,)
    electrons : float
        Mean number of electrons in a pixel of the low loss.
    variance : (..., W)
        Of ``low`` inside ``window_eV``, from counting statistics.
    """
    energy = energy_axis(low_loss, energy_eV, name="energy_eV")
    core_energy = energy_axis(core_loss, core_energy_eV, name="core_energy_eV")
    low = np.asarray(getattr(low_loss, "data", low_loss), float)
    core = np.asarray(getattr(core_loss, "data", core_loss), float)
    if low.shape[:-1] != core.shape[:-1]:
        raise ValueError(f"core_loss: got pixels {core.shape[:-1]}, wants those of low_loss {low.shape[:-1]}")
    for name, y in (("low_loss", low), ("core_loss", core)):
        if not np.isfinite(y).all():
            raise ValueError(f"{name}: has NaN or infinite counts in {int((~np.isfinite(y)).any(-1).sum())} pixels")
    if energy[0] > -2 or energy[-1] < window_eV[1]:
        raise ValueError(
            f"low_loss: energies {energy[0]:g} to {energy[-1]:g} eV, wants the zero loss and M2,3: "
            f"-2 to {window_eV[1]:g} eV"
        )
    if not core_exposure > 0:
        raise ValueError(f"core_exposure: got {core_exposure}, wants a positive number")
    low, core = align_zero_loss(low, core, energy_eV=energy, others_energy_eV=core_energy)
    if spikes:
        low = np.where(energy > 10, remove_spikes(low, mask=_rare_spikes(low, gain)), low)
        core = remove_spikes(core, mask=_rare_spikes(core, gain))
    peak = zero_loss(low, energy)
    direct = peak.sum(-1, keepdims=True)
    if not (direct > 0).all():
        raise ValueError(f"low_loss: no zero loss in {int((direct <= 0).sum())} pixels")
    step, core_step = energy[1] - energy[0], core_energy[1] - core_energy[0]
    single = fourier_log(low, energy) / (direct * step)
    same_low, same_energy = _resample(low, energy, core_step)
    pad = round(140.0 / core_step)  # what lies before the axis scatters into it
    longer = np.concatenate([_before(core, core_energy, pad), core], axis=-1)
    longer_energy = core_energy[0] + core_step * np.arange(-pad, core_energy.size)
    core = fourier_ratio(longer, same_low, longer_energy, same_energy)[..., pad:]
    core = core / (direct * core_exposure * core_step)
    inside = (energy >= window_eV[0]) & (energy <= window_eV[1])
    counts = ndimage.uniform_filter1d(low[..., inside], 9, axis=-1)
    variance = gain * np.maximum(counts, 1.0) / (direct * step) ** 2
    return single, core, energy, core_energy, float(low.sum(-1).mean() / gain), variance


def _rare_spikes(y, gain):
    """Spikes that are not peaks: a sharp maximum of M2,3 or L3 stands in many pixels, a cosmic ray does not."""
    spikes = find_spikes(y, gain=gain, threshold=10)
    often = ndimage.uniform_filter1d(spikes.reshape(-1, y.shape[-1]).sum(0).astype(float), 5) * 5
    return spikes & (often <= max(3, 2e-3 * spikes.size / y.shape[-1]))


def _before(core, energy, pad):
    """Continue spectra by ``pad`` channels to lower energies, with the power law of their first 22 eV."""
    step = energy[1] - energy[0]
    n = max(8, round(22.0 / step))
    first = core[..., :n]
    mean = first.reshape(-1, n).mean(0)
    slope = np.polyfit(np.log(energy[:n]), np.log(np.maximum(mean, 1e-12)), 1)[0]
    level = first.sum(-1, keepdims=True) / (energy[:n] ** slope).sum()
    return level * (energy[0] + step * np.arange(-pad, 0)) ** slope


def _resample(y, energy, step):
    """Counts on channels of another width, through their running sum."""
    own = energy[1] - energy[0]
    if abs(own - step) < 1e-3 * own:
        return y, energy
    edges = np.append(energy - own / 2, energy[-1] + own / 2)
    new = np.arange(int((edges[-1] - edges[0]) / step) + 1) * step + edges[0]
    running = np.concatenate([np.zeros((*y.shape[:-1], 1)), np.cumsum(y, axis=-1)], axis=-1)
    place = np.clip((new - edges[0]) / own, 0, y.shape[-1])
    left = np.minimum(place.astype(int), y.shape[-1] - 1)
    part = place - left
    at = (1 - part) * running[..., left] + part * running[..., left + 1]
    return np.diff(at, axis=-1), new[:-1] + step / 2


def find_particle(low, energy):
    """Pixels of the specimen, and pixels well outside of it, from the valence losses."""
    from skimage.filters import threshold_otsu

    image = low[..., (energy > 12) & (energy < 60)].sum(-1)
    ground = np.median(image[image < threshold_otsu(image)])
    top = np.percentile(image, 98)
    level = (image - ground) / (top - ground)
    near = ndimage.binary_dilation(level > 0.05, iterations=2)
    return level > 0.08, ~near
