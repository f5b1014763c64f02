"""`fit_phases`: checked arguments, a solver for blocks of pixels, and the result in the units asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..checks import (
    LARGEST,
    check_choice,
    check_flag,
    check_names,
    check_not_negative,
    check_positive,
    finite_array,
    real_array,
)
from ..doors import checked
from ..spectra import cut_off_fraction, data_of, energy_axis, find_bad_channels, map_spectra
from ..spectra.arrays import check_spectra, is_dask, is_signal
from .components import Components, check_independent
from .energy_errors import EnergyErrors
from .identify import doubtful_phases
from .plural import PluralScattering
from .references import ReferenceDraws, drawn_references, transforms_of
from .result import FitFlag, PhaseFit, pixel_size_of, unpack
from .solver import PoissonWeights, Solver

__all__ = ["BlockFit", "fit_phases"]

BLOCK = 192  # spectra worked on at once: their arrays stay in the processor's cache
LOW_LOSS_EV = 150.0  # windows that end below are looked over for bad channels; white lines above may be as sharp
BLOCK_COMMON_WEIGHT = 512  # with one variance for all pixels there are no arrays of their size besides the spectra


@checked
def fit_phases(
    spectra: Any,
    energy_eV: ArrayLike | None = None,
    references: Any = None,
    *,
    reference_samples: ArrayLike | None = None,
    metal_per_nm3: ArrayLike | None = None,
    valence: ArrayLike | None = None,
    phases: Sequence[str] = (),
    background: str | ArrayLike | None = "plasmon_tail",
    nonnegative: bool | ArrayLike = True,
    nonnegative_background: bool = False,
    variance: Any = None,
    gain: float = 1.0,
    readout_noise: float = 0.0,
    window_eV: tuple[float, float] | None = None,
    low_loss: Any = None,
    low_loss_energy_eV: ArrayLike | None = None,
    zero_loss_peak: str = "delta",
    exposure_ratio: float = 1.0,
    electrons: float | ArrayLike = 1.0,
    shift_error_eV: float = 0.0,
    broadening_error_eV: float = 0.0,
    scale_covariance: bool = False,
    tolerance: float = 1e-2,
    max_iterations: int = 12,
) -> PhaseFit:
    """Fit phases and background to every spectrum of an image, a tilt series, or a lazy signal.

    Parameters
    ----------
    spectra : (..., E) array, Dask array or HyperSpy signal
        Raw counts, energy last: neither background-subtracted nor denoised. Lazy input gives a lazy result.
    energy_eV : (E,)
        Energies; may be None for a HyperSpy signal.
    references : (K, E) or Standards
        One reference spectrum per row, on the same energies. `Standards` come with their samples, densities of the
        metal, valences and warnings, and are per eV: the width of a channel is multiplied in here.
    reference_samples : (S, K, E), optional
        Other references that may be the true ones: their scatter becomes ``PhaseFit.systematic``.
    metal_per_nm3, valence : (K,) or (S + 1, K), optional
        Metal atoms per nm³ of each phase and their mean valence, for `PhaseFit.metal` and `PhaseFit.mean_valence`; with
        a row for the references and one for each sample where they differ.
    phases : sequence of K str, optional
        Names, passed on to the result; by default those of `Standards`.
    background : str, exponents, shapes (P, E) or None
        See `background_shapes`.
    nonnegative : bool or sequence of K bools
        Which phases must not be negative. At most 8.
    nonnegative_background : bool
        The same for the background shapes. Off by default: powers of one sign cannot follow a tail that bends, and a
        bound on a nuisance amplitude biases the phases where counts are few.
    variance : None, scalar, (E,) or (..., E)
        None: Poisson, variance = gain · fit + readout_noise², iterated to self-consistency. Otherwise used as it is;
        ``inf`` excludes a channel.
    gain, readout_noise : float
        Counts per electron; standard deviation of the readout in counts.
    window_eV : (float, float), optional
        Energies to fit; all by default. Channels outside may hold anything.
    low_loss : (..., E2) or (E2,), optional
        Low loss of the same pixels (or one for all), zero loss at 0 eV. The references are convolved with it before the
        fit, so that plural scattering is in the model and the data stay as they were counted. If it is in counts, it
        also contains the number of electrons: coefficients are in nm if references are per electron and nm.

        A low loss of the same pixels that covers the window also serves the background. Its exponents are then those of
        single scattering, convolved like the references (amplitudes are per electron). What losses below the window add
        by repeated scattering is computed from them (`spectra.repeated_losses`) and has a fixed amplitude, so such a
        low loss must be in counts, and ``exposure_ratio`` must be right. Your own shapes are not convolved. The window
        must start below the onset. Error bars do not include the noise of the low loss.
    low_loss_energy_eV : (E2,)
    zero_loss_peak : {"delta", "keep"}
        See `spectra.convolve_low_loss`.
    exposure_ratio : float
        Exposure of ``spectra`` over that of ``low_loss`` (dual EELS). With repeated losses (see ``low_loss``) an error
        in it does more than scale the result.
    electrons : float or array (...)
        Electrons per pixel in the unit of the counts (electrons times ``gain``): coefficients are divided by it. Leave
        it at 1 where a low loss in counts contains the electrons. A sum of counts, such as that of the zero loss, is in
        this unit already. Refused with a low loss that serves the background, since that contains the electrons.
    shift_error_eV, broadening_error_eV : float
        Standard deviations of the energy error of a pixel, and of the Gaussian by which its spectrum may be blurred
        more or less than the references: two more parameters per pixel, linearised, with a Gaussian prior and limited
        to three standard deviations. 0: not fitted. Their uncertainty is in the covariance.
    scale_covariance : bool
        Multiply the covariance by the reduced chi², where that is above 1 (noise above Poisson).
    tolerance : float
        The Poisson weights are iterated until no coefficient moves by more than this fraction of its error; the
        remaining distance to convergence is several times less.
    max_iterations : int
        Limit for the Poisson weights; pixels that need more are flagged.

    Returns
    -------
    PhaseFit

    Raises
    ------
    ValueError
        Naming the argument, for energies that do not match the last axis or do not cover the window, references that
        are not finite, all zero, or collinear with each other or with the background, variances that are not positive,
        or spectra without a single usable pixel. Single bad pixels are flagged and NaN instead.

    Notes
    -----
    The non-negative minimum is exact: the free amplitudes are eliminated (Schur complement), every subset of the
    non-negative ones is solved, and the best of those without a negative amplitude is the minimum, because the
    problem is strictly convex. Lawson & Hanson's NNLS (``scipy.optimize.nnls``) finds the same, pixel by pixel.

    Maximum likelihood by iterated weighting: Nelder & Wedderburn, J. R. Stat. Soc. A 135 (1972) 370.

    Examples
    --------
    >>> energy = np.linspace(45, 75, 121)
    >>> peaks = np.exp(-0.5 * ((energy - np.array([[56.0], [59.0]])) / 2) ** 2)
    >>> counts = np.array([[50, 0], [20, 80]]) @ peaks + 100 * (energy / 50) ** -3.0
    >>> fit = fit_phases(counts, energy, peaks)
    >>> fit.coefficients.round(1)
    array([[50.,  0.],
           [20., 80.]])
    >>> fit.covariance.shape
    (2, 2, 2)
    """
    energy, data = energy_axis(spectra, energy_eV), data_of(spectra)
    _check_counts(data)
    check_choice(zero_loss_peak, "zero_loss_peak", ("delta", "keep"))
    if low_loss_energy_eV is not None:
        finite_array(low_loss_energy_eV, "low_loss_energy_eV")
    if hasattr(references, "energy_eV") and not _same_axis(references.energy_eV, energy):
        raise ValueError("references: got Standards on other energies than the spectra, wants the same axis")
    phases = check_names(phases, "phases") or _names_of(references)
    told = tuple(f"References: {sentence}" for sentence in getattr(references, "warnings", ()))
    references, *drawn = drawn_references(references, reference_samples, metal_per_nm3, valence, energy[1] - energy[0])
    components = Components.checked(energy, references, background, window_eV, nonnegative, nonnegative_background)
    check_flag(scale_covariance, "scale_covariance")
    if phases and len(phases) != len(components.references):
        raise ValueError(f"phases: got {len(phases)} names, wants {len(components.references)}, one per reference")
    poisson = PoissonWeights(gain, readout_noise, tolerance, max_iterations)
    check_positive(exposure_ratio=exposure_ratio)
    check_not_negative(shift_error_eV=shift_error_eV, broadening_error_eV=broadening_error_eV)
    errors = EnergyErrors(energy[1] - energy[0], shift_error_eV, broadening_error_eV)
    variance = _checked_variance(variance, data, components.window)
    electrons = _checked_electrons(electrons, data.shape[:-1])

    shapes, plural, low = components.shapes, None, None
    if low_loss is not None:
        low = _checked_low_loss(low_loss, data.shape[:-1])
        per_pixel = low.shape[:-1] == data.shape[:-1]
        plural = PluralScattering.prepared(
            components, low_loss, low_loss_energy_eV, zero_loss_peak, exposure_ratio, per_pixel=per_pixel
        )
        if plural.with_background and (electrons != 1).any():
            raise ValueError("electrons: got a number, wants none: a low_loss that serves the background contains them")
        if not per_pixel:
            shapes = np.concatenate([plural.references(low), components.background])
            plural = low = None
    check_independent(shapes, len(components.references))

    told += doubtful_phases(components.shapes, len(components.references), phases)
    solver = Solver(shapes, len(components.references), components.nonnegative, poisson, scale_covariance, errors)
    one_weight = variance is not None and variance.ndim == 1 and low is None
    packed = map_spectra(
        BlockFit(solver, components.window, plural), data, variance, low,
        core_shape=(solver.size,), block=BLOCK_COMMON_WEIGHT if one_weight else BLOCK,
    )  # fmt: skip
    fit = unpack(packed, len(components.references), len(components.background), energy_eV=energy[components.window])
    if not is_dask(packed) and (fit.flags & FitFlag.BAD_INPUT).all():
        raise ValueError("spectra, variance: got no pixel that is finite in the window, wants at least one")
    shapes, fixed = (shapes, 0.0) if plural is None else _fitted_shapes(plural, low)
    return replace(
        fit,
        coefficients=fit.coefficients / electrons[..., None],
        covariance=fit.covariance / electrons[..., None, None] ** 2,
        shapes=shapes,
        fixed=fixed,
        electrons=electrons,
        drawn=_reference_draws(*drawn, components),
        phases=phases,
        tilt_angles_deg=_tilts_of(spectra, data.shape[:-1]),
        pixel_size_nm=pixel_size_of(spectra),
        doubts=told + _doubts(data, energy, components.window, None if variance is not None else gain, low_loss),
        plural=None if shapes is not None else plural,
    )


def _names_of(references):
    """Names of the phases of `Standards`; none of arrays."""
    return tuple(getattr(references, "phases", ()))


def _tilts_of(spectra, lead):
    """Tilt angles that the signal of a series (T, Y, X) states."""
    tilts = spectra.metadata.get_item("Tomography.tilts", default=None) if is_signal(spectra) else None
    tilts = None if tilts is None else np.asarray(data_of(tilts), float).ravel()
    return tilts if tilts is not None and len(lead) == 3 and tilts.size == lead[0] else None


def _same_axis(axis, energy):
    return np.shape(axis) == energy.shape and np.allclose(axis, energy, atol=0.01 * (energy[1] - energy[0]))


def _doubts(data, energy, window, gain, low_loss):
    """What is wrong with the counts, sentences; spectra that are not read yet, or no Poisson counts, are not judged."""
    found = []
    cut_off = 0.0 if low_loss is None or is_dask(data_of(low_loss)) else cut_off_fraction(low_loss)
    if cut_off:
        found.append(
            f"{100 * cut_off:.0f} % of the spectra of low_loss are cut off at the largest of all values: the zero loss "
            "is saturated, and coefficients, which are divided by it, are too large."
        )
    inside = np.zeros(energy.size, bool)
    inside[window] = energy[window][-1] < LOW_LOSS_EV
    if gain is None or is_dask(data) or data.ndim < 2 or not inside.any():
        return tuple(found)
    bad = energy[find_bad_channels(data, inside, gain=gain)]
    if bad.size:
        found.append(
            f"Channels at {', '.join(f'{place:.2f}' for place in bad)} eV are far off their neighbours in all spectra: "
            "they are dead or hot. Interpolate them (spectra.mend_channels) before the fit."
        )
    return tuple(found)


def _reference_draws(samples, metal_per_nm3, valence, components):
    k = len(components.references)
    if samples is None:
        return None if metal_per_nm3 is None else ReferenceDraws(np.zeros((0, k, k)), metal_per_nm3, valence)
    transforms = transforms_of(samples[..., components.window], components.shapes, k)
    return ReferenceDraws(transforms, metal_per_nm3, valence)


@dataclass(frozen=True)
class BlockFit:
    """Packed results of a block: spectra (n, E), their variance (n or 1, E) or None, their low loss (n, E2) or None."""

    solver: Solver
    window: slice
    plural: PluralScattering | None

    def __call__(self, counts: np.ndarray, variance: np.ndarray | None, low_loss: np.ndarray | None) -> np.ndarray:
        variance = None if variance is None else variance[:, self.window]
        pixel_shapes = None if low_loss is None else self.plural.pixel_shapes(low_loss)
        return self.solver(counts[:, self.window], variance, pixel_shapes)


def _fitted_shapes(plural, low_loss):
    """`PhaseFit.shapes` and `PhaseFit.fixed`, which are kept for a single spectrum."""
    if low_loss.ndim > 1:
        return None, None if plural.with_background else 0.0
    pixel = plural.pixel_shapes(np.asarray(low_loss)[None])
    return pixel.shapes[0], 0.0 if pixel.fixed is None else pixel.fixed[0]


def _check_counts(data):
    """Refuse counts whose squares do not add up; those of lazy spectra, and pixels that hold infinity, are not seen."""
    if is_dask(data) or not data.size:
        return
    top = max(-float(np.fmin.reduce(data, axis=None)), float(np.fmax.reduce(data, axis=None)))
    if LARGEST < top < np.inf:
        raise ValueError(f"spectra: got counts up to {top:.3g}, wants at most {LARGEST:g}")


def _checked_low_loss(low_loss, lead):
    low = data_of(check_spectra(low_loss, "low_loss"))
    if low.ndim > 1 and low.shape[:-1] != lead:
        raise ValueError(f"low_loss: got leading axes {low.shape[:-1]}, wants {lead}, or one spectrum")
    return low


def _checked_variance(variance, data, window):
    if variance is None:
        return None
    if not (is_signal(variance) or is_dask(variance)):
        real_array(variance, "variance", finite=False)
    variance = data_of(variance)
    if variance.ndim == 0:
        variance = np.full(data.shape[-1], float(variance))
    if variance.shape not in (data.shape[-1:], data.shape):
        raise ValueError(f"variance: got shape {variance.shape}, wants a scalar, ({data.shape[-1]},) or {data.shape}")
    if variance.ndim == 1:
        bad = ~(np.asarray(variance)[window] > 0)
        if bad.any():
            raise ValueError(f"variance: got {np.asarray(variance)[window][bad][0]:g}, wants positive numbers")
    return variance


def _checked_electrons(electrons, lead):
    electrons = finite_array(electrons, "electrons")
    if electrons.shape not in ((), lead):
        raise ValueError(f"electrons: got shape {electrons.shape}, wants a number or {lead}")
    if not (electrons > 1e-15).all():
        raise ValueError(f"electrons: got {electrons.min():g}, wants positive numbers")
    return electrons
