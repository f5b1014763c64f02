"""Every void, film, skin and second core that a volume shows, found without the truth and put to `feature_test`.

And voids that another volume of the same data shows alone: a prior of closed bodies fills what it cannot make.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from softeels_utils.checks import check_names, check_number, check_seed, real_array
from softeels_utils.doors import checked
from softeels_utils.tomography import Measurement

from .features import VACUUM, FeatureTest, VolumeErrors, as_volume, check_options, claim, feature_test, fill_in
from .voids import inside_specimen

__all__ = ["Audit", "Feature", "audit", "find_features"]

KINDS = ("void", "film", "skin", "island")
SURFACE = 1.5  # voxels: nearer to the surface, a voxel may be partly empty
LAYER = 2.5  # voxels: deepest that a skin or a film reaches
DIRECTIONS = np.array([d for d in np.ndindex(3, 3, 3) if sum(x != 1 for x in d) in (1, 3)]) - 1  # faces and corners


@checked(region="Y Z X", alternative="C Y Z X")
@dataclass(frozen=True)
class Feature:
    """A feature that a volume shows.

    Attributes
    ----------
    kind : {"void", "film", "skin", "island"}
    phase : "vacuum" or int
        What it is made of.
    region : bool array (Y, Z, X)
    alternative : array (C, Y, Z, X)
        The volume without it.
    places : float
        Number of voxels in which such a feature would have been found, divided by that of the region.
    test : FeatureTest or None
        Its p-value is corrected for ``places``.
    p_value : float
        Corrected for the other features as well (S. Holm, Scand. J. Stat. 6, 65 (1979)).
    shown : bool
        True: the volume itself shows it; False: only the other volume does, and ``alternative`` is the volume as it is.
    """

    kind: str
    phase: str | int
    region: NDArray[np.bool_] = field(repr=False)
    alternative: NDArray[np.float64] = field(repr=False)
    places: float
    test: FeatureTest | None = None
    p_value: float = np.nan
    shown: bool = True

    @property
    def centre(self) -> tuple[float, float, float]:
        """Centre of the region, (y, z, x) in voxels."""
        return tuple(float(x) for x in np.argwhere(self.region).mean(0))


@checked(unsupported="Y Z X")
@dataclass(frozen=True)
class Audit:
    """What the data say about every feature of a volume.

    Attributes
    ----------
    features : tuple of Feature
        With their tests.
    level : float
        Probability that any feature is called supported if none exists.
    unsupported : bool array (Y, Z, X)
        Where the volume shows features that are not supported, for display.
    """

    features: tuple[Feature, ...]
    level: float
    unsupported: NDArray[np.bool_] = field(repr=False)

    @property
    def missing(self) -> tuple[Feature, ...]:
        """Features that the data support but the volume does not show."""
        return tuple(f for f in self.features if not f.shown and f.p_value < self.level)

    def lines(self, phases: Sequence[str] | None = None) -> list[str]:
        """One line for each feature: what it is, where, and what the data say.

        Parameters
        ----------
        phases : sequence of str, optional
            Names of the channels; by default "phase 0", ...
        """
        phases = None if phases is None else check_names(phases, "phases")
        lines = []
        for f in self.features:
            verdict = "supported" if f.p_value < self.level else f.test.decided.replace("supported", "undecided")
            place = ", ".join(f"{x:.0f}" for x in f.centre)
            effect = f"{f.test.effect:.2f} ± {f.test.standard_error:.2f} of what is shown"
            kind = f.kind if f.phase == VACUUM else f"{f.kind} of {phases[f.phase] if phases else f'phase {f.phase}'}"
            kind += "" if f.shown else " in the other volume only"
            lines.append(f"{kind} at ({place}), {f.region.sum()} voxels: {verdict}, p = {f.p_value:.2g}, {effect}")
        return lines or ["no features"]

    def __str__(self) -> str:
        return "\n".join(self.lines())


@checked
def audit(
    measurement: Measurement,
    volume: ArrayLike | Any,
    *,
    other: ArrayLike | Any = None,
    kinds: Collection[str] = KINDS,
    contrast: float = 0.25,
    errors: VolumeErrors | None = None,
    level: float = 0.05,
    reconstruct: Callable[[Measurement], Any] | None = None,
    seed: int = 0,
) -> Audit:
    """Find the features of a volume and test each.

    The family of tests keeps its level (Holm), and each p-value counts the places where the same feature would have
    been found, because the volume that suggests a feature was made from the data that test it.

    Parameters
    ----------
    measurement : Measurement
    volume : array (C, Y, Z, X), or a result that has one
        Volume fractions.
    other : array (C, Y, Z, X), or a result that has one, optional
        From another method, such as joint TV: voids that it shows but the volume does not are tested, too
        (`Audit.missing`).
    kinds : collection of {"void", "film", "skin", "island"}
        What to look for.
    contrast : float
        Smallest difference, as a fraction of a voxel, that is a feature.
    errors, level, reconstruct, seed
        As for `feature_test`.
    """
    shown = as_volume(measurement, volume)
    check_options(VolumeErrors() if errors is None else errors, 1.0, level, reconstruct)
    check_seed(seed)
    if isinstance(kinds, str) or not isinstance(kinds, Collection) or not set(kinds) <= set(KINDS):
        raise ValueError(f"kinds: got {kinds!r}, wants some of {KINDS}")
    found = [f for f in find_features(shown, contrast) if f.kind in kinds]
    other = None if other is None else as_volume(measurement, other, "other")
    if other is not None and "void" in kinds:
        found += _missing_voids(shown, other, contrast)
    options = {"errors": errors, "level": level, "reconstruct": reconstruct, "seed": seed}
    tests = []
    for f in found:
        claimed = shown if f.shown else np.where(f.region, other, shown)
        about = {"feature": f.phase, "places": f.places, **options}
        tests.append(feature_test(measurement, claimed, f.region, f.alternative, **about))
    adjusted = _holm([test.p_value for test in tests])
    features = tuple(replace(f, test=test, p_value=float(p)) for f, test, p in zip(found, tests, adjusted, strict=True))
    unsupported = np.zeros(shown.shape[1:], bool)
    for f in features:
        if f.shown and f.p_value >= level:
            unsupported |= f.region
    return Audit(features, level, unsupported)


@checked
def find_features(volume: ArrayLike, contrast: float = 0.25) -> list[Feature]:
    """Voids, films around them, skins and second cores of a particle, in patches.

    A void is less filled than the rest of the inside. A film is a phase in the two voxels around a void that the
    surroundings, continued to there, do not have; a skin is the same in the outermost two voxels, divided into fourteen
    directions. An island is a piece of a phase, not its largest, inside another phase.

    Parameters
    ----------
    volume : array (C, Y, Z, X)
        Volume fractions.
    contrast : float
        Smallest difference, as a fraction of a voxel, that counts.
    """
    volume = np.asarray(real_array(volume, "volume", ndim=4), float).clip(0)
    if check_number(contrast, "contrast", 0, 1) in (0, 1):
        raise ValueError(f"contrast: got {contrast!r}, wants a fraction between 0 and 1")
    solid, depth = inside_specimen(volume.sum(0))
    if not (depth > SURFACE).any():
        return []
    found = list(_voids(volume, depth > SURFACE, contrast))
    hollow = np.any([f.region for f in found], axis=0) if found else np.zeros(solid.shape, bool)
    found += [*_films(volume, hollow, solid, contrast), *_skins(volume, depth, contrast)]
    found += _islands(volume, depth, hollow, contrast)
    return [f for f in found if claim(volume, f.alternative, f.region, f.phase)[1] > contrast / 2]


def _pieces(mask, smallest) -> Iterator[NDArray]:
    """Connected pieces of at least this many voxels."""
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    for k in np.flatnonzero(sizes >= smallest):
        if k:
            yield labels == k


def _voids(volume, inside, contrast):
    """Where there is less than elsewhere inside, and less than around."""
    total = volume.sum(0)
    for region in _pieces(inside & (total < np.median(total[inside]) - contrast), 2):
        alternative = fill_in(volume, region)
        if claim(volume, alternative, region, VACUUM)[1] > contrast / 2:
            yield Feature("void", VACUUM, region, alternative, inside.sum() / region.sum())


def _missing_voids(volume, other, contrast):
    """Voids of another volume where this one is fuller by as much as makes a feature."""
    other = other.clip(0)
    inside = inside_specimen(other.sum(0))[1] > SURFACE
    voids = _voids(other, inside, contrast) if inside.any() else ()
    filled = [f for f in voids if (volume - other).sum(0)[f.region].mean() > contrast]
    return [replace(f, alternative=volume, shown=False) for f in filled]


def _exchanged(volume, layer, source, contrast):
    """(phase, where it exceeds what the source has, the volume without that) of a layer."""
    total = volume.sum(0)
    composition = volume / total.clip(0.1)
    nearest = ndimage.distance_transform_edt(~source, return_distances=False, return_indices=True)
    continued = ndimage.gaussian_filter(np.where(source, composition, 0), (0, 1, 1, 1))
    continued = (continued / ndimage.gaussian_filter(source.astype(float), 1).clip(1e-9))[(slice(None), *nearest)]
    continued /= continued.sum(0).clip(1e-9)
    for phase, excess in enumerate(volume - total * continued):
        yield phase, layer & (excess > contrast), np.where(layer, total * continued, volume)


def _films(volume, hollow, solid, contrast):
    """In the voxels next to voids, against those farther out."""
    if not hollow.any() or len(volume) == 1:
        return
    distance = ndimage.distance_transform_edt(~hollow)
    rim = solid & (distance > 0) & (distance <= LAYER)
    source = solid & (distance > LAYER + 0.5) & (volume.sum(0) > 0.5)
    if not source.any():
        return
    for phase, film, without in _exchanged(volume, rim, source, contrast):
        for region in _pieces(film, 3):
            alternative = np.where(region, without, volume)
            yield Feature("film", phase, region, alternative, max(1.0, rim.sum() / region.sum()))


def _skins(volume, depth, contrast):
    """In the outermost voxels, against what lies below."""
    source = (depth > LAYER + 0.5) & (depth <= LAYER + 3) & (volume.sum(0) > 0.5)
    if not source.any() or len(volume) == 1:
        return
    layer = (depth > 0) & (depth <= LAYER)
    offset = np.stack(np.indices(depth.shape), -1) - np.argwhere(depth > 0).mean(0)
    unit = DIRECTIONS / np.linalg.norm(DIRECTIONS, axis=1, keepdims=True)
    patch = (offset @ unit.T).argmax(-1)
    for phase, skin, without in _exchanged(volume, layer, source, contrast):
        for k in range(len(unit)):
            region = skin & (patch == k)
            if region.sum() >= 8:
                alternative = np.where(region, without, volume)
                yield Feature("skin", phase, region, alternative, max(1.0, layer.sum() / region.sum()))


def _islands(volume, depth, hollow, contrast):
    """Pieces of a phase inside the particle, all but its largest."""
    inner = (depth > LAYER) & ~ndimage.binary_dilation(hollow, iterations=2)
    composition = volume / volume.sum(0).clip(0.1)
    for phase, fraction in enumerate(composition):
        pieces = sorted(_pieces(inner & (fraction > 0.5), 4), key=np.sum)[:-1]
        for region in pieces:
            yield Feature("island", phase, region, fill_in(volume, region), inner.sum() / region.sum())


def _holm(p_values):
    """Holm's adjusted p-values."""
    p = np.asarray(p_values, float)
    order = np.argsort(p)
    factors = len(p) - np.arange(len(p))
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate((factors * p[order]).clip(max=1))
    return adjusted
