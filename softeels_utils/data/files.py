"""Tilt series of maps: what they hold, their files, and how they are read from any format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..archives import check_size, read_archive
from ..checks import (
    LARGEST,
    check_file,
    check_mapping,
    check_names,
    check_output,
    check_positive,
    check_room,
    check_text,
    check_tilts,
    real_array,
)
from ..doors import checked
from ..fitting import PhaseFit
from ..spectra.arrays import data_of
from .signals import (
    MRC_SUFFIXES,
    TIFF_SUFFIXES,
    UNEVEN,
    check_square,
    files_of_series,
    in_order,
    is_fit,
    is_spectral,
    read_signal,
    read_signals,
    set_pixel_size,
    square_pixel_nm,
    tiff_pixel_nm,
    tilts_of_files,
)
from .tilts import degrees_per, get_tilts, is_tilt_axis, replaces_tilts, stage_tilt, tilts_of_stack

__all__ = ["TILT_SERIES_SUFFIXES", "TiltSeries", "read_tilt_series"]

UNNAMED = "QI"  # axes of a TIFF of which nothing is known
STACK_SUFFIXES = (".hspy", ".zspy", ".dm3", ".dm4", ".emd", ".bcf", *TIFF_SUFFIXES, *MRC_SUFFIXES)
TILT_SERIES_SUFFIXES = (*STACK_SUFFIXES, ".npz")
STORED = (
    "projections", "tilt_angles_deg", "channels", "pixel_size_nm", "pixel_nm", "variance", "covariance", "unit",
    "haadf",
)  # fmt: skip


@checked
@dataclass(frozen=True)
class TiltSeries:
    """Maps of one or more channels over tilt, as `read_tilt_series` returns them and `save` writes them.

    Attributes
    ----------
    projections : array, shape (C, T, Y, X), float32
        Y runs along the tilt axis.
    tilt_angles_deg : array, shape (T,)
    channels : tuple of str
        Names of the C channels.
    pixel_size_nm : float or None
        Size of a pixel, None where the file does not say.
    variance : array, shape (C, T, Y, X), or None
        Variance of each value, where the noise is known (counts).
    covariance : array, shape (T, Y, X, C, C), or None
        Covariance of the channels in each pixel, as `fitting.PhaseFit` has it and `tomography.Measurement` takes it.
    haadf : array, shape (T, Y2, X2), or None
        Co-acquired dark-field images, not aligned; their pixels may be smaller than those of the maps.
    unit : str
        Unit of the maps; a length such as ``"nm"`` says that they are line integrals of volume fractions. Empty: not
        known.
    metadata : dict
        What else is known: title, source; ``files``, the names of all, in the order of the tilts if each is one;
        ``fit``, the `PhaseFit` if it was one; ``stated_pixels_nm``, the sizes of pixels that the files state;
        ``tilts_replaced``, whether given angles are others than those of the file.

    Raises
    ------
    ValueError
        Naming the attribute whose shape does not match or whose values are no real numbers; or the angles, unless they
        are finite, distinct, within ±180 degrees and spread out.
    """

    projections: NDArray[np.float32]
    tilt_angles_deg: NDArray[np.float64]
    channels: tuple[str, ...]
    pixel_size_nm: float | None = None
    variance: NDArray[np.floating] | None = None
    haadf: NDArray[np.floating] | None = None
    covariance: NDArray[np.floating] | None = None
    unit: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = real_array(self.projections, "projections", ndim=4, finite=False).shape
        check_names(self.channels, "channels", shape[0])
        check_text(self.unit, "unit")
        check_mapping(self.metadata, "metadata", empty=True)
        check_tilts(self.tilt_angles_deg, shape[1])
        if self.pixel_size_nm is not None:
            check_positive(pixel_size_nm=self.pixel_size_nm)
        if self.variance is not None and real_array(self.variance, "variance", finite=False).shape != shape:
            raise ValueError(f"variance: got shape {np.shape(self.variance)}, wants that of the projections, {shape}")
        haadf = shape[1:] if self.haadf is None else real_array(self.haadf, "haadf", finite=False).shape
        if len(haadf) != 3 or haadf[0] != shape[1] or 0 in haadf:
            raise ValueError(f"haadf: got shape {np.shape(self.haadf)}, wants ({shape[1]}, Y, X): one image per tilt")
        pairs = (*shape[1:], shape[0], shape[0])
        if self.covariance is not None and real_array(self.covariance, "covariance", finite=False).shape != pairs:
            raise ValueError(f"covariance: got shape {np.shape(self.covariance)}, wants (T, Y, X, C, C) = {pairs}")

    def save(self, path: str | PathLike) -> None:
        """Write the series for `read_tilt_series`.

        Parameters
        ----------
        path : path
            ``.hspy`` or ``.zspy`` (a `Signal2D <hyperspy.api.signals.Signal2D>` with all else under
            ``metadata.Tomography``; ETSpy opens one of a single channel, which is written without a channel axis), or
            ``.npz``. The dark-field images are written to ``.npz`` only.

        Raises
        ------
        ValueError
            A path of another kind, or in a folder that does not exist or cannot be written.
        """
        path = check_output(path, (".hspy", ".zspy", ".npz"), folders=(".zspy",))
        if path.suffix == ".npz":
            np.savez_compressed(path, **{name: value for name, value in self._arrays().items() if value is not None})
        else:
            arrays = (self.projections, self.variance, self.covariance)
            check_room(path, sum(array.nbytes for array in arrays if array is not None))
            self._signal().save(str(path), overwrite=True)

    def _arrays(self):
        names = ("projections", "tilt_angles_deg", "pixel_size_nm", "variance", "covariance", "haadf")
        texts = {"channels": np.array(self.channels), "unit": np.array(self.unit)}
        return {name: getattr(self, name) for name in names} | texts

    def _signal(self):
        import hyperspy.api as hs

        pixel = {"scale": self.pixel_size_nm, "units": "nm"} if self.pixel_size_nm else {}
        sizes = zip(("channel", "tilt", "y", "x"), self.projections.shape, ({}, {}, pixel, pixel), strict=True)
        axes = [{"name": name, "size": size, **scale} for name, size, scale in sizes]
        single = len(self.channels) == 1  # ETSpy opens stacks (T, Y, X)

        def signal_of(values):
            values = np.asarray(values)
            return hs.signals.Signal2D(values[0] if single else values, axes=axes[1:] if single else axes)

        signal = signal_of(self.projections)
        signal.metadata.set_item("Tomography.tilts", np.array(self.tilt_angles_deg, dtype=float))
        signal.metadata.set_item("Tomography.channels", list(self.channels))
        signal.metadata.set_item("Tomography.unit", self.unit)
        if self.variance is not None:
            signal.metadata.set_item("Signal.Noise_properties.variance", signal_of(self.variance))
        if self.covariance is not None:
            signal.metadata.set_item("Tomography.covariance", np.asarray(self.covariance))
        return signal


@checked
def read_tilt_series(
    path: str | PathLike | Sequence[str | PathLike],
    *,
    tilt_angles_deg: ArrayLike | None = None,
    channels: Sequence[str] | None = None,
    pixel_size_nm: float | None = None,
) -> TiltSeries:
    """Read a tilt series of maps.

    Parameters
    ----------
    path : path, or sequence of paths
        ``.npz`` with ``projections`` (and ``tilt_angles_deg``, ``channels``, ``pixel_size_nm``, ``variance``,
        ``covariance``, ``unit``, ``haadf``), or a stack in any other format of `TILT_SERIES_SUFFIXES`. Stacks are
        ``(T, Y, X)`` or ``(C, T, Y, X)``; the axes of an ImageJ or OME TIFF are taken as it names them. Or one map
        ``(Y, X)`` or ``(C, Y, X)`` a tilt: several files, a folder, or a pattern such as ``"maps/tilt_*.tif"``; of
        ``.bcf`` files, the images beside the spectra. Or a fit of a series, as `fitting.PhaseFit.save` writes it.
    tilt_angles_deg : sequence of float, optional
        Angles to use in place of those in the file or in a ``.rawtlt``, ``.tlt`` or ``.mdoc`` file beside it; of single
        files, one for each, as for `read_spectrum_series`.
    channels : sequence of str, optional
        Names of the channels.
    pixel_size_nm : float, optional
        Size of a pixel, where the file does not say it or says it wrongly.

    Returns
    -------
    TiltSeries

    Raises
    ------
    ValueError
        The file is missing, of another kind, cut, holds spectra, has the wrong rank, no tilts, or tilts that are not
        those of a series in degrees.
    """
    if pixel_size_nm is not None:
        check_positive(pixel_size_nm=pixel_size_nm)
    if _is_series(path):
        files = files_of_series(path, STACK_SUFFIXES)
        stored, path = _read_single_maps(files, tilt_angles_deg, pixel_size_nm), files[0]
        tilts = stored["tilt_angles_deg"]
    else:
        path = check_file(path, TILT_SERIES_SUFFIXES, folders=(".zspy",))
        stored = _read_archive(path) if path.suffix.lower() == ".npz" else _read_stack(path, pixel_size_nm)
        tilts, own = tilt_angles_deg, stored.get("tilt_angles_deg")
        if tilts is None:
            tilts = tilts_of_stack(path, own)
        else:
            stored["tilts_replaced"] = replaces_tilts(check_tilts(tilts, series=False), own, path)
    projections = real_array(stored["projections"], f"path ({path.name})", finite=False)
    if tilts is None:
        raise ValueError(
            f"tilt_angles_deg: got none with {path.name}, wants the angles as an argument or in {path.stem}.rawtlt"
        )
    top = np.abs(projections[np.isfinite(projections)]).max(initial=0)
    if top and not 1 / LARGEST <= top <= LARGEST:
        wanted = f"{1 / LARGEST:g} to {LARGEST:g}"
        raise ValueError(f"path: got values up to {top:g} in {path.name}, wants another unit: {wanted}")
    projections = projections.astype(np.float32, order="C")
    variance = _variance_of(projections, stored.get("variance"))
    if projections.ndim == 3:
        projections = projections[None]
    if projections.ndim != 4:
        raise ValueError(f"path: got shape {projections.shape} in {path.name}, wants (T, Y, X) or (C, T, Y, X)")
    covariance = stored.get("covariance")
    names = stored.get("channels") if channels is None else check_names(channels, "channels")
    if names is None:
        names = [f"channel {index}" for index in range(len(projections))]
    size = stored.get("pixel_size_nm") if pixel_size_nm is None else pixel_size_nm
    about = {"title": path.stem, "source": path.name, "files": stored.get("files", [path.name])}
    about |= {name: stored[name] for name in ("fit", "stated_pixels_nm", "tilts_replaced") if name in stored}
    return TiltSeries(
        projections,
        check_tilts(tilts, projections.shape[1]),
        tuple(str(name) for name in names),
        pixel_size_nm=None if size is None else _number(size, "pixel_size_nm"),
        variance=variance,
        haadf=stored.get("haadf"),
        covariance=covariance,
        unit=_text(stored.get("unit"), "unit"),
        metadata=about,
    )


def _variance_of(projections, variance):
    """Variance (C, T, Y, X), if any, as stored beside (T, Y, X) or (C, T, Y, X): one number, or in their shape."""
    if variance is None:
        return None
    variance = np.asarray(data_of(variance))
    if variance.ndim == 0:
        variance = np.full(projections.shape, variance, dtype=np.float32)
    return variance[None] if variance.ndim == projections.ndim == 3 else variance


def _read_archive(path):
    """The arrays of an ``.npz`` file."""
    stored = read_archive(path, STORED)
    if "pixel_nm" in stored:  # the name of pixel_size_nm in files of version 0.1
        stored.setdefault("pixel_size_nm", stored["pixel_nm"])
    if "pixel_size_nm" in stored:
        stored["stated_pixels_nm"] = [_number(stored["pixel_size_nm"], "pixel_size_nm")]
    return stored


def _maps_of_fit(path, fit):
    """The same of a file of `PhaseFit.save`: a single image is refused."""
    if fit.coefficients.ndim != 4:
        raise ValueError(f"path: got maps {fit.coefficients.shape[:-1]} in {path.name}, wants a tilt series (T, Y, X)")
    return {
        "projections": np.moveaxis(fit.coefficients, -1, 0),
        "tilt_angles_deg": fit.tilt_angles_deg,
        "pixel_size_nm": fit.pixel_size_nm,
        "channels": fit.phases or None,
        "covariance": fit.covariance,
        "unit": "nm",
        "fit": fit,
    }


def _text(value, name):
    value = np.asarray("" if value is None else value)
    if value.size != 1 or value.dtype.kind != "U":
        raise ValueError(f"{name}: got {value.dtype} of shape {value.shape}, wants text")
    return str(value.item())


def _number(value, name):
    value = np.asarray(value)
    if value.size != 1 or value.dtype.kind not in "fiu":
        raise ValueError(f"{name}: got {value.dtype} of shape {value.shape}, wants one number")
    return float(value.item())


def _read_stack(path, pixel_size_nm):
    """What a file says of a tilt series; names as in `TiltSeries`."""
    if path.suffix.lower() in TIFF_SUFFIXES:
        return _read_tiff(path, pixel_size_nm)
    signal = read_signal(path)
    stated = {"stated_pixels_nm": set_pixel_size(signal, pixel_size_nm)}
    if is_fit(signal):
        return _maps_of_fit(path, PhaseFit.from_signal(signal)) | stated
    _refuse_spectra(signal, path)
    signal = in_order(signal)
    if signal.data.ndim not in (3, 4):
        raise ValueError(f"path: got shape {signal.data.shape} in {path.name}, wants (T, Y, X) or (C, T, Y, X)")
    return {
        "projections": signal.data,
        "tilt_angles_deg": _emd_angles(path, signal) if path.suffix.lower() == ".emd" else get_tilts(signal),
        "pixel_size_nm": square_pixel_nm(signal),
        "channels": signal.metadata.get_item("Tomography.channels", default=None),
        "variance": signal.metadata.get_item("Signal.Noise_properties.variance", default=None),
        "covariance": signal.metadata.get_item("Tomography.covariance", default=None),
        "unit": signal.metadata.get_item("Tomography.unit", default=""),
    } | stated


def _refuse_spectra(signal, path):
    if is_spectral(signal):
        raise ValueError(
            f"path: got spectra in {path.name} (an energy axis, shape {signal.data.shape}), wants maps: fit the "
            "spectra first (chapter 03)"
        )


# ---------------------------------------------------------------- formats that say more than HyperSpy keeps


def _read_tiff(path, pixel_size_nm):
    """A TIFF stack with its axes in the order that ImageJ or OME metadata state, and ImageJ's pixel size."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            series = max(file.series, key=lambda one: one.size)
            if sum(one.shape[-2:] == series.shape[-2:] for one in file.series) > 1:
                raise ValueError(f"path: got images of several kinds in {path.name}, wants one stack")
            check_size(int(series.size) * series.dtype.itemsize, path)
            axes, stack, stated = series.axes, series.asarray(), tiff_pixel_nm(file)
    except Exception as error:
        if str(error).startswith("path: "):
            raise
        raise ValueError(f"path: got {path.name}, wants a TIFF that can be read ({error})") from error
    known = stack.ndim == 3 or "C" in axes or not set(axes[:-2]) - set(UNNAMED)
    if stack.ndim not in (3, 4) or not axes.endswith("YX") or not known:
        raise ValueError(
            f"path: got axes {axes} of shape {stack.shape} in {path.name}, wants (T, Y, X) or (C, T, Y, X)"
        )
    if stack.ndim == 4 and axes[1] == "C":
        stack = stack.swapaxes(0, 1)
    if not stated:  # HyperSpy knows other programs than ImageJ
        signal = read_signal(path)
        stated, pixel_size_nm = set_pixel_size(signal, pixel_size_nm), square_pixel_nm(signal)
    elif pixel_size_nm is None:
        check_square(*stated)
        pixel_size_nm = stated[0]
    return {"projections": stack, "pixel_size_nm": pixel_size_nm, "stated_pixels_nm": stated}


def _emd_angles(path, signal):
    """Tilts of a Berkeley ``.emd`` file, whose axes need not be even, in degrees; else as in any signal."""
    import h5py

    with h5py.File(path) as file:
        found = []

        def look(_, item):
            if not isinstance(item, h5py.Dataset) or item.shape != signal.data.shape[-3:-2] or "name" not in item.attrs:
                return
            words = (item.attrs.get(word, "") for word in ("name", "units"))
            name, unit = (w.decode(errors="replace") if isinstance(w, bytes) else str(w) for w in words)
            if is_tilt_axis(name, unit):
                found.append(np.asarray(item[:], float) * (degrees_per(unit) or 1.0))

        file.visititems(look)
    return found[0] if found and np.ptp(found[0]) else get_tilts(signal)


# ---------------------------------------------------------------- one file a tilt


def _is_series(path):
    if not isinstance(path, (str, PathLike)):
        return isinstance(path, Sequence) and not isinstance(path, bytes)
    path = Path(path)
    folder = path.suffix.lower() not in TILT_SERIES_SUFFIXES and path.expanduser().is_dir()
    return folder or (any(mark in str(path) for mark in "*?[") and not path.expanduser().exists())


def _read_single_maps(files, tilt_angles_deg, pixel_size_nm):
    """What several files say of a tilt series, one map (Y, X) or (C, Y, X) in each, in the order of the tilts."""
    maps, stage, stated = [], [], set()
    for file in files:
        lazy = file.suffix.lower() == ".bcf"  # whose spectra are not wanted
        found = [s for s in read_signals(file, lazy=lazy) if is_fit(s) or not is_spectral(s)]
        if not found:
            raise ValueError(f"path: got only spectra in {file.name}, wants a map in each file (spectra: name them)")
        signal = max(found, key=lambda one: (one.data.size, bool(maps) and _title(one) == maps[0]["title"]))
        stated |= set(set_pixel_size(signal, pixel_size_nm))
        one = _of_single_fit(signal) if is_fit(signal) else _of_single_map(in_order(signal, series=False))
        shape = one["projections"].shape
        if len(shape) not in (2, 3) or (maps and shape != maps[0]["projections"].shape):
            like = "(Y, X) or (C, Y, X)" if not maps else f"{maps[0]['projections'].shape} as in {files[0].name}"
            raise ValueError(f"path: got shape {shape} in {file.name}, wants {like}")
        maps.append(one)
        stage.append(stage_tilt(signal))
    images = len(found) > 1 and not is_fit(signal)  # of several detectors, by their titles
    for name in ("unit", "channels", "pixel_size_nm", *("title",) * images):
        _check_same(name, [one[name] for one in maps], files)
    tilts = tilts_of_files(files, stage, tilt_angles_deg)
    order = np.argsort(tilts)
    known = {name: value for name, value in maps[0].items() if name != "title"}
    for name, tilt_axis in (("projections", -3), ("variance", -3), ("covariance", 0)):
        known[name] = _stacked(name, [maps[k][name] for k in order], [files[k] for k in order], tilt_axis)
    if known["channels"] is None and known["projections"].ndim == 3 and len({one["title"] for one in maps}) == 1:
        known["channels"] = [maps[0]["title"]] if maps[0]["title"] else None
    about = {"files": [files[k].name for k in order], "stated_pixels_nm": sorted(stated)}
    return known | {"tilt_angles_deg": tilts[order]} | about


def _of_single_fit(signal):
    """What the fit of one image says; its references' errors, one draw for all tilts, are left out."""
    fit = PhaseFit.from_signal(signal)
    return {
        "projections": np.moveaxis(fit.coefficients, -1, 0),
        "pixel_size_nm": fit.pixel_size_nm,
        "variance": None,
        "covariance": fit.covariance,
        "unit": "nm",
        "channels": list(fit.phases) or None,
        "title": "",
    }


def _of_single_map(signal):
    """What one file says of its map."""
    shape, about = signal.data.shape, signal.metadata
    variance, channels = about.get_item("Signal.Noise_properties.variance"), about.get_item("Tomography.channels")
    return {
        "projections": np.asarray(signal.data),
        "pixel_size_nm": square_pixel_nm(signal),
        "variance": None if variance is None else np.broadcast_to(np.asarray(data_of(variance)), shape),
        "covariance": about.get_item("Tomography.covariance"),
        "unit": about.get_item("Tomography.unit", default=""),
        "channels": None if channels is None else list(channels),
        "title": _title(signal),
    }


def _title(signal):
    return signal.metadata.get_item("General.title", default="")


def _check_same(name, values, files):
    """Raise ValueError unless all files say the same."""
    first = values[0]
    for value, file in zip(values, files, strict=True):
        numbers = isinstance(value, float) and isinstance(first, float)
        if not (np.isclose(value, first, rtol=UNEVEN, atol=0) if numbers else value == first):
            raise ValueError(f"{name}: got {value!r} in {file.name}, wants {first!r} as in {files[0].name}")


def _stacked(name, values, files, axis):
    """Arrays of single maps over tilt; None where no file has one."""
    lacking = [file.name for value, file in zip(values, files, strict=True) if value is None]
    if len(lacking) == len(values):
        return None
    if lacking:
        raise ValueError(f"{name}: got none in {lacking[0]}, wants one in each file, as the others have it")
    try:
        return np.stack([np.asarray(value) for value in values], axis=axis)
    except ValueError:
        raise ValueError(f"{name}: got shapes {sorted({np.shape(v) for v in values})}, wants one") from None
