"""Interfaces in a volume of fractions, and how the volume changes when they move."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike, NDArray

from ..checks import (
    check_count,
    check_index,
    check_mask,
    check_not_negative,
    check_number,
    check_positive,
    describe,
    real_array,
)
from ..doors import checked
from .checks import finite_array

__all__ = ["Surface", "disc", "displacements", "extract_surface", "phase_volumes"]

MOST_VOXELS = 2**31
CLOUD = 0.5  # voxels: width over which a surface element is spread, so that none sits astride a voxel's face by chance


@checked(points="N 3", normals="N 3", areas="N")
@dataclass(frozen=True)
class Surface:
    """An interface as small surface elements; all lengths in voxels.

    Attributes
    ----------
    points : array (N, 3)
        Centres (y, z, x); voxel centres have whole coordinates.
    normals : array (N, 3)
        Unit vectors that point outwards.
    areas : array (N,)
    """

    points: NDArray
    normals: NDArray
    areas: NDArray

    def select(self, keep: ArrayLike) -> Surface:
        """Some of the elements: a mask or index over N."""
        keep = check_index(keep, "keep", len(self.areas))
        return Surface(self.points[keep], self.normals[keep], self.areas[keep])

    def moved(self, distance: float) -> Surface:
        """The parallel surface at a distance along the normals, with the same areas."""
        return Surface(self.points + distance * self.normals, self.normals, self.areas)

    def patches(self, size: float, *, rounds: int = 10) -> NDArray[np.int64]:
        """Divide the surface into patches of about ``size`` × ``size`` voxels; return the number (N,) of each element's
        patch.

        Elements belong to the nearest of a set of centres, which start far apart and move to the middle of their patch
        (Lloyd's algorithm). A difference between normals counts as a distance, so that patches end at sharp edges.
        """
        from scipy.spatial import cKDTree

        check_positive(size=size)
        check_count(rounds, "rounds", 0)
        features = np.concatenate([self.points, 1.5 * size * self.normals], axis=1)
        count = max(1, round(self.areas.sum() / size**2))
        centres, distance = [features[0]], np.full(len(features), np.inf)
        while len(centres) < min(count, len(features)):
            distance = np.minimum(distance, ((features - centres[-1]) ** 2).sum(axis=1))
            centres.append(features[distance.argmax()])
        centres = np.array(centres)
        for _ in range(rounds):
            label = cKDTree(centres).query(features)[1]
            weight = np.bincount(label, self.areas, len(centres))
            sums = [np.bincount(label, self.areas * column, len(centres)) for column in features.T]
            centres = (np.stack(sums, axis=1) / np.maximum(weight, 1e-300)[:, None])[weight > 0]
        return np.unique(cKDTree(centres).query(features)[1], return_inverse=True)[1]


@checked
def extract_surface(field: ArrayLike, level: float = 0.5, *, smoothing: float = 1.0) -> Surface:
    """Surface on which a field crosses a level, by marching cubes; normals point to where the field is lower.

    Parameters
    ----------
    field : array (Y, Z, X)
        For example the sum of the phases (level 0.5: the particle's surface and the rims of its voids), or the
        difference of two phases (level 0: the interface between them; select the part you want).
    level : float
    smoothing : float
        Standard deviation in voxels of the Gaussian that smooths the field before its gradient gives the normals.

    Raises
    ------
    ValueError
        If the field does not cross the level.

    Examples
    --------
    >>> grid = np.indices((24, 24, 24)) - 11.5
    >>> ball = extract_surface(8.0 - np.sqrt((grid**2).sum(axis=0)), level=0.0)
    >>> bool(abs(ball.areas.sum() / (4 * np.pi * 8**2) - 1) < 0.01)
    True
    """
    from scipy.ndimage import gaussian_filter, map_coordinates
    from skimage.measure import marching_cubes

    field = finite_array(field, "field")
    check_not_negative(smoothing=smoothing)
    check_number(level, "level")
    if field.ndim != 3 or min(field.shape) < 2:
        raise ValueError(f"field: got shape {field.shape}, wants (Y, Z, X) of at least 2 voxels a side")
    if not field.min() < level < field.max():
        raise ValueError(f"level: got {level!r}, wants one within the field's {field.min():.3g} to {field.max():.3g}")
    corners, faces, _, _ = marching_cubes(field, level)
    a, b, c = np.moveaxis(corners[faces].astype(float), 1, 0)
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    middle = (a + b + c) / 3
    # Each triangle is four similar ones: the middle one and one at each corner.
    points = np.concatenate([middle, *((middle + corner) / 2 for corner in (a, b, c))])
    areas = np.tile(areas / 4, 4)
    smooth = gaussian_filter(field, smoothing, mode="nearest")
    normals = -np.stack([map_coordinates(g, points.T, order=1, mode="nearest") for g in np.gradient(smooth)], axis=1)
    length = np.linalg.norm(normals, axis=1)
    keep = (areas > 0) & (length > 0)
    return Surface(points[keep], normals[keep] / length[keep, None], areas[keep])


@checked
def disc(centre: ArrayLike, normal: ArrayLike, diameter: float, *, spacing: float = 0.5) -> Surface:
    """A flat, round piece of interface.

    Parameters
    ----------
    centre, normal : array (3,)
        (y, z, x); the normal of any length.
    diameter, spacing : float
        Of the disc and of its elements, in voxels.
    """
    centre, normal = finite_array(centre, "centre"), finite_array(normal, "normal")
    if normal.shape != (3,) or not normal.any():
        raise ValueError(f"normal: got {normal}, wants a vector (y, z, x) other than 0")
    if centre.shape != (3,):
        raise ValueError(f"centre: got shape {centre.shape}, wants (3,)")
    check_positive(diameter=diameter, spacing=spacing)
    if diameter > 1e4 * spacing:
        raise ValueError(f"diameter: got {diameter!r} with spacing={spacing!r}, wants at most 10,000 elements across")
    normal = normal / np.linalg.norm(normal)
    first = np.cross(normal, np.eye(3)[np.abs(normal).argmin()])
    first /= np.linalg.norm(first)
    second = np.cross(normal, first)
    steps = int(np.ceil(diameter / spacing)) + 1
    line = (np.arange(steps) - (steps - 1) / 2) * spacing
    u, v = (g.ravel() for g in np.meshgrid(line, line))
    inside = u**2 + v**2 <= (diameter / 2) ** 2
    inside |= u**2 + v**2 == (u**2 + v**2).min()  # a disc smaller than the spacing still has an element
    u, v = u[inside, None], v[inside, None]
    areas = np.full(len(u), np.pi * diameter**2 / 4 / len(u))
    return Surface(centre + u * first + v * second, np.tile(normal, (len(u), 1)), areas)


@checked
def displacements(
    surface: Surface, difference: ArrayLike, shape: tuple[int, int, int], modes: ArrayLike | None = None
) -> scipy.sparse.csr_array:
    r"""How a volume changes with the position of an interface: one direction for each parameter.

    Where an interface moves outwards by :math:`\delta`, a layer of volume :math:`\delta` times its area changes from
    the fractions outside to those inside,

    .. math:: \frac{\partial v_c}{\partial p} = (v_c^{\mathrm{in}} - v_c^{\mathrm{out}}) \sum_n a_n m_{pn}\, b(r_n),

    with areas a, displacement :math:`m_{pn}` of element n per unit of parameter p, and b the weights of the voxels in
    which an element lies.

    Parameters
    ----------
    surface : Surface
    difference : array (C,) or (N, C)
        Fractions inside minus those outside.
    shape : (int, int, int)
        (Y, Z, X) of the volume.
    modes : int array (N,) or array (P, N), optional
        The patch of each element, so that each patch has one displacement along its normal (`Surface.patches`); or the
        displacement of each element per unit of each parameter: the normals' components (3, N) for shifts of the whole
        surface along Y, Z and X. By default one parameter: growth of the whole surface along its normals.

    Returns
    -------
    sparse array (P, C Y Z X)
        Volume fraction per voxel of displacement.
    """
    count = len(surface.points)
    difference = np.atleast_1d(finite_array(difference, "difference"))
    if difference.ndim > 2 or (difference.ndim == 2 and len(difference) != count):
        raise ValueError(f"difference: got shape {difference.shape}, wants (C,) or ({count}, C)")
    difference = np.broadcast_to(difference, (count, difference.shape[-1]))
    size = real_array(shape, "shape")
    if size.shape != (3,) or (size % 1).any() or size.min() < 1 or size.astype(float).prod() > MOST_VOXELS:
        raise ValueError(f"shape: got {shape!r}, wants whole (Y, Z, X), of at most {MOST_VOXELS:g} voxels")
    modes = np.zeros(count, int) if modes is None else real_array(modes, "modes")
    patches = modes.ndim == 1 and modes.dtype.kind in "iu" and ((modes >= 0) & (modes < count)).all()
    if modes.shape[-1:] != (count,) or not (patches or modes.ndim == 2):
        raise ValueError(f"modes: got {describe(modes)}, wants patch numbers ({count},) below {count}, or (P, {count})")
    if modes.ndim == 1:
        modes = scipy.sparse.csr_array((np.ones(count), (modes, np.arange(count))))
    modes, spread = scipy.sparse.csr_array(modes), _voxels(surface, shape)
    blocks = [modes @ scipy.sparse.diags_array(column) @ spread for column in difference.T]
    return scipy.sparse.csr_array(scipy.sparse.hstack(blocks, format="csr"))


def _voxels(surface, shape):
    """Area of each element in each voxel, (N, Y Z X): every element is a small box, ``CLOUD`` wide."""
    nearest = np.rint(surface.points).astype(int)
    offset = surface.points - nearest
    over = np.clip((np.abs(offset) + CLOUD / 2 - 0.5) / CLOUD, 0, 1)  # part beyond the nearest voxel, per axis
    rows, columns, values = [], [], []
    for corner in np.ndindex(2, 2, 2):
        index = nearest + np.where(corner, np.sign(offset).astype(int), 0)
        weight = surface.areas * np.where(corner, over, 1 - over).prod(axis=1)
        keep = np.flatnonzero((weight > 0) & (index >= 0).all(axis=1) & (index < shape).all(axis=1))
        rows.append(keep)
        columns.append(np.ravel_multi_index(index[keep].T, shape))
        values.append(weight[keep])
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return scipy.sparse.coo_array(entries, shape=(len(surface.points), int(np.prod(shape)))).tocsr()


@checked
def phase_volumes(volume: ArrayLike, region: ArrayLike | None = None) -> scipy.sparse.csr_array:
    """Directions in which the amount of each phase in a region grows while its distribution stays the same.

    Parameters
    ----------
    volume : array (C, Y, Z, X)
        Volume fractions.
    region : bool array (Y, Z, X), optional
        By default everywhere.

    Returns
    -------
    sparse array (C, C Y Z X)
        Each adds up to one voxel, so that the parameter is the phase's volume in voxels.
    """
    volume = np.asarray(real_array(volume, "volume", ndim=4), float)
    if volume.ndim != 4 or not np.isfinite(volume).all():
        raise ValueError(f"volume: got shape {volume.shape}, wants finite numbers (C, Y, Z, X)")
    region = np.ones(volume.shape[1:], bool) if region is None else check_mask(region, "region", volume.shape[1:])
    if region.dtype != bool or region.shape != volume.shape[1:]:
        raise ValueError(f"region: got {region.dtype} {region.shape}, wants bool {volume.shape[1:]}")
    amounts = (volume * region).sum(axis=(1, 2, 3))
    if not (amounts > 0).all():
        raise ValueError(f"region: got {amounts} voxels of the phases, wants some of each")
    flat = (volume * region / amounts[:, None, None, None]).reshape(len(volume), -1)
    return scipy.sparse.csr_array(scipy.sparse.block_diag([row[None] for row in flat], format="csr"))
