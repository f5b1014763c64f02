"""Readers and writers of files: spectra as HyperSpy signals, maps over tilt as a `TiltSeries`."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..spectra.arrays import step_nm

SIGNAL_SUFFIXES = (".hspy", ".zspy", ".dm3", ".dm4", ".emd", ".msa", ".tif", ".tiff", ".mrc")
TILT_SERIES_SUFFIXES = (".hspy", ".zspy", ".dm3", ".dm4", ".emd", ".tif", ".tiff", ".mrc", ".npz")


@dataclass(frozen=True)
class TiltSeries:
    """Maps of one or more channels over tilt.

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
        Variance of each value where the noise is known (counts).
    haadf : array, shape (T, Y, X), or None
        Co-acquired dark-field images, not aligned.
    metadata : dict
        What else the file says: title, source, unit.
    """

    projections: np.ndarray
    tilt_angles_deg: np.ndarray
    channels: tuple[str, ...]
    pixel_size_nm: float | None = None
    variance: np.ndarray | None = None
    haadf: np.ndarray | None = None
    metadata: dict = field(default_factory=dict)

    def __post_init__(self):
        shape = np.shape(self.projections)
        if len(shape) != 4:
            raise ValueError(f"projections: got shape {shape}, wants (C, T, Y, X)")
        if len(self.channels) != shape[0]:
            raise ValueError(f"channels: got {len(self.channels)} names, wants {shape[0]} (projections are {shape})")
        if np.shape(self.tilt_angles_deg) != (shape[1],):
            raise ValueError(
                f"tilt_angles_deg: got shape {np.shape(self.tilt_angles_deg)}, wants ({shape[1]},): one a projection"
            )
        if not np.all(np.isfinite(self.tilt_angles_deg)):
            raise ValueError("tilt_angles_deg: has NaN or inf")


def _checked_path(path, suffixes):
    path = Path(path).expanduser()
    if not path.exists():
        raise ValueError(f"path: {path} does not exist")
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
        raise ValueError(f"path: {path.name} is no Zarr store (neither folder nor zip)")
    if any(b"pickle" in text.lower() for text in texts):
        raise ValueError(f"path: {path.name} holds pickled arrays, which are never read")


def read_signal(path, *, lazy=False):
    """Read one spectrum, spectrum image or stack as a HyperSpy signal.

    Parameters
    ----------
    path : path
        ``.hspy``, ``.zspy``, ``.dm3``, ``.dm4``, ``.emd``, ``.msa``, ``.tif`` or ``.mrc``; of several signals in
        one file the largest is taken.
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
            import rsciio

            reader = {".hspy": "hspy", ".zspy": "zspy"}[suffix]
            module = __import__(f"{rsciio.__name__}.{reader}", fromlist=["file_reader"])
            for entry in module.file_reader(str(path), lazy=True):
                if any("expression" in axis for axis in entry["axes"]):
                    raise ValueError("has an axis given by an expression, which would have to be evaluated")
        import hyperspy.api as hs

        signals = hs.load(str(path), lazy=lazy)
    except Exception as error:
        raise ValueError(f"path: cannot read {path.name}: {error}") from error
    if isinstance(signals, list):
        if not signals:
            raise ValueError(f"path: {path.name} holds no signal")
        signals = max(signals, key=lambda signal: signal.data.size)
    return signals


def get_tilts(signal):
    """Return the tilt angles in degrees that a signal carries (``metadata.Tomography.tilts``), or None."""
    tilts = signal.metadata.get_item("Tomography.tilts", default=None)
    if tilts is None:
        for axis in signal.axes_manager.navigation_axes:
            if str(axis.name).lower() in ("tilt", "tilts", "tilt angle") or str(axis.units) in ("degrees", "deg", "°"):
                return np.asarray(axis.axis, dtype=float)
        return None
    return np.asarray(getattr(tilts, "data", tilts), dtype=float).ravel()


def _sidecar_tilts(path):
    for suffix in (".rawtlt", ".tlt"):
        sidecar = path.with_suffix(suffix)
        if sidecar.exists():
            return np.array([float(line) for line in sidecar.read_text().split()])
    return None


def read_tilt_series(path, *, tilt_angles_deg=None, channels=None, pixel_size_nm=None):
    """Read a tilt series of maps.

    Parameters
    ----------
    path : path
        ``.npz`` with ``projections`` (and ``tilt_angles_deg``, ``channels``, ``pixel_size_nm``), or a stack in any other
        format of `TILT_SERIES_SUFFIXES`. Stacks are ``(T, Y, X)`` or ``(C, T, Y, X)``.
    tilt_angles_deg : sequence of float, optional
        Overrides what the file, or a ``.rawtlt``/``.tlt`` file beside it, says.
    channels : sequence of str, optional
        Names of the channels.
    pixel_size_nm : float, optional

    Returns
    -------
    TiltSeries

    Raises
    ------
    ValueError
        The file is missing, of another kind, has the wrong rank, no tilts, or another number of them.
    """
    path = _checked_path(path, TILT_SERIES_SUFFIXES)
    suffix = path.suffix.lower()
    metadata = {"title": path.stem, "source": path.name}
    found_tilts = found_channels = found_pixel = variance = None
    if suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as archive:
                stored = {key: archive[key] for key in archive.files}
        except ValueError as error:
            raise ValueError(f"path: cannot read {path.name}: {error}") from error
        if "projections" not in stored:
            raise ValueError(f"path: {path.name} has {sorted(stored)}, wants an array 'projections'")
        projections, found_tilts = stored["projections"], stored.get("tilt_angles_deg")
        variance = stored.get("variance")
        if "channels" in stored:
            found_channels = [str(name) for name in stored["channels"]]
        if "pixel_size_nm" in stored:
            found_pixel = float(stored["pixel_size_nm"])
    else:
        signal = read_signal(path)
        if signal.data.ndim not in (3, 4):
            raise ValueError(f"path: {path.name} has shape {signal.data.shape}, wants (T, Y, X) or (C, T, Y, X)")
        if signal.axes_manager.signal_dimension == 1 and suffix not in (".tif", ".tiff", ".mrc"):
            raise ValueError(
                f"path: {path.name} has an energy axis (shape {signal.data.shape}): it holds spectra, "
                "to be fitted into maps first (chapter 03)"
            )
        projections = signal.data
        found_tilts = get_tilts(signal)
        found_pixel = step_nm(signal.axes_manager._axes[-1])
        found_channels = signal.metadata.get_item("Tomography.channels", default=None)
    if found_tilts is None:
        found_tilts = _sidecar_tilts(path)
    tilts = found_tilts if tilt_angles_deg is None else tilt_angles_deg
    if tilts is None:
        raise ValueError(
            f"tilt_angles_deg: {path.name} does not carry the tilt angles, and no {path.stem}.rawtlt lies beside it; "
            "pass them"
        )
    projections = np.asarray(projections, dtype=np.float32)
    if projections.ndim == 3:
        projections = projections[None]
    if projections.ndim != 4:
        raise ValueError(f"path: {path.name} has shape {projections.shape}, wants (T, Y, X) or (C, T, Y, X)")
    names = channels or found_channels or [f"channel {index}" for index in range(len(projections))]
    return TiltSeries(
        np.ascontiguousarray(projections),
        np.asarray(tilts, dtype=float),
        tuple(names),
        pixel_size_nm=pixel_size_nm or found_pixel,
        variance=variance,
        metadata=metadata,
    )


def write_tilt_series(path, series):
    """Write a `TiltSeries` as ``.hspy``, ``.zspy`` (with ETSpy's ``metadata.Tomography.tilts``) or ``.npz``."""
    path = Path(path)
    if path.suffix == ".npz":
        stored = {
            "projections": series.projections,
            "tilt_angles_deg": series.tilt_angles_deg,
            "channels": np.array(series.channels),
        }
        if series.pixel_size_nm:
            stored["pixel_size_nm"] = series.pixel_size_nm
        if series.variance is not None:
            stored["variance"] = series.variance
        np.savez_compressed(path, **stored)
        return
    if path.suffix not in (".hspy", ".zspy"):
        raise ValueError(f"path: got {path.suffix!r}, wants .hspy, .zspy or .npz")
    import hyperspy.api as hs

    pixel = {"scale": series.pixel_size_nm, "units": "nm"} if series.pixel_size_nm else {}
    count, tilts, rows, columns = series.projections.shape
    signal = hs.signals.Signal2D(
        series.projections,
        axes=[
            {"name": "channel", "size": count},
            {"name": "tilt", "size": tilts},
            {"name": "y", "size": rows, **pixel},
            {"name": "x", "size": columns, **pixel},
        ],
    )
    signal.metadata.set_item("Tomography.tilts", [float(tilt) for tilt in series.tilt_angles_deg])
    signal.metadata.set_item("Tomography.channels", list(series.channels))
    signal.save(str(path), overwrite=True)
