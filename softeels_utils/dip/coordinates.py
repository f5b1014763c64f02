"""A volume model: a small network from the coordinates of a point to the fractions of the phases there."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from .head import head_bias, to_fractions
from .settings import CoordinateSettings

__all__ = ["Coordinates"]


class Coordinates(nn.Module):
    r"""A multilayer perceptron on random Fourier features of position, the same for every point.

    A point :math:`p = (y, z, x)`, in units of the specimen's size, has the features :math:`\cos 2\pi f_k\!\cdot\!p` and
    :math:`\sin 2\pi f_k\!\cdot\!p`, with frequencies :math:`f_k` drawn once from a normal distribution. Their deviation
    is the prior: structure much finer than its inverse is learned late, noise last. Nothing in it knows of a grid, of
    an outside or of neighbours, so it does not repeat about a void what it has learned of the surface.

    Parameters
    ----------
    shape : (C, Y, Z, X)
    settings : CoordinateSettings
    head : {"fractions", "nonnegative"}
    mean : tensor (C,)
        Of the volume to begin with.
    support : bool tensor (Y, Z, X)
        Where there may be anything at all; elsewhere the volume is 0 and nothing is computed.
    size : float
        Of the specimen, in voxels (`specimen_size`).

    References
    ----------
    M. Tancik et al., NeurIPS 2020 (Fourier features); A. W. Reed et al., ICCV 2021, and G. Zang et al., ICCV 2021
    (coordinate networks for tomography from few views).
    """

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        settings: CoordinateSettings,
        *,
        head: str,
        mean: torch.Tensor,
        support: torch.Tensor,
        size: float,
    ):
        super().__init__()
        self.phases, _, *self.slice_shape = shape
        self.head, self.settings = head, settings
        frequencies = settings.frequency_deviation * torch.randn(settings.frequencies, 3)
        y, z, x = (2 * math.pi * (torch.arange(n) - (n - 1) / 2) / size for n in shape[1:])
        in_slice = (z[:, None, None] * frequencies[:, 1] + x[:, None] * frequencies[:, 2]).flatten(0, 1)
        self.register_buffer("features", torch.cat([in_slice.cos(), in_slice.sin()], dim=1), persistent=False)
        self.register_buffer("row_phases", y[:, None] * frequencies[:, 0], persistent=False)
        self.register_buffer("support", support.flatten(1), persistent=False)
        self.first = nn.Linear(2 * settings.frequencies, settings.width)
        self.hidden = nn.ModuleList(nn.Linear(settings.width, settings.width) for _ in range(settings.layers - 1))
        self.last = nn.Linear(settings.width, self.phases + (head == "fractions"))
        with torch.no_grad():
            self.last.bias.copy_(head_bias(mean, head, settings.sharpness))

    def forward(self, rows: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Volume slices (C, B, Z, X) at the rows (B,) along Y; nothing is random in it."""
        points, features = self._first_layer(rows)
        for layer in self.hidden:
            features = layer(F.silu(features))
        values = to_fractions(self.last(F.silu(features)), self.head, self.settings.sharpness)
        volume = values.new_zeros(self.phases, len(rows) * self.features.shape[0]).index_copy(1, points, values)
        return volume.unflatten(1, (len(rows), *self.slice_shape))

    def _first_layer(self, rows):
        """Points of the rows inside the support, as indices into all of theirs, and the first layer there.

        The cosine of a sum is a turn: the weights are turned by the row's phases, so that the features of one slice
        serve all and no feature is ever computed again.
        """
        cosine, sine = self.row_phases[rows].cos()[:, None], self.row_phases[rows].sin()[:, None]
        even, odd = self.first.weight.chunk(2, dim=1)
        turned = torch.cat([cosine * even + sine * odd, cosine * odd - sine * even], dim=2)
        inside = [row.nonzero()[:, 0] for row in self.support[rows]]
        outputs = [self.features[index] @ weight.T for index, weight in zip(inside, turned.unbind(), strict=True)]
        points = torch.cat([index + k * len(self.features) for k, index in enumerate(inside)])
        return points, torch.cat(outputs) + self.first.bias
