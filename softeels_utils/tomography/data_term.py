"""What the data say: projections, their errors and the pixels left out, the same for every algorithm."""

import numpy as np
import torch

from .projector import ParallelBeam, _as_tensor

__all__ = ["DataTerm", "estimate_covariance", "full_covariance", "mix"]


class DataTerm:
    r"""Half the chi-square of a volume, :math:`\tfrac12 \sum_i \lVert L_i\,[(Av)_i - p_i] \rVert^2`.

    ``L_i`` whitens the C channels of detector pixel i: :math:`L_i^T L_i = \Sigma_i^{-1}` with the covariance
    :math:`\Sigma_i` of those that were measured, and 0 for the others.

    Parameters
    ----------
    projector : ParallelBeam
    projections : array (C, T, Y, X)
    covariance : array (C, C) or (T, Y, X, C, C)
    mask : bool array (C, T, Y, X)
        True where a value was measured; the rest may be anything.

    Attributes
    ----------
    projections, data : tensor (C, T, Y, X)
        As measured, and whitened; 0 where not measured.
    used : bool tensor (C, T, Y, X)
    whitener : tensor (C, C, ...), ... being (T, Y, X) or ones
    size : int
        Number of measured values.
    """

    def __init__(self, projector: ParallelBeam, projections, covariance, mask, dtype=torch.float32):
        whitener, own = _whitener(np.asarray(covariance, float), mask)
        tensor = _as_tensor(projections, projector.device).to(dtype)
        used = torch.as_tensor(mask, device=tensor.device)
        self.projector, self.used = projector, used
        self.whitener = torch.as_tensor(whitener, dtype=dtype, device=tensor.device)
        if not own and not mask.all():
            self.whitener = self.whitener * used[0]
        self.projections = torch.where(used, tensor, 0)
        self.data = mix(self.whitener, self.projections)
        self.size = int(used.sum())

    @property
    def volume_shape(self):
        """(C, Y, Z, X)."""
        return (len(self.data), self.data.shape[-2], self.projector.n_z, self.projector.n_x)

    def forward(self, volume):
        """Whitened projections L A v."""
        return mix(self.whitener, self.projector(volume))

    def adjoint(self, dual):
        """The exact transpose, Aᵀ Lᵀ y."""
        return self.projector.T(mix(self.whitener.transpose(0, 1), dual))

    def residual(self, volume):
        """Whitened A v - p."""
        return self.forward(volume) - self.data

    def chi2(self, volume):
        """Chi-square a measured value: 1 where residuals are as large as the errors say."""
        return float((self.residual(volume) ** 2).sum(dtype=torch.float64)) / max(self.size, 1)

    def sums(self):
        """Row and column sums of |L| A, (C, T, Y, X) and (C, Y, Z, X): step sizes follow from them."""
        one = self.data.new_ones((1, *self.volume_shape[1:]))
        strength = self.whitener.abs()
        return strength.sum(1) * self.projector(one), self.projector.T(strength.sum(0) + torch.zeros_like(self.data))

    def split(self, fraction, seed):
        """(to fit, held out): data terms over disjoint random detector pixels, all channels of one together."""
        generator = torch.Generator().manual_seed(seed)
        out = (torch.rand(self.data.shape[1:], generator=generator) < fraction).to(self.data.device)
        return self._restricted(~out), self._restricted(out)

    def _restricted(self, keep):
        part = object.__new__(DataTerm)
        part.projector, part.used = self.projector, self.used & keep
        part.whitener, part.data = self.whitener * keep, self.data * keep
        part.projections, part.size = self.projections * keep, int(part.used.sum())
        return part


def mix(matrix, stack):
    """``out[i] = Σ_j matrix[i, j] stack[j]`` over channels; the matrix may vary from pixel to pixel."""
    if len(stack) == 1:
        return matrix[0] * stack
    if matrix[0, 0].numel() == 1:
        square = matrix.reshape(matrix.shape[:2])
        return (square @ stack.reshape(len(stack), -1)).reshape(stack.shape)
    return torch.einsum("ij...,j...->i...", matrix, stack)


def _whitener(covariance, mask):
    """L as (C, C, T, Y, X) or (C, C, 1, 1, 1), and whether the mask is already in it."""
    whole = mask.all(axis=0)
    if (whole | ~mask.any(axis=0)).all():
        if covariance.ndim == 2:
            covariance = covariance[None, None, None]
        else:
            covariance = np.where(whole[..., None, None], covariance, np.eye(len(mask)))
        return _inverse_root(covariance), False
    # A channel that is missing is integrated out: the others keep their own block of the covariance.
    used = np.moveaxis(mask, 0, -1)
    both = used[..., :, None] & used[..., None, :]
    covariance = np.where(both, covariance, np.eye(len(mask)))
    return _inverse_root(covariance) * np.moveaxis(both, (-2, -1), (0, 1)), True


def _inverse_root(covariance):
    """Lᵀ L = Σ⁻¹ with L = K⁻¹ of the Cholesky factor Σ = K Kᵀ, channels first."""
    lower = np.linalg.cholesky(covariance)
    return np.moveaxis(np.linalg.inv(lower), (-2, -1), (0, 1)).copy()


def estimate_covariance(projections, mask=None):
    """Noise of each channel from differences of neighbouring pixels, as a diagonal covariance (C, C).

    For data whose errors are not known: the median absolute diagonal difference ``(a - b - c + d) / 2`` of
    2 × 2 patches, over 0.6745 (D. L. Donoho & I. M. Johnstone, Biometrika 81, 425 (1994)). Patches in empty regions
    that are exactly 0 do not count. Never below a thousandth of the largest value.

    Parameters
    ----------
    projections : array (C, T, Y, X)
    mask : bool array (C, T, Y, X), optional
        True where measured.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(scale=0.2, size=(1, 4, 64, 64))
    >>> round(float(estimate_covariance(noise)[0, 0]) ** 0.5, 2)
    0.2
    """
    stack = np.asarray(projections, float)
    stack = np.where(np.isfinite(stack) if mask is None else mask, stack, np.nan)
    detail = stack[..., :-1, :-1] - stack[..., 1:, :-1] - stack[..., :-1, 1:] + stack[..., 1:, 1:]
    largest = np.nan_to_num(np.abs(stack)).max(axis=(1, 2, 3))
    largest = np.where(largest > 0, largest, largest.max() or 1.0)  # an empty channel is as noisy as the others
    sigma = []
    for channel in detail.reshape(len(stack), -1):
        channel = np.abs(channel[np.isfinite(channel) & (channel != 0)]) / 2
        sigma.append(np.median(channel) / 0.6745 if channel.size else 0.0)
    return np.diag(np.maximum(sigma, 1e-3 * largest) ** 2)


def full_covariance(covariance, stack, used, *, singular=False):
    """Covariance of the channels as (C, C) or (T, Y, X, C, C), checked where it is used and the identity elsewhere.

    Parameters
    ----------
    covariance : array or None
        (C,) or (C, T, Y, X) variances, (C, C) or (T, Y, X, C, C); None: estimated from the stack.
    stack : array (C, T, Y, X)
    used : bool array (C, T, Y, X)
    singular : bool
        Whether an eigenvalue may be 0.
    """
    channels, *pixels = stack.shape
    if covariance is None:
        return estimate_covariance(stack, used)
    given = np.shape(covariance)
    covariance = np.asarray(covariance, float)
    forms = {(channels,), (channels, channels), (channels, *pixels), (*pixels, channels, channels)}
    if given not in forms:
        raise ValueError(f"covariance: got shape {given}, wants one of {sorted(forms, key=len)}")
    if given == (channels, *pixels) and given != (*pixels, channels, channels):
        covariance = np.moveaxis(covariance, 0, -1)[..., None] * np.eye(channels)
    elif given == (channels,):
        covariance = np.diag(covariance)
    if covariance.ndim == 5:
        both = np.moveaxis(used, 0, -1)
        both = both[..., :, None] & both[..., None, :]
        covariance = np.where(both, covariance, np.eye(channels))
    if not np.isfinite(covariance).all():
        raise ValueError("covariance: got NaN or inf where the mask says measured, wants finite values there")
    if np.abs(covariance - covariance.swapaxes(-1, -2)).max() > 1e-6 * np.abs(covariance).max():
        raise ValueError("covariance: got a matrix that is not symmetric")
    least, largest = np.linalg.eigvalsh(covariance).min(), np.abs(covariance).max()
    if least < -1e-6 * largest if singular else least <= 0:
        raise ValueError("covariance: got an eigenvalue that is not positive, wants positive definite matrices")
    return covariance
