"""Positions of the interfaces of a core-shell particle, along rays from its centre."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_count, check_positive
from ..doors import checked
from .errors import check_pair

__all__ = ["InterfaceError", "even_directions", "interface_error"]

MOST_DIRECTIONS = 10**6


@checked
@dataclass(frozen=True)
class InterfaceError:
    """Positions of the interfaces of a core-shell particle, compared with the truth (all lengths in nm).

    Attributes
    ----------
    core_rms_nm, core_bias_nm : float
        Edge of the core (where FeO gives way to Fe3O4): RMS and mean displacement along the normal of the interface,
        positive outwards.
    outer_rms_nm, outer_bias_nm : float
        Surface of the particle (where both phases together fall to one half): the outer edge of shell and skin.
    skin_nm, true_skin_nm : float
        Mean thickness of FeO outside the middle of the shell.
    void_nm3, true_void_nm3 : float
        Volume of vacuum in the void of the truth and up to two voxels around it.
    void_offset_nm : float
        Distance between the centres of that vacuum; NaN where there is none.
    missed : float
        Fraction of directions in which the reconstruction has no such interface (0 is good). The other numbers leave
        these directions out.
    """

    core_rms_nm: float
    core_bias_nm: float
    outer_rms_nm: float
    outer_bias_nm: float
    skin_nm: float
    true_skin_nm: float
    void_nm3: float
    true_void_nm3: float
    void_offset_nm: float
    missed: float


@checked
def interface_error(
    volume: ArrayLike,
    truth: ArrayLike,
    voxel_size_nm: float = 1.0,
    *,
    directions: int = 2000,
    step: float = 0.1,
) -> InterfaceError:
    r"""Errors of the positions of the interfaces of a core-shell particle, along rays from the centre of the truth.

    Rays leave the centre of mass of the true particle in ``directions`` directions, evenly spread (a Fibonacci sphere).
    Along each, both volumes are read by linear interpolation every ``step`` voxels. The edge of the core is the first
    place where :math:`v_{FeO} - v_{Fe_3O_4}` changes sign, the outer edge the last where :math:`v_{FeO} + v_{Fe_3O_4}`
    falls below 1/2, both linear between samples; a displacement along a ray is multiplied by the cosine between the ray
    and the normal of the true interface. The thickness of the skin is :math:`\int v_{FeO}\,dr` outside the middle
    between the two true edges, with the same cosine, so that even a skin thinner than a voxel is measured. Void:
    :math:`\sum (1 - v_{FeO} - v_{Fe_3O_4})` over the true void and two voxels around.

    Parameters
    ----------
    volume, truth : array (K, Y, Z, X)
        Volume fractions of FeO (the core), Fe3O4 and any others; the others count only for the surface.
    directions : int
        Number of rays.
    step : float
        Distance between samples along a ray, in voxels.

    Raises
    ------
    ValueError
        For fewer than two channels, or an empty particle.
    """
    from scipy.ndimage import gaussian_filter

    volume, truth = check_pair(volume, truth)
    if volume.ndim != 4 or len(volume) < 2:
        raise ValueError(f"volume: got shape {volume.shape}, wants (K, Y, Z, X): FeO, Fe3O4 and any others")
    check_sampling(directions, step, voxel_size_nm)
    total = truth.sum(axis=0)
    if total.sum() == 0:
        raise ValueError("truth: got an empty particle, wants volume fractions above 0")
    centre, rays = centre_of_mass(total), even_directions(directions)
    reach = np.arange(0, np.linalg.norm(total.shape) / 2, step)
    points = centre[:, None, None] + rays.T[:, :, None] * reach  # (3, D, R)
    found, true = (read_along(array, points) for array in (volume, truth))  # (2, D, R)

    # Only directions in which the true particle has an interface count.
    core, true_core = (first_sign_change(v[0] - v[1], reach) for v in (found, true))
    outer, true_outer = (last_fall(v.sum(axis=0), reach) for v in (found, true))
    core_cosine = cosine(gaussian_filter(truth[0] - truth[1], 1.5), centre, rays, true_core)
    outer_cosine = cosine(gaussian_filter(total, 1.5), centre, rays, true_outer)
    core_shift, outer_shift = (core - true_core) * core_cosine, (outer - true_outer) * outer_cosine
    measured = np.concatenate([core_shift[np.isfinite(true_core)], outer_shift[np.isfinite(true_outer)]])

    middle = np.where(np.isfinite(true_core), (true_core + true_outer) / 2, 0.8 * true_outer)
    beyond = reach > middle[:, None]
    skin, true_skin = (np.nanmean((v[0] * beyond).sum(axis=1) * step * outer_cosine) for v in (found, true))
    void, true_void, offset = _void(volume, truth)
    return InterfaceError(
        core_rms_nm=rms(core_shift) * voxel_size_nm,
        core_bias_nm=finite_mean(core_shift) * voxel_size_nm,
        outer_rms_nm=rms(outer_shift) * voxel_size_nm,
        outer_bias_nm=finite_mean(outer_shift) * voxel_size_nm,
        skin_nm=float(skin * voxel_size_nm),
        true_skin_nm=float(true_skin * voxel_size_nm),
        void_nm3=float(void * voxel_size_nm**3),
        true_void_nm3=float(true_void * voxel_size_nm**3),
        void_offset_nm=float(offset * voxel_size_nm),
        missed=float(np.mean(~np.isfinite(measured))) if measured.size else 1.0,
    )


def check_sampling(directions, step, voxel_size_nm):
    """Number of rays and distance of samples on them, in voxels: within what fits into memory."""
    check_count(directions, "directions")
    check_positive(step=step, voxel_size_nm=voxel_size_nm)
    if not 1e-3 <= step <= 10:
        raise ValueError(f"step: got {step!r}, wants 0.001 to 10 voxels")
    if directions > MOST_DIRECTIONS:
        raise ValueError(f"directions: got {directions!r}, wants at most {MOST_DIRECTIONS:,}")


def finite_mean(values):
    """Mean of the finite values; NaN without any."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else float("nan")


def rms(values):
    return float(np.sqrt(finite_mean(values**2)))


def centre_of_mass(density):
    """Centre of mass, in voxels."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in density.shape), indexing="ij"))
    return (grid * density).sum(axis=(1, 2, 3)) / density.sum()


@checked
def even_directions(count: int) -> NDArray[np.float64]:
    """Evenly spread unit vectors (y, z, x), (count, 3), from +Y to -Y: a Fibonacci spiral.

    Examples
    --------
    >>> even_directions(2).round(2)[:, 0]
    array([ 0.5, -0.5])
    """
    if check_count(count, "count") > MOST_DIRECTIONS:
        raise ValueError(f"count: got {count!r}, wants at most {MOST_DIRECTIONS:,}")
    i = np.arange(count) + 0.5
    height, angle = 1 - 2 * i / count, np.pi * (1 + 5**0.5) * i
    ring = np.sqrt(1 - height**2)
    return np.stack([height, ring * np.cos(angle), ring * np.sin(angle)], axis=1)


def read_along(array, points):
    """Each channel read at points (3, D, R)."""
    from scipy.ndimage import map_coordinates

    return np.stack([map_coordinates(channel, points, order=1, mode="constant") for channel in array])


def first_sign_change(values, reach):
    """Distance at which each row of values (D, R) first falls below 0; NaN where it never does."""
    negative = (values[:, :-1] > 0) & (values[:, 1:] <= 0)
    return _crossing(values, reach, negative, negative.argmax(axis=1))


def last_fall(values, reach):
    """Distance at which each row of values (D, R) last falls below 1/2; NaN where it never does."""
    fall = (values[:, :-1] > 0.5) & (values[:, 1:] <= 0.5)
    return _crossing(values - 0.5, reach, fall, fall.shape[1] - 1 - fall[:, ::-1].argmax(axis=1))


def _crossing(values, reach, found, index):
    """Distance at which each row is 0 between the samples ``index`` and the next, linear; NaN where none was found."""
    rows = np.arange(len(values))
    before, after = values[rows, index], values[rows, index + 1]
    part = np.divide(before, before - after, out=np.zeros_like(before), where=before != after)
    return np.where(found.any(axis=1), reach[index] + part * (reach[1] - reach[0]), np.nan)


def cosine(field, centre, rays, distance):
    """Cosine between each ray and the normal of the interface (minus the gradient of a field) where they meet."""
    from scipy.ndimage import map_coordinates

    points = centre[:, None] + (rays * np.nan_to_num(distance)[:, None]).T
    normal = np.stack([map_coordinates(g, points, order=1, mode="nearest") for g in np.gradient(field)], axis=1)
    length = np.linalg.norm(normal, axis=1)
    return np.abs((normal * rays).sum(axis=1)) / np.where(length > 0, length, 1)


def about_void(hole: NDArray, filled: NDArray) -> NDArray[np.bool_]:
    """A void of the truth and two voxels around it, but for those that are as near to the particle's surface.

    Parameters
    ----------
    hole, filled : bool array (Y, Z, X)
        The void, and the particle with its voids.
    """
    from scipy.ndimage import binary_dilation

    return binary_dilation(hole, iterations=2) & ~binary_dilation(~filled, iterations=2)


def _void(volume, truth):
    """Vacuum about the true void in the volume and in the truth, and the distance of their centres, in voxels."""
    from scipy.ndimage import binary_fill_holes, label

    full = truth.sum(axis=0) > 0.5
    filled = binary_fill_holes(full)
    holes, count = label(filled & ~full)
    if count == 0:
        return 0.0, 0.0, np.nan
    largest = holes == 1 + np.argmax(np.bincount(holes.ravel())[1:])
    near = about_void(largest, filled)
    grid = np.argwhere(near)
    empty = [np.clip(1 - array.sum(axis=0)[near], 0, 1) for array in (volume, truth)]
    found, true = (e.sum() for e in empty)
    if found < 1e-6:
        return 0.0, true, np.nan
    centres = [(grid * e[:, None]).sum(axis=0) / e.sum() for e in empty]
    return found, true, np.linalg.norm(centres[0] - centres[1])
