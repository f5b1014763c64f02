"""Reference spectra (standards) of phases: found in the specimen itself through O-K and L2,3, or from outside.

`extract_standards` does all of it. Its parts are public, too: white-line analysis, atoms counted in the core loss, and
the constraints that determine the rotation of a two-component unmixing.
"""

from .constraints import (
    CONSTRAINTS,
    Chemistry,
    Constraint,
    Evidence,
    LeadingEdge,
    LeadingEdgeWindow,
    OxygenCount,
    OxygenRatio,
    PixelRange,
    PureRim,
    select_constraints,
)
from .coreloss import CoreLossEstimators, core_loss_estimators, edge_cross_section, find_l3, oxygen_to_l3
from .extract import extract_standards, valence_blur_nm
from .line import MetalLine, estimate_range, neighbours, outermost_phase
from .measured import EdgePair, L23Comparison, compare_l23, pair_edges
from .other import OtherMatter, SurplusLosses, find_other_matter
from .outside import standards_from_roi, standards_from_spectra
from .pair import PhasePair
from .plane import Plane, errors_in_variables_regression, find_plane, reference_from_abundances
from .prepare import DualEELS, Specimen, find_specimen, prepare_dual_eels, stated_exposure_ratio
from .ratio import metal_per_oxygen
from .recordings import ValenceGroups, check_dual_eels, group_by_valence
from .result import Diagnostics, Standards
from .rotation import Rotation, counted_metal, estimate_rotation, rotated_references
from .subshells import subshell_oscillator_strength
from .whitelines import Match, WhiteLines, broaden, match_spectrum, spectral_angle_deg, white_lines

__all__ = [
    "CONSTRAINTS",
    "Chemistry",
    "Constraint",
    "CoreLossEstimators",
    "Diagnostics",
    "DualEELS",
    "EdgePair",
    "Evidence",
    "L23Comparison",
    "LeadingEdge",
    "LeadingEdgeWindow",
    "Match",
    "MetalLine",
    "OtherMatter",
    "OxygenCount",
    "OxygenRatio",
    "PhasePair",
    "PixelRange",
    "Plane",
    "PureRim",
    "Rotation",
    "Specimen",
    "Standards",
    "SurplusLosses",
    "ValenceGroups",
    "WhiteLines",
    "broaden",
    "check_dual_eels",
    "compare_l23",
    "core_loss_estimators",
    "counted_metal",
    "edge_cross_section",
    "errors_in_variables_regression",
    "estimate_range",
    "estimate_rotation",
    "extract_standards",
    "find_l3",
    "find_other_matter",
    "find_plane",
    "find_specimen",
    "group_by_valence",
    "match_spectrum",
    "metal_per_oxygen",
    "neighbours",
    "outermost_phase",
    "oxygen_to_l3",
    "pair_edges",
    "prepare_dual_eels",
    "reference_from_abundances",
    "rotated_references",
    "select_constraints",
    "spectral_angle_deg",
    "standards_from_roi",
    "standards_from_spectra",
    "stated_exposure_ratio",
    "subshell_oscillator_strength",
    "valence_blur_nm",
    "white_lines",
]
