"""What a reconstruction is made of and how: one dataclass, from the command line or a small YAML file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from ..checks import (
    check_choice,
    check_file,
    check_number,
    check_path,
    check_positive,
    check_seed,
    check_text,
    check_tilts,
    describe,
    named,
    read_text,
)
from ..data.signals import matching
from ..data.tilts import angles_in_text
from ..dip.head import HEADS
from ..doors import checked
from ..scattering import System, load_system
from ..spectra.arrays import EV_PER

__all__ = ["Settings", "check_plausible", "expand", "plain_yaml", "system_of"]

PRESETS = {
    "quick": {"members": 4, "reference_members": 2},
    "full": {"members": 8, "reference_members": 4},
}
PLAUSIBLE = {  # beyond, the unit is another one
    "pixel_size_nm": (1e-3, 1e4),
    "beam_energy_keV": (10.0, 3e3),
    "convergence_mrad": (0.0, 500.0),
    "collection_mrad": (0.1, 500.0),
}
COUNTS = {"members": (2, 1000), "reference_members": (0, 1000), "iterations": (1, 10**6), "workers": (1, 1000)}
SERIES = ("low_loss", "core_loss")
PATHS = ("low_loss", "core_loss", "maps", "standards", "standards_low_loss", "standards_core_loss", "output")


def system_of(system: str) -> System:
    """The system of that name, or in that file; ValueError naming ``system`` or the file."""
    try:
        return load_system(check_text(system, "system"))
    except ValueError as error:
        if str(error).startswith(("system: ", f"{Path(str(system)).name}: ")):
            raise
        raise ValueError(f"system: got {system}, which cannot be read ({error}), wants a system file") from None


def check_plausible(**values: float | None) -> None:
    """Refuse sizes, energies and angles that can only be in another unit (keV, nm, mrad); None is not known.

    Examples
    --------
    >>> check_plausible(beam_energy_keV=300e3)
    Traceback (most recent call last):
        ...
    ValueError: beam_energy_keV: got 300000.0, wants a number from 10 to 3000
    """
    for name, value in values.items():
        if value is not None:
            check_number(value, name, *PLAUSIBLE[name])


@checked
def expand(patterns: str | Path | Iterable[Any], folder: Path | None = None, name: str = "path") -> tuple[Path]:
    """Files that match paths and patterns (``tilt_*.hspy``), in the order given; those of one pattern in the order of
    their numbers.

    Parameters
    ----------
    patterns
    folder : path, optional
        Where relative paths start; by default the working directory.
    name : str
        What error messages call them.

    Raises
    ------
    ValueError
        If there is no such file.
    """
    found: list[Path] = []
    check_text(name, "name")
    folder = Path.cwd() if folder is None else check_path(folder, "folder")
    if not isinstance(patterns, (str, Path, Iterable)):
        raise ValueError(f"{name}: got {describe(patterns)}, wants paths or patterns")
    for pattern in [patterns] if isinstance(patterns, (str, Path)) else patterns:
        given = check_path(pattern, name)
        try:
            paths = [folder / given] if (folder / given).exists() else matching(folder / given)
            lost = [path.name for path in paths if not path.exists()]
        except (OSError, ValueError):  # of what can be no name
            paths, lost = [], []
        if lost or not paths:
            got = f"{lost[0]}, a link that leads nowhere" if lost else f"{str(pattern)!r}, which does not exist"
            raise ValueError(f"{name}: got {got}, wants files")
        found += [path.absolute() for path in paths]
    meant = [os.path.realpath(path) for path in found]
    if len(set(meant)) < len(meant):
        twice = next(path for path, file in zip(found, meant, strict=True) if meant.count(file) > 1)
        raise ValueError(f"{name}: got {twice.name} twice, wants each file once")
    return tuple(found)


def _exists(path):
    """Whether there is such a file; not, where the text is too long to be a path (a list of tilts)."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


@checked
@dataclass(frozen=True)
class Settings:
    """What is reconstructed, and how.

    Attributes
    ----------
    low_loss, core_loss : tuple of Path
        Dual-EELS spectra, one file per tilt or one stack. The core loss may cover only some of the tilts.
    maps : Path or None
        Instead of spectra: maps over tilt, or a fit as in chapter 3; or a folder with one file of maps per tilt.
    standards : Path or None
        Reference spectra (``.npz``, `Standards.save`); if None, they are extracted from low loss and core loss.
    standards_low_loss, standards_core_loss : Path or None
        Dual EELS of one image of the specimen at higher fluence, from which to extract the standards.
    system : str
        Name of a system of phases, or its YAML file.
    tilt_angles_deg : tuple of float or None
        For a stack, instead of those in the file; for files with one tilt each, in their order and within a degree of
        the tilts in their metadata or names, if any. A core loss with another number of tilts must state its own.
    pixel_size_nm, beam_energy_keV, convergence_mrad, collection_mrad : float or None
        Instead of what the metadata say.
    energy_unit : {"eV", "keV", "meV"} or None
        Of energy axes that state no unit of energy; None: eV if the values clearly are in eV.
    gain : float or None
        Counts per electron; None: 1 if the values are whole numbers, otherwise estimated from the noise.
    exposure_ratio : float or None
        Electrons of the core loss over those of the low loss; None: that of the exposure times in the metadata of both,
        else 1.
    align : bool
        Find shifts between tilts and the angle of the tilt axis, from the low loss (or the maps).
    head : {"fractions", "nonnegative"}
        Volume fractions, or any non-negative values.
    calibrated : bool
        Take the scale of the maps (nm) as exact. By default the value of a pure voxel is learned, so that an error in
        the cross-section does not matter.
    preset : {"quick", "full"}
        Sets ``members`` and ``reference_members`` where they are None.
    members, reference_members : int or None
        Of the ensemble: with other noise and networks; with other references, two for each mode of their errors.
    iterations : int or None
        Of each network; None: as many as it needs.
    seed : int
    workers : int or None
        Local processes; None: one per core, at most 8.
    half_dose : bool
        Reconstruct from each half of the counts, for the FSC.
    audit : bool
        Test every void, film, skin and island of the volume against the data.
    output : Path
    """

    low_loss: tuple[Path, ...] = ()
    core_loss: tuple[Path, ...] = ()
    maps: Path | None = None
    standards: Path | None = None
    standards_low_loss: Path | None = None
    standards_core_loss: Path | None = None
    system: str = "iron_oxides"
    tilt_angles_deg: tuple[float, ...] | None = None
    pixel_size_nm: float | None = None
    beam_energy_keV: float | None = None
    convergence_mrad: float | None = None
    collection_mrad: float | None = None
    energy_unit: str | None = None
    gain: float | None = None
    exposure_ratio: float | None = None
    align: bool = True
    head: str = "fractions"
    calibrated: bool = False
    preset: str = "quick"
    members: int | None = None
    reference_members: int | None = None
    iterations: int | None = None
    seed: int = 0
    workers: int | None = None
    half_dose: bool = True
    audit: bool = True
    output: Path = Path("softeels_output")

    def __post_init__(self) -> None:
        """Check each setting by itself; `ValueError` names it, what it got and what it wants."""
        check_plausible(**{name: getattr(self, name) for name in PLAUSIBLE})
        given = {name: self[name] for name in ("exposure_ratio", "gain")}
        check_positive(**{name: value for name, value in given.items() if value is not None})
        for name, (least, most) in COUNTS.items():
            value = getattr(self, name)
            if value is not None and (type(value) is not int or not least <= value <= most):
                raise ValueError(f"{name}: got {value!r}, wants a whole number of {least} to {most}")
        check_seed(self.seed)
        for name in ("align", "calibrated", "half_dose", "audit"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}: got {getattr(self, name)!r}, wants true or false")
        if self.energy_unit is not None:
            check_choice(self.energy_unit, "energy_unit", EV_PER)
        for name, known in (("head", HEADS), ("preset", tuple(PRESETS))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: got {getattr(self, name)!r}, wants one of {', '.join(known)}")
        if self.calibrated and self.head != "fractions":
            raise ValueError("calibrated: got true with head: nonnegative, wants false (no fractions)")
        if self.tilt_angles_deg is not None:
            check_tilts(self.tilt_angles_deg)
        system_of(self.system)
        self._check_paths()
        self._check_inputs()

    def _check_paths(self):
        for name in PATHS:
            value = getattr(self, name)
            if name in SERIES and not isinstance(value, (list, tuple)):
                raise ValueError(f"{name}: got {describe(value)}, wants a sequence of paths")
            for path in value if name in SERIES else [] if value is None else [value]:
                check_path(path, name)

    def _check_inputs(self):
        if bool(self.low_loss) == bool(self.maps):
            got = "low loss and maps" if self.maps else "neither low loss nor maps"
            raise ValueError(f"low_loss: got {got}, wants one of them")
        pair = (self.standards_low_loss, self.standards_core_loss)
        if any(pair) and not all(pair):
            missing = "standards_low_loss" if pair[0] is None else "standards_core_loss"
            raise ValueError(f"{missing}: got None beside the other, wants both of one image")
        if self.low_loss and not (self.core_loss or self.standards or all(pair)):
            raise ValueError(
                "standards: got none and no core loss, wants the core loss of the same pixels (--core), or reference "
                "spectra (--standards)"
            )
        if self.maps and (self.core_loss or self.standards or any(pair)):
            raise ValueError("maps: got maps with spectra or standards, wants maps alone")

    def __getitem__(self, name: str) -> Any:
        """A setting; of ``members`` and ``reference_members`` what the preset says where they are None."""
        value = getattr(self, name)
        return PRESETS[self.preset].get(name) if value is None and name in PRESETS[self.preset] else value

    @classmethod
    def build(cls, values: Mapping[str, Any]) -> Settings:
        """Settings from plain values; relative paths and patterns start from the working directory.

        Raises
        ------
        ValueError
            For a name that is not a setting, a path that does not exist, or a value that the class refuses.
        """
        return cls(**_resolved(values, Path.cwd()))

    @classmethod
    def from_file(cls, path: str | Path, changes: Mapping[str, Any] | None = None) -> Settings:
        """Settings from a YAML file, whose relative paths start from its own folder; ``changes``, as for `build`,
        override them.

        Raises
        ------
        ValueError
            Naming ``path`` or the setting.
        """
        path = check_file(path, None)
        try:
            values = plain_yaml(read_text(path))
        except (OSError, ValueError) as error:
            raise ValueError(f"path: got {path.name}, wants a YAML file of settings ({error})") from error
        if not isinstance(values, dict):
            raise ValueError(f"path: got {path.name}, wants a YAML file of settings: 'name: value' in each line")
        return cls(**_resolved(values, path.absolute().parent) | _resolved(changes or {}, Path.cwd()))


@checked
def plain_yaml(text: str) -> Any:
    """Read a value, or settings, from YAML; duplicate keys and aliases are refused, numbers are decimal.

    Raises
    ------
    ValueError
        For text that is not such YAML.

    Examples
    --------
    >>> plain_yaml("[-060, 4e-1]")  # of plain YAML, -48 and a text
    [-60, 0.4]
    """
    if not isinstance(text, str):
        raise ValueError(f"text: got {describe(text)}, wants text")
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(str(error)) from None


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"*{self.peek_event().anchor} is an alias")
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.YAMLError(f"{twice} stands twice")
        return super().construct_mapping(node, deep)


_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))
_Loader.add_constructor("tag:yaml.org,2002:float", lambda _, node: float(re.sub(r"\.(?=[a-zA-Z])", "", node.value)))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _resolved(values, folder):
    """Plain values as the arguments of `Settings`: paths from a folder, patterns expanded, tilts as numbers."""
    if not isinstance(values, Mapping):
        raise ValueError(f"settings: got {describe(values)}, wants a mapping of names to values")
    known = {field.name for field in fields(Settings)}
    unknown = sorted(map(str, set(values) - known))
    if unknown:
        raise ValueError(f"settings: got {', '.join(unknown)}, wants some of {', '.join(sorted(known))}")
    chosen = {name: value for name, value in values.items() if value is not None}
    for name in PATHS:
        if name not in chosen:
            continue
        if not _are_paths(chosen[name], many=name in SERIES):
            raise ValueError(f"{name}: got {chosen[name]!r}, wants a path" + " or a list of paths" * (name in SERIES))
        if name == "output":
            chosen[name] = folder / Path(chosen[name]).expanduser()
        else:
            files = expand(chosen[name], folder, name)
            if name not in SERIES and len(files) > 1:
                raise ValueError(f"{name}: got {len(files)} files ({files[0].name}, {files[1].name}, ...), wants one")
            chosen[name] = files if name in SERIES else files[0]
    if Path(str(chosen.get("system", ""))).suffix in (".yml", ".yaml"):
        chosen["system"] = str(folder / Path(chosen["system"]).expanduser())
    if "tilt_angles_deg" in chosen:
        chosen["tilt_angles_deg"] = _tilts(chosen["tilt_angles_deg"], folder)
    return chosen


def _are_paths(value, many):
    if isinstance(value, (str, Path)):
        return bool(str(value).strip())
    return many and isinstance(value, (list, tuple)) and bool(value) and all(_are_paths(one, False) for one in value)


def _tilts(values, folder):
    """Tilts as numbers; of text, as it is or in a file, as `angles_in_text` finds them."""
    if isinstance(values, (str, Path)):
        path, text = folder / Path(values).expanduser(), str(values)
        if _exists(path):
            with named("tilt_angles_deg"):
                check_file(path, None)
            try:
                text = read_text(path)
            except (OSError, ValueError) as error:
                raise ValueError(f"tilt_angles_deg: got {path.name}, wants a text file of angles ({error})") from None
        values = angles_in_text(text, f" in {path.name}" if _exists(path) else "")
    try:
        if any(isinstance(value, bool) for value in values):
            raise TypeError
        numbers_found = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise ValueError(f"tilt_angles_deg: got {values!r}, wants numbers") from None
    return tuple(check_tilts(numbers_found).tolist())
