"""Specimens and measurements drawn from a seed: settings are chosen on one half of the draws, reported on the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from skimage.measure import block_reduce

from ..checks import check_choice, check_count, check_positive, check_seed, describe
from ..doors import checked
from .projections import project_fine
from .specimen import PARTS, Ball, Particle, Shape, check_oversample, volume_fractions

if TYPE_CHECKING:
    from ..tomography import Measurement

__all__ = ["SpecimenDraw", "draw_specimen"]

HALVES = ("tune", "report")
SHAPES = ("cube", "truncated cube", "octahedron", "sphere", "rod")
NOISES = ("independent", "anticorrelated", "fit", "poisson")
PLACES = ("core", "shell", "skin", "core and shell", "shell and skin")
CORRELATION = -0.96  # between the phases' errors, of "anticorrelated" noise


@checked(tilt_angles_deg="T", shifts_px="T 2")
@dataclass(frozen=True)
class SpecimenDraw:
    """A specimen and its tilt series, with the whole truth about them.

    Attributes
    ----------
    fine : array (C, 2 n, 2 n, 2 n)
        Volume fractions on the fine grid from which the projections are made.
    truth : array (C, n, n, n)
        Volume fractions on the grid of the reconstruction.
    phases : tuple of str
        Names of the channels: "FeO", "Fe3O4", then "third phase" and "support" where they were drawn.
    projections : array (C, T, n, n)
        With noise, in nm; or counts, see ``counts_per_nm``.
    clean : array (C, T, n, n)
        Without noise, in nm.
    covariance : array (C, C) or (T, n, n, C, C), or None
        Of the noise, nm². None for counts.
    tilt_angles_deg : array (T,)
    shifts_px : array (T, 2)
        (dy, dx) of each projection.
    axis_angle_deg : float
        Of the tilt axis in the projections, from +Y towards +X.
    voxel_size_nm : float
    counts_per_nm : float
        0 where the projections are not counts.
    regions : dict of str to bool array (n, n, n)
        Parts of the volume for separate scores, derived from the geometry; lengths in voxels of the truth. ``"skin"``:
        at least a tenth skin; ``"void_rim"``: material from a void's edge to two voxels outside it; ``"core_edge"``:
        within one of the core's edge (and within its graded width); ``"surface"``: within one of the surface;
        ``"corners"``: within 1.5 of the surface and of two faces (spheres have none); ``"bulk"``: inside, more than 1.5
        from every interface; ``"wedge"``: within one of an interface whose normal lies in the missing wedge, more than
        15° off the tilt axis. Any may be empty.
    label : dict
        What was drawn, in words and numbers; positions as (y, z, x) indices of the truth.
    """

    fine: np.ndarray
    truth: np.ndarray
    phases: tuple[str, ...]
    projections: np.ndarray
    clean: np.ndarray
    covariance: np.ndarray | None
    tilt_angles_deg: np.ndarray
    shifts_px: np.ndarray
    axis_angle_deg: float
    voxel_size_nm: float
    counts_per_nm: float
    regions: dict[str, np.ndarray]
    label: dict

    def measurement(self, *, known_shifts: bool = True, device: str | None = None) -> Measurement:
        """What a reconstruction is given; its result is in volume fractions.

        Parameters
        ----------
        known_shifts : bool
            Whether the measurement knows the shifts. It never knows the angle of the tilt axis.
        device : str, optional
        """
        from ..tomography import Measurement

        shifts = self.shifts_px if known_shifts and self.shifts_px.any() else None
        if self.counts_per_nm:  # counts per voxel's length in place of nm: the volume comes out in fractions
            noise, unit = {"counts": True}, self.voxel_size_nm * self.counts_per_nm
        else:
            noise, unit = {"covariance": self.covariance}, self.voxel_size_nm
        options = {"voxel_size_nm": unit, "shifts_px": shifts, "device": device}
        return Measurement(self.projections, self.tilt_angles_deg, **noise, **options)


@checked
def draw_specimen(
    seed: int,
    half: str = "tune",
    n: int = 48,
    *,
    box_nm: float = 64.0,
    fit_covariance: Callable[[NDArray, float, float], NDArray] | None = None,
    oversample: int = 3,
    **fixed: Any,
) -> SpecimenDraw:
    """Draw a core-shell particle and a tilt series of it.

    The same seed, half and grid give the same draw. The halves share no random numbers. Fixing a value changes nothing
    else in a draw; the size of the grid changes only the voids, which are 1 to 6 voxels across.

    Parameters
    ----------
    seed : int
    half : {"tune", "report"}
        Settings are chosen on the first half and scored on the second.
    n : int
        Voxels per side.
    box_nm : float
        Side of the field of view.
    fit_covariance : callable, optional
        ``(projections_nm, fluence_e_per_A2, pixel_size_nm) -> (T, Y, X, 2, 2)``, such as `study.pixel_covariance`:
        covariance of the noise ``"fit"``, which is not drawn without it. Further phases get independent noise of the
        mean variance.
    oversample : int
        Samples along each side of a voxel of the fine grid that a surface may cut.
    **fixed
        Values to use instead of drawing them:

        ``shape`` ("cube", "truncated cube", "octahedron", "sphere", "rod"); ``rotation`` (unit quaternion, scalar last,
        of (y, z, x)); ``core`` (bool); ``skin`` ("none", "whole", "patches"), ``skin_nm``; ``voids`` (0 to 3, fewer
        where there is no room for them); ``void_voxels`` (their diameters, three of them); ``graded_nm`` (width of the
        core's edge, 0 for sharp); ``mixture`` (None, "core", "shell", "inclusion": the part that is 80 % one phase and
        20 % the other); ``third_phase`` (None, "skin", "inclusion"); ``support`` (bool); ``views``, ``max_tilt_deg``,
        ``missing_tilt`` (bool: one of ``views + 1`` even steps), ``shift_px`` (the largest), ``axis_angle_deg``;
        ``noise`` ("independent", "anticorrelated", "fit", "poisson"), ``level`` (of the first two, as a fraction of
        each channel's largest projection, or of a tenth of the largest of all if that is more), ``fluence_e_per_A2``
        (of "fit", per tilt), ``counts`` (of "poisson", in the brightest pixel).

    Raises
    ------
    ValueError
        For an unknown half or name, a value of ``fixed`` that is out of range, or ``noise="fit"`` without
        ``fit_covariance``.

    Examples
    --------
    >>> draw = draw_specimen(3, "report", 16, views=9, max_tilt_deg=70, noise="independent", level=0.05)
    >>> draw.projections.shape[1:], draw.label["half"], draw.label["noise"]["level"]
    ((9, 16, 16), 'report', 0.05)
    """
    check_choice(half, "half", HALVES)
    check_seed(seed)
    check_count(n, "n", 8)
    check_positive(box_nm=box_nm)
    check_oversample(oversample)
    if fit_covariance is not None and not callable(fit_covariance):
        raise ValueError(f"fit_covariance: got {describe(fit_covariance)}, wants a function")
    streams = np.random.SeedSequence([1 + HALVES.index(half), int(seed)]).spawn(5)
    body, places, elsewhere, series, noise = (np.random.default_rng(stream) for stream in streams)
    noises = NOISES if fit_covariance else tuple(kind for kind in NOISES if kind != "fit")
    recipe = _recipe(body, series, noises)
    _check_fixed(fixed, recipe, fit_covariance)
    recipe |= fixed

    scale = 2 * n / box_nm  # fine voxels per nm
    particle, words = _particle(recipe, places, elsewhere, scale, n)
    composition, phases = _composition(recipe)
    parts = volume_fractions(particle, np.eye(len(PARTS)), 2 * n, oversample)
    fine = np.tensordot(composition.T.astype(np.float32), parts, axes=1)
    tilts, shifts = _tilts(recipe, series)
    size = box_nm / n
    geometry = {"shifts_px": shifts, "axis_angle_deg": recipe["axis_angle_deg"]}
    truth, clean = project_fine(fine, tilts, size, **geometry)
    if recipe["support"]:
        film, film_projections, words["support"] = _support(recipe, fine.sum(axis=0), tilts, size, geometry)
        phases = (*phases, "support")
        fine = np.concatenate([fine, film])
        truth = np.concatenate([truth, block_reduce(film, (1, 2, 2, 2), np.mean)])
        clean = np.concatenate([clean, film_projections])
    clean = np.maximum(clean, 0)
    projections, covariance, counts_per_nm, words["noise"] = _noisy(recipe, clean, size, noise, fit_covariance)
    skin = block_reduce(parts[PARTS.index("skin")], (2, 2, 2), np.mean)
    regions = _regions(particle, skin, truth[: len(composition.T)], tilts)
    label = {"seed": int(seed), "half": half, "n": int(n), "box_nm": float(box_nm), "phases": list(phases), **words}
    label |= {"views": tilts.size, "max_tilt_deg": float(recipe["max_tilt_deg"])}
    label |= {"missing_tilt": bool(recipe["missing_tilt"]), "largest_shift_px": float(np.abs(shifts).max())}
    label |= {"axis_angle_deg": float(recipe["axis_angle_deg"])}
    arrays = {"fine": fine, "truth": truth, "projections": projections.astype(np.float32), "clean": clean}
    return SpecimenDraw(
        **arrays,
        phases=phases,
        covariance=covariance,
        tilt_angles_deg=tilts,
        shifts_px=shifts,
        axis_angle_deg=float(recipe["axis_angle_deg"]),
        voxel_size_nm=size,
        counts_per_nm=counts_per_nm,
        regions=regions,
        label=label,
    )


def _check_fixed(fixed: dict, recipe: dict, fit_covariance: Callable | None) -> None:
    private = {name for name in recipe if name.startswith("u_")}
    if unknown := set(fixed) - set(recipe) | set(fixed) & private:
        raise ValueError(f"fixed: got {sorted(unknown)}, wants some of {sorted(set(recipe) - private)}")
    choices = {
        "shape": SHAPES,
        "skin": ("none", "whole", "patches"),
        "mixture": (None, "core", "shell", "inclusion"),
        "third_phase": (None, "skin", "inclusion"),
        "noise": NOISES,
        "voids": (0, 1, 2, 3),
    }
    for name, wanted in choices.items():
        if name in fixed and fixed[name] not in wanted:
            raise ValueError(f"{name}: got {fixed[name]!r}, wants one of {wanted}")
    for name in ("skin_nm", "graded_nm", "max_tilt_deg", "shift_px", "level", "fluence_e_per_A2", "counts"):
        if not (np.isfinite(fixed.get(name, 0)) and fixed.get(name, 0) >= 0):
            raise ValueError(f"{name}: got {fixed[name]!r}, wants a number of at least 0")
    if int(fixed.get("views", 1)) != fixed.get("views", 1) or fixed.get("views", 1) < 1:
        raise ValueError(f"views: got {fixed['views']!r}, wants a positive integer")
    if fixed.get("noise") == "fit" and fit_covariance is None:
        raise ValueError("fit_covariance: got None with noise='fit', wants a function such as study.pixel_covariance")


# ---------------------------------------------------------------- what is drawn


def _recipe(body: np.random.Generator, series: np.random.Generator, noises: tuple[str, ...]) -> dict[str, Any]:
    """All that may be drawn, always in the same order; names that begin with ``u_`` are uniform numbers for later."""
    quaternion = body.normal(size=4)
    lying = np.array([*np.tan(np.deg2rad(body.uniform(-12, 12, 3)) / 2), 1.0])  # faces nearly along the axes
    rotation = lying if body.random() < 0.5 else quaternion
    recipe = {
        "rotation": tuple(rotation / np.linalg.norm(rotation)),
        "shape": str(body.choice(SHAPES)),
        "core": bool(body.random() < 0.85),
        "skin": str(body.choice(["none", "whole", "patches"], p=[0.25, 0.5, 0.25])),
        "skin_nm": body.uniform(0.3, 3),
        "voids": int(body.choice(4, p=[0.2, 0.4, 0.25, 0.15])),
        "void_voxels": tuple(body.uniform(1, 6, 3)),
        "graded_nm": float(body.uniform(1, 5) * (body.random() < 0.25)),
        "mixture": [None, "core", "shell", "inclusion"][body.choice(4, p=[0.76, 0.08, 0.08, 0.08])],
        "third_phase": [None, "skin", "inclusion"][body.choice(3, p=[0.8, 0.1, 0.1])],
        "support": bool(body.random() < 0.15),
        "u_shape": body.random(12),
        "u_patches": body.normal(size=(6, 3)),
        "u_angles": body.uniform(25, 60, 6),
        "u_support": body.random(3),
    }
    most = series.choice([0.5, 1.0])
    return recipe | {
        "views": round(float(np.exp(series.uniform(np.log(5), np.log(29))))),
        "max_tilt_deg": series.uniform(50, 70),
        "missing_tilt": bool(series.random() < 0.15),
        "shift_px": float(0.5 * most * (series.random() < 0.25)),
        "axis_angle_deg": float(series.uniform(-1, 1) * (series.random() < 0.15)),
        "noise": str(noises[int(series.random() * len(noises))]),
        "level": series.uniform(0.02, 0.1),
        "fluence_e_per_A2": float(np.exp(series.uniform(np.log(2e3), np.log(4e4)))),
        "counts": float(np.exp(series.uniform(np.log(50), np.log(2000)))),
    }


def _outline(shape: str, u: NDArray, scale: float) -> Shape:
    """Outer shape of the shell in fine voxels."""

    def nm(low: float, high: float, k: int) -> float:
        return float(scale * (low + (high - low) * u[k]))

    if shape == "rod":
        return Shape("cylinder" if u[2] < 0.5 else "square rod", nm(10, 18, 0) / 2, nm(28, 46, 1) / 2)
    half = {"cube": nm(18, 32, 0), "truncated cube": nm(20, 35, 0), "octahedron": nm(34, 52, 0)}
    half = half.get(shape, nm(20, 44, 0)) / 2
    return Shape(shape, half, half * (2.1 + 0.7 * u[1]) if shape == "truncated cube" else 0.0)


def _particle(
    recipe: dict, places: np.random.Generator, elsewhere: np.random.Generator, scale: float, n: int
) -> tuple[Particle, dict[str, Any]]:
    """The particle in fine voxels, and its description."""
    u = recipe["u_shape"]
    shell = _outline(recipe["shape"], u, scale)
    thickness = 0.0 if recipe["skin"] == "none" else float(recipe["skin_nm"]) * scale
    skin = shell.grown(thickness) if thickness else None
    core = None
    if recipe["core"]:
        ratio = 0.35 + 0.35 * u[3]
        core = Shape(shell.name, float(ratio * shell.half), float(ratio * shell.other))
        if u[4] < 0.2:
            core = Shape("sphere", float(ratio) * -float(shell.distance(np.zeros(3))))  # inside the faces
    room = max(0.0, 0.97 * n - (skin or shell).radius)
    patches = ()
    if recipe["skin"] == "patches":
        count = 1 + int(u[5] * 6)
        directions = recipe["u_patches"] / np.linalg.norm(recipe["u_patches"], axis=1, keepdims=True)
        patches = tuple(zip(directions[:count], np.deg2rad(recipe["u_angles"][:count]), strict=True))
    particle = Particle(
        core,
        shell,
        skin,
        core_center=(u[6:9] - 0.5) * 0.2 * shell.half * (u[9] < 0.5),
        center=np.clip((places.random(3) - 0.5) * 4 * scale, -room / 2, room / 2),
        rotation=Rotation.from_quat(recipe["rotation"]).as_matrix(),
        patches=patches,
        graded=float(recipe["graded_nm"]) * scale if core else 0.0,
    )
    inclusion = None
    if recipe["third_phase"] == "inclusion" or recipe["mixture"] == "inclusion":
        radius = (0.3 + 0.25 * u[10]) * shell.half
        local, distances = _anywhere(particle, elsewhere)
        inclusion = Ball(tuple(local[distances["shell"] < -0.5 * radius][0]), float(radius))
    voids, words = _voids(recipe, particle, places, thickness, n)
    particle = Particle(**{**vars(particle), "inclusion": inclusion, "voids": voids})
    described = {
        "shape": {"name": shell.name, "voxels": shell.half, "other_voxels": shell.other},
        "rotation": [float(q) for q in recipe["rotation"]],
        "center": _index(particle, np.zeros(3), n),
        "core": {"name": core.name, "voxels": core.half, "other_voxels": core.other} if core else None,
        "skin": recipe["skin"] if thickness else "none",
        "skin_nm": thickness / scale,
        "skin_channel": (2 if recipe["third_phase"] == "skin" else 0) if thickness else None,
        "patches": [{"direction": list(map(float, v)), "angle_deg": float(np.rad2deg(a))} for v, a in patches],
        "voids": words,
        "graded_nm": particle.graded / scale,
        "mixture": recipe["mixture"],
        "third_phase": recipe["third_phase"] if recipe["third_phase"] != "skin" or thickness else None,
        "inclusion": None,
        "support": None,
    }
    if inclusion:
        described["inclusion"] = {"center": _index(particle, inclusion.center, n), "radius": inclusion.radius / 2}
    return particle, described


def _index(particle: Particle, local: Any, n: int) -> list[float]:
    """A point of the particle's frame (fine voxels) as an index of the coarse grid."""
    point = np.asarray(local) @ particle.rotation.T + particle.center
    return [float(value) for value in point / 2 + (n - 1) / 2]


def _anywhere(particle: Particle, places: np.random.Generator) -> tuple[NDArray, dict[str, NDArray]]:
    """Points (N, 3) all over the particle, in its frame, and their distances."""
    local = places.uniform(-1, 1, (20000, 3)) * (particle.skin or particle.shell).radius
    return local, particle.distances(local @ particle.rotation.T + particle.center)


def _voids(
    recipe: dict, particle: Particle, places: np.random.Generator, thickness: float, n: int
) -> tuple[tuple[Ball, ...], list[dict]]:
    """Spheres of vacuum, two voxels or more apart: in a part or across the interface of two, wherever there is room."""
    voids: list[Ball] = []
    words = []
    for diameter in recipe["void_voxels"][: recipe["voids"]]:
        radius = float(diameter)  # half of it, in voxels of half the size
        so_far = Particle(**{**vars(particle), "voids": tuple(voids)})
        order = places.permutation(PLACES)
        local, d = _anywhere(so_far, places)
        within = d["shell"] < -radius
        fits = {
            "core": (d["core"] < -radius) & within,
            "shell": (d["core"] > radius) & within,
            "skin": (np.maximum(d["skin"], -d["shell"]) < -0.4 * thickness) & bool(thickness),
            "core and shell": (np.abs(d["core"]) < 0.5 * radius) & within,
            "shell and skin": (np.abs(d["shell"]) < 0.5 * radius) & (d["skin"] < 0),
        }
        apart = d["void"] > radius + 4  # two coarse voxels
        for place in order:
            found = np.flatnonzero(fits[place] & apart)
            if found.size:
                center, outer = local[found[0]], particle.outer(d)[found[0]]
                voids.append(Ball(tuple(center), radius))
                index = {"center": _index(particle, center, n), "radius": radius / 2}
                words.append({**index, "place": str(place), "open": bool(outer > -radius)})
                break
    return tuple(voids), words


def _composition(recipe: dict) -> tuple[NDArray, tuple[str, ...]]:
    """Volume fraction of each phase in each part (4, C), and the names of the phases."""
    third = recipe["third_phase"] == "inclusion" or (recipe["third_phase"] == "skin" and recipe["skin"] != "none")
    composition = np.zeros((len(PARTS), 3 if third else 2))
    composition[range(4), [0, 1, 0, 0]] = 1
    mixed = {"core": [0.8, 0.2], "shell": [0.2, 0.8], "inclusion": [0.2, 0.8]}
    if recipe["mixture"] is not None:
        composition[PARTS.index(recipe["mixture"]), :2] = mixed[recipe["mixture"]]
    if third:
        composition[PARTS.index(recipe["third_phase"])] = [0, 0, 1]
    return composition, ("FeO", "Fe3O4", "third phase")[: composition.shape[1]]


def _tilts(recipe: dict, series: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Tilts (T,) and shifts (T, 2)."""
    views = int(recipe["views"])
    largest, missing = recipe["max_tilt_deg"], series.random()
    tilts = np.linspace(-largest, largest, views)
    if recipe["missing_tilt"] and views > 2:
        tilts = np.delete(np.linspace(-largest, largest, views + 1), 1 + int(missing * (views - 1)))  # not the last
    return tilts, series.uniform(-1, 1, (views, 2)) * recipe["shift_px"]


def _support(
    recipe: dict, particle: NDArray, tilts: NDArray, size: float, geometry: dict
) -> tuple[NDArray, NDArray, dict]:
    """A film on which the particle (Y, Z, X) lies, through the field of view and beyond it: volume and projections."""
    n, u = len(particle), recipe["u_support"]
    half = (3 + 5 * u[0]) / size  # half the thickness of 3 to 8 nm, in fine voxels
    slope = np.deg2rad(10 * u[1] - 5)
    side = -1.0 if u[2] < 0.5 else 1.0
    axis = np.arange(n) - (n - 1) / 2
    height = axis[:, None] * np.cos(slope) + axis * np.sin(slope)  # along the film's normal
    inside = np.broadcast_to(side * height, particle.shape)[particle > 0.5]
    room = n / 2 - 2 * half - n / 2 * abs(np.tan(slope)) - 1  # the film stays in the box
    middle = side * (min(inside.max(initial=0.0), room) + half)
    whole = np.clip(half + 0.5 - np.abs(height - middle), 0, 1).astype(np.float32)
    within = whole * np.minimum(particle, 1)  # where the particle is, the film is not
    _, missing = project_fine(within[None], tilts, size, **geometry)
    path = half * size / np.abs(np.cos(np.deg2rad(tilts) + slope))  # the beam is (z, x) = (cos t, -sin t)
    words = {"thickness_nm": float(half * size), "slope_deg": float(np.rad2deg(slope)), "z_voxels": middle / 2}
    return (whole - within)[None], path[:, None, None].astype(np.float32) - missing, words


# ---------------------------------------------------------------- noise


def _noisy(
    recipe: dict, clean: NDArray, size: float, noise: np.random.Generator, fit_covariance: Callable | None
) -> tuple[NDArray, NDArray | None, float, dict]:
    """Projections with noise, its covariance, counts per nm, and the description."""
    kind, channels = recipe["noise"], len(clean)
    if kind == "poisson":
        gain = recipe["counts"] / clean.max()
        words = {"kind": kind, "largest_counts": float(recipe["counts"])}
        return noise.poisson(gain * clean), None, float(gain), words
    if kind == "fit":
        fluence = float(recipe["fluence_e_per_A2"])
        fitted = np.asarray(fit_covariance(clean[:2], fluence, size))
        covariance = np.zeros((*fitted.shape[:-2], channels, channels))
        covariance[..., :, :] = np.trace(fitted, axis1=-2, axis2=-1)[..., None, None] / 2 * np.eye(channels)
        covariance[..., :2, :2] = fitted
        words = {"kind": kind, "fluence_e_per_A2": fluence}
    else:
        largest = clean.max(axis=(1, 2, 3))
        sigma = recipe["level"] * np.maximum(largest, largest.max() / 10)
        correlation = np.eye(channels)
        if kind == "anticorrelated":
            correlation[0, 1] = correlation[1, 0] = CORRELATION
        covariance = correlation * sigma[:, None] * sigma
        words = {"kind": kind, "level": float(recipe["level"])}
    white = noise.standard_normal((*clean.shape[1:], channels, 1))
    return clean + np.moveaxis((np.linalg.cholesky(covariance) @ white)[..., 0], -1, 0), covariance, 0.0, words


# ---------------------------------------------------------------- regions


def _regions(particle: Particle, skin: NDArray, truth: NDArray, tilts: NDArray) -> dict[str, NDArray[np.bool_]]:
    """Masks on the coarse grid, from the distances of its voxels (in coarse voxels) to the interfaces."""
    n = truth.shape[1]
    axis = np.arange(n) * 2.0 - (n - 1)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    distances = particle.distances(points)
    second = _second_face(particle.shell, particle.local(points))
    if particle.skin:  # whichever of the two is the surface there
        grown = _second_face(particle.skin, particle.local(points))
        second = np.where(distances["skin"] < distances["shell"], grown, second)
    outer = particle.outer(distances) / 2
    core, shell, void, inclusion = (distances[name] / 2 for name in ("core", "shell", "void", "inclusion"))
    inside = outer < 0
    core_edge = (np.abs(core) <= 1 + particle.graded / 4) & (outer < 0.5)
    interfaces = {
        "core": (core, (core != np.inf) & (outer < 0)),
        "shell": (shell, distances["skin"] < 0),
        "outer": (outer, np.ones_like(inside)),
        "void": (void, (void != np.inf) & (outer < 1)),
        "inclusion": (inclusion, (inclusion != np.inf) & (outer < 0)),
    }
    wedge = np.zeros_like(inside)
    away = np.ones_like(inside)
    for distance, valid in interfaces.values():
        near = (np.abs(distance) <= 1) & valid
        wedge |= near & _unseen(distance, near, tilts)
        away &= (np.abs(distance) > 1.5) | ~valid
    return {
        "skin": skin >= 0.1,
        "void_rim": (void > -0.5) & (void <= 2) & (truth.sum(axis=0) > 0.1),
        "core_edge": core_edge,
        "corners": (np.abs(outer) <= 1.5) & (second >= -3),
        "surface": np.abs(outer) <= 1,
        "bulk": away & inside & (void > 1.5) & (np.abs(core) > 1.5 + particle.graded / 4),
        "wedge": wedge,
    }


def _second_face(shape: Shape, points: NDArray) -> NDArray:
    """Signed distance from the second nearest face: of the fine grid, as the shape is; -inf of a sphere."""
    faces = np.sort(shape.faces(points), axis=0)
    return faces[-2] if len(faces) > 1 else np.full(faces.shape[1:], -np.inf)


def _unseen(distance: NDArray, near: NDArray, tilts: NDArray) -> NDArray[np.bool_]:
    """Where the normal of an interface lies outside the measured range of tilts, more than 15° off the tilt axis."""
    if not near.any():
        return near
    normal = np.stack(np.gradient(distance))
    normal /= np.maximum(np.linalg.norm(normal, axis=0), 1e-9)
    # A projection at tilt t shows the directions (z, x) = (sin t, cos t): u = x cos t + z sin t.
    angle = np.rad2deg(np.arctan2(normal[1], normal[2]))
    angle = (angle + 90) % 180 - 90  # a normal and its opposite are the same
    return ((angle < tilts.min()) | (angle > tilts.max())) & (np.abs(normal[0]) < np.cos(np.deg2rad(15)))
