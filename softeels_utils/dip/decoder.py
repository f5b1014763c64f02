"""A volume model: a small 2-D decoder that all slices share."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from .settings import DecoderSettings

__all__ = ["HEADS", "SliceDecoder", "head_bias", "to_fractions"]

HEADS = ("fractions", "nonnegative")


def to_fractions(logits: torch.Tensor, head: str, sharpness: float) -> torch.Tensor:
    """Values (C, B, Z, X) of logits (B, C or C + 1, Z, X).

    ``"fractions"``: softmax over the phases and vacuum: they add up to at most one; ``"nonnegative"``: softplus.
    """
    values = (sharpness * logits).softmax(1)[:, :-1] if head == "fractions" else F.softplus(logits)
    return values.transpose(0, 1)


def head_bias(mean: torch.Tensor, head: str, sharpness: float) -> torch.Tensor:
    """Logits that give a volume of about the right mean (C,)."""
    mean = mean.clamp(1e-3, 0.3)
    if head == "nonnegative":
        return torch.expm1(mean).log()
    return torch.cat([mean, (1 - mean.sum()).clamp_min(0.1)[None]]).log() / sharpness


class SliceDecoder(nn.Module):
    """Slices as a batch of a small 2-D decoder; what tells them apart are latents that vary smoothly along Y.

    Level ``l`` (coarse to fine) upsamples what comes from the level below, appends a learned latent of its own
    resolution and the initial reconstruction of the slice and its two neighbours averaged to it, and convolves. A
    latent has one map every ``slices_per_latent[l]`` slices, blended between them, so that neighbouring slices are
    similar before anything is learned. Weights are shared by all slices. Features have unit norm in every pixel:
    without it steps this large are not stable. The softmax is sharp, so that nearly pure voxels are within reach.

    Parameters
    ----------
    shape : (C, Y, Z, X)
    settings : DecoderSettings
    head : {"fractions", "nonnegative"}
    mean : tensor (C,)
        Of the volume to begin with.
    initial : tensor (C, Y, Z, X) or None
        The initial reconstruction, of values about one.
    """

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        settings: DecoderSettings,
        *,
        head: str,
        mean: torch.Tensor,
        initial: torch.Tensor | None,
    ):
        super().__init__()
        self.phases, self.rows, *self.size = shape
        self.head, self.settings = head, settings
        channels, latents, self.slices_per_latent = self._levels()
        coarse = 2 ** (len(channels) - 1)
        padded = [math.ceil(size / coarse) * coarse for size in self.size]
        self.corner = [(p - s) // 2 for p, s in zip(padded, self.size, strict=True)]
        self.has_initial = initial is not None
        if self.has_initial:
            margin = [m for p, s, c in zip(padded, self.size, self.corner, strict=True) for m in (c, p - s - c)]
            initial = F.pad(initial.transpose(0, 1), margin[2:] + margin[:2])
            for level in range(len(channels)):
                averaged = F.avg_pool2d(initial, coarse // 2**level)
                self.register_buffer(f"initial{level}", averaged, persistent=False)
        self.latents, self.narrow, self.convolve = nn.ParameterList(), nn.ModuleList(), nn.ModuleList()
        below = 0
        for level, (width, latent) in enumerate(zip(channels, latents, strict=True)):
            maps = [p * 2**level // coarse for p in padded]
            n_maps = math.ceil(self.rows / self.slices_per_latent[level]) + 1
            self.latents.append(0.1 * torch.randn(n_maps, latent, *maps))
            # oneDNN is twice as fast where a convolution's inputs are a multiple of 16.
            appended = latent + 3 * self.phases * self.has_initial
            inputs = 16 * math.ceil((appended + width) / 16) if level else appended
            if level:
                self.narrow.append(nn.Conv2d(below, inputs - appended, 1))
            self.convolve.append(nn.Conv2d(inputs, width, 3, padding=1))
            below = width
        self.last = nn.Conv2d(below, self.phases + (head == "fractions"), 1)
        with torch.no_grad():
            self.last.bias.copy_(head_bias(mean, head, settings.sharpness))
        self.to(memory_format=torch.channels_last)

    def _levels(self):
        """Channels, latents and slices per latent of as many levels as make the coarsest map about six pixels wide."""
        s, levels = self.settings, max(2, 1 + round(math.log2(max(self.size) / 6)))
        return ((v[:1] * max(0, levels - len(v)) + v)[-levels:] for v in (s.channels, s.latents, s.slices_per_latent))

    def forward(self, rows: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Volume slices (C, B, Z, X) at the rows (B,) along Y; with a generator, from inputs with fresh noise."""

        def noisy(maps, deviation):
            if generator is None or not deviation or not maps.shape[1]:
                return maps
            return maps + deviation * torch.randn(maps.shape, generator=generator).to(maps.device)

        s, features, near = self.settings, None, rows[:, None] + torch.tensor([-1, 0, 1], device=rows.device)
        for level, convolve in enumerate(self.convolve):
            inputs = [noisy(self._latent(level, rows), s.jitter)]
            if self.has_initial:
                initial = getattr(self, f"initial{level}")
                inputs.append(noisy(initial[near.clamp(0, len(initial) - 1)].flatten(1, 2), s.initial_noise))
            if level:
                inputs.append(F.interpolate(self.narrow[level - 1](features), scale_factor=2, mode="bilinear"))
            features = F.silu(convolve(torch.cat(inputs, dim=1).contiguous(memory_format=torch.channels_last)))
            features = features * (features.square().mean(1, keepdim=True) + 1e-4).rsqrt()
        (z, x), (depth, width) = self.corner, self.size
        return to_fractions(self.last(features)[..., z : z + depth, x : x + width], self.head, s.sharpness)

    def _latent(self, level, rows):
        maps, step = self.latents[level], self.slices_per_latent[level]
        first = torch.div(rows, step, rounding_mode="floor")
        weight = ((rows - first * step) / step)[:, None, None, None]
        weight = weight * weight * (3 - 2 * weight)
        return maps[first] * (1 - weight) + maps[first + 1] * weight
