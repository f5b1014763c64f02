"""The camera of the spectrometer: what it makes of the electrons that arrive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from ..checks import check_not_negative, check_number, check_positive
from ..doors import checked

__all__ = ["Detector"]


@checked
@dataclass(frozen=True)
class Detector:
    """Camera. The default counts electrons; `scintillator` is a classic fibre-coupled CCD.

    Attributes
    ----------
    gain
        Counts per electron.
    readout_counts
        Standard deviation of the readout noise of each channel, counts.
    point_spread_channels
        Standard deviation of the point spread along energy; it also correlates the shot noise.
    spike_rate, spike_counts
        Cosmic rays: probability per channel and spectrum, and mean height (exponential).
    """

    gain: float = 1.0
    readout_counts: float = 0.0
    point_spread_channels: float = 0.0
    spike_rate: float = 0.0
    spike_counts: float = 2000.0

    def __post_init__(self):
        check_not_negative(**self.__dict__)
        check_positive(gain=self.gain)
        check_number(self.spike_rate, "spike_rate", 0, 1)

    @classmethod
    def scintillator(cls) -> Detector:
        """A fibre-coupled scintillator CCD."""
        return cls(gain=4.0, readout_counts=8.0, point_spread_channels=0.8, spike_rate=2e-6, spike_counts=4000.0)

    @checked(electrons="*")
    def record(self, electrons: NDArray, rng: np.random.Generator | None) -> NDArray:
        """Counts from expected electrons, both ``(..., E)``; ``rng=None`` for no noise."""
        counts = electrons if rng is None else rng.poisson(electrons).astype(float)
        if self.point_spread_channels:
            counts = gaussian_filter1d(counts, self.point_spread_channels, axis=-1, mode="nearest")
        counts = counts * self.gain
        if rng is not None and self.readout_counts:
            counts = counts + rng.normal(0.0, self.readout_counts, counts.shape)
        if rng is not None and self.spike_rate:
            hit = rng.random(counts.shape) < self.spike_rate
            counts[hit] += rng.exponential(self.spike_counts, hit.sum())
        return counts
