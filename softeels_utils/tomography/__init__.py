"""Parallel-beam tomography: the projector, reconstruction algorithms, alignment."""

from .projector import ParallelBeam

__all__ = ["ParallelBeam"]
