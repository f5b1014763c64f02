"""What speaks against references that were found: sentences for a reader, none where all is well."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..fitting import p_value_text
from ..scattering import inelastic_mean_free_path
from ..spectra import FWHM_PER_SIGMA
from .coreloss import DISTANCE_REACH_EV, CoreLossEstimators, oxygen_to_l3
from .line import neighbours
from .other import OtherMatter
from .pair import PhasePair
from .plane import Plane, blur_error_factor
from .prepare import DualEELS, Specimen
from .rotation import Rotation

__all__ = [
    "FINE_PIXELS",
    "LEAST_PROBABLE",
    "RESIDUAL",
    "SPOT",
    "THIRD",
    "EdgeDistance",
    "Misfit",
    "OxygenSpot",
    "oxygen_spot",
    "ring_residuals",
    "thickness_ratio",
    "untested_conditions",
]

FINE_PIXELS = 0.5  # standard deviation of the blur, in pixels: with a wider one references have been found biased

#: Constraints that contradict each other with a smaller p-value are reported.
LEAST_PROBABLE = 0.02
RESIDUAL = (0.5, 1.15)  # mean squared residual of the plane over counting statistics; aligned spectra have down to 0.6
THIRD = 1.6  # squared singular value of a third component over the largest of noise
THICKNESS = (0.6, 1.6)  # nm by counted atoms over nm by the mean free path, whose formula is good to 20 %
RING = 5.0, 0.02  # standard errors, and part of the mean in the specimen, that a ring may be off by
PUREST = 0.5  # of a phase, in metal: where no pixel holds more, its reference is extrapolated
SPOT = 6.0, 0.05  # deviations of the specimen's own scatter, and part of O/metal, that a spot may lack
DISTANCE = 3.0  # standard errors
SPOT_FWHM = 3.0, 4.0  # of the smoothing: at least so many pixels, and nm
NORMAL_MAD = 0.6745  # median absolute deviation of a Gaussian, in standard deviations
SPOT_INSIDE = 2, 0.3  # pixels from the rim, and metal over that of the thickest pixels: less is too noisy

_ADVICE = {
    "oxygen": "oxygen may be in something else (ligands, carbonate, water), or O-K may differ between the phases",
    "cross_section": "oxygen may be in something else (ligands, carbonate, water)",
    "leading_edge": "the {metal} may hold valences other than those of the set, or L3 may have another shape",
    "pure_rim": "what is outermost may be a mixture, or another phase (an oxidised skin)",
    "phases": "the specimen may hold a phase that is not in the set{others}",
    "pixels": "the specimen may hold a phase that is not in the set{others}",
}


@dataclass(frozen=True)
class OxygenSpot:
    """The spot with the least oxygen per metal atom for its M2,3, see `oxygen_spot`.

    Attributes
    ----------
    deficit : float
        Part of the oxygen per metal atom that is missing there, against the median of the specimen.
    scatter : float
        Robust standard deviation of the same over the specimen.
    place : tuple of int
        The pixel.
    """

    deficit: float
    scatter: float
    place: tuple[int, ...]

    @property
    def deviations(self) -> float:
        """Deficit in standard deviations; 0 where there is no scatter."""
        return self.deficit / self.scatter if self.scatter > 0 else 0.0

    @property
    def lacks_oxygen(self) -> bool:
        """Whether the spot is more than the specimen's scatter and errors of the estimators explain."""
        return self.deviations > SPOT[0] and self.deficit > SPOT[1]


@dataclass(frozen=True)
class EdgeDistance:
    """From the main maximum of O-K to that of L3, see `oxygen_to_l3`.

    Attributes
    ----------
    value, error : float
        As seen, eV, and its statistical error.
    expected, expected_error : float
        As the system states it.
    """

    value: float
    error: float
    expected: float
    expected_error: float

    @classmethod
    def of(cls, dual: DualEELS, spectra: NDArray, l3_eV: float) -> EdgeDistance | None:
        """Of core-loss spectra (B, E2): the mean over the specimen as it is, then draws of its pixels."""
        found = oxygen_to_l3(dual.core_energy_eV, spectra, l3_eV, dual.system)
        if found is None:
            return None
        channels = (dual.core_energy_eV[1] - dual.core_energy_eV[0]) / 6**0.5  # two maxima, each to a channel
        error = float(np.hypot(found[1:].std(), channels))
        return cls(float(found[0]), error, *dual.system.edge("K").standards["to_l3_eV"])

    @property
    def is_off(self) -> bool:
        """Whether it is more than noise and the spread over oxides explain."""
        return abs(self.value - self.expected) > DISTANCE * np.hypot(self.error, self.expected_error)


@dataclass(frozen=True)
class Misfit:
    """What is compared, see `sentences`.

    Attributes
    ----------
    rotation : Rotation
    residual, third_component : float
        Mean squared residual of the plane, and the third squared singular value, both in units of the noise.
    thickness_ratio : float
        Thickness of the phases by counted atoms over that by the mean free path.
    rings : dict of str to (R, 2)
        See `ring_residuals`.
    pair : PhasePair
        The set of phases.
    spot : OxygenSpot or None
        See `oxygen_spot`.
    other_matter : float
        Part of the valence losses that goes with neither phase.
    distance : EdgeDistance or None
        From O-K to L3; None where it is not known, or not seen.
    purity : (2,)
        Share of the metal that the reduced phase has at the low end of the pixels, and at the high end.
    """

    rotation: Rotation
    residual: float
    third_component: float
    thickness_ratio: float
    rings: dict[str, NDArray] = field(repr=False)
    pair: PhasePair = field(repr=False)
    spot: OxygenSpot | None = None
    other_matter: float = 0.0
    distance: EdgeDistance | None = None
    purity: tuple[float, float] = (0.0, 1.0)

    def sentences(self) -> tuple[str, ...]:
        """One sentence for each thing that does not fit."""
        found = (self._tension(), *self._valence(), self._noise(), self._third(), self._exposure(), self._rings())
        found = (*found, self._spot(), self._dispersion(), self._oxidised(), self._extrapolated())
        return tuple(sentence for sentence in found if sentence)

    def _tension(self):
        if not self.rotation.tension < LEAST_PROBABLE:
            return ""
        doubt = self.rotation.doubt
        worst = max(doubt, key=doubt.get) if doubt else ""
        return (
            f"The constraints contradict each other ({p_value_text(self.rotation.tension)})"
            + (f", {worst!r} most of all" if worst else "")
            + (f": {_ADVICE[worst]}." if worst in _ADVICE else ".").format(
                metal=self.pair.system.metal_name, others=self._others()
            )
        )

    def _others(self, least=-np.inf, most=np.inf):
        """Phases of the system outside of the set, in brackets, whose mean valence lies in a range."""
        system = self.pair.system
        others = [
            phase.title
            for name, phase in system.phases.items()
            if name not in self.pair.names and phase.ion_fractions and least < system.mean_valence(name) < most
        ]
        return f" ({', '.join(others)})" if others else ""

    def _valence(self):
        (low, high), (low_error, high_error) = self.rotation.end_valence, self.rotation.end_valence_error
        (reduced, oxidised), (least, most) = self.pair.names, self.pair.valence
        if high - most > max(3 * high_error, 0.1):
            yield (
                f"Pixels reach a mean valence of {high:.2f} ± {high_error:.2f}, above that of {oxidised} ({most:.2f}): "
                f"the specimen may hold a phase that is not in the set{self._others(least=most)}, which M2,3 cannot "
                "tell apart."
            )
        if least - low > max(3 * low_error, 0.1):
            yield (
                f"Pixels reach a mean valence of {low:.2f} ± {low_error:.2f}, below that of {reduced} ({least:.2f}): "
                f"the specimen may hold a phase that is not in the set{self._others(most=least)}, or oxygen that is "
                "not in the oxides."
            )

    def _noise(self):
        of_third = self.residual > 1 and self.third_component > 3 * self.residual  # noise raises both alike
        if RESIDUAL[0] < self.residual < RESIDUAL[1] or of_third:
            return ""
        return (
            f"Low-loss counts scatter {self.residual:.2f} times as much as counting statistics allows: gain, readout "
            "noise or point spread of the camera are not those stated, so error bars are wrong."
        )

    def _third(self):
        if self.third_component < THIRD:
            return ""
        if self.other_matter:
            return (
                f"Matter other than the two phases, such as ligands, has {100 * self.other_matter:.0f} % of the "
                f"valence losses, and M2,3 shows it as a third component ({self.third_component:.1f} times that of "
                "noise): references allow for it, maps fitted to M2,3 alone cannot."
            )
        return (
            f"M2,3 shows a third component ({self.third_component:.1f} times that of noise): a third phase, energy "
            "drift or a background that two phases do not explain."
        )

    def _exposure(self):
        if not np.isfinite(self.thickness_ratio) or THICKNESS[0] < self.thickness_ratio < THICKNESS[1]:
            return ""
        return (
            f"Counted atoms make the specimen {self.thickness_ratio:.2g} times as thick as its plasmon losses do: "
            "exposure_ratio, collection angle or beam energy may not be those stated."
        )

    def _rings(self):
        off = {name: ring[np.argmax(np.abs(ring[:, 0]) / ring[:, 1])] for name, ring in self.rings.items() if len(ring)}
        wrong = {name: value for name, (value, error) in off.items() if abs(value) > RING[0] * error}
        if not wrong:
            return ""
        names = ", ".join(f"{name} by {100 * value:+.0f} %" for name, value in wrong.items())
        return (
            f"The core loss counts what M2,3 does not explain, at some distance from the rim ({names} of the mean): "
            "the specimen may hold a phase or a shell that is not in the set."
        )

    def _spot(self):
        if self.spot is None or not self.spot.lacks_oxygen:
            return ""
        metal = self.pair.system.metal_name
        return (
            f"Around pixel {self.spot.place} the core loss has {100 * self.spot.deficit:.0f} % less oxygen per {metal} "
            f"than M2,3 says of an oxide ({self.spot.deviations:.0f} times the scatter over the specimen): a grain of "
            "metal, or of another phase that is poor in oxygen. What is fitted there is taken for oxide."
        )

    def _dispersion(self):
        if self.distance is None or not self.distance.is_off:
            return ""
        seen, expected = self.distance.value, self.distance.expected
        percent, side = 100 * abs(seen / expected - 1), "large" if seen > expected else "small"
        least = "at least " if abs(seen - expected) > 0.9 * DISTANCE_REACH_EV else ""
        return (
            f"L3 lies {seen:.1f} ± {self.distance.error:.1f} eV above the maximum of O-K, not {expected:.1f} eV: the "
            f"dispersion of the energy axis may be stated {least}{percent:.1f} % too {side}, or oxygen may be in "
            "something other than the oxides."
        )

    def _oxidised(self):
        lacking, name = self.rotation.place[3], self.pair.oxidised
        if not lacking > 0:
            return ""
        valence = self.pair.valence_with(self.rotation.place[2:4])[1]
        return (
            f"With a probability of {self.rotation.lacking_probability:.2f}, what is called {name} lacks "
            f"{self.pair.system.metal_name}, about {100 * lacking:.0f} % of it: its mean valence is then "
            f"{valence:.2f}, not {self.pair.valence[1]:.2f}{self._others(least=self.pair.valence[1])}. Maps "
            "are of this phase."
        )

    def _extrapolated(self):
        purest = dict(zip(self.pair.names, (self.purity[1], 1 - self.purity[0]), strict=True))
        name = min(purest, key=purest.get)
        if purest[name] >= PUREST:
            return ""
        most, metal = max(100 * purest[name], 0), self.pair.system.metal_name
        return (
            f"No pixel has more than {most:.0f} % of its {metal} in {name}: that reference is extrapolated, and phases "
            "that are not in the set could be behind the difference that is seen."
        )


def untested_conditions(dual: DualEELS, blur_pixels: float, delocalisation_nm: float | None) -> tuple[str, ...]:
    """A sentence for each condition of the recording under which references are wrong, or not tested.

    Parameters
    ----------
    dual : DualEELS
    blur_pixels : float
        Of the core loss.
    delocalisation_nm : float or None
        As it was asked for.
    """
    found, size = [], dual.pixel_size_nm
    if blur_pixels > FINE_PIXELS:
        blur_nm, enough = blur_pixels * FWHM_PER_SIGMA * size, np.ceil(10 * blur_pixels * size / FINE_PIXELS) / 10
        found.append(
            f"Pixels of {size:.2g} nm are finer than the delocalisation of the valence loss ({blur_nm:.2g} nm), and "
            f"too few of them show the specimen to be averaged to pixels of {enough:.1f} nm: at such sampling the "
            "references have been found biased."
        )
    if not size and delocalisation_nm is None and dual.low_loss.ndim > 2:
        found.append(
            "The size of a pixel is not known, so the core loss was not blurred as M2,3 is by its delocalisation: "
            "state pixel_size_nm."
        )
    return tuple(found)


def ring_residuals(
    specimen: Specimen,
    plane: Plane,
    other: OtherMatter,
    estimators: CoreLossEstimators,
    core_loss: NDArray,
    blur_pixels: float,
    pair: PhasePair,
) -> dict[str, NDArray]:
    """Oxygen, metal and its lower valence that the core loss counts beyond what goes with M2,3, in rings about the rim.

    Phases that M2,3 cannot tell apart differ here, as does oxygen that other matter does not account for.

    Parameters
    ----------
    specimen, plane, other, estimators
    core_loss : (2, E2)
        Core loss along the axes of the plane.
    blur_pixels : float
        Of the core loss, see `DualEELS`.
    pair : PhasePair
        For the names of what is counted.

    Returns
    -------
    dict of str to (R, 2)
        For each ring the mean, and its error, over the mean in the specimen. Empty without a rim.
    """
    if not specimen.has_rim or specimen.mask.ndim != 2:
        return {}
    dual, mask = specimen.dual, specimen.mask
    coordinates = other.locate(dual, plane)
    inside, outside = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask)
    depth = np.where(mask, inside, -outside)
    edges = np.r_[-4.5, -2.5, -1.5, 0.0, np.quantile(depth[mask], [0.25, 0.5, 0.75]), depth.max() + 1]
    rings = [(depth > low) & (depth <= high) for low, high in pairwise(edges)]
    counted = {
        "oxygen": estimators.oxygen,
        pair.system.metal_name: estimators.metal,
        pair.ion_names[0]: estimators.leading_edge[-1],
    }
    found = {}
    for name, estimator in counted.items():
        if estimator is None:
            continue
        seen = dual.core_loss @ estimator
        seen = ndimage.gaussian_filter(seen, blur_pixels) if blur_pixels else seen
        explained = coordinates @ (core_loss @ estimator) + other.expected(dual, plane, estimator)
        excess, mean = seen - explained, seen[mask].mean()
        scatter = [blur_error_factor(blur_pixels) * excess[r].std() for r in rings]
        errors = [np.hypot(s / np.sqrt(max(r.sum(), 1)), RING[1] * mean) for s, r in zip(scatter, rings, strict=True)]
        rows = [(excess[r].mean(), error) for r, error in zip(rings, errors, strict=True) if r.sum() > 7]
        found[name] = np.array(rows) / mean
    return found


def oxygen_spot(
    specimen: Specimen,
    plane: Plane,
    other: OtherMatter,
    estimators: CoreLossEstimators,
    core_loss: NDArray,
    blur_pixels: float,
) -> OxygenSpot | None:
    """Where the specimen has the least oxygen per metal atom, by O-K over L2,3, for what M2,3 is there.

    A small grain of metal changes neither the plane nor the rings about the rim by much. But M2,3 takes it for an
    oxide, and its oxygen is missing in the core loss. Both are smoothed, the core loss also by the delocalisation that
    M2,3 has, and the logarithm of seen over expected is compared with its median: cross-sections, and an error of the
    references that all pixels share, cancel.

    Parameters
    ----------
    specimen, plane, other, estimators, core_loss, blur_pixels
        As for `ring_residuals`.

    Returns
    -------
    OxygenSpot or None
        None without O-K, for spectra that are no image, and for fewer than 50 pixels well inside the specimen.
    """
    dual, mask = specimen.dual, specimen.mask
    if estimators.oxygen is None or mask.ndim < 2:
        return None
    counted = np.stack([estimators.oxygen, estimators.metal], axis=-1)
    sigma = max(SPOT_FWHM[0], SPOT_FWHM[1] / (dual.pixel_size_nm or np.inf)) / FWHM_PER_SIGMA

    def smooth(image: NDArray, width: float) -> NDArray:
        return ndimage.gaussian_filter(image, (*[0.0] * (mask.ndim - 2), width, width, 0.0))

    seen = smooth(dual.core_loss @ counted, np.hypot(sigma, blur_pixels))  # M2,3 is blurred by its delocalisation
    expected = other.locate(dual, plane) @ (core_loss @ counted) + other.expected(dual, plane, counted)
    expected = smooth(expected, sigma)
    metal = seen[..., 1]
    inside = ndimage.binary_erosion(mask, neighbours(mask.ndim), iterations=SPOT_INSIDE[0])
    inside &= metal > SPOT_INSIDE[1] * np.percentile(metal[mask], 95)
    inside &= (seen > 0).all(-1) & (expected > 0).all(-1)
    if inside.sum() < 50:
        return None
    ratio = np.full(mask.shape, np.inf)
    ratio[inside] = np.log(seen[inside] / expected[inside]) @ [1.0, -1.0]
    ratio -= np.median(ratio[inside])
    least = np.unravel_index(np.argmin(ratio), mask.shape)
    return OxygenSpot(
        deficit=float(-np.expm1(ratio[least])),
        scatter=float(np.median(np.abs(ratio[inside])) / NORMAL_MAD),
        place=tuple(int(i) for i in least),
    )


def thickness_ratio(specimen: Specimen, abundances: NDArray) -> float:
    """Thickness of the phases (2, ...), nm, over what the mean free path makes of their scattering, in the specimen."""
    dual, mask = specimen.dual, specimen.mask
    step = dual.energy_eV[1] - dual.energy_eV[0]
    scattered = dual.low_loss[mask][:, dual.energy_eV > 3].sum() * step  # t / λ, summed over the pixels
    densities = [dual.system.phase(name).density_g_cm3 for name in dual.system.channels]
    path_nm = inelastic_mean_free_path(float(np.mean(densities)), **dual.microscope)
    return float(abundances[:, mask].sum() / (scattered * path_nm))
