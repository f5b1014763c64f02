"""Eigenvalues of very many small symmetric matrices, one for each pixel or voxel."""

from __future__ import annotations

import torch

__all__ = ["eigh", "eigvalsh"]

AT_ONCE = 8192  # cuSOLVER ends with an internal error on 100,000 matrices


def eigvalsh(matrices: torch.Tensor) -> torch.Tensor:
    """Rising eigenvalues (..., C) of symmetric matrices (..., C, C)."""
    return torch.cat([torch.linalg.eigvalsh(part) for part in _parts(matrices)]).reshape(matrices.shape[:-1])


def eigh(matrices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same, and eigenvectors (..., C, C) as columns."""
    values, vectors = zip(*(torch.linalg.eigh(part) for part in _parts(matrices)), strict=True)
    return torch.cat(values).reshape(matrices.shape[:-1]), torch.cat(vectors).reshape(matrices.shape)


def _parts(matrices):
    return matrices.reshape(-1, *matrices.shape[-2:]).split(AT_ONCE)
