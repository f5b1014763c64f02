"""Checks of what a caller passes: arrays, numbers, tilt angles, masks and paths, the same everywhere.

Each raises `ValueError` ("name: got X, wants Y") before any work, or returns the value in the form that the package
uses.
"""

from __future__ import annotations

import numbers
import os
import re
import reprlib
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "BYTES",
    "LARGEST",
    "check_between",
    "check_choice",
    "check_count",
    "check_file",
    "check_flag",
    "check_index",
    "check_kind",
    "check_mapping",
    "check_mask",
    "check_names",
    "check_not_negative",
    "check_number",
    "check_output",
    "check_path",
    "check_positive",
    "check_room",
    "check_seed",
    "check_shapes",
    "check_text",
    "check_texts",
    "check_tilts",
    "check_window",
    "describe",
    "finite_array",
    "is_real",
    "named",
    "read_text",
    "real_array",
]

#: Largest number that is worked with: the squares of a million such still add up in float32.
LARGEST = 1e15
BYTES = (bytes, bytearray, memoryview)
MOST_TEXT = 2**22  # bytes
ROOM = 2**20  # bytes, for what describes an array in a file
LEAST_SPREAD_DEG = 10.0  # of a tilt series; ±180° in radians are 6.3
LEAST_STEP_DEG = 1e-3  # between two tilts: below, they are the same

SHORT = reprlib.Repr()  # of containers: what aliases in YAML stand for may be larger than any memory
SHORT.maxlevel = 4
SHORT.maxlist = SHORT.maxtuple = SHORT.maxdict = SHORT.maxset = 20
SHORT.maxstring = SHORT.maxother = SHORT.maxlong = 200


def describe(value: Any) -> str:
    """What an error message says that it got: a value that is short, else kind and shape."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    try:
        text = SHORT.repr(value)
    except Exception:  # of a whole number of more digits than Python writes, or of a foreign object
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{type(value).__name__} ({text[:60]}...)"


@contextmanager
def named(name: str, of: str = "path") -> Iterator[None]:
    """Within it, errors about an argument ``of`` speak of ``name``: what the caller's own user calls it.

    Examples
    --------
    >>> with named("low_loss"):
    ...     check_file("cube.txt", [".hspy"])
    Traceback (most recent call last):
        ...
    ValueError: low_loss: got cube.txt, which does not exist, wants a file
    """
    try:
        yield
    except ValueError as error:
        told = re.sub(rf"^{of}(?=: | \()", name, str(error))
        if told == str(error):
            raise
        raise ValueError(told) from error


# ---------------------------------------------------------------- arrays


def real_array(
    values: ArrayLike, name: str, *, ndim: int | None = None, finite: bool = True, empty: bool = True, where: str = ""
) -> NDArray:
    """The values as an array of real numbers, of their own type; nothing is dropped, as imaginary parts would be.

    Parameters
    ----------
    values : array_like
    name : str
        What error messages call it.
    ndim : int, optional
        Axes that it must have; it must not be empty then.
    finite : bool
        No NaN, no infinity, no more than `LARGEST`.
    empty : bool
        It may be empty.
    where : str
        Which values these are, if not all, for error messages.

    Examples
    --------
    >>> real_array([1, 2j], "maps")
    Traceback (most recent call last):
        ...
    ValueError: maps: got complex128 of shape (2,), wants real numbers
    """
    try:
        array = np.asarray(None if isinstance(values, BYTES) else values)
    except (TypeError, ValueError):  # ragged
        raise ValueError(f"{name}: got {describe(values)}, wants an array of real numbers") from None
    if np.ma.is_masked(values):
        raise ValueError(
            f"{name}: got masked values, wants an array without (NaN, or a mask of its own, where allowed)"
        )
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name}: got {describe(array if array.ndim else values)}, wants real numbers")
    if not (empty or array.size):
        raise ValueError(f"{name}: got shape {array.shape}, wants some numbers")
    if ndim is not None and (array.ndim != ndim or not array.size):
        raise ValueError(f"{name}: got shape {array.shape}, wants {ndim} axes, none of them empty")
    if finite and array.size:
        low, high = array.min(), array.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError(f"{name}: got NaN or inf, wants finite numbers{where}")
        if max(-low, high) > LARGEST:
            raise ValueError(f"{name}: got values up to {max(-low, high):.3g}, wants at most {LARGEST:g}")
    return array


def finite_array(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """The values as float64; ValueError where one is NaN, infinite or too large, or not a real number."""
    return np.asarray(real_array(values, name), dtype=float)


def check_shapes(arrays: Mapping[str, tuple[Any, str]]) -> None:
    """Raise `ValueError` unless arrays have the shapes that go with each other; None has any.

    Parameters
    ----------
    arrays : dict of str to (array, str)
        Such as ``"N 2"``: a number, or a name for one that is the same everywhere, for each axis; ``"..."``: any
        axes; ``"*"``: any shape.
    """
    known: dict[str, tuple[Any, str]] = {}
    for name, (array, wanted) in arrays.items():
        if array is None or isinstance(array, str) or wanted == "*":
            continue
        shape, axes = np.shape(array), wanted.split()
        parts: list[Any] = list(shape)
        if "..." in axes and len(shape) >= len(axes) - 1:
            at, rest = axes.index("..."), len(shape) - len(axes) + 1
            parts[at : at + rest] = [shape[at : at + rest]]
        fits = len(parts) == len(axes)
        for axis, part in zip(axes, parts, strict=False):
            fits &= part == (int(axis) if axis.isdigit() else known.setdefault(axis, (part, name))[0])
        if not fits:
            fixed = {axis: known[axis] for axis in axes if axis in known and known[axis][1] != name}
            where = "".join(f", {axis} = {size} as in {other}" for axis, (size, other) in fixed.items())
            raise ValueError(f"{name}: got shape {shape}, wants ({', '.join(axes)}){where}")


def check_mask(mask: ArrayLike, name: str, *shapes: tuple[int, ...]) -> NDArray[np.bool_]:
    """The mask; ValueError unless it is of bools, and of one of the shapes."""
    try:
        array = np.asarray(mask)
    except (TypeError, ValueError):  # ragged
        raise ValueError(f"{name}: got {describe(mask)}, wants an array of bools") from None
    if array.dtype != bool or array.shape not in shapes:
        wanted = " or ".join(map(str, shapes))
        raise ValueError(f"{name}: got {array.dtype} of shape {array.shape}, wants bool {wanted}")
    return array


def check_tilts(
    tilt_angles_deg: ArrayLike,
    count: int | None = None,
    *,
    name: str = "tilt_angles_deg",
    series: bool = True,
    least: int = 2,
) -> NDArray[np.float64]:
    """Tilt angles (T,) in degrees: real, finite, within ±180, and those of a series distinct and spread out.

    Parameters
    ----------
    tilt_angles_deg : array (T,)
    count : int, optional
        How many there must be.
    name : str
        What error messages call them.
    series : bool
        A volume is to come out: at least two angles (or ``least``), no angle twice, and a range that cannot be meant in
        radians.
    least : int
        How many a series must have: 1 where one projection is asked what it says.

    Examples
    --------
    >>> check_tilts([-1.22, 0, 1.22])
    Traceback (most recent call last):
        ...
    ValueError: tilt_angles_deg: got -1.22 to 1.22, wants degrees that span at least 10 (of radians: numpy.rad2deg)
    """
    tilts = finite_array(tilt_angles_deg, name)
    if tilts.ndim != 1 or not tilts.size or tilts.size != (tilts.size if count is None else count):
        wanted = "T" if count is None else count
        raise ValueError(f"{name}: got shape {tilts.shape}, wants ({wanted},), one angle for each projection")
    if np.abs(tilts).max() > 180:
        raise ValueError(f"{name}: got {tilts[np.abs(tilts).argmax()]:g}, wants degrees within -180 to 180")
    if not series or tilts.size == least == 1:
        return tilts
    if tilts.size < 2:
        raise ValueError(f"{name}: got one angle, wants at least two")
    ordered = np.sort(tilts)
    same = np.diff(ordered).argmin()
    if ordered[same + 1] - ordered[same] < LEAST_STEP_DEG:
        raise ValueError(f"{name}: got {ordered[same]:g} twice, wants distinct angles")
    if np.ptp(tilts) < LEAST_SPREAD_DEG:
        got, least = f"{ordered[0]:g} to {ordered[-1]:g}", f"{LEAST_SPREAD_DEG:g}"
        raise ValueError(f"{name}: got {got}, wants degrees that span at least {least} (of radians: numpy.rad2deg)")
    return tilts


# ---------------------------------------------------------------- single values


def is_real(value: Any) -> bool:
    """Whether a value is a real number, of Python or NumPy, and no flag."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    return isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_, np.timedelta64))


def check_number(value: float, name: str, least: float = -LARGEST, most: float = LARGEST) -> float:
    """The value as a float; ValueError unless it is a real number from ``least`` to ``most``."""
    if not (is_real(value) and least <= value <= most):
        raise ValueError(f"{name}: got {describe(value)}, wants a number from {least:g} to {most:g}")
    return float(value)


def check_between(value: float, name: str, least: float, most: float) -> float:
    """The value as a float; ValueError unless it is a real number above ``least`` and below ``most``."""
    if not (is_real(value) and least < value < most):
        raise ValueError(f"{name}: got {describe(value)}, wants a number between {least:g} and {most:g}")
    return float(value)


def check_index(index: Any, name: str, count: int) -> Any:
    """The index of some of ``count`` things: a slice, numbers or a mask; ValueError unless it finds one of them."""
    try:
        found = np.arange(count)[index if isinstance(index, slice) else np.asarray(index)]
    except (IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{name}: got {describe(index)}, wants an index of {count} ({error})") from None
    if not found.size or not found.ndim:
        raise ValueError(f"{name}: got {describe(index)}, wants some of {count}")
    return index


def check_positive(**values: float) -> None:
    """Raise `ValueError` unless every value is a number above 0, neither absurdly small nor large.

    Examples
    --------
    >>> check_positive(pixel_size_nm=0.4, gain=0)
    Traceback (most recent call last):
        ...
    ValueError: gain: got 0, wants a positive number
    """
    for name, value in values.items():
        if not (is_real(value) and 0 < value < np.inf):
            raise ValueError(f"{name}: got {describe(value)}, wants a positive number")
        if not 1 / LARGEST <= value <= LARGEST:
            raise ValueError(
                f"{name}: got {describe(value)}, wants a positive number from {1 / LARGEST:g} to {LARGEST:g}"
            )


def check_not_negative(**values: float) -> None:
    """Raise `ValueError` unless every value is a number of at least 0, and not absurdly large."""
    for name, value in values.items():
        if not (is_real(value) and 0 <= value <= LARGEST):
            raise ValueError(f"{name}: got {describe(value)}, wants a number of at least 0")


def check_count(value: int, name: str, least: int = 1, most: int = 2**31 - 1) -> int:
    """The value as an int; ValueError unless it is a whole number of at least ``least``, and at most ``most``."""
    if not (is_real(value) and isinstance(value, numbers.Integral)) or not least <= value <= most:
        limit = f", at most {most}" if most < 2**31 - 1 else ""
        raise ValueError(f"{name}: got {describe(value)}, wants a whole number of at least {least}{limit}")
    return int(value)


def check_seed(seed: int | np.random.Generator, *, generator: bool = False) -> int | np.random.Generator:
    """The seed; ValueError unless it is a whole number of at least 0, or, where that is wanted too, a generator."""
    whole = isinstance(seed, numbers.Integral) and not isinstance(seed, bool) and 0 <= seed < 2**63
    if not whole and not (generator and isinstance(seed, np.random.Generator)):
        raise ValueError(f"seed: got {describe(seed)}, wants a whole number of at least 0")
    return seed


def check_flag(value: bool, name: str) -> bool:
    """The value; ValueError unless it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name}: got {describe(value)}, wants True or False")
    return bool(value)


def check_kind(value: Any, name: str, kind: type) -> Any:
    """The value; ValueError unless it is one of the class ``kind``."""
    if not isinstance(value, kind):
        raise ValueError(f"{name}: got {describe(value)}, wants a {kind.__name__}")
    return value


def check_choice(value: str, name: str, choices: Collection[str]) -> str:
    """The value; ValueError unless it is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}: got {describe(value)}, wants one of {', '.join(map(repr, choices))}")
    return value


def check_text(value: str, name: str) -> str:
    """The value; ValueError unless it is text."""
    if not isinstance(value, str):
        raise ValueError(f"{name}: got {describe(value)}, wants text")
    return value


def check_texts(**values: str | None) -> None:
    """Raise `ValueError` unless every value is text, or None where it is left out.

    Examples
    --------
    >>> check_texts(caption=None, title=3)
    Traceback (most recent call last):
        ...
    ValueError: title: got 3, wants text
    """
    for name, value in values.items():
        if value is not None:
            check_text(value, name)


def check_mapping(value: Mapping[str, Any], name: str, *, empty: bool = False) -> dict[str, Any]:
    """What it maps as a dict; ValueError unless it is a mapping, not an empty one but with ``empty``."""
    if not isinstance(value, Mapping) or not (value or empty):
        raise ValueError(f"{name}: got {describe(value)}, wants a mapping" + " that is not empty" * (not empty))
    return dict(value)


def check_names(value: Sequence[str], name: str, count: int | None = None) -> tuple[str, ...]:
    """The names; ValueError unless they are texts, no two of them alike, and ``count`` of them if that is known."""
    if isinstance(value, (str, bytes)) or not isinstance(value, (Sequence, np.ndarray)):
        raise ValueError(f"{name}: got {describe(value)}, wants a sequence of names")
    found = tuple(value)
    if not all(isinstance(one, str) for one in found) or len(set(found)) < len(found):
        raise ValueError(f"{name}: got {describe(value)}, wants distinct names")
    if count is not None and len(found) != count:
        raise ValueError(f"{name}: got {len(found)} names, wants {count}")
    return found


def check_window(window_eV: ArrayLike, name: str = "window_eV", *, relative: bool = False) -> tuple[float, float]:
    """Both ends of an energy window; `ValueError` unless they are two increasing positive energies.

    Those of a ``relative`` window are counted from somewhere else than 0 eV: they may be negative.

    Examples
    --------
    >>> check_window([53, 73])
    (53.0, 73.0)
    """
    window = finite_array(window_eV, name)
    check_flag(relative, "relative")
    if window.shape != (2,) or not window[0] < window[1] or not (relative or window[0] > 0):
        positive = "" if relative else "positive "
        raise ValueError(f"{name}: got {describe(window_eV)}, wants two increasing {positive}energies")
    return float(window[0]), float(window[1])


# ---------------------------------------------------------------- files


def check_path(path: str | PathLike, name: str = "path") -> Path:
    """The path of a file or folder, ``~`` expanded; ValueError unless it is text, or a path, that can be one."""
    text = os.fsdecode(path) if isinstance(path, (str, PathLike)) else ""
    if not text or "\0" in text:
        raise ValueError(f"{name}: got {describe(path)}, wants a path")
    return Path(os.path.expanduser(text))


def check_output(
    path: str | PathLike, suffixes: Collection[str] | None, name: str = "path", *, folders: Collection[str] = ()
) -> Path:
    """The path of a file to write, ``~`` expanded.

    Parameters
    ----------
    path : path
    suffixes, folders : sequence of str
        Endings that it may have (None: any), and those of them that folders may have.
    name : str
        What error messages call it.

    Raises
    ------
    ValueError
        Another ending, a folder or a file that cannot be written.
    """
    path = check_path(path, name)
    if suffixes is not None and path.suffix not in suffixes:
        raise ValueError(f"{name}: got {path.name}, wants a name that ends in {' or '.join(suffixes)}")
    try:
        folder, is_folder = path.absolute().parent, path.is_dir() and path.suffix in folders
        taken = path.exists() and not (path.is_file() or is_folder)
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise ValueError(f"{name}: got {path}, in a folder that cannot be written, wants one that can")
        if taken or (path.exists() and not os.access(path, os.W_OK)):
            raise ValueError(f"{name}: got {path}, which is no file that can be written over, wants another name")
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise ValueError(f"{name}: got {describe(str(path))}, wants a file that can be written ({error})") from None
    return path


def check_room(path: Path, size: int, name: str = "path") -> None:
    """Raise `OSError` unless the disk of a file that is to be written has room for ``size`` bytes and a little more.

    HDF5 must not meet the end of a disk: it keeps what it could not write, tries again when Python ends, and crashes.
    """
    folder = path.absolute().parent
    free = shutil.disk_usage(folder).free if folder.is_dir() else np.inf  # that there is none is another matter
    if free < size + ROOM:
        raise OSError(
            f"{name}: got a disk with {free / 1e6:.3g} MB left ({path}), wants {(size + ROOM) / 1e6:.3g} MB: free some"
        )


def read_text(path: Path) -> str:
    """The text of a small file, such as settings; ValueError for one of more than 4 MB, before it is read."""
    if path.stat().st_size > MOST_TEXT:
        raise ValueError(f"path: got {path.stat().st_size:.3g} bytes of text in {path.name}, wants at most {MOST_TEXT}")
    return path.read_text(encoding="utf-8-sig")


def check_file(path: str | PathLike, suffixes: Collection[str] | None, *, folders: Collection[str] = ()) -> Path:
    """The path of a file to read, ``~`` expanded.

    Parameters
    ----------
    path : path
    suffixes : sequence of str or None
        Kinds of files that can be read, in lower case; None: any.
    folders : sequence of str
        Those of them that may be folders.

    Raises
    ------
    ValueError
        Nothing there, a folder, a pipe or a device (which might never end), an empty file, one that may not be read, or
        one of another kind.
    """
    path = check_path(path)
    suffix = path.suffix.lower()
    try:
        is_file, is_folder, exists = path.is_file(), path.is_dir(), path.exists()
        empty = is_file and not path.stat().st_size
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise ValueError(f"path: got {describe(str(path))}, wants a file that can be read ({error})") from None
    if not exists:
        raise ValueError(f"path: got {path}, which does not exist, wants a file")
    if suffixes is not None and suffix not in suffixes:
        raise ValueError(f"path: got a file of kind {suffix!r} ({path.name}), wants one of {', '.join(suffixes)}")
    if not is_file and not (is_folder and suffix in folders):
        kind = "a folder" if is_folder else "a pipe or device"
        raise ValueError(f"path: got {kind} ({path}), wants a file")
    if empty:
        raise ValueError(f"path: got an empty file ({path.name}), wants one with data")
    if not os.access(path, os.R_OK):
        raise ValueError(f"path: got {path}, which may not be read, wants a file that can be")
    return path
