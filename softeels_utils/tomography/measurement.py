"""What was measured: projections of a tilt series, their errors, and the values left out, the same for every method."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..checks import (
    LARGEST,
    check_choice,
    check_count,
    check_flag,
    check_index,
    check_mask,
    check_not_negative,
    check_number,
    check_seed,
    check_tilts,
    describe,
    finite_array,
    real_array,
)
from ..doors import checked
from .checks import as_tensor, check_device
from .covariance import check_covariance, estimate_covariance, independent_combinations
from .losses import GaussianLoss, PoissonLoss
from .projector import LARGEST_SIDE, ParallelBeam

__all__ = ["Measurement"]


@checked
class Measurement:
    r"""A tilt series of maps, checked once: the input of every reconstruction.

    Parameters
    ----------
    projections : array (C, T, Y, X)
        Line integrals in the unit of ``voxel_size_nm``, so that volumes are fractions; or counts.
    tilt_angles_deg : array (T,)
        Distinct, within ±180 and spanning at least 10 degrees, in any order. A reconstruction needs at least two.
    covariance : array, optional
        Of the noise of the channels in a detector pixel: variances (C,) or (C, T, Y, X), covariances (C, C) or (T, Y,
        X, C, C) as `fitting.fit_phases` reports them. By default independent, one variance per channel, estimated from
        differences of neighbours (`estimate_covariance`).
    weights : array broadcasting to (C, T, Y, X), optional
        Inverse variances, instead of ``covariance``; 0 excludes a value.
    counts : bool
        The projections are Poisson counts, whose noise follows from their values.
    mask : bool array (T, Y, X) or (C, T, Y, X), optional
        True where a value was measured. The rest may be anything, including NaN.
    voxel_size_nm : float
    slice_shape : (int, int), optional
        ``(Z, X)`` where a slice is not square.
    shifts_px : array (T,) or (T, 2), optional
        Where the specimen's centre lands in each projection, see `ParallelBeam`.
    axis_angle_deg : float
        Of the tilt axis on the detector, from +Y towards +X.
    model_error : float
        Error of projecting a voxel grid, as a fraction of each channel's largest projection; its square is added to
        the variances.
    device : str or torch.device, optional
        By default the GPU if there is one.

    Attributes
    ----------
    projector : ParallelBeam
    loss : GaussianLoss or PoissonLoss
        Holds the projections as tensors, and which of their values are used.
    covariance : array (C, C) or (T, Y, X, C, C), or None
        As used, including the model error; None for counts.
    noise_is_known : bool
        Whether the noise was stated (or the values are counts), not estimated.
    padding : int
        Masked columns on each side of the detector (`padded`).

    Raises
    ------
    ValueError
        Naming the argument, what it got and what it wants.

    Examples
    --------
    >>> volume = np.zeros((2, 4, 16, 16), np.float32)
    >>> tilts = np.linspace(-70, 70, 9)
    >>> measurement = Measurement(ParallelBeam(16, tilts)(volume) + 1, tilts, covariance=[0.1, 0.2])
    >>> measurement.volume_shape
    (2, 4, 16, 16)
    """

    def __init__(
        self,
        projections: ArrayLike,
        tilt_angles_deg: ArrayLike,
        *,
        covariance: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        counts: bool = False,
        mask: ArrayLike | None = None,
        voxel_size_nm: float = 1.0,
        slice_shape: tuple[int, int] | None = None,
        shifts_px: ArrayLike | None = None,
        axis_angle_deg: float = 0.0,
        model_error: float = 0.01,
        device: str | torch.device | None = None,
    ):
        stack, used = _check_projections(projections, mask)
        if weights is not None:
            if covariance is not None:
                raise ValueError("weights: got both weights and covariance, wants one of them")
            weights = _check_weights(weights, stack.shape)
            used &= weights > 0
            covariance = 1 / np.where(weights > 0, weights, 1)
        _check_values(stack, used)
        counts = check_flag(counts, "counts")
        device = check_device(device)
        self.projector = _projector(stack, tilt_angles_deg, voxel_size_nm, slice_shape, device).like(
            shifts_px=shifts_px, axis_angle_deg=axis_angle_deg
        )
        _check_turned(self.projector, counts)
        self.noise_is_known, self.padding = counts or covariance is not None, 0
        stack = np.where(used, stack, 0).astype(np.float32)
        if counts:
            if covariance is not None:
                raise ValueError("covariance: got one with counts, wants None (counts know their own noise)")
            if (stack < 0).any():
                raise ValueError("projections: got negative counts, wants none below 0")
            self.covariance = None
            tensor = as_tensor(stack, device)
            gain = tensor.new_ones((len(stack), 1, 1, 1))
            self.loss = PoissonLoss(tensor, torch.as_tensor(used, device=tensor.device), gain)
            return
        check_not_negative(model_error=model_error)
        covariance = estimate_covariance(stack, used) if covariance is None else check_covariance(covariance, used)
        self.covariance = covariance + np.diag((model_error * np.abs(stack).max(axis=(1, 2, 3))) ** 2)
        self.loss = _gaussian_loss(as_tensor(stack, device), used, self.covariance)

    def __repr__(self) -> str:
        channels, tilts, rows, columns = self.projections.shape
        noise = "counts" if self.counts else "known noise" if self.noise_is_known else "estimated noise"
        return f"Measurement({channels} channels, {tilts} tilts of {rows} × {columns} pixels, {noise})"

    # ---------------------------------------------------------------- what it holds

    @property
    def counts(self) -> bool:
        """Whether the values are Poisson counts."""
        return isinstance(self.loss, PoissonLoss)

    @property
    def projections(self) -> torch.Tensor:
        """As measured, (C, T, Y, X); 0 where not used."""
        return self.loss.projections

    @property
    def used(self) -> torch.Tensor:
        """Which values count, bool (C, T, Y, X)."""
        return self.loss.used

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.projections.device

    @property
    def size(self) -> int:
        """Number of values used."""
        return self.loss.size

    @property
    def volume_shape(self) -> tuple[int, int, int, int]:
        """(C, Y, Z, X)."""
        return (len(self.projections), self.projections.shape[-2], self.projector.n_z, self.projector.n_x)

    def fingerprint(self, *settings: Any, initial: torch.Tensor | None = None) -> str:
        """Hash of the measurement, of settings and of an initial volume: it identifies the checkpoints of a run."""
        digest = hashlib.sha256(repr((settings, self.counts, self.volume_shape, self.projector.voxel_size_nm)).encode())
        loss = self.loss
        tensors = (loss.gain,) if self.counts else (loss.modes, loss.precision)
        for tensor in (loss.projections, loss.used, *tensors, *(() if initial is None else (initial,))):
            digest.update(np.ascontiguousarray(tensor.cpu().numpy()).tobytes())
        for array in (self.projector.tilt_angles_deg, self.projector.shifts_px, self.projector.axis_angle_deg):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    # ---------------------------------------------------------------- model and data

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Whitened projections L A v of a volume (C, Y, Z, X), 0 where not used; for counts, the expected counts."""
        return self.loss.whiten(self._project(volume))

    def adjoint(self, dual: torch.Tensor) -> torch.Tensor:
        """The exact transpose of `forward`, Aᵀ Lᵀ y."""
        return self.projector.T(self.loss.whiten_transposed(self._like(dual, self.projections.shape, "dual")))

    def residual(self, volume: torch.Tensor) -> torch.Tensor:
        """Whitened A v - p (not for counts)."""
        return self.loss.whiten(self._project(volume) - self.projections)

    def misfit(self, volume: torch.Tensor) -> torch.Tensor:
        """Half the chi-square (for counts: the deviance) of each value, (C, T, Y, X)."""
        return self.loss(self._project(volume))

    def chi2(self, volume: torch.Tensor) -> float:
        """Chi-square (for counts: deviance) per value used: about 1 if residuals are as large as the errors."""
        return 2 * float(self.misfit(volume).sum(dtype=torch.float64)) / max(self.size, 1)

    def _project(self, volume):
        return self.projector(self._like(volume, self.volume_shape, "volume"))

    def _like(self, tensor, shape, name):
        """The tensor; ValueError unless it has that shape."""
        if tuple(tensor.shape) != tuple(shape):
            raise ValueError(f"{name}: got shape {tuple(tensor.shape)}, wants {tuple(shape)}")
        return tensor

    def sums(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Row and column sums of ``|L| |A|``, (C, T, Y, X) and (C, Y, Z, X), from which step sizes follow."""
        one, projector = self.projections.new_ones((1, *self.volume_shape[1:])), self.projector.absolute
        strength = self.loss.whitener.abs()
        rows = strength.sum(1) * projector(one) * self.used
        return rows, projector.T(strength.sum(0) * self.used)

    # ---------------------------------------------------------------- parts and relatives

    def _with(self, loss, **attributes) -> Measurement:
        other = copy.copy(self)
        vars(other).update(loss=loss, **attributes)
        return other

    def with_geometry(
        self,
        *,
        tilt_angles_deg: ArrayLike | None = None,
        shifts_px: ArrayLike | None = None,
        axis_angle_deg: float | None = None,
    ) -> Measurement:
        """The same values with another geometry; None leaves a part as it is."""
        stated = {"tilt_angles_deg": tilt_angles_deg, "shifts_px": shifts_px, "axis_angle_deg": axis_angle_deg}
        changes = {name: value for name, value in stated.items() if value is not None}
        if "tilt_angles_deg" in changes:
            check_tilts(tilt_angles_deg, self.projector.n_tilts, least=1)
        projector = self.projector.like(**changes)
        _check_turned(projector, self.counts)
        return self._with(self.loss, projector=projector)

    def rows(self, rows: torch.Tensor | slice) -> Measurement:
        """Some rows along Y (an index), to compare with those slices of a volume; with a rotated tilt axis, only all
        rows.
        """
        count = self.volume_shape[1]
        check_index(rows.cpu() if isinstance(rows, torch.Tensor) else rows, "rows", count)
        if self.projector.axis_angle_deg and len(torch.arange(count, device=self.device)[rows]) < count:
            raise ValueError("rows: got some with a turned tilt axis, wants all (each is seen across several slices)")
        return self._with(self.loss.rows(rows))

    def padded(self, columns: int | None = None, depth: int | None = None) -> Measurement:
        """The same measurement with a wider slice, for a specimen that leaves the field of view (see `leaves_field`).

        Masked columns are added on each side of the detector, to make room for material that lies outside the field at
        0° and enters it at other tilts. `crop` cuts volumes back to the field.

        Parameters
        ----------
        columns : int, optional
            Number on each side. By default as many as the rays at the detector's edges cross within the slice's depth,
            ``(X + Z |sin|) / (2 cos) - X / 2`` at the highest tilt, at most X.
        depth : int, optional
            Number of voxels along Z: a thin section needs only its thickness, and then fewer columns.
        """
        old = self.projector
        n_z = old.n_z if depth is None else check_count(depth, "depth", most=LARGEST_SIDE)
        if columns is None:
            tilts = np.deg2rad(old.tilt_angles_deg)
            reach = (old.n_x + n_z * np.abs(np.sin(tilts))) / (2 * np.abs(np.cos(tilts)).clip(1e-3)) - old.n_x / 2
            columns = int(min(np.ceil(reach.max()), old.n_x))
        columns = check_count(columns, "columns", 0, LARGEST_SIDE)
        size = (n_z, old.n_x + 2 * columns)
        wider = old.like(n=size)
        covariance = self.covariance
        if covariance is not None and covariance.ndim == 5 and columns:
            covariance = np.pad(covariance, ((0, 0), (0, 0), (columns, columns), (0, 0), (0, 0)))
            covariance[:, :, :columns] = covariance[:, :, -columns:] = np.eye(len(self.projections))
        padding = self.padding + columns
        return self._with(self.loss.padded(columns), projector=wider, covariance=covariance, padding=padding)

    def crop(self, volume: ArrayLike | torch.Tensor) -> ArrayLike | torch.Tensor:
        """A volume (..., Y, Z, X), or projections, without the columns that `padded` added."""
        if np.ndim(volume) < 3 or np.shape(volume)[-1] != self.projector.n_x:
            raise ValueError(f"volume: got shape {np.shape(volume)}, wants (..., Y, Z, {self.projector.n_x})")
        return volume[..., self.padding : volume.shape[-1] - self.padding]

    def split(self, fraction: float, seed: int = 0, by: str = "pixels") -> tuple[Measurement, Measurement]:
        """Split into two disjoint parts, ``(to fit, held out)``.

        Parameters
        ----------
        fraction : float
            Fraction that is held out, of the units named by ``by``.
        seed : int
        by : {"pixels", "tilts", "counts"}
            Detector pixels, all channels of one together; whole tilts, at least one, spread evenly and never the
            outermost two; or the counts of every pixel, drawn binomially, which leaves two independent measurements
            of it.
        """
        if check_number(fraction, "fraction", 0, 1) == 1:
            raise ValueError(f"fraction: got {fraction!r}, wants a fraction from 0 to below 1")
        check_seed(seed)
        check_choice(by, "by", ("pixels", "tilts", "counts"))
        if by != "counts":
            generator = torch.Generator().manual_seed(seed)
            draw = self._draw_tilts if by == "tilts" else self._draw_pixels
            out = draw(fraction, generator).to(self.device)
            return self._with(self.loss.restricted(~out)), self._with(self.loss.restricted(out))
        if not self.counts:
            raise ValueError("by: got 'counts', wants 'pixels' or 'tilts' (the projections are not counts)")
        whole = self.projections.cpu().numpy()
        if (whole % 1).any():
            raise ValueError("projections: got fractions of counts, wants whole ones to split them")
        drawn = np.random.default_rng([seed, 1]).binomial(whole.astype(np.int64), fraction)
        held_out = as_tensor(drawn.astype(np.float32), self.device)
        return tuple(
            self._with(replace(self.loss, projections=counts, gain=part * self.loss.gain))
            for counts, part in ((self.projections - held_out, 1 - fraction), (held_out, fraction))
        )

    def _draw_pixels(self, fraction, generator):
        return torch.rand(self.projections.shape[1:], generator=generator) < fraction

    def _draw_tilts(self, fraction, generator):
        inner = torch.as_tensor(np.argsort(self.projector.tilt_angles_deg)[1:-1].copy())
        count = max(round(fraction * (len(inner) + 2)), fraction > 0)
        if count > len(inner) / 2:
            raise ValueError(f"fraction: got {fraction!r} of {len(inner) + 2} tilts, wants to leave more than it takes")
        places = (torch.arange(count) + torch.rand(1, generator=generator)) / max(count, 1) * len(inner)
        out = torch.zeros(self.projections.shape[1:], dtype=torch.bool)
        out[inner[places.long()]] = True
        return out

    def repeated(self, validation: ArrayLike) -> Measurement:
        """A second measurement of the same pixels with the same covariance; counts may have another exposure."""
        stack = real_array(validation, "validation", finite=False)
        if stack.shape != tuple(self.projections.shape):
            raise ValueError(f"validation: got shape {stack.shape}, wants {tuple(self.used.shape)}")
        used = self.used.cpu().numpy()
        real_array(stack[used], "validation", where=" wherever the projections have them")
        tensor = as_tensor(np.where(used, stack, 0).astype(np.float32), self.device)
        if not self.counts:
            return self._with(replace(self.loss, projections=tensor))
        if tensor.min() < 0 or not tensor.any() or not self.projections.any():
            least, most = float(tensor.min()), float(tensor.max())
            raise ValueError(f"validation: got values from {least:g} to {most:g}, wants counts, and some not 0")
        exposure_ratio = float(tensor.sum(dtype=torch.float64) / self.projections.sum(dtype=torch.float64))
        return self._with(replace(self.loss, projections=tensor, gain=exposure_ratio * self.loss.gain))

    def resample(self, seed: int) -> Measurement:
        """The same with noise of its own covariance added, and so twice that covariance; or counts drawn from the
        counts.
        """
        rng = np.random.default_rng([check_seed(seed), 2])
        if self.counts:
            counts = rng.poisson(self.projections.cpu().numpy().astype(float))
            return self._with(replace(self.loss, projections=as_tensor(counts, self.device)))
        loss = self.loss
        modes, precision = loss.modes.cpu().numpy(), loss.precision.cpu().numpy().astype(float)
        sigma = np.divide(1.0, precision, out=np.zeros_like(precision), where=precision > 0)
        shape = tuple(loss.projections.shape)
        modes, draw = np.broadcast_to(modes, (len(modes), *shape)), sigma * rng.standard_normal(shape)
        noise = as_tensor(np.einsum("cdtyx,ctyx->dtyx", modes, draw).astype(np.float32), self.device)
        noisy = loss.projections + loss.used * noise
        twice = replace(loss, projections=noisy, precision=loss.precision / 2**0.5)
        return self._with(twice, covariance=2 * self.covariance)

    def rescaled(self, scale: ArrayLike) -> Measurement:
        """Projections of volume / scale, with scale (C,), so that a pure voxel has the value 1."""
        scale = finite_array(scale, "scale")
        if scale.shape != (len(self.projections),) or not (scale > 0).all():
            raise ValueError(f"scale: got {describe(scale.tolist())}, wants ({len(self.projections)},) numbers above 0")
        column = as_tensor(scale[:, None, None, None].astype(np.float32), self.device)
        if self.counts:
            return self._with(replace(self.loss, gain=self.loss.gain * column))
        covariance = self.covariance / np.outer(scale, scale)
        used = self.used.cpu().numpy()
        return self._with(_gaussian_loss(self.projections / column, used, covariance), covariance=covariance)

    def transformed(self, transform: ArrayLike) -> Measurement:
        """Other combinations of the channels (not for counts): the maps that other references would have given.

        Parameters
        ----------
        transform : array (C, C)
            Channel ``d`` becomes the sum over ``c`` of channel ``c`` times ``transform[c, d]``.
        """
        transform = finite_array(transform, "transform")
        if self.counts or transform.shape != (len(self.projections),) * 2:
            what = "counts" if self.counts else f"shape {transform.shape}"
            raise ValueError(f"transform: got {what}, wants {(len(self.projections),) * 2}, and no counts")
        used = self.used.cpu().numpy()
        if (used.all(0) != used.any(0)).any():
            raise ValueError("mask: got pixels with some of the channels, wants all or none to combine them")
        matrix = as_tensor(transform.astype(np.float32), self.device)
        mixed = torch.einsum("ctyx,cd->dtyx", self.projections, matrix)
        covariance = transform.T @ self.covariance @ transform
        return self._with(_gaussian_loss(mixed, used, covariance), covariance=covariance)

    def less(self, volume: torch.Tensor) -> Measurement:
        """What a volume leaves unexplained: the projections minus those of the volume (not for counts)."""
        if self.counts:
            raise ValueError("volume: got one to take from counts, wants a measurement of other values")
        rest = self.used * (self.projections - self._project(volume))
        return self._with(replace(self.loss, projections=rest))

    def with_variance_floor(self, fraction: float) -> Measurement:
        """The same, with every combination's variance at least this fraction of the largest in its pixel.

        Combinations that are known much better than others (the sum of two anti-correlated phases) would otherwise
        swamp the others in every step of a stochastic method. `covariance` stays what it is, and `rescaled` starts from
        it: apply the floor last.
        """
        return self._with(self.loss.with_variance_floor(check_number(fraction, "fraction", 0, 1)))

    def as_gaussian(self) -> Measurement:
        """Counts as Gaussian values whose variance is the count, at least 1; other measurements unchanged."""
        if not self.counts:
            return self
        gain = self.loss.gain
        sigma = self.projections.clamp_min(1).sqrt() / gain
        modes = torch.eye(len(gain), device=self.device)[..., None, None, None]
        loss = GaussianLoss(self.projections / gain, self.used, modes, self.used / sigma)
        variance = np.moveaxis((sigma**2).cpu().numpy(), 0, -1)
        return self._with(loss, covariance=variance[..., None] * np.eye(len(gain)))


def _check_projections(projections, mask):
    """Projections as an array, and which values are used."""
    stack = real_array(projections, "projections", finite=False)
    if stack.ndim != 4 or 0 in stack.shape:
        raise ValueError(f"projections: got shape {stack.shape}, wants (C, T, Y, X)")
    used = np.ones(stack.shape, bool)
    if mask is not None:
        used &= check_mask(mask, "mask", stack.shape[1:], stack.shape)
    return stack, used


def _check_weights(weights, shape):
    weights = real_array(weights, "weights", finite=False)
    try:
        weights = np.broadcast_to(weights, shape).astype(float)
    except ValueError:
        raise ValueError(f"weights: got shape {np.shape(weights)}, wants one that broadcasts to {shape}") from None
    known = weights[weights != 0]
    if not (known >= LARGEST**-2).all() or not (known <= LARGEST**2).all():  # NaN is neither
        raise ValueError("weights: got negative, not finite or absurd values, wants inverse variances (0: leave out)")
    for c in np.flatnonzero(~weights.any(axis=(1, 2, 3))):
        raise ValueError(f"weights: got 0 everywhere in channel {c}, wants some above it")
    return weights


def _check_values(stack, used):
    real_array(stack[used], "projections", where=" where the mask says measured")
    for c in np.flatnonzero(~used.any(axis=(1, 2, 3))):
        raise ValueError(f"mask: got nothing measured in channel {c}, wants True where a value was measured")


def _projector(stack, tilt_angles_deg, voxel_size_nm, slice_shape, device):
    tilts = check_tilts(tilt_angles_deg, stack.shape[1], least=1)
    columns = stack.shape[-1]
    size = np.array([columns, columns]) if slice_shape is None else real_array(slice_shape, "slice_shape")
    if size.shape != (2,) or size[1] != columns or (size % 1).any() or not 1 <= size[0] < 2**31:
        raise ValueError(f"slice_shape: got {slice_shape}, wants whole (Z, X) with X = {columns} as in projections")
    return ParallelBeam((int(size[0]), columns), tilts, voxel_size_nm, device)


def _check_turned(projector, counts):
    if counts and projector.axis_angle_deg:
        angle = projector.axis_angle_deg
        raise ValueError(f"axis_angle_deg: got {angle:g} with counts, wants 0 (else some are expected below 0)")


def _gaussian_loss(projections, used, covariance) -> GaussianLoss:
    """The loss of a checked covariance (C, C) or (T, Y, X, C, C)."""
    by_channel = np.moveaxis(used, 0, -1)
    whole = by_channel.all(-1)
    if covariance.ndim == 2 and (whole | ~by_channel.any(-1)).all():  # channels of a pixel come and go together
        covariance, observed = covariance[None, None, None], np.ones(len(used), bool)
    else:
        observed = by_channel
    modes, precision = independent_combinations(covariance, observed)
    tensors = (np.moveaxis(modes, (-2, -1), (0, 1)), np.moveaxis(precision, -1, 0))
    modes, precision = (as_tensor(np.ascontiguousarray(t).astype(np.float32), projections.device) for t in tensors)
    return GaussianLoss(projections, torch.as_tensor(used, device=projections.device), modes, precision)
