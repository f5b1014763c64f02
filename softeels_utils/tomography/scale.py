"""Projections in an unknown unit: the value of a pure voxel of each channel, from closure."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..checks import check_kind
from ..doors import checked
from .constraint import NONNEGATIVE
from .measurement import Measurement
from .stopping import Gap
from .tv import WARM_START, joint_tv, noise_weight, short_sirt

__all__ = ["learn_scale"]

SMOOTH = 2.0  # weight of joint TV, in units of the weight at which noise alone is flattened
RAMP = 0.2  # share of the inner level below which a voxel is empty; above one less that, it is full
EDGE = 1.0  # error of the length of a ray inside the specimen, in voxels
LONG = 3.0  # voxels that a ray crosses at least
PRIOR = 0.01  # weight, relative to the data's, of "the largest values of all channels are equally pure"


@checked
def learn_scale(measurement: Measurement) -> NDArray:
    r"""Value of a pure voxel in each channel, (C,); pass it to `Measurement.rescaled` and multiply volumes by it.

    Inside the specimen the fractions add up to 1, so that along a ray of length :math:`\ell_i` inside it the
    projections obey :math:`\sum_c p_{ci} / s_c = \ell_i`. A smooth reconstruction of all channels shows where the
    specimen is, hence :math:`\ell_i`; the :math:`1 / s_c` then follow by least squares over the rays. The noise of the
    :math:`p_{ci}`, which are the regressors, would pull them towards zero: its known covariance is subtracted from the
    normal equations (W. A. Fuller, *Measurement Error Models*, 1987). A channel that this leaves undetermined gets
    about its largest value in the volume.
    """
    one = check_kind(measurement, "measurement", Measurement).as_gaussian()
    start = short_sirt(one, NONNEGATIVE, 2 * WARM_START)
    reach = np.array([np.quantile(c[c > 0], 0.99) if (c > 0).any() else 0.0 for c in start.cpu().numpy().astype(float)])
    reach = np.where(reach > 0, reach, reach.max() or 1.0)  # an empty channel is like the largest
    one = one.rescaled(reach)
    start = start / torch.as_tensor(reach[:, None, None, None], dtype=start.dtype, device=start.device)
    smooth = {"initial": start, "weight": SMOOTH * noise_weight(one, start), "stop": Gap(2e-2), "max_iterations": 200}
    volume = joint_tv(one, **smooth, progress=False).volume.astype(float)
    maps, used = one.projections.cpu().numpy().astype(float), one.used.cpu().numpy().all(0)
    covariance = np.broadcast_to(one.covariance, (*used.shape, *one.covariance.shape[-2:]))
    inverse, voxel = np.ones(len(reach)), one.projector.voxel_size_nm
    for _ in range(4):  # where the specimen is depends a little on the scale
        full = _filled(np.tensordot(inverse, volume, 1))
        length = one.projector(torch.as_tensor(full[None], dtype=start.dtype, device=start.device))[0].cpu().numpy()
        rays = used & (length > LONG * voxel)
        rays = rays if rays.sum() > 10 * len(reach) else used & (length > 0)
        if not rays.any():
            break
        equal = np.full(len(reach), inverse.mean())
        inverse = _closed(maps[:, rays].T, covariance[rays], length[rays].astype(float), EDGE * voxel, equal)
    return reach / inverse


def _filled(total):
    """Share of each voxel (Y, Z, X) that is inside the specimen, from the sum of its phases in any unit.

    An edge that is blurred keeps its place, and the specimen its volume.
    """
    from scipy.ndimage import binary_erosion

    inside = total > 0.5 * np.quantile(total, 0.99)
    deep = binary_erosion(inside, iterations=2)
    level = np.median(total[deep if deep.sum() > 50 else inside]) if inside.any() else 0.0
    return np.clip((total / level - RAMP) / (1 - 2 * RAMP), 0, 1) if level > 0 else np.zeros_like(total)


def _closed(maps, covariance, length, error, guess):
    """The (C,) factors that make maps (P, C) with errors (P, C, C) add up to lengths (P,), near a guess."""
    from scipy.linalg import eigh

    factors, floor = guess, 1e-9 * np.eye(len(guess))
    for _ in range(6):  # the weights depend on the factors
        weight = 1 / (np.einsum("c,pcd,d->p", factors, covariance, factors) + error**2)
        normal, noise = (maps * weight[:, None]).T @ maps, np.einsum("p,pcd->cd", weight, covariance)
        # Noise is at most 0.9 of what any combination of channels has: errors may be stated too large.
        share, modes = eigh(noise, normal + floor * max(np.trace(normal), 1e-30))
        back = np.linalg.inv(modes)
        signal = back.T @ ((1 - share.clip(max=0.9))[:, None] * back)
        prior = PRIOR * np.trace(signal) / len(signal) * np.eye(len(signal))
        right = (maps * weight[:, None]).T @ length + prior @ guess
        factors = np.linalg.solve(signal + prior, right).clip(0.1 * guess)
    return factors
