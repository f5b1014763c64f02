"""Chemistry drawn from a seed: specimens that depart from their system, so that an estimator can be scored on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import block_reduce

from ..checks import check_choice, check_count, check_kind, check_positive, check_seed, describe
from ..doors import checked
from ..scattering import Phase, System, as_system
from .detector import Detector
from .draw import HALVES
from .recording import dual_eels
from .specimen import core_shell_nanocube
from .spectrum import Microscope

if TYPE_CHECKING:
    from exspy.signals import EELSSpectrum

__all__ = ["CHEMISTRY_KINDS", "ChemistryDraw", "draw_chemistry"]

#: Kinds of departures, in the order of `draw_chemistry`; "instrument" is drawn only where it is asked for.
CHEMISTRY_KINDS = (
    "vacancies", "strengths", "normalisation", "shifts", "widths", "valence losses", "oxygen", "ligand", "carbon",
    "skin", "mixture", "third phase", "geometry", "instrument",
)  # fmt: skip
PROBABILITY = 0.3  # of each kind, so that a draw has about four
STREAM = 101  # apart from `draw_specimen`, which uses 1 and 2
PARTS = ("core", "shell", "skin")
EDGES = {"m23": "M2,3", "l23": "L2,3"}
PAIRS = {  # one number for each phase (or valence, lower first), with the range of each
    "m23_strength": (0.2, 5.0), "l23_strength": (0.2, 5.0), "m23_shift_eV": (-3, 3), "l23_shift_eV": (-3, 3),
    "m23_fwhm_eV": (0, 5), "l23_fwhm_eV": (0, 5), "plasmon_energy": (0.5, 2.0), "plasmon_width": (0.3, 3.0),
    "oxygen_strength": (0.2, 5.0), "oxygen_pre_peak": (0, 5.0),
}  # fmt: skip
NUMBERS = {
    "vacancies": (0, 0.3), "l23_normalisation": (0, 1), "ligand_nm": (0, 20), "carbon_nm": (0, 200),
    "skin_oxidised": (0, 1), "mixture_fraction": (0, 1), "third_phase_nm": (0, 30), "dispersion_error": (-0.2, 0.2),
    "core_shift_eV": (-30, 30), "exposure_ratio": (1e-3, 1e3), "gain": (1e-3, 1e3),
}  # fmt: skip


@checked
@dataclass(frozen=True)
class ChemistryDraw:
    """A specimen whose chemistry departs from its system, with the whole truth about it.

    Attributes
    ----------
    assumed : System
        The system as in its file: what an analysis is told.
    system : System
        The true system, with its vacancies, strengths, shifts and all other departures.
    phases : tuple of str
        Order of the phases in ``thickness_nm``: the channels of the system, then what else is in the beam.
    thickness_nm : array (P, n, n)
        True projected thickness of each phase.
    pixel_size_nm : float
    microscope : Microscope
        The microscope that records. The signals state its beam energy and angles, but the energy axes of ``stated``.
    stated : Microscope
        The microscope as the metadata describe it.
    detector : Detector
    exposure_ratio : float
        Fluence of the core loss over that of the low loss. It is not in the metadata.
    core_shift_eV : float
        Amount by which the energy axis of the core loss reads too high.
    label : dict
        Seed, half, kinds, and every number that departs from the system.
    """

    assumed: System
    system: System
    phases: tuple[str, ...]
    thickness_nm: np.ndarray
    pixel_size_nm: float
    microscope: Microscope
    stated: Microscope
    detector: Detector
    exposure_ratio: float
    core_shift_eV: float
    label: dict

    @property
    def channels_nm(self) -> np.ndarray:
        """True projected thickness of the phases that an analysis assumes, (C, n, n)."""
        return self.thickness_nm[: len(self.assumed.channels)]

    @property
    def metal_per_nm2(self) -> np.ndarray:
        """True number of metal atoms per nm², (n, n)."""
        return self.system.metal_and_valence(self.thickness_nm, self.phases)[0]

    @property
    def mean_valence(self) -> np.ndarray:
        """True mean valence of the metal, (n, n); NaN where there is none."""
        return self.system.metal_and_valence(self.thickness_nm, self.phases)[1]

    def valence_fraction(self, valence: float) -> np.ndarray:
        """True fraction of the metal that has a given valence (3 for Fe3+), (n, n); NaN where there is no metal."""
        ions = self.system.ions
        share = [
            sum(f for ion, f in self.system.phase(p).ion_fractions.items() if ions[ion].valence == valence)
            for p in self.phases
        ]
        atoms = self.system.metal_per_nm3(self.phases)[:, None, None] * self.thickness_nm
        total = atoms.sum(axis=0)
        some = np.tensordot(share, atoms, axes=1)
        return np.divide(some, total, out=np.full_like(total, np.nan), where=total > 0)

    @property
    def particle(self) -> np.ndarray:
        """Pixels with at least half a nanometre of phases that contain the metal, bool (n, n)."""
        metal = self.system.metal_per_nm3(self.phases) > 0
        return self.thickness_nm[metal].sum(axis=0) > 0.5

    def record(self, fluence_e_per_A2: float, seed: int = 0, **options: Any) -> tuple[EELSSpectrum, EELSSpectrum]:
        """Low loss and core loss, (n, n | E) each, as `dual_eels` records them, with the faults of the instrument.

        Parameters
        ----------
        fluence_e_per_A2
            Of the low loss.
        seed
            Of the noise: another seed is an independent exposure of the same specimen.
        **options
            Further arguments of `dual_eels`: ``noise``, ``delocalisation``, ``drift_eV``, ...
        """
        low, core = dual_eels(
            self.thickness_nm,
            (fluence_e_per_A2, fluence_e_per_A2 * self.exposure_ratio),
            pixel_size_nm=self.pixel_size_nm,
            system=self.system,
            phases=self.phases,
            microscope=self.microscope,
            detector=self.detector,
            seed=seed,
            progress=False,
            **options,
        )
        for signal, start in ((low, self.stated.low_start_eV), (core, self.stated.core_start_eV + self.core_shift_eV)):
            axis = signal.axes_manager.signal_axes[0]
            axis.scale, axis.offset = self.stated.dispersion_eV, start
        return low, core


@checked
def draw_chemistry(
    seed: int,
    half: str = "tune",
    kinds: Iterable[str] | None = None,
    *,
    n: int = 48,
    box_nm: float = 64.0,
    system: System | str | None = None,
    microscope: Microscope | None = None,
    **fixed: Any,
) -> ChemistryDraw:
    """Draw a core-shell particle whose chemistry departs from its system in several ways at once.

    The same seed, half and grid give the same draw. The halves share no random numbers. Fixing a value or choosing the
    kinds changes nothing else in a draw.

    Parameters
    ----------
    seed : int
    half : {"tune", "report"}
        Settings are chosen on the first half and scored on the second.
    kinds : iterable of str, optional
        Departures of this draw, from `CHEMISTRY_KINDS`; ``()``: none. By default each has a probability of 0.3, except
        "instrument", which is never drawn.
    n : int
        Pixels per side.
    box_nm : float
        Side of the field of view.
    system, microscope : optional
        As for `dual_eels`.
    **fixed
        Values to use instead of drawing them. A pair is one number for each channel of the system or, for strengths,
        for the lower and the higher valence.

        ``vacancies``: fraction of the metal that the first phase lacks (0 to 0.12, or what its file allows);
        ``m23_strength``, ``l23_strength`` (pairs of factors, 0.94 to 1.06); ``l23_normalisation``: 0, all ions are as
        strong in the window; 1, in the continuum; ``m23_shift_eV``, ``l23_shift_eV`` (pairs, 0.1 to 0.5 either way);
        ``m23_fwhm_eV``, ``l23_fwhm_eV``: Gaussian that broadens the white lines (pairs, up to 1); ``plasmon_energy``,
        ``plasmon_width`` (pairs of factors); ``oxygen_strength``, ``oxygen_pre_peak`` (pairs of factors on K of the
        anion and on its first peak); ``ligand_nm`` (0 to 4), ``ligand``: a phase, such as "ligand" (oleic acid) or
        "silica"; ``carbon_nm``: film (0 to 20); ``skin`` (bool), ``skin_oxidised``: volume fraction of the skin that is
        the most oxidised phase of the system; ``mixture``: None, "core", "shell" or "skin"; ``mixture_fraction``:
        fraction of its own phase in that part, the rest being the other channel; ``third_phase``: None or a phase,
        ``third_phase_nm``: diameter of a sphere of it in the shell; ``geometry``: arguments of `core_shell_nanocube`
        that replace its defaults (lengths as fractions of the box); ``ion_tables``: ``{ion: {edge: (energy_eV,
        shape)}}``, measured shapes in place of the system's; ``dispersion_error`` (relative, not in the metadata;
        "instrument" draws ± 0.02), ``core_shift_eV`` (± 2), ``exposure_ratio`` (0.1 to 20), ``gain`` of the detector
        (0.35 to 4): at most one of the four is drawn.

    Raises
    ------
    ValueError
        For an unknown half, kind or name, or a value of ``fixed`` that is out of range.

    Examples
    --------
    >>> draw = draw_chemistry(3, "report", kinds=("vacancies", "ligand"), n=16)
    >>> sorted(draw.label["drawn"]), draw.phases
    (['ligand_nm', 'vacancies'], ('FeO', 'Fe3O4', 'ligand'))
    >>> skin = draw_chemistry(0, kinds=(), n=16, skin_oxidised=1.0)  # as the system, but for the skin
    >>> skin.phases, round(float(np.nanmax(skin.mean_valence)), 2)
    (('FeO', 'Fe3O4', 'gamma-Fe2O3'), 3.0)
    """
    check_choice(half, "half", HALVES)
    check_seed(seed)
    check_count(n, "n", 8)
    check_positive(box_nm=box_nm)
    assumed = as_system(system)
    microscope = Microscope() if microscope is None else check_kind(microscope, "microscope", Microscope)
    rng = np.random.default_rng(np.random.SeedSequence([STREAM + HALVES.index(half), int(seed)]))
    on, recipe, drawn = _recipe(rng, kinds, assumed)
    _check_fixed(fixed, recipe, assumed)
    recipe |= fixed
    thickness, phases = _thickness(recipe, assumed, int(n), box_nm)
    true = replace(
        microscope,
        dispersion_eV=microscope.dispersion_eV * (1 + recipe["dispersion_error"]),
        low_start_eV=microscope.low_start_eV * (1 + recipe["dispersion_error"]),  # the zero-loss peak stays at 0
    )
    label = {"seed": int(seed), "half": half, "n": int(n), "box_nm": float(box_nm), "system": assumed.name}
    label |= {
        "kinds": list(on),
        "drawn": {k: v for k, v in recipe.items() if k in drawn | set(fixed) and k != "ion_tables"},
    }
    return ChemistryDraw(
        assumed=assumed,
        system=_true_system(recipe, assumed),
        phases=phases,
        thickness_nm=thickness,
        pixel_size_nm=box_nm / n,
        microscope=true,
        stated=microscope,
        detector=Detector(gain=recipe["gain"]),
        exposure_ratio=float(recipe["exposure_ratio"]),
        core_shift_eV=float(recipe["core_shift_eV"]),
        label=label,
    )


# ---------------------------------------------------------------- what is drawn


def _as_the_system(system: System) -> dict[str, Any]:
    """Every name of a draw with the value that departs from nothing."""
    ones, zeros = (1.0, 1.0), (0.0, 0.0)
    return {
        "vacancies": 0.0, "m23_strength": ones, "l23_strength": ones, "l23_normalisation": 0.0, "m23_shift_eV": zeros,
        "l23_shift_eV": zeros, "m23_fwhm_eV": zeros, "l23_fwhm_eV": zeros, "plasmon_energy": ones,
        "plasmon_width": ones, "oxygen_strength": ones, "oxygen_pre_peak": ones, "ligand": "ligand", "ligand_nm": 0.0,
        "carbon_nm": 0.0, "skin": True, "skin_oxidised": 0.0, "mixture": None, "mixture_fraction": 0.8,
        "third_phase": None, "third_phase_nm": 6.0, "geometry": {}, "ion_tables": {}, "dispersion_error": 0.0,
        "core_shift_eV": 0.0, "exposure_ratio": 1.0, "gain": 1.0,
    }  # fmt: skip


def _recipe(rng: np.random.Generator, kinds: Iterable[str] | None, system: System) -> tuple[list, dict, set]:
    """Kinds that are on, all values, and the names of those that were drawn; always the same random numbers."""
    if not isinstance(kinds, (str, Iterable, type(None))):
        raise ValueError(f"kinds: got {describe(kinds)}, wants some of {CHEMISTRY_KINDS}")
    chosen = None if kinds is None else [kinds] if isinstance(kinds, str) else list(kinds)
    if unknown := set(chosen or ()) - set(CHEMISTRY_KINDS):
        raise ValueError(f"kinds: got {sorted(unknown)}, wants some of {CHEMISTRY_KINDS}")
    recipe, drawn, on = _as_the_system(system), set(), []
    for kind in CHEMISTRY_KINDS:
        switched_on = rng.random() < PROBABILITY and kind != "instrument"
        values = DRAWS[kind](rng.random(16), system)
        if switched_on if chosen is None else kind in chosen:
            on.append(kind)
            recipe |= values
            drawn |= set(values)
    return on, recipe, drawn


def _between(low: float, high: float, u: float) -> float:
    return float(low + (high - low) * u)


def _pair(low: float, high: float, u: NDArray) -> tuple[float, float]:
    return _between(low, high, u[0]), _between(low, high, u[1])


def _shift(u: NDArray) -> float:
    """0.1 to 0.5 eV, either way."""
    return _between(0.1, 0.5, u[0]) * (1 if u[1] < 0.5 else -1)


def _draw_third_phase(u: NDArray, system: System) -> dict[str, Any]:
    others = [p for p in system.phases if p not in system.channels and system.metal in system.phases[p].atoms_per_nm3]
    return {"third_phase": others[int(u[0] * len(others))], "third_phase_nm": _between(4, 9, u[1])} if others else {}


def _draw_geometry(u: NDArray, system: System) -> dict[str, Any]:
    shape = ("cube", "cube", "sphere", "octahedron")[int(u[0] * 4)]
    shell = _between(0.4, 0.56, u[1]) * {"sphere": 1.2, "octahedron": 1.6}.get(shape, 1.0)
    core, skin = _between(0.35, 0.7, u[2]) * shell, shell + _between(0.01, 0.06, u[3])
    room = 0.5 * shell - 0.5 * core
    void = _between(0, 0.04, u[4]) if u[5] < 0.5 else 0.0
    return {
        "geometry": {
            "shape": shape, "core": core, "shell": shell, "skin": skin, "void_radius": void,
            "rotation_deg": tuple(_between(-45, 45, x) for x in u[6:9]),
            "core_center": tuple(_between(-0.3, 0.3, x) * room for x in u[9:12]),
        }
    }  # fmt: skip


def _draw_instrument(u: NDArray, system: System) -> dict[str, Any]:
    faults = (
        {"dispersion_error": 0.02 if u[1] < 0.5 else -0.02},
        {"core_shift_eV": 2.0 if u[1] < 0.5 else -2.0},
        {"exposure_ratio": float(np.exp(_between(np.log(0.1), np.log(20), u[1])))},
        {"gain": float(np.exp(_between(np.log(0.35), np.log(4), u[1])))},
    )
    return faults[int(u[0] * len(faults))]


DRAWS: Mapping[str, Callable[[NDArray, System], dict[str, Any]]] = {
    "vacancies": lambda u, s: {"vacancies": _between(0, 1 - s.phases[s.channels[0]].metal_range[0], u[0])},
    "strengths": lambda u, s: {"m23_strength": _pair(0.94, 1.06, u), "l23_strength": _pair(0.94, 1.06, u[2:])},
    "normalisation": lambda u, s: {"l23_normalisation": float(u[0])},
    "shifts": lambda u, s: {
        "m23_shift_eV": (_shift(u), _shift(u[2:])),
        "l23_shift_eV": (_shift(u[4:]), _shift(u[6:])),
    },
    "widths": lambda u, s: {"m23_fwhm_eV": _pair(0, 1, u), "l23_fwhm_eV": _pair(0, 1, u[2:])},
    "valence losses": lambda u, s: {"plasmon_energy": _pair(0.96, 1.04, u), "plasmon_width": _pair(0.85, 1.2, u[2:])},
    "oxygen": lambda u, s: {"oxygen_strength": _pair(0.94, 1.06, u), "oxygen_pre_peak": _pair(0.5, 1.5, u[2:])},
    "ligand": lambda u, s: {"ligand_nm": _between(0, 4, u[0])},
    "carbon": lambda u, s: {"carbon_nm": _between(2, 20, u[0])},
    "skin": lambda u, s: {"skin": False} if u[2] > 0.7 else {"skin_oxidised": 1.0 if u[0] < 0.4 else float(u[1])},
    "mixture": lambda u, s: {"mixture": PARTS[int(u[0] * 3)], "mixture_fraction": _between(0.6, 0.95, u[1])},
    "third phase": _draw_third_phase,
    "geometry": _draw_geometry,
    "instrument": _draw_instrument,
}


def _check_fixed(fixed: dict[str, Any], recipe: dict[str, Any], system: System) -> None:
    if unknown := set(fixed) - set(recipe):
        raise ValueError(f"fixed: got {sorted(unknown)}, wants some of {sorted(recipe)}")
    for name, (low, high) in {**NUMBERS, **PAIRS}.items():
        values = np.asarray(fixed.get(name, recipe[name]), dtype=float)
        right = values.shape == ((2,) if name in PAIRS else ())
        if not (right and np.isfinite(values).all() and values.min() >= low and values.max() <= high):
            wanted = "a pair of numbers" if name in PAIRS else "a number"
            raise ValueError(f"{name}: got {fixed.get(name)!r}, wants {wanted} within {low} to {high}")
    if fixed.get("mixture") not in (None, *PARTS):
        raise ValueError(f"mixture: got {fixed['mixture']!r}, wants None or one of {PARTS}")
    for name in ("third_phase", "ligand"):
        if fixed.get(name) is not None:
            system.phase(fixed[name])
    for ion in fixed.get("ion_tables", {}):
        if ion not in system.ions:
            raise ValueError(f"ion_tables: got {ion!r}, wants some of {sorted(system.ions)}")


# ---------------------------------------------------------------- what it makes of the specimen


def _parts(geometry: dict[str, Any], skin: bool, n: int) -> NDArray:
    """Volume fractions of core, shell and skin (3, 2n, 2n, 2n)."""
    geometry = geometry if skin else {**geometry, "skin": 0}
    volume = core_shell_nanocube(2 * n, oversample=3, skin_phase=2, **geometry)
    return volume if len(volume) == 3 else np.concatenate([volume, np.zeros_like(volume[:1])])


def _thickness(recipe: dict[str, Any], system: System, n: int, box_nm: float) -> tuple[NDArray, tuple[str, ...]]:
    """Projected thickness (P, n, n) in nm of all phases, made on a grid twice as fine, and their names."""
    voxel_nm, (first, second) = box_nm / (2 * n), system.channels[:2]
    parts = _parts(recipe["geometry"], recipe["skin"], n)
    composition = {"core": {first: 1.0}, "shell": {second: 1.0}, "skin": {first: 1.0}}
    if recipe["skin_oxidised"]:
        oxidised = _most_oxidised(system)
        composition["skin"] = {first: 1 - recipe["skin_oxidised"], oxidised: recipe["skin_oxidised"]}
    if recipe["mixture"]:
        own, share = composition[recipe["mixture"]], recipe["mixture_fraction"]
        other = first if second in own else second
        mixed = {phase: share * fraction for phase, fraction in own.items()}
        composition[recipe["mixture"]] = {**mixed, other: mixed.get(other, 0.0) + 1 - share}
    volumes = {phase: np.zeros_like(parts[0]) for phase in system.channels}
    for part, phases in zip(parts, composition.values(), strict=True):
        for phase, fraction in phases.items():
            volumes[phase] = volumes.get(phase, 0) + fraction * part
    if recipe["third_phase"]:
        ball = _ball(recipe, 2 * n, box_nm)
        inside = ball * np.minimum(sum(volumes.values()), 1)
        volumes = {phase: volume * (1 - ball) for phase, volume in volumes.items()}
        volumes[recipe["third_phase"]] = volumes.get(recipe["third_phase"], 0) + inside
    if recipe["ligand_nm"]:
        volumes[recipe["ligand"]] = _layer(recipe, 2 * n, box_nm)
    maps = {p: block_reduce(v.sum(axis=1, dtype=float) * voxel_nm, (2, 2), np.mean) for p, v in volumes.items()}
    if recipe["carbon_nm"]:
        maps["carbon"] = np.full((n, n), float(recipe["carbon_nm"]))
    maps = {phase: m for phase, m in maps.items() if phase in system.channels or m.any()}
    return np.stack(list(maps.values())), tuple(maps)


def _most_oxidised(system: System) -> str:
    """The phase of the highest mean valence, the first of several."""
    return max((p for p in system.phases if system.phases[p].ion_fractions), key=system.mean_valence)


def _ball(recipe: dict[str, Any], size: int, box_nm: float) -> NDArray:
    """A sphere in the middle of the shell, on the axis of the core, as fractions of the voxels."""
    outer, inner = (recipe["geometry"].get(name, default) for name, default in (("shell", 0.5), ("core", 0.25)))
    diameter = recipe["third_phase_nm"] / box_nm
    offset = min((outer + inner) / 4, max(outer - diameter, 0) / 2)
    options = {"core": 0, "skin": 0, "void_radius": 0, "rotation_deg": None, "oversample": 3}
    return core_shell_nanocube(size, shape="sphere", shell=diameter, center=(offset, 0, 0), **options)[1]


def _layer(recipe: dict[str, Any], size: int, box_nm: float) -> NDArray:
    """A layer all over the particle, as fractions of the voxels."""
    geometry = recipe["geometry"]
    inner = geometry.get("skin", 86 / 160) if recipe["skin"] else geometry.get("shell", 0.5)
    growth = 2 * recipe["ligand_nm"] / box_nm * (np.sqrt(3) if geometry.get("shape") == "octahedron" else 1)
    outside = {"core": 0, "shell": inner, "skin": min(inner + growth, 1.0), "skin_phase": 2, "void_radius": 0}
    volume = core_shell_nanocube(size, oversample=3, **{**geometry, **outside, "core_center": (0, 0, 0)})
    return volume[2] if len(volume) == 3 else np.zeros_like(volume[0])


def _true_system(recipe: dict[str, Any], system: System) -> System:
    """The system with all departures of a recipe."""
    first = system.channels[0]
    true = system.with_vacancies(first, recipe["vacancies"]) if recipe["vacancies"] else system
    altered = []
    for name, phase in true.phases.items():
        if phase.ion_fractions:  # phases that are no channels go with the second
            altered.append(_altered(phase, {k: recipe[k][0 if name == first else 1] for k in PAIRS}, recipe))
    return replace(true.with_phases(*altered), ions=_true_ions(recipe, true))


def _altered(phase: Phase, of: dict[str, float], recipe: dict[str, Any]) -> Phase:
    """A phase with the edges and valence losses of a recipe."""
    for short, edge in EDGES.items():
        normalisation = recipe["l23_normalisation"] if edge == "L2,3" else 0.0
        changes = {"shift_eV": of[f"{short}_shift_eV"], "fwhm_eV": of[f"{short}_fwhm_eV"]}
        phase = phase.with_edge(edge, normalisation=normalisation, **changes)
    if peaks := phase.edge_change("K").peaks:
        (area, energy, width), *others = peaks
        peaks = ((area * max(of["oxygen_pre_peak"], 1e-9), energy, width), *others)
        phase = phase.with_edge("K", strength=of["oxygen_strength"], peaks=peaks)
    terms = tuple((w, of["plasmon_energy"] * e, of["plasmon_width"] * g) for w, e, g in phase.valence_loss)
    return replace(phase, valence_loss=terms)


def _true_ions(recipe: dict[str, Any], system: System) -> dict[str, Any]:
    """Ions with the strengths of their valence, and measured shapes where there are any."""
    middle = np.mean([system.mean_valence(phase) for phase in system.channels])
    ions = {}
    for name, ion in system.ions.items():
        high = int(ion.valence > middle)
        strengths = {edge: recipe[f"{short}_strength"][high] for short, edge in EDGES.items()}
        tables = {**ion.tables, **recipe["ion_tables"].get(name, {})}
        ions[name] = replace(ion, strengths=strengths, tables=tables)
    return ions
