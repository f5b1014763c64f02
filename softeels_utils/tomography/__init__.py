"""Parallel-beam tomography: the projector, reconstruction algorithms, alignment."""

from .iterate import Look
from .projector import ParallelBeam
from .reconstruct import ALGORITHMS, Reconstruction, reconstruct
from .total_variation import variation

__all__ = ["ALGORITHMS", "Look", "ParallelBeam", "Reconstruction", "reconstruct", "variation"]
