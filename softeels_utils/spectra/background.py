"""Background before an edge, extrapolated from a fit window: the exponent of a power law is fitted, too.

For a background fitted *together* with an edge, as fixed powers of the energy, see `fitting.background_shapes`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from ..checks import check_choice, check_count
from ..doors import checked
from .arrays import data_of, energy_axis, window_mask, with_data
from .blocks import map_spectra

__all__ = ["REGRESSION_MODELS", "fit_background", "remove_background"]

#: Terms of log(background), as functions of the energy, whose factors `fit_background` fits.
REGRESSION_MODELS = {
    "power_law": lambda e: np.stack([np.ones_like(e), np.log(e)]),
    "exponential": lambda e: np.stack([np.ones_like(e), e]),
    "log_polynomial": lambda e: np.stack([np.ones_like(e), np.log(e), np.log(e) ** 2]),
}


@checked
def fit_background(
    spectra: Any,
    energy_eV: ArrayLike | None = None,
    *,
    window_eV: tuple[float, float],
    model: str = "power_law",
    iterations: int = 12,
) -> Any:
    """Background extrapolated from a window before an edge, fitted by Poisson maximum likelihood.

    The background is ``exp(a + r f(E) ...)``: a Poisson regression with logarithmic link, solved for all pixels at
    once by Newton steps. Unlike a straight line through log(counts) it is not biased where counts are few, and
    channels without a count can take part.

    Parameters
    ----------
    spectra : (..., E), counts
    energy_eV : (E,), for plain arrays
    window_eV : (float, float)
        Fit window, before the edge.
    model : {"power_law", "exponential", "log_polynomial"}
        One of `REGRESSION_MODELS`: ``A E^-r``; ``A exp(-E/w)``; ``A E^-r exp(q ln²E)`` (curved; for a plasmon tail
        under an edge at low energy).
    iterations : int
        Newton steps.

    Returns
    -------
    Background over the whole energy axis, of the same kind as the spectra. Channels below the window follow the same
    curve (0 where E <= 0).

    Raises
    ------
    ValueError
        Naming ``model``, or a window that is not on the energy axis or has too few channels.
    """
    energy = energy_axis(spectra, energy_eV)
    check_choice(model, "model", REGRESSION_MODELS)
    check_count(iterations, "iterations")
    inside = window_mask(energy, window_eV)
    scaled = np.maximum(energy, energy[inside][0] * 1e-3) / np.sqrt(energy[inside][0] * energy[inside][-1])
    terms = REGRESSION_MODELS[model](scaled)
    if inside.sum() <= len(terms):
        raise ValueError(f"window_eV: got too few channels ({inside.sum()}), wants more than {len(terms)} for {model}")
    # orthonormal in the window: Newton's matrix is then well conditioned whatever the energies
    basis, triangle = np.linalg.qr(terms[:, inside].T)
    extrapolate = partial(
        _extrapolate,
        inside=inside,
        basis=basis,
        everywhere=np.linalg.solve(triangle.T, terms),
        positive=energy > 0,
        iterations=iterations,
    )
    return with_data(spectra, map_spectra(extrapolate, spectra, core_shape=energy.shape))


def _extrapolate(counts, *, inside, basis, everywhere, positive, iterations):
    """Background (n, E) of a block of spectra; NaN where a channel of the window is, 0 where it holds no count."""
    counts = counts[:, inside]
    finite = np.isfinite(counts).all(-1)
    usable = finite & (counts.sum(-1) > 0)
    out = np.where(finite, 0.0, np.nan)[:, None] * np.ones(everywhere.shape[1])
    if usable.any():
        factors = _poisson_regression(np.asarray(counts[usable], float), basis, iterations)
        out[usable] = np.where(positive, np.exp(np.clip(factors @ everywhere, -60, 60)), 0.0)
    return out


def _poisson_regression(counts, basis, iterations):
    """Factors (n, P) of the basis (E', P) in log(expected counts), by Newton steps."""
    mean = np.maximum(counts.mean(-1, keepdims=True), 1e-9)
    # start from the least-squares fit to a smoothed logarithm
    smooth = np.maximum(ndimage.uniform_filter1d(counts, max(3, counts.shape[-1] // 6), axis=-1), 0.05 * mean)
    factors = np.log(smooth) @ basis
    ridge = 1e-9 * mean[..., None] * np.eye(basis.shape[1])
    for _ in range(iterations):
        expected = np.exp(np.clip(factors @ basis.T, -60, 60))
        gradient = (counts - expected) @ basis
        curvature = np.einsum("ne,ek,el->nkl", expected, basis, basis, optimize=True)
        step = np.linalg.solve(curvature + ridge, gradient[..., None])[..., 0]
        # no step changes a channel by more than e²: Newton's method overshoots where counts are few
        factors = factors + step * np.minimum(1, 2 / (np.abs(step @ basis.T).max(-1, keepdims=True) + 1e-12))
    return factors


@checked
def remove_background(
    spectra: Any, energy_eV: ArrayLike | None = None, *, window_eV: tuple[float, float], model: str = "power_law"
) -> Any:
    """Spectra minus the background of `fit_background`, in channels before the window, too.

    Parameters
    ----------
    spectra, energy_eV, window_eV, model
        See `fit_background`.

    Returns
    -------
    Spectra of the same kind.
    """
    background = fit_background(spectra, energy_eV, window_eV=window_eV, model=model)
    return with_data(spectra, data_of(spectra) - data_of(background))
