"""Specimens on a voxel grid: volume fractions of each phase, antialiased."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from ..scattering import check_positive

__all__ = ["core_shell_nanocube"]

_DISTANCE: dict[str, Callable] = {  # signed distance from the surface, negative inside; `half` is half the size
    "cube": lambda p, half: np.abs(p).max(axis=-1) - half,
    "sphere": lambda p, half: np.sqrt((p**2).sum(axis=-1)) - half,
    "octahedron": lambda p, half: (np.abs(p).sum(axis=-1) - half) / np.sqrt(3),
}


def core_shell_nanocube(
    n: int,
    voxel_size_nm: float = 0.4,
    *,
    shape: str = "cube",
    core: float | None = 40 / 160,
    shell: float | None = 80 / 160,
    skin: float | None = 86 / 160,
    void_radius: float | None = 6 / 160,
    void_center: tuple[float, float, float] = (7 / 160, -10 / 160, 29 / 160),
    core_center: tuple[float, float, float] = (0.0, 0.0, 0.0),
    center: tuple[float, float, float] = (0.0, 0.0, 0.0),
    rotation_deg: tuple[float, float, float] | None = (5.0, 7.0, 13.0),
    core_phase: int = 0,
    shell_phase: int = 1,
    skin_phase: int = 0,
    unit: str = "box",
    oversample: int = 5,
) -> NDArray[np.float32]:
    """Core-shell particle: FeO core, magnetite shell, thin FeO skin, and a void.

    The defaults are the public phantom of arXiv:2606.10893 (core 40, shell to 80, skin to 86 of 160
    voxels of 0.4 nm, rotated by 5°, 7° and 13°, a void of radius 6 in the shell), at any grid size.

    Parameters
    ----------
    n
        Voxels along each side of the cubic box.
    voxel_size_nm
        Side of a voxel; it sets the size of the particle where ``unit="nm"``.
    shape
        ``"cube"``, ``"sphere"`` or ``"octahedron"``.
    core, shell, skin
        Full size (edge, diameter or vertex to vertex) to which each part extends. 0 or None: no such part.
    void_radius, void_center
        Sphere of vacuum. 0 or None: none. Centres are ``(y, z, x)`` from the centre of the particle, in
        the particle's own frame (they rotate with it).
    core_center
        Position of the core in the particle, ``(y, z, x)``; what sticks out of the shell and skin is cut off.
    center
        Position of the particle in the box, ``(y, z, x)`` from the centre of the box.
    rotation_deg
        Right-handed rotations about X, then Y, then Z (all fixed axes). None: not rotated.
    core_phase, shell_phase, skin_phase
        Channel of each part; ``skin_phase=2`` makes the skin a third phase.
    unit
        Unit of all lengths: ``"box"`` (fractions of the side of the box), ``"voxel"`` or ``"nm"``.
    oversample
        Points along each side of a voxel that a surface may cut; the mean over them is its volume fraction.

    Returns
    -------
    numpy.ndarray
        ``(C, Y, Z, X)`` float32 volume fractions (0 to 1, adding up to at most 1), C = 2 ("FeO",
        "Fe3O4"), or 3 where a phase index is 2.

    Raises
    ------
    ValueError
        For a size that is negative or not finite, an unknown shape or unit, a particle that does not fit.

    Examples
    --------
    >>> volume = core_shell_nanocube(32)
    >>> volume.shape, bool(volume.sum(axis=0).max() <= 1)
    ((2, 32, 32, 32), True)
    """
    if int(n) != n or n < 2:
        raise ValueError(f"n: got {n!r}, wants an integer of at least 2 voxels")
    check_positive(voxel_size_nm=voxel_size_nm)
    if shape not in _DISTANCE:
        raise ValueError(f"shape: got {shape!r}, wants one of {sorted(_DISTANCE)}")
    if int(oversample) != oversample or oversample < 1:
        raise ValueError(f"oversample: got {oversample!r}, wants a positive integer")
    phases = {"core_phase": core_phase, "shell_phase": shell_phase, "skin_phase": skin_phase}
    for name, value in phases.items():
        if value not in (0, 1, 2):
            raise ValueError(f"{name}: got {value!r}, wants 0, 1 or 2")
    voxels_per_unit = {"box": float(n), "voxel": 1.0, "nm": 1.0 / voxel_size_nm}
    if unit not in voxels_per_unit:
        raise ValueError(f"unit: got {unit!r}, wants one of {sorted(voxels_per_unit)}")
    scale = voxels_per_unit[unit]
    particle = _CoreShell(
        shape=shape,
        core=_size("core", core, scale),
        shell=_size("shell", shell, scale),
        skin=_size("skin", skin, scale),
        void_radius=_size("void_radius", void_radius, scale),
        void_center=_position("void_center", void_center, scale),
        core_center=_position("core_center", core_center, scale),
        center=_position("center", center, scale),
        rotation=_rotation(rotation_deg),
        **phases,
    )
    size = max(particle.core, particle.shell, particle.skin)
    if size and np.any(np.abs(particle.center) + size / 2 > n / 2):
        raise ValueError(
            f"core, shell, skin, center: got a size of {size:.4g} voxels at {particle.center}, wants a particle "
            f"that fits a box of n={n} voxels"
        )
    return _volume_fractions(particle, int(n), int(oversample))


def _size(name: str, value: float | None, scale: float) -> float:
    """Length in voxels."""
    value = 0.0 if value is None else value
    if not (np.isfinite(value) and value >= 0):
        raise ValueError(f"{name}: got {value!r}, wants a number of at least 0")
    return float(value) * scale


def _position(name: str, value: ArrayLike, scale: float) -> NDArray:
    """Position (y, z, x) in voxels."""
    position = np.asarray(value, dtype=float)
    if position.shape != (3,) or not np.isfinite(position).all():
        raise ValueError(f"{name}: got {value!r}, wants three finite numbers (y, z, x)")
    return position * scale


def _rotation(rotation_deg: tuple[float, float, float] | None) -> NDArray:
    """Rotation matrix for points ``(y, z, x)``."""
    if rotation_deg is None:
        return np.eye(3)
    xyz = Rotation.from_euler("xyz", np.asarray(rotation_deg, dtype=float), degrees=True).as_matrix()
    return xyz[np.ix_([1, 2, 0], [1, 2, 0])]  # an even permutation of (x, y, z): the frame stays right-handed


@dataclass(frozen=True)
class _CoreShell:
    """Particle in a box, lengths in voxels, positions ``(y, z, x)``; a size of 0 means that there is no such part."""

    shape: str
    core: float
    shell: float
    skin: float
    void_radius: float
    void_center: NDArray
    core_center: NDArray
    center: NDArray
    rotation: NDArray
    core_phase: int
    shell_phase: int
    skin_phase: int

    @property
    def channels(self) -> int:
        return max(2, 1 + max(self.core_phase, self.shell_phase, self.skin_phase))

    def distances(self, points: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Signed distances of points (..., 3) to the surfaces of core, shell, skin and void, negative inside."""
        distance = _DISTANCE[self.shape]
        local = (points - self.center) @ self.rotation  # inverse of the rotation: the particle's frame
        far = np.full(local.shape[:-1], np.inf)
        void = np.sqrt(((local - self.void_center) ** 2).sum(axis=-1)) - self.void_radius
        return (
            distance(local - self.core_center, self.core / 2) if self.core else far,
            distance(local, self.shell / 2) if self.shell else far,
            distance(local, self.skin / 2) if self.skin else far,
            void if self.void_radius else far,
        )

    def phase(self, core: NDArray, shell: NDArray, skin: NDArray, void: NDArray) -> NDArray[np.int8]:
        """Phase of each point from its `distances`; -1 is vacuum."""
        outside = np.minimum(shell, skin) if (self.shell or self.skin) else core
        phase = np.full(core.shape, -1, dtype=np.int8)
        phase[skin < 0] = self.skin_phase
        phase[shell < 0] = self.shell_phase
        phase[(core < 0) & (outside < 0)] = self.core_phase
        phase[void < 0] = -1
        return phase


def _volume_fractions(particle: _CoreShell, n: int, oversample: int) -> NDArray[np.float32]:
    """``(C, n, n, n)`` volume fractions; voxels that a surface may cut are sampled on a finer grid."""
    volume = np.zeros((particle.channels, n, n, n), dtype=np.float32)
    axis = np.arange(n) - (n - 1) / 2
    fine = (np.arange(oversample) + 0.5) / oversample - 0.5
    offsets = np.stack(np.meshgrid(fine, fine, fine, indexing="ij"), axis=-1).reshape(-1, 3)
    for y in range(n):
        points = np.stack(np.meshgrid(axis[y : y + 1], axis, axis, indexing="ij"), axis=-1)[0]
        distances = particle.distances(points)
        phase = particle.phase(*distances)
        # A voxel reaches sqrt(3)/2 from its centre, and no distance here is longer than the true one.
        cut = np.min(np.abs(distances), axis=0) < np.sqrt(3) / 2
        fine_phase = particle.phase(*particle.distances(points[cut][:, None, :] + offsets))
        for c in range(particle.channels):
            volume[c, y] = phase == c
            volume[c, y][cut] = (fine_phase == c).mean(axis=-1)
    return volume
