"""Checks of what a caller hands in, and its way into torch."""

from __future__ import annotations

import numbers

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

__all__ = ["as_tensor", "check_count", "check_device", "finite_array"]


def finite_array(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """The values as float64; ValueError where one is NaN or infinite, or not a number."""
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: got {values!r}, wants numbers") from None
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: got {values!r}, wants finite numbers")
    return array


def check_count(value, name: str, least: int = 1) -> int:
    """The value as an int; ValueError unless it is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name}: got {value!r}, wants a whole number of at least {least}")
    return int(value)


def check_device(device) -> torch.device:
    """One of torch's devices; None is the GPU if there is one."""
    try:
        return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device: got {device!r}, wants one of torch's ({error})") from None


def as_tensor(array, device=None) -> torch.Tensor:
    """A float32 or float64 tensor on ``device`` (arrays: by default the GPU, if there is one)."""
    if not isinstance(array, torch.Tensor):
        array = torch.from_numpy(np.ascontiguousarray(array))
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = array.dtype if array.dtype in (torch.float32, torch.float64) else torch.float32
    return array.to(device=device or array.device, dtype=dtype)
