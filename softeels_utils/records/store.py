"""A record: a table with a row for each result, and small pictures of some of them."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..source import PACKAGE

__all__ = [
    "ABOUT",
    "BENCHMARKS",
    "FOLDER",
    "Record",
    "as_bytes",
    "as_recorded",
    "benchmark",
    "cell_name",
    "load",
    "locked",
]

FOLDER = PACKAGE.parent / "data" / "records"  # in a checkout; an installed package has none
BENCHMARKS = PACKAGE.parent / "benchmarks" / "results"  # likewise
ABOUT = ("code", "commit", "date", "versions", "hardware")  # texts, though a commit may be all digits


def _value(text: str) -> Any:
    """The number or text of a field; None where it is empty."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text or None


def _text(value: Any) -> str:
    """A field of the table: six digits tell all that a seed leaves."""
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, (float, np.floating)) else str(value)


def as_recorded(value: Any) -> Any:
    """What is read back of a value that a row holds."""
    return _value(_text(value))


def _replace(path: Path, content: bytes) -> None:
    """Write a file in one piece."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)


@dataclass
class Record:
    """What a study has found so far.

    Attributes
    ----------
    name : str
    rows : list of dict
        One a result: the parameters of its cell, the method, the measures, and from what code, when and on what
        machine.
    """

    name: str
    rows: list[dict[str, Any]] = field(default_factory=list)

    @cached_property
    def pictures(self) -> dict[str, NDArray[np.uint8]]:
        """Volumes of fractions, or slices of them, in 255ths, under the names of their cells (`picture`)."""
        archive = FOLDER / f"{self.name}.npz"
        if not archive.exists():
            return {}
        with np.load(archive, allow_pickle=False) as content:
            return {key: content[key] for key in content.files}

    def where(self, **wanted: Any) -> list[dict[str, Any]]:
        """Rows that have these values; a list, tuple or set means any of its members."""
        sets = {key: value if isinstance(value, (list, tuple, set)) else [value] for key, value in wanted.items()}
        return [row for row in self.rows if all(row.get(key) in value for key, value in sets.items())]

    def values(self, measure: str, **wanted: Any) -> NDArray[np.float64]:
        """One measure of the rows that `where` finds; rows without it are left out."""
        return np.array([row[measure] for row in self.where(**wanted) if row.get(measure) is not None], float)

    def picture(self, row: Mapping[str, Any], parameters: Sequence[str]) -> NDArray[np.float32] | None:
        """The picture of a row, as fractions; None where none was kept."""
        found = self.pictures.get(cell_name(row, parameters))
        return None if found is None else found.astype(np.float32) / 255

    def stale(self, stamp: Callable[[Mapping[str, Any]], str]) -> list[dict[str, Any]]:
        """Rows from other code than the present one, whose stamp is given for each row (`Study.stamp`)."""
        return [row for row in self.rows if row.get("code") != stamp(row)]

    def add(self, rows: Iterable[Mapping[str, Any]], pictures: Mapping[str, ArrayLike]) -> None:
        """Put rows and pictures in, and write the files anew, each in one piece; the table, which tells, is last."""
        self.rows += [dict(row) for row in rows]
        if pictures:
            self.pictures.update({name: as_bytes(volume) for name, volume in pictures.items()})
            archive = io.BytesIO()
            np.savez_compressed(archive, **self.pictures)
            _replace(FOLDER / f"{self.name}.npz", archive.getvalue())
        self.save()

    def save(self) -> None:
        """Write the table."""
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        stream = io.StringIO(newline="")
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_text(row.get(column)) for column in columns] for row in self.rows)
        _replace(FOLDER / f"{self.name}.csv", stream.getvalue().encode())


def as_bytes(volume: ArrayLike) -> NDArray[np.uint8]:
    """Fractions in 255ths."""
    return np.rint(255 * np.clip(np.asarray(volume), 0, 1)).astype(np.uint8)


def cell_name(row: Mapping[str, Any], parameters: Sequence[str]) -> str:
    """What a cell is called: the values of its parameters."""
    return " ".join(_text(row.get(name)) for name in parameters)


def load(name: str) -> Record:
    """Read a record; an empty one where there is none."""
    table, record = FOLDER / f"{name}.csv", Record(name)
    if table.exists():
        with table.open(newline="", encoding="utf-8") as stream:
            record.rows = [
                {key: text if key in ABOUT and text else _value(text) for key, text in row.items()}
                for row in csv.DictReader(stream)
            ]
    return record


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Keep other processes from writing a record, whose rows they would lose; ValueError where one is at it."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(FOLDER / f".{name}.lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise ValueError(f"name: got {name!r}, which another process is writing, wants one that is free") from None
    try:
        yield
    finally:
        lock.release()


def benchmark(name: str) -> dict | None:
    """Return the record of a script in ``benchmarks/``, as it was written; None where there is none of that name.

    Parameters
    ----------
    name : str
        Of the file, without its ending.
    """
    path = BENCHMARKS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
