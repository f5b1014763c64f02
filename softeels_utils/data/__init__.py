"""Data sets and files: a registry with pinned addresses and hashes, and readers that trust nothing they read.

Everything a microscopist opens comes in through here, as a HyperSpy signal (`read_signal`, or `read_spectrum_series`
where each tilt is a file) or as a `TiltSeries` of maps (`read_tilt_series`). No reader unpickles or evaluates anything.
"""

from .files import TILT_SERIES_SUFFIXES, TiltSeries, read_tilt_series
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
from .signals import SIGNAL_SUFFIXES, read_signal, read_spectrum_series
from .tilts import get_tilts

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
    "read_spectrum_series",
    "read_tilt_series",
    "registry",
]
