"""Projections of a specimen that are no inverse crime: made on a grid twice as fine as that of the reconstruction."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import affine_transform
from skimage.measure import block_reduce

from ..checks import check_number, check_positive, finite_array, real_array
from ..doors import checked

__all__ = ["project_fine"]


@checked
def project_fine(
    fine: ArrayLike,
    tilt_angles_deg: ArrayLike,
    voxel_size_nm: float = 1.0,
    *,
    shifts_px: ArrayLike | None = None,
    axis_angle_deg: float = 0.0,
) -> tuple[NDArray, NDArray]:
    """A specimen and its projections as seen by a detector whose pixels are twice as coarse: no inverse crime.

    Parameters
    ----------
    fine : array (C, 2 Y, 2 Z, 2 X)
        Volume fractions.
    tilt_angles_deg : array (T,)
    voxel_size_nm : float
        Of the coarse grid.
    shifts_px : array (T, 2), optional
        Of the projections, in coarse pixels.
    axis_angle_deg : float
        Of the tilt axis in the projections, from +Y towards +X.

    Returns
    -------
    truth, projections : array (C, Y, Z, X), array (C, T, Y, X)
    """
    from ..tomography import ParallelBeam  # here, so that what needs no projections does not load PyTorch

    fine = real_array(fine, "fine", ndim=4)
    if any(side % 2 for side in fine.shape[1:]):
        raise ValueError(f"fine: got shape {fine.shape}, wants (C, 2 Y, 2 Z, 2 X), even along each side")
    check_positive(voxel_size_nm=voxel_size_nm)
    check_number(axis_angle_deg, "axis_angle_deg", -180, 180)
    shifts = None if shifts_px is None else 2 * finite_array(shifts_px, "shifts_px")
    on_detector = None if axis_angle_deg else shifts
    A = ParallelBeam(np.shape(fine)[2:], tilt_angles_deg, voxel_size_nm / 2, shifts_px=on_detector)
    projections = A(fine)
    if axis_angle_deg:
        projections = _turn(projections, axis_angle_deg, shifts)
    return block_reduce(np.asarray(fine), (1, 2, 2, 2), np.mean), block_reduce(projections, (1, 1, 2, 2), np.mean)


def _turn(projections: NDArray, axis_angle_deg: float, shifts_px: NDArray | None) -> NDArray:
    """Projections (C, T, Y, X) turned about the centre of the detector, +Y towards +X, then shifted (T, 2)."""
    angle = np.deg2rad(axis_angle_deg)
    cos, sin = np.cos(angle), np.sin(angle)
    back = np.array([[cos, sin], [-sin, cos]])  # (y, x) on the detector to (y, x) before
    centre = (np.array(projections.shape[-2:]) - 1) / 2
    turned = np.empty_like(projections)
    for c, t in np.ndindex(projections.shape[:2]):
        shift = 0 if shifts_px is None else shifts_px[t]
        offset = centre - back @ (centre + shift)
        turned[c, t] = affine_transform(projections[c, t], back, offset, order=3, mode="nearest")
    return turned
