"""Errors of a volume against its truth, over all voxels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_count, check_flag, check_positive, finite_array
from ..doors import checked

__all__ = ["check_channel", "check_pair", "nrmse", "phase_fraction_error", "psnr", "ssim"]


def check_pair(
    volume: ArrayLike, truth: ArrayLike, names: tuple[str, str] = ("volume", "truth")
) -> tuple[NDArray, NDArray]:
    """Two finite volumes of one shape, in float64."""
    volume, truth = (finite_array(array, name) for array, name in zip((volume, truth), names, strict=True))
    if volume.shape != truth.shape or volume.ndim not in (3, 4) or not volume.size:
        wanted = "two equal (C, Y, Z, X)"
        raise ValueError(f"{', '.join(names)}: got shapes {volume.shape} and {truth.shape}, wants {wanted}")
    return volume, truth


def check_channel(channel: int, volume: NDArray) -> int:
    """The index of a channel of a volume (C, Y, Z, X)."""
    if volume.ndim != 4 or check_count(channel, "channel", 0) >= len(volume):
        most = len(volume) - 1 if volume.ndim == 4 else "none, as the volume has no channels"
        raise ValueError(f"channel: got {channel!r}, wants 0 to {most}")
    return channel


@checked
def nrmse(volume: ArrayLike, truth: ArrayLike, *, per_channel: bool = False) -> float | NDArray[np.float64]:
    r"""Normalised root-mean-square error, :math:`\lVert v - t \rVert / \lVert t \rVert`.

    0 is perfect, 1 is the error of an empty volume. `skimage.metrics.normalized_root_mse` calls it ``"euclidean"``.

    Returns
    -------
    float, or array (C,) with ``per_channel``

    Raises
    ------
    ValueError
        If the truth is zero everywhere.

    Examples
    --------
    >>> nrmse(np.zeros((2, 4, 4, 4)), np.ones((2, 4, 4, 4)))
    1.0
    """
    volume, truth = check_pair(volume, truth)
    if check_flag(per_channel, "per_channel"):
        return np.array([nrmse(v, t) for v, t in zip(volume, truth, strict=True)])
    size = np.linalg.norm(truth)
    if size == 0:
        raise ValueError("truth: got zeros only, wants a volume that is not empty")
    return float(np.linalg.norm(volume - truth) / size)


@checked
def psnr(volume: ArrayLike, truth: ArrayLike, *, data_range: float = 1.0) -> float:
    r"""Peak signal-to-noise ratio in dB, :math:`10 \log_{10}(R^2 / \mathrm{MSE})`.

    R is ``data_range`` (1 for volume fractions).
    """
    from skimage.metrics import peak_signal_noise_ratio

    volume, truth = check_pair(volume, truth)
    check_positive(data_range=data_range)
    return float(peak_signal_noise_ratio(truth, volume, data_range=data_range))


@checked
def ssim(volume: ArrayLike, truth: ArrayLike, *, data_range: float = 1.0) -> float:
    """Structural similarity in 3-D, averaged over the channels, in windows of 7 voxels.

    Z. Wang et al., IEEE Trans. Image Process. 13, 600 (2004); `skimage.metrics.structural_similarity`. Vacuum counts as
    much as the specimen and is easy to get right: compare only values for the same field of view.

    Parameters
    ----------
    volume, truth : array (C, Y, Z, X) or (Y, Z, X)
        At least 7 voxels per side.
    data_range : float
        1 for volume fractions.
    """
    from skimage.metrics import structural_similarity

    volume, truth = check_pair(volume, truth)
    check_positive(data_range=data_range)
    shape = volume.shape[-3:]
    if min(shape) < 7:
        raise ValueError(f"volume: got {shape} voxels, wants at least 7 per side")
    pairs = zip(volume.reshape(-1, *shape), truth.reshape(-1, *shape), strict=True)
    return float(np.mean([structural_similarity(t, v, data_range=data_range) for v, t in pairs]))


@checked
def phase_fraction_error(volume: ArrayLike, truth: ArrayLike, *, channel: int = 0) -> tuple[float, float]:
    r"""Error of the fraction of one phase, :math:`f = v_c / \sum_k v_k`.

    Returns
    -------
    (float, float)
        Error of the fraction in the whole specimen (:math:`\sum v_c / \sum_k v_k` minus that of the truth), and RMS
        error over the voxels that the truth fills to at least half (f = 0 where the reconstruction is empty).

    Examples
    --------
    >>> truth = np.stack([np.ones((4, 4, 4)), np.zeros((4, 4, 4))])
    >>> phase_fraction_error(truth[::-1], truth)
    (-1.0, 1.0)
    """
    volume, truth = check_pair(volume, truth)
    check_channel(channel, truth)

    def fraction(array):
        total = array.sum(axis=0)
        return np.divide(array[channel], total, out=np.zeros_like(total), where=total > 1e-6)

    filled = truth.sum(axis=0) >= 0.5
    whole = volume[channel].sum() / max(volume.sum(), 1e-12) - truth[channel].sum() / truth.sum()
    return float(whole), float(np.sqrt(np.mean((fraction(volume) - fraction(truth))[filled] ** 2)))
