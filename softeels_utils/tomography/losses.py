"""How far a model is from what was measured, value by value: Gaussian and Poisson noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch

from ..doors import checked

__all__ = ["GaussianLoss", "PoissonLoss", "apply_per_pixel"]


def apply_per_pixel(matrix: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
    """``out[i] = Σ_j matrix[i, j] stack[j]`` over channels; the matrix (C, C, ...) may vary from pixel to pixel."""
    if len(stack) == 1:
        return matrix[0] * stack
    if matrix[0, 0].numel() == 1:
        square = matrix.reshape(matrix.shape[:2])
        return (square @ stack.reshape(len(stack), -1)).reshape(stack.shape)
    return torch.einsum("ij...,j...->i...", matrix, stack)


def _check_stack(stack, projections):
    if stack.shape != projections.shape:
        raise ValueError(f"stack: got shape {tuple(stack.shape)}, wants {tuple(projections.shape)}")


def _with_columns(tensor, columns):
    return torch.nn.functional.pad(tensor, (columns, columns))


@checked(projections="C T Y X", used="C T Y X")
@dataclass(frozen=True)
class GaussianLoss:
    r"""Half the squared residual of each independent combination of channels, in units of its variance.

    .. math:: \tfrac12 \lVert L_i\,(m_i - p_i) \rVert^2, \qquad L_i^T L_i = \Sigma_i^{-1}

    with the covariance :math:`\Sigma_i` of the channels measured in detector pixel i.

    Attributes
    ----------
    projections : tensor (C, T, Y, X)
        0 where not used.
    used : bool tensor (C, T, Y, X)
    modes : tensor (C, C, T, Y, X), or with ones for T, Y, X
        Rows are the independent combinations.
    precision : tensor (C, T, Y, X), or with ones
        One over the standard deviation of each combination; 0 for a missing one.
    """

    projections: torch.Tensor
    used: torch.Tensor
    modes: torch.Tensor
    precision: torch.Tensor

    @cached_property
    def whitener(self) -> torch.Tensor:
        """L, (C, C, T, Y, X) or with ones."""
        return self.precision[:, None] * self.modes

    @cached_property
    def size(self) -> int:
        """Number of values used."""
        return int(self.used.sum())

    @property
    def complete(self) -> bool:
        """Whether every value is used."""
        return self.size == self.used.numel()

    def whiten(self, stack: torch.Tensor) -> torch.Tensor:
        """L applied to a stack (C, T, Y, X); 0 where not used."""
        _check_stack(stack, self.projections)
        return apply_per_pixel(self.whitener, stack if self.complete else self.used * stack)

    def whiten_transposed(self, stack: torch.Tensor) -> torch.Tensor:
        """The exact transpose of `whiten`."""
        _check_stack(stack, self.projections)
        stack = apply_per_pixel(self.whitener.transpose(0, 1), stack)
        return stack if self.complete else self.used * stack

    @cached_property
    def target(self) -> torch.Tensor:
        """Whitened projections."""
        return self.whiten(self.projections)

    def __call__(self, model: torch.Tensor) -> torch.Tensor:
        """Misfit of each value (C, T, Y, X); those of a pixel add up to that of the pixel."""
        _check_stack(model, self.projections)
        return 0.5 * self.whiten(model - self.projections) ** 2

    def rows(self, rows: torch.Tensor | slice) -> GaussianLoss:
        """The same for some rows along Y."""
        modes = self.modes if self.modes.shape[3] == 1 else self.modes[..., rows, :]
        precision = self.precision if self.precision.shape[2] == 1 else self.precision[:, :, rows]
        return GaussianLoss(self.projections[:, :, rows], self.used[:, :, rows], modes, precision)

    def restricted(self, keep: torch.Tensor) -> GaussianLoss:
        """The same for some detector pixels, bool (T, Y, X), with all their channels."""
        return replace(self, projections=self.projections * keep, used=self.used & keep)

    def padded(self, columns: int) -> GaussianLoss:
        """The same with that many unused columns added on each side."""
        names = ["projections", "used"]
        names += [name for name in ("modes", "precision") if getattr(self, name).shape[-1] > 1]  # others broadcast
        return replace(self, **{name: _with_columns(getattr(self, name), columns) for name in names})

    def with_variance_floor(self, fraction: float) -> GaussianLoss:
        """Raise each combination's variance to at least this fraction of its pixel's largest: 1 treats all equally."""
        if not fraction:
            return self
        lowest = torch.where(self.precision > 0, self.precision, torch.inf).amin(0)
        return replace(self, precision=self.precision.minimum(lowest / fraction**0.5))


@checked(projections="C T Y X", used="C T Y X", gain="C 1 1 1")
@dataclass(frozen=True)
class PoissonLoss:
    r"""Half the deviance of counts, :math:`g m - n - n \ln (g m / n)`, of a model m times the gain g.

    Attributes
    ----------
    projections : tensor (C, T, Y, X)
        Counts; 0 where not used.
    used : bool tensor (C, T, Y, X)
    gain : tensor (C, 1, 1, 1)
        Expected counts per unit of the model.
    """

    projections: torch.Tensor
    used: torch.Tensor
    gain: torch.Tensor

    @cached_property
    def size(self) -> int:
        """Number of values used."""
        return int(self.used.sum())

    def __call__(self, model: torch.Tensor) -> torch.Tensor:
        """Misfit of each value (C, T, Y, X)."""
        _check_stack(model, self.projections)
        expected, counts = (self.gain * model).clamp_min(1e-6), self.projections
        # 0 log 0 is 0, but its derivative by autograd is not: keep the logarithms apart.
        return self.used * (expected - counts - counts * expected.log() + torch.xlogy(counts, counts))

    @property
    def whitener(self) -> torch.Tensor:
        """Gain on the diagonal, (C, C, 1, 1, 1)."""
        return torch.diag_embed(self.gain.flatten())[..., None, None, None]

    def whiten(self, stack: torch.Tensor) -> torch.Tensor:
        """Expected counts of projections of the model, 0 where not used."""
        _check_stack(stack, self.projections)
        return self.used * (self.gain * stack)

    whiten_transposed = whiten

    def rows(self, rows: torch.Tensor | slice) -> PoissonLoss:
        """The same for some rows along Y."""
        return replace(self, projections=self.projections[:, :, rows], used=self.used[:, :, rows])

    def restricted(self, keep: torch.Tensor) -> PoissonLoss:
        """The same for some detector pixels, bool (T, Y, X)."""
        return replace(self, projections=self.projections * keep, used=self.used & keep)

    def padded(self, columns: int) -> PoissonLoss:
        """The same with that many unused columns added on each side."""
        return replace(self, **{name: _with_columns(getattr(self, name), columns) for name in ("projections", "used")})

    def with_variance_floor(self, fraction: float) -> PoissonLoss:
        """Return the loss unchanged: counts in one channel say nothing about another."""
        return self
