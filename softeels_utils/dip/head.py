"""From what a volume model computes to what a voxel may hold."""

from __future__ import annotations

import torch
from torch.nn import functional as F

__all__ = ["HEADS", "entropy", "head_bias", "to_fractions", "with_vacuum"]

HEADS = ("fractions", "nonnegative")


def to_fractions(logits: torch.Tensor, head: str, sharpness: float) -> torch.Tensor:
    """Values (C, B, ...) of logits (B, C or C + 1, ...).

    ``"fractions"``: softmax over the phases and vacuum: they add up to at most one; ``"nonnegative"``: softplus.
    """
    values = (sharpness * logits).softmax(1)[:, :-1] if head == "fractions" else F.softplus(logits)
    return values.transpose(0, 1)


def head_bias(mean: torch.Tensor, head: str, sharpness: float) -> torch.Tensor:
    """Logits that give a volume of about the right mean (C,)."""
    mean = mean.clamp(1e-3, 0.3)
    if head == "nonnegative":
        return torch.expm1(mean).log()
    return torch.cat([mean, (1 - mean.sum()).clamp_min(0.1)[None]]).log() / sharpness


def entropy(fractions: torch.Tensor) -> torch.Tensor:
    r""":math:`-\sum f \ln f` over voxels, phases and vacuum, of fractions (C, ...): 0 where every voxel is pure."""
    vacuum = 1 - fractions.sum(0, keepdim=True)
    return sum(-torch.xlogy(part, part.clamp_min(1e-6)).sum() for part in (fractions, vacuum))


def with_vacuum(fractions: torch.Tensor) -> torch.Tensor:
    """Fractions (C, ...) and what they leave of each voxel, at least 0, as one channel more (C + 1, ...)."""
    return torch.cat([fractions, (1 - fractions.sum(0, keepdim=True)).clamp_min(0)])
