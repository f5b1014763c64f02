"""Covariance of the channels in a detector pixel: estimated, checked, and turned into independent combinations."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import LARGEST, real_array
from ..doors import checked

__all__ = ["check_covariance", "estimate_covariance", "independent_combinations"]


@checked
def estimate_covariance(projections: ArrayLike, mask: ArrayLike | None = None) -> NDArray:
    """Noise of each channel from differences of neighbouring pixels, as a diagonal covariance (C, C).

    For data whose errors are not known: the median absolute diagonal difference ``(a - b - c + d) / 2`` of 2 × 2
    patches, divided by 0.6745 (D. L. Donoho & I. M. Johnstone, Biometrika 81, 425 (1994)). Where there are no such
    patches (one slice, Y = 1), second differences ``(a - 2 b + c) / √6`` along X or Y replace them. Values that are
    exactly 0 are taken as empty regions and do not count. The standard deviation is at least a thousandth of the
    largest value.

    Parameters
    ----------
    projections : array (C, T, Y, X)
    mask : bool array (C, T, Y, X), optional
        True where measured.

    Raises
    ------
    ValueError
        If a channel has no three measured neighbours, so that nothing is known about its noise.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(scale=0.2, size=(1, 4, 64, 64))
    >>> round(float(estimate_covariance(noise)[0, 0]) ** 0.5, 2)
    0.2
    >>> round(float(estimate_covariance(noise[:, :, :1])[0, 0]) ** 0.5, 1)
    0.2
    """
    stack = np.asarray(real_array(projections, "projections", ndim=4, finite=False), float)
    stack = np.where(np.isfinite(stack) if mask is None else mask, stack, np.nan)
    largest = np.nan_to_num(np.abs(stack)).max(axis=(1, 2, 3))
    if largest.max() > LARGEST:
        raise ValueError(f"projections: got values up to {largest.max():.3g}, wants at most {LARGEST:g}")
    largest = np.where(largest > 0, largest, largest.max() or 1.0)  # an empty channel is as noisy as the others
    sigma = []
    for c, channel in enumerate(stack):
        detail = next((known for known in map(_finite, _differences(channel)) if known.size), None)
        if detail is None:
            wanted = "2 × 2 or 3 neighbours measured somewhere in each, or a stated covariance"
            raise ValueError(
                f"projections: got {channel.shape[1]} × {channel.shape[2]} pixels in channel {c} "
                f"without neighbours to estimate its noise from, wants {wanted}"
            )
        detail = detail[detail != 0]
        sigma.append(np.median(np.abs(detail)) / 0.6745 if detail.size else 0.0)
    return np.diag(np.maximum(sigma, 1e-3 * largest) ** 2)


def _differences(maps):
    """Differences of neighbours in maps (T, Y, X) with the variance of a pixel, the better kinds first."""
    yield (maps[..., :-1, :-1] - maps[..., 1:, :-1] - maps[..., :-1, 1:] + maps[..., 1:, 1:]) / 2
    yield (maps[..., :-2] - 2 * maps[..., 1:-1] + maps[..., 2:]) / 6**0.5
    yield (maps[:, :-2] - 2 * maps[:, 1:-1] + maps[:, 2:]) / 6**0.5


def _finite(values):
    return values[np.isfinite(values)]


def check_covariance(covariance: ArrayLike, used: NDArray[np.bool_]) -> NDArray:
    """Covariance as (C, C) or (T, Y, X, C, C), symmetric and positive where it is used and the identity elsewhere.

    Parameters
    ----------
    covariance : array
        (C,) or (C, T, Y, X) variances, (C, C) or (T, Y, X, C, C).
    used : bool array (C, T, Y, X)
    """
    channels, *pixels = used.shape
    covariance = np.asarray(real_array(covariance, "covariance", finite=False), float)
    shape = covariance.shape
    forms = {(channels,), (channels, channels), (channels, *pixels), (*pixels, channels, channels)}
    if shape not in forms:
        raise ValueError(f"covariance: got shape {shape}, wants one of {sorted(forms, key=len)}")
    if shape == (channels, *pixels) and shape != (*pixels, channels, channels):
        covariance = np.moveaxis(covariance, 0, -1)[..., None] * np.eye(channels)
    elif shape == (channels,):
        covariance = np.diag(covariance)
    if covariance.ndim == 5:
        both = np.moveaxis(used, 0, -1)
        covariance = np.where(both[..., :, None] & both[..., None, :], covariance, np.eye(channels))
    if not np.isfinite(covariance).all():
        raise ValueError("covariance: got NaN or inf where the mask says measured, wants finite values there")
    largest = np.abs(covariance).max()
    if largest > LARGEST**2:
        raise ValueError(f"covariance: got values up to {largest:.3g}, wants at most {LARGEST**2:g}")
    if np.abs(covariance - covariance.swapaxes(-1, -2)).max() > 1e-6 * largest:
        raise ValueError("covariance: got a matrix that is not symmetric, wants symmetric ones")
    least = np.linalg.eigvalsh(covariance).min()
    if least < -1e-6 * largest or largest == 0:
        raise ValueError(f"covariance: got an eigenvalue of {least:.3g}, wants positive definite matrices")
    return covariance


def independent_combinations(covariance: NDArray, observed: NDArray[np.bool_]) -> tuple[NDArray, NDArray]:
    """Combinations of the observed channels whose errors are independent: eigenvectors of their covariance.

    Parameters
    ----------
    covariance : array (..., C, C)
    observed : bool array (..., C)
        Broadcasts against the covariance. A missing channel is integrated out: the others keep their own block.

    Returns
    -------
    modes : array (..., C, C)
        Orthonormal rows.
    precision : array (..., C)
        One over the standard deviation of each; 0 in the places of missing channels.
    """
    lead = np.broadcast_shapes(covariance.shape[:-2], observed.shape[:-1])
    channels = covariance.shape[-1]
    covariance = np.broadcast_to(covariance, (*lead, channels, channels)).reshape(-1, channels, channels)
    observed = np.broadcast_to(observed, (*lead, channels)).reshape(-1, channels)
    modes, precision = np.zeros(covariance.shape), np.zeros(observed.shape)
    patterns, which = np.unique(observed, axis=0, return_inverse=True)
    for k, pattern in enumerate(patterns):
        index, pixels = np.flatnonzero(pattern), np.flatnonzero(which.ravel() == k)
        if not index.size:
            continue
        values, vectors = np.linalg.eigh(covariance[pixels][:, index[:, None], index])
        if values.min() <= 0:
            wanted = "positive definite matrices, or a model_error above 0"
            raise ValueError(f"covariance: got an eigenvalue of {values.min():.3g}, wants {wanted}")
        modes[pixels[:, None, None], index[:, None], index] = vectors.swapaxes(-1, -2)
        precision[pixels[:, None], index] = values**-0.5
    return modes.reshape(*lead, channels, channels), precision.reshape(*lead, channels)
