"""Plural scattering of the components of a fit, from the low loss of the same pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..spectra import convolve_low_loss, data_of, repeated_losses
from ..spectra.plural import default_split_eV, low_loss_axis
from .components import Components
from .solver import PixelShapes

__all__ = ["PluralScattering"]


@dataclass(frozen=True)
class PluralScattering:
    """What the components of a fit look like after plural scattering, given low-loss spectra.

    Losses only add up, so nothing past the window affects it, except through the width of the zero-loss peak: low
    losses and references are cut there.

    Attributes
    ----------
    components : Components
        As single scattering.
    energy_eV : (E2,)
        Energies of the low loss, as far as the window.
    zero_loss_peak : {"delta", "keep"}
        See `spectra.convolve_low_loss`.
    split_eV : float or None
        Where inelastic scattering begins in the low loss; None where nothing is separated from the zero-loss peak.
    exposure_ratio : float
        Exposure of the spectra over that of the low loss.
    with_background : bool
        Whether the low loss serves the background, too: it belongs to the same pixels and covers the window.
    """

    components: Components
    energy_eV: np.ndarray
    zero_loss_peak: str
    split_eV: float | None
    exposure_ratio: float
    with_background: bool

    @classmethod
    def prepared(
        cls,
        components: Components,
        low_loss: Any,
        low_loss_energy_eV: ArrayLike | None,
        zero_loss_peak: str,
        exposure_ratio: float,
        *,
        per_pixel: bool,
    ) -> PluralScattering:
        """The model for a low loss (..., E2); raises ValueError naming the argument that is wrong."""
        if zero_loss_peak not in ("delta", "keep"):
            raise ValueError(f"zero_loss_peak: got {zero_loss_peak!r}, wants 'delta' or 'keep'")
        energy = low_loss_axis(low_loss, low_loss_energy_eV, components.energy_eV)
        last = components.energy_eV[components.window][-1]
        with_background = per_pixel and components.powers and last <= energy[-1] + 1e-6
        separated = zero_loss_peak == "delta" or with_background
        split = default_split_eV(data_of(low_loss), energy) if separated else None
        step = components.energy_eV[1] - components.energy_eV[0]
        return cls(
            components, energy[energy < last + 2 * step], zero_loss_peak, split, exposure_ratio, bool(with_background)
        )

    def references(self, low_loss: np.ndarray) -> np.ndarray:
        """References (..., K, E') for low losses (..., E2)."""
        return self._convolved(self.components.references, low_loss, self.zero_loss_peak)

    def background(self, low_loss: np.ndarray) -> np.ndarray:
        """Background shapes (n, P, E') for low losses (n, E2): scattering that begins with the window."""
        return self._convolved(self._background_from_window(), low_loss, "delta")

    def repeated(self, low_loss: np.ndarray) -> np.ndarray:
        """Counts (n, E') of electrons that lost less than the start of the window in each of several collisions."""
        window = self.components.energy_eV[self.components.window]
        low_loss = low_loss[:, : self.energy_eV.size]
        repeated = repeated_losses(low_loss, self.energy_eV, below_eV=window[0], split_eV=self.split_eV)
        channel = (window - self.energy_eV[0]) / (self.energy_eV[1] - self.energy_eV[0])
        left = np.clip(channel.astype(int), 0, self.energy_eV.size - 2)
        between = repeated[:, left] + (channel - left) * (repeated[:, left + 1] - repeated[:, left])
        return self.exposure_ratio * between

    def pixel_shapes(self, low_loss: np.ndarray) -> PixelShapes:
        """All shapes of each pixel, and its repeated losses; NaN where the zero-loss peak is not at 0 eV."""
        common = self.components.background
        if not self.with_background:
            background = np.broadcast_to(common, (len(low_loss), *common.shape))
            shapes = np.concatenate([self.references(low_loss), background], axis=1)
        elif self.zero_loss_peak == "delta":  # one transform of the low loss serves both
            single = np.concatenate([self.components.references, self._background_from_window()])
            shapes = self._convolved(single, low_loss, "delta")
        else:
            shapes = np.concatenate([self.references(low_loss), self.background(low_loss)], axis=1)
        if self.split_eV is not None:
            shapes[self._misaligned(low_loss)] = np.nan
        return PixelShapes(shapes, self.repeated(low_loss) if self.with_background else None)

    def _convolved(self, single, low_loss, zero_loss_peak):
        window, energy = self.components.window, self.components.energy_eV
        first_channel = -self.energy_eV[0] / (energy[1] - energy[0])
        stop = window.stop + int(first_channel)
        seen = convolve_low_loss(
            single[:, :stop],
            low_loss[..., : self.energy_eV.size],
            energy[:stop],
            self.energy_eV,
            zero_loss_peak=zero_loss_peak,
            split_eV=self.split_eV,
        )
        return self.exposure_ratio * seen[..., window]

    def _background_from_window(self):
        whole = np.zeros((len(self.components.background), self.components.energy_eV.size))
        whole[:, self.components.window] = self.components.background
        return whole

    def _misaligned(self, low_loss):
        """Which low losses (n,) have less than half of the counts below the plasmons within ``split_eV`` of 0 eV."""
        low_loss = low_loss[:, : self.energy_eV.size]
        peak = low_loss[:, np.abs(self.energy_eV) <= self.split_eV].sum(-1)
        return peak < 0.5 * low_loss[:, self.energy_eV < max(10.0, 2 * self.split_eV)].sum(-1)
