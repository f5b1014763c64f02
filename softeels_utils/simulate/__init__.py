"""The digital twin: core-shell nanocubes and the dual EELS that a microscope would record of them."""

from ..scattering import PHASES
from .recording import Detector, dual_eels
from .specimen import core_shell_nanocube
from .spectrum import Microscope, SpectrumModel, spectrum_model

__all__ = [
    "PHASES",
    "Detector",
    "Microscope",
    "SpectrumModel",
    "core_shell_nanocube",
    "dual_eels",
    "spectrum_model",
]
