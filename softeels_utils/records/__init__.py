"""Long studies: run cell by cell, kept as small tables beside the book, drawn from and checked there."""

from .read import benchmark_stamps, benchmark_warning, body, completeness, read, shown
from .run import differences, moved, record, renew, reproduce
from .store import BENCHMARKS, FOLDER, Record, as_recorded, benchmark, load
from .studies import CENTRE, PAPER_RATE, SCRIPTS, STUDIES, Study, cuts_through_void, script_stamp

__all__ = [
    "BENCHMARKS",
    "CENTRE",
    "FOLDER",
    "PAPER_RATE",
    "SCRIPTS",
    "STUDIES",
    "Record",
    "Study",
    "as_recorded",
    "benchmark",
    "benchmark_stamps",
    "benchmark_warning",
    "body",
    "completeness",
    "cuts_through_void",
    "differences",
    "load",
    "moved",
    "read",
    "record",
    "renew",
    "reproduce",
    "script_stamp",
    "shown",
]
