"""The digital twin: specimens and their chemistry, chosen or drawn, their projections, and the dual EELS of them that a
microscope would record."""

from .chemistry import CHEMISTRY_KINDS, ChemistryDraw, draw_chemistry
from .detector import Detector
from .draw import SpecimenDraw, draw_specimen
from .projections import project_fine
from .recording import dual_eels
from .specimen import core_shell_nanocube
from .spectrum import COMPONENTS, Microscope, SpectrumModel, spectrum_model

__all__ = [
    "CHEMISTRY_KINDS",
    "COMPONENTS",
    "ChemistryDraw",
    "Detector",
    "Microscope",
    "SpecimenDraw",
    "SpectrumModel",
    "core_shell_nanocube",
    "draw_chemistry",
    "draw_specimen",
    "dual_eels",
    "project_fine",
    "spectrum_model",
]
