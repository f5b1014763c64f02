"""What goes into the chain: spectra over tilt, cleaned; maps over tilt, ready for a measurement."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import data, spectra
from ..checks import (
    LARGEST,
    check_count,
    check_kind,
    check_mask,
    check_names,
    check_number,
    check_positive,
    check_text,
    check_tilts,
    named,
    real_array,
)
from ..data.signals import (
    UNEVEN,
    array_axes,
    in_ev,
    in_order,
    set_microscope,
    set_pixel_size,
    square_pixel_nm,
    stated_microscope,
)
from ..data.tilts import replaces_tilts, stage_tilt, tilts_in_names, tilts_of_stack
from ..doors import checked
from ..fitting import PhaseFit, ReferenceDraws
from ..scattering import System, load_system
from ..scattering.microscope import MICROSCOPE_KEYS
from ..spectra.arrays import EV_PER, NM_PER, is_dask
from ..standards import Standards
from ..tomography import Measurement, ParallelBeam
from .settings import Settings, check_plausible

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal

__all__ = [
    "Maps",
    "check_counts",
    "clean_low_loss",
    "energy_residuals",
    "fine_enough",
    "kind_of_spectra",
    "level_dual",
    "noise_gain_of",
    "on_axis",
    "read_image",
    "read_maps",
    "read_spectra",
    "remarks",
    "state_energies",
    "stated_gain",
    "tilt_table",
]

UNSTATED = ("", "<undefined>", "undefined", "none", "unknown")  # units that say nothing
LEAST_MODE = 0.1  # of the largest: below, a mode of the references' errors is left out
FAR_GAIN = 1.5  # ratio of gains
REPLACED_TILTS = "tilts as given, in place of those in the file"
SPIKES_ABOVE_EV = 10.0  # the zero-loss peak itself is as sharp as a spike
LOOKED_AT_BYTES = 2**30  # of the spectra, before the work
AT_ZERO_EV = 3.0  # of the zero loss, where its axis has no unit
FEWEST_CHANNELS = 16  # over an edge
COUNTED_FROM = 10.0  # at most, where an axis counts channels


def read_spectra(paths: tuple[Path, ...], settings: Settings, name: str, *, lazy: bool = False) -> BaseSignal:
    """Spectra (T, Y, X, E) of a stack, or of one file per tilt, with what the settings say in place of the metadata.

    Raises
    ------
    ValueError
        Naming the input, for spectra that are no series, or tilts that are not known.
    """
    with named(name), named(name, "paths"):
        if len(paths) == 1:
            signal, told = _of_one_file(paths[0], settings, name, lazy)
        else:
            given, whole = _given_tilts(settings, name, len(paths)), name == "low_loss"
            known = {
                "tilt_angles_deg": given,
                "pixel_size_nm": settings.pixel_size_nm,
                "microscope": _microscope(settings),
            }
            signal, told = data.read_spectrum_series(paths, **known, whole=whole, lazy=lazy), []
    told += _replaced_pixels(signal.metadata.get_item("Tomography.stated_pixels_nm", default=[]), settings)
    return _checked(signal, settings, name, lazy, told)


def read_image(path: Path, settings: Settings, name: str, *, lazy: bool = False) -> BaseSignal:
    """Spectra of one image, as `read_spectra` those of a series."""
    with named(name):
        signal = data.read_signal(path, lazy=lazy)
    return _checked(signal, settings, name, lazy, [])


def _checked(signal, settings, name, lazy, told):
    """Spectra whose pixels, microscope, energies and values make sense, with what is to be told of them."""
    set_microscope(signal, _microscope(settings))
    check_plausible(pixel_size_nm=square_pixel_nm(signal), **stated_microscope(signal))
    told += state_energies(signal, name, load_system(settings.system), settings.energy_unit)
    signal.metadata.set_item("Tomography.remarks", [f"{name}: {line}" for line in told])
    if not lazy:
        check_counts(signal, name)
    return signal


def _microscope(settings):
    return {name: settings[name] for name in MICROSCOPE_KEYS if settings[name] is not None}


def _replaced_pixels(stated, settings):
    """What to tell of a pixel size that is given in place of others."""
    given = settings.pixel_size_nm
    if given is None or not any(abs(size / given - 1) > UNEVEN for size in stated):
        return []
    said = " to ".join(f"{size:g}" for size in sorted({min(stated), max(stated)}))
    return [f"pixels of {given:g} nm, as given in place of {said} nm"]


def state_energies(signal: BaseSignal, name: str, system: System, unit: str | None = None) -> list[str]:
    """Give the energy axis of spectra its unit, where it states none of energy; return what is to be told of that.

    Without ``unit``, an axis that states none at all is taken to be in eV where it plainly is: it covers an edge of the
    system with many channels, and of a low loss the zero loss is at 0.

    Raises
    ------
    ValueError
        Naming the input: spectra of X-rays or light, a unit that is not known, or energies that do not rise in even
        steps.
    """
    axes = signal.axes_manager.signal_axes
    kind = str(signal.metadata.get_item("Signal.signal_type", default=""))
    if kind.startswith("EDS"):
        raise ValueError(f"{name}: got spectra of X-rays ({kind}), wants energy losses of electrons (EELS)")
    stated = str(axes[0].units) if len(axes) == 1 else "eV"  # of other numbers of axes `energy_axis` tells
    none, told = stated.lower() in UNSTATED, []
    if stated not in EV_PER:
        if unit is not None:
            told = [] if none else [f"energies in {unit}, as given in place of {stated}"]
        elif none and _plainly_ev(signal, system):
            unit, told = "eV", ["the energies have no unit, and are taken to be in eV"]
        else:
            if stated in NM_PER:
                raise ValueError(f"{name}: got spectra over wavelength (in {stated}), wants energy losses (EELS)")
            got = "without a unit" if none else f"in {stated}"
            raise ValueError(f"{name}: got an energy axis {got}, wants eV, keV or meV: set energy_unit")
        in_ev(axes[0], unit)
    spectra.energy_axis(signal, name=name, of=name)
    return told


def _plainly_ev(signal, system):
    """Whether the energies of spectra can only be in eV."""
    energy = signal.axes_manager.signal_axes[0].axis
    kind = kind_of_spectra(energy, system)
    if kind != "low loss":
        return kind == "core loss" and energy[0] > COUNTED_FROM
    image = np.asarray(signal.data[len(signal.data) // 2] if signal.data.ndim > 2 else signal.data, float)
    summed = np.nan_to_num(image.reshape(-1, energy.size)).sum(axis=0)
    return abs(energy[summed.argmax()]) < AT_ZERO_EV


def kind_of_spectra(energy: NDArray, system: System) -> str:
    """``low loss``, ``core loss``, or ``spectra`` of neither, by the edges that the energies (E,) cover."""
    soft, hard = system.edge("M2,3"), system.edge("L2,3")
    if energy[0] < -2 and energy[-1] > soft.fit_window_eV[1] and fine_enough(energy, soft.fit_window_eV):
        return "low loss"
    window = hard.onset_eV - 15, hard.onset_eV + 40
    if energy[0] < window[0] and energy[-1] > window[1] and fine_enough(energy, window):
        return "core loss"
    return "spectra"


def fine_enough(energy: NDArray, window_eV: tuple[float, float]) -> bool:
    """Whether as many channels lie over an edge as its shape takes."""
    return np.count_nonzero(spectra.in_window(energy, window_eV)) >= FEWEST_CHANNELS


def check_counts(series: BaseSignal, name: str) -> None:
    """Refuse spectra with NaN or infinity, and images of nothing; of large lazy ones some rows of each image are read.

    Raises
    ------
    ValueError
        Naming the input, and the first file with such spectra where each tilt has one.
    """
    counts, files = series.data, series.metadata.get_item("Tomography.files", default=[])
    step = max(1, -(-counts.nbytes // LOOKED_AT_BYTES)) if is_dask(counts) else 1
    many = counts.ndim > 3
    for k, image in enumerate(counts if many else counts[None]):
        rows, which = np.asarray(image[::step]), files[k] if k < len(files) else f"image {k}"
        where = f" of {which}" if many else ""
        bad = np.count_nonzero(~np.isfinite(rows).all(axis=-1))
        if bad:
            raise ValueError(f"{name}: got NaN or infinity in {bad} spectra{where}, wants finite counts (fill them in)")
        top = np.abs(rows).max()
        if top == 0 or top > LARGEST:
            got = f"{top:.3g} counts" if top else "no counts"
            raise ValueError(f"{name}: got {got}{where}, wants counts of electrons in each image")


def remarks(series: BaseSignal) -> list[str]:
    """What is to be told of spectra as they were read."""
    return list(series.metadata.get_item("Tomography.remarks", default=[]))


def tilt_table(series: BaseSignal, name: str) -> list[str]:
    """Which file is which tilt, and the energies that they have in common: lines; none of these for a stack.

    And what is to be told of the spectra as they were read.
    """
    files, starts = (series.metadata.get_item(f"Tomography.{key}", default=[]) for key in ("files", "energy_offsets"))
    lines = [f"{tilt:8.2f}°  {file}" for tilt, file in zip(data.get_tilts(series), files, strict=False)]
    if starts:
        lines = [f"{line}  from {start:g} eV" for line, start in zip(lines, starts, strict=False)]
        energy = spectra.energy_axis(series)
        lines.append(f"{name}: all have {energy[0]:g} to {energy[-1]:g} eV, which is what is used")
    return lines + remarks(series)


def _given_tilts(settings, name, count):
    """Tilts of the settings; None for a core loss of another number of tilts, which are some of the low loss."""
    tilts = settings.tilt_angles_deg
    if name == "low_loss" or not tilts or len(tilts) != count:
        return tilts if name == "low_loss" else None
    numbers = [[re.findall(r"\d+", path.stem) for path in files] for files in (settings.low_loss, settings.core_loss)]
    if numbers[0] != numbers[1] and sorted(numbers[0]) == sorted(numbers[1]):
        k = next(k for k, (low, core) in enumerate(zip(*numbers, strict=True)) if low != core)
        got, like = settings.core_loss[k].name, settings.low_loss[k].name
        raise ValueError(f"core_loss: got {got} where low_loss has {like}, wants both in the order of the angles")
    return tilts


def _of_one_file(path, settings, name, lazy):
    """Spectra (T, Y, X, E) of a stack, with its tilts; or the core loss (Y, X, E) of one tilt as a series of one.

    And what is to be told of the tilts.
    """
    signal = in_order(data.read_signal(path, lazy=lazy))
    single = name == "core_loss" and signal.data.ndim == 3
    if signal.axes_manager.signal_dimension != 1 or not (single or signal.data.ndim == 4):
        raise ValueError(
            f"{name}: got shape {signal.data.shape} in {path.name}, wants spectra of a tilt series (T, Y, X, E), or "
            "one file for each tilt"
        )
    told = []
    if single:
        tilts, signal = _tilt_of_core(signal, path, settings.low_loss), _as_series(signal)
    else:
        tilts = _given_tilts(settings, name, len(signal.data))
        if tilts is None:
            tilts = tilts_of_stack(path, data.get_tilts(signal))
        elif replaces_tilts(tilts, _tilts_or_none(signal), path):
            told = [REPLACED_TILTS]
    if tilts is None:
        raise ValueError(f"tilt_angles_deg: got none in {path.name}, wants the angles (--tilts)")
    tilts = check_tilts(tilts, len(signal.data), series=name == "low_loss")
    signal.metadata.set_item("Tomography.tilts", tilts.tolist())
    signal.metadata.set_item("Tomography.stated_pixels_nm", set_pixel_size(signal, settings.pixel_size_nm))
    return signal, told


def _tilts_or_none(signal):
    """The angles that a stack states, if they make sense: others were given."""
    try:
        return data.get_tilts(signal)
    except ValueError:
        return None


def _tilt_of_core(signal, path, low_loss):
    """The angle of one core-loss image, which says with which image of the low loss it goes."""
    tilt = stage_tilt(signal)
    if tilt is not None:
        return [tilt]
    # beside the names of the low loss it shows whether a hyphen is a minus, and whether numbers count the files
    for names, explicit in (([path, *low_loss], False), ([path], True)):
        found = tilts_in_names(names, explicit=explicit)
        if found is not None:
            return found[:1]
    beside = tilts_of_stack(path, None)
    if beside is None:
        raise ValueError(
            f"core_loss: got no angle in {path.name}, wants that of its image of the low loss in the metadata or the "
            "name (core_+30deg.hspy)"
        )
    return beside


def _as_series(signal):
    """The image of one tilt as a series (1, Y, X, E)."""
    axes = [{"name": "tilt", "size": 1, "navigate": True}]
    axes += [axis.get_axis_dictionary() for axis in array_axes(signal)]
    for index, axis in enumerate(axes):
        axis["index_in_array"] = index
    return type(signal)(signal.data[None], axes=axes, metadata=signal.metadata.as_dictionary())


def stated_gain(low: BaseSignal) -> float | None:
    """Counts per electron as HyperSpy's noise model states them."""
    stated = low.metadata.get_item("Signal.Noise_properties.Variance_linear_model.gain_factor", default=None)
    if stated is not None:
        check_positive(gain=stated)
    return stated


def noise_gain_of(low: BaseSignal, gain: float | None, window_eV: tuple[float, float]) -> tuple[float, list[str]]:
    """Counts per electron, and warnings: as given or in HyperSpy's noise model, 1 of whole numbers, else estimated."""
    if gain is not None:
        return float(gain), []
    stated = stated_gain(low)
    energy, part = spectra.energy_axis(low), np.asarray(low.data[len(low.data) // 2])
    part = part[np.isfinite(part).all(axis=-1)]
    beyond = window_eV[1] - 0.6 * (window_eV[1] - window_eV[0]), window_eV[1]  # the edge, where it is smooth
    counts = part[..., spectra.window_mask(energy, beyond)].sum(axis=-1)
    bright = part[counts > 0.5 * np.percentile(counts, 98)] if counts.any() else part[:0]  # vacuum tells nothing
    found = spectra.noise_gain(bright, energy, window_eV=beyond, block=4) if len(bright) else 0.0
    if stated is not None:
        far = 0 < found < np.inf and abs(np.log(found / stated)) > np.log(FAR_GAIN)
        told = f"The metadata state {stated:g} counts per electron, the noise is that of {found:.3g}: set gain."
        return float(stated), [told] if far else []
    if not 0 < found < np.inf:
        raise ValueError("gain: got None, and the low loss has no counts or no noise to estimate it, wants a number")
    if not (part % 1).any() and found < FAR_GAIN:
        return 1.0, []
    return found, [
        f"The noise is that of {found:.3g} counts per electron, as estimated from it; set gain to what is known of the "
        "camera."
    ]


def clean_low_loss(
    low: BaseSignal, gain: float, known: Mapping[str, NDArray] | None = None
) -> tuple[BaseSignal, dict[str, NDArray], dict[str, Any]]:
    """Zero losses at 0, to whole channels (Poisson counts stay so), and no spikes; tilt by tilt.

    Parameters
    ----------
    low : signal (T, Y, X, E)
    gain : float
        Counts per electron.
    known : dict of array, optional
        ``zero_loss_eV`` and ``spikes`` of ``images``, as found before: in all counts, of which these are a part.

    Returns
    -------
    signal, images, facts
        The signal lacks the channels that were not measured at all tilts. ``images``: ``zero_loss_eV`` and
        ``relative_thickness`` (t/λ), each (T, Y, X); ``spikes``, the indices (N, 4) of channels of the signal.
    """
    energy = spectra.energy_axis(low)
    if known is None:
        zero_loss_eV = np.stack([spectra.zero_loss_position(np.asarray(counts), energy) for counts in low.data])
    else:
        zero_loss_eV = known["zero_loss_eV"]
    moves, axis = _to_zero(zero_loss_eV, energy), energy
    measured, warnings = _measured_channels(moves, energy)
    energy = energy[measured]
    cleaned = np.empty((*low.data.shape[:-1], energy.size), np.float32)
    thickness, spikes = np.empty(cleaned.shape[:-1]), []
    for t, counts in enumerate(low.data):
        aligned = spectra.shift_spectra(np.asarray(counts), moves[t], axis, method="nearest")[..., measured]
        if known is None:
            found = spectra.find_rare_spikes(aligned, gain=gain) & (energy > SPIKES_ABOVE_EV)
        else:
            found = np.zeros(aligned.shape, bool)
            found[tuple(known["spikes"][known["spikes"][:, 0] == t, 1:].T)] = True
        spikes.append(np.argwhere(found))
        cleaned[t] = spectra.remove_spikes(aligned, mask=found)
        thickness[t] = spectra.relative_thickness(cleaned[t], energy)
    spikes = np.concatenate([np.insert(at, 0, t, axis=1) for t, at in enumerate(spikes)])
    facts = {
        "electrons": float(cleaned.sum(-1, dtype=float).mean() / gain),
        "energies_eV": [float(energy[0]), float(energy[-1])],
        "zero_loss_range_eV": [float(zero_loss_eV.min()), float(zero_loss_eV.max())],
        "spikes": len(np.unique(spikes[:, :3], axis=0)),  # spectra that have some
        "relative_thickness": float(np.nanmax(thickness)),
        "warnings": warnings,
    }
    images = {"zero_loss_eV": zero_loss_eV, "relative_thickness": thickness, "spikes": spikes}
    return spectra.with_data(low.isig[measured], cleaned), images, facts


def level_dual(low: BaseSignal, core: BaseSignal) -> tuple[BaseSignal, BaseSignal]:
    """Dual EELS whose zero losses are within half a channel of 0, without channels that were not measured.

    The core loss moves along, by what the energy axes of its files differ from those of the low loss, too.
    """
    moves = _to_zero(spectra.zero_loss_position(low), spectra.energy_axis(low))
    return _moved(low, moves), _moved(core, moves + energy_residuals(core) - energy_residuals(low))


def energy_residuals(series: BaseSignal) -> Any:
    """What is to be added to the energies (eV) of each tilt to have those of its file: (T, 1, 1), or 0."""
    known = series.metadata.get_item("Tomography.energy_residuals", default=None)
    if known is None:
        return 0.0
    if np.shape(known) != series.data.shape[:1]:
        raise ValueError(f"Tomography.energy_residuals: got {len(known)}, wants one for each tilt ({len(series.data)})")
    return np.reshape(known, (-1, 1, 1))


def _moved(signal, shift_eV):
    """Spectra moved along the energy axis, by a fraction of a channel where need be."""
    if not np.any(shift_eV):
        return signal
    energy, shift_eV = spectra.energy_axis(signal), np.broadcast_to(shift_eV, signal.data.shape[:-1])
    moved = spectra.shift_spectra(np.asarray(signal.data), shift_eV, energy)
    return spectra.with_data(signal, moved).isig[_measured_channels(shift_eV, energy)[0]]


def _to_zero(zero_loss_eV, energy):
    """What moves zero losses to 0 by whole channels, eV."""
    step = energy[1] - energy[0]
    return step * np.round(-zero_loss_eV / step)


def _measured_channels(shift_eV, energy):
    """The channels that 99 of 100 spectra of each image still hold once they are moved; and a warning of the others."""
    channels = np.atleast_2d(shift_eV / (energy[1] - energy[0]))
    most = [np.percentile(sign * channels, 99, axis=(-2, -1), method="higher").max() for sign in (1, -1)]
    first, last = (max(int(np.ceil(up - 1e-3)), 0) for up in most)
    if first + last > energy.size - 3:
        raise ValueError(
            f"low_loss: got zero losses from {-shift_eV.max():g} to {-shift_eV.min():g} eV on energies from "
            f"{energy[0]:g} to {energy[-1]:g} eV, wants them closer together: nothing is common to all spectra"
        )
    beyond = int(((channels > first + 1e-3) | (-channels > last + 1e-3)).sum())
    told = f"The zero loss of {beyond} spectra is far from that of the others: one end of theirs is not measured."
    return slice(first, energy.size - last), [told] * (beyond > 0)


def on_axis(found: Standards, energy: NDArray) -> Standards:
    """Standards on the axis of the spectra, 0 beyond their own: what lies outside the fitted window."""
    inside = (energy >= found.energy_eV[0]) & (energy <= found.energy_eV[-1])
    part = found.on(energy[inside])
    around = int(inside.argmax()), int(inside[::-1].argmax())
    names = ("references", "uncertainty", "samples")
    padded = {n: np.pad(a := getattr(part, n), [(0, 0)] * (a.ndim - 1) + [around]) for n in names}
    return replace(part, energy_eV=energy, **padded)


@checked
@dataclass(frozen=True)
class Maps:
    """Maps over tilt, with all that a measurement needs to know about them.

    Attributes
    ----------
    values : array (C, T, Y, X)
        NaN where not measured.
    tilt_angles_deg : array (T,)
    channels : tuple of str
    covariance : array (T, Y, X, C, C) or None
    pixel_size_nm : float or None
    unit : str
    draws : ReferenceDraws or None
        What other references would do to the maps.
    shifts_px : array (T, 2) or None
    axis_angle_deg : float
        See `ParallelBeam`; as recorded, until the series is aligned.

    Raises
    ------
    ValueError
        Naming the attribute that is of another kind, or whose shape is not that of the others.
    """

    values: NDArray
    tilt_angles_deg: NDArray
    channels: tuple[str, ...]
    covariance: NDArray | None = None
    pixel_size_nm: float | None = None
    unit: str = ""
    draws: ReferenceDraws | None = None
    shifts_px: NDArray | None = None
    axis_angle_deg: float = 0.0

    def __post_init__(self) -> None:
        """Check each attribute by itself, and their shapes; `ValueError` names it, what it got and what it wants."""
        shape = real_array(self.values, "values", ndim=4, finite=False).shape
        check_tilts(self.tilt_angles_deg, shape[1], series=False)
        check_names(self.channels, "channels", shape[0])
        pairs = (*shape[1:], shape[0], shape[0])
        if self.covariance is not None and real_array(self.covariance, "covariance", finite=False).shape != pairs:
            raise ValueError(f"covariance: got shape {np.shape(self.covariance)}, wants (T, Y, X, C, C) = {pairs}")
        if self.pixel_size_nm is not None:
            check_positive(pixel_size_nm=self.pixel_size_nm)
        check_text(self.unit, "unit")
        if self.draws is not None:
            check_kind(self.draws, "draws", ReferenceDraws)
        if self.shifts_px is not None and real_array(self.shifts_px, "shifts_px").shape != (shape[1], 2):
            raise ValueError(f"shifts_px: got shape {np.shape(self.shifts_px)}, wants ({shape[1]}, 2)")
        check_number(self.axis_angle_deg, "axis_angle_deg", -180, 180)

    @classmethod
    def of_fit(cls, fit: PhaseFit) -> Maps:
        """The maps of a fit over tilt."""
        check_kind(fit, "fit", PhaseFit)
        values = np.moveaxis(np.asarray(fit.coefficients), -1, 0)
        channels = fit.phases or tuple(f"phase {k}" for k in range(len(values)))
        known = fit.drawn if fit.drawn is not None and len(fit.drawn.transforms) else None
        return cls(values, fit.tilt_angles_deg, channels, fit.covariance, fit.pixel_size_nm, "nm", known)

    @classmethod
    def of_series(cls, series: data.TiltSeries) -> Maps:
        """The maps of a file; those in another unit of length are converted to nm."""
        check_kind(series, "series", data.TiltSeries)
        covariance, nm = series.covariance, NM_PER.get(series.unit)
        if covariance is None and series.variance is not None:
            variance = np.moveaxis(series.variance, 0, -1)
            covariance = variance[..., None] * np.eye(len(series.channels))
        values, unit = series.projections, series.unit
        if nm:
            values, unit = values * np.float32(nm), "nm"
            covariance = None if covariance is None else covariance * nm**2
        return cls(values, series.tilt_angles_deg, series.channels, covariance, series.pixel_size_nm, unit)

    def save(self, path: Path) -> None:
        """Write what `load` reads."""
        series = data.TiltSeries(
            self.values.astype(np.float32), self.tilt_angles_deg, self.channels, self.pixel_size_nm,
            covariance=self.covariance, unit=self.unit,
        )  # fmt: skip
        series.save(path)

    @classmethod
    def load(cls, path: Path) -> Maps:
        """Read what `save` wrote."""
        return cls.of_series(data.read_tilt_series(path))

    def tilts(self, chosen: NDArray) -> Maps:
        """The maps at some of the tilts: those where ``chosen``, bool (T,)."""
        chosen = check_mask(chosen, "chosen", self.values.shape[1:2])
        covariance = None if self.covariance is None else self.covariance[chosen]
        shifts = None if self.shifts_px is None else self.shifts_px[chosen]
        own = {"values": self.values[:, chosen], "tilt_angles_deg": self.tilt_angles_deg[chosen]}
        return replace(self, **own, covariance=covariance, shifts_px=shifts)

    def measured_tilts(self) -> Maps:
        """The maps at the tilts of which something was measured."""
        return self.tilts(self.mask.any(axis=(1, 2)))

    def total(self) -> NDArray:
        """Sum of the channels (T, Y, X), each divided by its mean if they have no common unit; 0 where not measured."""
        values = np.nan_to_num(self.values)
        mean = values.mean(axis=(1, 2, 3), keepdims=True)
        return (values if self.unit == "nm" else values / np.where(mean > 0, mean, 1)).sum(axis=0)

    @property
    def mask(self) -> NDArray:
        """Where all channels were measured, and their errors are known if any are: bool (T, Y, X)."""
        measured = np.isfinite(self.values).all(axis=0)
        if self.covariance is None:
            return measured
        errors = np.einsum("...kk->...k", self.covariance)
        known = np.isfinite(self.covariance).all(axis=(-2, -1)) & (errors > 0).all(axis=-1)
        return measured & known

    def projections(self, padding: int = 0) -> NDArray:
        """Values (C, T, Y, X), 0 where not measured, with ``padding`` columns added on each side."""
        values, padding = np.where(self.mask, self.values, 0).astype(np.float32), check_count(padding, "padding", 0)
        return np.pad(values, ((0, 0), (0, 0), (0, 0), (padding, padding)))

    def stated(self, padding: int = 0) -> dict[str, Any]:
        """Arguments of `Measurement` (and `dip.ensemble`): covariance, mask, voxel size and geometry."""
        check_count(padding, "padding", 0)
        stated: dict[str, Any] = {"voxel_size_nm": self.pixel_size_nm or 1.0}
        stated |= self._geometry()
        mask = np.pad(self.mask, ((0, 0), (0, 0), (padding, padding)))
        if self.axis_angle_deg:  # turned, the corners of the detector see what is beyond the volume
            turned = ParallelBeam(mask.shape[2], self.tilt_angles_deg, **self._geometry())
            first, last = turned.source_rows(mask.shape[1])
            mask &= (first >= -1) & (last <= mask.shape[1])
        if not mask.all():
            stated["mask"] = mask
        if self.covariance is not None:
            one = np.eye(len(self.channels))
            inside = np.where(self.mask[..., None, None], self.covariance, one)
            whole = np.broadcast_to(one, (*mask.shape, *one.shape)).copy()
            whole[:, :, padding : mask.shape[2] - padding] = inside
            stated["covariance"] = whole
        return stated

    def _geometry(self):
        return {"shifts_px": self.shifts_px, "axis_angle_deg": self.axis_angle_deg}

    def measurement(self, padding: int = 0) -> Measurement:
        """What is reconstructed."""
        return Measurement(self.projections(padding), self.tilt_angles_deg, **self.stated(padding))

    def reference_draws(self, n: int, *, scale_is_learned: bool) -> NDArray | None:
        """What other references would do to the maps, as at most ``n`` transforms (C, C); None if that is not known.

        Sigma points (S. J. Julier & J. K. Uhlmann, Proc. IEEE 92, 401 (2004)): plus and minus each of the M most
        important modes, times the root of M, so that their mean square effect is the variance; they are enlarged to
        make up for the modes left out. Where the scale of each channel is learned, errors of scale have no effect and
        are left out.
        """
        if check_count(n, "n", 0) < 2 or self.draws is None:
            return None
        transforms = self.draws.transforms
        if scale_is_learned:
            transforms = transforms / np.einsum("skk->sk", transforms)[:, None]
        modes = ReferenceDraws(transforms).modes
        size = np.sqrt((modes**2).sum(axis=(1, 2)))
        modes = modes[size > LEAST_MODE * size[:1].max(initial=0)][: n // 2]
        whole = np.sqrt((size**2).sum() / max((size[: len(modes)] ** 2).sum(), 1e-300))
        steps = whole * len(modes) ** 0.5 * np.concatenate([modes, -modes])
        return np.eye(len(self.channels)) + steps


def read_maps(settings: Settings) -> tuple[Maps | PhaseFit, list[str]]:
    """Maps of the settings' file, in any format of `data.read_tilt_series`; a fit of chapter 3 as what it is.

    And what is to be told: which file is which tilt, where each tilt is one; a pixel size in place of another.

    Raises
    ------
    ValueError
        As `data.read_tilt_series`, naming ``maps``.
    """
    tilts, size = settings.tilt_angles_deg, settings.pixel_size_nm
    with named("maps"):
        series = data.read_tilt_series(settings.maps, tilt_angles_deg=tilts, pixel_size_nm=size)
    check_plausible(pixel_size_nm=series.pixel_size_nm)
    files, fit = series.metadata["files"], series.metadata.get("fit")
    told = [f"{tilt:8.2f}°  {file}" for tilt, file in zip(series.tilt_angles_deg, files, strict=False)]
    told = told * (len(files) > 1)
    lines = [REPLACED_TILTS] * series.metadata.get("tilts_replaced", False)
    lines += _replaced_pixels(series.metadata.get("stated_pixels_nm", []), settings)
    told += [f"maps: {line}" for line in lines]
    if fit is None:
        return Maps.of_series(series), told
    return replace(fit, tilt_angles_deg=series.tilt_angles_deg, pixel_size_nm=series.pixel_size_nm), told
