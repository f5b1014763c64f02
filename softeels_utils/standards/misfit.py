"""What speaks against references that were found: sentences for a reader, none where all is well."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..scattering import inelastic_mean_free_path
from .coreloss import CoreLossEstimators
from .pair import PhasePair
from .plane import Plane
from .prepare import Specimen
from .rotation import Rotation

__all__ = ["LEAST_PROBABLE", "RESIDUAL", "THIRD", "Misfit", "ring_residuals", "thickness_ratio"]

#: Constraints that contradict each other with a smaller p-value are reported.
LEAST_PROBABLE = 0.02
RESIDUAL = (0.5, 1.15)  # mean squared residual of the plane over counting statistics; aligned spectra have down to 0.6
THIRD = 1.6  # squared singular value of a third component over the largest of noise
THICKNESS = (0.6, 1.6)  # nm by counted atoms over nm by the mean free path, whose formula is good to 20 %
RING = 5.0, 0.02  # standard errors, and part of the mean in the specimen, that a ring may be off by

_ADVICE = {
    "oxygen": "oxygen may be in something else (ligands, carbonate, water), or O-K may differ between the phases",
    "cross_section": "oxygen may be in something else (ligands, carbonate, water)",
    "leading_edge": "the {metal} may hold valences other than those of the set, or L3 may have another shape",
    "pure_rim": "what is outermost may be a mixture, or another phase (an oxidised skin)",
    "phases": "the specimen may hold a phase that is not in the set{others}",
    "pixels": "the specimen may hold a phase that is not in the set{others}",
}


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
    """

    rotation: Rotation
    residual: float
    third_component: float
    thickness_ratio: float
    rings: dict[str, NDArray] = field(repr=False)
    pair: PhasePair = field(repr=False)

    def sentences(self) -> tuple[str, ...]:
        """One sentence for each thing that does not fit."""
        found = (self._tension(), *self._valence(), self._noise(), self._third(), self._exposure(), self._rings())
        return tuple(sentence for sentence in found if sentence)

    def _tension(self):
        if not self.rotation.tension < LEAST_PROBABLE:
            return ""
        doubt = self.rotation.doubt
        worst = max(doubt, key=doubt.get) if doubt else ""
        return (
            f"The constraints contradict each other (p = {self.rotation.tension:.1g})"
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
        if RESIDUAL[0] < self.residual < RESIDUAL[1]:
            return ""
        return (
            f"Low-loss counts scatter {self.residual:.2f} times as much as counting statistics allows: gain, readout "
            "noise or point spread of the camera are not those stated, so error bars are wrong."
        )

    def _third(self):
        if self.third_component < THIRD:
            return ""
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


def ring_residuals(
    specimen: Specimen,
    plane: Plane,
    estimators: CoreLossEstimators,
    core_loss: NDArray,
    blur_pixels: float,
    pair: PhasePair,
) -> dict[str, NDArray]:
    """Oxygen, metal and its lower valence that the core loss counts beyond what goes with M2,3, in rings about the rim.

    Two phases that M2,3 cannot tell apart, or that have no metal, differ here: ligands are oxygen outside of the rim.

    Parameters
    ----------
    specimen, plane, estimators
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
    coordinates = plane.locate(dual.low_loss[..., dual.in_window])
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
        excess, mean = seen - coordinates @ (core_loss @ estimator), seen[mask].mean()
        errors = [np.hypot(excess[r].std() / np.sqrt(max(r.sum(), 1)), RING[1] * mean) for r in rings]
        rows = [(excess[r].mean(), error) for r, error in zip(rings, errors, strict=True) if r.sum() > 7]
        found[name] = np.array(rows) / mean
    return found


def thickness_ratio(specimen: Specimen, abundances: NDArray) -> float:
    """Thickness of the phases (2, ...), nm, over what the mean free path makes of their scattering, in the specimen."""
    dual, mask = specimen.dual, specimen.mask
    step = dual.energy_eV[1] - dual.energy_eV[0]
    scattered = dual.low_loss[mask][:, dual.energy_eV > 3].sum() * step  # t / λ, summed over the pixels
    densities = [dual.system.phase(name).density_g_cm3 for name in dual.system.channels]
    path_nm = inelastic_mean_free_path(float(np.mean(densities)), **dual.microscope)
    return float(abundances[:, mask].sum() / (scattered * path_nm))
