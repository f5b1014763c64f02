"""The result of a fit, and how it is saved."""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..progress import headless
from ..spectra.arrays import is_dask

__all__ = ["FitFlag", "PhaseFit", "pack", "packed_size", "unpack"]


class FitFlag(enum.IntFlag):
    """What may be wrong with the fit of a pixel; flags add up."""

    OK = 0
    BAD_INPUT = 1  #: NaN, infinite or non-positive variance in the window: result NaN
    AT_BOUND = 2  #: a phase is at its bound of zero
    FEW_COUNTS = 4  #: fewer than ten counts per free amplitude: the error bars are rough
    POOR_FIT = 8  #: reduced chi² more than five of its standard deviations above 1
    NOT_CONVERGED = 16  #: the weights still moved by more than the tolerance


@dataclass(frozen=True)
class PhaseFit:
    """Result of `fit_phases`. Arrays are NumPy, or Dask where the spectra were lazy (`compute` makes them NumPy).

    Attributes
    ----------
    coefficients : (..., K)
        Amplitude of each reference: in nm, where references are per electron and per nm and the electrons are
        given (``electrons=`` or a ``low_loss`` in counts).
    covariance : (..., K, K)
        Covariance of the unconstrained estimate, background amplitudes free: the inverse Fisher information. Near a
        bound (`FitFlag.AT_BOUND`) the non-negative estimate itself scatters less.
    reduced_chi2, residual_rms : (...)
        Σ (y - fit)²/variance over degrees of freedom; root of the mean of (y - fit)², in counts.
    flags : (...), uint8
        Sums of `FitFlag`.
    background : (..., P)
        Amplitudes of the background shapes; per electron of a `low_loss` that serves them.
    energy_eV : (E',)
        Energies that were fitted.
    shapes : (K + P, E') or None
        References and background shapes as they were fitted; None where each of several pixels had its own
        (``low_loss``).
    fixed : float, (E',) or None
        Counts that the model holds besides its shapes: repeated losses; None where each of several pixels had its
        own.
    electrons : float or (...)
        By which the fitted amplitudes were divided.
    """

    coefficients: np.ndarray
    covariance: np.ndarray
    reduced_chi2: np.ndarray
    residual_rms: np.ndarray
    flags: np.ndarray
    background: np.ndarray
    energy_eV: np.ndarray
    shapes: np.ndarray | None = field(repr=False, default=None)
    fixed: float | np.ndarray | None = field(repr=False, default=0.0)
    electrons: float | np.ndarray = field(repr=False, default=1.0)

    @property
    def standard_error(self) -> np.ndarray:
        """Standard deviation of each coefficient, (..., K)."""
        return np.sqrt(np.einsum("...kk->...k", self.covariance))

    @property
    def correlation(self) -> np.ndarray:
        """Correlation matrix of the coefficients, (..., K, K)."""
        error = self.standard_error
        return self.covariance / (error[..., :, None] * error[..., None, :])

    def curves(self) -> tuple[np.ndarray, np.ndarray]:
        """Fitted spectra and their background, two arrays (..., E').

        Raises
        ------
        ValueError
            If every pixel was fitted with the shapes of its own ``low_loss``.
        """
        if self.shapes is None:
            raise ValueError("shapes: got those of each pixel's own low_loss, wants one set for all: fit one pixel")
        k = self.coefficients.shape[-1]
        background = self.background @ self.shapes[k:] + self.fixed
        amplitudes = self.coefficients * np.asarray(self.electrons)[..., None]
        return amplitudes @ self.shapes[:k] + background, background

    def compute(self) -> PhaseFit:
        """The same result with Dask arrays computed, in one pass over the spectra."""
        import dask

        names = ("coefficients", "covariance", "reduced_chi2", "residual_rms", "flags", "background")
        return replace(self, **dict(zip(names, dask.compute(*(getattr(self, n) for n in names)), strict=True)))

    def save(self, path: str | os.PathLike, *, progress: bool | None = None) -> None:
        """Write coefficients, covariance, background, chi², residual and flags as one HyperSpy signal.

        Lazy results are computed and written chunk by chunk where the format allows (``.zspy``, ``.hspy``), so a
        series larger than the memory can be fitted straight to disk. `load` reads it back.

        Parameters
        ----------
        path : path
        progress : bool, optional
            Show a progress bar for lazy results; by default unless `progress.headless`.
        """
        import hyperspy.api as hs

        lazy = is_dask(self.coefficients)
        packed = pack(
            self.coefficients, self.covariance, self.background, self.reduced_chi2, self.residual_rms, self.flags
        )
        signal = hs.signals.BaseSignal(packed if packed.ndim > 1 else packed[None]).transpose(signal_axes=1)
        about = {
            "phases": self.coefficients.shape[-1],
            "background": self.background.shape[-1],
            "energy_eV": self.energy_eV.tolist(),
        }
        signal.metadata.set_item("SoftEELS.fit", about)
        options = {"show_progressbar": not headless() if progress is None else progress} if lazy else {}
        (signal.as_lazy() if lazy else signal).save(path, overwrite=True, **options)

    @classmethod
    def load(cls, path: str | os.PathLike, lazy: bool = False) -> PhaseFit:
        """Read what `save` wrote."""
        import hyperspy.api as hs

        signal = hs.load(path, lazy=lazy)
        about = signal.metadata.SoftEELS.fit
        return unpack(signal.data, about.phases, about.background, energy_eV=np.asarray(about.energy_eV))


def packed_size(n_references: int, n_background: int) -> int:
    """Numbers per pixel of packed results."""
    return n_references + n_references**2 + n_background + 3


def pack(coefficients: Any, covariance: Any, background: Any, reduced_chi2: Any, residual_rms: Any, flags: Any) -> Any:
    """The results of each pixel in one row, (..., size), in the order of the arguments; `unpack` takes them apart."""
    join = np.concatenate
    if is_dask(coefficients):
        import dask.array as da

        join = da.concatenate
    rows = (coefficients, covariance.reshape(*covariance.shape[:-2], -1), background)
    return join([*rows, *(x[..., None] for x in (reduced_chi2, residual_rms, flags.astype(float)))], axis=-1)


def unpack(packed: Any, n_references: int, n_background: int, **more: Any) -> PhaseFit:
    """The fit of packed results (..., size); ``more``: further fields of `PhaseFit`."""
    a, b = n_references, n_references + n_references**2
    c = b + n_background
    return PhaseFit(
        coefficients=packed[..., :a],
        covariance=packed[..., a:b].reshape(*packed.shape[:-1], n_references, n_references),
        background=packed[..., b:c],
        reduced_chi2=packed[..., c],
        residual_rms=packed[..., c + 1],
        flags=packed[..., c + 2].astype(np.uint8),
        **more,
    )
