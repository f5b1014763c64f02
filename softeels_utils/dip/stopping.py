"""The held-out pixels judge the iterates: which to keep, and when to stop."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch

__all__ = ["EarlyStopping"]


@dataclass
class EarlyStopping:
    """What the held-out pixels say of the iterates so far.

    Attributes
    ----------
    mean : tensor (C, Y, Z, X)
        Of the iterates up to the best one, each weighted with the fourth root of the likelihood that it gives to the
        held-out pixels. Those after it fit noise first where no projection sees it: they may predict nearly as well,
        and are worse.
    scale : tensor (C,)
        Value of a pure voxel, averaged in the same way.
    running_mean, running_scale : tensor
        The same of all iterates so far.
    log_weight : float
        Of all iterates so far.
    misfit : tensor
        Of the held-out pixels, one by one, at the best iterate: the one whose mean misfit is lowest.
    iteration : int
        Of the best iterate.
    weights : list of tensors
        Of the best iterate, where they were handed in.
    n_worse : int
        Looks in a row whose misfit was higher by more than twice the standard error of the mean difference.
    n_stale : int
        Looks since the best iterate.
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
        """Whether the network fits noise: five looks in a row were worse."""
        return self.n_worse >= 5

    @property
    def stalled(self) -> bool:
        """Whether ten looks brought nothing."""
        return self.n_stale >= 10

    def update(
        self, misfit: torch.Tensor, volume: torch.Tensor, scale: torch.Tensor, iteration: int, weights: list
    ) -> None:
        """Take an iterate into account.

        Parameters
        ----------
        misfit : tensor
            Of the held-out pixels, minus the logarithm of their likelihood but for a constant.
        volume : tensor (C, Y, Z, X)
        scale : tensor (C,)
        iteration : int
        weights : list of tensors
            To go back to, if wanted.
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
        """Count from here."""
        self.n_worse = self.n_stale = 0
