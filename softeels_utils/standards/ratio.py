"""Metal per oxygen in every pixel, counted by the core loss alone: no reference of a phase enters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from ..checks import check_mask
from ..doors import checked
from ..fitting import Estimate
from ..spectra import align_zero_loss, data_of, energy_axis, zero_loss
from .constraints import Chemistry
from .coreloss import core_loss_estimators
from .pair import PhasePair
from .prepare import prepare_dual_eels

__all__ = ["metal_per_oxygen"]

SMOOTHED = 9  # channels over which counts are averaged for their variance
LEAST_OXYGEN = 3.0  # standard errors, below which a pixel has no ratio


@checked
def metal_per_oxygen(low_loss: Any, core_loss: Any, *, mask: ArrayLike | None = None, **options: Any) -> Estimate:
    """Metal atoms per oxygen atom in every pixel of dual EELS that covers O-K and L2,3, with its errors.

    Plural scattering is removed, background and O-K continuum are fitted where there is no near-edge structure, and the
    signal above them at L2,3 is integrated (`core_loss_estimators`). Oxygen is counted with its calculated
    cross-section. The strength of L2,3 per metal atom is not known from tables, because of the white lines
    (`Chemistry.metal_strength`): this causes the systematic error of about 30 %, which is common to all pixels. Pixels
    can be compared with each other much better than with a chemical formula.

    Parameters
    ----------
    low_loss, core_loss : HyperSpy signals or arrays
        Counts of the same pixels, see `prepare_dual_eels`.
    mask : bool (...), optional
        Pixels whose mean spectrum shows where the edges are; by default all.
    **options
        Arguments of `prepare_dual_eels`: ``system``, ``gain``, ``exposure_ratio``, ``beam_energy_keV``, ...

    Returns
    -------
    Estimate
        NaN where oxygen is within three standard errors of zero.

    Raises
    ------
    ValueError
        As for `prepare_dual_eels` and `core_loss_estimators`; also for a core loss without O-K, or a system without
        oxygen.
    """
    if mask is not None and not check_mask(mask, "mask", np.shape(data_of(core_loss))[:-1]).any():
        raise ValueError("mask: got no pixel, wants at least one")
    dual = prepare_dual_eels(low_loss, core_loss, **options)
    core = dual.core_loss
    mask = np.ones(core.shape[:-1], bool) if mask is None else np.asarray(mask)
    counts = core_loss_estimators(dual.core_energy_eV, core[mask].mean(axis=0), system=dual.system, **dual.microscope)
    if counts.oxygen_atoms is None:
        raise ValueError(f"core_loss: got energies from {dual.core_energy_eV[0]:g} eV, wants those of O-K, of an oxide")
    chemistry, pair = Chemistry(), PhasePair.of(dual.system)
    strengths = chemistry.phase_strengths(pair)
    rows = np.stack([counts.metal / (chemistry.metal_strength * strengths.mean()), counts.oxygen_atoms])
    metal, oxygen = np.moveaxis(core @ rows.T, -1, 0)
    covariance = np.einsum("ie,...e,je->...ij", rows, _variance(low_loss, core_loss, dual, options), rows)
    found = oxygen > LEAST_OXYGEN * np.sqrt(covariance[..., 1, 1])
    metal, oxygen = (np.where(found, amount, np.nan) for amount in (metal, oxygen))
    slope = np.stack([1 / oxygen, -metal / oxygen**2], axis=-1)
    variance = np.einsum("...i,...ij,...j->...", slope, covariance, slope)
    relative = [chemistry.metal_strength_uncertainty, chemistry.oxygen_uncertainty, np.ptp(np.log(strengths)) / 2]
    return Estimate(metal / oxygen, np.sqrt(variance), np.linalg.norm(relative) * np.abs(metal / oxygen))


def _variance(low_loss, core_loss, dual, options):
    """Of the core loss in each channel, (..., E): that of the counts, by a few per cent too large."""
    energy = energy_axis(low_loss, options.get("energy_eV"), of="low_loss")
    aligned = align_zero_loss(data_of(low_loss), energy_eV=energy)
    electrons = zero_loss(aligned, energy).sum(axis=-1, keepdims=True) * dual.exposure_ratio
    step = dual.core_energy_eV[1] - dual.core_energy_eV[0]
    counts = ndimage.uniform_filter1d(np.asarray(data_of(core_loss), float), SMOOTHED, axis=-1)
    return options.get("gain", 1.0) * np.maximum(counts, 0) / (electrons * step) ** 2
