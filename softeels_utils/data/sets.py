"""The registered data sets: where they are, whether they are what they should be, and how each is read."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..archives import BROKEN_ZIP, check_size
from ..doors import checked
from .files import TiltSeries
from .signals import read_signal

__all__ = [
    "PAPER_MAXIMA",
    "READERS",
    "DataUnavailable",
    "Dataset",
    "available",
    "cache_folder",
    "fetch",
    "is_cached",
    "load",
    "registry",
]

PAPER_TILTS_DEG = (-69.5, -52.5, -35.0, -17.5, 0.0, 17.5, 35.0, 52.5, 70.0)
# Largest value of each stack; the reader refuses stacks with another one.
PAPER_MAXIMA = {"FeO": 2.80e-6, "Fe3O4": 3.56e-6}
# K lines in keV and the half width of their windows at a resolution of about 130 eV (Mn K-alpha).
EDS_LINES_KEV = {"O": 0.525, "Mg": 1.254, "Si": 1.740, "Fe": 6.404}
EDS_HALF_WIDTH_KEV = {"O": 0.06, "Mg": 0.06, "Si": 0.065, "Fe": 0.11}
FUSED_ELEMENTS, FUSED_TILTS = ("Co", "Mn", "O"), 9
FUSED_MOST_TILTS = 64  # of the dark-field images beside the maps


class DataUnavailable(OSError):
    """A registered data set is neither in the cache nor to be had from its address now."""


@checked
@dataclass(frozen=True)
class Dataset:
    """An entry of ``registry.yml``, which lies beside this module."""

    name: str
    title: str
    kind: str
    reader: str
    licence: str
    citation: str
    source: str
    files: tuple[dict[str, Any], ...]
    notes: str = ""

    @property
    def bytes(self) -> int | None:
        """Size of all files together, or None if one of them is unknown."""
        sizes = [file.get("bytes") for file in self.files]
        return None if None in sizes else sum(sizes)


@checked
@cache
def registry() -> dict[str, Dataset]:
    """Return all registered data sets as ``{name: Dataset}``."""
    text = resources.files(__package__).joinpath("registry.yml").read_text(encoding="utf-8")
    entries = yaml.safe_load(text)
    return {name: Dataset(name=name, **{**entry, "files": tuple(entry["files"])}) for name, entry in entries.items()}


def _dataset(name):
    if not isinstance(name, str) or name not in registry():
        raise ValueError(f"name: got {name!r}, wants one of {', '.join(registry())}")
    return registry()[name]


@checked
def cache_folder() -> Path:
    """Return the folder of downloaded data: ``SOFTEELS_DATA``, else the platform's cache folder."""
    import pooch

    folder = os.environ.get("SOFTEELS_DATA")
    return Path(folder).expanduser().resolve() if folder else Path(pooch.os_cache("softeels"))


def _hash_record(path):
    """Where the hash found at the first download is written down, for a file that is registered without one."""
    return path.with_name(path.name + ".sha256")


def _expected_hash(file, path):
    """Hash that a file must have, with its kind (``md5:...``), or None before its first download."""
    for kind in ("sha256", "md5"):
        if kind in file:
            return f"{kind}:{file[kind]}"
    return f"sha256:{_hash_record(path).read_text().split()[0]}" if _hash_record(path).exists() else None


@checked
def is_cached(name: str) -> bool:
    """Whether all files of a data set lie in the cache already; downloads and checks nothing."""
    return all((cache_folder() / file["path"]).is_file() for file in _dataset(name).files)


@checked
def fetch(name: str) -> dict[str, Path]:
    """Make sure that a data set is in the cache, and that its files are what they should be.

    Returns
    -------
    dict of str to pathlib.Path
        Path of each file, by its name.

    Raises
    ------
    ValueError
        No such data set.
    DataUnavailable
        Not in the cache and cannot be downloaded now, or a file's hash is wrong.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")
    dataset, folder, paths = _dataset(name), cache_folder(), {}
    for file in dataset.files:
        path = folder / file["path"]
        expected = _expected_hash(file, path)
        if not path.is_file() and os.environ.get("SOFTEELS_OFFLINE", "") not in ("", "0"):
            raise DataUnavailable(f"{name}: {file['path']} is not in {folder}, and SOFTEELS_OFFLINE is set")
        try:
            if not (path.is_file() and expected is None):
                path = Path(
                    pooch.retrieve(
                        file["url"],
                        known_hash=expected,
                        path=path.parent,
                        fname=path.name,
                        downloader=pooch.HTTPDownloader(timeout=20, progressbar=False),
                    )
                )
        except Exception as error:  # requests, urllib3, hash and permission errors: all mean the same to the caller
            raise DataUnavailable(f"{name}: cannot get {file['path']} from {file['url']} ({error})") from error
        if expected is None:
            with suppress(OSError):  # a cache that cannot be written serves all the same
                _hash_record(path).write_text(f"{pooch.file_hash(str(path))}  {path.name}\n")
        paths[path.name] = path
    return paths


@cache
def _fetchable(name, folder):
    try:
        fetch(name)
    except DataUnavailable:
        return False
    return True


@checked
def available(name: str) -> bool:
    """Whether a data set can be loaded here: it is in the cache, or could just be downloaded into it."""
    _dataset(name)
    return _fetchable(name, cache_folder())


@checked
def load(name: str) -> Any:
    """Load a registered data set.

    Returns
    -------
    hyperspy signal, pair of signals (low loss, core loss), or TiltSeries
        Depends on the data set's reader: a signal for ``spectrum`` and ``spectrum_image``, a pair for ``dual_eels``,
        a series for ``eds_tilt_series``, ``paper_nanocube``, ``fused_coarse`` and ``fused_raw``.

    Raises
    ------
    ValueError
        No such data set, or a file that does not hold what its entry says.
    DataUnavailable
        As `fetch`.
    """
    dataset = _dataset(name)
    return READERS[dataset.reader](fetch(name))


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
        pixel_size_nm=0.4,
        metadata={"unit": "not stated", "pixel_size_nm": "probable, not stated with the data"},
    )


def _net_counts(cube, line_keV, half_width_keV):
    """Counts in a window about a line less the background beside it, and their variance: (2, Y, X).

    Windows on either side, together as wide as the line's, give the background; net counts have the variance of both.
    """
    energy = cube["axes"][-1]
    low, high = (
        round((edge - energy["offset"]) / energy["scale"])
        for edge in (line_keV - half_width_keV, line_keV + half_width_keV)
    )
    gap = (high - low) // 2
    window = cube["data"][..., low:high].sum(-1, dtype=np.float32)
    beside = cube["data"][..., low - gap : low].sum(-1, dtype=np.float32)
    beside += cube["data"][..., high : high + gap].sum(-1, dtype=np.float32)
    scale = (high - low) / (2 * gap)
    return [window - scale * beside, window + scale**2 * beside]


def _read_eds_tilt_series(paths, *, binning=4):
    """Net counts of each line of `EDS_LINES_KEV`, shifted by the stored alignment and binned.

    The stored shifts are whole pixels and good to about four of them.
    """
    from rsciio.bruker import file_reader
    from skimage.measure import block_reduce

    shifts = json.loads(paths["TomVizAlignments.json"].read_text())
    tilts = sorted(int(path.stem.removeprefix("tilt_")) for path in paths.values() if path.suffix == ".bcf")
    net, variance, haadf = [], [], []
    for tilt in tilts:
        image, cube = file_reader(str(paths[f"tilt_{tilt}.bcf"]), cutoff_at_kV=8)
        dx, dy = shifts[(tilt + 50) // 5]
        maps = [_net_counts(cube, line, EDS_HALF_WIDTH_KEV[name]) for name, line in EDS_LINES_KEV.items()]
        maps = np.roll(np.asarray(maps), (dy, dx), axis=(-2, -1))
        maps = block_reduce(maps, (1, 1, binning, binning), np.sum)
        net.append(maps[:, 0])
        variance.append(maps[:, 1])
        haadf.append(image["data"].astype(np.float32))
    return TiltSeries(
        np.stack(net, axis=1),
        np.array(tilts, dtype=float),
        tuple(EDS_LINES_KEV),
        pixel_size_nm=cube["axes"][0]["scale"] * 1e3 * binning,
        variance=np.stack(variance, axis=1),
        haadf=np.stack(haadf),
        unit="net counts",
        metadata={"binning": binning},
    )


def _read_fused(paths, member, side):
    """Maps (side, side, 9) of the elements and their angles, from one HDF5 file in the archive.

    Arrays are found by their shape; where several share it, by the last part of their name.
    """
    (path,) = paths.values()
    arrays = _arrays_by_shape(_member(path, member), side, where=f"{path.name}, {member}")
    maps, angles = arrays.get((side, side, FUSED_TILTS), {}), arrays.get((FUSED_TILTS,), {})
    if not set(FUSED_ELEMENTS) <= set(maps) or len(angles) != 1:
        found = "; ".join(f"{shape}: {', '.join(sorted(names))}" for shape, names in arrays.items()) or "none of them"
        raise ValueError(
            f"{path.name}, {member}: got {found}, wants maps {', '.join(FUSED_ELEMENTS)} of shape "
            f"{(side, side, FUSED_TILTS)} and {FUSED_TILTS} angles"
        )
    ((_, tilts),) = angles.items()
    stack = np.stack([np.moveaxis(maps[name], -1, 0) for name in FUSED_ELEMENTS])
    if not np.isfinite(stack).all():
        raise ValueError(f"{path.name}, {member}: got values that are not finite, wants maps")
    images = maps.get("haadf")
    return TiltSeries(
        np.ascontiguousarray(stack, np.float32),
        np.asarray(tilts, float),
        FUSED_ELEMENTS,
        haadf=_images_at(tilts, arrays) if images is None else np.moveaxis(images, -1, 0),
        metadata={"unit": "not stated", "pixel_size_nm": "not stated"},
    )


def _member(path, name):
    """A file of a zip archive, open in memory, wherever in its folders it lies."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = [one for one in archive.infolist() if Path(one.filename).name == name]  # not ._NAME, of a Mac
            if len(found) != 1:
                raise ValueError(f"{path.name}: got {len(found)} files {name}, wants one")
            check_size(found[0].file_size, path)
            return io.BytesIO(archive.read(found[0]))
    except BROKEN_ZIP as error:
        raise ValueError(f"{path.name}: got {error}, wants a zip archive that can be read") from error


def _arrays_by_shape(stream, side, where):
    """Arrays of real numbers {shape: {last part of the name: array}} that may be images of this side, or angles."""
    import h5py

    arrays = {}

    def look(name, item):
        if not isinstance(item, h5py.Dataset) or item.external or item.is_virtual or item.dtype.kind not in "fiu":
            return
        image = item.ndim == 3 and item.shape[:2] == (side, side) and item.shape[2] <= FUSED_MOST_TILTS
        if image or (item.ndim == 1 and 0 < item.size <= FUSED_MOST_TILTS):
            alike, last = arrays.setdefault(item.shape, {}), name.rsplit("/", 1)[-1]
            if last in alike:
                twice.append(f"{last} {item.shape}")
            alike[last] = item[:]

    twice = []
    try:
        with h5py.File(stream) as file:
            file.visititems(look)
    except (OSError, RuntimeError, LookupError, ArithmeticError, TypeError, ValueError) as error:  # of h5py
        raise ValueError(f"{where}: got {error}, wants an HDF5 file that can be read") from error
    if twice:
        raise ValueError(f"{where}: got two arrays {', '.join(twice)}, wants names that differ")
    return arrays


def _images_at(tilts, arrays):
    """Images (T, side, side) of a dark-field series at the tilts of the maps, None unless it has them all."""
    for shape, named in arrays.items():
        angles = list(arrays.get(shape[2:], {}).values())
        if len(shape) == 3 and shape[2] > len(tilts) and len(named) == len(angles) == 1:
            apart = np.abs(np.subtract.outer(tilts, angles[0]))
            if apart.min(axis=1).max() < 0.1:
                (series,) = named.values()
                return np.moveaxis(series[..., apart.argmin(axis=1)], -1, 0)
    return None


READERS: dict[str, Callable[[dict[str, Path]], Any]] = {
    "spectrum": _read_fe2o3,
    "spectrum_image": _read_single,
    "dual_eels": _read_dual_eels,
    "eds_tilt_series": _read_eds_tilt_series,
    "paper_nanocube": _read_paper_nanocube,
    "fused_coarse": partial(_read_fused, member="Exp_1_coarse_tilt_series.h5", side=345),
    "fused_raw": partial(_read_fused, member="raw_tilt_series.h5", side=400),
}
