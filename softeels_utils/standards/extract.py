"""References of FeO and Fe3O4 for M2,3, from dual EELS of one specimen and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from .. import scattering
from ..fitting import background_shapes
from ..scattering import IRON_PER_NM3, PHASES
from .constraints import CONSTRAINTS, Constraint, Evidence, LeadingEdge, select_constraints
from .coreloss import CoreLossEstimators, core_loss_estimators, edge_cross_section
from .plane import find_plane
from .prepare import DualEELS, Specimen, find_specimen, prepare_dual_eels
from .result import Diagnostics, Standards
from .rotation import IronLine, estimate_range, estimate_rotation, outermost_phase
from .whitelines import FWHM

__all__ = ["extract_standards"]


def extract_standards(
    low_loss: ArrayLike | DualEELS,
    core_loss: ArrayLike | None = None,
    *,
    onset_eV: float = 48.0,
    mask: ArrayLike | None = None,
    constraints: Iterable[str | Constraint] = tuple(CONSTRAINTS),
    delocalisation_nm: float | None = None,
    bootstrap: int = 60,
    seed: int = 0,
    **preparation,
) -> Standards:
    """Find the M2,3 references of FeO and Fe3O4 in dual EELS of a specimen that holds both, neither of them pure.

    1. Zero losses are aligned (the core loss moves along), spikes removed, plural scattering taken out of both.
    2. M2,3 spectra, with a background free in every pixel, span a plane: two coordinates per pixel.
    3. Core-loss spectra regressed on the coordinates (the noise of the coordinates accounted for) give O-K and
       Fe-L2,3 along the axes of the plane.
    4. The rotation inside the plane is determined by ``constraints`` (`CONSTRAINTS`), each with its stated
       uncertainty: a probability of where the pure phases are.
    5. Low-loss spectra regressed on the abundances, less the background that goes with each phase, are the
       references.

    Parameters
    ----------
    low_loss, core_loss : (..., E), (..., E2) HyperSpy signals or arrays
        Counts, from the same pixels; or, in place of both, the `DualEELS` of `prepare_dual_eels`.
    onset_eV : float
        Below it there is no M2,3.
    mask : bool (...), optional
        Pixels of the specimen; by default found from the low loss. What is at the rim is known only then: any other
        mask may cut through the specimen.
    constraints : names of `CONSTRAINTS`, or constraints
        For another uncertainty, give the constraint itself: ``OxygenRatio(uncertainty=0.03)``.
    delocalisation_nm : float, optional
        Diameter (FWHM) by which the core loss is blurred to the resolution of the M2,3 maps: an inelastic event
        of 54 eV is less localised than one of 700 eV. By default Egerton's d50 at both energies; 0 for no blur.
    bootstrap : int
        Draws of the pixels.
    seed : int
    **preparation
        Of `prepare_dual_eels`: ``energy_eV``, ``core_energy_eV``, ``beam_energy_keV``, ``collection_mrad``,
        ``convergence_mrad``, ``exposure_ratio``, ``spikes``, ``gain``, ``window_eV``.

    Returns
    -------
    Standards
        References are single scattering and at the resolution of the data.

    Raises
    ------
    ValueError
        For axes that do not cover the edges, pixels that disagree, no specimen in sight, ...
    """
    constraints = select_constraints(constraints)
    if bootstrap < 20:
        raise ValueError(f"bootstrap: got {bootstrap}, wants at least 20")
    _check_mask(mask, low_loss)
    rng = np.random.default_rng(seed)

    dual = _prepare(low_loss, core_loss, preparation)
    specimen = find_specimen(dual, mask)

    background = background_shapes(np.maximum(dual.energy_eV, 1.0))
    plane = _find_plane(dual, specimen, background)

    blur_pixels = _blur_pixels(dual, delocalisation_nm)
    axes = _regress_losses(dual, specimen, plane, blur_pixels, _draw_pixels(rng, specimen, bootstrap))

    line, evidence = _gather_evidence(specimen, plane, axes)
    rotation = estimate_rotation(evidence, constraints)

    remover = BackgroundRemover.of(dual, specimen, background, onset_eV)
    mixing = line.mixing(rotation.x0, rotation.x1)
    references = remover.remove(mixing @ axes.low_loss[0])
    samples = _sample_references(remover, line, rotation, axes, rng)
    coordinates = plane.locate(specimen.low_loss[..., dual.in_window])
    return Standards(
        energy_eV=dual.energy_eV,
        references=references,
        uncertainty=samples.std(axis=0),
        abundances=np.moveaxis(coordinates @ np.linalg.inv(mixing), -1, 0).astype(np.float32),
        diagnostics=Diagnostics(
            **_diagnose_references(references, remover),
            **_diagnose_rotation(rotation, evidence, constraints),
            **_diagnose_plane(plane, dual, specimen),
            delocalisation_pixels=blur_pixels,
            l3_eV=axes.estimators.l3_eV,
        ),
        core_energy_eV=dual.core_energy_eV,
        core_references=mixing @ axes.core_loss[0],
        samples=samples.astype(np.float32),
        rotation=rotation,
    )


# ---------------------------------------------------------------- 1, 2: spectra of the specimen, and their plane


def _check_mask(mask, low_loss):
    low_loss = low_loss.low_loss if isinstance(low_loss, DualEELS) else getattr(low_loss, "data", low_loss)
    if mask is not None and np.shape(mask) != np.shape(low_loss)[:-1]:
        raise ValueError(f"mask: got shape {np.shape(mask)}, wants {np.shape(low_loss)[:-1]}")


def _prepare(low_loss, core_loss, preparation):
    if not isinstance(low_loss, DualEELS):
        return prepare_dual_eels(low_loss, core_loss, **preparation)
    if core_loss is not None or preparation:
        extra = (["core_loss"] if core_loss is not None else []) + list(preparation)
        raise ValueError(f"{extra[0]}: got a value beside prepared DualEELS, wants it given to prepare_dual_eels")
    return low_loss


def _find_plane(dual, specimen, background):
    inside = dual.in_window
    return find_plane(specimen.low_loss[specimen.mask][:, inside], dual.variance[specimen.mask], background[:, inside])


# ---------------------------------------------------------------- 3: both losses along the axes of the plane


@dataclass(frozen=True)
class AxisSpectra:
    """Spectra along the two axes of the plane, in each of B draws of the pixels (draw 0: all as they are).

    Attributes
    ----------
    low_loss, core_loss : (B, 2, E), (B, 2, E2)
    estimators : CoreLossEstimators
        For the core loss.
    """

    low_loss: NDArray = field(repr=False)
    core_loss: NDArray = field(repr=False)
    estimators: CoreLossEstimators


def _blur_pixels(dual, delocalisation_nm):
    """Standard deviation, in pixels, of the blur that the core loss needs to look like the M2,3 maps."""
    if not dual.pixel_size_nm:
        return 0.0
    if delocalisation_nm is None:
        angles = {name: dual.microscope[name] for name in ("beam_energy_keV", "collection_mrad")}
        core, low = (scattering.delocalisation_nm(energy_eV, **angles) for energy_eV in (700.0, 55.0))
        delocalisation_nm = np.sqrt(low**2 - core**2)
    return float(delocalisation_nm / FWHM / dual.pixel_size_nm)


def _draw_pixels(rng, specimen, bootstrap):
    n = int(specimen.mask.sum())
    return [np.arange(n)] + [rng.integers(n, size=n) for _ in range(bootstrap)]


def _regress_losses(dual, specimen, plane, blur_pixels, draws):
    core = specimen.core_loss
    if blur_pixels and core.ndim >= 3:
        core = ndimage.gaussian_filter(core, (*[0.0] * (core.ndim - 3), blur_pixels, blur_pixels, 0.0))
    core = core[specimen.mask]
    return AxisSpectra(
        low_loss=plane.regress(specimen.low_loss[specimen.mask], draws, noisy=True),
        core_loss=plane.regress(core, draws),
        estimators=core_loss_estimators(dual.core_energy_eV, core.mean(0), **dual.microscope),
    )


# ---------------------------------------------------------------- 4: what the core loss says of the rotation


def _gather_evidence(specimen, plane, axes):
    """The line of one iron atom per nm², and what the core loss counts along it."""
    core, estimators = axes.core_loss, axes.estimators
    edge = np.array([core @ window for window in estimators.leading_edge])
    line = IronLine.through(core @ estimators.iron, ferrous=edge[-4:])
    x, iron = line.position(plane.coordinates), plane.coordinates @ line.iron[0]
    strong = iron > 0.05 * np.percentile(iron, 98)
    ends, end_errors = estimate_range(x[strong], line.position_error(plane.coordinates[strong], plane.variance[strong]))
    oxygen, oxygen_atoms = (
        None if f is None else line.count(core @ f) for f in (estimators.oxygen, estimators.oxygen_atoms)
    )
    return line, Evidence(
        ends=ends,
        end_errors=end_errors,
        outermost=outermost_phase(specimen.mask, x, np.maximum(iron, 0), ends) if specimen.has_rim else None,
        oxygen=oxygen,
        oxygen_atoms=oxygen_atoms,
        leading_edge=line.count(edge),
        leading_edge_eV=estimators.leading_edge_eV,
    )


# ---------------------------------------------------------------- 5: references


@dataclass(frozen=True)
class BackgroundRemover:
    """Takes the background off the low loss of each phase: no M2,3 below its onset, known cross-section far above it.

    Attributes
    ----------
    energy_eV : (E,)
    shapes : (P, E)
        The background shapes that a fit of phases leaves free: what of them is left in a reference changes maps little.
    mean : (E,)
        Mean spectrum, for the weights.
    expected : (2, E)
        Per nm of each phase, from the tabulated cross-section of the continuum.
    onset_eV : float
    window_eV : (float, float)
    """

    energy_eV: NDArray = field(repr=False)
    shapes: NDArray = field(repr=False)
    mean: NDArray = field(repr=False)
    expected: NDArray = field(repr=False)
    onset_eV: float
    window_eV: tuple[float, float]

    @classmethod
    def of(cls, dual: DualEELS, specimen: Specimen, background: NDArray, onset_eV: float) -> BackgroundRemover:
        """For the mean spectrum of a specimen."""
        density = np.array([IRON_PER_NM3[name] for name in PHASES])
        expected = density[:, None] * edge_cross_section("Fe", "M2,3", dual.energy_eV, **dual.microscope)
        mean = specimen.low_loss[specimen.mask].mean(0)
        return cls(dual.energy_eV, background, mean, expected, onset_eV, dual.window_eV)

    def remove(self, spectra: NDArray) -> NDArray:
        """M2,3 alone, (2, E), of low losses (2, E): 0 below the onset, as expected above the window."""
        energy, (low, high) = self.energy_eV, self.window_eV
        before = (energy >= low) & (energy <= self.onset_eV)
        after = (energy >= high - 15) & (energy <= high)
        used = before | after
        b = self.shapes / np.abs(self.shapes[:, used]).max(1, keepdims=True)
        noise = np.maximum(self.mean, 1e-12)[used] * 1e-3 * self.mean[before].mean()
        out = np.where(energy > high, self.expected, 0.0)
        valid = (energy >= self.onset_eV) & (energy <= high)
        for k, y in enumerate(spectra):
            known = np.where(after, self.expected[k], 0.0)
            rows = b[:, used] / (noise + (0.15 * known[used]) ** 2)
            amplitude = np.linalg.solve(rows @ b[:, used].T, rows @ (y - known)[used])
            out[k, valid] = (y - amplitude @ b)[valid]
        return out


def _sample_references(remover, line, rotation, axes, rng):
    """References (B, 2, E) by each draw of the pixels and a draw of the rotation."""
    places = rotation.draw(rng, len(axes.low_loss) - 1)
    draws = enumerate(zip(places, axes.low_loss[1:], strict=True), start=1)
    return np.array([remover.remove(line.mixing(*place, draw) @ low) for draw, (place, low) in draws])


# ---------------------------------------------------------------- diagnostics


def _diagnose_references(references, remover):
    energy = remover.energy_eV
    edge = (energy >= remover.onset_eV) & (energy <= min(remover.window_eV[1], 90.0))
    unit = references[:, edge] / np.linalg.norm(references[:, edge], axis=1, keepdims=True)
    return {
        "phases": tuple(PHASES),
        "condition_number": float(np.linalg.cond(unit)),
        "onset_eV": remover.onset_eV,
        "window_eV": remover.window_eV,
    }


def _diagnose_rotation(rotation, evidence, constraints):
    sigma = np.sqrt(np.diag(rotation.covariance))
    leading_edge = next((c.choose_window(evidence) for c in constraints if isinstance(c, LeadingEdge)), None)
    return {
        "leakage": sigma[::-1] / rotation.width,
        "leakage_correlation": float(rotation.covariance[0, 1] / np.prod(sigma)),
        "purity": (evidence.ends - rotation.x0) / rotation.width,
        "leading_edge_eV": leading_edge.energy_eV if leading_edge else float("nan"),
        "outermost": evidence.outermost,
        "constraints": {name: rotation.loss(name) for name in rotation.parts},
        "left_out": rotation.left_out,
    }


def _diagnose_plane(plane, dual, specimen):
    squared = plane.residual**2
    residual_map = np.full(specimen.mask.shape, np.nan)
    residual_map[specimen.mask] = squared.mean(axis=1)
    return {
        "signal": plane.signal,
        "residual": float(squared.mean()),
        "residual_energy_eV": dual.energy_eV[dual.in_window],
        "residual_spectrum": np.sqrt(squared.mean(axis=0)),
        "residual_map": residual_map,
        "electrons_per_pixel": dual.electrons,
        "microscope": dual.microscope,
        "mask": specimen.mask,
    }
