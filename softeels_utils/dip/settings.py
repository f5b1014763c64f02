"""Numbers that make a variant of DIPm-TV."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True)
class Settings:
    """Numbers that make a variant; any of them may be given to `dipm_tv` by name.

    Attributes
    ----------
    iterations : int
    learning_rate : float
        Of Adam, at its highest: it rises over the share ``warmup`` of the iterations and falls as a cosine.
    clip : float
        Largest norm of the gradient. Without it the first steps, from projections that are far off, drive the
        softmax into vacuum, from where there is no gradient back.
    tv_weight : float
        Of joint TV, in units of the whitened misfit: what one unit of interface area costs, against half
        a squared residual in units of its standard deviation. (``variant="paper"``: of the mean loss.)
    least_variance : float
        Of a combination of channels, as a share of the largest in its pixel. Combinations that are known much better
        than others (the sum of two anti-correlated phases) would else drown the others in every step.
    blocks, block_rows : int
        A minibatch is this many blocks of this many neighbouring slices. 0 blocks: a sixteenth as many as there are
        slices, at least 3, so that a volume of any size is seen as often in as many iterations.
    guide_weight : float
        Of the joint TV that makes the first reconstruction, from which the network starts and learns what to make of
        it, in units of the weight that noise alone asks for. 0: no first reconstruction, latents only.
    guide_noise : float
        Standard deviation of fresh noise on it in every step, so that the network does not just copy it.
    refine_weight : float
        Of the TV of the correction that is added at the end, in the same unit. 0: none.
    jitter : float
        Standard deviation of fresh noise on the latents in every step (they start with 0.1). What does not survive it
        is not learned.
    ema : float
        The output is the network with its parameters averaged, exponentially, over about this share of the
        iterations so far. 0: as they are.
    sharpness : float
        By which the inputs of the softmax are multiplied, so that nearly pure voxels are within reach.
    settle : bool
        Where ``iterations`` forbids to stop: go back to the best iterate instead, with a hundredth of the rate. False:
        let it fit noise.
    every : int
        Iterations between looks at the held-out pixels; 0: a fortieth of the iterations.
    channels, latents, along : tuple of int
        Width, latent channels and slices per latent map of each level, finest last. Coarser ones are repeated
        or dropped so that the coarsest map is about six pixels wide.
    """

    iterations: int = 400
    learning_rate: float = 1e-2
    warmup: float = 0.1
    clip: float = 0.3
    tv_weight: float = 0.1
    least_variance: float = 0.2
    blocks: int = 0
    block_rows: int = 4
    guide_weight: float = 1.5
    guide_noise: float = 0.35
    refine_weight: float = 1.0
    jitter: float = 0.03
    ema: float = 0.33
    sharpness: float = 6.0
    settle: bool = True
    every: int = 0
    channels: tuple[int, ...] = (32, 32, 32, 16)
    latents: tuple[int, ...] = (16, 8, 4, 0)
    along: tuple[int, ...] = (4, 2, 2, 1)


TINY = 1e-12
LIMITS = {
    "learning_rate": (TINY, math.inf), "warmup": (TINY, 1.0), "clip": (TINY, math.inf), "tv_weight": (0, math.inf),
    "least_variance": (0, 1), "blocks": (0, math.inf), "block_rows": (1, math.inf), "guide_weight": (0, math.inf),
    "guide_noise": (0, math.inf), "refine_weight": (0, math.inf), "jitter": (0, math.inf), "ema": (0, math.inf),
    "sharpness": (TINY, math.inf), "every": (0, math.inf),
}  # fmt: skip

PRESETS = {
    ("fast", "quick"): Settings(iterations=300),
    ("fast", "full"): Settings(iterations=600),
    ("paper", "quick"): Settings(iterations=250, learning_rate=5e-4, tv_weight=1e-9, ema=0.0),
    ("paper", "full"): Settings(iterations=1000, learning_rate=5e-4, tv_weight=1e-9, ema=0.0),
}


def choose(variant, preset, iterations, given):
    """The settings of a variant's preset, with those that were given in their place; all names checked."""
    if variant not in ("fast", "paper"):
        raise ValueError(f"variant: got {variant!r}, wants 'fast' or 'paper'")
    if preset not in ("quick", "full"):
        raise ValueError(f"preset: got {preset!r}, wants 'quick' or 'full'")
    names = {f.name for f in fields(Settings)}
    unknown = set(given) - names
    if unknown:
        raise ValueError(
            f"settings: got unknown {', '.join(sorted(unknown))}, wants some of {', '.join(sorted(names))}"
        )
    if iterations is not None:
        if not isinstance(iterations, numbers.Integral) or iterations < 1:
            raise ValueError(f"iterations: got {iterations!r}, wants a positive integer")
        given = {**given, "iterations": int(iterations)}
    for name, (least, most) in LIMITS.items():
        kind = numbers.Integral if isinstance(getattr(Settings, name), int) else numbers.Real
        if name in given and not (isinstance(given[name], kind) and least <= given[name] <= most):
            raise ValueError(f"{name}: got {given[name]!r}, wants a number from {least} to {most}")
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    chosen = replace(PRESETS[variant, preset], **given)
    if not len(chosen.channels) == len(chosen.latents) == len(chosen.along):
        raise ValueError("channels, latents, along: want one entry per level each")
    return chosen
