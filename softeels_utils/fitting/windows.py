"""How far the result of a fit moves with its window: the part of the error that no error bar holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_mask, finite_array
from ..doors import checked
from ..spectra import data_of, energy_axis
from .fit import fit_phases

__all__ = ["WindowSweep", "sweep_windows"]


@checked(starts_eV="S", ends_eV="N", amounts="S N K", standard_error="S N K", reduced_chi2="S N")
@dataclass(frozen=True)
class WindowSweep:
    """Mean amount of each phase for every combination of start and end of the fit window, see `sweep_windows`.

    Attributes
    ----------
    starts_eV, ends_eV : (S,), (N,)
    amounts : (S, N, K)
        Mean coefficient of each reference over the pixels.
    standard_error : (S, N, K)
        Statistical standard deviation of that mean.
    reduced_chi2 : (S, N)
        Median over the pixels.
    phases : tuple of str
    """

    starts_eV: NDArray
    ends_eV: NDArray
    amounts: NDArray
    standard_error: NDArray
    reduced_chi2: NDArray
    phases: tuple[str, ...] = ()

    @property
    def spread(self) -> NDArray:
        """Largest minus smallest amount over all windows, (K,)."""
        return np.ptp(self.amounts, axis=(0, 1))


@checked
def sweep_windows(
    spectra: Any,
    energy_eV: ArrayLike | None = None,
    references: Any = None,
    *,
    starts_eV: ArrayLike,
    ends_eV: ArrayLike,
    mask: ArrayLike | None = None,
    **options: Any,
) -> WindowSweep:
    """Fit the same spectra in several windows.

    If the background and the references were exact, all windows would agree within the counting noise. Where they do
    not, the spread says how much the amounts depend on that choice.

    Parameters
    ----------
    spectra, energy_eV, references
        As for `fit_phases`.
    starts_eV, ends_eV : (S,), (N,)
        Starts and ends of the windows; every start is combined with every end. Starts should be below the onset of the
        edge.
    mask : bool (...), optional
        Pixels to average over; by default all. Those that cannot be fitted are left out.
    **options
        Further arguments of `fit_phases`, except ``window_eV``. Use ``nonnegative=False``: a bound biases means.

    Raises
    ------
    ValueError
        As for `fit_phases`; also for ends that are not 1-D, or a start that is not below every end.

    Examples
    --------
    >>> energy = np.linspace(40, 90, 201)
    >>> peak = np.exp(-0.5 * ((energy - 57) / 2) ** 2)
    >>> counts = np.tile(30 * peak + 500 * (energy / 50) ** -3.0, (4, 1))
    >>> sweep = sweep_windows(counts, energy, peak, starts_eV=[42, 45], ends_eV=[75, 85])
    >>> sweep.amounts.shape, sweep.spread.round(3)
    ((2, 2, 1), array([0.]))
    """
    if "window_eV" in options:
        raise ValueError(f"window_eV: got {options['window_eV']!r}, wants starts_eV and ends_eV in its place")
    starts, ends = (finite_array(x, name) for x, name in ((starts_eV, "starts_eV"), (ends_eV, "ends_eV")))
    if starts.ndim != 1 or ends.ndim != 1 or not starts.size or not ends.size or starts.max() >= ends.min():
        raise ValueError(
            f"starts_eV, ends_eV: got {starts.tolist()} and {ends.tolist()}, wants every start below all ends"
        )
    energy_axis(spectra, energy_eV)
    if mask is not None:
        mask = check_mask(mask, "mask", data_of(spectra).shape[:-1])
    fits = [
        fit_phases(spectra, energy_eV, references, window_eV=(low, high), **options) for low in starts for high in ends
    ]
    usable = [_usable(fit, mask) for fit in fits]
    summed = [fit.summed(chosen) for fit, chosen in zip(fits, usable, strict=True)]
    pixels = np.array([chosen.sum() for chosen in usable])
    grid = (starts.size, ends.size)
    return WindowSweep(
        starts_eV=starts,
        ends_eV=ends,
        amounts=(np.array([s.coefficients for s in summed]) / pixels[:, None]).reshape(*grid, -1),
        standard_error=(np.array([s.standard_error for s in summed]) / pixels[:, None]).reshape(*grid, -1),
        reduced_chi2=np.reshape(
            [np.median(f.reduced_chi2[chosen]) for f, chosen in zip(fits, usable, strict=True)], grid
        ),
        phases=fits[0].phases,
    )


def _usable(fit, mask):
    """Pixels of a fit that hold a result, and are asked for."""
    usable = np.isfinite(fit.coefficients).all(axis=-1)
    return usable if mask is None else usable & mask
