"""Specimens and tilt series that many tests share, made on a grid twice as fine: no test is an inverse crime."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from softeels_utils.simulate import core_shell_nanocube
from softeels_utils.study import project_fine

TILTS = np.linspace(-70, 70, 9)


class SimulatedSeries(NamedTuple):
    """A truth (2, Y, Z, X), its noisy projections (2, T, Y, X), and the covariance (2, 2) of their noise."""

    truth: np.ndarray
    projections: np.ndarray
    covariance: np.ndarray


@lru_cache(maxsize=8)
def _clean(n, specimen, shifts):
    fine = core_shell_nanocube(2 * n, **dict(specimen))
    return project_fine(fine, TILTS, shifts_px=None if shifts is None else np.reshape(shifts, (TILTS.size, 2)))


def tilt_series(n=24, noise=0.05, seed=0, *, shifts_px=None, **specimen) -> SimulatedSeries:
    """(truth, projections, covariance) of a core-shell nanocube of n³ voxels at nine tilts, `TILTS`.

    ``noise`` is the standard deviation in parts of each channel's largest projection; the covariance (C, C) is that of
    the noise, diagonal. ``specimen`` is handed to `core_shell_nanocube`.
    """
    shifts = None if shifts_px is None else tuple(np.ravel(shifts_px))
    truth, clean = _clean(n, tuple(sorted(specimen.items())), shifts)
    sigma = noise * clean.max(axis=(1, 2, 3))
    white = np.random.default_rng(seed).standard_normal(clean.shape)
    noisy = (clean + white * sigma[:, None, None, None]).astype(np.float32)
    return SimulatedSeries(truth, noisy, np.diag(sigma**2))
