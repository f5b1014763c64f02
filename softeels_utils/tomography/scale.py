"""Projections in an unknown unit: the value of a pure voxel of each channel, from closure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .constraint import NONNEGATIVE
from .measurement import Measurement
from .tv import WARM_START, short_sirt

__all__ = ["learn_scale"]


def learn_scale(measurement: Measurement) -> NDArray:
    r"""Value of a pure voxel in each channel, (C,); hand it to `Measurement.rescaled` and multiply volumes by it.

    Inside the specimen the fractions add up to 1, so that :math:`\sum_c u_c / s_c = 1` is solved for the
    :math:`s_c > 0` by least squares over the inner voxels of a short SIRT. A channel that this leaves undetermined
    gets its 99th percentile there.
    """
    from scipy.ndimage import binary_erosion
    from scipy.optimize import nnls

    volume = short_sirt(measurement.as_gaussian(), NONNEGATIVE, 2 * WARM_START).cpu().numpy().astype(float)
    reach = np.array([np.quantile(c[c > 0], 0.99) if (c > 0).any() else 0.0 for c in volume])
    reach = np.where(reach > 0, reach, reach.max() or 1.0)  # an empty channel is like the largest
    relative = volume / reach[:, None, None, None]
    total = relative.sum(0)
    inside = total > 0.5 * np.quantile(total, 0.99)
    deep = binary_erosion(inside, iterations=2)
    samples = relative[:, deep if deep.sum() > 50 else inside].T
    inverse = nnls(samples, np.ones(len(samples)))[0] if len(samples) else np.zeros(len(reach))
    return reach / np.where(inverse > 0.1, inverse, 1.0)
