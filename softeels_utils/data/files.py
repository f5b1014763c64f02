"""Readers and writers of files: spectra as HyperSpy signals, maps over tilt as a `TiltSeries`."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..fitting import PhaseFit
from ..spectra.arrays import data_of, step_nm

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal

__all__ = ["SIGNAL_SUFFIXES", "TILT_SERIES_SUFFIXES", "TiltSeries", "get_tilts", "read_signal", "read_tilt_series"]

SIGNAL_SUFFIXES = (".hspy", ".zspy", ".dm3", ".dm4", ".emd", ".msa", ".tif", ".tiff", ".mrc")
TILT_SERIES_SUFFIXES = (".hspy", ".zspy", ".dm3", ".dm4", ".emd", ".tif", ".tiff", ".mrc", ".npz")


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
        What else the file says: title, source.

    Raises
    ------
    ValueError
        Naming the attribute whose shape does not match, or angles that are not finite.
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
        shape = np.shape(self.projections)
        if len(shape) != 4:
            raise ValueError(f"projections: got shape {shape}, wants (C, T, Y, X)")
        if len(self.channels) != shape[0]:
            raise ValueError(f"channels: got {len(self.channels)} names, wants {shape[0]} (projections are {shape})")
        if np.shape(self.tilt_angles_deg) != (shape[1],):
            got = np.shape(self.tilt_angles_deg)
            raise ValueError(f"tilt_angles_deg: got shape {got}, wants ({shape[1]},): one angle per projection")
        if not np.all(np.isfinite(self.tilt_angles_deg)):
            raise ValueError("tilt_angles_deg: got NaN or inf, wants finite angles")
        if self.variance is not None and np.shape(self.variance) != shape:
            raise ValueError(f"variance: got shape {np.shape(self.variance)}, wants that of the projections, {shape}")
        if self.haadf is not None and (np.ndim(self.haadf) != 3 or len(self.haadf) != shape[1]):
            raise ValueError(f"haadf: got shape {np.shape(self.haadf)}, wants ({shape[1]}, Y, X): one image per tilt")
        pairs = (*shape[1:], shape[0], shape[0])
        if self.covariance is not None and np.shape(self.covariance) != pairs:
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
            A path of another kind.
        """
        path = Path(path)
        if path.suffix == ".npz":
            np.savez_compressed(path, **{name: value for name, value in self._arrays().items() if value is not None})
        elif path.suffix in (".hspy", ".zspy"):
            self._signal().save(str(path), overwrite=True)
        else:
            raise ValueError(f"path: got a file of kind {path.suffix!r} ({path.name}), wants .hspy, .zspy or .npz")

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


def _checked_path(path, suffixes):
    path = Path(path).expanduser()
    if not path.exists():
        raise ValueError(f"path: got {path}, which does not exist, wants a file")
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"path: got a file of kind {path.suffix!r} ({path.name}), wants one of {', '.join(suffixes)}")
    return path


def _refuse_pickled_zarr(path):
    """Zarr runs the codecs that a store names, and one of them unpickles."""
    if path.is_dir():
        texts = (file.read_bytes() for file in path.rglob(".zarray"))
    elif zipfile.is_zipfile(path):
        archive = zipfile.ZipFile(path)
        texts = (archive.read(name) for name in archive.namelist() if name.endswith(".zarray"))
    else:
        raise ValueError(f"path: got {path.name}, neither folder nor zip, wants a Zarr store")
    if any(b"pickle" in text.lower() for text in texts):
        raise ValueError(f"path: got pickled arrays in {path.name}, wants plain ones: pickles are never read")


def read_signal(path: str | PathLike, *, lazy: bool = False) -> BaseSignal:
    """Read one spectrum, spectrum image or stack as a HyperSpy signal.

    Parameters
    ----------
    path : path
        ``.hspy``, ``.zspy``, ``.dm3``, ``.dm4``, ``.emd``, ``.msa``, ``.tif`` or ``.mrc``. Of several signals in
        one file, the largest is taken.
    lazy : bool
        Leave the data on disk, as a lazy signal (Dask).

    Raises
    ------
    ValueError
        The file is missing, of another kind, or would have code evaluated or unpickled.
    """
    path = _checked_path(path, SIGNAL_SUFFIXES)
    suffix = path.suffix.lower()
    if suffix == ".zspy":
        _refuse_pickled_zarr(path)
    try:
        if suffix in (".hspy", ".zspy"):
            for entry in import_module(f"rsciio.{suffix[1:]}").file_reader(str(path), lazy=True):
                if any("expression" in axis for axis in entry["axes"]):
                    raise ValueError("axes: got an expression, which would be evaluated, wants numbers")
        import hyperspy.api as hs

        signals = hs.load(str(path), lazy=lazy)
    except Exception as error:
        raise ValueError(f"path: got {path.name}, wants a file that can be read ({error})") from error
    if isinstance(signals, list):
        if not signals:
            raise ValueError(f"path: got {path.name} without a signal, wants one at least")
        signals = max(signals, key=lambda signal: signal.data.size)
    return signals


def get_tilts(signal: BaseSignal) -> NDArray[np.float64] | None:
    """Return the tilt angles in degrees that a signal carries (``metadata.Tomography.tilts``), or None."""
    tilts = signal.metadata.get_item("Tomography.tilts", default=None)
    if tilts is not None:
        return np.asarray(data_of(tilts), dtype=float).ravel()
    for axis in signal.axes_manager.navigation_axes:
        if str(axis.name).lower() in ("tilt", "tilts", "tilt angle") or str(axis.units) in ("degrees", "deg", "°"):
            return np.asarray(axis.axis, dtype=float)
    return None


def _read_sidecar_tilts(path):
    """Tilt angles in the ``.rawtlt`` or ``.tlt`` file beside a stack, one per line; None without such a file."""
    for suffix in (".rawtlt", ".tlt"):
        sidecar = path.with_suffix(suffix)
        if sidecar.exists():
            return np.array([float(line) for line in sidecar.read_text().split()])
    return None


def read_tilt_series(
    path: str | PathLike,
    *,
    tilt_angles_deg: ArrayLike | None = None,
    channels: Sequence[str] | None = None,
    pixel_size_nm: float | None = None,
) -> TiltSeries:
    """Read a tilt series of maps.

    Parameters
    ----------
    path : path
        ``.npz`` with ``projections`` (and ``tilt_angles_deg``, ``channels``, ``pixel_size_nm``, ``variance``,
        ``covariance``, ``unit``, ``haadf``), or a stack in any other format of `TILT_SERIES_SUFFIXES`. Stacks are
        ``(T, Y, X)`` or ``(C, T, Y, X)``; or a fit of a series, as `fitting.PhaseFit.save` writes it.
    tilt_angles_deg : sequence of float, optional
        Angles to use in place of those in the file, or in a ``.rawtlt``/``.tlt`` file beside it.
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
        The file is missing, of another kind, has the wrong rank, no tilts, or a wrong number of tilts.
    """
    path = _checked_path(path, TILT_SERIES_SUFFIXES)
    stored = _read_archive(path) if path.suffix.lower() == ".npz" else _read_stack(path)
    arguments = {"tilt_angles_deg": tilt_angles_deg, "channels": channels, "pixel_size_nm": pixel_size_nm}
    stored |= {name: value for name, value in arguments.items() if value is not None}
    tilts = stored.get("tilt_angles_deg")
    if tilts is None:
        tilts = _read_sidecar_tilts(path)
    if tilts is None:
        raise ValueError(
            f"tilt_angles_deg: got none with {path.name}, wants the angles as an argument or in {path.stem}.rawtlt"
        )
    projections = np.ascontiguousarray(stored["projections"], dtype=np.float32)
    variance = _variance_of(projections, stored.get("variance"))
    if projections.ndim == 3:
        projections = projections[None]
    if projections.ndim != 4:
        raise ValueError(f"path: got shape {projections.shape} in {path.name}, wants (T, Y, X) or (C, T, Y, X)")
    covariance = stored.get("covariance")
    names = stored.get("channels")
    if names is None:
        names = [f"channel {index}" for index in range(len(projections))]
    size = stored.get("pixel_size_nm")
    return TiltSeries(
        projections,
        np.asarray(tilts, dtype=float),
        tuple(str(name) for name in names),
        pixel_size_nm=None if size is None else float(size),
        variance=variance,
        haadf=stored.get("haadf"),
        covariance=covariance,
        unit=str(stored.get("unit") or ""),
        metadata={"title": path.stem, "source": path.name},
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
    try:
        with np.load(path, allow_pickle=False) as archive:
            stored = dict(archive)
    except ValueError as error:
        raise ValueError(f"path: got {path.name}, wants an archive of plain arrays ({error})") from error
    if "projections" not in stored:
        raise ValueError(f"path: got {sorted(stored)} in {path.name}, wants an array 'projections'")
    if "pixel_nm" in stored:  # the name of pixel_size_nm in files of version 0.1
        stored.setdefault("pixel_size_nm", stored["pixel_nm"])
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
    }


def _read_stack(path):
    """What a file that HyperSpy opens says of a tilt series; names as in `TiltSeries`."""
    signal = read_signal(path)
    if signal.metadata.get_item("SoftEELS.fit", default=None) is not None:
        return _maps_of_fit(path, PhaseFit.from_signal(signal))
    if signal.data.ndim not in (3, 4):
        raise ValueError(f"path: got shape {signal.data.shape} in {path.name}, wants (T, Y, X) or (C, T, Y, X)")
    if signal.axes_manager.signal_dimension == 1 and path.suffix.lower() not in (".tif", ".tiff", ".mrc"):
        raise ValueError(
            f"path: got spectra in {path.name} (an energy axis, shape {signal.data.shape}), wants maps: fit the "
            "spectra first (chapter 03)"
        )
    return {
        "projections": signal.data,
        "tilt_angles_deg": get_tilts(signal),
        "pixel_size_nm": step_nm(signal.axes_manager._axes[-1]),
        "channels": signal.metadata.get_item("Tomography.channels", default=None),
        "variance": signal.metadata.get_item("Signal.Noise_properties.variance", default=None),
        "covariance": signal.metadata.get_item("Tomography.covariance", default=None),
        "unit": signal.metadata.get_item("Tomography.unit", default=""),
    }
