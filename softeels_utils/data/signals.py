"""Reading files as HyperSpy signals: one spectrum, image or stack, and series of spectra with one file a tilt."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from glob import glob
from importlib import import_module
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..archives import check_hdf5, check_mrc, check_size, check_tiff, check_zarr
from ..checks import (
    LEAST_SPREAD_DEG,
    check_choice,
    check_file,
    check_flag,
    check_mapping,
    check_not_negative,
    check_positive,
    check_tilts,
    named,
    real_array,
)
from ..doors import checked
from ..scattering.microscope import MICROSCOPE_KEYS, microscope_from_metadata
from ..spectra.arrays import EV_PER, NM_PER, step_nm
from .tilts import STAGE_TOLERANCE_DEG, is_tilt_axis, stage_tilt, tilts_in_names

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal

__all__ = [
    "MRC_SUFFIXES",
    "SIGNAL_SUFFIXES",
    "TIFF_SUFFIXES",
    "UNEVEN",
    "UNITS",
    "array_axes",
    "check_square",
    "counted_order",
    "files_of_series",
    "in_ev",
    "in_order",
    "is_fit",
    "is_spectral",
    "matching",
    "read_signal",
    "read_spectrum_series",
    "set_microscope",
    "set_pixel_size",
    "square_pixel_nm",
    "stated_microscope",
    "tiff_pixel_nm",
]

TIFF_SUFFIXES = (".tif", ".tiff")
MRC_SUFFIXES = (".mrc", ".st", ".ali", ".rec", ".mrcs")
SIGNAL_SUFFIXES = (".hspy", ".zspy", ".dm3", ".dm4", ".emd", ".bcf", ".msa", *TIFF_SUFFIXES, *MRC_SUFFIXES)
UNITS = {"nanometer": "nm", "nanometre": "nm", "micrometer": "µm", "micrometre": "µm", "micron": "µm"}
UNITS |= {"picometer": "pm", "angstrom": "Å", "ångström": "Å", "meter": "m", "electronvolt": "eV"}
UNITS |= {"electron volt": "eV"}
UNITS |= {f"{name}s": unit for name, unit in UNITS.items()} | {"ev": "eV", "kev": "keV"}  # by lower-case name
UNEVEN = 0.01  # difference of the two sides of a pixel, in parts
LEAST_CHANNELS = 16  # that the files of a series have in common


@checked
def read_signal(path: str | PathLike, *, lazy: bool = False) -> BaseSignal:
    """Read one spectrum, spectrum image or stack as a HyperSpy signal.

    Energies in keV or meV become eV; those of EDS stay in keV.

    Parameters
    ----------
    path : path
        ``.hspy``, ``.zspy``, ``.dm3``, ``.dm4``, ``.emd`` (Berkeley or Velox), ``.bcf``, ``.msa``, ``.tif`` or ``.mrc``
        (also as ``.st``, ``.ali``, ``.rec``, ``.mrcs``). Of several signals in one file, the largest is taken: of a
        ``.bcf`` or a Velox file with EELS, the spectra. Several that are largest are refused.
    lazy : bool
        Leave the data on disk, as a lazy signal (Dask).

    Raises
    ------
    ValueError
        The file is missing, of another kind, cut, no file but a folder, pipe or device; it holds complex values alone,
        claims to unpack into more than it can hold, or would have code evaluated or unpickled.
    """
    check_flag(lazy, "lazy")
    path = check_file(path, SIGNAL_SUFFIXES, folders=(".zspy",))
    return _largest(read_signals(path, lazy=lazy), path)


def _largest(signals, path):
    """The largest signal of a file; there must be one that is."""
    size = max(signal.data.size for signal in signals)
    found = [signal for signal in signals if signal.data.size == size]
    if len(found) > 1:
        titles = ", ".join(signal.metadata.get_item("General.title", default="") or "no title" for signal in found)
        raise ValueError(
            f"path: got {len(found)} signals of one size in {path.name} ({titles}), wants one: save them as files of "
            "their own"
        )
    return found[0]


def load_hyperspy() -> ModuleType:
    """``hyperspy.api``; `OSError` that says what to do where it cannot write its settings."""
    try:
        import hyperspy.api
    except OSError as error:
        raise OSError(
            f"HyperSpy keeps its settings in the home folder: set HOME to one that can be written ({error})"
        ) from None
    return hyperspy.api


def read_signals(path: Path, *, lazy: bool = False) -> list[BaseSignal]:
    """All signals of a file, those with data; the path has been checked."""
    load_hyperspy()
    try:
        return _read_signals(path, path.suffix.lower(), lazy)
    except Exception as error:
        if str(error).startswith("path: "):
            raise
        raise ValueError(f"path: got {path.name}, wants a file that can be read ({error})") from error


def _read_signals(path, suffix, lazy):
    if suffix == ".zspy":
        check_zarr(path)
    if suffix in (".hspy", ".emd"):
        check_hdf5(path)
    if suffix in MRC_SUFFIXES:
        check_mrc(path)
    if suffix in TIFF_SUFFIXES:
        check_tiff(path)
    if suffix in (".hspy", ".zspy"):
        _check_entries(_lazy_entries(path, suffix), path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"reader": "MRC"} if suffix in MRC_SUFFIXES else {}
        signals = load_hyperspy().load(path, lazy=lazy and suffix != ".msa", **options)  # a text may be a pattern
    signals = [signal for signal in (signals if isinstance(signals, list) else [signals]) if signal.data.size]
    if not signals:
        raise ValueError(f"path: got {path.name} without data, wants some")
    real = [s for s in signals if s.data.dtype.kind in "fiub" or s.data.dtype.names]  # names: colours of a picture
    if not real:
        raise ValueError(f"path: got {signals[0].data.dtype} values in {path.name}, wants real numbers")
    signals = real  # complex ones beside them are Fourier transforms
    for signal in signals:
        signal.data = _in_plain_type(signal.data)
    if suffix in MRC_SUFFIXES:
        _check_mrc(signals[0], path)
    if suffix == ".msa":
        _check_msa(signals[0], path)
        signals = [signal.as_lazy() for signal in signals] if lazy else signals
    if suffix in TIFF_SUFFIXES:
        _state_pixels(signals, path)
    if suffix == ".emd":
        _share_microscope(signals)
    for signal in signals:
        for axis in array_axes(signal):
            axis.units = UNITS.get(str(axis.units).lower(), axis.units)
        _energies_in_ev(signal)
    return [_aligned(signal) for signal in signals]


def _lazy_entries(path, suffix):
    """What HyperSpy's own format holds, nothing of it read yet; one newer than what is installed is refused."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        entries = import_module(f"rsciio.{suffix[1:]}").file_reader(str(path), lazy=True)
    if any("newer version" in str(one.message) for one in told):
        raise ValueError(
            f"path: got {path.name}, which a newer HyperSpy wrote, wants a file of the one installed or older: update "
            "hyperspy and rosettasciio"
        )
    return entries


def _state_pixels(signals, path):
    """Give images the size of a pixel that an ImageJ or OME file states, of which HyperSpy keeps no unit."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        sizes = tiff_pixel_nm(file)
    for signal in signals:
        for axis, size in zip(_pixel_axes(signal), sizes, strict=False):
            if step_nm(axis) is None:
                axis.scale, axis.units = size, "nm"


def _in_plain_type(array):
    """The array in the byte order of this machine; of half precision, in which sums overflow, as float32."""
    plain = array.dtype.newbyteorder("=")
    return array.astype(np.float32 if plain == np.float16 else plain, copy=False)


def _check_mrc(signal, path):
    """What the header of an MRC file says beside what HyperSpy reads: order of axes, sign of bytes, no pixel size."""
    header = signal.original_metadata.std_header
    order = int(header.MAPC), int(header.MAPR), int(header.MAPS)
    if order not in ((1, 2, 3), (0, 0, 0)):
        raise ValueError(f"path: got axes {order} in {path.name}, wants (1, 2, 3): columns, rows, sections")
    if header.MODE == 0:
        signal.data = _bytes_of_mrc(np.asarray(signal.data), header, path)
    for axis in signal.axes_manager.signal_axes:
        if not (header.MX and header.MY):
            axis.units = ""


def _bytes_of_mrc(array, header, path):
    """Bytes with the sign that agrees with the least and the largest value in the header; programs differ in it."""
    if array.max() < 128:
        return array
    read = {signed: array.astype(np.int8) if signed else array for signed in (False, True)}
    stated = float(header.AMIN), float(header.AMAX)
    fits = [values for values in read.values() if np.allclose((values.min(), values.max()), stated, atol=0.5)]
    if not fits:
        raise ValueError(f"path: got bytes in {path.name} that may be signed, wants 16-bit or float values")
    return fits[0]


def _share_microscope(signals):
    """Velox describes the microscope with the images of a file: its EELS spectra get beam energy and tilt from them."""
    known = [s.metadata.Acquisition_instrument for s in signals if s.metadata.has_item("Acquisition_instrument.TEM")]
    for signal in signals:
        if known and not signal.metadata.has_item("Acquisition_instrument"):
            signal.metadata.add_dictionary({"Acquisition_instrument": known[0].as_dictionary()})


def _energies_in_ev(signal):
    """Convert the energy axis by its unit, of all but EDS."""
    if str(signal.metadata.get_item("Signal.signal_type", default="")).startswith("EDS"):
        return
    for axis in array_axes(signal):
        if str(axis.units) in EV_PER:
            in_ev(axis, str(axis.units))


def in_ev(axis: Any, unit: str) -> None:
    """Convert the values of an axis, which are in ``unit``, to eV."""
    if axis.is_uniform:
        axis.scale, axis.offset = axis.scale * EV_PER[unit], axis.offset * EV_PER[unit]
    else:
        axis.axis = axis.axis * EV_PER[unit]
    axis.units = "eV"


def _aligned(signal):
    """A signal whose array has its axes in HyperSpy's order, of spectra with rising energies last."""
    axes = array_axes(signal)
    energies, stored = [axis for axis in axes if str(axis.units) in EV_PER], list(signal.axes_manager.signal_axes)
    last = energies if len(energies) == 1 else stored
    if [axis.index_in_array for axis in axes] != list(range(len(axes))) or last != stored:
        others = [axis for axis in axes[::-1] if axis not in last]
        signal = signal.transpose(signal_axes=last, navigation_axes=others)
    energy = array_axes(signal)[-1]
    if len(last) == 1 and getattr(energy, "scale", 1) < 0:
        signal.data = signal.data[..., ::-1]
        energy.offset, energy.scale = energy.offset + (energy.size - 1) * energy.scale, -energy.scale
    return signal


def in_order(signal: BaseSignal, *, series: bool = True) -> BaseSignal:
    """A tilt series (C, T, Y, X), (T, Y, X) or (T, Y, X, E) in this order, where its file names or measures the axes.

    Axes that a file tells nothing about fill the other places in their own order. One image of a series has no tilts.
    """
    axes = array_axes(signal)
    n_signal = signal.axes_manager.signal_dimension
    known = ["energy"] if is_spectral(signal) else []
    places = (["channel"] * (not known) + ["tilt"] * series + ["y", "x", *known])[-len(axes) :]
    roles = [_role(axis) for axis in axes[: len(axes) - len(known)]] + known
    told = [role for role in roles if role]
    if len(places) != len(axes) or not set(told) <= set(places) or len(set(told)) < len(told):
        return signal
    free = iter([place for place in places if place not in told])
    roles = [role or next(free) for role in roles]
    if roles == places:
        return signal
    wanted = [axes[roles.index(place)] for place in places][::-1]
    return signal.transpose(signal_axes=wanted[: n_signal or 2], navigation_axes=wanted[n_signal or 2 :])


def _role(axis):
    """What an axis of a tilt series is by its name or unit; None where they do not say."""
    name = str(axis.name).lower()
    if is_tilt_axis(name, axis.units):
        return "tilt"
    return {"x": "x", "width": "x", "y": "y", "height": "y", "channel": "channel", "channels": "channel"}.get(name)


def _check_entries(entries, path):
    """What a HyperSpy file holds, before its data are read."""
    for entry in entries:
        if any("expression" in axis for axis in entry["axes"]):
            raise ValueError("axes: got an expression, which would be evaluated, wants numbers")
        for axis, size in zip(entry["axes"], entry["data"].shape, strict=False):
            if axis.get("size", size) != size:
                raise ValueError(f"path: got an axis of {axis['size']} in {path.name}, wants {size} as of its data")
        check_size(entry["data"].nbytes, path)


def _check_msa(signal, path):
    stated = signal.original_metadata.get_item("NPOINTS", default=signal.data.size)
    text = path.read_bytes()[-4096:].upper()
    if int(float(stated)) > signal.data.size or b"#ENDOFDATA" not in text:
        raise ValueError(
            f"path: got {signal.data.size} channels in {path.name}, wants {stated} and #ENDOFDATA: it is cut"
        )
    if int(float(stated)) < signal.data.size:
        raise ValueError(
            f"path: got {signal.data.size} channels in {path.name}, wants {stated} as NPOINTS says: one is wrong"
        )


def array_axes(signal: BaseSignal) -> tuple[Any, ...]:
    """Axes of a signal in the order of its array, navigation first."""
    return (*signal.axes_manager.navigation_axes[::-1], *signal.axes_manager.signal_axes[::-1])


def _pixel_axes(signal: BaseSignal) -> tuple[Any, ...]:
    """X and Y of images or spectra, as far as they have them."""
    axes = array_axes(signal)
    return (axes[:-1] if signal.axes_manager.signal_dimension == 1 else axes)[:-3:-1]


def square_pixel_nm(signal: BaseSignal) -> float | None:
    """Size of a pixel of images or spectra, None where it is not stated (as of an ``.mrc`` file without calibration).

    Raises
    ------
    ValueError
        Naming ``pixel_size_nm``, where pixels are not square.
    """
    pixel = _pixel_axes(signal)
    sizes = [_size_nm(axis) for axis in pixel]
    known = [size for size, axis in zip(sizes, pixel, strict=True) if size and axis.size > 1]
    if len(known) == 2:
        check_square(*known)
    return sizes[0] if sizes else None


def _size_nm(axis):
    """Size of a pixel along an axis; None where it is not stated, or not even."""
    size = step_nm(axis) if axis.is_uniform else None
    return size if size and 0 < size < np.inf else None


def tiff_pixel_nm(file: Any) -> list[float]:
    """Size of a pixel along X and Y in an ImageJ or OME file; empty where it does not say it in a unit of length."""
    if file.is_ome:
        said = dict(re.findall(r'\b(PhysicalSize[XY](?:Unit)?)="([^"]*)"', file.ome_metadata))
        stated = [(said.get(f"PhysicalSize{axis}", 0), said.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "XY"]
    else:
        unit = str((file.imagej_metadata or {}).get("unit", "")).replace("\\u00B5", "µ")
        tags = [file.pages[0].tags.get(f"{axis}Resolution") for axis in "XY"]
        stated = [(tag.value[1] / tag.value[0] if tag and tag.value[0] else 0, unit) for tag in tags]
    units = [UNITS.get(unit.lower(), unit) for _, unit in stated]
    sizes = [float(size) * NM_PER.get(unit, 0) for (size, _), unit in zip(stated, units, strict=True)]
    return sizes if min(sizes) > 0 else []


def check_square(across_nm: float, along_nm: float) -> None:
    """Refuse pixels of different sizes along X and Y."""
    if abs(along_nm / across_nm - 1) > UNEVEN:
        raise ValueError(
            f"pixel_size_nm: got {across_nm:g} nm along X and {along_nm:g} nm along Y, wants square pixels"
        )


def is_spectral(signal: BaseSignal) -> bool:
    """Whether a signal holds spectra: it has an axis of energies, or its signals have one dimension."""
    axes = array_axes(signal)
    energies = [a for a in axes if str(a.units) in EV_PER or "energy" in str(a.name).lower()]
    return bool(energies) or signal.axes_manager.signal_dimension == 1


def is_fit(signal: BaseSignal) -> bool:
    """Whether a signal is one of `PhaseFit.save`."""
    return signal.metadata.get_item("SoftEELS.fit", default=None) is not None


# ---------------------------------------------------------------- one file a tilt


def counted_order(path: str | PathLike) -> list[tuple[int, str]]:
    """Key by which names sort as their numbers count: ``tilt_2`` before ``tilt_10``."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", str(path))]


def matching(pattern: str | PathLike) -> list[Path]:
    """Files of a pattern (``tilt_*.dm4``), as their numbers count; brackets of a folder that exists are no pattern."""
    pattern = Path(pattern)
    folder = next(parent for parent in pattern.parents if parent.is_dir() or parent == parent.parent)
    found = glob(str(pattern.relative_to(folder)), root_dir=folder)
    return sorted((folder / one for one in found), key=counted_order)


def files_of_series(paths: Any, suffixes: Sequence[str]) -> list[Path]:
    """Checked paths of a series with one file a tilt: from a folder, a pattern (``tilt_*.dm4``) or a sequence."""
    if isinstance(paths, (str, PathLike)):
        given = Path(paths).expanduser()
        if given.is_dir():
            found = [p for p in given.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith(".")]
            found = sorted(found, key=counted_order)
        else:
            found = matching(given)
        if not found:
            raise ValueError(f"path: got {given}, where no file is one of {', '.join(suffixes)}, wants one file a tilt")
        paths = found
    if not isinstance(paths, Sequence) or len(paths) < 2:
        got = len(paths) if isinstance(paths, Sequence) else repr(paths)
        raise ValueError(
            f"path: got {got}, wants at least two files, a folder of them, or a pattern such as tilt_*.dm4"
        )
    return [check_file(path, suffixes, folders=(".zspy",)) for path in paths]


def tilts_of_files(
    files: Sequence[Path], stage: Sequence[float | None], tilt_angles_deg: ArrayLike | None, *, series: bool = True
) -> NDArray[np.float64]:
    """Tilt of each file: as given, else as its metadata, else as its name say. Contradictions are refused.

    Where metadata and names contradict each other, given angles decide: they must be those of one of the two.
    """
    known = None not in stage and len({round(tilt, 3) for tilt in stage}) == len(files)
    if tilt_angles_deg is not None:
        tilts = check_tilts(tilt_angles_deg, len(files), series=series)
        spread = known and np.ptp(np.array(stage, float)) >= LEAST_SPREAD_DEG  # else readings that were not updated
        _check_given(tilts, files, stage if spread else None)
        return tilts
    if not known:
        named = tilts_in_names(files)
        if named is None:
            doubts = "numbers without a sign may count the files, a hyphen may be no minus"
            raise ValueError(
                "tilt_angles_deg: got none, nor distinct stage tilts in the files, nor angles in their names "
                f"({files[0].name}, {files[1].name}, ...: {doubts}), wants one angle for each file"
            )
        return check_tilts(named, len(files), series=series)
    named = tilts_in_names(files, explicit=True)
    if named is not None:
        apart = np.abs(named - stage)
        if apart.max() > STAGE_TOLERANCE_DEG:
            k = int(apart.argmax())
            raise ValueError(
                f"tilt_angles_deg: got {stage[k]:g} in the metadata of {files[k].name}, wants what its name says, "
                "or the angles as an argument"
            )
    return check_tilts(np.array(stage, float), len(files), series=series)


def _check_given(tilts, files, stage):
    """Raise ValueError where an angle is neither that of the metadata nor that of the name of its file."""
    named = tilts_in_names(files, explicit=True)
    stated = {"metadata": stage, "name": named}
    stated = {source: np.array(angles, float) for source, angles in stated.items() if angles is not None}
    apart = [np.abs(tilts - angles) > STAGE_TOLERANCE_DEG for angles in stated.values()]
    if apart and (wrong := np.all(apart, axis=0)).any():
        k = int(wrong.argmax())
        wanted = " or ".join(f"{angles[k]:g} as in its {source}" for source, angles in stated.items())
        order = ", ".join(file.name for file in files[:3])
        raise ValueError(
            f"tilt_angles_deg: got {tilts[k]:g} for {files[k].name}, wants {wanted}: leave the angles out, or give "
            f"them in the order of the files ({order}, ...)"
        )


@checked
@named("paths")
def read_spectrum_series(
    paths: str | PathLike | Sequence[str | PathLike],
    tilt_angles_deg: ArrayLike | None = None,
    *,
    pixel_size_nm: float | None = None,
    microscope: Mapping[str, float] | None = None,
    whole: bool = True,
    lazy: bool = False,
) -> BaseSignal:
    """Read a tilt series of spectrum images, one file a tilt, as one signal (T, Y, X, E), sorted by tilt.

    Energy axes may start at different energies and have different lengths: they are brought together by whole channels,
    and those that not all files have are left out.

    Parameters
    ----------
    paths : path or sequence of paths
        The files, a folder of them, or a pattern such as ``"series/cube_*deg.dm4"``; any format of `read_signal`. Of
        several signals in one file, the largest spectrum image is taken.
    tilt_angles_deg : sequence of float, optional
        One for each file, in the order of ``paths`` (of a folder or pattern: of the names, 2 before 10), within 1° of
        what metadata or names say. By default those of the stage in the files' metadata or, where these are the same in
        all files, those in their names (``tilt_-35.hspy``, ``cube_+17.5deg.dm4``).
    pixel_size_nm : float, optional
        Size of a pixel, in place of what the files say, which need not agree then.
    microscope : {name: float}, optional
        Beam energy and angles (``beam_energy_keV``, ``convergence_mrad``, ``collection_mrad``), likewise.
    whole : bool
        Whether the files are a whole series; some tilts of one need not span 10°.
    lazy : bool
        Leave the spectra on disk.

    Returns
    -------
    signal
        Of the kind of the first tilt (``EELSSpectrum``, or EDS), with its pixel size and microscope, and the angles in
        ``metadata.Tomography.tilts``. Where energy axes differ, ``metadata.Tomography.energy_offsets`` says where that
        of each file starts, and ``energy_residuals`` what has to be added to the energies of each tilt to have those
        of its file: at most half a channel.

    Raises
    ------
    ValueError
        Naming ``paths`` and the file that holds no spectrum image, or one whose shape, dispersion or pixels are not
        those of the first, or that has no energies in common with the others; or ``tilt_angles_deg``, or what of the
        microscope the files do not agree in.
    """
    check_flag(lazy, "lazy")
    check_flag(whole, "whole")
    for name, value in (check_mapping(microscope, "microscope") if microscope else {}).items():
        check_choice(name, "microscope", MICROSCOPE_KEYS)
        check_not_negative(**{name: value})
    files = files_of_series(paths, SIGNAL_SUFFIXES)
    signals = [_spectrum_image(file, lazy) for file in files]
    stated = [set_pixel_size(signal, pixel_size_nm) for signal in signals]
    for signal in signals:
        set_microscope(signal, microscope or {})
    for file, signal in zip(files[1:], signals[1:], strict=True):
        _check_like(signal, signals[0], file, files[0])
    starts, size, residuals = _common_channels([array_axes(signal)[-1] for signal in signals], files)
    tilts = tilts_of_files(files, [stage_tilt(signal) for signal in signals], tilt_angles_deg, series=whole)
    order = np.argsort(tilts)
    starts, residuals = starts[order], residuals[order]
    files, signals = ([several[k] for k in order] for several in (files, signals))
    first = signals[0]
    parts = [signal.data[..., start : start + size] for signal, start in zip(signals, starts, strict=True)]
    if lazy:
        import dask.array as da

        stack = da.stack(parts)
    else:
        stack = np.stack(parts)
    axes = [{"name": "tilt", "size": len(tilts), "navigate": True}]
    axes += [axis.get_axis_dictionary() for axis in array_axes(first)]
    start = axes[-1]["offset"] + starts[0] * axes[-1]["scale"] - residuals[0]
    axes[-1] |= {"size": size, "offset": float(start)}
    for index, axis in enumerate(axes):
        axis["index_in_array"] = index
    metadata, original = first.metadata.as_dictionary(), first.original_metadata.as_dictionary()
    series = type(first)(stack, axes=axes, metadata=metadata, original_metadata=original)
    series.metadata.set_item("Tomography.tilts", tilts[order])
    series.metadata.set_item("Tomography.files", [file.name for file in files])
    if pixel_size_nm is not None:
        series.metadata.set_item("Tomography.stated_pixels_nm", sorted({size for sizes in stated for size in sizes}))
    if starts.any() or residuals.any() or size < first.data.shape[-1]:
        series.metadata.set_item("Tomography.energy_offsets", [float(array_axes(s)[-1].offset) for s in signals])
        series.metadata.set_item("Tomography.energy_residuals", residuals.tolist())
    set_microscope(series, {name: value for s in signals for name, value in stated_microscope(s).items()})
    if series.metadata.has_item("Acquisition_instrument.TEM.Stage.tilt_alpha"):
        del series.metadata.Acquisition_instrument.TEM.Stage.tilt_alpha  # of one tilt
    return series


def _spectrum_image(file, lazy):
    """The largest spectrum image of a file."""
    found = [s for s in read_signals(file, lazy=lazy) if s.data.ndim == 3 and s.axes_manager.signal_dimension == 1]
    if not found:
        raise ValueError(f"path: got no spectrum image in {file.name}, wants one of shape (Y, X, E) in each file")
    signal = in_order(_largest(found, file), series=False)
    if not all(axis.is_uniform for axis in array_axes(signal)):
        raise ValueError(f"path: got uneven steps of an axis in {file.name}, wants even ones")
    if not lazy:
        real_array(signal.data, f"path ({file.name})", finite=False)
    return signal


def set_pixel_size(signal: BaseSignal, pixel_size_nm: float | None) -> list[float]:
    """Give an image the size of a pixel, if it is known from elsewhere; return what the image said of it."""
    pixel = _pixel_axes(signal)
    if not all(axis.is_uniform for axis in pixel):
        raise ValueError("pixel_size_nm: got pixels of uneven sizes, wants even ones")
    stated = [size for axis in pixel if (size := _size_nm(axis))]
    if pixel_size_nm is not None:
        check_positive(pixel_size_nm=pixel_size_nm)
        for axis in pixel:
            axis.scale, axis.units = pixel_size_nm, "nm"
    return stated


def set_microscope(signal: BaseSignal, microscope: Mapping[str, float]) -> None:
    """Give a signal beam energy and angles that are known from elsewhere."""
    for name, value in microscope.items():
        check_choice(name, "microscope", MICROSCOPE_KEYS)
        signal.metadata.set_item(MICROSCOPE_KEYS[name], value)


def stated_microscope(signal: BaseSignal) -> dict[str, float]:
    """Beam energy and angles of the metadata, as `microscope_from_metadata`; ValueError for what is no number."""
    try:
        return microscope_from_metadata(signal)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{', '.join(MICROSCOPE_KEYS)}: got metadata that are no numbers ({error}), wants some"
        ) from None


def _check_like(signal, first, file, first_file):
    """Raise ValueError unless pixels, their size, the dispersion and the microscope are those of the first file."""
    known, like = stated_microscope(signal), stated_microscope(first)
    for name in known.keys() & like.keys():
        if not np.isclose(known[name], like[name], rtol=UNEVEN):
            got, wanted = f"{known[name]:g} in {file.name}", f"{like[name]:g} as in {first_file.name}"
            raise ValueError(f"{name}: got {got}, wants {wanted}")
    if signal.data.shape[:-1] != first.data.shape[:-1]:
        raise ValueError(
            f"path: got shape {signal.data.shape} in {file.name}, wants {first.data.shape} as in {first_file.name}"
        )
    for axis, wanted in zip(array_axes(signal), array_axes(first), strict=True):
        same, sizes = str(axis.units) == str(wanted.units), (axis.scale, wanted.scale)
        if (lengths := (step_nm(axis), step_nm(wanted))) and None not in lengths:
            same, sizes = True, lengths
        if not (same and np.isclose(*sizes, rtol=1e-4, atol=0)):
            what = "energies" if axis is array_axes(signal)[-1] else f"pixels along {axis.name}"
            got, like = (f"{a.size} by {a.scale:g} {a.units}" for a in (axis, wanted))
            raise ValueError(f"path: got {what} of {got} in {file.name}, wants {like} as in {first_file.name}")


def _common_channels(axes, files):
    """Of energy axes of one dispersion: the first channel of each that all have, their number, and what is left.

    That is the energy of a file less that of the file that starts last: half a channel at most, 0 below a hundredth.
    """
    step, offset = axes[0].scale, max(axis.offset for axis in axes)
    apart = np.array([(axis.offset - offset) / step for axis in axes])
    whole = np.floor(apart + 0.5).astype(int)
    left = np.where(np.abs(apart - whole) > 0.01, apart - whole, 0.0)
    ends = whole + [axis.size for axis in axes]
    first, last = int(whole.max()), int(ends.min())
    if last - first < min(LEAST_CHANNELS, *(axis.size for axis in axes)):
        low, high = files[int(ends.argmin())], files[int(whole.argmax())]
        end, start = (f"{offset + step * k:g} {axes[0].units}" for k in (last, first))
        raise ValueError(
            f"path: got energies that end at {end} in {low.name} and start at {start} in {high.name}, wants at least "
            f"{LEAST_CHANNELS} channels in common"
        )
    return first - whole, last - first, left * step
