"""Numbers that make a variant of DIPm-TV, each checked when it is set."""

from __future__ import annotations

import math
import numbers
from dataclasses import asdict, dataclass, field, fields

__all__ = ["CoordinateSettings", "TVSettings", "TrainingSettings", "build", "number", "validate"]

from softeels_utils.checks import LARGEST, check_flag
from softeels_utils.doors import checked

TINY = 1e-12
LARGEST_COUNT = 2**31 - 1


def number(default: float, least: float, most: float = math.inf):
    """A dataclass field that holds a number from ``least`` to ``most`` (a whole one, where the default is)."""
    return field(default=default, metadata={"range": (least, most)})


def validate(settings) -> None:
    """Check every `number` of a dataclass; ValueError naming it, what it got and what it wants."""
    for entry in fields(settings):
        if "range" not in entry.metadata:
            continue
        value, (least, most) = getattr(settings, entry.name), entry.metadata["range"]
        kind, word = (numbers.Integral, "whole") if isinstance(entry.default, int) else (numbers.Real, "real")
        most = min(most, LARGEST_COUNT if kind is numbers.Integral else LARGEST)
        if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
            raise ValueError(f"{entry.name}: got {value!r}, wants a {word} number from {least} to {most:g}")


@checked
@dataclass(frozen=True)
class TrainingSettings:
    """How a volume model is trained.

    Attributes
    ----------
    networks : int
        Number of networks, trained one after the other, each from its own random start, and averaged: with equal
        weights, unless held-out values call for others beyond chance.
    iterations : int
        Of each.
    learning_rate : float
        Highest learning rate of the optimiser: it rises over the fraction ``warmup`` of the iterations, then falls as a
        cosine.
    pretraining : float
        Fraction of the iterations in which the model is fitted to the initial reconstruction (or, without one, to a
        short SIRT), by cross-entropy: from a bad start, the softmax drives some regions into the wrong phase, from
        which no gradient leads back.
    clip : float
        Largest norm of the gradient.
    tv_weight : float
        Of joint TV, in units of the whitened misfit: the cost of one voxel face of interface, against half a squared
        residual in units of its standard deviation. A network scales it to the specimen, so that the whole surface
        costs the same on any grid: the value is for a size of 16 voxels, and falls with the square of the size.
    entropy_weight : float
        Of the entropy of the fractions of a voxel, including vacuum, in the same unit: it draws them to 0 and 1.
    variance_floor : float
        Smallest variance of a combination of channels, as a fraction of the largest in its pixel
        (`Measurement.with_variance_floor`).
    blocks, block_rows : int
        A minibatch is this many blocks of this many neighbouring slices. 0 blocks: one per 48 slices, at least one, so
        that the same number of iterations sees a volume of any size equally often.
    ema : float
        The output is the network with its parameters averaged, exponentially, over about this fraction of the
        iterations so far. 0: no averaging.
    return_to_best : bool
        Where ``iterations`` rules out stopping early: return to the best iterate instead, and continue with a hundredth
        of the learning rate. False: let the network overfit.
    every : int
        Iterations between two checks of the held-out pixels; 0: a fortieth of the iterations.
    """

    networks: int = number(1, 1)
    iterations: int = number(1000, 1)
    learning_rate: float = number(1e-2, TINY)
    warmup: float = number(0.02, TINY, 1.0)
    pretraining: float = number(0.03, 0, 0.5)
    clip: float = number(3.0, TINY)
    tv_weight: float = number(0.2, 0)
    entropy_weight: float = number(0.0, 0)
    variance_floor: float = number(0.2, 0, 1)
    blocks: int = number(0, 0)
    block_rows: int = number(8, 1)
    ema: float = number(0.1, 0, 1)
    return_to_best: bool = True
    every: int = number(0, 0)

    def __post_init__(self):
        validate(self)
        if not isinstance(self.return_to_best, bool):
            raise ValueError(f"return_to_best: got {self.return_to_best!r}, wants True or False")


@checked
@dataclass(frozen=True)
class CoordinateSettings:
    """Architecture of a `Coordinates` network.

    Attributes
    ----------
    frequencies : int
        Number of random frequencies.
    frequency_deviation : float
        Standard deviation of each of their components, in cycles per size of the specimen (twice its root-mean-square
        radius: the edge of a cube, 0.77 of the diameter of a sphere). This is the prior: if it is too low, small voids
        are missed; if it is too high, noise is fitted.
    width, layers : int
        Of the perceptron.
    sharpness : float
        Factor on the inputs of the softmax, so that nearly pure voxels are within reach.
    """

    frequencies: int = number(128, 1)
    frequency_deviation: float = number(0.33, TINY)
    width: int = number(64, 1)
    layers: int = number(3, 1)
    sharpness: float = number(4.0, TINY)

    def __post_init__(self):
        validate(self)


@checked
@dataclass(frozen=True)
class TVSettings:
    """What is done before and after the training: joint TV, and voids.

    Attributes
    ----------
    initial_tv_weight : float
        Weight of joint TV in the initial reconstruction, which shows where the specimen is, in units of the weight at
        which noise alone is flattened. 0: no initial reconstruction; the network fills the whole field.
    correction_tv_weight : float
        Weight of TV for the correction that is added at the end, in the same unit. 0: no correction.
    empty_voids : bool
        Empty balls inside the specimen where residuals call for it beyond chance: voids that the prior has filled.
    mix : bool
        Mix the initial reconstruction into the result if held-out values call for it.
    """

    initial_tv_weight: float = number(1.0, 0)
    correction_tv_weight: float = number(1.0, 0)
    empty_voids: bool = True
    mix: bool = True

    def __post_init__(self):
        validate(self)
        for name in ("empty_voids", "mix"):
            check_flag(getattr(self, name), name)


def build(kinds: tuple[type, ...], values: dict) -> list:
    """One dataclass of each kind from values by name; ValueError for a name that none of them has."""
    names = {entry.name: kind for kind in kinds for entry in fields(kind)}
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise ValueError(f"settings: got unknown {', '.join(unknown)}, wants some of {', '.join(sorted(names))}")
    return [kind(**{name: value for name, value in values.items() if names[name] is kind}) for kind in kinds]


def flatten(*settings) -> dict:
    """All settings by name."""
    return {name: value for part in settings for name, value in asdict(part).items()}
