"""The formulation of arXiv:2606.10893: a 3-D U-Net on noise, squared output, L1 loss, TV of the channel sum."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from softeels_utils.doors import checked
from softeels_utils.tomography import Measurement, joint_variation

from .formulation import Formulation
from .settings import TINY, number, validate

__all__ = ["PaperFormulation", "PaperSettings", "UNet3d", "channel_maxima"]


@checked
@dataclass(frozen=True)
class PaperSettings:
    """Settings of the paper's formulation: a fixed number of iterations; the last iterate is returned.

    Attributes
    ----------
    iterations : int
    learning_rate : float
        Of AdamW, constant.
    tv_weight : float
        Of the TV of the channel sum, against the mean absolute residual.
    every : int
        Iterations between two checks; 0: a fortieth of the iterations.
    """

    iterations: int = number(250, 1)
    learning_rate: float = number(5e-4, TINY)
    tv_weight: float = number(1e-9, 0)
    every: int = number(0, 0)

    def __post_init__(self):
        validate(self)


class PaperFormulation(Formulation):
    """Mean absolute residual of all projections, each channel divided by its maximum, plus TV of the channel sum.

    Parameters
    ----------
    fitted : Measurement
        Rescaled by `channel_maxima`.
    settings : PaperSettings
    """

    chunk = 2**31 - 1  # the network makes all slices at once

    def __init__(self, fitted: Measurement, settings: PaperSettings):
        super().__init__(UNet3d(fitted.volume_shape), fitted)
        self.settings, self.iterations, self.data = settings, settings.iterations, fitted.as_gaussian()
        self.every = settings.every or max(1, settings.iterations // 40)

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters, lr=self.settings.learning_rate)

    def learning_rate(self, iteration: int) -> float:
        """Constant."""
        return self.settings.learning_rate

    def loss(self, iteration: int, generator: torch.Generator) -> torch.Tensor:
        """Mean absolute residual of what was measured, and TV of the channel sum."""
        volume, data = self.model(None), self.data
        residual = (data.projector(volume) - data.projections) * data.used / data.projector.voxel_size_nm
        variation = joint_variation(volume.sum(0, keepdim=True))
        return residual.abs().sum() / data.size + self.settings.tv_weight * variation


def channel_maxima(measurement: Measurement) -> torch.Tensor:
    """Largest projection of each channel in units of a voxel's edge, (C,)."""
    largest = measurement.as_gaussian().projections.amax((1, 2, 3))
    return largest.clamp_min(1e-12) / measurement.projector.voxel_size_nm


class UNet3d(nn.Module):
    """A 3-D U-Net fed with full-size uniform noise, its output squared.

    Four strided levels of 16 to 128 filters and skip connections.

    Parameters
    ----------
    shape : (C, Y, Z, X)
    noise_channels : int
    """

    filters = (16, 32, 64, 128)

    def __init__(self, shape: tuple[int, int, int, int], noise_channels: int = 32):
        super().__init__()
        phases, *size = shape
        factor = 2 ** len(self.filters)
        self.size = size
        padded = [max(2, math.ceil(s / factor)) * factor for s in size]
        self.corner = [(p - s) // 2 for p, s in zip(padded, size, strict=True)]
        self.register_buffer("noise", torch.rand(1, noise_channels, *padded))
        self.enter = _block(noise_channels, self.filters[0])
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        width, skips = self.filters[0], [self.filters[0]]
        for filters in self.filters:
            self.down.append(nn.Sequential(_block(width, filters, stride=2), _block(filters, filters)))
            width = filters
            skips.append(filters)
        for skip in reversed(skips[:-1]):
            self.up.append(_block(width + skip, skip))
            width = skip
        self.last = nn.Conv3d(width, phases, 1)
        self.to(memory_format=torch.channels_last_3d)

    def forward(self, rows: torch.Tensor | None, generator: torch.Generator | None = None) -> torch.Tensor:
        """The whole volume (C, Y, Z, X), whatever the rows and the generator."""
        features = [self.enter(self.noise.contiguous(memory_format=torch.channels_last_3d))]
        for down in self.down:
            features.append(down(features[-1]))
        value = features.pop()
        for up in self.up:
            value = F.interpolate(value, scale_factor=2, mode="trilinear", align_corners=False)
            value = up(torch.cat([value, features.pop()], dim=1))
        window = tuple(slice(c, c + s) for c, s in zip(self.corner, self.size, strict=True))
        return self.last(value)[0][(slice(None), *window)] ** 2


def _block(inputs, outputs, stride=1):
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1), nn.BatchNorm3d(outputs), nn.LeakyReLU(0.1)
    )
