"""Long studies: run cell by cell, kept as small tables beside the book, drawn from and checked there."""

from .run import record, reproduce
from .store import FOLDER, Record, load
from .studies import STUDIES, Study

__all__ = ["FOLDER", "STUDIES", "Record", "Study", "load", "record", "reproduce"]
