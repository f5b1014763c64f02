"""Thickness from the low loss, which no reference of a phase enters: a check of what a fit adds up to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..checks import check_not_negative, check_positive
from ..doors import checked
from ..spectra import data_of, energy_axis, zero_loss
from .result import Estimate

__all__ = ["thickness_map"]


@checked
def thickness_map(
    low_loss: Any,
    energy_eV: ArrayLike | None = None,
    *,
    mean_free_path_nm: float | None = None,
    mean_free_path_error: float = 0.1,
    gain: float = 1.0,
    split_eV: float | None = None,
) -> Estimate:
    """Thickness of every pixel by the log-ratio, t = λ ln(N / N₀), with its errors.

    N counts all electrons of the low loss, N₀ those of the zero-loss peak (`spectra.relative_thickness`; R. F. Egerton,
    *Electron Energy-Loss Spectroscopy in the Electron Microscope*, 3rd ed. (2011), eq. 5.1). With Poisson counts the
    variance of the logarithm is ``gain (1/N₀ - 1/N)``. Electrons beyond the end of the axis are missing from N.

    Parameters
    ----------
    low_loss : (..., E), counts, zero loss at 0 eV (`spectra.align_zero_loss`)
    energy_eV : (E,), for plain arrays
    mean_free_path_nm : float, optional
        For all inelastic scattering into the aperture (`scattering.inelastic_mean_free_path`); by default the thickness
        is in mean free paths.
    mean_free_path_error : float
        Relative standard deviation of the mean free path: the systematic part of the error. 0.1 is that of
        `scattering.inelastic_mean_free_path`.
    gain : float
        Counts per electron.
    split_eV
        See `spectra.zero_loss`.

    Returns
    -------
    Estimate
        In nm; or in mean free paths, then without a systematic error. NaN where a pixel has no zero loss.

    Raises
    ------
    ValueError
        If the energies do not include the zero-loss peak, or a number is not positive.

    Examples
    --------
    >>> energy = np.arange(-5.0, 45.0)
    >>> counts = np.where(np.abs(energy) < 1, 6e3, np.where(energy > 10, 100.0, 0.0))
    >>> found = thickness_map(counts, energy, mean_free_path_nm=120.0)
    >>> [round(float(x), 1) for x in (found.value, found.statistical, found.systematic)]
    [53.9, 0.9, 5.4]
    """
    check_not_negative(mean_free_path_error=mean_free_path_error)
    check_positive(gain=gain)
    if mean_free_path_nm is not None:
        check_positive(mean_free_path_nm=mean_free_path_nm)
    energy = energy_axis(low_loss, energy_eV, of="low_loss")
    total = np.asarray(data_of(low_loss), float).sum(-1)
    direct = np.asarray(data_of(zero_loss(low_loss, energy, split_eV=split_eV))).sum(-1)
    lit = np.isfinite(total) & (direct > 0)
    total, direct = (np.where(lit, counts, np.nan) for counts in (total, direct))
    paths = np.log(total / direct)
    error = np.sqrt(gain * np.maximum(1 / direct - 1 / total, 0))
    if mean_free_path_nm is None:
        return Estimate(paths, error, 0 * paths)
    return Estimate(
        mean_free_path_nm * paths, mean_free_path_nm * error, mean_free_path_error * mean_free_path_nm * np.abs(paths)
    )
