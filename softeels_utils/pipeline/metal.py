"""Atoms of the metal and their mean valence, from maps or a volume of phases, with both errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_flag, check_kind, check_names, real_array
from ..dip import EnsembleResult
from ..doors import checked
from ..fitting import Estimate, PhaseFit, ReferenceDraws
from ..scattering import System

__all__ = ["known_phases", "knows_metal", "metal_and_valence", "metal_maps"]

LITTLE = 0.1, 3.0  # of the 99th percentile, and standard errors: with less metal there is no mean valence


def known_phases(channels: Sequence[str], system: System) -> ReferenceDraws | None:
    """Density and valence of the metal in phases of a system, taken as exact; None unless all channels are such phases.

    Examples
    --------
    >>> from softeels_utils.scattering import load_system
    >>> iron = load_system("iron_oxides")
    >>> known_phases(("FeO", "Fe3O4"), iron).valence.round(2)
    array([[2.  , 2.67]])
    >>> known_phases(("FeO", "phase 1"), iron) is None
    True
    """
    check_names(channels, "channels")
    phases = [check_kind(system, "system", System).phases.get(channel) for channel in channels]
    if not all(phase is not None and phase.ion_fractions for phase in phases):
        return None
    density, valence = system.metal_per_nm3(channels), [system.mean_valence(channel) for channel in channels]
    none = np.zeros((0, len(channels), len(channels)))
    return ReferenceDraws(none, np.asarray(density, float)[None], np.asarray(valence, float)[None])


def knows_metal(known: ReferenceDraws | None) -> bool:
    """Whether density and valence of the metal are known."""
    return known is not None and known.metal_per_nm3 is not None and known.valence is not None


@checked
def metal_maps(fit: PhaseFit) -> tuple[Estimate, Estimate]:
    """Atoms of the metal per nm² and their mean valence in each pixel, NaN where there is little metal.

    Little is less than three standard errors, or than a tenth of the 99th percentile over all pixels.

    Raises
    ------
    ValueError
        If the fit does not know density and valence of its phases.
    """
    metal = check_kind(fit, "fit", PhaseFit).metal()
    return metal, _where_enough(metal, fit.mean_valence())


@checked
def metal_and_valence(
    result: EnsembleResult,
    known: ReferenceDraws,
    transforms: ArrayLike | None = None,
    *,
    scale_is_learned: bool = True,
    summed: bool = False,
) -> tuple[Estimate, Estimate]:
    """Atoms of the metal per nm³ and their mean valence in each voxel of a volume of phases, or in all of it.

    What a phase contains (its vacancies) is uncertain together with the references. The part of it that goes with
    ``transforms`` is taken along with each of the volumes that were made from them, and what is left is added.

    Parameters
    ----------
    result : EnsembleResult
        Volume fractions, or nm of each phase per nm.
    known : ReferenceDraws
        Density and valence of the metal in each phase.
    transforms : (S, C, C), optional
        Those of ``result.transformed``.
    scale_is_learned : bool
        Whether the value of a pure voxel was learned, so that errors of scale have no effect.
    summed : bool
        Sums over the volume: of atoms per nm³ times voxels, and the mean valence of all of them.

    Returns
    -------
    metal, valence : Estimate
        (Y, Z, X) each, or numbers. In voxels the mean valence is NaN where there is little metal: less than three
        standard errors, or than a tenth of the 99th percentile.

    Raises
    ------
    ValueError
        For channels or transforms of other numbers, or where density and valence are not known.
    """
    check_kind(result, "result", EnsembleResult)
    check_flag(scale_is_learned, "scale_is_learned")
    check_flag(summed, "summed")
    check_kind(known, "known", ReferenceDraws).check_chemistry()
    c, s = len(result.best), len(result.transformed)
    transforms = np.zeros((0, c, c)) if transforms is None else real_array(transforms, "transforms")
    if known.metal_per_nm3.shape[1] != c or transforms.shape != (s, c, c):
        got = f"{known.metal_per_nm3.shape[1]} phases and transforms {transforms.shape}"
        raise ValueError(f"known, transforms: got {got}, wants {c} phases and ({s}, {c}, {c}), as in the result")
    content = np.stack([known.metal_per_nm3, known.metal_per_nm3 * known.valence], axis=1)  # metal, charge: (S' + 1, 2)
    (density, charge), away = content[0], content[1:] - content[0]
    along, left = _goes_with(away, _mixing(known.transforms, scale_is_learned), transforms - np.eye(c))
    best = result.best.sum(axis=(1, 2, 3)) if summed else result.best

    def total(weights):  # (C,)
        return np.tensordot(weights, best, axes=1)

    def rest(shifts):  # of (S', ...)
        return np.sqrt(np.mean(np.square(shifts), axis=0)) if len(shifts) else 0.0

    metal = result.weighted_sum(density, density + along[:, 0], summed=summed)
    metal = Estimate(metal.value, metal.statistical, np.hypot(metal.systematic, rest([total(d) for d, _ in left])))
    some = np.where(metal.value > 0, metal.value, np.nan)
    value = total(charge) / some

    def slope(density, charge):  # of the mean valence with each phase, (C, ...)
        return (np.multiply.outer(charge, np.ones_like(value)) - np.multiply.outer(density, value)) / some

    others = [slope(density + d, charge + q) for d, q in along]
    moved = result.weighted_sum(slope(density, charge), others, summed=summed)
    shifts = [(total(q) - value * total(d)) / some for d, q in left]
    valence = Estimate(value, moved.statistical, np.hypot(moved.systematic, rest(shifts)))
    return metal, valence if summed else _where_enough(metal, valence)


def _mixing(transforms, scale_is_learned):
    if scale_is_learned and len(transforms):
        transforms = transforms / np.einsum("skk->sk", transforms)[:, None]
    return transforms - np.eye(transforms.shape[-1])


def _goes_with(away, mixing, wanted):
    """What of ``away`` (S', 2, C) goes with mixings (S', C, C) linearly: for those wanted (S, C, C), and what is left.

    Returns (S, 2, C) and (S', 2, C).
    """
    if not len(wanted) or not len(away):
        return np.zeros((len(wanted), *away.shape[1:])), away
    rows, columns = wanted.reshape(len(wanted), -1), mixing.reshape(len(mixing), -1)
    linear = np.linalg.lstsq(columns, away.reshape(len(away), -1), rcond=1e-6)[0]
    return (rows @ linear).reshape(-1, *away.shape[1:]), away - (columns @ linear).reshape(away.shape)


def _where_enough(metal: Estimate, valence: Estimate) -> Estimate:
    """The mean valence where there is enough metal, NaN elsewhere."""
    part, errors = LITTLE
    finite = metal.value[np.isfinite(metal.value)]
    least = part * np.percentile(finite, 99) if finite.size else 0.0
    with np.errstate(invalid="ignore"):
        enough: NDArray = (metal.value > least) & (metal.value > errors * metal.error)
    return Estimate(*(np.where(enough, x, np.nan) for x in (valence.value, valence.statistical, valence.systematic)))
