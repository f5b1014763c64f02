"""The way of checked arrays into torch."""

from __future__ import annotations

import numpy as np
import torch

from ..checks import check_count, describe, finite_array

__all__ = ["as_tensor", "check_count", "check_device", "check_volume", "finite_array"]


def check_device(device) -> torch.device:
    """One of torch's devices; None is the GPU if there is one."""
    try:
        found = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=found)  # whether it is here
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device: got {device!r}, wants one of torch's ({error})") from None
    if found.type == "meta":
        raise ValueError(f"device: got {device!r}, wants one that computes")
    return found


def check_volume(volume: torch.Tensor, shape: tuple[int, ...] | None = None, *, finite: bool = True) -> torch.Tensor:
    """The volume; ValueError unless it is a tensor of floats (C, Y, Z, X), of this shape where one is stated."""
    if not isinstance(volume, torch.Tensor) or not volume.is_floating_point():
        raise ValueError(f"volume: got {describe(volume)}, wants a tensor of floats")
    if volume.ndim != 4 or tuple(volume.shape) != (shape or tuple(volume.shape)):
        raise ValueError(f"volume: got shape {tuple(volume.shape)}, wants {shape or '(C, Y, Z, X)'}")
    if finite and not volume.isfinite().all():
        raise ValueError("volume: got NaN or inf, wants finite numbers")
    return volume


def as_tensor(array, device=None) -> torch.Tensor:
    """A float32 or float64 tensor on ``device`` (arrays: by default the GPU, if there is one)."""
    if not isinstance(array, torch.Tensor):
        array = torch.from_numpy(np.ascontiguousarray(array))
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = array.dtype if array.dtype in (torch.float32, torch.float64) else torch.float32
    return array.to(device=device or array.device, dtype=dtype)
