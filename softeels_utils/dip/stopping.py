"""What was held out judges the iterates: which to keep, and when to stop."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass
class Watch:
    """What the held-out pixels say of the iterates so far.

    Attributes
    ----------
    mean : tensor (C, Y, Z, X)
        Of the iterates, each weighted with the root of the likelihood that it gives to the held-out pixels.
    scale : tensor (C,)
        Value of a pure voxel, averaged alike.
    log_weight : float
        Of all iterates in the mean.
    misfit : tensor
        Of the held-out pixels, one by one, at the best iterate: the one whose mean misfit is least.
    iteration : int
        Of the best iterate.
    weights : list of tensors
        Of the best iterate, where they were given.
    worse : int
        Looks in a row whose misfit was higher by more than twice the standard error of the mean difference.
    stale : int
        Looks since the best iterate.
    """

    mean: torch.Tensor | None = None
    scale: torch.Tensor | None = None
    log_weight: float = -math.inf
    misfit: torch.Tensor | None = None
    iteration: int = 0
    weights: list = field(default_factory=list)
    worse: int = 0
    stale: int = 0

    @property
    def rising(self):
        """Whether the network fits noise: five looks in a row were worse."""
        return self.worse >= 5

    @property
    def flat(self):
        """Whether ten looks brought nothing."""
        return self.stale >= 10

    def see(self, misfit, volume, scale, iteration, weights):
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
        own = -0.5 * float(misfit.double().sum())
        self.log_weight = float(np.logaddexp(self.log_weight, own))
        share = math.exp(own - self.log_weight)
        self.mean = volume if self.mean is None else self.mean.lerp(volume, share)
        self.scale = scale if self.scale is None else self.scale.lerp(scale, share)
        if self.misfit is None or misfit.mean() < self.misfit.mean():
            self.misfit, self.iteration, self.weights = misfit, iteration, [w.clone() for w in weights]
            self.again()
            return
        difference = misfit - self.misfit
        significant = difference.mean() > 2 * difference.std() / math.sqrt(len(difference))
        self.worse = self.worse + 1 if significant else 0
        self.stale += 1

    def again(self):
        """Count from here."""
        self.worse = self.stale = 0
