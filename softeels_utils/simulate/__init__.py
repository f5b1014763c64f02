"""The digital twin: core-shell nanocubes and the dual EELS that a microscope would record of them."""

from .detector import Detector
from .recording import dual_eels
from .specimen import core_shell_nanocube
from .spectrum import COMPONENTS, Microscope, SpectrumModel, spectrum_model

__all__ = [
    "COMPONENTS",
    "Detector",
    "Microscope",
    "SpectrumModel",
    "core_shell_nanocube",
    "dual_eels",
    "spectrum_model",
]
