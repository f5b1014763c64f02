"""The networks: a small 2-D decoder that slices share, and the 3-D U-Net of the paper."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F


class SliceDecoder(nn.Module):
    """Slices as a batch of a small 2-D decoder; what tells them apart are latents that vary smoothly along Y.

    Level ``l`` (coarse to fine) upsamples what comes from the level below, appends a learned latent of its own
    resolution and a first reconstruction of the slice and its two neighbours averaged to it, and convolves. A latent
    has one map every ``along[l]`` slices, blended between them, so that neighbouring slices are alike before anything
    is learned. Weights are shared by all slices. Features have unit norm in every pixel: without it steps this large
    are not stable. The softmax is sharp, so that nearly pure voxels are within reach.

    Parameters
    ----------
    shape : (C, Y, Z, X)
    head : {"fractions", "nonnegative"}
        Softmax over the phases and vacuum, or softplus.
    scale : tensor (C,)
        Value of a pure voxel, times which the head's output is the volume.
    share : tensor (C,)
        Mean of the head's output to begin with.
    guide : tensor (C, Y, Z, X) or None
        A first reconstruction, of values about one.
    learn_scale : bool
    sharpness : float
        Of the softmax.
    channels, latents, along : tuple of int
        Of each level, coarse to fine; all of one length.
    """

    def __init__(self, shape, *, head, scale, share, guide, learn_scale, sharpness, channels, latents, along):
        super().__init__()
        self.phases, rows, *self.size = shape
        self.head, self.sharpness, self.along = head, sharpness, along
        coarse = 2 ** (len(channels) - 1)
        padded = [math.ceil(size / coarse) * coarse for size in self.size]
        self.corner = [(p - s) // 2 for p, s in zip(padded, self.size, strict=True)]
        self.latents, self.narrow, self.convolve = nn.ParameterList(), nn.ModuleList(), nn.ModuleList()
        self.guided = guide is not None
        if self.guided:
            margin = [m for p, s, c in zip(padded, self.size, self.corner, strict=True) for m in (c, p - s - c)]
            guide = F.pad(guide.transpose(0, 1), margin[2:] + margin[:2])
            for level in range(len(channels)):
                self.register_buffer(f"guide{level}", F.avg_pool2d(guide, coarse // 2**level))
        known = 3 * self.phases if self.guided else 0
        below = 0
        for level, (width, latent, every) in enumerate(zip(channels, latents, along, strict=True)):
            maps = [p * 2**level // coarse for p in padded]
            self.latents.append(0.1 * torch.randn(math.ceil(rows / every) + 1, latent, *maps))
            # oneDNN is twice as fast where a convolution's inputs are a multiple of 16.
            own = latent + known
            inputs = 16 * math.ceil((own + width) / 16) if level else own
            if level:
                self.narrow.append(nn.Conv2d(below, inputs - own, 1))
            self.convolve.append(nn.Conv2d(inputs, width, 3, padding=1))
            below = width
        self.last = nn.Conv2d(below, self.phases + (head == "fractions"), 1)
        with torch.no_grad():  # begin with a volume of about the right sum
            share = share.clamp(1e-3, 0.3)
            if head == "fractions":
                self.last.bias.copy_(torch.cat([share, (1 - share.sum()).clamp_min(0.1)[None]]).log() / self.sharpness)
            else:
                self.last.bias.copy_(torch.expm1(share).log())
        self.log_scale = nn.Parameter(scale.log(), requires_grad=learn_scale)
        self.to(memory_format=torch.channels_last)

    def forward(self, rows, jitter=0.0, guide_noise=0.0, generator=None):
        """Volume slices (C, B, Z, X) at the rows (B,) along Y, from inputs with noise of these deviations."""

        def noisy(maps, deviation):
            if not deviation or not maps.shape[1]:
                return maps
            return maps + deviation * torch.randn(maps.shape, generator=generator).to(maps.device)

        features, near = None, rows[:, None] + torch.tensor([-1, 0, 1], device=rows.device)
        for level, convolve in enumerate(self.convolve):
            inputs = [noisy(self._latent(level, rows), jitter)]
            if self.guided:
                guide = getattr(self, f"guide{level}")
                inputs.append(noisy(guide[near.clamp(0, len(guide) - 1)].flatten(1, 2), guide_noise))
            if level:
                inputs.append(F.interpolate(self.narrow[level - 1](features), scale_factor=2, mode="bilinear"))
            features = F.silu(convolve(torch.cat(inputs, dim=1).contiguous(memory_format=torch.channels_last)))
            features = features * (features.square().mean(1, keepdim=True) + 1e-4).rsqrt()
        (z, x), (depth, width) = self.corner, self.size
        logits = self.last(features)[..., z : z + depth, x : x + width]
        fractions = self.head == "fractions"
        values = (self.sharpness * logits).softmax(1)[:, : self.phases] if fractions else F.softplus(logits)
        return values.transpose(0, 1) * self.log_scale.exp()[:, None, None, None]

    def _latent(self, level, rows):
        maps, every = self.latents[level], self.along[level]
        first = torch.div(rows, every, rounding_mode="floor")
        share = ((rows - first * every) / every)[:, None, None, None]
        share = share * share * (3 - 2 * share)
        return maps[first] * (1 - share) + maps[first + 1] * share


class UNet3d(nn.Module):
    """The paper's formulation: a 3-D U-Net fed with full-size uniform noise, its output squared.

    Four strided levels of 16 to 128 filters, skip connections, and a scale per channel.

    Parameters
    ----------
    shape : (C, Y, Z, X)
    scale : tensor (C,)
    noise_channels : int
    """

    filters = (16, 32, 64, 128)

    def __init__(self, shape, scale, *, noise_channels=32):
        super().__init__()
        phases, *size = shape
        factor = 2 ** len(self.filters)
        self.size = size
        padded = [max(2, math.ceil(s / factor)) * factor for s in size]
        self.corner = [(p - s) // 2 for p, s in zip(padded, size, strict=True)]
        self.register_buffer("noise", torch.rand(1, noise_channels, *padded))
        self.register_buffer("scale", scale)

        def block(inputs, outputs, stride=1):
            return nn.Sequential(
                nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1), nn.BatchNorm3d(outputs), nn.LeakyReLU(0.1)
            )

        self.enter = block(noise_channels, self.filters[0])
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        feed, skips = self.filters[0], [self.filters[0]]
        for filters in self.filters:
            self.down.append(nn.Sequential(block(feed, filters, stride=2), block(filters, filters)))
            feed = filters
            skips.append(filters)
        for skip in reversed(skips[:-1]):
            self.up.append(block(feed + skip, skip))
            feed = skip
        self.last = nn.Conv3d(feed, phases, 1)
        self.to(memory_format=torch.channels_last_3d)

    def forward(self, rows=None, **unused):
        """The whole volume (C, Y, Z, X); ``rows`` is not used, the network makes all slices at once."""
        features = [self.enter(self.noise.contiguous(memory_format=torch.channels_last_3d))]
        for down in self.down:
            features.append(down(features[-1]))
        value = features.pop()
        for up in self.up:
            value = F.interpolate(value, scale_factor=2, mode="trilinear", align_corners=False)
            value = up(torch.cat([value, features.pop()], dim=1))
        window = tuple(slice(c, c + s) for c, s in zip(self.corner, self.size, strict=True))
        value = self.last(value)[0][(slice(None), *window)]
        return value**2 * self.scale[:, None, None, None]
