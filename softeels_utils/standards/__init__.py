"""Reference spectra (standards) of FeO and Fe3O4, found in the specimen itself through O-K and Fe-L2,3.

`extract_standards` is the way through; what it is made of is public, too: white-line analysis, atoms counted in the
core loss, and the settling of the rotation of a two-component unmixing.
"""

from .coreloss import core_loss_estimators, edge_cross_section
from .extract import (
    IRON_PER_NM3,
    PHASES,
    Standards,
    extract_standards,
    load,
    rotated_references,
    save,
)
from .measured import EdgePair, L23Comparison, compare_l23, pair_edges
from .prepare import prepare_dual_eels
from .unmixing import (
    CONSTRAINTS,
    ConstraintUncertainty,
    Plane,
    Rotation,
    errors_in_variables_regression,
    estimate_range,
    estimate_rotation,
    find_plane,
    reference_from_abundances,
)
from .whitelines import Match, WhiteLines, broaden, match_spectrum, spectral_angle_deg, white_lines

__all__ = [
    "CONSTRAINTS",
    "IRON_PER_NM3",
    "PHASES",
    "ConstraintUncertainty",
    "EdgePair",
    "L23Comparison",
    "Match",
    "Plane",
    "Rotation",
    "Standards",
    "WhiteLines",
    "broaden",
    "compare_l23",
    "core_loss_estimators",
    "edge_cross_section",
    "errors_in_variables_regression",
    "estimate_range",
    "estimate_rotation",
    "extract_standards",
    "find_plane",
    "load",
    "match_spectrum",
    "pair_edges",
    "prepare_dual_eels",
    "reference_from_abundances",
    "rotated_references",
    "save",
    "spectral_angle_deg",
    "white_lines",
]
