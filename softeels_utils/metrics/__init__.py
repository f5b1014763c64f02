"""Quality of a reconstruction: errors against a truth, agreement of halves of the data, positions of interfaces.

Volumes are ``(C, Y, Z, X)`` or one channel ``(Y, Z, X)``, Z along the beam at 0° (the direction of the missing wedge).
All functions raise `ValueError` for volumes of wrong or unequal shapes, or with NaN or inf. The error of something that
the specimen lacks (a core, a void, a skin, a corner) is NaN.
"""

from .errors import nrmse, phase_fraction_error, psnr, ssim
from .features import (
    CornerError,
    InventedPhase,
    SkinError,
    VoidError,
    corner_error,
    false_skin,
    false_void,
    film_about_voids,
    skin_error,
    void_errors,
)
from .fourier import (
    DirectionalResolution,
    FourierShellCorrelation,
    PowerSpectrumResolution,
    directional_resolution,
    fourier_shell_correlation,
    psd_resolution,
)
from .interfaces import InterfaceError, even_directions, interface_error
from .intervals import coverage
from .smoothing import best_smoothing

__all__ = [
    "CornerError",
    "DirectionalResolution",
    "FourierShellCorrelation",
    "InterfaceError",
    "InventedPhase",
    "PowerSpectrumResolution",
    "SkinError",
    "VoidError",
    "best_smoothing",
    "corner_error",
    "coverage",
    "directional_resolution",
    "even_directions",
    "false_skin",
    "false_void",
    "film_about_voids",
    "fourier_shell_correlation",
    "interface_error",
    "nrmse",
    "phase_fraction_error",
    "psd_resolution",
    "psnr",
    "skin_error",
    "ssim",
    "void_errors",
]
