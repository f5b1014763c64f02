"""Joint TV before and after the network: the reconstruction it starts from, and what it could not make."""

from __future__ import annotations

import torch

from softeels_utils.tomography import FREE, Constraint, Gap, Measurement, joint_tv, noise_weight, short_sirt

__all__ = ["add_correction", "initial_reconstruction"]

STOP = Gap(1e-2)  # loosely converged is enough


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
def add_correction(
    volume: torch.Tensor, fitted: Measurement, held_out: Measurement, weight: float, constraint: Constraint
) -> tuple[torch.Tensor, bool]:
    """Add the correction of least joint TV that the fitted pixels ask for, if the held-out ones agree.

    Parameters
    ----------
    volume : tensor (C, Y, Z, X)
    fitted, held_out : Measurement
    weight : float
        Of the correction's TV, in units of the weight at which noise alone is flattened. 0: no correction.
    constraint : Constraint
        That the corrected volume is projected onto.

    Returns
    -------
    volume, corrected : tensor (C, Y, Z, X), bool

    References
    ----------
    G.-H. Chen, J. Tang & S. Leng, Med. Phys. 35, 660 (2008): prior image constrained compressed sensing.
    """
    if not weight or not held_out.size:
        return volume, False
    gaussian = fitted.as_gaussian()
    weight *= noise_weight(gaussian, short_sirt(gaussian))
    options = {"constraint": FREE, "stop": STOP, "max_iterations": 300, "progress": False}
    correction = joint_tv(gaussian.less(volume), weight=weight, **options).volume
    corrected = constraint(volume + torch.as_tensor(correction, device=volume.device))
    better = held_out.misfit(corrected).sum() < held_out.misfit(volume).sum()
    return (corrected, True) if better else (volume, False)
