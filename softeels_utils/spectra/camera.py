"""What a camera does to all spectra alike: values cut off at its limit, channels that are dead or hot."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import check_mask, check_positive, describe, real_array
from ..doors import checked
from .arrays import check_spectra, data_of

__all__ = ["cut_off_fraction", "find_bad_channels", "mend_channels"]

SATURATED = 0.01  # fraction of the spectra that stay at the largest of all values, from which it looks like a limit
MANY = 100  # counts; below, neighbours are alike by chance
PARTS = 4  # of the spectra, all of which show a bad channel: a cosmic ray is in one of them
BAD, PAIR, NOISE = 0.2, 0.35, 5.0  # parts of the neighbours, and standard deviations, that a channel must be off by


@checked
def cut_off_fraction(spectra: Any) -> float:
    """Fraction of the spectra in which two neighbouring channels both have the largest of all values.

    A camera that is saturated cuts the zero loss off at its limit.

    Parameters
    ----------
    spectra : (..., E), raw counts
        If there are more than a few thousand, a few thousand of them are examined.

    Returns
    -------
    float
        0 if below 1 %, or if the largest value is below 100 counts: neighbours are then equal by chance.

    Examples
    --------
    >>> counts = np.array([[10.0, 400.0, 900.0, 300.0], [10.0, 300.0, 500.0, 600.0]])
    >>> cut_off_fraction(counts), cut_off_fraction(np.minimum(counts, 300.0))
    (0.0, 1.0)
    """
    part = np.nan_to_num(_some(check_spectra(spectra), 4096))
    top = part.max(initial=0.0)
    at_top = part == top
    fraction = (at_top[:, 1:] & at_top[:, :-1]).any(axis=1).mean() if len(part) else 0.0
    return float(fraction) if top >= MANY and fraction > SATURATED else 0.0


@checked
def find_bad_channels(spectra: Any, inside: NDArray[np.bool_], *, gain: float = 1.0) -> NDArray[np.intp]:
    """Channels that lie far below, or far above, both of their neighbours in the sum of all spectra.

    A channel is bad if it deviates by more than 20 % and by more than five standard deviations of counting, in each of
    four parts of the spectra. Two side by side, such as interpolation makes of one, are bad if both are low by 35 %. A
    rise or a fall, as at an edge, is not bad; a maximum a single channel wide would be taken for a hot channel.

    Parameters
    ----------
    spectra : (..., E), raw counts
        Before they are aligned: a bad channel is then the same in all of them.
    inside : bool (E,)
        Channels to examine.
    gain : float
        Counts per electron.

    Returns
    -------
    int (B,)

    Examples
    --------
    >>> counts = np.full((8, 12), 500.0)
    >>> counts[:, 5] = 0
    >>> find_bad_channels(counts, np.arange(12) > 2)
    array([5])
    """
    bad = check_mask(inside, "inside", data_of(check_spectra(spectra)).shape[-1:]).copy()
    check_positive(gain=gain)
    counts = np.nan_to_num(_some(spectra, 65536), posinf=0.0, neginf=0.0)
    bad[[0, 1, -2, -1]] = False
    for k in range(min(PARTS, len(counts))):
        total = counts[k::PARTS].sum(axis=0)
        before, after, further, beyond = (np.roll(total, move) for move in (1, -1, 2, -2))
        pair = np.minimum(np.maximum(before, further), np.maximum(after, beyond))
        low = total < np.minimum(before, after) - _least(np.minimum(before, after), BAD, gain)
        low |= total < pair - _least(pair, PAIR, gain)
        bad &= low | (total > np.maximum(before, after) + _least(np.maximum(before, after), BAD, gain))
    return np.flatnonzero(bad)


def _least(level, part, gain):
    """By how much a sum of counts must differ from its neighbours' level."""
    level = np.maximum(level, 0)
    return np.maximum(part * level, NOISE * np.sqrt(gain * np.maximum(level, gain)))


@checked
def mend_channels(spectra: NDArray, channels: NDArray[np.intp]) -> NDArray:
    """Spectra (..., E) with some channels interpolated linearly between their nearest other channels."""
    channels, size = real_array(channels, "channels"), data_of(check_spectra(spectra)).shape[-1]
    if not channels.size:
        return spectra
    whole = channels.dtype.kind in "iu" and channels.ndim == 1
    if not whole or channels.min() < 0 or channels.max() >= size or np.unique(channels).size > size - 2:
        got = describe(channels.tolist())
        raise ValueError(f"channels: got {got}, wants indices from 0 to {size - 1}, and two channels besides them")
    mended, good = np.array(data_of(spectra), float), np.setdiff1d(np.arange(size), channels)
    for channel in channels:
        after = np.clip(np.searchsorted(good, channel), 1, len(good) - 1)
        left, right = good[after - 1], good[after]
        part = (channel - left) / (right - left)
        mended[..., channel] = (1 - part) * mended[..., left] + part * mended[..., right]
    return mended


def _some(spectra, most):
    """At most so many of the spectra, evenly spaced, (N, E)."""
    flat = data_of(spectra)
    flat = flat.reshape(-1, flat.shape[-1])
    return np.asarray(flat[:: max(1, len(flat) // most)], float)
