"""The way of checked arrays into torch."""

from __future__ import annotations

import numpy as np
import torch

from ..checks import check_count, finite_array

__all__ = ["as_tensor", "check_count", "check_device", "finite_array"]


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
