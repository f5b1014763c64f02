"""The plane that M2,3 spectra of two phases span, and regression on noisy coordinates in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_count, check_seed, describe, finite_array
from ..doors import checked

__all__ = [
    "Plane",
    "blur_error_factor",
    "errors_in_variables_regression",
    "find_plane",
    "reference_from_abundances",
    "weighted_fit",
    "widened",
]

LEAST_FACTOR = 1.2  # less is within what 20 to 60 draws tell of a standard deviation


@checked(coordinates="N 2", variance="N", signal="M", residual="N W", estimator="W 2")
@dataclass(frozen=True)
class Plane:
    """Coordinates of pixels in the plane of M2,3 spectra, see `find_plane`.

    Attributes
    ----------
    coordinates : (N, 2)
    variance : (N,)
        Of each of the two coordinates.
    signal : (M,)
        Squared singular values over the largest expected from noise alone.
    residual : (N, W)
        In standard deviations.
    estimator : (W, 2)
        ``spectrum @ estimator`` are the coordinates of a spectrum, see `locate`.
    """

    coordinates: NDArray
    variance: NDArray
    signal: NDArray
    residual: NDArray = field(repr=False)
    estimator: NDArray = field(repr=False)

    @checked(spectra="N E", besides="N")
    def regress(
        self, spectra: NDArray, draws: Sequence[NDArray], noisy: bool = False, besides: NDArray | None = None
    ) -> NDArray:
        """Spectra along the two axes of the plane, (B, 2, E), from spectra (N, E), for each draw of the pixels.

        ``noisy=True`` where the coordinates come from these very spectra, see `errors_in_variables_regression`. With
        ``besides`` (N,), a third quantity that is known without noise, also those that go with it: (B, 3, E).
        """
        a, variance = self.coordinates, self.variance
        scale = 1.0
        if besides is not None:  # scaled, so that the normal matrix is well conditioned
            scale = np.array([1.0, 1.0, np.abs(a[:, 0]).mean()])
            a = np.column_stack([a, besides]) * scale
        exact = a.shape[1] - 2
        slopes = [
            errors_in_variables_regression(a[i], variance[i], 1 / variance[i], spectra[i], noisy, exact) for i in draws
        ]
        return np.array(slopes) * np.reshape(scale, (-1, 1))

    @checked(spectra="... W")
    def locate(self, spectra: NDArray) -> NDArray:
        """Coordinates (..., 2) of spectra (..., W), by weighted least squares with a free background."""
        return spectra @ self.estimator


@checked(spectra="N W", variance="N W", background="P W")
def find_plane(spectra: NDArray, variance: NDArray, background: NDArray) -> Plane:
    """Coordinates of pixels in the plane spanned by M2,3 spectra, with the background projected out.

    Each pixel may have any amount of the background shapes. The plane is that of the two largest singular values, after
    scaling to equal noise by the mean variance of each channel and of each pixel (Keenan and Kotula, Surf. Interface
    Anal. 36, 203 (2004)).

    Parameters
    ----------
    spectra, variance : (N, W)
        Single scattering, and its variance.
    background : (P, W)

    Raises
    ------
    ValueError
        If the second component is below the noise.
    """
    channel = variance.mean(0)
    pixel = (variance / channel).mean(1)
    scaled = spectra / np.sqrt(channel) / np.sqrt(pixel)[:, None]
    shapes, _ = np.linalg.qr((background / np.sqrt(channel)).T)
    scaled = scaled - (scaled @ shapes) @ shapes.T
    u, s, vt = np.linalg.svd(scaled, full_matrices=False)
    largest_of_noise = (np.sqrt(len(spectra)) + np.sqrt(channel.size)) ** 2  # largest squared singular value
    scores = u[:, :2] * s[:2]
    signal = s[:8] ** 2 / largest_of_noise
    if signal[1] < 1.0:
        raise ValueError(
            "low_loss: M2,3 shows one kind of spectrum only: got a second squared singular value of "
            f"{signal[1]:.2f} times that of noise, wants at least 1 (one phase, or too few electrons)"
        )
    coordinates = scores * np.sqrt(pixel)[:, None]
    axes = errors_in_variables_regression(coordinates, pixel, 1 / pixel, spectra, noisy=True)
    estimator = weighted_fit(np.concatenate([axes, background]), 1 / np.maximum(spectra.mean(0), 1e-12))[:2].T
    return Plane(coordinates, pixel, signal, scaled - scores @ vt[:2], estimator)


def blur_error_factor(blur_pixels: float) -> float:
    """By how much errors are larger than a resampling of single pixels says, where the pixels were blurred before.

    White noise blurred by a Gaussian of standard deviation s is alike over 4πs² pixels. A factor below 1.2 is taken as
    1: neither a kernel that hardly leaves its pixel nor a few draws tell so little.
    """
    factor = (4 * np.pi) ** 0.5 * blur_pixels
    return factor if factor > LEAST_FACTOR else 1.0


def widened(draws: NDArray, factor: float) -> NDArray:
    """Draws (B, ...) whose deviations from their mean are ``factor`` times as large; draw 0, of all pixels, stays."""
    if factor == 1:
        return draws
    mean = draws[1:].mean(axis=0)
    return np.concatenate([draws[:1], mean + factor * (draws[1:] - mean)])


def weighted_fit(shapes: NDArray, weights: NDArray) -> NDArray:
    """Rows (P, E) that give the amplitudes of shapes (P, E) in a spectrum, by least squares with weights (E,)."""
    scale = np.abs(shapes).max(axis=1, keepdims=True)
    b = shapes / scale
    return np.linalg.solve((b * weights) @ b.T, b * weights) / scale


@checked(coordinates="N K", variance="N", weights="N", spectra="N E")
def errors_in_variables_regression(
    coordinates: NDArray,
    variance: NDArray,
    weights: NDArray,
    spectra: NDArray,
    noisy: bool = False,
    exact: int = 0,
) -> NDArray:
    """Spectra (K, E) per unit of each coordinate, by weighted regression on noisy coordinates.

    The noise of the coordinates would pull the slopes towards zero (attenuation); its known variance is subtracted from
    the normal matrix (Fuller, Measurement Error Models, 1987). ``noisy=True`` leaves it in, for the very spectra from
    which the coordinates come.

    Parameters
    ----------
    coordinates : (N, K)
    variance, weights : (N,)
        Variance of each coordinate of a pixel, and weight of the pixel.
    spectra : (N, E)
    exact : int
        How many of the coordinates, the last ones, have no noise.
    """
    check_count(exact, "exact", 0, coordinates.shape[1])
    weighted = coordinates * weights[:, None]
    normal = weighted.T @ coordinates
    if not noisy:
        noise = np.arange(coordinates.shape[1]) < coordinates.shape[1] - exact
        normal = normal - np.diag(noise * (weights @ variance))
    return np.linalg.solve(normal, weighted.T @ spectra)


@checked
def reference_from_abundances(
    spectra: ArrayLike,
    abundances: ArrayLike,
    variance: ArrayLike = 0.0,
    *,
    weights: ArrayLike | None = None,
    bootstrap: int = 60,
    seed: int = 0,
) -> tuple[NDArray, NDArray]:
    """Spectra that belong to known amounts: errors-in-variables regression, with its uncertainty.

    Parameters
    ----------
    spectra : (N, E)
    abundances : (N,) or (N, K)
        Amount of each phase (or element) in each pixel.
    variance : float or (N,)
        Of the abundances.
    weights : (N,), optional
    bootstrap : int
        Draws of the pixels; 0: no uncertainty (NaN).

    Returns
    -------
    references, uncertainty : (K, E), (K, E)
        Per unit of abundance, and one standard deviation.
    """
    spectra, amounts = finite_array(spectra, "spectra"), finite_array(abundances, "abundances")
    check_count(bootstrap, "bootstrap", 0, 100_000)
    check_seed(seed, generator=True)
    amounts = amounts[:, None] if amounts.ndim == 1 else amounts
    if spectra.ndim != 2 or len(amounts) != len(spectra):
        raise ValueError(f"abundances: got {np.shape(abundances)}, wants one row for each of spectra {spectra.shape}")
    variance = _each(variance, "variance", len(spectra))
    weights = np.ones(len(spectra)) if weights is None else _each(weights, "weights", len(spectra))
    try:
        references = errors_in_variables_regression(amounts, variance, weights, spectra)
    except np.linalg.LinAlgError:
        raise ValueError("abundances, weights: got amounts that depend on each other, wants independent ones") from None
    rng = np.random.default_rng(seed)
    draws = [rng.integers(len(spectra), size=len(spectra)) for _ in range(bootstrap)]
    resampled = [errors_in_variables_regression(amounts[i], variance[i], weights[i], spectra[i]) for i in draws]
    return references, np.std(resampled, axis=0) if bootstrap else np.full_like(references, np.nan)


def _each(values, name, count):
    """A number of at least 0 for each of the pixels (N,); one number is that of all."""
    values = finite_array(values, name)
    if values.shape not in ((), (count,)) or not (values >= 0).all():
        raise ValueError(f"{name}: got {describe(values)}, wants {count} numbers of at least 0")
    return np.broadcast_to(values, count)
