"""Inelastic scattering of fast electrons: phases, systems, edges, cross-sections, mean free paths, near-edge structure.

The lowest layer: nothing here depends on a simulator, a fit or a reconstruction.
"""

from ..checks import check_not_negative, check_positive, check_window
from .cross_sections import differential_cross_section, hydrogenic_cross_section, partial_cross_section
from .edges import ONSET_EV, arctangent_step, onset
from .kinematics import (
    ELECTRON_REST_EV,
    angular_factor,
    characteristic_angle,
    collected_fraction,
    effective_energy_eV,
    lorentz_factor,
)
from .mean_free_path import delocalisation_nm, inelastic_mean_free_path
from .microscope import complete_microscope, microscope_from_metadata
from .near_edge import m1_oscillator_strength, near_edge_oscillator_strength
from .oscillator_strengths import edge_oscillator_strength, oscillator_strength
from .system import Edge, EdgeChange, Ion, Phase, System
from .system_file import as_system, load_system, system_names

__all__ = [
    "ELECTRON_REST_EV",
    "ONSET_EV",
    "Edge",
    "EdgeChange",
    "Ion",
    "Phase",
    "System",
    "angular_factor",
    "arctangent_step",
    "as_system",
    "characteristic_angle",
    "check_not_negative",
    "check_positive",
    "check_window",
    "collected_fraction",
    "complete_microscope",
    "delocalisation_nm",
    "differential_cross_section",
    "edge_oscillator_strength",
    "effective_energy_eV",
    "hydrogenic_cross_section",
    "inelastic_mean_free_path",
    "load_system",
    "lorentz_factor",
    "m1_oscillator_strength",
    "microscope_from_metadata",
    "near_edge_oscillator_strength",
    "onset",
    "oscillator_strength",
    "partial_cross_section",
    "system_names",
]
