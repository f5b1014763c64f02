"""What a fit gives back."""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass, field, replace

import numpy as np

from ..spectra.arrays import is_dask


class FitFlag(enum.IntFlag):
    """What is to be known of a pixel; flags add up."""

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
        What the fitted spectrum holds beside its shapes: repeated losses; None where each of several pixels had its
        own.
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
    def standard_error(self):
        """Standard deviation of each coefficient, (..., K)."""
        return np.sqrt(np.einsum("...kk->...k", self.covariance))

    @property
    def correlation(self):
        """Correlation matrix of the coefficients, (..., K, K)."""
        error = self.standard_error
        return self.covariance / (error[..., :, None] * error[..., None, :])

    def curves(self):
        """Fitted spectra and their background part, two arrays (..., E'); not for a `low_loss` per pixel."""
        if self.shapes is None:
            raise ValueError("curves need one set of shapes, but every pixel was fitted with its own low_loss")
        k = self.coefficients.shape[-1]
        background = self.background @ self.shapes[k:] + self.fixed
        amplitudes = self.coefficients * np.asarray(self.electrons)[..., None]
        return amplitudes @ self.shapes[:k] + background, background

    def compute(self):
        """The same result with Dask arrays computed, in one pass over the spectra."""
        import dask

        names = ("coefficients", "covariance", "reduced_chi2", "residual_rms", "flags", "background")
        return replace(self, **dict(zip(names, dask.compute(*(getattr(self, n) for n in names)), strict=True)))

    def save(self, path, *, progress=None):
        """Write coefficients, covariance, background, chi², residual and flags as one HyperSpy signal.

        Lazy results are computed and written chunk by chunk where the format allows (``.zspy``, ``.hspy``), so a
        series larger than the memory can be fitted straight to disk. `load` reads it back. ``progress``: show a bar
        for lazy results (default: unless ``SOFTEELS_HEADLESS`` is set).
        """
        import hyperspy.api as hs

        k, p = self.coefficients.shape[-1], self.background.shape[-1]
        join = np.concatenate
        if is_dask(self.coefficients):
            import dask.array as da

            join = da.concatenate
        lead = self.flags.shape
        packed = join(
            [
                self.coefficients,
                self.covariance.reshape(*lead, k * k),
                self.background,
                self.reduced_chi2[..., None],
                self.residual_rms[..., None],
                self.flags[..., None].astype(float),
            ],
            axis=-1,
        )
        signal = hs.signals.BaseSignal(packed if lead else packed[None])
        signal = signal.transpose(signal_axes=1)
        if is_dask(packed):
            signal = signal.as_lazy()
        signal.metadata.set_item("SoftEELS.fit", {"phases": k, "background": p, "energy_eV": self.energy_eV.tolist()})
        bar = os.environ.get("SOFTEELS_HEADLESS") != "1" if progress is None else progress
        signal.save(path, overwrite=True, **({"show_progressbar": bar} if is_dask(packed) else {}))

    @classmethod
    def load(cls, path, lazy=False):
        """Read what `save` wrote."""
        import hyperspy.api as hs

        signal = hs.load(path, lazy=lazy)
        about = signal.metadata.SoftEELS.fit
        return unpack(signal.data, about.phases, about.background, energy_eV=np.asarray(about.energy_eV))


def unpack(packed, k, p, **more):
    parts = np.cumsum([0, k, k * k, p])
    a, b, c, d = parts
    return PhaseFit(
        coefficients=packed[..., a:b],
        covariance=packed[..., b:c].reshape(*packed.shape[:-1], k, k),
        background=packed[..., c:d],
        reduced_chi2=packed[..., d],
        residual_rms=packed[..., d + 1],
        flags=packed[..., d + 2].astype(np.uint8),
        **more,
    )
