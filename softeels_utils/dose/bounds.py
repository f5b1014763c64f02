"""Cramér-Rao bound of the phase thicknesses of a pixel, and the counts that test it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_count, check_positive, check_seed, finite_array
from ..doors import checked
from ..simulate import SpectrumModel
from .acquisition import Acquisition

__all__ = ["LinearModel", "error_ellipse", "linear_model", "phase_bound", "simulate_counts"]


@checked(energy_eV="E", phases="P E", background="B E", amplitudes="B", thickness_nm="P", expected="E")
@dataclass(frozen=True)
class LinearModel:
    """Counts of one pixel and edge as a linear model: expected = phases · thickness + background · amplitudes.

    Attributes
    ----------
    acquisition : Acquisition
        What is recorded and fitted.
    energy_eV : (E,)
        Channels of the fit window.
    phases : (P, E)
        Electrons per nm of each phase, plural scattering and resolution included.
    background : (B, E)
        Shapes under the edge.
    amplitudes : (B,)
        Least-squares amplitudes of the background in the model's or the measured spectrum.
    thickness_nm : (P,)
        Thickness of each phase: the acquisition's, or the one fitted to the measured spectrum.
    expected : (E,)
        Expected electrons, from the spectrum itself (not the linear model); their Poisson noise is the noise.
    misfit : float
        Weighted rms distance of the true background from its shapes, in standard deviations per channel.
    """

    acquisition: Acquisition
    energy_eV: NDArray
    phases: NDArray
    background: NDArray
    amplitudes: NDArray
    thickness_nm: NDArray
    expected: NDArray
    misfit: float

    @property
    def linear(self) -> NDArray:
        """Electrons that the linear model expects, (E,)."""
        return self.thickness_nm @ self.phases + self.amplitudes @ self.background

    @property
    def variance(self) -> NDArray:
        """Variance of each channel in electrons squared, (E,): Poisson noise and readout noise."""
        return self.expected + (self.acquisition.readout_counts / self.acquisition.gain) ** 2

    @checked(variance="E")
    def covariance(self, variance: ArrayLike | None = None) -> NDArray:
        """Inverse Fisher information of the thicknesses with all background amplitudes free, (P, P), nm².

        Parameters
        ----------
        variance
            Variance (E,) of the channels in place of `variance`.
        """
        design = np.concatenate([self.phases, self.background])
        q = design / np.sqrt(self.variance if variance is None else variance)
        scale = np.linalg.norm(q, axis=1)
        _, r = np.linalg.qr((q / scale[:, None]).T)
        inverse = np.linalg.inv(r)
        covariance = inverse @ inverse.T / np.outer(scale, scale)
        n = len(self.phases)
        return covariance[:n, :n]


@checked
def linear_model(
    spectrum_model: SpectrumModel,
    fluence_e_per_A2: float,
    acquisition: Acquisition | None = None,
    **settings: Any,
) -> LinearModel:
    """Linear model of the counts of one pixel around one edge; arguments as for `phase_bound`."""
    check_positive(fluence_e_per_A2=fluence_e_per_A2)
    acquisition = Acquisition.from_settings(acquisition, **settings).of_model(spectrum_model)
    edge, thickness = acquisition.edge, np.asarray(acquisition.thickness_nm, dtype=float)
    energy = spectrum_model.energy_eV(edge)
    inside = acquisition.in_window(energy)
    shapes = acquisition.background_shapes(energy[inside])
    if inside.sum() <= len(shapes) + thickness.size:
        raise ValueError(
            f"window_eV: got {inside.sum()} channels, wants more than the {len(shapes) + thickness.size} amplitudes"
        )
    electrons = fluence_e_per_A2 * acquisition.electrons_per_fluence
    phases = electrons * spectrum_model.derivative(thickness, edge)[:, inside]
    if acquisition.spectrum is None:
        expected = electrons * spectrum_model.expected(thickness, edge)[inside]
    else:
        expected = electrons * _checked_spectrum(acquisition.spectrum, inside)[inside]
    expected = np.maximum(expected, 1e-12 * expected.max())
    weight = 1 / np.sqrt(expected)
    if acquisition.spectrum is not None:  # a measured spectrum contains iron of unknown amount: fit all of it
        design = np.concatenate([phases, shapes])
        thickness = _least_squares(design, expected, weight)[: thickness.size]
    rest = expected - thickness @ phases
    amplitudes = _least_squares(shapes, rest, weight)
    misfit = float(np.sqrt(np.mean(((rest - amplitudes @ shapes) * weight) ** 2)))
    return LinearModel(acquisition, energy[inside], phases, shapes, amplitudes, thickness, expected, misfit)


def _checked_spectrum(spectrum: ArrayLike, inside: NDArray[np.bool_]) -> NDArray:
    spectrum = np.asarray(spectrum, dtype=float)
    if spectrum.shape != inside.shape or not np.isfinite(spectrum[inside]).all() or (spectrum[inside] <= 0).any():
        raise ValueError(
            f"spectrum: got shape {spectrum.shape}, wants {inside.size} positive values on the model's energy axis"
        )
    return spectrum


def _least_squares(shapes: NDArray, counts: NDArray, weight: NDArray) -> NDArray:
    """Amplitudes of the shapes (K, E) in the counts (E,)."""
    return np.linalg.lstsq((shapes * weight).T, counts * weight, rcond=None)[0] if len(shapes) else np.empty(0)


@checked
def phase_bound(
    spectrum_model: SpectrumModel,
    fluence_e_per_A2: float,
    acquisition: Acquisition | None = None,
    **settings: Any,
) -> NDArray:
    r"""Cramér-Rao bound of the phase thicknesses of one pixel: their smallest possible covariance, nm².

    The Fisher information of independent channels with mean :math:`\mu` and variance :math:`v`,
    :math:`F_{ij} = \sum_E \partial_i\mu\,\partial_j\mu / v`, is inverted with the amplitudes of all background shapes
    among the unknowns; the block of the phases, with the covariance between them, is returned. The information
    in the variance itself is left out.

    Parameters
    ----------
    spectrum_model
        From `simulate.spectrum_model`.
    fluence_e_per_A2
        Electrons per Å².
    acquisition
        What is recorded and fitted; None: the defaults of `Acquisition`.
    **settings
        Attributes of `Acquisition` to replace: ``edge``, ``thickness_nm``, ``pixel_size_nm``, ``window_eV``,
        ``background``, ``readout_counts``, ``gain``, ``spectrum``.

    Returns
    -------
    numpy.ndarray
        ``(P, P)`` covariance, nm².

    Raises
    ------
    ValueError
        Naming the argument, for values out of range or a window off the energy axis.
    TypeError
        For a setting that `Acquisition` does not have.

    Examples
    --------
    >>> from softeels_utils.simulate import spectrum_model
    >>> bound = phase_bound(spectrum_model(), 1e5, edge="M2,3", thickness_nm=(10.0, 10.0))
    >>> bound.shape, bool(bound[0, 1] < 0)  # what one phase gains the other loses
    ((2, 2), True)
    """
    return linear_model(spectrum_model, fluence_e_per_A2, acquisition, **settings).covariance()


@checked
def simulate_counts(
    linear: LinearModel, draws: int, *, exact: bool = False, seed: int | np.random.Generator = 0
) -> NDArray:
    """Noisy counts of one pixel, many times over, ``(draws, E)``: the input of `fitting.fit_phases`.

    Readout noise and gain are those of ``linear.acquisition``.

    Parameters
    ----------
    linear
        From `linear_model`.
    draws
        Number of spectra.
    exact
        False: the mean is the linear model's, so that a linear fit is unbiased and its scatter should meet the bound.
        True: the mean is the spectrum itself, whose background the shapes follow only approximately.
    seed
        Seed or generator of the noise.

    Raises
    ------
    ValueError
        For fewer than one draw, or a linear model that expects negative counts.
    """
    check_count(draws, "draws")
    check_seed(seed, generator=True)
    mean = linear.expected if exact else linear.linear
    if (mean < 0).any():
        raise ValueError("linear: got negative expected counts, wants a window in which the background fits")
    rng = np.random.default_rng(seed)
    counts = linear.acquisition.gain * rng.poisson(mean, (draws, mean.size)).astype(float)
    readout = linear.acquisition.readout_counts
    return counts + rng.normal(0.0, readout, counts.shape) if readout else counts


@checked
def error_ellipse(covariance: ArrayLike, *, sigmas: float = 1.0, points: int = 200) -> NDArray:
    """Outline of the error ellipse of two quantities, ``(2, points)``, around the origin.

    Parameters
    ----------
    covariance
        ``(2, 2)``, positive definite.
    sigmas
        Size in standard errors.
    points
        Number of points.
    """
    covariance = finite_array(covariance, "covariance")
    if covariance.shape != (2, 2):
        raise ValueError(f"covariance: got shape {covariance.shape}, wants (2, 2)")
    if not np.allclose(covariance, covariance.T, rtol=1e-6) or np.linalg.eigvalsh(covariance)[0] <= 0:
        raise ValueError(f"covariance: got {covariance.tolist()}, wants a symmetric, positive definite matrix")
    check_positive(sigmas=sigmas)
    angle = np.linspace(0, 2 * np.pi, check_count(points, "points"))
    return sigmas * np.linalg.cholesky(covariance) @ np.stack([np.cos(angle), np.sin(angle)])
