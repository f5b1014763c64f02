"""The digital twin: core-shell nanocubes and the dual EELS that a microscope would record of them."""

from . import scattering
from .recording import Detector, dual_eels
from .specimen import PHASES, core_shell_nanocube
from .spectrum import Microscope, SpectrumModel, spectrum_model

__all__ = [
    "PHASES",
    "Detector",
    "Microscope",
    "SpectrumModel",
    "core_shell_nanocube",
    "dual_eels",
    "scattering",
    "spectrum_model",
]
