"""Specimens on a voxel grid: volume fractions of each phase, antialiased."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

_DISTANCE = {  # signed distance from the surface, negative inside; `half` is half the size along an axis
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
) -> np.ndarray:
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
        Full size (edge, diameter or vertex-to-vertex) to which each part reaches. 0 or None: no such part.
    void_radius, void_center
        Sphere of vacuum. 0 or None: none. Centres are ``(y, z, x)`` from the centre of the particle, in
        the particle's own frame (they turn with it).
    core_center
        Place of the core in the particle, ``(y, z, x)``; what sticks out of the shell and skin is cut off.
    center
        Place of the particle in the box, ``(y, z, x)`` from the centre of the box.
    rotation_deg
        Right-handed rotations about X, then Y, then Z (all fixed axes). None: not rotated.
    core_phase, shell_phase, skin_phase
        Channel of each part; ``skin_phase=2`` makes the skin a third phase.
    unit
        Unit of all lengths: ``"box"`` (fractions of the side of the box), ``"voxel"`` or ``"nm"``.
    oversample
        Points along each side of a voxel that a surface may cut; their mean is its volume fraction.

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
        raise ValueError(f"n must be an integer of at least 2 voxels, got {n!r}")
    if not (np.isfinite(voxel_size_nm) and voxel_size_nm > 0):
        raise ValueError(f"voxel_size_nm must be positive, got {voxel_size_nm!r}")
    if shape not in _DISTANCE:
        raise ValueError(f"shape must be one of {sorted(_DISTANCE)}, got {shape!r}")
    if unit not in ("box", "voxel", "nm"):
        raise ValueError(f"unit must be 'box', 'voxel' or 'nm', got {unit!r}")
    if int(oversample) != oversample or oversample < 1:
        raise ValueError(f"oversample must be a positive integer, got {oversample!r}")
    phases = {"core_phase": core_phase, "shell_phase": shell_phase, "skin_phase": skin_phase}
    for name, value in phases.items():
        if value not in (0, 1, 2):
            raise ValueError(f"{name} must be 0, 1 or 2, got {value!r}")
    scale = {"box": float(n), "voxel": 1.0, "nm": 1.0 / voxel_size_nm}[unit]

    def voxels(name, value):
        value = np.asarray(0.0 if value is None else value, dtype=float) * scale
        if not np.isfinite(value).all() or (value.ndim == 0 and value < 0):
            raise ValueError(f"{name} must be finite and not negative, got {value / scale}")
        if value.ndim and value.shape != (3,):
            raise ValueError(f"{name} must be three numbers (y, z, x), got shape {value.shape}")
        return value

    core, shell, skin = voxels("core", core), voxels("shell", shell), voxels("skin", skin)
    void_radius, void_center = voxels("void_radius", void_radius), voxels("void_center", void_center)
    core_center, center = voxels("core_center", core_center), voxels("center", center)
    outer = max(core, shell, skin)
    if outer and np.any(np.abs(center) + outer / 2 > n / 2):
        raise ValueError(f"the particle (size {outer:.4g} voxels at {center}) does not fit a box of n={n} voxels")

    # The grid is (y, z, x); a right-handed frame in that order is (x, y, z) permuted evenly: (y, z, x).
    turn = np.eye(3)
    if rotation_deg is not None:
        xyz = Rotation.from_euler("xyz", np.asarray(rotation_deg, dtype=float), degrees=True).as_matrix()
        turn = xyz[np.ix_([1, 2, 0], [1, 2, 0])]
    distance = _DISTANCE[shape]

    def surfaces(points):
        """Signed distances of box points (..., 3) to the core, shell, skin and void, in voxels."""
        own = (points - center) @ turn  # inverse of the rotation: the particle's frame
        far = np.full(own.shape[:-1], np.inf)
        return (
            distance(own - core_center, core / 2) if core else far,
            distance(own, shell / 2) if shell else far,
            distance(own, skin / 2) if skin else far,
            np.sqrt(((own - void_center) ** 2).sum(axis=-1)) - void_radius if void_radius else far,
        )

    def label(d_core, d_shell, d_skin, d_void):
        """Phase of each point; -1 is vacuum."""
        cut = np.minimum(d_shell, d_skin) if (shell or skin) else d_core
        phase = np.full(d_core.shape, -1, dtype=np.int8)
        phase[d_skin < 0] = skin_phase
        phase[d_shell < 0] = shell_phase
        phase[(d_core < 0) & (cut < 0)] = core_phase
        phase[d_void < 0] = -1
        return phase

    channels = max(2, 1 + max(phases.values()))
    volume = np.zeros((channels, n, n, n), dtype=np.float32)
    axis = np.arange(n) - (n - 1) / 2
    fine = (np.arange(oversample) + 0.5) / oversample - 0.5
    inside = np.stack(np.meshgrid(fine, fine, fine, indexing="ij"), axis=-1).reshape(-1, 3)
    for y in range(n):
        points = np.stack(np.meshgrid(axis[y : y + 1], axis, axis, indexing="ij"), axis=-1)[0]
        d = surfaces(points)
        phase = label(*d)
        # A voxel reaches sqrt(3)/2 from its centre, and no distance here is longer than the true one.
        mixed = np.min(np.abs(d), axis=0) < np.sqrt(3) / 2
        sub = label(*surfaces(points[mixed][:, None, :] + inside))
        for c in range(channels):
            volume[c, y] = phase == c
            volume[c, y][mixed] = (sub == c).mean(axis=-1)
    return volume
