"""A volume model without a network: free logits in every voxel, behind the same head."""

from __future__ import annotations

import torch
from torch import nn

from .head import head_bias, to_fractions, with_vacuum

__all__ = ["Voxels"]


class Voxels(nn.Module):
    """Every voxel on its own: what is left of DIPm-TV without its network, a discrete total variation.

    Parameters
    ----------
    shape : (C, Y, Z, X)
    head : {"fractions", "nonnegative"}
    mean : tensor (C,)
        Of the volume to begin with, where there is no initial reconstruction.
    initial : tensor (C, Y, Z, X) or None
    sharpness : float
        Of the softmax.
    """

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        *,
        head: str,
        mean: torch.Tensor,
        initial: torch.Tensor | None,
        sharpness: float = 2.0,
    ):
        super().__init__()
        self.head, self.sharpness = head, sharpness
        if initial is None:
            bias = head_bias(mean, head, sharpness)
            logits = bias[None, :, None, None].expand(shape[1], len(bias), *shape[2:]).clone()
        elif head == "nonnegative":
            logits = torch.expm1(initial.clamp_min(1e-2)).log().transpose(0, 1)
        else:
            logits = (with_vacuum(initial).clamp_min(0) + 0.05).log().transpose(0, 1) / sharpness
        self.logits = nn.Parameter(logits.contiguous())

    def forward(self, rows: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Volume slices (C, B, Z, X) at the rows (B,) along Y."""
        return to_fractions(self.logits[rows], self.head, self.sharpness)
