"""Parallel-beam tomography: the projector, reconstruction algorithms, alignment."""

from .alignment import Alignment, align, alignment_error, refine_alignment, shift_projections
from .iterate import Look
from .projector import ParallelBeam
from .reconstruct import ALGORITHMS, Reconstruction, reconstruct
from .total_variation import variation

__all__ = [
    "ALGORITHMS",
    "Alignment",
    "Look",
    "ParallelBeam",
    "Reconstruction",
    "align",
    "alignment_error",
    "reconstruct",
    "refine_alignment",
    "shift_projections",
    "variation",
]
