"""Spikes, and how noisy the counts are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from ..checks import check_count, check_mask, check_not_negative, check_positive
from ..doors import checked
from .arrays import check_spectra, data_of, energy_axis, is_dask, window_mask, with_data
from .blocks import map_spectra

__all__ = ["find_rare_spikes", "find_spikes", "noise_gain", "remove_spikes"]

FEW = 16  # spectra
LEAST_COUNTS = 10.0  # of a block that tells the noise
CHI2_MEDIAN = 0.4549  # of one degree of freedom
SHARP = 0.4  # of a peak two channels wide, at least one neighbour has half


@checked
def find_spikes(
    spectra: Any, *, threshold: float = 8.0, width: int = 3, readout_noise: float = 0.0, gain: float = 1.0
) -> Any:
    """Mask of X-ray and cosmic-ray spikes: channels far above the median of their neighbours.

    A channel is a spike where it exceeds the running median along energy (which a spike of up to ``width`` channels
    does not move) by ``threshold`` times the noise. Real peaks differ from spikes in that most pixels have them: the
    excess that is usual for a channel (its median over pixels, in proportion to the local intensity) is subtracted
    first, and the spread over pixels is a lower limit for the noise. From fewer than 16 spectra this cannot be known: a
    spike is then one channel wide and in only one of the spectra.

    Parameters
    ----------
    spectra : (..., E) counts
    threshold : float
        In standard deviations.
    width : int
        Widest spike, in channels.
    readout_noise, gain : float
        Detector noise (counts, standard deviation) and counts per electron: noise² = gain · counts + readout².

    Returns
    -------
    bool array or Dask array (..., E)

    Raises
    ------
    ValueError
        Naming ``threshold`` or ``width``, or spectra with too few channels for it.
    """
    check_positive(threshold=threshold)
    return _passed(spectra, [threshold], width, readout_noise, gain) > 0


@checked
def find_rare_spikes(
    spectra: Any, *, threshold: float = 10.0, width: int = 3, readout_noise: float = 0.0, gain: float = 1.0
) -> Any:
    """Spikes that are not peaks: a sharp maximum of M2,3 or L3 appears in many pixels, a cosmic ray does not.

    Parameters
    ----------
    spectra, threshold, width, readout_noise, gain
        As for `find_spikes`.

    Returns
    -------
    bool array (..., E)
        Excluding channels within two of which more than three spectra, and more than 0.2 % of all, have a spike of at
        least half the threshold.
    """
    check_positive(threshold=threshold)
    passed = _passed(spectra, [threshold / 2, threshold], width, readout_noise, gain)
    weaker, spikes = passed > 0, passed > 1
    often = ndimage.uniform_filter1d(weaker.reshape(-1, weaker.shape[-1]).sum(0).astype(float), 5) * 5
    return spikes & (often <= max(3, 2e-3 * spikes.size / spikes.shape[-1]))


def _passed(spectra, thresholds, width, readout_noise, gain):
    """How many of the thresholds each value exceeds as a spike, uint8 (..., E)."""
    check_positive(gain=gain)
    check_not_negative(readout_noise=readout_noise)
    check_count(width, "width")
    data = data_of(check_spectra(spectra))
    size = data.shape[-1]
    if size < 6 * width + 8:
        raise ValueError(f"spectra: got {size} channels, wants at least {6 * width + 8} for width={width}")
    usual, spread, few = _usual_excess(data, width, readout_noise, gain)

    def count(y):
        z, middle = _excess(y, width, readout_noise, gain)
        rest = z - usual[0] - usual[1] * _level(y, width)
        passed = sum((rest > threshold * spread).astype(np.uint8) for threshold in thresholds)
        return passed * _one_channel_wide(y, middle) if few else passed

    return map_spectra(count, data, core_shape=(size,), dtype=np.uint8)


def _median(y, width):
    """Running median of five channels, spaced so that a spike of ``width`` hits at most two of them.

    As a network of minima and maxima: forty times faster than a general running median.
    """
    y = np.asarray(y, float)
    gap = (width + 2) // 2
    wide = np.pad(y, ((0, 0), (2 * gap, 2 * gap)), mode="reflect")
    a, b, c, d, e = (wide[:, i * gap : i * gap + y.shape[-1]] for i in range(5))
    a, b = np.minimum(a, b), np.maximum(a, b)
    d, e = np.minimum(d, e), np.maximum(d, e)
    low, high = np.maximum(a, d), np.minimum(b, e)  # the median is that of these two and c
    return np.maximum(np.minimum(low, high), np.minimum(np.maximum(low, high), c))


def _level(y, width):
    return np.sqrt(np.maximum(_median(y, 3 * width), 0))


def _excess(y, width, readout_noise, gain):
    """Excess over the running median, in units of the expected noise; and that median."""
    middle = _median(y, width)
    # the larger of two medians, and + 1: where counts are few a median of five is often far too low
    expected = np.maximum(middle, _median(y, 3 * width))
    noise = np.sqrt(gain * np.maximum(expected, 0) + readout_noise**2 + gain**2)
    return (y - middle) / noise, middle


def _one_channel_wide(y, middle):
    """Where both neighbours stand less high above the running median than those of a peak of two channels."""
    sides = np.pad(np.asarray(y, float), ((0, 0), (1, 1)), mode="edge")
    return np.maximum(sides[:, :-2], sides[:, 2:]) - middle < SHARP * (sides[:, 1:-1] - middle)


def _usual_excess(data, width, readout_noise, gain, most=4096):
    """What each channel's excess usually is: (constant, slope with sqrt(intensity)), and its spread (>= 1).

    And whether there are too few spectra to tell a peak from a spike by comparing them.
    """
    size = data.shape[-1]
    flat = data.reshape(-1, size)
    sample = np.asarray(flat[:: max(1, -(-flat.shape[0] // most))], float)
    sample = sample[np.isfinite(sample).all(-1)]
    if len(sample) < FEW:
        z = _excess(sample, width, readout_noise, gain)[0] if len(sample) else np.zeros((1, size))
        # all spectra but one have at most so much; twice that, as some are brighter than others
        in_others = 2 * np.maximum(np.sort(z, axis=0)[-2], 0) if len(z) > 1 else np.zeros(size)
        spread = np.maximum(1.0, 1.4826 * np.median(np.abs(z), axis=-1).max())
        return (ndimage.maximum_filter1d(in_others, 3), 0.0), spread, True
    z, level = _excess(sample, width, readout_noise, gain)[0], _level(sample, width)
    # a peak of fixed shape exceeds its surroundings by a number of sigmas that grows as sqrt(intensity)
    slope = np.median(z / np.maximum(level, 1e-6), axis=0) * (np.median(level, axis=0) > 1)
    rest = z - slope * level
    constant = np.median(rest, axis=0)
    spread = np.maximum(1.0, 1.4826 * np.median(np.abs(rest - constant), axis=0))
    # peaks wander with the drift of the energy axis: what is usual for a channel is usual for its neighbours, too
    near = [ndimage.maximum_filter1d(part, 8 * width + 1) for part in (constant, slope, spread)]
    return (near[0], near[1]), near[2], False


@checked
def remove_spikes(
    spectra: Any,
    *,
    threshold: float = 8.0,
    width: int = 3,
    readout_noise: float = 0.0,
    gain: float = 1.0,
    mask: Any = None,
) -> Any:
    """Replace spikes by the running median of their surroundings.

    Parameters
    ----------
    spectra, threshold, width, readout_noise, gain
        See `find_spikes`.
    mask : bool (..., E), optional
        Which channels are spikes; by default `find_spikes` is called.

    Returns
    -------
    Spectra of the same kind. Channels that are not spikes are unchanged, except for the two neighbours of each spike.

    Raises
    ------
    ValueError
        If ``mask`` does not have the shape of the spectra.
    """
    data = data_of(check_spectra(spectra))
    if mask is None:
        mask = find_spikes(data, threshold=threshold, width=width, readout_noise=readout_noise, gain=gain)
    elif not is_dask(mask):
        mask = check_mask(mask, "mask", data.shape)

    def mend(y, hit):
        wide = ndimage.maximum_filter(hit.astype(np.uint8), size=(1, 3)).astype(bool)  # and their neighbours
        clean = np.asarray(y, float).copy()
        rows = wide.any(-1)
        clean[rows] = np.where(wide[rows], _median(clean[rows], width + 2), clean[rows])
        return clean

    return with_data(spectra, map_spectra(mend, data, mask, core_shape=data.shape[-1:]))


@checked
def noise_gain(
    spectra: Any, energy_eV: ArrayLike | None = None, *, window_eV: tuple[float, float], block: int = 8
) -> float:
    """Counts per electron, estimated from the noise: variance over mean of sums of ``block`` channels.

    Second differences remove smooth trends along energy, and a median ignores edges and spikes. A camera with a point
    spread divides each electron among channels: single channels then look less noisy than the electrons were, sums over
    blocks wider than the spread do not. The noise of the blocks is what matters for features as broad as an edge, so
    this is the ``gain`` that `fitting.fit_phases` needs for its error bars. Readout noise adds to it.

    Parameters
    ----------
    spectra : (..., E) counts
    window_eV : (float, float)
        A smooth stretch with at least ten counts per block, near the edge to be fitted.
    block : int
        Channels summed, wider than the point spread.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the window holds fewer than four blocks.
    """
    energy = energy_axis(spectra, energy_eV)
    inside = window_mask(energy, window_eV)
    blocks = inside.sum() // check_count(block, "block")
    if blocks < 4:
        raise ValueError(f"window_eV: got {inside.sum()} channels, wants four blocks of block={block}")
    y = np.asarray(data_of(spectra)[..., inside][..., : blocks * block], float)
    sums = y.reshape(-1, blocks, block).sum(-1)
    sums = sums[np.isfinite(sums).all(-1)]
    if not sums.any():
        raise ValueError("spectra: got no counts in the window that are finite and not 0, wants some")
    bend = sums[:, 2:] - 2 * sums[:, 1:-1] + sums[:, :-2]  # variance 6 times that of a block
    level = sums.mean(-1, keepdims=True)  # of each spectrum: dim ones scatter less than bright ones
    told = level[:, 0] >= (LEAST_COUNTS if (level >= LEAST_COUNTS).any() else 0)
    return float(np.median(bend[told] ** 2 / np.maximum(level[told], 1e-12)) / CHI2_MEDIAN / 6)
