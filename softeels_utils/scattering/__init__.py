"""Inelastic scattering of fast electrons: materials, edges, cross-sections, mean free paths, near-edge structure.

The ground floor: nothing here knows of a simulator, a fit or a reconstruction.
"""

from .checks import check_not_negative, check_positive, check_window
from .cross_sections import differential_cross_section, hydrogenic_cross_section, partial_cross_section
from .edges import ONSET_EV, WINDOW_EV, arctangent_step, onset
from .kinematics import (
    ELECTRON_REST_EV,
    angular_factor,
    characteristic_angle,
    effective_energy_eV,
    lorentz_factor,
)
from .materials import IRON_PER_NM3, MATERIALS, PHASES, Material
from .mean_free_path import delocalisation_nm, inelastic_mean_free_path
from .microscope import microscope_from_metadata
from .near_edge import M1_FRACTION, M1_ONSET_EV, multiplets, near_edge_oscillator_strength
from .oscillator_strengths import edge_oscillator_strength, oscillator_strength

__all__ = [
    "ELECTRON_REST_EV",
    "IRON_PER_NM3",
    "M1_FRACTION",
    "M1_ONSET_EV",
    "MATERIALS",
    "ONSET_EV",
    "PHASES",
    "WINDOW_EV",
    "Material",
    "angular_factor",
    "arctangent_step",
    "characteristic_angle",
    "check_not_negative",
    "check_positive",
    "check_window",
    "delocalisation_nm",
    "differential_cross_section",
    "edge_oscillator_strength",
    "effective_energy_eV",
    "hydrogenic_cross_section",
    "inelastic_mean_free_path",
    "lorentz_factor",
    "microscope_from_metadata",
    "multiplets",
    "near_edge_oscillator_strength",
    "onset",
    "oscillator_strength",
    "partial_cross_section",
]
