"""Joint TV before and after the network: the reconstruction it starts from, and what it could not make."""

from __future__ import annotations

import torch

from softeels_utils.tomography import reconstruct
from softeels_utils.tomography.constraint import Constraint

from .problem import evened


def first_reconstruction(problem, weight, *, even, calibrated):
    """Joint TV of the fitted pixels, a little smoother than their noise asks for, and loosely converged.

    Parameters
    ----------
    problem : Problem
    weight : float
        In units of the weight that noise alone asks for. 0: none, the scale only.
    even : float
        As in `Problem.misfit`.
    calibrated : bool
        False: learn the scale of each channel.

    Returns
    -------
    fractions : tensor (C, Y, Z, X) or None
    scale : tensor (C,)
        Value of a pure voxel.
    """
    given = {"even": even, "calibrated": calibrated}
    result = _joint_tv(problem, problem.data, weight="noise", iterations=1, **given)
    if weight:
        options = {"initial": result.volume, "tolerance": 1e-2, "max_iterations": 200}
        result = _joint_tv(problem, problem.data, weight=weight * result.weight, **options, **given)
    scale = torch.as_tensor(result.scale, dtype=torch.float32)
    fractions = torch.as_tensor(result.volume) / scale[:, None, None, None]
    device = problem.data.device
    return fractions.to(device) if weight else None, scale.to(device)


@torch.no_grad()
def correct(problem, volume, scale, weight, simplex):
    """Add the correction of least joint TV that the fitted pixels ask for, if the held-out ones agree.

    Parameters
    ----------
    problem : Problem
    volume : tensor (C, Y, Z, X)
    scale : tensor (C,)
    weight : float
        Of the correction's TV, in units of the weight that noise alone asks for. 0: no correction.
    simplex : bool
        Whether volume / scale are fractions that add up to at most one.

    Returns
    -------
    volume : tensor (C, Y, Z, X)
    corrected : bool

    References
    ----------
    G.-H. Chen, J. Tang & S. Leng, Med. Phys. 35, 660 (2008): prior image constrained compressed sensing.
    """
    if not weight or not problem.held.any():
        return volume, False
    noise_weight = _joint_tv(problem, problem.data, scale, weight="noise", iterations=1).weight
    options = {"bounds": (None, None), "tolerance": 1e-2, "max_iterations": 300}
    residual = problem.data - problem.projector(volume)
    fractions = _joint_tv(problem, residual, scale, weight=weight * noise_weight, **options).volume
    column = scale[:, None, None, None]
    fractions = volume / column + torch.as_tensor(fractions, device=volume.device)
    corrected = column * Constraint(0.0, None, simplex)(fractions)
    before, after = (problem.misfit(problem.projector(v), part="held").sum() for v in (volume, corrected))
    return (corrected, True) if after < before else (volume, False)


def _joint_tv(problem, data, scale=None, even=0.0, **options):
    """Of the fitted pixels; where there is a ``scale``, of fractions in place of values."""
    if problem.poisson:
        covariance = torch.diag_embed(problem.data.clamp_min(1).movedim(0, -1))
    else:
        precision = evened(problem.precision, even)
        variance = torch.where(precision > 0, precision, 1) ** -2
        covariance = torch.einsum("cd...,c...,ce...->...de", problem.modes, variance, problem.modes)
        covariance = covariance[0, 0, 0] if covariance.shape[:3] == (1, 1, 1) else covariance
    if scale is not None:
        data, covariance = data / scale[:, None, None, None], covariance / torch.outer(scale, scale)
    projector = problem.projector
    return reconstruct(
        data.cpu().numpy(), projector.tilt_angles_deg, "joint_tv", covariance=covariance.cpu().numpy(),
        model_error=0.0, mask=problem.train.cpu().numpy(), shifts_px=projector.shifts_px,
        slice_shape=(projector.n_z, projector.n_x), device=str(data.device), details=True, progress=False, **options,
    )  # fmt: skip
