"""Prepare EELS spectra for quantification: align, clean, subtract background, undo plural scattering.

Every function takes spectra `(..., E)`, energy last: a NumPy array (with ``energy_eV``), a Dask array, or a
HyperSpy signal, lazy or not (whose own energy axis is used), and returns the same kind. All of them work on
blocks of spectra (`map_spectra`); none loops over pixels.

The order in which dual EELS is usually prepared::

    low, core = align_zero_loss(low, core)
    low, core = remove_spikes(low), remove_spikes(core)
    ssd = fourier_log(low)                      # low loss, M edges: single-scattering distribution
    core = remove_background(core, window_eV=(650, 700))
    core = fourier_ratio(core, low)             # core loss, L and K edges

For quantification prefer `convolve_low_loss` on the references (or ``fit_phases(..., low_loss=...)``) to deconvolving
the data: the noise of the data then remains counting noise.
"""

from .align import align_zero_loss, shift_spectra, zero_loss_position
from .arrays import FWHM_PER_SIGMA, data_of, energy_axis, in_window, step_nm, window_mask, with_data
from .background import REGRESSION_MODELS, fit_background, remove_background
from .blocks import map_spectra
from .camera import cut_off_fraction, find_bad_channels, mend_channels
from .plural import convolve_low_loss, fourier_log, fourier_ratio, relative_thickness, repeated_losses, zero_loss
from .spikes import find_rare_spikes, find_spikes, noise_gain, remove_spikes

__all__ = [
    "FWHM_PER_SIGMA",
    "REGRESSION_MODELS",
    "align_zero_loss",
    "convolve_low_loss",
    "cut_off_fraction",
    "data_of",
    "energy_axis",
    "find_bad_channels",
    "find_rare_spikes",
    "find_spikes",
    "fit_background",
    "fourier_log",
    "fourier_ratio",
    "in_window",
    "map_spectra",
    "mend_channels",
    "noise_gain",
    "relative_thickness",
    "remove_background",
    "remove_spikes",
    "repeated_losses",
    "shift_spectra",
    "step_nm",
    "window_mask",
    "with_data",
    "zero_loss",
    "zero_loss_position",
]
