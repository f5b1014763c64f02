"""Systems from YAML files: those of the package and the user's own, checked on loading."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from ..checks import describe, read_text
from ..doors import checked
from .edges import broaden_shape
from .system import METAL_EDGES, Edge, EdgeChange, Ion, Phase, System, mass_of

__all__ = ["as_system", "load_system", "system_names"]

SURROUNDINGS = "surroundings"
GRAMS_CM3 = 1.66054e-3  # one atomic mass unit per nm³
HEAVIER = 1.25  # most that the stated density and that of the atoms may differ, as a factor
NEAR_EDGE = {
    "M2,3": ("white_line_per_hole", "continuum_eV", "continuum_width_eV", "return_eV"),
    "L2,3": ("white_line_per_hole", "continuum_eV", "continuum_width_eV", "splitting_eV", "return_eV"),
    "K": ("continuum_eV", "continuum_width_eV"),
    "M1": ("fraction", "from_eV"),
}
STANDARDS = {
    "M2,3": {"number": ("onset_eV", "localisation_eV"), "window": ("window_eV", "near_eV"), "pair": ("tail",)},
    "L2,3": {
        "number": ("l3_eV", "calibrated_eV", "splitting_eV", "localisation_eV"),
        "window": ("search_eV", "before_eV", "window_eV", "background_eV"),
    },
    "K": {"number": ("from_eV", "before_eV"), "window": ("window_eV", "continuum_eV")},
}
BACKGROUNDS = {"M2,3": "plasmon_tail", "L2,3": "power_law"}  # names that fits know
DISTANCES = {"L2,3": ("shift_eV", "shift_source"), "K": ("to_l3_eV", "to_l3_source")}


@checked
def system_names() -> list[str]:
    """Names of the systems in the package, for `load_system`."""
    names = (Path(entry.name) for entry in files(__package__).joinpath("systems").iterdir())
    return sorted(name.stem for name in names if name.suffix == ".yml" and name.stem != SURROUNDINGS)


@checked
def load_system(system: str | Path) -> System:
    """A system of phases from a file of the package, or from your own.

    Parameters
    ----------
    system
        ``"iron_oxides"`` or ``"manganese_oxides"``; or the path of a YAML file (``.yml``, ``.yaml``) of the same form.
        Start from a copy of one in the package's folder ``scattering/systems``. Tables of near-edge shapes that it
        names are CSV files (a line of column names after ``#``, energies first) in the same folder, or the package's.

    Raises
    ------
    ValueError
        If there is no such system, or the file is not of this form; the message names the file and the key.

    Examples
    --------
    >>> load_system("manganese_oxides").channels
    ('MnO', 'Mn3O4')
    """
    text = str(system)
    if Path(text).suffix not in (".yml", ".yaml"):
        if text not in system_names():
            raise ValueError(f"system: got {text!r}, wants one of {system_names()} or the path of a .yml file")
        return _packaged(text)
    path = Path(text)
    if not path.is_file():
        raise ValueError(f"system: got {text!r}, wants an existing file, or one of {system_names()}")
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"system: got {path}, cannot read it ({error}), wants text in UTF-8") from None
    return _read(path.stem, path.name, text, path.parent)


@checked
def as_system(system: str | Path | System | None) -> System:
    """Return a system unchanged, or load it by name or path; None: ``"iron_oxides"``."""
    return system if isinstance(system, System) else load_system("iron_oxides" if system is None else system)


@lru_cache
def _packaged(name: str) -> System:
    return _read(name, f"{name}.yml", _text(name), None)


def _text(name: str) -> str:
    return files(__package__).joinpath("systems", f"{name}.yml").read_text(encoding="utf-8")


def _read(name: str, file: str, text: str, folder: Path | None) -> System:
    root = _Node(file, "", _parse(file, text), folder)
    root.only("title", "metal", "anion", "channels", "edges", "ions", "phases")
    metal, anion = root.element("metal"), root.element("anion")
    edges = root.each("edges", lambda node, key: _edge(node, key, metal, anion), tuple(NEAR_EDGE))
    if missing := [edge for edge in NEAR_EDGE if edge not in edges]:
        root.fail("edges", sorted(edges), f"{missing}, too")
    ions = root.each("ions", _ion)
    around = _Node(f"{SURROUNDINGS}.yml", "", _parse(SURROUNDINGS, _text(SURROUNDINGS)), None)
    phases = around.each("phases", lambda node, key: _phase(node, key, metal, ions))
    phases |= root.each("phases", lambda node, key: _phase(node, key, metal, ions))
    channels = root.get("channels")
    if not isinstance(channels, list) or not channels or len(set(map(str, channels))) < len(channels):
        root.fail("channels", channels, "a list of distinct phases")
    for channel in channels:
        if channel not in phases or metal not in phases[channel].atoms_per_nm3:
            root.fail("channels", channel, f"phases of the file that hold {metal}")
    return System(name, root.text("title"), metal, anion, edges, ions, phases, tuple(channels))


def _parse(file: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{file}: got text that is no YAML ({error}), wants a system file") from None


@dataclass(frozen=True)
class _Node:
    """A mapping in a file, with the trail of keys that leads to it."""

    file: str
    trail: str
    content: Any
    folder: Path | None

    def __post_init__(self):
        if not isinstance(self.content, dict):
            raise ValueError(f"{self.file}: {self.trail or 'file'}: got {self.content!r}, wants a mapping")

    def fail(self, key: str, value: Any, wants: str) -> None:
        where = f"{self.trail}.{key}".strip(".")
        raise ValueError(f"{self.file}: {where}: got {describe(value)}, wants {wants}")

    def only(self, *keys: str) -> None:
        for key in self.content:
            if key not in keys:
                self.fail(str(key), self.content[key], f"no such key here, but some of {list(keys)}")

    def get(self, key: str) -> Any:
        if key not in self.content:
            self.fail(key, None, "a value")
        return self.content[key]

    def node(self, key: str) -> _Node:
        return _Node(self.file, f"{self.trail}.{key}".strip("."), self.get(key), self.folder)

    def each(self, key: str, make: Callable[[_Node, str], Any], names: tuple[str, ...] | None = None) -> dict[str, Any]:
        """``{name: make(node, name)}`` of the mappings in a mapping."""
        inner = self.node(key)
        if names:
            inner.only(*names)
        return {str(name): make(inner.node(name), str(name)) for name in inner.content}

    def text(self, key: str) -> str:
        if not isinstance(self.get(key), str):
            self.fail(key, self.get(key), "text")
        return self.content[key]

    def element(self, key: str) -> str:
        return self.known_element(key, self.text(key))

    def known_element(self, key: str, symbol: str) -> str:
        import periodictable

        if symbol not in {element.symbol for element in periodictable.elements}:
            self.fail(key, symbol, "the symbol of an element")
        return symbol

    def number(self, key: str, *, least: float | None = None, default: float | None = None) -> float:
        """A finite number, or a fraction such as ``1/3``; positive, unless it may be as small as ``least``."""
        if default is not None and key not in self.content:
            return default
        value = self.get(key)
        number = _number(value)
        if number is None or (number <= 0 if least is None else number < least):
            self.fail(key, value, "a positive number" if least is None else f"a number of at least {least:g}")
        return number

    def numbers(self, key: str, size: int | None = None) -> tuple[float, ...]:
        value = self.get(key)
        numbers = [_number(entry) for entry in value] if isinstance(value, list) else [None]
        if None in numbers or not numbers or (size is not None and len(numbers) != size):
            self.fail(key, value, f"a list of {size or 'some'} numbers")
        return tuple(numbers)

    def window(self, key: str) -> tuple[float, float] | None:
        if key not in self.content:
            return None
        low, high = self.numbers(key, 2)
        if not 0 < low < high:
            self.fail(key, self.content[key], "two increasing positive energies")
        return low, high

    def terms(self, key: str) -> tuple[tuple[float, float, float], ...]:
        value = self.get(key)
        if not isinstance(value, list) or not all(isinstance(t, list) and len(t) == 3 for t in value):
            self.fail(key, value, "a list of [weight, energy, width]")
        terms = tuple(tuple(map(_number, term)) for term in value)
        if any(x is None or x <= 0 for term in terms for x in term):
            self.fail(key, value, "positive numbers")
        return terms

    def weights(self, key: str) -> dict[str, float]:
        inner = self.node(key)
        return {str(name): inner.number(name) for name in inner.content}


def _number(value: Any) -> float | None:
    """A finite number, also from text such as ``1/3``; None for anything else."""
    try:
        number = float(Fraction(value)) if isinstance(value, str) else float(value)
    except (ValueError, TypeError, ZeroDivisionError):
        return None
    return None if isinstance(value, bool) or not np.isfinite(number) else number


def _edge(node: _Node, name: str, metal: str, anion: str) -> Edge:
    node.only("onset_eV", "signal_eV", "window_eV", "fit_window_eV", "fit_background", "near_edge", "standards")
    near_edge = node.node("near_edge")
    near_edge.only(*NEAR_EDGE[name])
    constants = {key: near_edge.number(key) for key in NEAR_EDGE[name]}
    onset, window, fit = node.number("onset_eV"), node.window("window_eV"), node.window("fit_window_eV")
    if window is None and name != "M1":
        node.fail("window_eV", None, "the window that the signal is counted in")
    if fit is None and name in METAL_EDGES:
        node.fail("fit_window_eV", None, "the window that is fitted")
    if fit and not fit[0] < onset < fit[1]:
        node.fail("fit_window_eV", list(fit), f"a window about the onset at {onset:g} eV")
    element = anion if name == "K" else metal
    standards = _standards(node.node("standards"), name) if "standards" in node.content else {}
    signal, background = node.number("signal_eV"), _background(node, name)
    return Edge(name, element, onset, signal, window, fit, background, constants, standards)


def _background(node: _Node, edge: str) -> str | tuple[float, ...]:
    """The background of a fit; where the file says nothing, the tail of plasmons under M2,3 and a power elsewhere."""
    value = node.content.get("fit_background", BACKGROUNDS["M2,3" if edge == "M2,3" else "L2,3"])
    if isinstance(value, list) and 0 < len(value) < 9 and all(_number(power) is not None for power in value):
        return tuple(map(float, value))
    if value not in BACKGROUNDS.values():
        node.fail("fit_background", value, f"one of {sorted(BACKGROUNDS.values())}, or up to eight exponents")
    return value


def _standards(node: _Node, edge: str) -> dict[str, Any]:
    """What finds reference spectra reads of an edge: all of its keys, but for a distance between edges, which may be
    left out with its source."""
    kinds = STANDARDS.get(edge, {})
    distance = DISTANCES.get(edge, ())
    node.only(*(key for keys in kinds.values() for key in keys), *distance)
    for key in (key for keys in kinds.values() for key in keys):
        node.get(key)
    read = {"number": node.number, "window": node.window, "pair": lambda key: node.numbers(key, 2)}
    values = {key: read[kind](key) for kind, keys in kinds.items() for key in keys}
    if any(key in node.content for key in distance):
        value, source = distance
        values |= {value: node.numbers(value, 2), source: node.text(source)}
    return values


def _ion(node: _Node, name: str) -> Ion:
    node.only("valence", "holes", *METAL_EDGES)
    tables = {edge: _table(node.node(edge), name) for edge in METAL_EDGES}
    return Ion(node.number("valence", least=0.0), node.number("holes", least=0.0), tables)


def _table(node: _Node, ion: str) -> tuple[NDArray, NDArray]:
    """Energies and shape of an ion, shifted and broadened as the file says."""
    node.only("table", "column", "shift_eV", "fwhm_eV")
    column = node.text("column") if "column" in node.content else ion
    energy, shapes = _columns(node)
    if column not in shapes:
        node.fail("column", column, f"one of {sorted(shapes)}")
    shape, fwhm = shapes[column], node.number("fwhm_eV", least=0.0, default=0.0)
    if fwhm:
        shape = broaden_shape(energy, shape, fwhm)
    shift = node.number("shift_eV", least=-np.inf, default=0.0)
    return energy + shift if shift else energy, shape


def _columns(node: _Node) -> tuple[NDArray, dict[str, NDArray]]:
    """Energies and columns of the table that a node names."""
    name = node.text("table")
    own = None if node.folder is None else node.folder / name
    packaged = files(__package__).joinpath("tables", Path(name).name)
    if own is not None and own.is_file():
        try:
            return _read_columns(node, own.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            node.fail("table", name, f"a file that can be read ({error})")
    if not packaged.is_file():
        node.fail("table", name, "a CSV file beside the system file, or one of the package's")
    return _read_columns(node, packaged.read_text(encoding="utf-8"))


def _read_columns(node: _Node, text: str) -> tuple[NDArray, dict[str, NDArray]]:
    header = [line[1:].strip() for line in text.splitlines() if line.startswith("#")]
    names = header[-1].split(",") if header else []
    try:
        table = np.loadtxt(text.splitlines(), delimiter=",", ndmin=2)
    except ValueError:
        table = np.empty((0, 0))
    even = table.shape[0] > 2 and np.ptp(np.diff(table[:, 0])) < 1e-6
    if table.shape[1] != len(names) or not even or not np.isfinite(table).all():
        node.fail("table", node.content["table"], "columns of finite numbers, named after '#', on an even energy axis")
    return table[:, 0], dict(zip((name.strip() for name in names[1:]), table[:, 1:].T, strict=True))


def _phase(node: _Node, name: str, metal: str, ions: Mapping[str, Ion]) -> Phase:
    keys = ("title", "cell", "atoms_per_nm3", "density_g_cm3", "atoms_uncertainty", "metal_range", "vacancies")
    node.only(*keys, "ion_fractions", "valence_loss", "near_edge")
    atoms = {node.known_element("atoms", element): n for element, n in _atoms(node).items()}
    fractions = node.weights("ion_fractions") if metal in atoms else {}
    if fractions and abs(sum(fractions.values()) - 1) > 1e-6:
        node.fail("ion_fractions", fractions, "fractions that add up to 1")
    vacancies = node.node("vacancies") if "vacancies" in node.content else None
    pair = None if vacancies is None else (vacancies.text("from"), vacancies.text("to"))
    expected = (0.0, 0.0)
    if vacancies is not None and "expected" in vacancies.content:
        expected = vacancies.numbers("expected", 2)
    for ion in (*fractions, *(pair or ())):
        if ion not in ions:
            node.fail("ion_fractions" if ion in fractions else "vacancies", ion, f"some of {sorted(ions)}")
    low, high = node.numbers("metal_range", 2) if "metal_range" in node.content else (1.0, 1.0)
    if not 0 < low <= 1 <= high:
        node.fail("metal_range", [low, high], "two factors with 1 between them")
    density, weighs = node.number("density_g_cm3"), mass_of(atoms) * GRAMS_CM3
    if not weighs / HEAVIER < density < weighs * HEAVIER:  # one of the two in another unit, such as a cell in Å
        node.fail("density_g_cm3", density, f"about {weighs:.3g}, which its atoms weigh")
    near_edge = node.each("near_edge", _edge_change, tuple(NEAR_EDGE)) if "near_edge" in node.content else {}
    return Phase(
        name=name,
        title=node.text("title"),
        atoms_per_nm3=atoms,
        density_g_cm3=density,
        ion_fractions=fractions,
        atoms_uncertainty=node.number("atoms_uncertainty", least=0.0, default=0.0),
        metal_range=(low, high),
        vacancies=pair,
        expected_vacancies=expected,
        valence_loss=node.terms("valence_loss"),
        near_edge=near_edge,
    )


def _edge_change(node: _Node, name: str) -> EdgeChange:
    node.only("strength", "shift_eV", "fwhm_eV", "normalisation", "peaks")
    return EdgeChange(
        strength=node.number("strength", default=1.0),
        shift_eV=node.number("shift_eV", least=-np.inf, default=0.0),
        fwhm_eV=node.number("fwhm_eV", least=0.0, default=0.0),
        normalisation=node.number("normalisation", least=0.0, default=0.0),
        peaks=node.terms("peaks") if "peaks" in node.content else (),
    )


def _atoms(node: _Node) -> dict[str, float]:
    """Number densities: as they stand, or from a unit cell."""
    if ("cell" in node.content) == ("atoms_per_nm3" in node.content):
        node.fail("cell", sorted(node.content), "either cell or atoms_per_nm3")
    if "atoms_per_nm3" in node.content:
        return node.weights("atoms_per_nm3")
    cell = node.node("cell")
    cell.only("atoms", "edges_nm", "hexagonal")
    edges = cell.numbers("edges_nm")
    if len(edges) > 2 or min(edges) <= 0:
        cell.fail("edges_nm", list(edges), "one positive edge (cubic) or two (a and c)")
    volume = edges[0] ** 3 if len(edges) == 1 else edges[0] ** 2 * edges[1]
    if cell.content.get("hexagonal"):
        volume *= np.sqrt(3) / 2
    return {element: n / volume for element, n in cell.weights("atoms").items()}
