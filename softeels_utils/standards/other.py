"""Matter beside the two phases, such as ligands: what it adds to M2,3 and to the core loss of the phases."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..doors import checked
from ..spectra import in_window
from .coreloss import CoreLossEstimators
from .plane import Plane
from .prepare import DualEELS, Specimen

__all__ = ["OtherMatter", "SurplusLosses", "find_other_matter"]

LOWEST_EV = 3.0  # of valence losses: above the zero loss
SMOOTHING = 1.0  # pixels: standard deviation
LEAST = 0.02  # of the specimen's valence losses
SEEN = 4.0  # standard errors of what the core loss counts along with it
FEW_METAL = 0.1  # of the metal in the richest pixels, at most, where other matter is looked at by itself
FEWEST = 30  # pixels


@checked(per_coordinate="2")
@dataclass(frozen=True)
class SurplusLosses:
    """Valence losses beyond those that go with M2,3, in parts of the specimen's mean losses.

    Ligands, contamination, or a shell without the metal scatter, but have no M2,3. In the thicker half of the pixels
    they are a small part: how much the phases scatter is found there.

    Attributes
    ----------
    per_coordinate : (2,)
        Losses that go with each coordinate of the plane.
    mean : float
        Of the losses in the specimen.
    part : float
        Of the losses in the specimen that is surplus.
    end_eV : float
        Up to which losses are summed: the onset of M2,3.
    """

    per_coordinate: NDArray
    mean: float
    part: float
    end_eV: float

    @classmethod
    def of(cls, specimen: Specimen, plane: Plane, end_eV: float) -> SurplusLosses:
        """From the thicker half of a specimen."""
        dual, mask = specimen.dual, specimen.mask
        losses, coordinates = _valence_losses(dual, end_eV)[mask], plane.locate(dual.low_loss[mask][:, dual.in_window])
        amount = coordinates @ coordinates.mean(axis=0)
        thick = amount >= np.median(amount)
        root = plane.variance[thick] ** -0.5
        found = np.linalg.lstsq(coordinates[thick] * root[:, None], losses[thick] * root, rcond=None)[0]
        mean = losses.mean()
        return cls(found, float(mean), float(1 - (coordinates @ found).mean() / mean), end_eV)

    def image(self, dual: DualEELS, plane: Plane) -> NDArray[np.float64]:
        """Surplus in every pixel (...), smoothed where pixels form an image."""
        coordinates = plane.locate(dual.low_loss[..., dual.in_window])
        surplus = (_valence_losses(dual, self.end_eV) - coordinates @ self.per_coordinate) / self.mean
        if surplus.ndim >= 2:
            surplus = ndimage.gaussian_filter(surplus, (*[0.0] * (surplus.ndim - 2), SMOOTHING, SMOOTHING))
        return np.maximum(surplus, 0)  # less than the phases scatter: another phase, which is none of this


def _valence_losses(dual, end_eV):
    return dual.low_loss[..., in_window(dual.energy_eV, (LOWEST_EV, end_eV))].sum(axis=-1)


@checked(core_loss="E2", in_plane="2")
@dataclass(frozen=True)
class OtherMatter:
    """What goes with the surplus of valence losses; its own errors are in no sample of the references.

    Attributes
    ----------
    surplus : SurplusLosses or None
        None where no other matter is seen: nothing is subtracted then.
    core_loss : (E2,)
        Core loss per unit of surplus.
    in_plane : (2,)
        Coordinates in the plane of M2,3 per unit of surplus: what of its losses looks like M2,3.
    """

    surplus: SurplusLosses | None
    core_loss: NDArray = field(repr=False)
    in_plane: NDArray

    @property
    def part(self) -> float:
        """Of the valence losses of the specimen, that is surplus; 0 where none is seen."""
        return self.surplus.part if self.surplus else 0.0

    def taken_off(self, plane: Plane, specimen: Specimen) -> Plane:
        """The plane with coordinates of the phases alone."""
        if self.surplus is None:
            return plane
        amount = self.surplus.image(specimen.dual, plane)[specimen.mask]
        return replace(plane, coordinates=plane.coordinates - amount[:, None] * self.in_plane)

    def locate(self, dual: DualEELS, plane: Plane) -> NDArray[np.float64]:
        """Coordinates (..., 2) of the phases alone, in every pixel."""
        coordinates = plane.locate(dual.low_loss[..., dual.in_window])
        if self.surplus is None:
            return coordinates
        return coordinates - self.surplus.image(dual, plane)[..., None] * self.in_plane

    def expected(self, dual: DualEELS, plane: Plane, estimator: NDArray) -> NDArray | float:
        """What a core-loss estimator (E2, ...) counts of it in every pixel."""
        if self.surplus is None:
            return 0.0
        return np.multiply.outer(self.surplus.image(dual, plane), self.core_loss @ estimator)


@checked
def find_other_matter(
    specimen: Specimen,
    plane: Plane,
    surplus: SurplusLosses,
    slopes: NDArray,
    estimators: CoreLossEstimators,
) -> OtherMatter:
    """What goes with the surplus, if the core loss shows that there is other matter.

    It is seen if it has a fiftieth of the valence losses (less may be noise, or losses that are less localised than
    M2,3), and if, at the same coordinates of M2,3, there is more oxygen or less metal where there is more surplus,
    beyond chance: ligands hold oxygen, and M2,3 counts what scatters like it. Less oxygen is a grain of metal, which is
    none of this. How much of the surplus looks like M2,3 is read from pixels with little metal; what metal they have
    goes with that of the core loss.

    Parameters
    ----------
    specimen, plane, surplus
    slopes : (B, 3, E2)
        Core loss per unit of both coordinates and of the surplus; draw 0 is all pixels.
    estimators : CoreLossEstimators
    """

    def deviations(estimator: NDArray | None) -> float:
        """From zero, in standard errors."""
        if estimator is None:
            return 0.0
        counts = slopes[:, 2] @ estimator
        return float(counts[0] / max(counts[1:].std(), np.finfo(float).tiny))

    oxygen, metal = deviations(estimators.oxygen), deviations(estimators.metal)
    if surplus.part < LEAST or max(oxygen, -metal) < SEEN or oxygen < -SEEN:
        return OtherMatter(None, np.zeros_like(slopes[0, 2]), np.zeros(2))
    amount, coordinates = surplus.image(specimen.dual, plane)[specimen.mask], plane.coordinates
    counted = coordinates @ (slopes[0, :2] @ estimators.metal)
    poor = counted < FEW_METAL * np.percentile(counted, 98)
    in_plane = np.zeros(2)
    if poor.sum() >= FEWEST:
        seen = specimen.dual.core_loss[specimen.mask][poor] @ estimators.metal
        root = plane.variance[poor, None] ** -0.5
        regressors = np.column_stack([seen / seen.std(), amount[poor]])
        in_plane = np.linalg.lstsq(regressors * root, coordinates[poor] * root, rcond=None)[0][1]
    return OtherMatter(surplus, slopes[0, 2], in_plane)
