"""The smoothing that a noisy map wants, chosen with the truth: what a map is worth when noise is traded for blur."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from ..checks import describe, finite_array
from ..doors import checked

__all__ = ["best_smoothing"]


@checked
def best_smoothing(
    noise_free: ArrayLike, truth: ArrayLike, variance: ArrayLike, widths_pixels: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Smallest error of a map under Gaussian smoothing, and the width that gives it: an oracle, for comparisons.

    Smoothing blurs the map and multiplies the variance of white noise by the sum of the squared kernel, ``1 / (4 π
    w²)`` for a standard deviation w of more than a pixel.

    Parameters
    ----------
    noise_free, truth : (Y, X, K)
        The map without noise but with the blur and bias of the measurement; and what it should be.
    variance : (..., K)
        Of the noise in each pixel of the map, for several noise levels at once.
    widths_pixels : (W,)
        Standard deviations to choose from.

    Returns
    -------
    errors, widths : (..., K)
        Root-mean-square error, and the best of the widths.

    Raises
    ------
    ValueError
        For maps of wrong or unequal shapes, or variances that do not match them.

    Examples
    --------
    >>> flat = np.ones((16, 16, 1))
    >>> errors, widths = best_smoothing(flat, flat, [[0.0], [1.0]], [0.0, 2.0])
    >>> widths.ravel().tolist(), errors.ravel().round(2).tolist()
    ([0.0, 2.0], [0.0, 0.14])
    """
    maps, truth = finite_array(noise_free, "noise_free"), finite_array(truth, "truth")
    variance, widths = finite_array(variance, "variance"), finite_array(widths_pixels, "widths_pixels")
    if maps.ndim != 3 or maps.shape != truth.shape:
        raise ValueError(f"noise_free, truth: got shapes {maps.shape} and {truth.shape}, wants two equal (Y, X, K)")
    if not variance.size or variance.shape[-1:] != maps.shape[-1:]:
        raise ValueError(f"variance: got shape {variance.shape}, wants (..., {maps.shape[-1]})")
    if variance.min() < 0:
        raise ValueError(f"variance: got {variance.min():g}, wants values of at least 0")
    largest = max(maps.shape[:2])
    if widths.ndim != 1 or not widths.size or widths.min() < 0 or widths.max() > largest:
        raise ValueError(f"widths_pixels: got {describe(widths_pixels)}, wants some from 0 to {largest} pixels")
    smooth = [gaussian_filter(maps, (w, w, 0)) for w in widths]
    blur = np.stack([((s - truth) ** 2).mean(axis=(0, 1)) for s in smooth], axis=-1)  # (K, W)
    left = np.array([(_kernel(w) ** 2).sum() ** 2 for w in widths])
    error = np.sqrt(blur + variance[..., None] * left)
    return error.min(axis=-1), widths[error.argmin(axis=-1)]


def _kernel(width):
    """Weights of a Gaussian along one axis."""
    point = np.zeros(2 * int(np.ceil(5 * width)) + 1)
    point[point.size // 2] = 1
    return gaussian_filter1d(point, width) if width > 0 else point
