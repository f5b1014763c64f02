"""What speaks against a whole fit: chi² of all pixels, and what their residuals have in common."""

from __future__ import annotations

import numbers
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as f_distribution

from ..checks import describe
from ..doors import checked

__all__ = ["BINS", "FitMisfit", "bin_matrix", "p_value_text"]

BINS = 12  # stretches of the window in which residuals are summed
FEWEST = 4 * BINS  # pixels
CHI2 = (0.6, 1.1)  # median reduced chi²; interpolation (alignment by part of a channel) takes up to a third
STRUCTURE = 0.02  # summed residual, as a part of the summed edges
LEAST_PROBABLE = 1e-4


def bin_matrix(channels: int) -> NDArray[np.float64]:
    """(E', BINS) of ones and zeros: sums over even stretches of the channels."""
    return np.eye(BINS)[np.arange(channels) * BINS // channels]


def _hotelling(t2, p, n):
    """Probability of a larger T² of p numbers, whose covariance is estimated from the same n pixels."""
    return float(f_distribution.sf(t2 * (n - p) / (p * (n - 1)), p, n - p))


@checked
def p_value_text(p: float) -> str:
    """A p-value as sentences give it: one digit, and a bound where it is beyond what any model of noise is good for."""
    if not isinstance(p, numbers.Real):
        raise ValueError(f"p: got {describe(p)}, wants a probability")
    return "p < 1e-10" if p < 1e-10 else f"p = {p:.1g}"


@checked(residual="B")
@dataclass(frozen=True)
class FitMisfit:
    """Residuals that many pixels have in common, and their chi², see `PhaseFit.misfit`.

    Attributes
    ----------
    pixels : int
        Number of pixels that have enough counts.
    median_chi2 : float
        Median of the reduced chi².
    residual : (B,)
        Mean residual in equal stretches of the window, counts per pixel.
    p_value : float
        Probability of a mean residual at least as large if every residual is noise alone (Hotelling's T²).
    structure : float
        Mean residual beyond noise, as a fraction of the counts in the edges.
    """

    pixels: int
    median_chi2: float
    residual: NDArray
    p_value: float
    structure: float

    @classmethod
    def measured(cls, chi2_map: NDArray, residuals: NDArray, edge_counts: NDArray, usable: NDArray) -> FitMisfit:
        """From chi² (N,), binned residuals (N, B) and counts in the edges (N,), over the usable pixels, bool (N,)."""
        n = int(usable.sum())
        if n < FEWEST:
            return cls(n, float(np.median(chi2_map[usable])) if n else np.nan, np.zeros(BINS), np.nan, 0.0)
        r = residuals[usable]
        mean, covariance = r.mean(axis=0), np.cov(r.T) / n
        t2 = mean @ np.linalg.pinv(covariance, rcond=1e-6, hermitian=True) @ mean
        freedom = np.linalg.matrix_rank(covariance, tol=1e-6 * np.linalg.norm(covariance, 2), hermitian=True)
        beyond = max((mean**2).sum() - np.trace(covariance), 0.0)
        edge = edge_counts[usable].mean()
        return cls(
            pixels=n,
            median_chi2=float(np.median(chi2_map[usable])),
            residual=mean,
            p_value=_hotelling(t2, max(int(freedom), 1), n),
            structure=float(np.sqrt(BINS * beyond) / edge) if edge > 0 else 0.0,
        )

    def sentences(self) -> tuple[str, ...]:
        """One sentence for each way in which the model does not fit."""
        found = []
        if self.pixels >= FEWEST and not CHI2[0] < self.median_chi2 < CHI2[1]:
            cause = (
                "gain or readout noise are not those stated, or the shapes are not exact enough for so many counts"
                if self.median_chi2 > 1
                else "the fit is too good: gain, exposure or point spread are not those stated"
            )
            found.append(f"The median reduced chi² is {self.median_chi2:.2f}: {cause}.")
        if self.p_value < LEAST_PROBABLE and self.structure > STRUCTURE:
            found.append(
                f"Summed over pixels, the residual has structure: {100 * self.structure:.1f} % of the edges "
                f"({p_value_text(self.p_value)}). A phase that is not among the references, an energy shift, or a "
                "background that does not fit."
            )
        return tuple(found)
