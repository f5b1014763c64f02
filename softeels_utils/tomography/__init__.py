"""Parallel-beam tomography: a measurement, the projector, reconstruction algorithms, alignment.

`Measurement` holds what was measured and how sure it is; `fbp`, `sirt`, `cgls`, `tv` and `joint_tv` reconstruct it and
return a `Reconstruction`; `reconstruct` does both for plain arrays.
"""

from .alignment import Alignment, align, alignment_error, refine_alignment, shift_projections
from .cgls import cgls
from .checkpoint import Checkpoint
from .constraint import FREE, NONNEGATIVE, SIMPLEX, Constraint
from .covariance import estimate_covariance
from .fbp import fbp
from .field_of_view import FieldOfView, leaves_field
from .iterate import Loop, Reconstruction
from .losses import GaussianLoss, PoissonLoss
from .measurement import Measurement
from .projector import ParallelBeam
from .reconstruct import ALGORITHMS, reconstruct
from .scale import learn_scale
from .sirt import sirt
from .stopping import Change, Discrepancy, Gap, HeldOut, IterationInfo, StopRule
from .total_variation import joint_variation, variation
from .tv import joint_tv, noise_weight, short_sirt, tv

__all__ = [
    "ALGORITHMS",
    "FREE",
    "NONNEGATIVE",
    "SIMPLEX",
    "Alignment",
    "Change",
    "Checkpoint",
    "Constraint",
    "Discrepancy",
    "FieldOfView",
    "Gap",
    "GaussianLoss",
    "HeldOut",
    "IterationInfo",
    "Loop",
    "Measurement",
    "ParallelBeam",
    "PoissonLoss",
    "Reconstruction",
    "StopRule",
    "align",
    "alignment_error",
    "cgls",
    "estimate_covariance",
    "fbp",
    "joint_tv",
    "joint_variation",
    "learn_scale",
    "leaves_field",
    "noise_weight",
    "reconstruct",
    "refine_alignment",
    "shift_projections",
    "short_sirt",
    "sirt",
    "tv",
    "variation",
]
