"""Inelastic scattering of fast electrons: materials, cross-sections, mean free paths, near-edge tables.

The ground floor: nothing here knows of a simulator, a fit or a reconstruction.
"""

from .cross_sections import (
    BARN_NM2,
    BOHR_NM,
    ELECTRON_REST_EV,
    ONSET_EV,
    RYDBERG_EV,
    angular_factor,
    characteristic_angle,
    differential_cross_section,
    edge_oscillator_strength,
    electron,
    onset,
    oscillator_strength,
)
from .materials import IRON_PER_NM3, MATERIALS, PHASES, Material
from .mean_free_path import delocalisation_nm, inelastic_mean_free_path
from .microscope import microscope_from_metadata
from .near_edge import M1_FRACTION, M1_ONSET_EV, WINDOW_EV, multiplets, near_edge

__all__ = [
    "BARN_NM2",
    "BOHR_NM",
    "ELECTRON_REST_EV",
    "IRON_PER_NM3",
    "M1_FRACTION",
    "M1_ONSET_EV",
    "MATERIALS",
    "ONSET_EV",
    "PHASES",
    "RYDBERG_EV",
    "WINDOW_EV",
    "Material",
    "angular_factor",
    "characteristic_angle",
    "delocalisation_nm",
    "differential_cross_section",
    "edge_oscillator_strength",
    "electron",
    "inelastic_mean_free_path",
    "microscope_from_metadata",
    "multiplets",
    "near_edge",
    "onset",
    "oscillator_strength",
]
