"""Features of a particle, one at a time: its corners, its skin, films that it does not have, and each of its voids.

Volumes are ``(K, Y, Z, X)`` fractions of K phases of the particle; a support is left out of them. Voids are given as
``{"center": (y, z, x), "radius": r}`` in indices and voxels (as in the label of `simulate.SpecimenDraw`), or found in
the truth as vacuum that is closed on all sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_mask, check_not_negative, check_positive, describe, finite_array
from ..doors import checked
from .errors import check_channel, check_pair
from .interfaces import (
    about_void,
    centre_of_mass,
    check_sampling,
    cosine,
    even_directions,
    finite_mean,
    first_sign_change,
    last_fall,
    read_along,
    rms,
)

__all__ = [
    "CornerError",
    "InventedPhase",
    "SkinError",
    "VoidError",
    "corner_error",
    "false_skin",
    "false_void",
    "film_about_voids",
    "skin_error",
    "void_errors",
]

ROUND = (
    0.37  # the truth, blurred by 1.5 voxels, on its own surface: 1/2 on a face, 1/4 on a cube's edge, 1/8 at a vertex
)
RIM = 2.0  # voxels about a void's edge, or under the surface
NEARLY_FULL = 0.95  # volume fraction of all phases
NONE = 0.25  # volume fraction up to which the truth has nothing of a phase (a mixture of a fifth is no skin)


def _phases(volume, truth):
    volume, truth = check_pair(volume, truth)
    if volume.ndim != 4:
        raise ValueError(f"volume: got shape {volume.shape}, wants (K, Y, Z, X)")
    return volume, truth


# ---------------------------------------------------------------- corners


@checked
@dataclass(frozen=True)
class CornerError:
    """Misplacement of the particle's surface at its edges and vertices.

    Attributes
    ----------
    rms_nm, bias_nm : float
        RMS and mean of the displacement, positive outwards: negative for a rounded corner. NaN without corners.
    points : int
        Number of points of the surface that were measured.
    """

    rms_nm: float
    bias_nm: float
    points: int


@checked
def corner_error(
    volume: ArrayLike,
    truth: ArrayLike,
    voxel_size_nm: float = 1.0,
    *,
    region: ArrayLike | None = None,
    reach: float = 4.0,
) -> CornerError:
    """Displacement of the surface (where all phases add up to 1/2) along the normal of the true surface, at edges and
    vertices.

    Points are the vertices of the true surface by marching cubes; normals are minus the gradient of the truth blurred
    by 1.5 voxels, so that at an edge they bisect its angle. Along each normal, the nearest point where the sum falls
    through 1/2 outwards is found in both volumes. Where a reconstruction has none within ``reach``, the displacement
    counts as ``reach``: outwards where it is full, inwards where it is empty.

    Parameters
    ----------
    volume, truth : array (K, Y, Z, X)
    voxel_size_nm : float
    region : bool array (Y, Z, X), optional
        Where to measure, such as ``regions["corners"]`` or ``regions["wedge"]`` of a `simulate.SpecimenDraw`. By
        default where the blurred truth at its surface is below 0.37 (1/2 on a face, 1/4 on a cube's edge).
    reach : float
        Voxels.

    Examples
    --------
    >>> body = np.zeros((1, 24, 24, 24))
    >>> body[:, 6:18, 6:18, 6:18] = 1
    >>> blunt = body.copy()
    >>> blunt[:, 6:8, 6:8] = 0  # an edge cut off
    >>> error = corner_error(blunt, body)
    >>> error.bias_nm < -0.1, corner_error(body, body).rms_nm
    (True, 0.0)
    """
    from scipy.ndimage import gaussian_filter, map_coordinates
    from skimage.measure import marching_cubes

    volume, truth = _phases(volume, truth)
    check_positive(voxel_size_nm=voxel_size_nm, reach=reach)
    if reach < 0.1 or reach > 1e3:
        raise ValueError(f"reach: got {reach!r}, wants 0.1 to 1000 voxels")
    found, true = volume.sum(axis=0), truth.sum(axis=0)
    nothing = CornerError(float("nan"), float("nan"), 0)
    if not true.min() < 0.5 < true.max():
        return nothing
    points = marching_cubes(true, 0.5)[0]
    blurred = gaussian_filter(true, 1.5)
    if region is None:
        keep = map_coordinates(blurred, points.T, order=1) < ROUND
    else:
        keep = check_mask(region, "region", true.shape)[tuple(np.rint(points).astype(int).T)]
    if not keep.any():
        return nothing
    points = points[keep].astype(float)
    normal = -np.stack([map_coordinates(g, points.T, order=1) for g in np.gradient(blurred)], axis=1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    steps = np.linspace(-reach, reach, 2 * round(reach / 0.1) + 1)
    along = points.T[:, :, None] + normal.T[:, :, None] * steps
    at, true_at = (_nearest_fall(values, steps) for values in read_along(np.stack([found, true]), along))
    displacement = at - true_at
    return CornerError(rms(displacement) * voxel_size_nm, finite_mean(displacement) * voxel_size_nm, len(points))


def _nearest_fall(values, steps):
    """Where each row of values (D, S) falls through 1/2 nearest to step 0; without a fall, at the end of the steps."""
    fall = (values[:, :-1] > 0.5) & (values[:, 1:] <= 0.5)
    index = np.where(fall, np.abs(steps[:-1]), np.inf).argmin(axis=1)
    rows = np.arange(len(values))
    before, after = values[rows, index], values[rows, index + 1]
    part = np.divide(before - 0.5, before - after, out=np.zeros_like(before), where=before != after)
    end = np.where(values.mean(axis=1) > 0.5, steps[-1], steps[0])
    return np.where(fall.any(axis=1), steps[index] + part * (steps[1] - steps[0]), end)


# ---------------------------------------------------------------- skin


@checked
@dataclass(frozen=True)
class SkinError:
    """Thickness of a skin, direction by direction (all lengths in nm; NaN where there is no such direction).

    Attributes
    ----------
    mean_nm, true_mean_nm : float
        Mean thickness over the directions in which the truth has a skin.
    rms_nm : float
        RMS error of the local thickness over them: large for a skin that is right only on average.
    spread_nm, true_spread_nm : float
        Standard deviation of the local thickness over them.
    missed : float
        Fraction of them with less than half the true thickness.
    false_nm : float
        Mean excess of thickness over the directions in which the truth has no skin.
    false_fraction : float
        Fraction of those with an excess of more than 0.3 voxels.
    directions, bare : int
        Number of directions with a skin, and without.
    """

    mean_nm: float
    true_mean_nm: float
    rms_nm: float
    spread_nm: float
    true_spread_nm: float
    missed: float
    false_nm: float
    false_fraction: float
    directions: int
    bare: int


@checked
def skin_error(
    volume: ArrayLike,
    truth: ArrayLike,
    voxel_size_nm: float = 1.0,
    *,
    channel: int = 0,
    region: ArrayLike | None = None,
    directions: int = 2000,
    step: float = 0.1,
) -> SkinError:
    r"""Local thickness of a skin along rays from the centre of the true particle, against that of the truth.

    As in `interface_error`: :math:`\int v_c\,dr` from the middle between the edge of the core and the surface of the
    truth (from 0.8 of the surface without a core) to three voxels outside it, times the cosine between the ray and the
    normal of the surface.

    Parameters
    ----------
    volume, truth : array (K, Y, Z, X)
        The core of phase 0, the shell of phase 1.
    channel : int
        Phase of the skin.
    region : bool array (Y, Z, X), optional
        Where the truth has a skin, such as ``regions["skin"]`` of a `simulate.SpecimenDraw`. By default in the
        directions whose true thickness is more than a quarter of a voxel; none in those with less than a twentieth.
    directions : int
    step : float
        Distance between samples, in voxels.

    Raises
    ------
    ValueError
        For a channel that does not exist, or an empty particle.
    """
    from scipy.ndimage import gaussian_filter

    volume, truth = _phases(volume, truth)
    check_channel(channel, truth)
    check_sampling(directions, step, voxel_size_nm)
    total = truth.sum(axis=0)
    if total.sum() == 0:
        raise ValueError("truth: got an empty particle, wants volume fractions above 0")
    centre, rays = centre_of_mass(total), even_directions(directions)
    reach = np.arange(0, np.linalg.norm(total.shape) / 2, step)
    points = centre[:, None, None] + rays.T[:, :, None] * reach
    true = read_along(truth, points)
    outer = last_fall(true.sum(axis=0), reach)
    core = first_sign_change(true[0] - true[1], reach) if len(truth) > 1 else np.full(len(rays), np.nan)
    inner = np.where(np.isfinite(core), (core + outer) / 2, 0.8 * outer)
    beyond = (reach > inner[:, None]) & (reach < outer[:, None] + 3)
    weight = step * cosine(gaussian_filter(total, 1.5), centre, rays, outer)
    found = (read_along(volume[channel : channel + 1], points)[0] * beyond).sum(axis=1) * weight
    thickness = (true[channel] * beyond).sum(axis=1) * weight
    known = np.isfinite(outer)
    if region is None:
        skin, bare = known & (thickness > 0.25), known & (thickness < 0.05)
    else:
        region = check_mask(region, "region", total.shape)
        crossed = (read_along(region[None].astype(float), points)[0] * beyond).max(axis=1)
        skin, bare = known & (crossed > 0.5), known & (crossed == 0)
    excess = found[bare] - thickness[bare]
    return SkinError(
        mean_nm=finite_mean(found[skin]) * voxel_size_nm,
        true_mean_nm=finite_mean(thickness[skin]) * voxel_size_nm,
        rms_nm=rms(found[skin] - thickness[skin]) * voxel_size_nm,
        spread_nm=_spread(found[skin]) * voxel_size_nm,
        true_spread_nm=_spread(thickness[skin]) * voxel_size_nm,
        missed=finite_mean(found[skin] < thickness[skin] / 2),
        false_nm=finite_mean(excess) * voxel_size_nm,
        false_fraction=finite_mean(excess > 0.3),
        directions=int(skin.sum()),
        bare=int(bare.sum()),
    )


def _spread(values):
    return float(values.std()) if values.size else float("nan")


# ---------------------------------------------------------------- films that are not there


@checked
@dataclass(frozen=True)
class InventedPhase:
    """A phase, or vacuum, in voxels where the truth has none.

    Attributes
    ----------
    mean : float
        Mean excess over the truth, in volume fraction. NaN where there are no such voxels.
    fraction : float
        Fraction of the voxels with an excess above 0.3.
    voxels : int
        How many were examined.
    """

    mean: float
    fraction: float
    voxels: int


@checked
def film_about_voids(
    volume: ArrayLike, truth: ArrayLike, *, voids: Sequence[Mapping] | None = None, channel: int = 0
) -> InventedPhase:
    """A phase painted onto voids: its excess in the two voxels about their edges, where the truth has none.

    The voxels are more than half full, lie at most two voxels outside a void's edge, and at least one voxel from any
    that the truth fills with the phase to more than a quarter: the blur of a core that a void cuts into is not a film.

    Parameters
    ----------
    volume, truth : array (K, Y, Z, X)
    voids : list of dict, optional
        ``{"center": (y, z, x), "radius": r}`` of each, in indices and voxels; by default the closed voids of the truth.
    channel : int
        Phase of the film.
    """
    volume, truth = _phases(volume, truth)
    check_channel(channel, truth)
    total = truth.sum(axis=0)
    if voids is None:
        rim = _within(_holes(total), RIM)
    else:
        rim = np.zeros(total.shape, bool)
        for void in _checked_voids(voids):
            distance = _distance(total.shape, void)
            rim |= (distance > -0.5) & (distance <= RIM)
    return _invented(volume, truth, rim & (total > 0.5), channel)


@checked
def false_skin(volume: ArrayLike, truth: ArrayLike, *, channel: int = 0) -> InventedPhase:
    """A phase painted onto the surface: its excess in the two outermost voxels, where the truth has none.

    The voxels are chosen as in `film_about_voids`, but under the outer surface; if the skin is in patches, between
    them.

    Parameters
    ----------
    volume, truth : array (K, Y, Z, X)
    channel : int
        Phase of the skin.
    """
    from scipy.ndimage import binary_fill_holes

    volume, truth = _phases(volume, truth)
    check_channel(channel, truth)
    total = truth.sum(axis=0)
    return _invented(volume, truth, _within(~binary_fill_holes(total > 0.5), RIM) & (total > 0.5), channel)


@checked
def false_void(volume: ArrayLike, truth: ArrayLike) -> InventedPhase:
    """Vacuum in the solid: its excess in voxels that the truth fills, more than two voxels from any that it does not.

    Parameters
    ----------
    volume, truth : array (K, Y, Z, X)

    Examples
    --------
    >>> body = np.zeros((1, 16, 16, 16))
    >>> body[:, 2:14, 2:14, 2:14] = 1
    >>> hollow = body.copy()
    >>> hollow[:, 7:9, 7:9, 7:9] = 0
    >>> found = false_void(hollow, body)
    >>> round(found.fraction * found.voxels)
    8
    """
    volume, truth = _phases(volume, truth)
    full = truth.sum(axis=0)
    solid = (full > NEARLY_FULL) & ~_within(full <= NEARLY_FULL, RIM)
    excess = (full - volume.sum(axis=0))[solid]
    return InventedPhase(finite_mean(excess), finite_mean(excess > 0.3), int(solid.sum()))


def _within(mask, distance):
    """Voxels outside a mask at most so far from its edge, which runs half a voxel from the centres beside it."""
    from scipy.ndimage import distance_transform_edt

    return distance_transform_edt(~mask) <= distance + 0.5 if mask.any() else mask


def _invented(volume, truth, rim, channel):
    from scipy.ndimage import binary_dilation

    bare = rim & ~binary_dilation(truth[channel] > NONE, np.ones((3, 3, 3)))
    excess = (volume - truth)[channel][bare]
    return InventedPhase(finite_mean(excess), finite_mean(excess > 0.3), int(bare.sum()))


# ---------------------------------------------------------------- voids


@checked
@dataclass(frozen=True)
class VoidError:
    """One void of the truth, and what a reconstruction made of it.

    Attributes
    ----------
    center : tuple of float
        (y, z, x) indices, of the truth.
    true_nm3, volume_nm3 : float
        Vacuum in the void of the truth; and in the reconstruction, including vacuum up to two voxels around the void
        that the truth does not have. For a void that was found in the truth, that of `interface_error`.
    offset_nm : float
        Distance between the centres of that vacuum in both; NaN where the reconstruction has less than a tenth of it.
    contrast : float
        (Material around the void minus material in it) over material around it, relative to the same ratio of the
        truth: 1 where the void is as empty as it should be, 0 where it is not seen. NaN where nothing surrounds it.
    """

    center: tuple[float, float, float]
    true_nm3: float
    volume_nm3: float
    offset_nm: float
    contrast: float


@checked
def void_errors(
    volume: ArrayLike, truth: ArrayLike, voxel_size_nm: float = 1.0, *, voids: Sequence[Mapping] | None = None
) -> list[VoidError]:
    """Volume, place and contrast of each void of the truth.

    Parameters
    ----------
    volume, truth : array (K, Y, Z, X)
    voxel_size_nm : float
    voids : list of dict, optional
        ``{"center": (y, z, x), "radius": r}`` of each, in indices and voxels; by default the closed voids of the truth.
        A void smaller than a voxel, or open to the outside, is found only if listed.

    Returns
    -------
    list of VoidError
        In the order of ``voids``, or the largest first; empty without voids.

    Examples
    --------
    >>> body = np.zeros((1, 16, 16, 16))
    >>> body[:, 3:13, 3:13, 3:13] = 1
    >>> body[:, 7:9, 7:9, 7:9] = 0
    >>> (error,) = void_errors(body, body)
    >>> error.true_nm3, error.volume_nm3, error.offset_nm, error.contrast
    (8.0, 8.0, 0.0, 1.0)
    """
    volume, truth = _phases(volume, truth)
    check_positive(voxel_size_nm=voxel_size_nm)
    found, true = volume.sum(axis=0), truth.sum(axis=0)
    if voids is None:
        return [_void_error(found, true, *void, voxel_size_nm) for void in _found_voids(true)]
    return [_void_error(found, true, void, None, voxel_size_nm) for void in _checked_voids(voids)]


def _void_error(found, true, void, near, voxel_size_nm):
    distance, vacuum = _distance(true.shape, void), np.clip(1 - true, 0, 1)
    if near is None:
        vacuum = np.minimum(vacuum, np.clip(1 - distance, 0, 1))  # of this void, not of what is beside it
        near = (distance <= RIM) & ((vacuum > 0) | (true > 0.9))
    else:
        vacuum = vacuum * near
    grid, true_empty = np.argwhere(near), vacuum[near]
    empty = np.clip(true_empty + (true - found)[near], 0, 1)
    size, true_size = empty.sum(), true_empty.sum()
    offset = np.nan
    if true_size > 0 and size > true_size / 10:
        centres = [(grid * e[:, None]).sum(axis=0) / e.sum() for e in (empty, true_empty)]
        offset = np.linalg.norm(centres[0] - centres[1])
    around = (distance > 1) & (distance <= 1 + RIM) & (true > 0.9)
    contrast = np.nan
    if around.any() and true_size > 0:
        outside, true_outside = found[around].mean(), true[around].mean()
        inside, true_inside = ((total * vacuum).sum() / true_size for total in (found, true))
        if outside > 0:
            contrast = (1 - inside / outside) / (1 - true_inside / true_outside)
    return VoidError(
        center=tuple(float(value) for value in void["center"]),
        true_nm3=float(true_size * voxel_size_nm**3),
        volume_nm3=float(size * voxel_size_nm**3),
        offset_nm=float(offset * voxel_size_nm),
        contrast=float(contrast),
    )


def _checked_voids(voids: Sequence[Mapping]) -> Sequence[Mapping]:
    """The voids as they are stated; ValueError unless each has a centre and a radius."""
    right = isinstance(voids, Sequence) and all(
        isinstance(v, Mapping) and {"center", "radius"} <= v.keys() for v in voids
    )
    if not right:
        raise ValueError(f"voids: got {describe(voids)}, wants a list of {{'center': (y, z, x), 'radius': r}}")
    for k, void in enumerate(voids):
        check_not_negative(**{f"voids[{k}]['radius']": void["radius"]})
        if finite_array(void["center"], f"voids[{k}]['center']").shape != (3,):
            raise ValueError(f"voids[{k}]['center']: got {describe(void['center'])}, wants (y, z, x)")
    return voids


def _distance(shape: tuple[int, ...], void: Mapping) -> NDArray:
    """Signed distance of each voxel from a void's edge, negative inside."""
    center = finite_array(void["center"], "voids")
    grid = np.indices(shape)
    return np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, center, strict=True))) - float(void["radius"])


def _holes(total):
    """Vacuum (below 1/2) that is closed on all sides."""
    from scipy.ndimage import binary_fill_holes

    return binary_fill_holes(total > 0.5) & (total <= 0.5)


def _found_voids(total):
    """Closed voids: centre of mass and radius of a sphere that reaches the farthest voxel; and what is about them."""
    from scipy.ndimage import binary_fill_holes, label

    holes, count = label(_holes(total))
    filled = binary_fill_holes(total > 0.5)
    voids = []
    for k in 1 + np.argsort(-np.bincount(holes.ravel(), minlength=count + 1)[1:], kind="stable"):
        grid = np.argwhere(holes == k)
        center = grid.mean(axis=0)
        void = {"center": center, "radius": np.linalg.norm(grid - center, axis=1).max() + 0.5}
        voids.append((void, about_void(holes == k, filled)))
    return voids
