"""Run the cells of a study that its record does not have, here, on local processes or on a Dask cluster."""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from typing import Any

import numpy as np

from ..checks import check_choice, check_count, check_not_negative
from ..source import PACKAGE, hardware, installed
from .store import ABOUT, Record, as_recorded, cell_name, load, locked
from .studies import NETWORKS, STUDIES, Study

__all__ = ["differences", "moved", "record", "renew", "reproduce"]

SAME = 2e-5  # relative, or of 1: a record has six digits


def _alone(function):
    """Run for one record at a time."""

    @functools.wraps(function)
    def run(name, *arguments, **options):
        check_choice(name, "name", tuple(STUDIES))
        with locked(name):
            return function(name, *arguments, **options)

    return run


@_alone
def record(
    name: str,
    *,
    workers: int = 1,
    client: Any = None,
    minutes: float | None = None,
    again: bool = False,
    only: Mapping[str, Any] | None = None,
    report: Callable[[str], None] = print,
) -> Record:
    """Go on with a study: every finished cell is written at once, so that one that is killed loses nothing else.

    A second process that would write the same record is refused.

    Parameters
    ----------
    name : str
        Of `STUDIES`.
    workers : int
        Local processes, one thread each; at most four for each core.
    client : dask.distributed.Client, optional
        Where the cells run, in place of local processes.
    minutes : float, optional
        Start no cell later than that.
    again : bool
        Also repeat the cells that are from older code than the present one; the older result stays until the new one
        is there.
    only : mapping, optional
        Values that the cells must have, as in `Record.where`; all cells by default.
    report : callable
        Is given a line for each cell: what was found, and about how long the others will take.

    Returns
    -------
    Record
    """
    check_count(workers, "workers", most=4 * (os.cpu_count() or 1))
    if minutes is not None:
        check_not_negative(minutes=minutes)
    study, kept = STUDIES[name], load(name)
    old = kept.stale(study.stamp) if again else []
    done = {cell_name(row, study.parameters) for row in kept.rows if row not in old}
    missing = [
        cell
        for cell in Record(name, study.cells()).where(**_known(study, only))
        if cell_name(cell, study.parameters) not in done
    ]
    report(f"{name}: {len(missing)} of {len(study.cells())} cells to do")
    began, about = time.monotonic(), _about(study)  # of the code that starts, whatever is edited meanwhile
    for count, (cell, (rows, pictures)) in enumerate(_perform(name, missing, workers, client, minutes), 1):
        rows = [cell | row for row in rows]
        rows = [row | about[row["method"] in NETWORKS] for row in rows]
        this = cell_name(cell, study.parameters)
        kept.rows = [row for row in kept.rows if cell_name(row, study.parameters) != this]
        kept.add(rows, {this: pictures[0]} if pictures else {})
        left = (time.monotonic() - began) / count * (len(missing) - count) / 60
        found = ", ".join(f"{row['method']} {row['nrmse']:.3f}" for row in rows)
        report(f"  {count}/{len(missing)}  {this}: NRMSE {found}; {left:.0f} min left")
    return kept


def _known(study, only):
    """Values that cells must have, as a dictionary; ValueError for a name that cells do not have."""
    names = list(dict.fromkeys([*study.parameters, "method"]))
    if unknown := sorted(set(only or {}).difference(names)):
        raise ValueError(f"only: got {', '.join(unknown)}, wants some of {', '.join(names)}")
    return dict(only or {})


@_alone
def renew(
    name: str,
    count: int = 5,
    seed: int = 0,
    *,
    only: Mapping[str, Any] | None = None,
    report: Callable[[str], None] = print,
) -> Record:
    """Give the rows of older code the present stamp, where a sample of them is found again to all digits.

    Much that changes in the code changes nothing of a row. Of each method that has rows of older code, ``count`` are
    measured again, here; if all of their measures are found again, all rows of the method count as of the present code.
    Their commit and date stay.

    Parameters
    ----------
    name, count, seed, only
        As for `reproduce`; fewer than ``count`` where there are no more. Other rows are not renewed.
    report : callable
        Is given a line for each method.

    Returns
    -------
    Record
    """
    check_count(count, "count")
    study = STUDIES[name]
    only = _known(study, only)
    for method in sorted({row["method"] for row in Record(name, load(name).stale(study.stamp)).where(**only)}):
        these = only | {"method": method}
        found = reproduce(name, count, seed, older=True, only=these)
        differ = sorted({name for one in found for name in moved(one["old"], _recorded(one["new"]))})
        told = f"not found again: {', '.join(differ)}" if differ else "found again"
        report(f"{name}, {method}: {len(found)} cells, {told}")
        if found and not differ:
            kept = load(name)
            for row in Record(name, kept.stale(study.stamp)).where(**these):
                row["code"] = study.stamp(row)
            kept.save()
    return load(name)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], but: Iterable[str] = ()) -> list[str]:
    """Parts of a result that are not what they were: names of a dictionary, all but some, where numbers differ.

    Numbers agree to the digits of a record, texts to the last letter; dictionaries and lists part by part.

    Parameters
    ----------
    old, new : Mapping
        As read back from a file.
    but : iterable of str
        Names that need not agree.
    """
    return sorted(name for name in {*old, *new}.difference(but) if not _same(old.get(name), new.get(name)))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return bool(np.isclose(one, other, rtol=SAME, atol=SAME, equal_nan=True))
    return one == other


def _recorded(row):
    return {name: as_recorded(value) for name, value in row.items()}


def moved(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Measures that an old result has, too, but others than the new one; not the time it took, nor who made it.

    Examples
    --------
    >>> moved({"nrmse": 0.2, "ssim": None, "seconds": 3.0}, {"nrmse": 0.3, "ssim": 0.9, "seconds": 4.0})
    ['nrmse']
    """
    both = {name: value for name, value in new.items() if old.get(name) is not None}
    return differences({name: old[name] for name in both}, both, ("seconds", *ABOUT))


def reproduce(
    name: str, count: int = 3, seed: int = 0, *, older: bool = False, only: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Measure some recorded cells again.

    Parameters
    ----------
    name : str
        Of `STUDIES`.
    count : int
        How many cells, chosen at random from those that are of the present code.
    seed : int
        Of the choice.
    older : bool
        Choose from those of older code instead.
    only : mapping, optional
        Values that the rows must have, as in `Record.where`.

    Returns
    -------
    list of dict
        ``cell`` (its parameters), ``method``, ``recorded`` and ``found`` (NRMSE); ``old`` and ``new``: the whole rows.
    """
    study, kept = STUDIES[name], load(name)
    kept.rows = [row for row in kept.rows if (row["code"] != study.stamp(row)) == older]
    kept.rows = kept.where(**_known(study, only))
    names = sorted({cell_name(row, study.parameters) for row in kept.rows})
    chosen = np.random.default_rng(seed).permutation(names)[:count]
    found = []
    for cell in study.cells():
        if cell_name(cell, study.parameters) in chosen:
            for new in _measure(name, cell)[0]:
                new = cell | new
                for old in kept.where(**cell | {"method": new["method"]}):
                    about = {"cell": cell, "method": new["method"], "old": old, "new": new}
                    found.append(about | {"recorded": old["nrmse"], "found": new["nrmse"]})
    return found


def _measure(name: str, cell: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list]:
    """Rows and pictures of a cell; a function of this module, that workers find it."""
    import torch

    torch.set_num_threads(1)
    rows, pictures = STUDIES[name].measure(**cell)
    if torch.cuda.is_available():  # the time of a processor tells nothing where a graphics card does the work
        rows = [row | {"seconds": None} for row in rows]
    return [row | _where() for row in rows], pictures


def _where() -> dict[str, str]:
    """Date, versions and hardware of this process."""
    import torch

    card = f", {torch.cuda.get_device_name(0)}" if torch.cuda.is_available() else ""
    versions = " ".join(f"{name} {version}" for name, version in installed(("numpy", "torch")).items())
    return {"date": datetime.date.today().isoformat(), "versions": versions, "hardware": hardware() + card}


def _perform(name, cells, workers, client, minutes) -> Iterator:
    """Yield each cell with what it gave, as they end."""
    limit = None if minutes is None else time.monotonic() + 60 * minutes
    with contextlib.ExitStack() as stack:
        if client is None:
            pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent)
            stack.enter_context(pool)
            submit, width, ended = pool.submit, workers, as_completed
        else:
            from dask.distributed import as_completed as ended

            submit, width = functools.partial(client.submit, pure=False), max(1, sum(client.nthreads().values()))
        waiting, running = list(cells), {}
        while waiting or running:
            while waiting and len(running) < width and (limit is None or time.monotonic() < limit):
                cell = waiting.pop(0)
                running[submit(_measure, name, cell)] = cell
            if not running:
                return
            future = next(iter(ended(list(running))))
            yield running.pop(future), future.result()


def _end_with_parent() -> None:
    """In a worker: end as soon as the process that started it has gone, killed perhaps, and wait for no more work."""

    def watch():
        parent_process().join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _about(study: Study) -> dict[bool, dict[str, str]]:
    """From what code: of methods without a network, and of those with one."""
    git = ["git", "-C", str(PACKAGE.parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
    one = {False: "", True: NETWORKS[0]}
    return {network: {"code": study.stamp({"method": name}), "commit": commit} for network, name in one.items()}
