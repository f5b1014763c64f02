"""Data sets and files: a registry with pinned addresses and hashes, and readers that trust nothing they read.

Everything a microscopist opens comes in through here, as a HyperSpy signal (`read_signal`) or as a `TiltSeries` of
maps (`read_tilt_series`). No reader unpickles or evaluates anything in a file.
"""

from .files import (
    SIGNAL_SUFFIXES,
    TILT_SERIES_SUFFIXES,
    TiltSeries,
    get_tilts,
    read_signal,
    read_tilt_series,
)
from .sets import (
    PAPER_MAXIMA,
    Dataset,
    DataUnavailable,
    available,
    cache_folder,
    fetch,
    is_cached,
    load,
    registry,
)

__all__ = [
    "PAPER_MAXIMA",
    "SIGNAL_SUFFIXES",
    "TILT_SERIES_SUFFIXES",
    "DataUnavailable",
    "Dataset",
    "TiltSeries",
    "available",
    "cache_folder",
    "fetch",
    "get_tilts",
    "is_cached",
    "load",
    "read_signal",
    "read_tilt_series",
    "registry",
]
