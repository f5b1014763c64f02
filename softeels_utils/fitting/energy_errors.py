"""Errors of the energy axis of each pixel as parameters of the fit: a shift and a broadening, linearised, bounded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["EnergyErrors"]

FARTHEST = 3.0  # standard deviations: beyond, the linear terms no longer hold


@dataclass(frozen=True)
class EnergyErrors:
    r"""Shift s and broadening b of the references in a pixel, each with a Gaussian prior.

    .. math:: R(E; s, b) \approx R(E) - s R'(E) + \tfrac b2 R''(E)

    Attributes
    ----------
    step_eV : float
        Width of a channel.
    shift_eV : float
        Standard deviation of s.
    broadening_eV : float
        Root of the standard deviation of b, which is a variance (negative: sharper than the references).
    """

    step_eV: float
    shift_eV: float = 0.0
    broadening_eV: float = 0.0

    @property
    def sigmas(self) -> NDArray[np.float64]:
        """Standard deviations of the parameters in use, eV and eV²; empty for none."""
        both = np.array([self.shift_eV, self.broadening_eV**2])
        return both[both > 0]

    def shapes(self, edges: NDArray) -> NDArray[np.float64]:
        """Change (n, J, E') of edges (n, E') with each parameter."""
        slope = np.gradient(edges, self.step_eV, axis=-1)
        terms = [-slope] if self.shift_eV else []
        if self.broadening_eV:
            terms.append(0.5 * np.gradient(slope, self.step_eV, axis=-1))
        return np.stack(terms, axis=1)

    def solve(
        self, projections: NDArray, curvature: NDArray, right: NDArray, covariance: NDArray
    ) -> tuple[NDArray, NDArray, NDArray]:
        """Parameters (n, J), and what they do to the amplitudes of the shapes: shift (n, Q), covariance (n, Q, Q).

        One step of Gauss and Newton, the amplitudes eliminated (Schur complement).

        Parameters
        ----------
        projections, curvature, right : (n, J, Q), (n, J, J), (n, J)
            Weighted products of what the parameters change (see `shapes`): with the shapes of the fit, with each other,
            and with the residual.
        covariance : (n, Q, Q)
            Of the amplitudes without these parameters.
        """
        moved = projections @ covariance
        precision = curvature - moved @ projections.transpose(0, 2, 1) + np.diag(self.sigmas**-2.0)
        found = np.linalg.solve(precision, right[..., None])[..., 0]
        found = np.clip(found, -FARTHEST * self.sigmas, FARTHEST * self.sigmas)
        more = moved.transpose(0, 2, 1) @ np.linalg.solve(precision, moved)
        return found, -np.einsum("nj,njq->nq", found, moved), more
