"""What is known: projections, their noise, which pixels may be used, and which are held out to judge by."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch

from softeels_utils.tomography import ParallelBeam
from softeels_utils.tomography.data_term import full_covariance

# Projections made from a voxel grid are wrong by about this much of their range however many electrons
# were spent, and that error is not correlated between channels as the fit's is.
MODEL_ERROR = 0.01


@dataclass(frozen=True)
class Problem:
    """Checked data of one reconstruction, as tensors in units of voxels and of each channel.

    Attributes
    ----------
    data : tensor (C, T, Y, X)
        Line integrals divided by the voxel size and the unit (counts stay counts); 0 where nothing was measured.
    modes : tensor (C, C, T, Y, X), or with ones for T, Y, X
        Rows are the independent combinations of channels in a pixel, eigenvectors of their covariance.
    precision : tensor (C, T, Y, X), or with ones
        One over the standard deviation of each. A missing channel has 0, and the others are combined among themselves.
    train, held : tensor (C, T, Y, X), bool
        Pixels to fit, and pixels to judge by. Both leave out what is masked.
    judge : tensor (C, T, Y, X)
        What to judge by: the data again, or a second measurement of the same pixels.
    exposure : float
        Of ``judge``, in units of that of the data.
    unit : tensor (C, 1, 1, 1)
        By which a volume that explains the data is multiplied to explain what the caller gave.
    poisson : bool
    projector : ParallelBeam
        Voxel size 1.
    """

    data: torch.Tensor
    modes: torch.Tensor
    precision: torch.Tensor
    train: torch.Tensor
    held: torch.Tensor
    judge: torch.Tensor
    exposure: float
    unit: torch.Tensor
    poisson: bool
    projector: ParallelBeam

    @property
    def shape(self):
        """Shape of the volume, (C, Y, Z, X)."""
        channels, _, rows, _ = self.data.shape
        return channels, rows, self.projector.n_z, self.projector.n_x

    def misfit(self, model, rows=slice(None), part="train", even=0.0):
        """Half the squared residual of each independent combination of channels, in units of its variance.

        Poisson counts: half the deviance instead.

        Parameters
        ----------
        model : tensor (C, T, rows, X)
        rows : index along Y
        part : {"train", "held"}
        even : float
            Least variance, as a share of the largest in the pixel: 1 treats all combinations alike.
        """
        if part == "train":
            keep, data = self.train[:, :, rows], self.data[:, :, rows]
        else:
            keep, data, model = self.held[:, :, rows], self.judge[:, :, rows], self.exposure * model
        if self.poisson:
            model = model.clamp_min(1e-6)
            # 0 log 0 is 0, but its derivative by autograd is not: keep the logarithms apart.
            return keep * (model - data - data * model.log() + torch.xlogy(data, data))
        modes, precision = self.modes, self.precision
        if modes.shape[3] != 1:
            modes, precision = modes[..., rows, :], precision[:, :, rows]
        precision = evened(precision, even)
        # All channels of a pixel are held out together, so dropping them before they are combined mixes nothing.
        return 0.5 * (precision * torch.einsum("cdtyx,dtyx->ctyx", modes, keep * (model - data))) ** 2


def evened(precision, even):
    """The precision (C, ...), with no combination's variance below the share ``even`` of the largest in its pixel."""
    if not even:
        return precision
    least = torch.where(precision > 0, precision, torch.inf).amin(0)
    return precision.minimum(least / even**0.5)


def independent(covariance, observed):
    """Combinations of the observed channels whose errors are independent.

    Parameters
    ----------
    covariance : array (..., C, C)
    observed : array of bool (..., C)
        Broadcasts against the covariance.

    Returns
    -------
    modes : array (..., C, C)
        Orthonormal rows.
    precision : array (..., C)
        One over the standard deviation of each; 0 in the places of missing channels.
    """
    lead = np.broadcast_shapes(covariance.shape[:-2], observed.shape[:-1])
    channels = covariance.shape[-1]
    covariance = np.broadcast_to(covariance, (*lead, channels, channels))
    observed = np.broadcast_to(observed, (*lead, channels))
    modes, precision = np.zeros((*lead, channels, channels)), np.zeros((*lead, channels))
    for pattern in itertools.product((False, True), repeat=channels):
        index = np.flatnonzero(pattern)
        pixels = (observed == pattern).all(axis=-1)
        if index.size == 0 or not pixels.any():
            continue
        # A missing channel is integrated out: the covariance of the others is a block of the whole.
        values, vectors = np.linalg.eigh(covariance[pixels][:, index[:, None], index])
        block = np.zeros((len(values), channels, channels))
        block[:, index[:, None], index] = vectors.swapaxes(-1, -2)
        modes[pixels] = block
        scale = np.zeros((len(values), channels))
        scale[:, index] = values.clip(1e-30) ** -0.5
        precision[pixels] = scale
    return modes, precision


def _ranges(data, usable):
    """Range of the values of each channel (C,); an empty channel has that of the largest."""
    ranges = np.zeros(len(data))
    for c, values in enumerate(np.abs(d[u]) for d, u in zip(data, usable, strict=True)):
        if values.size:  # a small particle may fill less than a hundredth
            ranges[c] = np.percentile(values, 99) or values.max()
    return np.where(ranges > 0, ranges, ranges.max() or 1.0)


def _second(validation, data, usable, noise):
    """A second measurement of the same pixels, checked, and its exposure in units of the first."""
    validation = np.asarray(validation)
    if validation.shape != data.shape:
        raise ValueError(f"validation: got shape {validation.shape}, wants {data.shape} as the projections")
    if validation.dtype.kind not in "fiu" or not np.isfinite(validation[usable]).all():
        raise ValueError("validation: wants finite real numbers wherever the projections have them")
    validation = np.where(usable, validation, 0).astype(np.float64)
    if noise != "poisson":
        return validation, 1.0
    if (validation < 0).any() or not validation.any() or not data.any():
        raise ValueError("validation: wants counts, none of them negative, and some of them not 0")
    return validation, float(validation.sum() / data.sum())


def pose(projections, tilt_angles_deg, *, voxel_size_nm=1.0, calibrated=True, covariance=None, mask=None,
         noise="gaussian", holdout=0.1, split="pixels", validation=None, slice_shape=None, shifts_px=None, seed=0,
         device=None):  # fmt: skip
    """Check everything a caller gave and return the `Problem`."""
    projections = np.asarray(projections)
    if projections.ndim != 4 or 0 in projections.shape:
        raise ValueError(f"projections: got shape {projections.shape}, wants (C, T, Y, X)")
    if projections.dtype.kind not in "fiu":
        raise ValueError(f"projections: got dtype {projections.dtype}, wants real numbers")
    channels, tilts, rows, columns = projections.shape
    if channels > 8:
        raise ValueError(f"projections: got {channels} channels, wants 1 to 8")
    if np.shape(tilt_angles_deg) != (tilts,):
        raise ValueError(f"tilt_angles_deg: got shape {np.shape(tilt_angles_deg)}, wants ({tilts},), one a projection")
    if noise not in ("gaussian", "poisson"):
        raise ValueError(f"noise: got {noise!r}, wants 'gaussian' or 'poisson'")
    if not 0 <= holdout < 0.5:
        raise ValueError(f"holdout: got {holdout!r}, wants a share of the pixels, 0 to 0.5")
    if split not in ("pixels", "counts"):
        raise ValueError(f"split: got {split!r}, wants 'pixels' or 'counts'")
    if split == "counts" and noise != "poisson":
        raise ValueError(f"split: got 'counts' with noise={noise!r}, wants noise='poisson'")
    if not (np.isfinite(voxel_size_nm) and voxel_size_nm > 0):
        raise ValueError(f"voxel_size_nm: got {voxel_size_nm!r}, wants a positive number")
    usable = np.ones(projections.shape, bool)
    if mask is not None:
        mask = np.asarray(mask, bool)
        if mask.shape not in (projections.shape, projections.shape[1:]):
            raise ValueError(f"mask: got shape {mask.shape}, wants {projections.shape[1:]} or {projections.shape}")
        usable &= mask
    if not np.isfinite(projections[usable]).all():
        raise ValueError("projections: has NaN or inf at a pixel that is not masked, wants finite numbers or a mask")
    for c in np.flatnonzero(~usable.any(axis=(1, 2, 3))):
        raise ValueError(f"mask: leaves no pixel of channel {c}, wants True where a pixel was measured")
    data = np.where(usable, projections, 0).astype(np.float64)
    rng = np.random.default_rng([seed, 1])
    if noise == "poisson" and (data < 0).any():
        raise ValueError("projections: has negative counts, which noise='poisson' cannot have")
    if noise == "poisson" and covariance is not None:
        raise ValueError("covariance: got one with noise='poisson', wants None (the counts tell it)")
    train, held, judge, exposure, unit = usable, np.zeros_like(usable), data, 1.0, np.ones(channels)
    if validation is not None:
        held, judge, exposure = usable, *_second(validation, data, usable, noise)
    elif split == "counts" and holdout:
        if (data % 1).any():
            raise ValueError("projections: has fractions of counts, wants whole ones with split='counts'")
        judge = rng.binomial(data.astype(np.int64), holdout)
        held, data, exposure, unit = usable, data - judge, holdout / (1 - holdout), unit / (1 - holdout)
    else:
        out = rng.random((tilts, rows, columns)) < holdout
        train, held = usable & ~out, usable & out
    if noise == "poisson":
        modes, precision = np.eye(channels)[..., None, None, None], np.ones((channels, 1, 1, 1))
    else:
        covariance = full_covariance(covariance, data, usable, singular=True)
        scale = _ranges(data, usable)
        if not calibrated:  # channels may be of different units
            unit = scale
            data, judge = (stack / unit[:, None, None, None] for stack in (data, judge))
            covariance, scale = covariance / np.outer(unit, unit), scale / unit
        covariance = covariance + ((MODEL_ERROR * scale.max()) ** 2 + 1e-30) * np.eye(channels)
        if usable.all() and covariance.ndim == 2:
            modes, precision = independent(covariance[None, None, None], np.ones(channels, bool))
        else:
            modes, precision = independent(covariance, np.moveaxis(usable, 0, -1))
        modes, precision = np.moveaxis(modes, (-2, -1), (0, 1)), np.moveaxis(precision, -1, 0)
        data, judge, precision = data / voxel_size_nm, judge / voxel_size_nm, precision * voxel_size_nm
    depth, width = (columns, columns) if slice_shape is None else slice_shape
    if width != columns or int(depth) != depth or depth < 1:
        raise ValueError(f"slice_shape: got {slice_shape}, wants whole (Z, X) with X = {columns} as in projections")
    projector = ParallelBeam((int(depth), columns), tilt_angles_deg, shifts_px=shifts_px)

    def tensor(array, dtype=torch.float32):
        return torch.as_tensor(np.ascontiguousarray(array), dtype=dtype, device=device)

    return Problem(
        data=tensor(data), modes=tensor(modes), precision=tensor(precision),
        train=tensor(train, torch.bool), held=tensor(held, torch.bool), judge=tensor(judge), exposure=exposure,
        unit=tensor(unit)[:, None, None, None], poisson=noise == "poisson", projector=projector,
    )  # fmt: skip
