"""What is minimised, over what: a volume model, its misfit and its prior."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import nn

from softeels_utils.tomography import Measurement, joint_variation

from .head import entropy, with_vacuum
from .settings import TrainingSettings
from .soap import SOAP

__all__ = ["Formulation", "WhitenedTV"]


class Formulation(ABC):
    """A volume model and the loss it is trained with; `Training` does the rest.

    A volume model is a ``nn.Module``: ``model(rows, generator)`` makes the slices (C, B, Z, X) at some rows along Y, in
    units in which a pure voxel has the value 1; with a generator it may draw noise, without one it is deterministic.

    Attributes
    ----------
    model : nn.Module
    log_scale : nn.Parameter (C,)
        Logarithm of the scale of each channel, 0 and fixed unless it is learned.
    fitted : Measurement
    iterations : int
        Planned.
    every : int
        Iterations between looks.
    ema : float
        Fraction of the iterations so far over which parameters are averaged.
    clip : float
        Largest norm of the gradient.
    return_to_best : bool
        Whether a run that may not stop returns to its best iterate.
    chunk : int
        Slices that the model makes at once.
    kept : tensor (Y, Z, X)
        What the misfit multiplies the model's volume by: less than 1 in voids that were found beside it.
    """

    iterations: int
    every: int
    ema = 0.0
    clip = math.inf
    return_to_best = False
    chunk = 16

    def __init__(self, model: nn.Module, fitted: Measurement, learn_scale: bool = False):
        self.model, self.fitted = model.to(fitted.device), fitted
        self.log_scale = nn.Parameter(torch.zeros(len(fitted.projections), device=fitted.device), learn_scale)
        parameters = [*model.parameters(), self.log_scale]
        self.parameters = [p for p in parameters if p.requires_grad and p.numel()]
        self.kept = torch.ones(fitted.volume_shape[1:], device=fitted.device)

    @property
    def scale(self) -> torch.Tensor:
        """Of each channel, (C,)."""
        return self.log_scale.detach().exp()

    @abstractmethod
    def optimizer(self) -> torch.optim.Optimizer:
        """A new optimiser of `parameters`."""

    @abstractmethod
    def learning_rate(self, iteration: int) -> float:
        """At an iteration."""

    @abstractmethod
    def loss(self, iteration: int, generator: torch.Generator) -> torch.Tensor:
        """Of one iteration, a scalar that carries the gradient."""

    @torch.no_grad()
    def volume(self) -> torch.Tensor:
        """The whole volume (C, Y, Z, X) as the model makes it, scale included."""
        rows = torch.arange(self.fitted.volume_shape[1], device=self.fitted.device)
        volume = torch.cat([self.model(part) for part in rows.split(self.chunk)], dim=1)
        return volume * self.scale[:, None, None, None]


class WhitenedTV(Formulation):
    r"""Whitened misfit of a minibatch of slices plus joint TV: DIPm-TV, whatever the volume model.

    .. math:: \tfrac12 \sum_{t,y,x} \| \Sigma^{-1/2} (A f_w - b) \|^2
              + \lambda \sum_{v} \Big( \sum_{c,d} (\partial_d f_{w,c})^2 \Big)^{1/2}

    and, if it has a weight, the entropy of the fractions.
    """

    def __init__(
        self,
        model: nn.Module,
        fitted: Measurement,
        settings: TrainingSettings,
        learn_scale: bool,
        initial: torch.Tensor | None = None,
    ):
        super().__init__(model, fitted, learn_scale)
        self.initial = initial
        self.first_row, self.n_rows = self._occupied_rows()
        self.settings, self.iterations, self.ema = settings, settings.iterations, settings.ema
        self.every = settings.every or max(1, settings.iterations // 40)
        self.return_to_best, self.clip = settings.return_to_best, settings.clip
        self.evened = fitted.with_variance_floor(settings.variance_floor)
        # Where projections are shifted along Y or turned, a pixel sees slices of several rows, some in no block.
        self.sees = self._rows_seen() if fitted.projector.mixes_rows else None

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam, for matrices in the eigenbasis of their gradients."""
        return SOAP(self.parameters, self.settings.learning_rate)

    def learning_rate(self, iteration: int) -> float:
        """Rises linearly, falls as a cosine."""
        s, t = self.settings, iteration / self.iterations
        rise, fall = min(1.0, (t + 1 / s.iterations) / s.warmup), math.cos(math.pi * t / 2) ** 2
        return s.learning_rate * rise * max(fall, 0.02)

    def minibatch(self, generator: torch.Generator) -> tuple[torch.Tensor, list[int]]:
        """Rows of one iteration, blocks of neighbours, and where TV along Y is cut between them."""
        total, s = self.n_rows, self.settings
        blocks = s.blocks or max(1, round(total / 48))
        if blocks * s.block_rows >= total:
            return torch.arange(total, device=self.fitted.device) + self.first_row, []
        starts = torch.randperm(total // s.block_rows, generator=generator)[:blocks] * s.block_rows
        starts = starts + torch.randint(0, total % s.block_rows + s.block_rows, (1,), generator=generator)
        rows = (starts[:, None] + torch.arange(s.block_rows)).flatten() % total
        # A block may go on from the last row to the first.
        cuts = [k for k in range(1, len(rows)) if k % s.block_rows == 0 or rows[k] == 0]
        return rows.to(self.fitted.device) + self.first_row, cuts

    def _occupied_rows(self):
        """First row and number of rows to train on: where the model can make anything at all."""
        support = getattr(self.model, "support", None)
        if support is None:
            return 0, self.fitted.volume_shape[1]
        rows = support.any(1).nonzero()[:, 0]
        return int(rows[0]), int(rows[-1] - rows[0]) + 1

    def loss(self, iteration: int, generator: torch.Generator) -> torch.Tensor:
        """Misfit and joint TV of a minibatch, per value; in pretraining, its cross-entropy with the initial volume."""
        rows, cuts = self.minibatch(generator)
        fractions = self.model(rows, generator)
        if self.initial is not None and iteration < self.settings.pretraining * self.iterations:
            return _cross_entropy(fractions, self.initial[:, rows].clamp_min(0))
        misfit = self.misfit(fractions * self.kept[rows] * self.log_scale.exp()[:, None, None, None], rows, cuts)
        roughness = sum(joint_variation(block) for block in fractions.tensor_split(cuts, dim=1))
        loss = misfit + self.settings.tv_weight * roughness
        if self.settings.entropy_weight:
            loss = loss + self.settings.entropy_weight * entropy(fractions)
        return loss / (len(rows) * self.fitted.projections[:, :, 0].numel())

    def _rows_seen(self):
        """First and last of the occupied slices that each pixel of the detector sees, (T, Y, X); of none: beyond."""
        edges = self.fitted.projector.source_rows(self.fitted.volume_shape[1])
        first, last = (torch.as_tensor(edge, device=self.fitted.device) for edge in edges)
        end = self.first_row + self.n_rows - 1
        none = (last < self.first_row) | (first > end)
        return first.clamp_min(self.first_row).where(~none, end + 1), last.clamp_max(end)

    def misfit(self, slices: torch.Tensor, rows: torch.Tensor, cuts: list[int]) -> torch.Tensor:
        """Misfit of as many pixels as these rows have; where rows are mixed, of those that see these slices alone."""
        n_rows = self.fitted.volume_shape[1]
        if len(rows) == n_rows:
            return self.evened.misfit(slices).sum()
        if self.sees is None:
            return self.evened.rows(rows).misfit(slices).sum()
        projector = self.fitted.projector
        still = projector.still(slices)
        whole = still.new_zeros(*still.shape[:2], n_rows, still.shape[-1]).index_copy(2, rows, still)
        seen = torch.zeros_like(self.sees[0], dtype=torch.bool)
        for block in rows.tensor_split(cuts):
            seen |= (self.sees[0] >= block[0]) & (self.sees[1] <= block[-1])
        part = seen[:, rows].numel() / seen.sum().clamp_min(1)
        return (self.evened.loss(projector.move(whole)) * seen).sum() * part


def _cross_entropy(fractions, target):
    """Mean over voxels of the cross-entropy of fractions (C, ...) with others, vacuum included."""
    fractions, target = with_vacuum(fractions), with_vacuum(target)
    return -(target / target.sum(0) * fractions.clamp_min(1e-6).log()).sum() / target[0].numel()
