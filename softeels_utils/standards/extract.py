"""References of two phases for M2,3, from dual EELS of one specimen and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from .. import scattering
from ..checks import check_count, check_kind, check_mask, check_not_negative, check_seed
from ..doors import checked
from ..fitting import background_shapes
from ..scattering import System, as_system
from ..spectra import FWHM_PER_SIGMA, data_of, in_window
from .constraints import CONSTRAINTS, Chemistry, Constraint, Evidence, LeadingEdge, select_constraints
from .coreloss import CoreLossEstimators, core_loss_estimators
from .line import MetalLine, estimate_range, outermost_phase
from .misfit import (
    FINE_PIXELS,
    EdgeDistance,
    Misfit,
    oxygen_spot,
    ring_residuals,
    thickness_ratio,
    untested_conditions,
)
from .other import SurplusLosses, find_other_matter
from .pair import PhasePair
from .plane import blur_error_factor, find_plane, widened
from .prepare import DualEELS, find_specimen, known_m23, known_pixel_size, prepare_dual_eels
from .result import Diagnostics, Standards
from .rotation import counted_metal, estimate_rotation

__all__ = ["AxisSpectra", "extract_standards", "valence_blur_nm"]

TAIL_WEIGHT = 100.0  # in channels
FEWEST_PIXELS = 200  # of specimen: pixels are not averaged to fewer
RIM_METAL = 0.1  # of the metal in the richest pixels, at least, in those that are the rim of a particle
LEAST_CONTRAST = 4.0  # standard errors: noise reaches two to three in the best of about 20 windows
FILM_METAL = 0.05, 5.0  # part of that in the specimen, and standard errors, that may be outside of it


@checked
def extract_standards(
    low_loss: ArrayLike | DualEELS,
    core_loss: ArrayLike | None = None,
    *,
    system: System | str | None = None,
    onset_eV: float | None = None,
    mask: ArrayLike | None = None,
    constraints: str | Constraint | Iterable[str | Constraint] = tuple(CONSTRAINTS),
    chemistry: Chemistry | None = None,
    delocalisation_nm: float | None = None,
    bootstrap: int = 60,
    seed: int = 0,
    **preparation: object,
) -> Standards:
    """Find the M2,3 references of two phases in dual EELS of a specimen that contains both, neither of them pure.

    1. Zero losses are aligned (the core loss moves along), spikes and plural scattering are removed from both.
    2. M2,3 spectra, with a background free in every pixel, span a plane: two coordinates per pixel.
    3. Core-loss spectra regressed on the coordinates (the noise of the coordinates accounted for) give O-K and
       L2,3 along the axes of the plane. Where valence losses and core loss show other matter, such as ligands, they are
       regressed on that as well, and what of it looks like M2,3 is taken off the coordinates (`OtherMatter`).
    4. The rotation inside the plane is determined by ``constraints`` (`CONSTRAINTS`), each with its stated
       uncertainty: a probability of where the pure phases are, averaged over what is unknown about their ``chemistry``.
       If the constraints contradict each other, it spreads over the results with one of them left out.
    5. Low-loss spectra regressed on the abundances, less the background that goes with each phase, are the
       references.

    Parameters
    ----------
    low_loss, core_loss : (..., E), (..., E2) HyperSpy signals or arrays
        Counts, from the same pixels; or, in place of both, the `DualEELS` of `prepare_dual_eels`.
    system : System or str, optional
        The two phases, their metal and its edges: a `scattering.System`, or the name or path of one. By default that of
        the prepared data, else the iron oxides (FeO and Fe3O4).
    onset_eV : float, optional
        Below it there is no M2,3; by default that of the system.
    mask : bool (...), optional
        Pixels of the specimen; by default found from the low loss. Only then is it known what is at the rim: any other
        mask may cut through the specimen.
    constraints : names of `CONSTRAINTS`, or constraints
        For another uncertainty, give the constraint itself: ``OxygenRatio(uncertainty=0.03)``.
    chemistry : Chemistry, optional
        What is unknown about the oxides: vacancies, strength of L2,3. By default `Chemistry.of` the system.
    delocalisation_nm : float, optional
        Diameter (FWHM) by which the core loss is blurred to the resolution of the M2,3 maps: an inelastic event of 54
        eV is less localised than one of 700 eV. By default `valence_blur_nm`; 0 for no blur. It needs the pixel size,
        without which nothing is blurred. Pixels finer than twice the standard deviation of this blur are averaged for
        the references, which are biased otherwise; the abundances are those of all pixels.
    bootstrap : int
        Draws of the pixels.
    seed : int
    **preparation
        Arguments of `prepare_dual_eels`: ``energy_eV``, ``core_energy_eV``, ``beam_energy_keV``, ``collection_mrad``,
        ``convergence_mrad``, ``exposure_ratio``, ``spikes``, ``gain``, ``window_eV``, ``pixel_size_nm``.

    Returns
    -------
    Standards
        References are single scattering and at the resolution of the data. Look at ``warnings`` first: it says what
        does not fit.

    Raises
    ------
    ValueError
        For axes that do not cover the edges, low and core loss of different pixels, no specimen in view, a specimen of
        one phase, ...
    """
    check_count(bootstrap, "bootstrap", 20, 100_000)
    check_seed(seed)
    if chemistry is not None:
        check_kind(chemistry, "chemistry", Chemistry)
    prepared = isinstance(low_loss, DualEELS)
    known = low_loss.system if prepared and system is None else as_system(system)
    select_constraints(constraints)
    _, onset_eV = known_m23(known, low_loss.window_eV if prepared else preparation.get("window_eV"), onset_eV)
    _check_mask(mask, low_loss)
    _check_blur(delocalisation_nm, low_loss, core_loss, preparation)
    rng = np.random.default_rng(seed)

    dual = _prepare(low_loss, core_loss, system, preparation)
    pair = PhasePair.of(dual.system)
    constraints = select_constraints(constraints, pair)
    fine = find_specimen(dual, mask)
    blur_nm = _blur_nm(dual, delocalisation_nm)
    factor = _binning(fine, blur_nm)
    specimen = fine.binned(factor)

    plane = _find_m23_plane(specimen)

    axes, other = _regress_losses(specimen, plane, blur_nm, bootstrap, rng)
    plane = other.taken_off(plane, specimen)

    line, evidence = _gather_evidence(specimen, plane, axes, pair, chemistry or Chemistry.of(pair))
    rotation = estimate_rotation(evidence, constraints)

    x0, x1, *vacancies, _ = rotation.place
    mixing = line.mixing(x0, x1, counted_metal(evidence, rotation.place))
    places = rotation.draw(rng, bootstrap)
    references, samples = _find_references(specimen, axes, line, evidence, [rotation.place, *places], onset_eV, rng)
    coordinates = other.locate(fine.dual, plane)
    abundances = np.moveaxis(coordinates @ np.linalg.inv(mixing), -1, 0).astype(np.float32)
    counted = (axes.estimators, axes.core_loss[0], axes.blur_pixels)
    misfit = Misfit(
        rotation=rotation,
        residual=float((plane.residual**2).mean()),
        third_component=float(plane.signal[2]),
        thickness_ratio=thickness_ratio(fine, abundances),
        rings=ring_residuals(specimen, plane, other, *counted, pair),
        pair=pair,
        spot=oxygen_spot(specimen, plane, other, *counted),
        other_matter=other.part,
        purity=tuple((evidence.ends - rotation.x0) / rotation.width),
        distance=EdgeDistance.of(dual, plane.coordinates.mean(axis=0) @ axes.core_loss, axes.estimators.l3_eV),
    )
    return Standards(
        system=dual.system.name,
        phases=pair.names,
        energy_eV=dual.energy_eV,
        references=references,
        uncertainty=samples.std(axis=0),
        abundances=abundances,
        diagnostics=_diagnose(fine, specimen, factor, plane, axes, evidence, misfit, constraints, references, onset_eV),
        core_energy_eV=dual.core_energy_eV,
        core_references=mixing @ axes.core_loss[0],
        samples=samples.astype(np.float32),
        metal_per_nm3=pair.metal_with(vacancies),
        valence=pair.valence_with(vacancies),
        metal_samples=pair.metal_with(places[:, 2:4]),
        valence_samples=pair.valence_with(places[:, 2:4]),
        warnings=(
            *dual.warnings,
            *untested_conditions(specimen.dual, axes.blur_pixels, delocalisation_nm),
            *_metal_outside(specimen, axes.estimators),
            *misfit.sentences(),
        ),
        rotation=rotation,
    )


def _check_mask(mask, low_loss):
    if mask is not None:
        low_loss = low_loss.low_loss if isinstance(low_loss, DualEELS) else data_of(low_loss)
        check_mask(mask, "mask", low_loss.shape[:-1])


def _check_blur(delocalisation_nm, low_loss, core_loss, preparation):
    if delocalisation_nm is None:
        return
    check_not_negative(delocalisation_nm=delocalisation_nm)
    prepared = isinstance(low_loss, DualEELS)
    size = low_loss.pixel_size_nm if prepared else known_pixel_size(core_loss, preparation.get("pixel_size_nm"))
    if delocalisation_nm > 0 and not size:
        raise ValueError("pixel_size_nm: got None, wants the size of a pixel in nm, as delocalisation_nm is given")


def _prepare(low_loss, core_loss, system, preparation):
    if not isinstance(low_loss, DualEELS):
        if core_loss is None:
            raise ValueError("core_loss: got None, wants the core loss of the same pixels")
        return prepare_dual_eels(low_loss, core_loss, system=system, **preparation)
    system = low_loss.system if system is None else as_system(system)
    if system.name != low_loss.system.name:
        raise ValueError(f"system: got {system.name!r}, wants that of the prepared DualEELS, {low_loss.system.name!r}")
    for name, value in {"core_loss": core_loss, **preparation}.items():
        if value is not None:
            raise ValueError(f"{name}: got a value, wants None with prepared DualEELS: pass it to prepare_dual_eels")
    return replace(low_loss, system=system)


def _background(energy_eV):
    """The shapes that the fit of phases leaves free: what of them is left in a reference changes maps little."""
    return background_shapes(np.maximum(energy_eV, 1.0))


def _find_m23_plane(specimen):
    dual, mask, inside = specimen.dual, specimen.mask, specimen.dual.in_window
    return find_plane(dual.low_loss[mask][:, inside], dual.variance[mask], _background(dual.energy_eV)[:, inside])


@dataclass(frozen=True)
class AxisSpectra:
    """Spectra along the two axes of the plane, in each of B draws of the pixels; draw 0 is all pixels as they are.

    Attributes
    ----------
    low_loss, core_loss : (B, 2, E), (B, 2, E2)
    estimators : CoreLossEstimators
        For the core loss.
    blur_pixels : float
        Standard deviation of the blur of the core loss.
    """

    low_loss: NDArray
    core_loss: NDArray
    estimators: CoreLossEstimators
    blur_pixels: float


def _regress_losses(specimen, plane, blur_nm, bootstrap, rng):
    dual, mask = specimen.dual, specimen.mask
    blur, core = blur_nm / dual.pixel_size_nm if blur_nm else 0.0, dual.core_loss
    if blur:
        core = ndimage.gaussian_filter(core, (*[0.0] * (core.ndim - 3), blur, blur, 0.0))
    low, core = dual.low_loss[mask], core[mask]
    draws = [np.arange(len(low))] + [rng.integers(len(low), size=len(low)) for _ in range(bootstrap)]
    estimators = core_loss_estimators(dual.core_energy_eV, core.mean(0), system=dual.system, **dual.microscope)
    factor = blur_error_factor(blur)  # blurred pixels are not independent
    surplus = SurplusLosses.of(specimen, plane, dual.system.edge("M2,3").standards["onset_eV"])
    slopes = plane.regress(core, draws, besides=surplus.image(dual, plane)[mask])
    other = find_other_matter(specimen, plane, surplus, widened(slopes, factor), estimators)
    axes = AxisSpectra(
        low_loss=plane.regress(low, draws, noisy=True),
        core_loss=widened(slopes[:, :2] if other.surplus else plane.regress(core, draws), factor),
        estimators=estimators,
        blur_pixels=blur,
    )
    return axes, other


def _blur_nm(dual, delocalisation_nm):
    """Standard deviation of the blur that the core loss needs to look like the M2,3 maps; 0 without a pixel size."""
    if not dual.pixel_size_nm:
        return 0.0
    if delocalisation_nm is None:
        angles = {name: dual.microscope[name] for name in ("beam_energy_keV", "collection_mrad")}
        delocalisation_nm = valence_blur_nm(dual.system, **angles)
    return float(delocalisation_nm / FWHM_PER_SIGMA)


def _binning(specimen, blur_nm):
    """Pixels to average along each side, so that the blur is at most half a pixel wide; 1 where few would be left."""
    if not blur_nm or specimen.mask.ndim < 2:
        return 1
    factor = max(1, int(np.ceil(blur_nm / specimen.dual.pixel_size_nm / FINE_PIXELS)))
    return factor if specimen.mask.sum() / factor**2 >= FEWEST_PIXELS else 1


@checked
def valence_blur_nm(system: System | str | None = None, *, beam_energy_keV: float, collection_mrad: float) -> float:
    """FWHM (nm) of the blur that makes a map of L2,3 look like one of M2,3, from Egerton's d50 of both edges.

    Examples
    --------
    >>> round(float(valence_blur_nm(beam_energy_keV=300.0, collection_mrad=40.0)), 2)
    0.89
    """
    angles, system = {"beam_energy_keV": beam_energy_keV, "collection_mrad": collection_mrad}, as_system(system)
    energies_eV = (system.edge(edge).standards["localisation_eV"] for edge in ("L2,3", "M2,3"))
    core, low = (scattering.delocalisation_nm(energy_eV, **angles) for energy_eV in energies_eV)
    return np.sqrt(low**2 - core**2)


def _gather_evidence(specimen, plane, axes, pair, chemistry):
    """The line of one metal atom per nm², and what the core loss counts along it."""
    core, estimators = axes.core_loss, axes.estimators
    edge = np.array([core @ window for window in estimators.leading_edge])
    line = MetalLine.through(core @ estimators.metal, lower=edge[-4:])
    x, metal = line.position(plane.coordinates), plane.coordinates @ line.metal[0]
    strong = metal > 0.05 * np.percentile(metal, 98)
    if not np.percentile(metal, 98) > 0 or strong.sum() < 50:
        raise ValueError(
            f"core_loss: got {pair.system.metal_name} in {int((strong & (metal > 0)).sum())} pixels that show M2,3, "
            "wants at least 50 (is the system the right one?)"
        )
    contrast = line.contrast(edge)
    if contrast < LEAST_CONTRAST:
        raise ValueError(
            "core_loss: what differs in M2,3 hardly differs in valence: got a leading edge of L3 that changes by "
            f"{contrast:.1f} standard errors, wants at least {LEAST_CONTRAST:g} (one phase, or too few electrons)"
        )
    ends, end_errors = estimate_range(x[strong], line.position_error(plane.coordinates[strong], plane.variance[strong]))
    oxygen = {name: getattr(estimators, name) for name in ("oxygen", "oxygen_atoms")}
    rim = None
    if specimen.has_rim:  # that of the metal: ligands about a particle hold none
        rich = metal > RIM_METAL * np.percentile(metal, 98)
        particle = np.zeros_like(specimen.mask)
        particle[specimen.mask] = rich
        rim = outermost_phase(particle, x[rich], metal[rich], ends, pair.names)
    return line, Evidence(
        ends=ends,
        end_errors=end_errors,
        outermost=rim,
        leading_edge=line.count(edge),
        leading_edge_eV=estimators.leading_edge_eV,
        pair=pair,
        chemistry=chemistry,
        **{name: line.count(core @ estimator) for name, estimator in oxygen.items() if estimator is not None},
    )


def _find_references(specimen, axes, line, evidence, places, onset_eV, rng):
    """References (2, E), and samples (B - 1, 2, E) of them: a draw of the pixels and of the rotation each."""
    tail, deviation = specimen.dual.system.edge("M2,3").standards["tail"]
    low_losses, tails = [], tail + deviation * rng.standard_normal(len(places)) * (np.arange(len(places)) > 0)
    for draw, place in enumerate(places):
        counted = counted_metal(evidence, place, draw, rng if draw else None)
        low_losses.append(line.mixing(*place[:2], counted, draw) @ axes.low_loss[draw])
    dual = specimen.dual
    mean, near_eV = dual.low_loss[specimen.mask].mean(0), dual.system.edge("M2,3").standards["near_eV"]
    references, *samples = remove_m23_background(
        np.array(low_losses), dual.energy_eV, mean, dual.window_eV, onset_eV, near_eV, tails
    )
    return references, np.array(samples)


def remove_m23_background(
    low_losses: NDArray,
    energy: NDArray,
    mean: NDArray,
    window_eV: tuple[float, float],
    onset_eV: float,
    near_eV: tuple[float, float],
    tails: NDArray,
) -> NDArray[np.float64]:
    """M2,3 alone of low losses (B, K, E): none below its onset, and far above it ``tails`` (B,) of what is near it.

    Parameters
    ----------
    low_losses : (B, K, E)
        Single scattering.
    energy, mean : (E,), (E,)
        Energies, and a mean spectrum for the weights of the channels before the edge.
    window_eV, onset_eV, near_eV
        As in the file of a system: ``standards`` of M2,3.
    tails : (B,)
        M2,3 per eV in the last 15 eV of the window over that in ``near_eV``.
    """
    low, high = window_eV
    before, near, far = (in_window(energy, w) for w in ((low, onset_eV), near_eV, (high - 15, high)))
    shapes = _background(energy)
    weight = 1 / np.sqrt(1e-3 * np.maximum(mean, 1e-12)[before] * mean[before].mean())
    continued = np.where(energy > high, (np.maximum(energy, high) / high) ** -3.0, 0.0)
    edges = np.zeros_like(low_losses)
    for edge, spectra, tail in zip(edges, low_losses, tails, strict=True):
        tail_row = (shapes[:, far].mean(1) - tail * shapes[:, near].mean(1))[:, None]
        tail_value = spectra[:, far].mean(1) - tail * spectra[:, near].mean(1)
        rows = np.concatenate([shapes[:, before] * weight, tail_row * TAIL_WEIGHT * weight.mean()], axis=1)
        values = np.column_stack([spectra[:, before] * weight, tail_value * TAIL_WEIGHT * weight.mean()])
        amplitudes = values @ np.linalg.pinv(rows)
        above = spectra - amplitudes @ shapes
        edge[:] = np.where(in_window(energy, (onset_eV, high)), above, above[:, far].mean(1)[:, None] * continued)
    return edges


def _metal_outside(specimen, estimators):
    """A sentence if what was taken for a support film holds the metal."""
    outside, mask, core = specimen.outside, specimen.mask, specimen.dual.core_loss
    metal, inside = specimen.film @ estimators.metal, core[mask].mean(0) @ estimators.metal
    if not specimen.film.any() or not inside > 0:
        return ()
    error = (core[outside] @ estimators.metal).std() / np.sqrt(outside.sum())
    most, errors = FILM_METAL
    if metal < most * inside or metal < errors * error:
        return ()
    name = specimen.dual.system.metal_name
    return (
        f"What lies outside of the specimen was subtracted as its support film, but holds {name}: "
        f"{100 * metal / inside:.0f} % of what the specimen holds on average. Amounts are too small by so much; if the "
        "specimen fills the image, give the pixels to use as mask.",
    )


def _on_fine_pixels(values, factor, shape):
    """Values of binned pixels on those that they were binned from; NaN in rows and columns that were left over."""
    for axis in range(-min(2, values.ndim), 0) if factor > 1 else ():
        values = values.repeat(factor, axis=axis)
    over = [(0, many - few) for many, few in zip(shape, values.shape, strict=True)]
    return np.pad(values, over, constant_values=np.nan)


def _diagnose(fine, specimen, factor, plane, axes, evidence, misfit, constraints, references, onset_eV):
    rotation = misfit.rotation
    dual, squared, sigma = fine.dual, plane.residual**2, np.sqrt(np.diag(rotation.covariance))
    residual_map = np.full(specimen.mask.shape, np.nan)
    residual_map[specimen.mask] = squared.mean(axis=1)
    edge = in_window(dual.energy_eV, (onset_eV, min(dual.window_eV[1], 90.0)))
    unit = references[:, edge] / np.linalg.norm(references[:, edge], axis=1, keepdims=True)
    leading_edge = next((c.choose_window(evidence) for c in constraints if isinstance(c, LeadingEdge)), None)
    return Diagnostics(
        system=dual.system.name,
        phases=evidence.pair.names,
        condition_number=float(np.linalg.cond(unit)),
        leakage=sigma[::-1] / rotation.width,
        leakage_correlation=float(rotation.covariance[0, 1] / np.prod(sigma)),
        purity=(evidence.ends - rotation.x0) / rotation.width,
        signal=plane.signal,
        residual=misfit.residual,
        residual_energy_eV=dual.energy_eV[dual.in_window],
        residual_spectrum=np.sqrt(squared.mean(axis=0)),
        residual_map=_on_fine_pixels(residual_map, factor, fine.mask.shape),
        delocalisation_pixels=axes.blur_pixels,
        l3_eV=axes.estimators.l3_eV,
        leading_edge_eV=leading_edge.energy_eV if leading_edge else float("nan"),
        outermost=evidence.outermost,
        electrons_per_pixel=dual.electrons,
        constraints={name: rotation.loss(name) for name in rotation.parts},
        tension=rotation.tension,
        doubt=rotation.doubt,
        end_valence=rotation.end_valence,
        end_valence_error=rotation.end_valence_error,
        thickness_ratio=misfit.thickness_ratio,
        oxygen_deficit=misfit.spot.deficit if misfit.spot else float("nan"),
        oxygen_deficit_deviations=misfit.spot.deviations if misfit.spot else float("nan"),
        oxygen_to_l3_eV=misfit.distance.value if misfit.distance else float("nan"),
        other_matter=misfit.other_matter,
        left_out=rotation.left_out,
        microscope=dual.microscope,
        onset_eV=onset_eV,
        window_eV=dual.window_eV,
        mask=fine.mask,
    )
