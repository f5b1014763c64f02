"""What a file holds, what is missing in it, and where it can enter the chain."""

from __future__ import annotations

import html
import json
import numbers
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import data, spectra
from ..checks import check_choice, check_mapping, check_path, check_texts, check_tilts, describe
from ..data.signals import MRC_SUFFIXES, in_order, is_fit, square_pixel_nm, stated_microscope
from ..data.tilts import stage_tilt, tilts_in_names, tilts_of_stack
from ..doors import checked
from ..spectra.arrays import EV_PER
from ..standards import Standards
from .page import figure_png, html_table, page
from .series import kind_of_spectra, state_energies
from .settings import system_of

if TYPE_CHECKING:
    from ..scattering import System

__all__ = ["Inspection", "inspect", "inspection_page", "inspection_table", "write_settings"]

THUMBNAIL = 128  # pixels
BEFORE_EV, DARK_LEVEL = -8.0, 0.05  # from the zero loss; of the counts at the edge
STATED = {  # what settings may state in place of a file
    "tilt_angles_deg": ("tilts", "reconstruct --tilts ..."),
    "Tomography.tilts": ("tilts", "reconstruct --tilts ..."),
    "pixel_size_nm": ("pixel size", "reconstruct -p pixel_size_nm ..."),
}
DETECTOR, EXPOSURE = "Acquisition_instrument.TEM.Detector.EELS", {"exposure": "exposure", "dwell time": "dwell_time"}
IMAGES = (".tif", ".tiff", *MRC_SUFFIXES)  # which hold no spectra


@checked
@dataclass(frozen=True)
class Inspection:
    """What was found in a file.

    Attributes
    ----------
    path : Path
    kind : str
        ``low loss``, ``core loss``, ``spectra``, ``maps``, ``phase fit``, ``standards`` or ``unknown``.
    facts : dict
        By name, as text: shape, axes, tilts, pixel size, microscope, counts, zero loss, ...
    missing : tuple of str
        What the pipeline needs but the file does not state.
    problems : tuple of str
        What is wrong, or looks wrong.
    enters : str
        Step at which the file can enter.
    images : dict of array (Y, X)
        Thumbnails, and a sinogram of a tilt series.
    """

    path: Path
    kind: str
    facts: dict[str, str]
    missing: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    enters: str = ""
    images: dict[str, NDArray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        check_path(self.path)
        check_texts(kind=self.kind, enters=self.enters)
        for name in ("facts", "images"):
            check_mapping(getattr(self, name), name, empty=True)
        for name in ("missing", "problems"):
            told = getattr(self, name)
            if not isinstance(told, (list, tuple)) or not all(isinstance(one, str) for one in told):
                raise ValueError(f"{name}: got {describe(told)}, wants a tuple of texts")


@checked
def inspect(path: str | Path, system: str = "iron_oxides", energy_unit: str | None = None) -> Inspection:
    """Examine a file without changing it or keeping it open.

    Parameters
    ----------
    path : path
        Spectra, maps, a fit, or standards, in any format that `data` reads.
    system : str
        Whose edges are looked for.
    energy_unit : {"eV", "keV", "meV"}, optional
        Of an energy axis that states none.

    Raises
    ------
    ValueError
        If there is no such file. A file that cannot be read is an `Inspection` of kind ``unknown``.
    """
    path, known = check_path(path), system_of(system)
    if energy_unit is not None:
        check_choice(energy_unit, "energy_unit", EV_PER)
    if not os.path.exists(path):  # of a name that is too long too
        raise ValueError(f"path: got {path}, which does not exist, wants a file")
    try:
        if path.suffix.lower() == ".npz":
            return _inspect_archive(path)
        folder = path.is_dir() and path.suffix.lower() not in data.TILT_SERIES_SUFFIXES
        if folder or path.suffix.lower() in IMAGES:
            return _inspect_maps(path)
        signal = data.read_signal(path, lazy=path.suffix.lower() in (".hspy", ".zspy"))
        if is_fit(signal) or signal.axes_manager.signal_dimension != 1:
            if path.suffix.lower() not in data.TILT_SERIES_SUFFIXES:
                raise ValueError(f"path: got shape {signal.data.shape} in {path.name}, wants spectra")
            return _inspect_maps(path)
        signal = in_order(signal)
        told = state_energies(signal, "path", known, energy_unit)
        found = _inspect_spectra(path, signal, known)
        return replace(found, problems=(*found.problems, *told))
    except ValueError as error:
        return Inspection(path, "unknown", {}, problems=(str(error),), enters="nowhere")


def _inspect_archive(path):
    try:
        found = Standards.load(path)
    except ValueError:
        return _inspect_maps(path)
    energy = found.energy_eV
    facts = {
        "phases": f"{', '.join(found.phases)} ({found.system})",
        "energies": f"{energy[0]:g} to {energy[-1]:g} eV, {energy.size} channels",
        "samples of the references": str(len(found.samples)),
    }
    return Inspection(path, "standards", facts, problems=found.warnings, enters="chapter 3; reconstruct --standards")


def _inspect_maps(path):
    try:
        series = data.read_tilt_series(path)
    except ValueError as error:
        told, said = (str(error),), str(error).partition(":")[0]
        if said not in STATED:
            return Inspection(path, "unknown", {}, problems=told, enters="nowhere")
        missing, enters = STATED[said]
        if missing == "tilts" and not path.is_dir() and tilts_in_names([path], explicit=True) is not None:
            told = (*told, "its name states one angle: of maps with a file for each tilt, give the folder")
        return Inspection(path, "maps", {}, missing=(missing,), problems=told, enters=enters)
    values = series.projections
    errors = "covariance of the channels" if series.covariance is not None else "none"
    errors = "variance" if errors == "none" and series.variance is not None else errors
    facts = {
        "shape (C, T, Y, X)": " × ".join(map(str, values.shape)),
        "channels": ", ".join(series.channels),
        "tilts": _tilts_text(series.tilt_angles_deg),
        "pixel size": f"{series.pixel_size_nm:g} nm" if series.pixel_size_nm else "not stated",
        "unit": series.unit or "not stated",
        "errors": errors,
        "values": f"{np.nanmin(values):.3g} to {np.nanmax(values):.3g}" if np.isfinite(values).any() else "none finite",
    }
    missing = [] if series.pixel_size_nm else ["pixel size"]
    missing += (
        [] if errors != "none" else ["errors of the values: they will be estimated, independent between channels"]
    )
    middle = int(np.argmin(np.abs(series.tilt_angles_deg)))
    images = {
        f"{c}, {series.tilt_angles_deg[middle]:g}°": v[middle] for c, v in zip(series.channels, values, strict=True)
    }
    images["sinogram"] = np.nan_to_num(values).sum(axis=(0, 2))
    return Inspection(path, "maps", facts, tuple(missing), enters="chapter 5; reconstruct", images=images)


def _inspect_spectra(path, signal, system):
    energy = spectra.energy_axis(signal)
    counts, stated = signal.data, stated_microscope(signal)
    has_zero = energy[0] < -2 and energy[-1] > 5
    kind = kind_of_spectra(energy, system)
    tilts, wrong = _tilts_of(path, signal, kind)
    size, uneven = None, []
    try:
        size = square_pixel_nm(signal)
    except ValueError as error:
        uneven = [str(error)]
    facts = {
        "shape": " × ".join(map(str, counts.shape)) + " (energy last)",
        "energies": f"{energy[0]:g} to {energy[-1]:g} eV, {energy[1] - energy[0]:g} eV per channel",
        "tilts": "not stated" if tilts is None else _tilts_text(tilts),
        "pixel size": f"{size:g} nm" if size else "not stated",
    }
    facts |= {name.replace("_", " "): f"{value:g}" for name, value in stated.items()}
    facts |= _exposure(signal)
    told, problems = _count_facts(counts, energy, has_zero, system)
    problems += wrong + uneven
    missing = [name.replace("_", " ") for name in ("beam_energy_keV", "collection_mrad") if name not in stated]
    missing += ["pixel size"] * (not (size or uneven)) + ["tilts"] * (tilts is None)
    enters = {
        "low loss": "chapter 2 (low_loss_path), chapter 3; reconstruct LOW",
        "core loss": "chapter 2; reconstruct --core",
    }.get(kind, "nowhere: it holds no edge of the system")
    image = np.asarray(counts.sum(axis=-1))
    images = {"sum over energy": _middle(image)} if image.ndim > 1 else {}
    if image.ndim == 3:
        images["sinogram"] = image.sum(axis=1)
    return Inspection(path, kind, facts | told, tuple(missing), tuple(problems), enters, images)


def _exposure(signal):
    """Seconds that a spectrum was exposed for, where the metadata state them."""
    found = {name: signal.metadata.get_item(f"{DETECTOR}.{key}", default=None) for name, key in EXPOSURE.items()}
    known = {name: value for name, value in found.items() if isinstance(value, numbers.Real) and value > 0}
    return {name: f"{value:g} s" for name, value in known.items()}


def _tilts_of(path, signal, kind):
    """Angles of a stack, or the one angle of a single image, in its metadata, beside it or in its name.

    And why `reconstruct` would refuse those of a stack; a core loss may hold some of a series.
    """
    if signal.data.ndim < 4:
        one = stage_tilt(signal)
        return (tilts_in_names([path]) if one is None else np.array([one])), []
    try:
        tilts = tilts_of_stack(path, data.get_tilts(signal))
        return tilts if tilts is None else check_tilts(tilts, len(signal.data), series=kind != "core loss"), []
    except ValueError as error:
        return None, [str(error)]


def _count_facts(counts: Any, energy: NDArray, has_zero: bool, system: System) -> tuple[dict[str, str], list[str]]:
    """What the values look like, and what of that is wrong; of at most some thousand spectra."""
    flat = counts.reshape(-1, counts.shape[-1])
    part = np.asarray(flat[:: max(1, len(flat) // 4096)], float)
    problems = []
    if not np.isfinite(part).all():
        problems.append("NaN or infinite values")
    part = np.nan_to_num(part)
    whole, top = not (part % 1).any(), part.max()
    facts = {"values": f"{part.min():.3g} to {top:.3g}, {'whole' if whole else 'fractions of'} counts"}
    facts["counts per spectrum"] = f"{part.sum(axis=-1).mean():.3g}"
    if part.min() < 0:
        problems.append(f"negative counts, {np.mean(part < 0):.0%} of the values: a dark reference was subtracted")
    if cut_off := spectra.cut_off_fraction(part):
        problems.append(f"{cut_off:.0%} of the spectra are cut off at {top:g}: saturated?")
    if has_zero:
        at = spectra.zero_loss_position(part, energy)
        facts["zero loss at"] = f"{np.median(at):z.2f} eV ({at.min():z.2f} to {at.max():z.2f})"
        problems += _dark_level(part, energy - np.median(at), system)
        try:
            thickness = spectra.relative_thickness(spectra.shift_spectra(part, -at, energy, method="nearest"), energy)
        except ValueError as error:
            return facts, [*problems, f"no thickness ({error})"]
        most = thickness[np.isfinite(thickness)].max(initial=0.0)
        facts["thickness t/λ"] = f"up to {most:.2f}"
        if most > 1.5:
            problems.append(f"t/λ reaches {most:.1f}: plural scattering is strong")
    return facts, problems


def _dark_level(counts, energy, system):
    """What is wrong if counts before the zero loss are not few against those at M2,3."""
    before = counts[:, energy < BEFORE_EV]
    at_edge = counts[:, spectra.in_window(energy, system.edge("M2,3").fit_window_eV)]
    fraction = before.mean() / max(at_edge.mean(), 1e-12) if before.size and at_edge.size else 0.0
    if fraction < DARK_LEVEL:
        return []
    return [
        f"{before.mean():.3g} counts per channel before the zero loss, {fraction:.0%} of those at M2,3: the dark level "
        "was not subtracted, or the zero loss has a long tail"
    ]


def _tilts_text(tilts: NDArray) -> str:
    return f"{len(tilts)}, {np.min(tilts):g}° to {np.max(tilts):g}°" if len(tilts) > 1 else f"{tilts[0]:g}°"


def _middle(image: NDArray) -> NDArray:
    return image[len(image) // 2] if image.ndim > 2 else image


@checked
def inspection_table(found: Iterable[Inspection]) -> str:
    """What files contain, as text: a block for the first of each kind, and a line for each other, what differs."""
    first: dict[str, Inspection] = {}
    lines = []
    for one in _inspections(found):
        like = first.setdefault(one.kind, one)
        facts = {"kind": one.kind, **one.facts, "enters at": one.enters}
        known = {"kind": like.kind, **like.facts, "enters at": like.enters} if like is not one else {}
        new = {name: value for name, value in facts.items() if known.get(name) != value}
        if like is one:
            lines += [one.path.name, *(f"  {name:22} {value}" for name, value in new.items())]
        else:
            but = "; ".join(f"{name} {value}" for name, value in new.items())
            lines.append(f"{one.path.name}: {one.kind}, as {like.path.name}" + f" but for {but}" * bool(but))
        lines += [f"  {'missing':22} {', '.join(one.missing)}"] if one.missing else []
        lines += [f"  {'look at':22} {problem}" for problem in one.problems]
    return "\n".join(lines)


def _inspections(found):
    """What was found, as a list; ValueError for anything else."""
    found = list(found) if isinstance(found, Iterable) else [found]
    for one in found:
        if not isinstance(one, Inspection):
            raise ValueError(f"found: got {describe(one)}, wants what inspect returns")
    return found


@checked
def inspection_page(found: Iterable[Inspection]) -> str:
    """What files contain, as a self-contained HTML page with thumbnails."""
    return page("Files", "".join(inspection_section(one) for one in _inspections(found)))


def inspection_section(found: Inspection) -> str:
    """One file as a section of a page."""
    parts = [
        f"<h2>{html.escape(found.path.name)}</h2>",
        f"<p><b>{found.kind}</b>; enters at {html.escape(found.enters)}.</p>",
    ]
    parts.append(html_table([{"": name, " ": value} for name, value in found.facts.items()]))
    for title, items in (("Missing", found.missing), ("Look at", found.problems)):
        if items:
            parts.append(f'<p class="warning"><b>{title}:</b> ' + "; ".join(map(html.escape, items)) + "</p>")
    if found.images:
        parts.append(figure_png(_thumbnails(found.images), f"Images in {found.path.name}"))
    return "".join(parts)


def _thumbnails(images: dict[str, NDArray]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6 * len(images), 2.6), layout="constrained")
    for ax, (name, image) in zip(np.atleast_1d(figure.subplots(1, len(images))), images.items(), strict=True):
        step = max(1, max(image.shape) // THUMBNAIL)
        ax.imshow(image[::step, ::step], cmap="magma", aspect="auto" if name == "sinogram" else "equal")
        ax.set_title(name, fontsize=9)
        ax.set(xticks=[], yticks=[])
    return figure


@checked
def write_settings(found: Iterable[Inspection], path: str | Path, system: str = "iron_oxides") -> None:
    """Write a YAML file for `Settings.from_file`: what the files state is filled in, the rest is left to fill in.

    Raises
    ------
    ValueError
        If none of the files can enter, ``path`` exists already, or there is no such system.
    """
    found, path = _inspections(found), check_path(path)
    system_of(system)
    if path.exists() or not path.absolute().parent.is_dir():
        raise ValueError(f"path: got {path}, wants a new file in a folder that exists")
    low, core = ([one for one in found if one.kind == kind] for kind in ("low loss", "core loss"))
    maps = [one for one in found if one.kind == "maps"]
    references = [one for one in found if one.kind == "standards"]
    if not low and not maps:
        raise ValueError(
            "found: got neither low loss nor maps, wants the spectra over M2,3 with their zero loss, or maps"
        )
    lines = ["# Settings of `python -m softeels_utils reconstruct FILE.yml`; paths start from this file's folder."]
    for name, files in (("low_loss", low), ("core_loss", core)):
        if files and low:
            lines += [f"{name}:", *(f"  - {_from(path, one.path)}" for one in files)]
    for name, files, enter in (("maps", maps, not low), ("standards", references, bool(low))):
        for k, one in enumerate(files):  # one file of each can enter: others are comments
            lines.append(("" if enter and k == 0 else "# ") + f"{name}: {_from(path, one.path)}")
    entered = low or maps[:1]
    files, say = ("the files", "say") if len(entered) > 1 else ("the file", "says")
    for setting, name in (
        ("pixel_size_nm", "pixel size"), ("tilt_angles_deg", "tilts"), ("beam_energy_keV", "beam energy keV"),
        ("collection_mrad", "collection mrad"), ("convergence_mrad", "convergence mrad"),
    ):  # fmt: skip
        stated = [None if name in one.missing else one.facts.get(name) for one in entered]
        known = not {None, "not stated"} & set(stated)
        lines.append(
            f"# {setting}:   # " + (f"{files} {say} {', '.join(dict.fromkeys(stated))}" if known else f"not in {files}")
        )
    lines += [f"system: {json.dumps(system)}", "preset: quick   # or full", "seed: 0", "output: softeels_output", ""]
    path.write_text("\n".join(lines), encoding="utf-8")


def _from(settings: Path, file: Path) -> str:
    """A path as the settings file writes it: in quotes, as names may hold what YAML takes for its own."""
    whole, folder = file.absolute(), settings.absolute().parent
    return json.dumps(str(whole.relative_to(folder) if whole.is_relative_to(folder) else whole), ensure_ascii=False)
