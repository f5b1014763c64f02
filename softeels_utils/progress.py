"""One switch for progress bars: people see them, tests, chapters and batch jobs do not."""

from __future__ import annotations

import os

__all__ = ["headless", "progress_bar"]


def headless() -> bool:
    """True where nobody watches: papermill, tests, continuous integration (``SOFTEELS_HEADLESS`` set, and not 0)."""
    return os.environ.get("SOFTEELS_HEADLESS", "") not in ("", "0")


def progress_bar(iterable=None, *, show: bool | None = None, **options):
    """`tqdm.auto.tqdm` with these options; ``show=None``: unless `headless`."""
    from tqdm.auto import tqdm

    return tqdm(iterable, disable=headless() if show is None else not show, **options)
