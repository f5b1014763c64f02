"""How to spend a fluence on a tilt series."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..simulate import SpectrumModel
from .bounds import phase_bound
from .efficiency import iron_weights


@dataclass(frozen=True)
class TiltPlan:
    """Ways to spend one total fluence on a tilt series; one entry for each number of tilts.

    Attributes
    ----------
    tilts : (N,) int
    fluence_e_per_A2 : (N,)
        Of each tilt.
    error_nm : (N, P)
        Bound of each phase's thickness in one pixel of one projection.
    total_iron_error_nm : (N,)
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

    tilts: np.ndarray
    fluence_e_per_A2: np.ndarray
    error_nm: np.ndarray
    total_iron_error_nm: np.ndarray
    correlation: np.ndarray
    volume_error: np.ndarray
    crowther_nm: np.ndarray
    recommended: int


def plan_tilt_series(
    spectrum_model: SpectrumModel,
    total_fluence_e_per_A2: float,
    *,
    edge: str = "M2,3",
    thickness_nm=(10.0, 10.0),
    diameter_nm: float = 34.4,
    feature_nm: float = 2.0,
    tilt_range_deg: float = 140.0,
    tilts=(5, 7, 9, 11, 15, 21, 29, 41, 57, 71),
    target_error_nm: float = 5.0,
    **settings,
) -> TiltPlan:
    """For a total fluence: how many tilts, and what error of each phase in a pixel.

    Parameters
    ----------
    total_fluence_e_per_A2
        All the specimen may get, over the series.
    diameter_nm
        Of the particle, for the Crowther limit.
    feature_nm
        Side of the feature whose volume fraction is asked for.
    tilt_range_deg
        From the first to the last tilt.
    target_error_nm
        Standard error of each phase in one pixel that fitting needs to stay safely above its bound at zero.
    settings
        As for `phase_bound`.
    """
    counts = np.asarray(tilts)
    if counts.ndim != 1 or counts.size == 0 or (counts < 2).any() or (counts != counts.astype(int)).any():
        raise ValueError(f"tilts must be integers of at least 2, got {tilts!r}")
    for name, value in (
        ("total_fluence_e_per_A2", total_fluence_e_per_A2),
        ("diameter_nm", diameter_nm),
        ("feature_nm", feature_nm),
        ("tilt_range_deg", tilt_range_deg),
        ("target_error_nm", target_error_nm),
    ):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive, got {value!r}")
    counts = np.sort(counts.astype(int))
    each = total_fluence_e_per_A2 / counts
    bounds = np.stack([phase_bound(spectrum_model, f, edge=edge, thickness_nm=thickness_nm, **settings) for f in each])
    error = np.sqrt(np.einsum("npp->np", bounds))
    iron = iron_weights(spectrum_model)
    # the feature covers (feature / pixel)² pixels of every projection
    pixels = (feature_nm / settings.get("pixel_size_nm", 0.4)) ** 2
    good = (error <= target_error_nm).all(axis=1)
    return TiltPlan(
        tilts=counts,
        fluence_e_per_A2=each,
        error_nm=error,
        total_iron_error_nm=np.sqrt(np.einsum("p,npq,q->n", iron, bounds, iron)),
        correlation=bounds[:, 0, 1] / (error[:, 0] * error[:, 1]),
        volume_error=error.max(axis=1) / feature_nm / np.sqrt(counts * pixels),
        crowther_nm=diameter_nm * np.deg2rad(tilt_range_deg / (counts - 1)),
        recommended=int(counts[good].max() if good.any() else counts.min()),
    )
