"""Checks of arguments that the physics packages share; each names the argument, what it got and what it wants."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["check_not_negative", "check_positive", "check_window"]


def check_positive(**values: float) -> None:
    """Raise `ValueError` unless every value is finite and above 0.

    Examples
    --------
    >>> check_positive(pixel_size_nm=0.4, gain=0)
    Traceback (most recent call last):
        ...
    ValueError: gain: got 0, wants a positive number
    """
    for name, value in values.items():
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name}: got {value!r}, wants a positive number")


def check_not_negative(**values: float) -> None:
    """Raise `ValueError` unless every value is finite and at least 0."""
    for name, value in values.items():
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(f"{name}: got {value!r}, wants a number of at least 0")


def check_window(window_eV: ArrayLike, name: str = "window_eV") -> tuple[float, float]:
    """Both ends of an energy window; `ValueError` unless they are two increasing positive energies.

    Examples
    --------
    >>> check_window([53, 73])
    (53.0, 73.0)
    """
    window = np.asarray(window_eV, dtype=float)
    if window.shape != (2,) or not np.isfinite(window).all() or not 0 < window[0] < window[1]:
        raise ValueError(f"{name}: got {window_eV!r}, wants two increasing positive energies")
    return float(window[0]), float(window[1])
