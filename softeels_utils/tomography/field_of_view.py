"""Whether a specimen leaves the field of view: then what is projected is not the same at every tilt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..checks import check_kind
from ..doors import checked
from .measurement import Measurement

__all__ = ["FieldOfView", "leaves_field"]

LEAST_VARIATION, LEAST_EDGE = 0.02, 0.05  # smaller effects change a volume by less than other errors do
SIGNIFICANCE = 4.0  # standard deviations


@checked(mass="C T", mass_error="C T", variation="C", edge="C", edge_error="C")
@dataclass(frozen=True)
class FieldOfView:
    """Result of `leaves_field`.

    Attributes
    ----------
    leaves : bool
        Whether some channel's mass varies with tilt and also reaches the edge of the detector, both by more than the
        noise explains.
    mass : array (C, T)
        Mean of the projections at each tilt; the same at every tilt for a specimen inside the field.
    mass_error : array (C, T)
        Its standard deviation due to noise.
    variation : array (C,)
        Standard deviation of the mass over tilt in excess of the noise, as a fraction of its mean.
    edge : array (C,)
        Mean of the outermost columns on either side, the larger of the two, as a fraction of the mean of all columns.
    edge_error : array (C,)
    """

    leaves: bool
    mass: NDArray
    mass_error: NDArray
    variation: NDArray
    edge: NDArray
    edge_error: NDArray

    def __bool__(self) -> bool:
        return self.leaves


@checked
def leaves_field(measurement: Measurement) -> FieldOfView:
    """Test whether the specimen extends beyond the detector at some tilts.

    Every pixel row of a specimen inside the field has the same mass at every tilt. A wider one, such as a section or a
    film, brings more material into the field the higher the tilt; a reconstruction in a slice as wide as the detector
    has no room for it. See `Measurement.padded`.

    Parameters
    ----------
    measurement : Measurement
        Its errors decide what is significant. Beam current or absorption may also make the mass vary with tilt;
        therefore mass at the edge of the detector is required, too.

    Examples
    --------
    >>> from softeels_utils.tomography import ParallelBeam
    >>> tilts, noise = np.linspace(-60, 60, 7), np.random.default_rng(0).normal(size=(1, 7, 4, 32))
    >>> film, ball = np.zeros((2, 1, 4, 32, 96))
    >>> film[..., 13:19, :], ball[..., 13:19, 45:51] = 1, 1
    >>> for volume in (film, ball):
    ...     seen = ParallelBeam((32, 96), tilts)(volume)[..., 32:64]
    ...     print(bool(leaves_field(Measurement(seen + 0.1 * noise, tilts, covariance=[0.01]))))
    True
    False
    """
    gaussian = check_kind(measurement, "measurement", Measurement).as_gaussian()
    used = gaussian.used.cpu().numpy()
    values = gaussian.projections.cpu().numpy().astype(float)
    covariance = gaussian.covariance
    variance = np.diagonal(covariance, axis1=-2, axis2=-1)  # (C,) or (T, Y, X, C)
    variance = np.broadcast_to(
        np.moveaxis(variance, -1, 0) if variance.ndim > 1 else variance[:, None, None, None], used.shape
    )
    mass, mass_error = _mean(values, variance, used, (2, 3))
    whole = mass.mean(1)
    scale = np.where(whole > 0, whole, np.inf)
    excess = mass.var(1, ddof=1) - (mass_error**2).mean(1) if mass.shape[1] > 1 else 0 * whole
    variation = np.sqrt(excess.clip(0)) / scale
    chi2 = (((mass - whole[:, None]) / mass_error) ** 2).sum(1)
    freedom = mass.shape[1] - 1
    varies = (chi2 > freedom + SIGNIFICANCE * (2 * freedom) ** 0.5) & (variation > LEAST_VARIATION)
    measured = np.flatnonzero(used.any(axis=(0, 1, 2)))  # a padded measurement has columns that were not
    sides = [_mean(values[..., [c]], variance[..., [c]], used[..., [c]], (1, 2, 3)) for c in measured[[0, -1]]]
    edge, edge_error = (np.stack(part) / scale for part in zip(*sides, strict=True))
    side, channels = edge.argmax(0), np.arange(len(whole))
    edge, edge_error = edge[side, channels], edge_error[side, channels]
    reaches = (edge > LEAST_EDGE) & (edge > SIGNIFICANCE * edge_error)
    return FieldOfView(bool((varies & reaches).any()), mass, mass_error, variation, edge, edge_error)


def _mean(values, variance, used, axes):
    """Mean over the used values, and its standard deviation."""
    number = used.sum(axes).clip(1)
    return (values * used).sum(axes) / number, np.sqrt((variance * used).sum(axes)) / number
