"""How to spend a fluence on a tilt series, and the smallest features that it can show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_count, check_positive, check_tilts, finite_array
from ..doors import checked
from ..simulate import SpectrumModel
from .acquisition import Acquisition
from .bounds import phase_bound
from .efficiency import metal_weights

__all__ = ["TiltPlan", "plan_tilt_series", "smallest_void_nm", "thinnest_skin_nm"]

ROSE = 5.0  # standard errors at which a feature of unknown place can be told from noise


@checked(
    fluence_e_per_A2="N", error_nm="N P", total_metal_error_nm="N", correlation="N", volume_error="N", crowther_nm="N"
)
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


@checked
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


@checked
def smallest_void_nm(
    covariance_nm2: ArrayLike, views: int, pixel_size_nm: float, *, phase: int = 1, standard_errors: float = ROSE
) -> float:
    r"""Diameter of the smallest spherical void within one phase that a tilt series can show, at best.

    The sphere of radius r takes the chord :math:`c(\rho) = 2\sqrt{r^2-\rho^2}` away from the phase, in every view.
    A matched filter over all pixels and views sees it with the squared signal-to-noise ratio

    .. math::

        d'^2 = N\,\frac{e^T \Sigma^{-1} e}{h^2} \int_0^r c^2(\rho)\,2\pi\rho\,d\rho
             = N\,\frac{2\pi r^4}{h^2}\,e^T \Sigma^{-1} e ,

    with N views, pixels of side h, the covariance :math:`\Sigma` of the phases in a pixel, and e the direction of the
    phase. What can be claimed has :math:`d' = 5`, since the void may be anywhere (Rose 1948), and is at least two
    pixels across. It is a lower limit: shape and everything else are taken as known, and the blur of the pixels,
    of the probe and of the prior are left out.

    Parameters
    ----------
    covariance_nm2
        ``(P, P)``, from `phase_bound`, at the thickness that the views look through.
    views
        Number of tilts.
    pixel_size_nm
        Side of the pixels that the covariance is of.
    phase
        Index of the phase around the void.
    standard_errors
        :math:`d'` that is asked for.

    Raises
    ------
    ValueError
        For a covariance that is not positive definite, a phase that it does not have, or values that are not positive.

    References
    ----------
    A. Rose, "The sensitivity performance of the human eye on an absolute scale", J. Opt. Soc. Am. 38 (1948) 196.
    """
    information = _information(covariance_nm2)
    if check_count(phase, "phase", 0) >= len(information):
        raise ValueError(f"phase: got {phase}, wants less than {len(information)}")
    check_count(views, "views")
    check_positive(pixel_size_nm=pixel_size_nm, standard_errors=standard_errors)
    per_area = views * information[phase, phase] / pixel_size_nm**2
    radius = (standard_errors**2 / (2 * np.pi * per_area)) ** 0.25
    return float(2 * max(radius, pixel_size_nm))


@checked
def thinnest_skin_nm(
    covariance_nm2: ArrayLike,
    tilt_angles_deg: ArrayLike,
    pixel_size_nm: float,
    *,
    patch_nm: float = 5.0,
    phases: tuple[int, int] = (0, 1),
    standard_errors: float = ROSE,
) -> float:
    r"""Thinnest layer of one phase in the place of another, on a square patch, that a tilt series can show, at best.

    The patch, of area A, faces the beam at 0°. At the tilt :math:`\theta` it covers the area
    :math:`A\cos\theta`, and the beam's way through a skin of thickness s is :math:`s/\cos\theta`, so that

    .. math::

        d'^2 = \frac{A s^2}{h^2}\,u^T \Sigma^{-1} u \sum_t \frac{1}{\cos\theta_t} ,

    where u is 1 for the phase of the skin and -1 for the phase that it replaces. As in `smallest_void_nm` this is a
    lower limit, at :math:`d' = 5`. Faces that a tilt sees edge-on can show thinner skins.

    Parameters
    ----------
    covariance_nm2
        ``(P, P)``, from `phase_bound`, at the thickness that the views look through.
    tilt_angles_deg
        Of the views, ``(T,)``, between -90 and 90.
    pixel_size_nm
        Side of the pixels that the covariance is of.
    patch_nm
        Side of the patch.
    phases
        Indices of the phase of the skin and of the phase that it replaces.
    standard_errors
        :math:`d'` that is asked for.

    Raises
    ------
    ValueError
        For a covariance that is not positive definite, phases that it does not have, tilts at which the patch is
        seen edge-on, or values that are not positive.
    """
    information = _information(covariance_nm2)
    tilts = check_tilts(tilt_angles_deg)
    if np.abs(tilts).max() >= 90:
        raise ValueError(f"tilt_angles_deg: got up to {np.abs(tilts).max():g}, wants less than 90")
    if len(finite_array(phases, "phases").ravel()) != 2 or np.ndim(phases) != 1:
        raise ValueError(f"phases: got {phases!r}, wants two different indices below {len(information)}")
    for phase in phases:
        if check_count(phase, "phases", 0) >= len(information):
            raise ValueError(f"phases: got {phases!r}, wants two different indices below {len(information)}")
    if len(set(phases)) != 2:
        raise ValueError(f"phases: got {phases!r}, wants two different indices below {len(information)}")
    check_positive(pixel_size_nm=pixel_size_nm, patch_nm=patch_nm, standard_errors=standard_errors)
    exchange = np.zeros(len(information))
    exchange[list(phases)] = 1, -1
    ways = np.sum(1 / np.cos(np.deg2rad(tilts)))
    per_thickness2 = (patch_nm / pixel_size_nm) ** 2 * (exchange @ information @ exchange) * ways
    return float(standard_errors / np.sqrt(per_thickness2))


def _information(covariance_nm2: ArrayLike) -> NDArray:
    """Inverse of a covariance (P, P), checked."""
    covariance = finite_array(covariance_nm2, "covariance_nm2")
    if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1] or not covariance.size:
        raise ValueError(f"covariance_nm2: got shape {covariance.shape}, wants (phases, phases)")
    if not np.allclose(covariance, covariance.T, rtol=1e-6) or np.linalg.eigvalsh(covariance)[0] <= 0:
        raise ValueError(f"covariance_nm2: got {covariance.tolist()}, wants a symmetric, positive definite matrix")
    return np.linalg.inv(covariance)
