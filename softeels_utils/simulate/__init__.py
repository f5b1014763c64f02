"""The digital twin: specimens, chosen or drawn, their projections, and the dual EELS that a microscope would record."""

from .detector import Detector
from .draw import SpecimenDraw, draw_specimen
from .projections import project_fine
from .recording import dual_eels
from .specimen import core_shell_nanocube
from .spectrum import COMPONENTS, Microscope, SpectrumModel, spectrum_model

__all__ = [
    "COMPONENTS",
    "Detector",
    "Microscope",
    "SpecimenDraw",
    "SpectrumModel",
    "core_shell_nanocube",
    "draw_specimen",
    "dual_eels",
    "project_fine",
    "spectrum_model",
]
