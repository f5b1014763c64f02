"""Joint TV before and after the network: where there is a specimen, and what the network could not make."""

from __future__ import annotations

import torch
from scipy import ndimage
from torch.nn import functional as F

from softeels_utils.tomography import Constraint, Gap, Measurement, joint_tv, noise_weight, short_sirt

__all__ = [
    "add_correction",
    "find_support",
    "initial_reconstruction",
    "mix",
    "specimen_size",
    "without_specks",
]

STOP = Gap(1e-2)  # loosely converged is enough
LEVELS = (0.1, 0.05, 0.02, 0.01)  # of the first reconstruction: at most so little is nothing
MARGIN = 2  # voxels around what is more
PARTS = tuple(tenths / 10 for tenths in range(11))
SPECK = 1e-3  # of the specimen's mass: what is no more and stands alone is noise


def initial_reconstruction(measurement: Measurement, weight: float) -> torch.Tensor:
    """Joint TV, a little smoother than the noise asks for, and loosely converged.

    Parameters
    ----------
    measurement : Measurement
        The fitted part, in units in which a pure voxel has the value 1.
    weight : float
        In units of the weight at which noise alone is flattened.

    Returns
    -------
    tensor (C, Y, Z, X)
    """
    measurement = measurement.as_gaussian()
    start = short_sirt(measurement)
    weight *= noise_weight(measurement, start)
    options = {"initial": start, "stop": STOP, "max_iterations": 200, "progress": False}
    return torch.as_tensor(joint_tv(measurement, weight=weight, **options).volume, device=measurement.device)


@torch.no_grad()
def find_support(fitted: Measurement, held_out: Measurement, initial: torch.Tensor | None) -> torch.Tensor:
    """Where there may be a specimen: about the least that the first reconstruction cannot do without.

    Of the voxels above some level and a margin around them, the smallest set is taken outside of which the first
    reconstruction can be emptied without the misfit of the fitted values rising by more than its standard deviation, or
    without the held-out values being predicted worse: noise in the vacuum, once fitted, looks as if it were needed. Of
    that, specks that stand alone are left out (the correction may bring them back).

    Parameters
    ----------
    fitted, held_out : Measurement
        The second may be empty.
    initial : tensor (C, Y, Z, X) or None
        None: everywhere.

    Returns
    -------
    bool tensor (Y, Z, X)
    """
    everywhere = torch.ones(fitted.volume_shape[1:], dtype=torch.bool, device=fitted.device)
    if initial is None:
        return everywhere
    largest = initial.amax(0)
    bounds = [float(part.misfit(initial).sum()) for part in (fitted, held_out)]
    bounds[0] += (fitted.size / 2) ** 0.5
    for level in LEVELS:
        above = (largest > level).float()[None]
        support = F.max_pool3d(above, 2 * MARGIN + 1, stride=1, padding=MARGIN)[0] > 0
        misfits = [float(part.misfit(initial * support).sum()) for part in (fitted, held_out)]
        if misfits[0] <= bounds[0] or (held_out.size and misfits[1] <= bounds[1]):
            return without_specks(support, initial.sum(0))
    return everywhere


def without_specks(support: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
    """The support (Y, Z, X) less its connected parts that hold next to nothing of the mass (Y, Z, X)."""
    labels, count = ndimage.label(support.cpu().numpy())
    masses = ndimage.sum_labels(mass.cpu().numpy(), labels, range(count + 1))
    kept = masses > SPECK * masses.sum()
    return support & torch.as_tensor(kept[labels], device=support.device)


def specimen_size(initial: torch.Tensor, support: torch.Tensor) -> float:
    """Twice the root mean square radius of what is in the support, voxels: the edge of a cube.

    Parameters
    ----------
    initial : tensor (C, Y, Z, X)
    support : bool tensor (Y, Z, X)
    """
    weights = initial.sum(0).clamp_min(0)[support].double()
    weights = weights / weights.sum() if float(weights.sum()) > 0 else torch.full_like(weights, 1 / len(weights))
    places = support.nonzero().double()
    center = weights @ places
    return max(2 * float(weights @ (places - center).square().sum(1)) ** 0.5, 4.0)


@torch.no_grad()
def add_correction(volume: torch.Tensor, fitted: Measurement, weight: float, constraint: Constraint) -> torch.Tensor:
    """Add the correction of least joint TV that the fitted values ask for.

    Parameters
    ----------
    volume : tensor (C, Y, Z, X)
    fitted : Measurement
    weight : float
        Of the correction's TV, in units of the weight at which noise alone is flattened.
    constraint : Constraint
        That the corrected volume obeys.

    Returns
    -------
    tensor (C, Y, Z, X)

    References
    ----------
    G.-H. Chen, J. Tang & S. Leng, Med. Phys. 35, 660 (2008): prior image constrained compressed sensing.
    """
    gaussian = fitted.as_gaussian()
    weight *= noise_weight(gaussian, short_sirt(gaussian))
    volume = constraint(volume)
    options = {"constraint": constraint.about(volume), "stop": STOP, "max_iterations": 300, "progress": False}
    correction = joint_tv(gaussian.less(volume), weight=weight, **options).volume
    return volume + torch.as_tensor(correction, device=volume.device)


@torch.no_grad()
def mix(
    volume: torch.Tensor, other: torch.Tensor, held_out: Measurement, part: float = 0.0
) -> tuple[torch.Tensor, float]:
    """The mean of two volumes that predicts the held-out values best, where it does so beyond chance.

    Parameters
    ----------
    volume, other : tensor (C, Y, Z, X)
    held_out : Measurement
    part : float
        Weight of the other, unless the logarithm of the likelihood rises, with another weight, by more than 2 and by
        more than twice the standard error of the difference, pixel by pixel.

    Returns
    -------
    volume, part : tensor (C, Y, Z, X), float
        ``part`` is the weight of the other.
    """
    if held_out.size:
        first, second = held_out.projector(volume), held_out.projector(other)
        misfits = {p: held_out.loss(first.lerp(second, p))[held_out.used].double() for p in (part, *PARTS)}
        best = min(misfits, key=lambda p: float(misfits[p].sum()))
        gain = misfits[part] - misfits[best]
        if gain.sum() > max(2.0, 2 * float(gain.std()) * len(gain) ** 0.5):
            part = best
    return volume.lerp(other, part), part
