"""Whether intervals hold the truth, region by region."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from ..checks import check_mask, describe, finite_array, real_array
from ..doors import checked

__all__ = ["coverage"]


@checked
def coverage(
    lower: ArrayLike, upper: ArrayLike, truth: ArrayLike, regions: Mapping[str, ArrayLike]
) -> dict[str, float]:
    """Fraction of values whose interval contains the truth, in each region.

    Parameters
    ----------
    lower, upper, truth : array (C, Y, Z, X) or (Y, Z, X)
        Both ends belong to the interval.
    regions : dict of str to bool array (Y, Z, X) or (C, Y, Z, X)
        Such as the regions of `simulate.SpecimenDraw`.

    Returns
    -------
    dict of str to float
        NaN where a region is empty.

    Examples
    --------
    >>> truth = np.array([0.0, 0.5, 1.0]).reshape(1, 1, 3)
    >>> coverage((truth - 0.1).clip(None, 0.5), truth.clip(None, 0.6), truth, {"all": truth > -1, "bulk": truth == 1})
    {'all': 0.6666666666666666, 'bulk': 0.0}
    """
    lower, upper = (np.asarray(real_array(a, n, finite=False), float) for a, n in ((lower, "lower"), (upper, "upper")))
    truth = finite_array(truth, "truth")
    if not isinstance(regions, Mapping):
        raise ValueError(f"regions: got {describe(regions)}, wants a dict of masks")
    if not lower.shape == upper.shape == truth.shape or truth.ndim not in (3, 4):
        shapes = f"{lower.shape}, {upper.shape} and {truth.shape}"
        raise ValueError(f"lower, upper, truth: got shapes {shapes}, wants three equal (C, Y, Z, X)")
    if np.isnan(lower).any() or np.isnan(upper).any() or not np.isfinite(truth).all():
        raise ValueError("lower, upper, truth: got NaN, wants numbers (the ends may be infinite)")
    if (lower > upper).any():
        raise ValueError("lower: got values above those of upper, wants the lower ends")
    inside = (lower <= truth) & (truth <= upper)
    found = {}
    for name, mask in regions.items():
        mask = check_mask(mask, f"regions[{name!r}]", truth.shape, truth.shape[-3:])
        values = inside[..., mask] if mask.ndim == 3 else inside[mask]
        found[name] = float(values.mean()) if values.size else float("nan")
    return found
