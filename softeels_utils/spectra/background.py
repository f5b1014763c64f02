"""Background before an edge, by Poisson regression."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .arrays import data_of, energy_axis, like, map_spectra, window_mask

_BACKGROUNDS = {
    "power_law": lambda e: np.stack([np.ones_like(e), np.log(e)]),
    "exponential": lambda e: np.stack([np.ones_like(e), e]),
    "log_polynomial": lambda e: np.stack([np.ones_like(e), np.log(e), np.log(e) ** 2]),
}


def fit_background(spectra, energy_eV=None, *, window_eV, model="power_law", iterations=12):
    """Background extrapolated from a window before an edge, fitted by Poisson maximum likelihood.

    The background is ``exp(a + r f(E) ...)``: a Poisson regression with logarithmic link, solved for all pixels at
    once by Newton steps. Unlike a straight line through log(counts) it is not biased where counts are few, and
    channels with no count may take part.

    Parameters
    ----------
    spectra : (..., E) counts
    window_eV : (float, float)
        Fit window, before the edge.
    model : {"power_law", "exponential", "log_polynomial"}
        ``A E^-r``; ``A exp(-E/w)``; ``A E^-r exp(q ln²E)`` (bends; for a plasmon tail under a low edge).

    Returns
    -------
    Background over the whole energy axis, as the spectra came. Channels below the window follow the same curve
    (0 where E <= 0).
    """
    energy = energy_axis(spectra, energy_eV)
    if model not in _BACKGROUNDS:
        raise ValueError(f"model must be one of {sorted(_BACKGROUNDS)}, got {model!r}")
    inside = window_mask(energy, window_eV)
    scaled = np.maximum(energy, energy[inside][0] * 1e-3) / np.sqrt(energy[inside][0] * energy[inside][-1])
    basis = _BACKGROUNDS[model](scaled)
    # orthonormal in the window: Newton's matrix is then well conditioned whatever the energies
    shape, mix = np.linalg.qr(basis[:, inside].T)
    full = np.linalg.solve(mix.T, basis)
    if inside.sum() <= len(basis):
        raise ValueError(f"window_eV {tuple(window_eV)} holds {inside.sum()} channels, too few for {model}")

    def fit(y):
        y = np.asarray(y[:, inside], float)
        mean = np.maximum(y.mean(-1, keepdims=True), 1e-9)
        # start from the weighted least-squares fit to a smoothed logarithm
        smooth = np.maximum(ndimage.uniform_filter1d(y, max(3, y.shape[-1] // 6), axis=-1), 0.05 * mean)
        theta = np.log(smooth) @ shape
        for _ in range(iterations):
            model_counts = np.exp(np.clip(theta @ shape.T, -60, 60))
            gradient = (y - model_counts) @ shape
            curvature = np.einsum("ne,ek,el->nkl", model_counts, shape, shape, optimize=True)
            step = np.linalg.solve(curvature + 1e-9 * mean[..., None] * np.eye(len(mix)), gradient[..., None])[..., 0]
            # no step changes a channel by more than e²: Newton's method overshoots where counts are few
            theta = theta + step * np.minimum(1, 2 / (np.abs(step @ shape.T).max(-1, keepdims=True) + 1e-12))
        return np.where(energy > 0, np.exp(np.clip(theta @ full, -60, 60)), 0.0)

    def fit_finite(y):
        good = np.isfinite(y[:, inside]).all(-1) & (y[:, inside].sum(-1) > 0)
        out = np.where(np.isfinite(y[:, inside]).all(-1), 0.0, np.nan)[:, None] * np.ones(energy.size)
        if good.any():
            out[good] = fit(y[good])
        return out

    return like(spectra, map_spectra(fit_finite, spectra, core_shape=energy.shape))


def remove_background(spectra, energy_eV=None, *, window_eV, model="power_law"):
    """Spectra less the background of `fit_background`; channels before the window are kept in, too."""
    background = fit_background(spectra, energy_eV, window_eV=window_eV, model=model)
    return like(spectra, data_of(spectra) - data_of(background))
