"""The digital twin: core-shell nanocubes and the dual EELS that a microscope would record of them."""

from . import scattering
from .microscope import Detector, Microscope, SpectrumModel, dual_eels, spectrum_model
from .specimen import PHASES, core_shell_nanocube

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
