"""Data sets and files: a registry with pinned addresses and hashes, and readers that trust nothing they read.

Everything a microscopist opens comes in through here, as a HyperSpy signal (`read_signal`) or as a `TiltSeries` of
maps (`read_tilt_series`). No reader unpickles or evaluates anything that stands in a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import yaml

__all__ = [
    "DataUnavailable",
    "Dataset",
    "TiltSeries",
    "at_hand",
    "available",
    "cache_folder",
    "fetch",
    "load",
    "read_signal",
    "read_tilt_series",
    "registry",
    "tilts_of",
    "write_tilt_series",
]

ROOT = Path(__file__).resolve().parents[1]
SIGNAL_SUFFIXES = (".hspy", ".zspy", ".dm3", ".dm4", ".emd", ".msa", ".tif", ".tiff", ".mrc")
TILT_SERIES_SUFFIXES = (".hspy", ".zspy", ".dm3", ".dm4", ".emd", ".tif", ".tiff", ".mrc", ".npz")
PAPER_TILTS_DEG = (-69.5, -52.5, -35.0, -17.5, 0.0, 17.5, 35.0, 52.5, 70.0)
# Largest value of each stack, as known before any download here; a reader that finds another one says so.
PAPER_MAXIMA = {"FeO": 2.80e-6, "Fe3O4": 3.56e-6}
# K lines in keV and the half width of their windows at a resolution of about 130 eV (Mn K-alpha).
EDS_LINES_KEV = {"O": 0.525, "Mg": 1.254, "Si": 1.740, "Fe": 6.404}
EDS_HALF_WIDTH_KEV = {"O": 0.06, "Mg": 0.06, "Si": 0.065, "Fe": 0.11}


class DataUnavailable(OSError):
    """A registered data set is neither in the cache nor to be had from its address now."""


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
    pixel_nm : float or None
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
    pixel_nm: float | None = None
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


# ---------------------------------------------------------------- registry and cache


@dataclass(frozen=True)
class Dataset:
    """An entry of ``data/registry.yml``."""

    name: str
    title: str
    kind: str
    reader: str
    licence: str
    citation: str
    source: str
    files: tuple[dict, ...]
    notes: str = ""

    @property
    def bytes(self):
        """Size of all files, or None where one is not known."""
        sizes = [file.get("bytes") for file in self.files]
        return None if None in sizes else sum(sizes)


@cache
def registry():
    """Return all registered data sets as ``{name: Dataset}``."""
    entries = yaml.safe_load((ROOT / "data" / "registry.yml").read_text(encoding="utf-8"))
    return {name: Dataset(name=name, **{**entry, "files": tuple(entry["files"])}) for name, entry in entries.items()}


def _dataset(name):
    try:
        return registry()[name]
    except KeyError:
        raise ValueError(f"name: got {name!r}, wants one of {', '.join(registry())}") from None


def cache_folder():
    """Return the folder of downloaded data: ``SOFTEELS_DATA``, else the platform's cache folder."""
    import pooch

    chosen = os.environ.get("SOFTEELS_DATA")
    return Path(chosen).expanduser().resolve() if chosen else Path(pooch.os_cache("softeels"))


def _known_hash(file, path):
    recorded = path.with_name(path.name + ".sha256")
    if "sha256" in file:
        return file["sha256"]
    return recorded.read_text().split()[0] if recorded.exists() else None


def at_hand(name):
    """Whether all files of a data set lie in the cache already; downloads and checks nothing."""
    return all((cache_folder() / file["path"]).is_file() for file in _dataset(name).files)


def fetch(name):
    """Make sure that a data set is in the cache, and that its files are what they should be.

    Returns
    -------
    dict of str to pathlib.Path
        File name to place.

    Raises
    ------
    ValueError
        No such data set.
    DataUnavailable
        Not in the cache and not to be downloaded now, or a file's hash is wrong.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")
    dataset, folder, paths = _dataset(name), cache_folder(), {}
    for file in dataset.files:
        path = folder / file["path"]
        known = _known_hash(file, path)
        if not path.is_file() and os.environ.get("SOFTEELS_OFFLINE", "") not in ("", "0"):
            raise DataUnavailable(f"{name}: {file['path']} is not in {folder}, and SOFTEELS_OFFLINE is set")
        try:
            if not (path.is_file() and known is None):
                path = Path(
                    pooch.retrieve(
                        file["url"],
                        known_hash=f"sha256:{known}" if known else None,
                        path=path.parent,
                        fname=path.name,
                        downloader=pooch.HTTPDownloader(timeout=20, progressbar=False),
                    )
                )
        except Exception as error:  # requests, urllib3, hash and permission errors: all mean the same to a reader
            raise DataUnavailable(f"{name}: cannot get {file['path']} from {file['url']} ({error})") from error
        if known is None:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            path.with_name(path.name + ".sha256").write_text(f"{digest}  {path.name}\n")
        paths[path.name] = path
    return paths


@cache
def _fetchable(name, folder):
    try:
        fetch(name)
    except DataUnavailable:
        return False
    return True


def available(name):
    """Whether a data set can be loaded here: it is in the cache, or could just be downloaded into it."""
    _dataset(name)
    return _fetchable(name, cache_folder())


def load(name):
    """Load a registered data set.

    Returns
    -------
    hyperspy signal, pair of signals (low loss, core loss), or TiltSeries
        After the data set's reader: ``spectrum``, ``spectrum_image``; ``dual_eels``; ``eds_tilt_series``,
        ``paper_nanocube``.

    Raises
    ------
    ValueError
        No such data set, or a file that does not hold what its entry says.
    DataUnavailable
        As `fetch`.
    """
    dataset = _dataset(name)
    paths = fetch(name)
    return _READERS[dataset.reader](paths)


# ---------------------------------------------------------------- readers of registered sets


def _read_single(paths):
    (path,) = paths.values()
    return read_signal(path)


def _read_fe2o3(paths):
    signal = _read_single(paths)
    energy, data = signal.axes_manager[-1].axis, signal.data
    bad = np.isclose(energy, 706.95, atol=0.01) | np.isclose(energy, 716.10, atol=0.01)
    bad[-1] = True
    data[bad] = np.interp(energy[bad], energy[~bad], data[~bad])
    return signal


def _read_dual_eels(paths):
    low, core = (read_signal(path) for path in paths.values())
    return (low, core) if low.axes_manager[-1].offset < core.axes_manager[-1].offset else (core, low)


def _read_paper_nanocube(paths):
    import tifffile

    stacks = {"FeO": paths["FeO_proj.tif"], "Fe3O4": paths["Fe3O4_proj.tif"]}
    shape = (len(PAPER_TILTS_DEG), 112, 112)
    maps = []
    for name, path in stacks.items():
        stack = tifffile.imread(path)
        if stack.shape != shape or stack.dtype.kind != "f":
            raise ValueError(f"{path.name}: got {stack.dtype} {stack.shape}, wants floats {shape}")
        if not np.isclose(stack.max(), PAPER_MAXIMA[name], rtol=0.01) or stack.min() < 0:
            raise ValueError(
                f"{path.name}: got values {stack.min():.3g} to {stack.max():.3g}, wants 0 to {PAPER_MAXIMA[name]:.3g}"
            )
        maps.append(stack.astype(np.float32))
    return TiltSeries(
        np.stack(maps),
        np.array(PAPER_TILTS_DEG),
        tuple(stacks),
        pixel_nm=0.4,
        metadata={"unit": "not stated", "pixel_nm": "probable, not stated with the data"},
    )


def _read_eds_tilt_series(paths, *, binning=4):
    """Sum the counts in a window about each line, less the background beside it, shift by the stored alignment, bin.

    Windows on either side give the background; net counts have the variance of both. The stored shifts are whole
    pixels and good to about four of them.
    """
    from rsciio.bruker import file_reader

    shifts = json.loads(paths["TomVizAlignments.json"].read_text())
    tilts = sorted(int(path.stem.removeprefix("tilt_")) for path in paths.values() if path.suffix == ".bcf")
    net, variance, haadf = [], [], []
    for tilt in tilts:
        image, cube = file_reader(str(paths[f"tilt_{tilt}.bcf"]), cutoff_at_kV=8)
        energy = cube["axes"][-1]
        channel = lambda kev, axis=energy: round((kev - axis["offset"]) / axis["scale"])  # noqa: E731
        dx, dy = shifts[(tilt + 50) // 5]
        haadf.append(image["data"].astype(np.float32))
        pixel_nm = cube["axes"][0]["scale"] * 1e3 * binning
        maps = []
        for name, line in EDS_LINES_KEV.items():
            half = EDS_HALF_WIDTH_KEV[name]
            low, high = channel(line - half), channel(line + half)
            gap = (high - low) // 2
            window = cube["data"][..., low:high].sum(-1, dtype=np.float32)
            beside = cube["data"][..., low - gap : low].sum(-1, dtype=np.float32)
            beside += cube["data"][..., high : high + gap].sum(-1, dtype=np.float32)
            scale = (high - low) / (2 * gap)
            maps.append([window - scale * beside, window + scale**2 * beside])
        maps = np.roll(np.asarray(maps), (dy, dx), axis=(-2, -1))
        rows, columns = (size // binning for size in maps.shape[-2:])
        maps = maps.reshape(*maps.shape[:2], rows, binning, columns, binning).sum((-3, -1))
        net.append(maps[:, 0])
        variance.append(maps[:, 1])
    return TiltSeries(
        np.stack(net, axis=1),
        np.array(tilts, dtype=float),
        tuple(EDS_LINES_KEV),
        pixel_nm=pixel_nm,
        variance=np.stack(variance, axis=1),
        haadf=np.stack(haadf),
        metadata={"unit": "net counts", "binning": binning},
    )


_READERS = {
    "spectrum": _read_fe2o3,
    "spectrum_image": _read_single,
    "dual_eels": _read_dual_eels,
    "eds_tilt_series": _read_eds_tilt_series,
    "paper_nanocube": _read_paper_nanocube,
}


# ---------------------------------------------------------------- readers of a user's files


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


def tilts_of(signal):
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


def _nm(axis):
    scale = {"nm": 1.0, "µm": 1e3, "um": 1e3, "μm": 1e3, "Å": 0.1, "A": 0.1, "pm": 1e-3, "m": 1e9}
    return axis.scale * scale[str(axis.units)] if str(axis.units) in scale else None


def read_tilt_series(path, *, tilt_angles_deg=None, channels=None, pixel_nm=None):
    """Read a tilt series of maps.

    Parameters
    ----------
    path : path
        ``.npz`` with ``projections`` (and ``tilt_angles_deg``, ``channels``, ``pixel_nm``), or a stack in any other
        format of `TILT_SERIES_SUFFIXES`. Stacks are ``(T, Y, X)`` or ``(C, T, Y, X)``.
    tilt_angles_deg : sequence of float, optional
        Overrides what the file, or a ``.rawtlt``/``.tlt`` file beside it, says.
    channels : sequence of str, optional
        Names of the channels.
    pixel_nm : float, optional

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
        if "pixel_nm" in stored:
            found_pixel = float(stored["pixel_nm"])
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
        found_tilts = tilts_of(signal)
        found_pixel = _nm(signal.axes_manager._axes[-1])
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
        pixel_nm=pixel_nm or found_pixel,
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
        if series.pixel_nm:
            stored["pixel_nm"] = series.pixel_nm
        if series.variance is not None:
            stored["variance"] = series.variance
        np.savez_compressed(path, **stored)
        return
    if path.suffix not in (".hspy", ".zspy"):
        raise ValueError(f"path: got {path.suffix!r}, wants .hspy, .zspy or .npz")
    import hyperspy.api as hs

    pixel = {"scale": series.pixel_nm, "units": "nm"} if series.pixel_nm else {}
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
