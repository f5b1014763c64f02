"""Parallel-beam tomography: a measurement, the projector, reconstruction algorithms, alignment.

`Measurement` holds what was measured, with its errors; `fbp`, `sirt`, `cgls`, `tv`, `joint_tv` and `tgv` reconstruct it
and return a `Reconstruction`; `reconstruct` does both for plain arrays. `parameter_bound` says how precisely any method
can know the parameters of a volume.
"""

from .alignment import Alignment, align, alignment_error, bin_images, refine_alignment, shift_projections
from .bound import Bound, detectability, fluence_factor, functional_bound, parameter_bound, visibility
from .cgls import cgls
from .checkpoint import Checkpoint
from .constraint import FREE, NONNEGATIVE, SIMPLEX, Constraint
from .covariance import estimate_covariance
from .fbp import fbp
from .field_of_view import FieldOfView, leaves_field
from .geometry import Geometry, refine_geometry
from .interfaces import Surface, disc, displacements, extract_surface, phase_volumes
from .iterate import Loop, Reconstruction
from .losses import GaussianLoss, PoissonLoss
from .measurement import Measurement
from .projector import ParallelBeam
from .reconstruct import ALGORITHMS, reconstruct
from .scale import learn_scale
from .sirt import sirt
from .stopping import Change, Discrepancy, Gap, HeldOut, IterationInfo, StopRule
from .total_variation import joint_variation, variation
from .tv import joint_tv, noise_weight, short_sirt, tgv, tv

__all__ = [
    "ALGORITHMS",
    "FREE",
    "NONNEGATIVE",
    "SIMPLEX",
    "Alignment",
    "Bound",
    "Change",
    "Checkpoint",
    "Constraint",
    "Discrepancy",
    "FieldOfView",
    "Gap",
    "GaussianLoss",
    "Geometry",
    "HeldOut",
    "IterationInfo",
    "Loop",
    "Measurement",
    "ParallelBeam",
    "PoissonLoss",
    "Reconstruction",
    "StopRule",
    "Surface",
    "align",
    "alignment_error",
    "bin_images",
    "cgls",
    "detectability",
    "disc",
    "displacements",
    "estimate_covariance",
    "extract_surface",
    "fbp",
    "fluence_factor",
    "functional_bound",
    "joint_tv",
    "joint_variation",
    "learn_scale",
    "leaves_field",
    "noise_weight",
    "parameter_bound",
    "phase_volumes",
    "reconstruct",
    "refine_alignment",
    "refine_geometry",
    "shift_projections",
    "short_sirt",
    "sirt",
    "tgv",
    "tv",
    "variation",
    "visibility",
]
