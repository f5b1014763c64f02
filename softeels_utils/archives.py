"""What a file claims, read before the file is: arrays, HDF5 and Zarr stores, stacks, and how large it may unpack."""

from __future__ import annotations

import json
import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "BROKEN_ZIP",
    "check_archive",
    "check_hdf5",
    "check_mrc",
    "check_size",
    "check_tiff",
    "check_zarr",
    "read_archive",
]

#: What reading a damaged zip archive raises; NotImplementedError, of an unknown compression, is a RuntimeError.
BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError)

MRC_BIG_ENDIAN = b"\x11\x11"  # the machine stamp
MRC_HEADER, MRC_BYTES = 1024, {0: 1, 1: 2, 2: 4, 3: 4, 4: 8, 6: 2, 12: 2, 101: 0.5}  # of a value, by its mode

MOST_BYTES = 32 * 2**30  # of one array or archive in memory
LEAST_BYTES = 64 * 2**20  # below, no expansion is too large
MOST_EXPANSION = 250  # of a file, unpacked: maps of counts that are mostly 0 reach about 100
# Codecs that only compress, or turn bytes into plain values. Others, which might run code, are refused unseen.
CODECS = frozenset(
    "blosc zlib gzip bz2 lzma zstd lz4 delta shuffle fixedscaleoffset quantize bitround packbits astype crc32 crc32c "
    "adler32 fletcher32 vlen-utf8 vlen-bytes vlen-array json2 msgpack2 bytes transpose sharding_indexed".split()
)


def check_size(claimed: int, path: Path, held: int | None = None) -> None:
    """Refuse an array or archive that would fill the memory, or that is far larger than the file it comes from.

    Parameters
    ----------
    claimed : int
        Bytes once unpacked.
    path : pathlib.Path
    held : int, optional
        Bytes that hold it; by default all of the file or folder.
    """
    if claimed > MOST_BYTES:
        raise ValueError(f"path: got {claimed:.3g} bytes in {path.name}, wants at most {MOST_BYTES:.3g}")
    if claimed > LEAST_BYTES:
        files = path.rglob("*") if path.is_dir() else (path,)
        held = sum(file.stat().st_size for file in files) if held is None else held
        if claimed > MOST_EXPANSION * held:
            raise ValueError(
                f"path: got {claimed:.3g} bytes packed into {held:.3g} in {path.name}, wants at most {MOST_EXPANSION} "
                "times as many"
            )


# ---------------------------------------------------------------- NumPy archives


def check_archive(path: Path) -> None:
    """Refuse what is no ``.npz`` file, or holds Python objects or more than `check_size` allows, before it is read."""
    with _archive(path) as archive:
        _check_members(archive, archive.infolist(), path)


@contextmanager
def _archive(path):
    """A zip archive; within it, errors of what is broken in the archive name ``path``."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (*BROKEN_ZIP, ValueError) as error:
        if str(error).startswith("path: "):
            raise
        raise ValueError(f"path: got {path.name}, wants an archive of plain arrays ({error})") from error


def read_archive(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Arrays of an ``.npz`` file by name, of those that it has; their headers are read and checked before any data.

    Raises
    ------
    ValueError
        Not an archive, or cut; arrays of Python objects; arrays that claim more than is there, or than `check_size`
        allows.
    """
    with _archive(path) as archive:
        members = {Path(info.filename).stem: info for info in archive.infolist()}
        if len(members) < len(archive.infolist()):
            raise ValueError(f"path: got arrays of the same name in {path.name}, wants each name once")
        _check_members(archive, members.values(), path)
        found = {}
        for name in members.keys() & set(names):
            with archive.open(members[name]) as stream:
                found[name] = np.lib.format.read_array(stream, allow_pickle=False)
    if "projections" in names and "projections" not in found:
        raise ValueError(f"path: got {sorted(members)} in {path.name}, wants an array 'projections'")
    return found


def _check_members(archive, members, path):
    """Sizes that the directory and the arrays' headers claim."""
    check_size(sum(info.file_size for info in members), path)
    for info in members:
        with archive.open(info) as stream:
            version = np.lib.format.read_magic(stream)
            read_header = (
                np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read_header(stream)
            header = stream.tell()
        if dtype.hasobject:
            raise ValueError(f"path: got Python objects in {path.name}, wants plain arrays: pickles are never read")
        claimed = header + dtype.itemsize * int(np.prod([int(n) for n in shape], dtype=object))
        if claimed != info.file_size:
            raise ValueError(
                f"path: got {shape} {dtype} ({claimed:.3g} bytes) in {path.name}, wants the {info.file_size} it holds"
            )


# ---------------------------------------------------------------- HDF5


def check_hdf5(path: Path) -> None:
    """Refuse an HDF5 file that reads from other files, or whose arrays claim more than `check_size` allows."""
    import h5py

    sizes = []

    def look(name, item):
        elsewhere = False
        if isinstance(item, h5py.Group):
            elsewhere = any(isinstance(item.get(key, getlink=True), h5py.ExternalLink) for key in item)
        elif isinstance(item, h5py.Dataset):
            parts = item.virtual_sources() if item.is_virtual else ()
            elsewhere = bool(item.external) or any(part.file_name != "." for part in parts)
            sizes.append(int(np.prod(item.shape or (), dtype=object)) * item.dtype.itemsize)
        if elsewhere:
            raise ValueError(f"path: got data in other files ({name} of {path.name}), wants all in this one")

    with h5py.File(path) as file:
        look("/", file)
        file.visititems(look)
    check_size(sum(sizes), path)


# ---------------------------------------------------------------- stacks of images


def check_mrc(path: Path) -> None:
    """Refuse an MRC file whose header claims more than the file holds."""
    with path.open("rb") as stream:
        header = stream.read(MRC_HEADER).ljust(MRC_HEADER, b"\0")
    if header[212:214] == MRC_BIG_ENDIAN:
        raise ValueError(f"path: got numbers of the big-endian kind in {path.name}, wants little-endian ones")
    *size, mode = struct.unpack("<4i", header[:16])
    (extended,) = struct.unpack("<i", header[92:96])
    held = path.stat().st_size
    claimed = MRC_HEADER + extended + math.prod(size) * MRC_BYTES.get(mode, 1)
    if min(size) < 1 or extended < 0 or claimed > held:
        sides = " × ".join(map(str, size))
        raise ValueError(
            f"path: got {sides} values in the {held} bytes of {path.name}, wants as many as its header says"
        )


def check_tiff(path: Path) -> None:
    """Refuse a TIFF file whose images claim more than `check_size` allows."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        check_size(sum(int(series.size) * series.dtype.itemsize for series in file.series), path)


# ---------------------------------------------------------------- Zarr stores


def check_zarr(path: Path) -> None:
    """Refuse a Zarr store (a folder or a zip) whose arrays go through a codec that is not one of `CODECS`.

    Zarr runs the codecs that a store names, and one of them unpickles. The metadata are parsed, as Zarr parses them.
    """
    for text in _metadata(path):
        try:
            entry = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"path: got broken metadata in {path.name}, wants JSON ({error})") from None
        for codec in _codecs(entry):
            if codec not in CODECS:
                raise ValueError(
                    f"path: got arrays of codec {codec!r} in {path.name}, wants plain ones: pickles are never read"
                )


def _metadata(path: Path) -> Iterator[bytes]:
    """What describes the arrays: ``.zarray`` and ``.zmetadata`` of Zarr 2, ``zarr.json`` of Zarr 3."""
    names = (".zarray", ".zmetadata", "zarr.json")
    if path.is_dir():
        for file in path.rglob("*"):
            if file.is_symlink() or not (file.is_file() or file.is_dir()):
                raise ValueError(f"path: got a link, pipe or device in {path.name} ({file.name}), wants plain files")
            if file.name.lower() in names:
                yield file.read_bytes()
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            check_size(sum(info.file_size for info in archive.infolist()), path)
            for name in archive.namelist():
                if name.lower().endswith(names):
                    yield archive.read(name)
    else:
        raise ValueError(f"path: got {path.name}, neither folder nor zip, wants a Zarr store")


def _codecs(entry: Any) -> Iterator[Any]:
    """Names of all codecs, however deep."""
    if isinstance(entry, list):
        for part in entry:
            yield from _codecs(part)
    elif isinstance(entry, dict):
        for key, value in entry.items():
            if key in ("compressor", "filters", "codecs", "index_codecs", "compressors", "serializer"):
                for codec in value if isinstance(value, list) else [value] if value is not None else []:
                    yield codec.get("id", codec.get("name")) if isinstance(codec, dict) else codec
            yield from _codecs(value)
