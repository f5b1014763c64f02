"""The warm start: a few iterations of joint total variation, whose slices the network takes as its input."""

from __future__ import annotations

import torch

__all__ = ["gradient", "joint_tv_value", "to_simplex", "warm_start"]


def gradient(volume):
    """Forward differences of ``(..., Y, Z, X)`` along Y, Z and X, zero at the far border: ``(3, ..., Y, Z, X)``."""
    result = volume.new_zeros(3, *volume.shape)
    result[0, ..., :-1, :, :] = volume[..., 1:, :, :] - volume[..., :-1, :, :]
    result[1, ..., :-1, :] = volume[..., 1:, :] - volume[..., :-1, :]
    result[2, ..., :-1] = volume[..., 1:] - volume[..., :-1]
    return result


def _divergence(field):
    """Minus the transpose of `gradient`."""
    result = torch.zeros_like(field[0])
    result[..., :-1, :, :] += field[0, ..., :-1, :, :]
    result[..., 1:, :, :] -= field[0, ..., :-1, :, :]
    result[..., :-1, :] += field[1, ..., :-1, :]
    result[..., 1:, :] -= field[1, ..., :-1, :]
    result[..., :-1] += field[2, ..., :-1]
    result[..., 1:] -= field[2, ..., :-1]
    return result


def joint_tv_value(volume, smooth=1e-3):
    r"""Joint total variation :math:`\sum_v \sqrt{\sum_{c,d} (\partial_d f_c)^2 + \epsilon^2}` of ``(C, Y, Z, X)``.

    One root over all channels: their interfaces cost least where they coincide.
    """
    d_y = torch.nn.functional.pad(volume[:, 1:] - volume[:, :-1], (0, 0, 0, 0, 0, 1))
    d_z = torch.nn.functional.pad(volume[:, :, 1:] - volume[:, :, :-1], (0, 0, 0, 1))
    d_x = torch.nn.functional.pad(volume[..., 1:] - volume[..., :-1], (0, 1))
    return ((d_y**2 + d_z**2 + d_x**2).sum(0) + smooth**2).sqrt().sum()


def to_simplex(volume):
    """Nearest point of ``{f >= 0, sum_c f <= 1}`` in every voxel of ``(C, ...)`` (Held, Wolfe & Crowder 1974)."""
    result = volume.clamp_min(0)
    over = result.sum(0) > 1
    if over.any():
        values = volume[:, over]
        ordered = values.sort(0, descending=True).values
        rank = torch.arange(1, len(values) + 1, device=values.device, dtype=values.dtype)[:, None]
        excess = (ordered.cumsum(0) - 1) / rank
        last = (ordered > excess).sum(0, keepdim=True) - 1
        result[:, over] = (values - excess.gather(0, last)).clamp_min(0)
    return result


def warm_start(problem, weight, iterations, *, fractions):
    """Minimise half the whitened misfit + ``weight`` × joint TV by a primal-dual method.

    Steps are set for each unknown and each measurement on its own from the row and column sums of the matrix
    (T. Pock & A. Chambolle, ICCV 2011), so that any whitening and any mask converge alike.

    Returns
    -------
    tensor (C, Y, Z, X)
        Non-negative; on the simplex where ``fractions``.
    """
    A, whiten = problem.projector, problem.whiten
    data = problem.data
    if problem.poisson:  # Gaussian stand-in of the counts, variance from a local mean
        mean = torch.nn.functional.avg_pool2d(data, 5, 1, 2, count_include_pad=False).clamp_min(0.2)
        whiten = torch.diag_embed(mean.rsqrt().movedim(0, -1)).movedim((-2, -1), (0, 1))

    def white(residual):
        return torch.einsum("cdtyx,dtyx->ctyx", whiten, problem.train * residual)

    def unwhite(residual):
        return problem.train * torch.einsum("cdtyx,ctyx->dtyx", whiten, residual)

    volume = data.new_zeros(problem.shape)
    rays = A(torch.ones_like(volume[:1]))
    size = whiten.abs()
    row = (size.sum(1) * rays).expand_as(data)  # sum over all voxels and channels a whitened residual depends on
    column = A.T((size.sum(0) * problem.train).expand_as(data).contiguous())
    balance = float(column.mean()) / 6  # gives differences the weight of rays
    step_ray, step_difference = 1 / row.clamp_min(1e-6), 1 / (2 * balance)
    step = 1 / (column + 6 * balance)
    target = white(data)
    ray, difference, ahead = torch.zeros_like(data), volume.new_zeros(3, *volume.shape), volume
    for _ in range(iterations):
        ray = (ray + step_ray * (white(A(ahead)) - target)) / (1 + step_ray)
        difference = difference + step_difference * balance * gradient(ahead)
        length = (difference**2).sum((0, 1), keepdim=True).sqrt()
        difference = difference / (length * (balance / weight)).clamp_min(1)
        new = volume - step * (A.T(unwhite(ray)) - balance * _divergence(difference))
        new = to_simplex(new) if fractions else new.clamp_min(0)
        volume, ahead = new, 2 * new - volume
    return volume
