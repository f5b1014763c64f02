"""A folder of steps that are files: each is done once, and again only when what it was made of has changed."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock

from .. import __version__, source
from ..checks import check_count, check_mapping, check_names, check_path, describe, named
from ..doors import checked

__all__ = ["Folder", "FolderBusy", "Step", "hash_of"]

NO_SPACE = ("No space left on device", "Disk quota exceeded", "errno = 28", "errno = 122")
VERSIONS = ("numpy", "scipy", "torch", "hyperspy", "exspy", "rosettasciio", "scikit-image")


class FolderBusy(ValueError):
    """Another run is working in the folder."""


@checked
@dataclass(frozen=True)
class Step:
    """A step that is done, as its record ``steps/NAME.json`` says.

    Attributes
    ----------
    name : str
    stamp : str
        Hash of inputs, parameters and code: as long as it is unchanged, so are the outputs.
    inputs, outputs : dict
        SHA-256 by path.
    parameters : dict
    facts : dict
        What the step reports: numbers, ``warnings``.
    seconds : float
    finished : str
    versions : dict
    """

    name: str
    stamp: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    parameters: dict[str, Any]
    facts: dict[str, Any]
    seconds: float
    finished: str
    versions: dict[str, str]


def hash_of(path: Path) -> str:
    """SHA-256 of a file, or of all files below a folder (a Zarr store)."""
    if path.is_dir():
        parts = [(str(file.relative_to(path)), hash_of(file)) for file in source.files_below(path)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@checked
class Folder:
    """Where a chain of steps keeps its files; entered as a context, which holds the lock.

    A step works in a folder of its own, ``.work/NAME``, which survives a kill, so that the step can resume from what it
    kept there. Its outputs are moved into place when they are complete, and its record is written last.

    Parameters
    ----------
    output : path
    report : callable
        Called with one line for every step.
    total : int
        Number of steps, for the report.

    Raises
    ------
    ValueError
        Naming the argument of another kind; or ``output``, if nothing can be written there, or other files are in the
        way.
    """

    def __init__(self, output: str | os.PathLike, report: Callable[[str], None] = print, total: int = 0):
        if not callable(report):
            raise ValueError(f"report: got {describe(report)}, wants a function of one line")
        self.path, self.report, self.total = check_path(output, "output"), report, check_count(total, "total", 0)
        self.steps: dict[str, Step] = {}  # of this run
        try:
            others = [] if (self.path / ".work").exists() else _visible(self.path)
            if others:
                raise ValueError(
                    f"output: got {self.path}, which holds {others[0]}, wants a new folder, or that of an earlier run"
                )
            (self.path / "steps").mkdir(parents=True, exist_ok=True)
            (self.path / ".work").mkdir(exist_ok=True)
            probe = self.path / ".work" / "probe"
            probe.write_bytes(b"x")
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise ValueError(f"output: got {self.path}, wants a folder that can be written ({error})") from error
        self.lock = filelock.FileLock(self.path / ".lock", timeout=0)
        self.code = source.code_stamp(source.below("pipeline"))
        self._hashes: dict[tuple, str] = {}  # of files as they are: large ones are read by several steps

    def __enter__(self) -> Folder:
        try:
            self.lock.acquire()
        except filelock.Timeout:
            raise FolderBusy(f"output: got {self.path}, where another run is at work; wants another folder") from None
        return self

    def __exit__(self, *exception: object) -> None:
        self.lock.release()

    def __getitem__(self, name: str) -> Path:
        return self.path / name

    def record(self, name: str) -> Step | None:
        """What the step's record says; None if there is no record."""
        record = self.path / "steps" / f"{_plain(name, 'name')}.json"
        try:
            return Step(**json.loads(record.read_text(encoding="utf-8")))
        except (OSError, TypeError, ValueError):
            return None

    def step(
        self,
        name: str,
        work: Callable[[Path], Mapping[str, Any] | None],
        *,
        inputs: Iterable[Path] = (),
        parameters: Mapping[str, Any] | None = None,
        outputs: Iterable[str],
    ) -> Step:
        """Do a step, unless its inputs, parameters, code and outputs match its record.

        Parameters
        ----------
        name : str
        work : callable
            Called with a folder to work in; writes the outputs there and returns facts for the record.
        inputs : paths
            Files that it reads: the user's, or outputs of other steps.
        parameters : dict
            Everything else that the result depends on, as plain JSON.
        outputs : names of files

        Raises
        ------
        ValueError
            Naming the argument of another kind, or inputs that are not there.
        """
        outputs = self._checked(name, work, inputs, parameters, outputs)
        # What an earlier step has made is known by how it was made: files of one content differ by their time stamps.
        made = {self.path / output: step.stamp for step in self.steps.values() for output in step.outputs}
        with named("inputs"):
            inputs = {str(path): made.get(check_path(path)) or self.hash_of(path) for path in inputs}
        parameters = json.loads(json.dumps(dict(parameters or {})))
        read = [[Path(path).name, known] for path, known in inputs.items()]  # names and order may tell the tilts
        told = json.dumps([name, read, parameters, self.code], sort_keys=True)
        stamp = hashlib.sha256(told.encode()).hexdigest()
        earlier = self.record(name)
        if earlier and earlier.stamp == stamp and set(earlier.outputs) == set(outputs) and self._holds(earlier):
            self.report(f"{self._place()} {name}: unchanged since {earlier.finished}")
            self.steps[name] = earlier
            return earlier
        self.report(f"{self._place()} {name} ...")
        (self.path / "steps" / f"{name}.json").unlink(missing_ok=True)
        with _room(self.path, name):
            return self._do(name, work, stamp, inputs, parameters, outputs)

    def _checked(self, name, work, inputs, parameters, outputs):
        """Arguments of `step`, each by itself; the outputs as a tuple."""
        _plain(name, "name")
        if not callable(work):
            raise ValueError(f"work: got {describe(work)}, wants a function of a folder")
        if isinstance(inputs, str) or not isinstance(inputs, Iterable):
            raise ValueError(f"inputs: got {describe(inputs)}, wants a sequence of paths")
        try:
            json.dumps(check_mapping({} if parameters is None else parameters, "parameters", empty=True))
        except TypeError as error:
            raise ValueError(f"parameters: got {describe(parameters)}, wants plain JSON ({error})") from None
        return tuple(_plain(output, "outputs") for output in check_names(outputs, "outputs"))

    def _do(self, name, work, stamp, inputs, parameters, outputs):
        """Work in a folder of its own, move the outputs into place, and write the record."""
        began, place = time.perf_counter(), self._workplace(name, stamp)
        facts = dict(work(place) or {})
        found = {}
        for output in outputs:
            target = self.path / output
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():
                shutil.rmtree(target)
            os.replace(place / output, target)
            found[output] = hash_of(target)
        shutil.rmtree(place)
        seconds = time.perf_counter() - began
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        done = Step(name, stamp, inputs, found, parameters, facts, round(seconds, 2), finished, _versions())
        _write(self.path / "steps" / f"{name}.json", json.dumps(asdict(done), indent=1))
        for warning in facts.get("warnings", ()):
            self.report(f"    warning: {warning}")
        self.report(f"    {name} took {seconds:.0f} s")
        self.steps[name] = done
        return done

    def hash_of(self, path: Path) -> str:
        """Hash of a file or folder, from memory if it has not changed since."""
        path = check_path(path)
        try:
            state = path.stat()
        except OSError as error:
            raise ValueError(f"path: got {path}, wants a file that can be read ({error})") from None
        key = path, state.st_ino, state.st_size, state.st_mtime_ns
        if path.is_dir() or key not in self._hashes:
            self._hashes[key] = hash_of(path)
        return self._hashes[key]

    def _place(self):
        number = len(self.steps) + 1
        return f"[{number}/{self.total}]" if self.total else f"[{number}]"

    def _holds(self, step):
        """Whether the outputs are there, as they were written."""
        paths = {self.path / name: known for name, known in step.outputs.items()}
        return all(path.exists() and hash_of(path) == known for path, known in paths.items())

    def _workplace(self, name, stamp):
        """The folder to work in, with what a killed run of the same stamp has left there."""
        place, told = self.path / ".work" / name, self.path / ".work" / f"{name}.stamp"
        if place.exists() and not (told.exists() and told.read_text() == stamp):
            shutil.rmtree(place)
        place.mkdir(exist_ok=True)
        _write(told, stamp)
        return place


@contextmanager
def _room(folder, name):
    """Within it, a full disk is an `OSError` that says so, whatever library met it."""
    try:
        yield
    except Exception as error:
        if not any(sign in str(error) for sign in NO_SPACE):
            raise
        raise OSError(
            f"output: got no space left on the disk of {folder} in the step {name}, wants more: free some, and the "
            "same command goes on from there"
        ) from error


def _plain(name, of):
    """A name of a file or folder in this one, which leads nowhere else."""
    if not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name:
        raise ValueError(f"{of}: got {describe(name)}, wants a plain name")
    return name


def _visible(folder):
    """Names of what lies in a folder, hidden files left out; none where there is no folder."""
    return sorted(path.name for path in folder.glob("[!.]*")) if folder.is_dir() else []


def _write(path, text):
    """A text file, in one piece."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)


def _versions():
    own = {"softeels_utils": __version__, "python": platform.python_version()}
    return own | source.installed(VERSIONS)
