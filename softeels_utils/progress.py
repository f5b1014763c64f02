"""One switch for progress bars: people see them, tests, chapters and batch jobs do not."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["headless", "progress_bar"]


def headless() -> bool:
    """Whether nobody is watching: in papermill, tests and batch jobs (``SOFTEELS_HEADLESS`` is set, and not to 0)."""
    return os.environ.get("SOFTEELS_HEADLESS", "") not in ("", "0")


def progress_bar(iterable: Iterable | None = None, *, show: bool | None = None, **options: Any) -> tqdm:
    """Return `tqdm.auto.tqdm` with these options; ``show=None`` shows the bar unless `headless`."""
    from tqdm.auto import tqdm

    return tqdm(iterable, disable=headless() if show is None else not show, **options)
