"""Specimens on a voxel grid: volume fractions of each phase, antialiased."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from ..checks import check_choice, check_count, check_not_negative, check_positive, finite_array
from ..doors import checked

__all__ = ["PARTS", "Ball", "Particle", "Shape", "check_oversample", "core_shell_nanocube", "volume_fractions"]

_FACES: dict[str, Callable] = {  # (F, ...) signed distances of points (..., 3) from the faces, negative inside
    "cube": lambda p, half, _: np.moveaxis(np.abs(p), -1, 0) - half,
    "truncated cube": lambda p, half, cut: np.concatenate(
        [_FACES["cube"](p, half, 0), _FACES["octahedron"](p, cut, 0)], axis=0
    ),
    "octahedron": lambda p, half, _: (
        (np.abs(p).sum(axis=-1) - np.stack([np.zeros(p.shape[:-1]), *(2 * np.moveaxis(np.abs(p), -1, 0))]) - half)
        / np.sqrt(3)
    ),
    "sphere": lambda p, half, _: (np.sqrt((p**2).sum(axis=-1)) - half)[None],
    "cylinder": lambda p, half, long: np.stack(
        [np.sqrt((p[..., 1:] ** 2).sum(axis=-1)) - half, np.abs(p[..., 0]) - long]
    ),
    "square rod": lambda p, half, long: np.stack(
        [np.abs(p[..., 1]) - half, np.abs(p[..., 2]) - half, np.abs(p[..., 0]) - long]
    ),
}
PARTS = ("core", "shell", "skin", "inclusion")
REACH = np.sqrt(3) / 2  # of a voxel from its centre
MOST_VOXELS, MOST_SAMPLES, MOST_PHASES = 2048, 50, 16  # along a side of the box and of a voxel; more fill the memory


@dataclass(frozen=True)
class Shape:
    """Convex body about the origin, lengths in voxels.

    Attributes
    ----------
    name : str
        ``"cube"``, ``"truncated cube"``, ``"octahedron"``, ``"sphere"``, ``"cylinder"`` or ``"square rod"`` (rods lie
        along the first axis).
    half : float
        Half the edge, vertex-to-vertex length or diameter.
    other : float
        Truncated cube: half the vertex-to-vertex length of the octahedron that cuts it. Rods: half the length.
    """

    name: str
    half: float
    other: float = 0.0

    def faces(self, points: NDArray) -> NDArray:
        """Signed distances (F, ...) of points (..., 3) from the faces that may be nearest; the largest counts."""
        return _FACES[self.name](points, self.half, self.other)

    def distance(self, points: NDArray) -> NDArray:
        """Signed distance of points (..., 3), negative inside; outside, near an edge, a lower bound."""
        return self.faces(points).max(axis=0)

    def grown(self, by: float) -> Shape:
        """The shape with each face moved outwards."""
        along = {"octahedron": np.sqrt(3)}.get(self.name, 1.0)
        other = {"truncated cube": np.sqrt(3), "cylinder": 1.0, "square rod": 1.0}.get(self.name, 0.0)
        return Shape(self.name, float(self.half + along * by), float(self.other + other * by))

    @property
    def radius(self) -> float:
        """Of the smallest sphere that holds it."""
        half, other = self.half, self.other
        if self.name in ("sphere", "octahedron"):
            return half
        if self.name == "cylinder":
            return float(np.hypot(half, other))
        if self.name == "square rod":
            return float(np.sqrt(2 * half**2 + other**2))
        if self.name == "truncated cube" and other < 3 * half:
            rest = np.clip(other - half, 0, half)  # a vertex is (half, rest, what is left)
            return float(np.sqrt(half**2 + rest**2 + np.clip(other - half - rest, 0, half) ** 2))
        return float(np.sqrt(3) * half)


@dataclass(frozen=True)
class Ball:
    """Sphere in the frame of its particle, ``(y, z, x)`` in voxels."""

    center: tuple[float, float, float]
    radius: float

    def distance(self, points: NDArray) -> NDArray:
        """Signed distance of points (..., 3), negative inside."""
        return np.sqrt(((points - np.asarray(self.center)) ** 2).sum(axis=-1)) - self.radius


@checked
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
        Position of the core in the particle, ``(y, z, x)``; what protrudes from the shell and skin is cut off.
    center
        Position of the particle in the box, ``(y, z, x)`` from the centre of the box.
    rotation_deg
        Right-handed rotations about X, then Y, then Z (all fixed axes). None: not rotated.
    core_phase, shell_phase, skin_phase
        Channel of each part; the system used with the volume says which phase a channel is. ``skin_phase=2`` makes the
        skin a third phase.
    unit
        Unit of all lengths: ``"box"`` (fractions of the side of the box), ``"voxel"`` or ``"nm"``.
    oversample
        Sampling points along each side of a voxel near a surface; the mean over them is its volume fraction.

    Returns
    -------
    numpy.ndarray
        ``(C, Y, Z, X)`` float32 volume fractions (0 to 1, adding up to at most 1), C = 2 ("FeO", "Fe3O4" in the
        iron oxides), or more where a phase index asks for it.

    Raises
    ------
    ValueError
        For a size that is negative or not finite, an unknown shape or unit, or a particle that does not fit in the box.

    Examples
    --------
    >>> volume = core_shell_nanocube(32)
    >>> volume.shape, bool(volume.sum(axis=0).max() <= 1)
    ((2, 32, 32, 32), True)
    """
    if check_count(n, "n", 2) > MOST_VOXELS:
        raise ValueError(f"n: got {n!r}, wants at most {MOST_VOXELS}")
    check_positive(voxel_size_nm=voxel_size_nm)
    check_choice(shape, "shape", ("cube", "octahedron", "sphere"))
    check_oversample(oversample)
    phases = {"core_phase": core_phase, "shell_phase": shell_phase, "skin_phase": skin_phase}
    for name, value in phases.items():
        if check_count(value, name, 0) >= MOST_PHASES:
            raise ValueError(f"{name}: got {value!r}, wants 0 to {MOST_PHASES - 1}")
    voxels_per_unit = {"box": float(n), "voxel": 1.0, "nm": 1.0 / voxel_size_nm}
    check_choice(unit, "unit", voxels_per_unit)
    scale = voxels_per_unit[unit]
    sizes = {"core": _size("core", core, scale), "shell": _size("shell", shell, scale)}
    sizes["skin"] = _size("skin", skin, scale)
    radius = _size("void_radius", void_radius, scale)
    void = Ball(tuple(_position("void_center", void_center, scale)), radius)
    particle = Particle(
        **{part: Shape(shape, size / 2) if size else None for part, size in sizes.items()},
        voids=(void,) if radius else (),
        core_center=_position("core_center", core_center, scale),
        center=_position("center", center, scale),
        rotation=_rotation(rotation_deg),
    )
    size = max(sizes.values())
    if size and np.any(np.abs(particle.center) + size / 2 > n / 2):
        raise ValueError(
            f"core, shell, skin, center: got a size of {size:.4g} voxels at {particle.center}, wants a particle "
            f"that fits a box of n={n} voxels"
        )
    composition = np.zeros((len(PARTS), max(2, 1 + max(phases.values()))))
    composition[range(3), list(phases.values())] = 1
    return volume_fractions(particle, composition, int(n), int(oversample))


def check_oversample(oversample: int) -> None:
    """Raise `ValueError` unless there are so many sampling points along a voxel as memory can hold."""
    if check_count(oversample, "oversample") > MOST_SAMPLES:
        raise ValueError(f"oversample: got {oversample!r}, wants at most {MOST_SAMPLES}")


def _size(name: str, value: float | None, scale: float) -> float:
    """Length in voxels."""
    value = 0.0 if value is None else value
    check_not_negative(**{name: value})
    return float(value) * scale


def _position(name: str, value: ArrayLike, scale: float) -> NDArray:
    """Position (y, z, x) in voxels."""
    position = finite_array(value, name)
    if position.shape != (3,):
        raise ValueError(f"{name}: got {value!r}, wants three numbers")
    return position * scale


def _rotation(rotation_deg: tuple[float, float, float] | None) -> NDArray:
    """Rotation matrix for points ``(y, z, x)``."""
    if rotation_deg is None:
        return np.eye(3)
    angles = _position("rotation_deg", rotation_deg, 1.0)
    xyz = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    return xyz[np.ix_([1, 2, 0], [1, 2, 0])]  # an even permutation of (x, y, z): the frame stays right-handed


@dataclass(frozen=True)
class Particle:
    """Particle in a box, lengths in voxels, positions ``(y, z, x)``.

    Attributes
    ----------
    core, shell, skin : Shape or None
        Each extends from the part inside it to this surface. None: no such part.
    core_center, center : array (3,)
        Of the core in the particle, and of the particle in the box.
    rotation : array (3, 3)
        Takes the particle's frame to that of the box.
    voids : tuple of Ball
    inclusion : Ball or None
        Of another composition, cut off at the surface of the particle.
    patches : tuple of (direction, angle)
        Cones from the centre, of half-angle ``angle`` (radians): the skin is only inside them. None at all: everywhere.
    graded : float
        Width over which core gives way to shell, linearly.
    """

    core: Shape | None
    shell: Shape | None
    skin: Shape | None
    core_center: NDArray
    center: NDArray
    rotation: NDArray
    voids: tuple[Ball, ...] = ()
    inclusion: Ball | None = None
    patches: tuple[tuple[NDArray, float], ...] = ()
    graded: float = 0.0

    def local(self, points: NDArray) -> NDArray:
        """Points (..., 3) of the box in the particle's frame."""
        return (points - self.center) @ self.rotation  # the inverse of the rotation

    def distances(self, points: NDArray) -> dict[str, NDArray]:
        """Signed distances of points (..., 3) from core, shell, skin, void and inclusion, negative inside."""
        local = self.local(points)
        far = np.full(local.shape[:-1], np.inf)
        found = {
            "core": self.core.distance(local - self.core_center) if self.core else far,
            "shell": self.shell.distance(local) if self.shell else far,
            "skin": self.skin.distance(local) if self.skin else far,
            "void": np.min([void.distance(local) for void in self.voids], axis=0) if self.voids else far,
            "inclusion": self.inclusion.distance(local) if self.inclusion else far,
        }
        if self.skin and self.patches:
            found["skin"] = np.maximum(found["skin"], _cones(local, self.patches))
        return found

    def outer(self, distances: dict[str, NDArray]) -> NDArray:
        """Signed distance from the surface of the particle (voids aside)."""
        return np.minimum(distances["shell"], distances["skin"]) if self.shell or self.skin else distances["core"]

    def parts(self, distances: dict[str, NDArray]) -> NDArray[np.float32]:
        """Which of `PARTS` each point belongs to (4, ...): 0 or 1, in between where the core's edge is graded."""
        core, shell, skin = (distances[name] for name in PARTS[:3])
        solid = (self.outer(distances) < 0) & (distances["void"] >= 0)
        inside = np.clip(0.5 - core / self.graded, 0, 1) if self.graded else core < 0
        inclusion = solid & (distances["inclusion"] < 0)
        parts = np.zeros((len(PARTS), *core.shape), dtype=np.float32)
        rest = solid & ~inclusion
        parts[0] = rest * inside
        parts[1] = (rest & (shell < 0)) * (1 - inside if self.graded else ~inside)
        parts[2] = (rest & (skin < 0) & (shell >= 0)) * (1 - inside if self.graded else ~inside)
        parts[3] = inclusion
        return parts


def _cones(points: NDArray, cones: tuple[tuple[NDArray, float], ...]) -> NDArray:
    """Signed distance of points (..., 3) from a union of cones, negative inside."""
    length = np.sqrt((points**2).sum(axis=-1))
    unit = points / np.maximum(length, 1e-9)[..., None]
    beyond = [np.arccos(np.clip(unit @ direction, -1, 1)) - angle for direction, angle in cones]
    return length * np.sin(np.clip(np.min(beyond, axis=0), -np.pi / 2, np.pi / 2))


def volume_fractions(particle: Particle, composition: NDArray, n: int, oversample: int) -> NDArray[np.float32]:
    """``(C, n, n, n)`` volume fractions; voxels that a surface may cut are sampled on a finer grid.

    ``composition`` (4, C) holds the volume fraction of each phase in each of `PARTS`.
    """
    volume = np.zeros((composition.shape[1], n, n, n), dtype=np.float32)
    axis = np.arange(n) - (n - 1) / 2
    fine = (np.arange(oversample) + 0.5) / oversample - 0.5
    offsets = np.stack(np.meshgrid(fine, fine, fine, indexing="ij"), axis=-1).reshape(-1, 3)
    for y in range(n):
        points = np.stack(np.meshgrid(axis[y : y + 1], axis, axis, indexing="ij"), axis=-1)[0]
        distances = particle.distances(points)
        volume[:, y] = np.tensordot(composition.T, particle.parts(distances), axes=1)
        # No distance here is longer than the true one.
        cut = np.min(np.abs(list(distances.values())), axis=0) < REACH
        if cut.any():
            samples = particle.parts(particle.distances(points[cut][:, None, :] + offsets)).sum(axis=-1, dtype=float)
            volume[:, y, cut] = composition.T @ samples / len(offsets)
    return volume
