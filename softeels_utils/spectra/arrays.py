"""Containers, energy axes and units: the same functions for arrays, Dask arrays and HyperSpy signals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import LARGEST, check_text, describe, finite_array, real_array
from ..doors import checked

__all__ = [
    "EV_PER",
    "FWHM_PER_SIGMA",
    "NM_PER",
    "check_spectra",
    "data_of",
    "energy_axis",
    "in_window",
    "is_dask",
    "is_signal",
    "step_nm",
    "window_mask",
    "with_data",
]

#: Full width at half maximum of a Gaussian, in standard deviations.
FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))

#: Units of length, in nm.
NM_PER = {"nm": 1.0, "µm": 1e3, "um": 1e3, "μm": 1e3, "Å": 0.1, "A": 0.1, "pm": 1e-3, "m": 1e9}

#: Units of energy, in eV.
EV_PER = {"eV": 1.0, "keV": 1e3, "meV": 1e-3}


def is_signal(x: Any) -> bool:
    """True for a HyperSpy signal."""
    return hasattr(x, "axes_manager") and hasattr(x, "metadata")


def is_dask(x: Any) -> bool:
    """True for a Dask array."""
    return hasattr(x, "dask")


@checked
def data_of(x: Any) -> Any:
    """The array (NumPy or Dask) of a signal, an array or a sequence."""
    found = x.data if is_signal(x) else x if is_dask(x) else np.asarray(x)
    if found.dtype.kind not in "fiub":
        raise ValueError(f"x: got {describe(x)}, wants an array of real numbers, or a signal")
    return found


@checked
def with_data(container: Any, data: Any) -> Any:
    """``data`` as a signal with the axes and metadata of ``container`` if that is a signal; otherwise unchanged."""
    if not hasattr(data, "dtype"):
        raise ValueError(f"data: got {describe(data)}, wants an array")
    if not is_signal(container):
        if not np.ndim(container):
            raise ValueError(f"container: got {describe(container)}, wants spectra (..., E)")
        return data
    if np.ndim(data) != container.data.ndim:
        raise ValueError(f"data: got shape {np.shape(data)}, wants as many axes as those of {container.data.shape}")
    return container._deepcopy_with_new_data(data)


def check_spectra(spectra: Any, name: str = "spectra") -> Any:
    """The spectra as they came; ValueError unless they are real numbers (single pixels may be NaN).

    Parameters
    ----------
    spectra : (..., E) array, Dask array or HyperSpy signal
    name : str
        What error messages call them.
    """
    if is_signal(spectra) or is_dask(spectra):
        dtype = (spectra.data if is_signal(spectra) else spectra).dtype
        if dtype.kind not in "fiu":
            raise ValueError(f"{name}: got {dtype}, wants real numbers")
        return spectra
    array = real_array(spectra, name, finite=False)
    if not array.ndim:
        raise ValueError(f"{name}: got {describe(spectra)}, wants spectra (..., E)")
    if array.size and max(np.fmax.reduce(array, axis=None), -np.fmin.reduce(array, axis=None)) > LARGEST:
        real_array(array[np.isfinite(array)], name)
    return spectra


@checked
def energy_axis(
    spectra: Any, energy_eV: ArrayLike | None = None, name: str = "energy_eV", of: str = "spectra"
) -> NDArray[np.float64]:
    """Energy of each channel in eV: from the signal itself, by its unit, or ``energy_eV`` checked against the data.

    Parameters
    ----------
    spectra : (..., E) array, Dask array or HyperSpy signal
    energy_eV : (E,), optional
        May be None for a signal.
    name, of : str
        What error messages call the energies and the spectra.

    Returns
    -------
    ndarray (E,), float64, increasing and evenly spaced.

    Raises
    ------
    ValueError
        If the spectra are not real numbers, an array comes without energies, the unit of a signal's axis is not an
        energy or not stated, the energies are not 1-D, finite, increasing and evenly spaced, or their number is not the
        length of the last axis (a sign of a wrong axis order).

    Examples
    --------
    >>> energy_axis(np.zeros((2, 4)), [40, 40.5, 41, 41.5])
    array([40. , 40.5, 41. , 41.5])
    >>> energy_axis(np.zeros((4, 2)), [40, 40.5, 41, 41.5])
    Traceback (most recent call last):
    ValueError: energy_eV: got 4 energies for spectra of shape (4, 2), wants energy as their last axis
    """
    check_text(name, "name")
    check_spectra(spectra, check_text(of, "of"))
    if is_signal(spectra):
        axes = spectra.axes_manager.signal_axes
        if len(axes) != 1:
            raise ValueError(f"{of}: got {len(axes)} signal axes, wants one (energy)")
        energy_eV = _energies_of(axes[0], of) if energy_eV is None else energy_eV
        spectra = spectra.data
    if energy_eV is None:
        raise ValueError(f"{name}: got None, wants energies where {of} is a plain array")
    energy = finite_array(energy_eV, name)
    if energy.ndim != 1 or energy.size < 3:
        raise ValueError(f"{name}: got shape {energy.shape}, wants at least 3 energies in one dimension")
    step = np.diff(energy)
    if step.min() <= 0 or np.ptp(step) > 1e-3 * step.mean():
        raise ValueError(f"{name}: got steps of {step.min():.4g} to {step.max():.4g}, wants to increase in even steps")
    shape = np.shape(spectra)
    if len(shape) == 0 or shape[-1] != energy.size:
        raise ValueError(
            f"{name}: got {energy.size} energies for {of} of shape {shape}, wants energy as their last axis"
        )
    return energy


def _energies_of(axis, of):
    """Energies of a HyperSpy axis in eV."""
    unit = str(axis.units)
    if unit not in EV_PER:
        raise ValueError(f"{of}: got an energy axis in {unit}, wants eV, keV or meV: set the unit of the signal's axis")
    return axis.axis if unit == "eV" else axis.axis * EV_PER[unit]


@checked
def in_window(energy_eV: NDArray, window_eV: tuple[float, float]) -> NDArray[np.bool_]:
    """Which energies (any shape) lie inside a window, both ends included; `window_mask` checks the window, too."""
    low, high = window_eV
    return (energy_eV >= low) & (energy_eV <= high)


@checked
def window_mask(energy: NDArray, window_eV: tuple[float, float], name: str = "window_eV") -> NDArray[np.bool_]:
    """Which channels lie inside an energy window, both ends included.

    Parameters
    ----------
    energy : (E,)
    window_eV : (float, float)
    name : str
        What error messages call the window.

    Returns
    -------
    bool array (E,)

    Raises
    ------
    ValueError
        If the window is not an increasing pair, or extends more than one channel beyond the energies.
    """
    check_text(name, "name")
    energy, window = finite_array(energy, "energy"), finite_array(window_eV, name)
    if energy.ndim != 1 or energy.size < 2:
        raise ValueError(f"energy: got shape {energy.shape}, wants at least 2 energies in one dimension")
    if window.shape != (2,):
        raise ValueError(f"{name}: got {describe(window_eV)}, wants a pair (low, high) in eV")
    low, high = (float(v) for v in window)
    step = energy[1] - energy[0]
    if not low < high:
        raise ValueError(f"{name}: got ({low:g}, {high:g}), wants them to increase")
    if low < energy[0] - step or high > energy[-1] + step:
        raise ValueError(
            f"{name}: got ({low:g}, {high:g}), not covered by the energy axis, "
            f"wants a window within {energy[0]:g} to {energy[-1]:g} eV"
        )
    return in_window(energy, (low, high))


@checked
def step_nm(axis: Any) -> float | None:
    """Step of a HyperSpy axis in nm; None where its unit is not a length."""
    if not (hasattr(axis, "scale") and hasattr(axis, "units")):
        raise ValueError(f"axis: got {describe(axis)}, wants an even axis of a HyperSpy signal")
    return float(axis.scale) * NM_PER[str(axis.units)] if str(axis.units) in NM_PER else None
