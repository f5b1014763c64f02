"""The held-out pixels judge the iterates: which to keep, and when to stop."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch

from ..doors import checked

__all__ = ["EarlyStopping"]


@checked(mean="C Y Z X", scale="C")
@dataclass
class EarlyStopping:
    """What the held-out pixels say about the iterates so far.

    Attributes
    ----------
    mean : tensor (C, Y, Z, X)
        Mean of the iterates up to the best one, each weighted with the fourth root of the likelihood that it gives to
        the held-out pixels. Later iterates fit noise first where no projection sees it: they may predict nearly as well
        and yet be worse.
    scale : tensor (C,)
        Value of a pure voxel, averaged in the same way.
    running_mean, running_scale : tensor
        The same for all iterates so far.
    log_weight : float
        Logarithm of the total weight of all iterates so far.
    misfit : tensor
        Misfit of each held-out pixel at the best iterate, the one whose mean misfit is lowest.
    iteration : int
        Of the best iterate.
    weights : list of tensors
        Network parameters of the best iterate, if they were passed.
    n_worse : int
        Consecutive checks at which the misfit was higher by more than twice the standard error of the mean difference.
    n_stale : int
        Checks since the best iterate.
    """

    mean: torch.Tensor | None = None
    scale: torch.Tensor | None = None
    running_mean: torch.Tensor | None = None
    running_scale: torch.Tensor | None = None
    log_weight: float = -math.inf
    misfit: torch.Tensor | None = None
    iteration: int = 0
    weights: list = field(default_factory=list)
    n_worse: int = 0
    n_stale: int = 0

    @property
    def overfits(self) -> bool:
        """Whether the network overfits: five checks in a row were worse."""
        return self.n_worse >= 5

    @property
    def stalled(self) -> bool:
        """Whether ten checks brought no improvement."""
        return self.n_stale >= 10

    def update(
        self, misfit: torch.Tensor, volume: torch.Tensor, scale: torch.Tensor, iteration: int, weights: list
    ) -> None:
        """Take an iterate into account.

        Parameters
        ----------
        misfit : tensor
            Of each held-out pixel: minus the logarithm of its likelihood, up to a constant.
        volume : tensor (C, Y, Z, X)
        scale : tensor (C,)
        iteration : int
        weights : list of tensors
            Network parameters to return to; may be empty.
        """
        log_weight = -float(misfit.double().sum()) / 4
        self.log_weight = float(np.logaddexp(self.log_weight, log_weight))
        fraction = math.exp(log_weight - self.log_weight)
        self.running_mean = volume if self.running_mean is None else self.running_mean.lerp(volume, fraction)
        self.running_scale = scale if self.running_scale is None else self.running_scale.lerp(scale, fraction)
        if self.misfit is None or misfit.mean() < self.misfit.mean():
            self.misfit, self.iteration, self.weights = misfit, iteration, [w.clone() for w in weights]
            self.mean, self.scale = self.running_mean, self.running_scale
            self.reset()
            return
        difference = misfit - self.misfit
        significant = difference.mean() > 2 * difference.std() / math.sqrt(len(difference))
        self.n_worse = self.n_worse + 1 if significant else 0
        self.n_stale += 1

    def reset(self) -> None:
        """Start counting anew."""
        self.n_worse = self.n_stale = 0
