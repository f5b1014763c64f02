"""Long studies: run cell by cell, kept as small tables beside the book, drawn from and checked there."""

from .run import record, renew, reproduce
from .store import BENCHMARKS, FOLDER, Record, benchmark, load
from .studies import CENTRE, STUDIES, Study, cuts_through_void, shown

__all__ = [
    "BENCHMARKS",
    "CENTRE",
    "FOLDER",
    "STUDIES",
    "Record",
    "Study",
    "benchmark",
    "cuts_through_void",
    "load",
    "record",
    "renew",
    "reproduce",
    "shown",
]
