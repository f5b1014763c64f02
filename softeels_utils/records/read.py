"""Records as pages read them: without lengths that a specimen does not have, and with how much of a study is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from numpy.typing import NDArray

from .. import simulate
from ..checks import check_choice, check_count
from . import studies
from .store import Record, benchmark, cell_name, load

__all__ = ["benchmark_stamps", "benchmark_warning", "body", "completeness", "read", "shown"]

PHANTOM = "phantom"  # has a core
SMALL = {"voids": 0, "views": 1, "noise": "independent", "support": False}  # what is fixed changes nothing else


@lru_cache(maxsize=256)
def _drawn(specimen: str | int) -> Mapping[str, Any]:
    """Label of a draw of the report half."""
    return simulate.draw_specimen(int(specimen), "report", 8, **SMALL).label


def body(specimen: str | int) -> str:
    """Return shape, core and skin of a specimen, in words.

    Parameters
    ----------
    specimen : str or int
        "phantom", or the number of a draw of the report half, as in ``sparse_views``.

    Raises
    ------
    ValueError
        Another one.
    """
    if specimen == PHANTOM:
        return PHANTOM
    label = _drawn(check_count(specimen, "specimen", 0))
    skin = {"none": "no skin", "whole": "skin of {:.1f} nm", "patches": "patches of skin of {:.1f} nm"}[label["skin"]]
    core = "core" if label["core"] else "no core"
    return f"{label['shape']['name']}, {core}, {skin.format(label['skin_nm'])}"


def _has_core(specimen: str | int) -> bool:
    """Of the phantom, or of a draw of the report half."""
    return specimen == PHANTOM or _drawn(specimen)["core"] is not None


def _defined(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row, with no distance of the core's edge where there is no core: what was measured there is another edge."""
    if row.get("core_nm") is None or _has_core(row.get("specimen", PHANTOM)):
        return dict(row)
    return row | {"core_nm": None}


def read(name: str) -> Record:
    """Read a record to summarise it: as `load`, but ``core_nm`` is None for specimens that have no core.

    Parameters
    ----------
    name : str
        Of `STUDIES`.
    """
    return Record(name, [_defined(row) for row in load(name).rows])


def completeness(name: str) -> str:
    """Return how many cells of a study are recorded, in words.

    Parameters
    ----------
    name : str
        Of `STUDIES`.

    Raises
    ------
    ValueError
        Another name.
    """
    check_choice(name, "name", tuple(studies.STUDIES))
    study = studies.STUDIES[name]
    planned = {cell_name(cell, study.parameters) for cell in study.cells()}
    recorded = {cell_name(row, study.parameters) for row in load(name).rows}
    return f"{len(planned & recorded):,} of {len(planned):,} planned cells recorded"


def shown(name: str) -> tuple[Record, Callable[[Mapping[str, Any]], NDArray | None], str]:
    """Return what a page needs to show a record.

    Parameters
    ----------
    name : str
        Of `STUDIES`.

    Returns
    -------
    (Record, callable, str)
        The record, as of `read`; what gives a row's picture, as `Record.picture`; and a warning, where cells are from
        older code.
    """
    kept, own = read(name), studies.STUDIES[name]
    older = kept.stale(own.stamp)
    warning = f"{len(older)} of {len(kept.rows)} cells of `{name}` are from older code than that of this page; "
    warning += f"`python -m softeels_utils record {name} --again` repeats them."
    return kept, lambda row: kept.picture(row, own.parameters), warning if older else ""


def benchmark_stamps(name: str) -> tuple[int, int] | None:
    """Return how many results in the record of a script are from older code, and how many there are.

    None where the script does not stamp its results.

    Parameters
    ----------
    name : str
        As for `benchmark`; the part before the first underscore is the script's name.
    """
    script = name.partition("_")[0]
    if script not in studies.SCRIPTS:
        return None
    stamp, codes = studies.script_stamp(script), list(_codes(benchmark(name)))
    return sum(code != stamp for code in codes), len(codes)


def benchmark_warning(name: str) -> str:
    """Return what a page says where results in the record of a script are from older code; empty where none are.

    Parameters
    ----------
    name : str
        As for `benchmark_stamps`.
    """
    older, total = benchmark_stamps(name) or (0, 0)
    return f"{older} of {total} results in `{name}.json` are from older code than that of this page." if older else ""


def _codes(content: Any) -> Iterator[str | None]:
    """Stamps of the results in the record of a script."""
    if isinstance(content, list):
        for one in content:
            yield from _codes(one)
    elif isinstance(content, Mapping):
        code = content.get("code", ())  # one stamp, or those of several methods
        yield from code.values() if isinstance(code, Mapping) else [code] if code else []
        for one in content.values():
            yield from _codes(one)
