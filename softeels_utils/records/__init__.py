"""Long studies: run cell by cell, kept as small tables beside the book, drawn from and checked there."""

from .read import completeness, read, shown
from .run import record, renew, reproduce
from .store import BENCHMARKS, FOLDER, Record, benchmark, load
from .studies import CENTRE, STUDIES, Study, cuts_through_void

__all__ = [
    "BENCHMARKS",
    "CENTRE",
    "FOLDER",
    "STUDIES",
    "Record",
    "Study",
    "benchmark",
    "completeness",
    "cuts_through_void",
    "load",
    "read",
    "record",
    "renew",
    "reproduce",
    "shown",
]
