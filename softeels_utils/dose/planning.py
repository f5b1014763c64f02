"""How to spend a fluence on a tilt series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_positive, finite_array
from ..simulate import SpectrumModel
from .acquisition import Acquisition
from .bounds import phase_bound
from .efficiency import metal_weights

__all__ = ["TiltPlan", "plan_tilt_series"]


@dataclass(frozen=True)
class TiltPlan:
    """Ways to spend one total fluence on a tilt series; one entry for each number of tilts.

    Attributes
    ----------
    tilts : (N,) int
        Number of tilts.
    fluence_e_per_A2 : (N,)
        Fluence per tilt.
    error_nm : (N, P)
        Bound of each phase's thickness in one pixel of one projection.
    total_metal_error_nm : (N,)
        The same for the metal of all phases (total iron), in nm of the first phase.
    correlation : (N,)
        Between the first two phases.
    volume_error : (N,)
        Error of the volume fraction of the worse phase in a cubic feature, from all tilts: the bound of one projection
        over the feature's size and the root of the number of pixels and tilts that see it (Hegerl and Hoppe 1976:
        without readout noise it does not depend on how the fluence is split).
    crowther_nm : (N,)
        Finest detail that the angular step resolves in an object of the given diameter, D Δθ (Crowther 1970).
    recommended : int
        Most tilts whose `error_nm` meets the target for every phase; the fewest if none does.
    """

    tilts: NDArray[np.int_]
    fluence_e_per_A2: NDArray
    error_nm: NDArray
    total_metal_error_nm: NDArray
    correlation: NDArray
    volume_error: NDArray
    crowther_nm: NDArray
    recommended: int


def plan_tilt_series(
    spectrum_model: SpectrumModel,
    total_fluence_e_per_A2: float,
    acquisition: Acquisition | None = None,
    *,
    diameter_nm: float = 34.4,
    feature_nm: float = 2.0,
    tilt_range_deg: float = 140.0,
    tilts: ArrayLike = (5, 7, 9, 11, 15, 21, 29, 41, 57, 71),
    target_error_nm: float = 5.0,
    **settings: Any,
) -> TiltPlan:
    """For a total fluence: how many tilts, and what error of each phase in a pixel.

    Parameters
    ----------
    spectrum_model
        From `simulate.spectrum_model`.
    total_fluence_e_per_A2
        Fluence that the specimen may get, over the whole series.
    acquisition, **settings
        Edge, thickness, pixel and camera, as for `phase_bound`.
    diameter_nm
        Of the particle, for the Crowther limit.
    feature_nm
        Side of the feature whose volume fraction is asked for.
    tilt_range_deg
        From the first to the last tilt.
    tilts
        Numbers of tilts to compare.
    target_error_nm
        Standard error of each phase in one pixel that a fit can tolerate: non-negative fits of noisier pixels are
        biased.

    Raises
    ------
    ValueError
        For numbers of tilts below 2, values that are not positive, or arguments that `phase_bound` refuses.
    TypeError
        For a setting that `Acquisition` does not have.
    """
    counts = finite_array(tilts, "tilts")
    if counts.ndim != 1 or counts.size == 0 or (counts < 2).any() or (counts % 1).any():
        raise ValueError(f"tilts: got {tilts!r}, wants integers of at least 2")
    check_positive(
        total_fluence_e_per_A2=total_fluence_e_per_A2,
        diameter_nm=diameter_nm,
        feature_nm=feature_nm,
        tilt_range_deg=tilt_range_deg,
        target_error_nm=target_error_nm,
    )
    acquisition = Acquisition.from_settings(acquisition, **settings)
    counts = np.sort(counts.astype(int))
    fluence_per_tilt = total_fluence_e_per_A2 / counts
    bounds = np.stack([phase_bound(spectrum_model, fluence, acquisition) for fluence in fluence_per_tilt])
    error = np.sqrt(np.einsum("npp->np", bounds))
    metal = metal_weights(spectrum_model)
    # the feature covers (feature / pixel)² pixels of every projection
    pixels = (feature_nm / acquisition.pixel_size_nm) ** 2
    good = (error <= target_error_nm).all(axis=1)
    return TiltPlan(
        tilts=counts,
        fluence_e_per_A2=fluence_per_tilt,
        error_nm=error,
        total_metal_error_nm=np.sqrt(np.einsum("p,npq,q->n", metal, bounds, metal)),
        correlation=bounds[:, 0, 1] / (error[:, 0] * error[:, 1]),
        volume_error=error.max(axis=1) / feature_nm / np.sqrt(counts * pixels),
        crowther_nm=diameter_nm * np.deg2rad(tilt_range_deg / (counts - 1)),
        recommended=int(counts[good].max() if good.any() else counts.min()),
    )
