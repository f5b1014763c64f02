"""Alignment of a tilt series: one shift per tilt for all channels, and the place of the tilt axis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_count, check_flag, check_mask, check_tilts, describe, finite_array, real_array
from ..doors import checked
from .checks import check_device
from .covariance import estimate_covariance
from .measurement import Measurement
from .projector import ParallelBeam
from .tv import short_sirt

__all__ = ["Alignment", "align", "alignment_error", "bin_images", "refine_alignment", "shift_projections"]

LARGEST = 96  # images are binned to at most so many pixels per side while shifts are sought


@checked(shifts_px="T 2")
@dataclass(frozen=True)
class Alignment:
    """Position of each projection.

    Attributes
    ----------
    shifts_px : array (T, 2)
        ``(dy, dx)`` by which each projection is displaced: pass it to `reconstruct` or `ParallelBeam`, which avoid
        interpolation, or correct the data by ``shift_projections(projections, -shifts_px)``.
    tilt_axis_px : float
        Position of the tilt axis along X from the middle of the detector: the part of dx that is the same at all tilts
        and that no translation of the specimen explains (contained in ``shifts_px``). 0 (taken to be in the middle)
        where the specimen is not isolated.
    last_px : float
        RMS of the last correction of the refinement (NaN without one): the distance from a fixed point, not from the
        truth.
    """

    shifts_px: np.ndarray
    tilt_axis_px: float
    last_px: float


@checked
def align(
    projections: ArrayLike,
    tilt_angles_deg: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    isolated: bool | None = None,
    refine: bool = True,
    rounds: int = 12,
) -> Alignment:
    r"""Align a tilt series: cross-correlation, centre of mass, projection matching.

    All steps see one image per tilt, the weighted sum of the channels, so that the channels move together.

    1. Neighbours are cross-correlated, from the smallest tilt outwards, X stretched by the ratio of their cosines
       (`skimage.registration.phase_cross_correlation`; R. Guckenberger, Ultramicroscopy 9, 167 (1982)).
    2. If the specimen is isolated: its mass projected onto the tilt axis Y is the same at every tilt, and across it the
       centre of mass follows :math:`x_0 + a\cos\theta + b\sin\theta`, where :math:`x_0` is the tilt axis
       (T. Sanders et al., Adv. Struct. Chem. Imaging 1, 7 (2015)).
    3. ``refine``: projection matching, see `refine_alignment`.

    Parameters
    ----------
    projections : array (T, Y, X) or (C, T, Y, X)
        A HAADF series, or maps.
    tilt_angles_deg : array (T,)
    weights : array (C,), optional
        Of the channels in the sum; by default the mean of each divided by its noise variance.
    mask : bool array, optional
        True where measured, of the shape of the projections.
    isolated : bool, optional
        Whether the whole specimen is in view at all tilts; by default judged from the borders of the images.
    rounds : int
        Of the refinement.

    Returns
    -------
    Alignment
    """
    images, tilts = _images(projections, tilt_angles_deg, weights, mask)
    refine, rounds = check_flag(refine, "refine"), check_count(rounds, "rounds")
    isolated = None if isolated is None else check_flag(isolated, "isolated")
    binned, factors, middle = bin_images(images, LARGEST)
    isolated = _isolated(binned) if isolated is None else isolated
    shifts = _chain(binned, tilts)
    if isolated:
        shifts = _centre_of_mass(binned, tilts, shifts)
    else:  # neither a translation nor the axis can be known: the least shifts keep most in view
        shifts = _without_translation(shifts, np.deg2rad(tilts), axis=True)
    last = float("nan")
    if refine:
        shifts, last = _match(binned, tilts, shifts, rounds, isolated)
    angle = np.deg2rad(tilts)
    basis = np.stack([np.ones_like(angle), np.cos(angle), np.sin(angle)], axis=1)
    axis = _coefficients(basis, shifts[:, 1])[0]
    return Alignment(shifts * factors + middle, float(axis * factors[1] + middle[1]), float(last * factors[1]))


@checked
def refine_alignment(
    projections: ArrayLike,
    tilt_angles_deg: ArrayLike,
    *,
    shifts_px: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    rounds: int = 12,
    device: str | None = None,
) -> NDArray:
    """Refine shifts by projection matching.

    Each tilt is compared with the projection, at that tilt, of a SIRT reconstruction from *other* tilts (all others, or
    seven in eight of a long series; with its own, it would match itself where it is), by cross-correlation to a
    twentieth of a pixel, for a number of rounds. The translation of the specimen as a whole, which no alignment can
    know, stays as in the shifts given; so does the tilt axis, where material moves in and out of view. Projection
    matching: D. Y. Parkinson et al., J. Phys. Conf. Ser. 849 (2017) 012045; D. Gürsoy et al., Sci. Rep. 7, 11818
    (2017).

    Returns
    -------
    array (T, 2)
        ``(dy, dx)``.
    """
    images, tilts = _images(projections, tilt_angles_deg, weights, mask)
    start = np.zeros((tilts.size, 2)) if shifts_px is None else finite_array(shifts_px, "shifts_px")
    if start.ndim == 1:
        start = np.stack([np.zeros(start.size), start], axis=1)
    if start.shape != (tilts.size, 2):
        raise ValueError(f"shifts_px: got shape {start.shape}, wants ({tilts.size},) or ({tilts.size}, 2)")
    check_count(rounds, "rounds")
    device = None if device is None else check_device(device)
    binned, factors, middle = bin_images(images, LARGEST)
    shifts, _ = _match(binned, tilts, (start - middle) / factors, rounds, _isolated(binned), device)
    return shifts * factors + middle


@checked
def shift_projections(projections: ArrayLike, shifts_px: ArrayLike) -> NDArray[np.float32]:
    """Shift each projection by ``(dy, dx)`` pixels with cubic splines; zeros come in from outside.

    Parameters
    ----------
    projections : array (..., T, Y, X)
    shifts_px : array (T, 2)
    """
    from scipy.ndimage import shift

    stack = real_array(projections, "projections").astype(np.float32)
    shifts = finite_array(shifts_px, "shifts_px")
    if stack.ndim < 3 or shifts.shape != (stack.shape[-3], 2):
        raise ValueError(f"shifts_px: got shape {shifts.shape} for projections {stack.shape}, wants (T, 2)")
    result = np.empty_like(stack)
    for index in np.ndindex(stack.shape[:-2]):
        result[index] = shift(stack[index], shifts[index[-1]], order=3, mode="constant")
    return result


@checked
def alignment_error(found_px: ArrayLike, true_px: ArrayLike, tilt_angles_deg: ArrayLike) -> float:
    r"""RMS difference of two sets of shifts (T, 2), per axis in pixels, without what no alignment can know.

    A translation of the specimen moves projections by :math:`(y,\; a\cos\theta + b\sin\theta)`; the best-fitting one is
    subtracted first.
    """
    angle = np.deg2rad(check_tilts(tilt_angles_deg, series=False))
    found, true = finite_array(found_px, "found_px"), finite_array(true_px, "true_px")
    for name, shifts in (("found_px", found), ("true_px", true)):
        if shifts.shape != (angle.size, 2):
            wanted = f"({angle.size}, 2), a pair for each of the tilt_angles_deg"
            raise ValueError(f"{name}: got shape {shifts.shape}, wants {wanted}")
    difference = found - true
    return float(np.sqrt(np.mean(_without_translation(difference, angle) ** 2)))


def _without_translation(shifts, angle, axis=False):
    """Shifts less those of a translation of the specimen (and, with ``axis``, of the tilt axis)."""
    basis = np.stack([np.cos(angle), np.sin(angle), np.full_like(angle, axis)], axis=1)
    x = shifts[:, 1] - basis @ _coefficients(basis, shifts[:, 1])
    return np.stack([shifts[:, 0] - shifts[:, 0].mean(), x], axis=1)


def _coefficients(basis, values):
    return np.linalg.lstsq(basis, values, rcond=None)[0]


def _images(projections, tilt_angles_deg, weights, mask):
    """One image per tilt, (T, Y, X), of order one and free of a constant background."""
    from scipy.ndimage import gaussian_filter

    stack = np.asarray(real_array(projections, "projections", finite=False), float)
    stack = stack[None] if stack.ndim == 3 else stack
    if stack.ndim != 4 or 0 in stack.shape:
        raise ValueError(f"projections: got shape {np.shape(projections)}, wants (T, Y, X) or (C, T, Y, X)")
    tilts = check_tilts(tilt_angles_deg, stack.shape[1])
    used = np.ones(stack.shape, bool)
    if mask is not None:
        used &= check_mask(mask, "mask", stack.shape, stack.shape[1:])
    real_array(stack[used], "projections", where=" where the mask says measured")
    if not used.any():
        raise ValueError("mask: got nothing measured, wants True where a value was measured")
    stack = np.where(used, stack, 0.0)
    if weights is None:
        noise = estimate_covariance(stack, used).diagonal()
        weights = np.maximum(stack.mean(axis=(1, 2, 3)), 0) / noise
    weights = finite_array(weights, "weights")
    if weights.shape != stack.shape[:1] or not weights.sum() > 0:
        raise ValueError(f"weights: got {weights}, wants {len(stack)} numbers with a positive sum")
    images = np.tensordot(weights, stack, axes=1)
    background = np.quantile(_borders(gaussian_filter(images, (0, 2, 2))), 0.1)
    images = images - background
    return images / max(np.quantile(images, 0.99), 1e-30), tilts


def _borders(images):
    return np.concatenate([images[:, 0], images[:, -1], images[..., 0], images[..., -1]], axis=1)


def _isolated(images):
    """Whether the borders are dark: below a tenth of the bright parts (which are 1) at all tilts."""
    return bool(np.abs(_borders(images).mean(axis=1)).max() < 0.1)


@checked
def bin_images(images: NDArray, largest: int, reduce: Callable = np.mean) -> tuple[NDArray, NDArray, NDArray]:
    """Images (T, Y, X) binned to at most ``largest`` pixels per side, cropped to whole bins.

    Returns
    -------
    binned : array (T, Y', X')
    factors, middle : array (2,)
        Size of a bin along Y and X in pixels, and the offset of the binned images' centre from that of the images: a
        shift s of the binned images is one of ``s * factors + middle``.
    """
    from skimage.measure import block_reduce

    check_count(largest, "largest")
    if not callable(reduce):
        raise ValueError(f"reduce: got {describe(reduce)}, wants a function such as numpy.mean")
    if np.ndim(images) != 3 or not np.size(images):
        raise ValueError(f"images: got shape {np.shape(images)}, wants (T, Y, X)")
    shape = np.array(images.shape[1:])
    factors = np.minimum(int(np.ceil(shape.max() / largest)), shape)
    size = shape // factors * factors
    first = (shape - size) // 2
    part = images[:, first[0] : first[0] + size[0], first[1] : first[1] + size[1]]
    return block_reduce(part, (1, *factors), reduce), factors, first + (size - 1) / 2 - (shape - 1) / 2


def _register(reference, image):
    """(dy, dx) by which the image is displaced from the reference."""
    from skimage.registration import phase_cross_correlation

    taper = np.outer(np.hanning(len(image) + 2)[1:-1], np.hanning(image.shape[1] + 2)[1:-1]) ** 0.25
    pair = [(a - np.average(a, weights=taper)) * taper for a in (reference, image)]
    return -phase_cross_correlation(*pair, upsample_factor=20, normalization=None)[0]


def _chain(images, tilts):
    """Shifts from one tilt to the next, summed from the smallest tilt outwards."""
    from scipy.ndimage import affine_transform

    order = np.argsort(tilts)
    middle = int(np.argmin(np.abs(tilts[order])))
    shifts = np.zeros((tilts.size, 2))
    cosine = np.maximum(np.cos(np.deg2rad(tilts)), 0.1)
    centre = (images.shape[2] - 1) / 2
    for path in (order[middle:], order[: middle + 1][::-1]):
        for before, after in pairwise(path):
            ratio = cosine[before] / cosine[after]  # one output pixel spans so many of the image before
            # Move the one before to the middle, then squeeze it as it would look at the next tilt.
            offset = (shifts[before, 0], centre * (1 - ratio) + shifts[before, 1])
            reference = affine_transform(images[before], (1.0, ratio), offset, order=1) * ratio
            shifts[after] = _register(reference, images[after])
    return shifts


def _centre_of_mass(images, tilts, shifts):
    """dy from the mass projected onto Y, dx from the centre of mass across it, of an isolated specimen."""
    shifts = shifts.copy()
    y, x = (np.arange(n) - (n - 1) / 2 for n in images.shape[1:])
    profiles = images.sum(axis=2)
    profiles = profiles / profiles.sum(axis=1, keepdims=True)
    for _ in range(3):
        moved = np.stack([np.interp(y + dy, y, p) for dy, p in zip(shifts[:, 0], profiles, strict=True)])
        for t in range(len(shifts)):
            mean = np.delete(moved, t, axis=0).mean(axis=0)
            shifts[t, 0] += _register(np.tile(mean[:, None], (1, 3)), np.tile(moved[t][:, None], (1, 3)))[0]
    # Only around the specimen: far pixels add noise with a long lever.
    rough = (images.mean(axis=0) > 0.05).any(axis=0)
    inside = np.abs(x - x[rough].mean()) <= np.ptp(x[rough]) / 2 + 3 if rough.any() else np.ones_like(x, bool)
    columns = images.sum(axis=1) * inside
    centre = (columns * x).sum(axis=1) / columns.sum(axis=1)
    angle = np.deg2rad(tilts)
    basis = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    # The specimen's place (a, b) is free: the one that shifts least. What is left is the shifts, the axis among them.
    shifts[:, 1] = centre - basis @ _coefficients(basis, centre)
    return shifts


def _match(images, tilts, shifts, rounds, isolated, device=None):
    """Projection matching against reconstructions from other tilts."""
    angle = np.deg2rad(tilts)
    stack = np.ascontiguousarray(images, np.float32)[None]
    last = np.nan
    shifts = np.array(shifts, float)
    if tilts.size < 3:
        return shifts, last
    rank = np.argsort(np.argsort(tilts))
    folds = [rank % min(tilts.size, 8) == k for k in range(min(tilts.size, 8))]
    for _ in range(rounds):
        A = ParallelBeam(images.shape[2], tilts, device=device, shifts_px=shifts)
        step = np.zeros_like(shifts)
        for left_out in folds:
            others = np.broadcast_to(~left_out[:, None, None], stack.shape[1:])
            options = {
                "mask": others,
                "covariance": np.eye(1),
                "model_error": 0.0,
                "shifts_px": shifts,
                "device": device,
            }
            volume = short_sirt(Measurement(stack, tilts, **options), iterations=15)
            models = A.subset(left_out)(volume)[0].cpu().numpy()
            for t, model in zip(np.flatnonzero(left_out), models, strict=True):
                step[t] = _register(model, images[t])
        step = _without_translation(step, angle, axis=not isolated)
        shifts = shifts + step
        last = float(np.sqrt(np.mean(step**2)))
        if last < 0.03:
            break
    return shifts, last
