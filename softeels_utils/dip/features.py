r"""A test for a feature of a volume: is this void, this skin, this film in the data, or in the prior?

With the volume :math:`v_0` that has the alternative in place of the feature, and the change D that would turn the
region wholly into what the feature is made of, the data are

.. math:: L p = L A (v_0 + a D + e) + n, \qquad e \sim N(0, C), \quad n \sim N(0, 1),

where L whitens the noise and e is what the rest of the volume may be wrong by (`VolumeErrors`): it was fitted to the
same data with the feature in place, and must be free to adapt without it. Profiling e out of the likelihood ratio
leaves one number, the best amplitude a, and its error:

.. math:: \hat a = g^T S^{-1} r / g^T S^{-1} g, \quad g = L A D, \quad r = L (p - A v_0), \quad S = 1 + L A C A^T L^T.

S is never formed: Lanczos' method solves with it, and gives the error at any other fluence from the same run.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, optimize, stats

from softeels_utils.checks import (
    check_count,
    check_kind,
    check_mask,
    check_number,
    check_seed,
    finite_array,
    real_array,
)
from softeels_utils.doors import checked
from softeels_utils.tomography import GaussianLoss, Measurement, PoissonLoss

__all__ = [
    "VACUUM",
    "FeatureTest",
    "VolumeErrors",
    "as_gaussian",
    "as_volume",
    "claim",
    "feature_test",
    "fill_in",
    "other_compositions",
]

VACUUM = "vacuum"
POWER = 0.9
LONGEST = 1e3  # of what errors may be, in voxels or fractions
MARGIN = 4  # rows on each side of the region whose data are used as well
FEWEST_COUNTS = 0.5  # expected in a pixel, for its weight


@checked
@dataclass(frozen=True)
class VolumeErrors:
    """Errors that a reconstruction may have besides the feature: a Gaussian process around either volume.

    The defaults were chosen on eight drawn specimens so that the amplitude found agrees with the truth within its
    error; ``benchmarks/features.py`` reports on other specimens.

    Attributes
    ----------
    interface_px : float
        Standard deviation of the position of an interface, in voxels: the error is this times the local slope.
    bulk : float
        Standard deviation of the fractions in a full voxel, over ``length_px``.
    smooth : float
        The same over ``smooth_length_px``: a wrong scale, cupping, shadows of the missing wedge.
    composition : float
        Standard deviation, inside the region and over both lengths, of departures from the alternative's composition,
        so that a core that the alternative lacks is not taken for a void: the exchange of one phase for another where
        vacuum is claimed, the amounts of all other phases where a phase is claimed.
    length_px, smooth_length_px : float
        Correlation lengths: the standard deviation of the Gaussian that smooths white noise into the error.
    """

    interface_px: float = 0.5
    bulk: float = 0.1
    smooth: float = 0.2
    composition: float = 0.5
    length_px: float = 1.0
    smooth_length_px: float = 4.0

    def __post_init__(self):
        for item in fields(self):
            least = 0.3 if item.name.endswith("length_px") else 0.0
            check_number(getattr(self, item.name), item.name, least, LONGEST)


@checked
@dataclass(frozen=True)
class FeatureTest:
    """Whether the data contain a feature.

    Attributes
    ----------
    p_value : float
        Probability of data that speak at least as strongly for the feature, if it did not exist.
    p_contradiction : float
        Probability of data that speak at least as strongly against the feature, if it existed as the volume shows it.
    decided : str
        ``"supported"`` (the data reject the volume without it); ``"contradicted"`` (they reject the volume with it);
        ``"weaker than shown"`` (both: there is something, but less); ``"undecided"`` (neither: the data cannot tell,
        and the feature comes from the prior).
    effect, standard_error : float
        Amplitude that fits the data best: 1 as in the volume, 0 as in the alternative. The error allows for an outline
        that is as uncertain as other interfaces.
    statistic : float
        Signed root of the likelihood ratio against the volume without the feature: standard normal if it is right.
    fluence_factor : float
        Multiple of the fluence of these data at which a feature as shown is found with a probability of 0.9; inf if no
        fluence decides it in these views.
    feature : str or int
        What the region is claimed to be: ``"vacuum"`` or a phase.
    contrast : float
        Fraction of the region that the volume turns into the feature.
    dispersion : float
        Chi-square per value :math:`r^T S^{-1} r / N` of the rows around the region, at least 1: variances are
        multiplied by it, so that errors larger than stated do not produce features.
    null : array (simulations,)
        Statistics simulated from the volume without the feature; empty where the distribution is known.
    """

    p_value: float
    p_contradiction: float
    decided: str
    effect: float
    standard_error: float
    statistic: float
    fluence_factor: float
    feature: str | int
    contrast: float
    dispersion: float
    null: NDArray[np.float64] = field(repr=False)


@checked
def feature_test(
    measurement: Measurement,
    volume: ArrayLike | Any,
    region: ArrayLike,
    alternative: str | int | ArrayLike = "fill",
    *,
    feature: str | int | None = None,
    errors: VolumeErrors | None = None,
    places: float = 1.0,
    level: float = 0.05,
    reconstruct: Callable[[Measurement], Any] | None = None,
    simulations: int | None = None,
    seed: int = 0,
) -> FeatureTest:
    """Test whether the data contain what a volume shows in a region.

    The level holds for a region chosen before the volume was seen. For one that the volume itself suggested, give
    ``places``, the number of regions of its size that would have been reported as well (`audit` does).

    Parameters
    ----------
    measurement : Measurement
        What the volume was reconstructed from, with its covariance as far as known.
    volume : array (C, Y, Z, X), or a result that has one
        Volume fractions with the feature; from any method.
    region : bool array (Y, Z, X)
        Where the feature is.
    alternative : "fill", "vacuum", int, array (C,) or array (C, Y, Z, X)
        What is there without the feature: the surroundings continued, vacuum, one phase, or given fractions.
    feature : "vacuum" or int, optional
        What the region would be: vacuum, or a phase as dense as the alternative. By default what the difference between
        volume and alternative suggests, at the price of a p-value that counts one trial per candidate.
    errors : VolumeErrors, optional
    places : float
        Number of trials for which ``p_value`` is corrected (Šidák), at least 1.
    level : float
        Significance level for ``decided`` and ``fluence_factor``.
    reconstruct : callable, optional
        The method that made the volume, from a measurement to a volume or a result: the null distribution is then
        taken from reconstructions of data simulated from the volume without the feature. By default the data alone
        are simulated (Poisson counts), or the distribution is known (Gaussian noise: standard normal).
    simulations : int, optional
        By default 999, or 39 with ``reconstruct``.
    seed : int

    Examples
    --------
    >>> from softeels_utils.tomography import ParallelBeam
    >>> volume = np.zeros((1, 9, 16, 16), np.float32)
    >>> volume[:, 1:8, 4:12, 4:12] = 1
    >>> tilts, hidden = np.linspace(-70, 70, 9), np.zeros((9, 16, 16), bool)
    >>> hidden[3:6, 6:9, 6:9] = True
    >>> data = Measurement(ParallelBeam(16, tilts)(volume), tilts, covariance=[0.2])
    >>> feature_test(data, np.where(hidden, 0, volume), hidden, feature="vacuum").decided
    'contradicted'
    """
    shown = as_volume(measurement, volume)
    region = _check_region(region, shown)
    errors = VolumeErrors() if errors is None else errors
    check_options(errors, places, level, reconstruct)
    default = 999 if reconstruct is None else 39
    simulations = default if simulations is None else check_count(simulations, "simulations", 19)
    without = _without(shown, region, alternative)
    name, contrast, change = claim(shown, without, region, feature)
    if contrast < 1e-4:
        raise ValueError(f"region: got a contrast of {contrast:.2g} to the alternative, wants a feature that is shown")
    check_seed(seed)
    rng, trials = np.random.default_rng([seed, 4]), places * (len(shown) if feature is None else 1)
    asked = measurement, region, without, change, errors, name
    absent = _Hypothesis(*asked)
    present = _Hypothesis(*asked, contrast, absent.dispersion)
    statistic, null, against = absent.statistic(), np.empty(0), np.empty(0)
    if measurement.counts:
        null, against = absent.simulated(simulations, rng), present.simulated(simulations, rng)
    if reconstruct is not None:
        repeats = _repeats(measurement, without, reconstruct, simulations, seed)
        null = np.array([absent.statistic(m, _without(v, region, alternative)) for m, v in repeats])
    p = -np.expm1(trials * np.log1p(-min(_tail(statistic, null), 1 - 1e-15)))
    q = _tail(-present.statistic(), -against)
    decided = {(1, 0): "supported", (0, 1): "contradicted", (1, 1): "weaker than shown", (0, 0): "undecided"}
    target = stats.norm.isf(-np.expm1(np.log1p(-level) / trials)) + stats.norm.ppf(POWER)
    return FeatureTest(
        p_value=float(p),
        p_contradiction=float(q),
        decided=decided[int(p < level), int(q < level)],
        effect=present.amplitude() / contrast,
        standard_error=present.standard_error / contrast,
        statistic=float(statistic),
        fluence_factor=absent.fluence_factor(target / contrast),
        feature=name,
        contrast=contrast,
        dispersion=absent.dispersion,
        null=null,
    )


# ---------------------------------------------------------------- what is asked


def as_volume(measurement: Measurement, volume: ArrayLike | Any, name: str = "volume") -> NDArray[np.float64]:
    """The volume of a result, or the array itself, checked against the measurement."""
    check_kind(measurement, "measurement", Measurement)
    array = real_array(getattr(volume, "volume", volume), name)
    if array.shape != measurement.volume_shape:
        raise ValueError(f"{name}: got shape {array.shape}, wants {measurement.volume_shape}")
    return array.astype(float)


def _check_region(region, volume):
    region = check_mask(region, "region", volume.shape[1:])
    if not region.any() or region.all():
        raise ValueError(f"region: got {region.sum()} voxels of {region.size}, wants some, and not all")
    return region


def check_options(errors: VolumeErrors, places: float, level: float, reconstruct: Callable | None) -> None:
    """Raise `ValueError` for what is no option of a test."""
    check_kind(errors, "errors", VolumeErrors)
    if not (isinstance(places, numbers.Real) and np.isfinite(places) and places >= 1):
        raise ValueError(f"places: got {places!r}, wants a number of at least 1")
    if not (isinstance(level, numbers.Real) and 0 < level < 0.5):
        raise ValueError(f"level: got {level!r}, wants a probability below 0.5")
    if reconstruct is not None and not callable(reconstruct):
        raise ValueError(f"reconstruct: got {reconstruct!r}, wants a callable")


@checked
def fill_in(volume: ArrayLike, region: ArrayLike) -> NDArray[np.float64]:
    """The volume (C, Y, Z, X) with the surroundings of a region (Y, Z, X) continued into it by harmonic interpolation.

    The interpolation starts two voxels away from the region, because nearer voxels share its blur.
    """
    volume = np.asarray(real_array(volume, "volume", ndim=4), float)
    region = _check_region(region, volume)
    free = ndimage.binary_dilation(region)
    if free.all():
        raise ValueError("region: got one that leaves nothing around it, wants surroundings to fill it from")
    nearest = ndimage.distance_transform_edt(free, return_distances=False, return_indices=True)
    filled = volume[(slice(None), *nearest)]
    (box,) = ndimage.find_objects(free.astype(int))
    box = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in box)
    kernel = ndimage.generate_binary_structure(3, 1) / 6.0
    kernel[1, 1, 1] = 0
    for channel in filled:
        inner, inside = channel[box], free[box]  # a view
        for _ in range(3 * max(inner.shape)):
            inner[inside] = ndimage.convolve(inner, kernel, mode="nearest")[inside]
    return np.where(region, filled, volume)


def _without(volume, region, alternative):
    """The volume with the alternative in the region."""
    if isinstance(alternative, str):
        if alternative not in ("fill", VACUUM):
            raise ValueError(f"alternative: got {alternative!r}, wants 'fill', 'vacuum', a phase or fractions")
        return fill_in(volume, region) if alternative == "fill" else np.where(region, 0.0, volume)
    channels = len(volume)
    if isinstance(alternative, numbers.Integral) and not isinstance(alternative, bool):
        if not 0 <= alternative < channels:
            raise ValueError(f"alternative: got phase {alternative}, wants 0 to {channels - 1}")
        alternative = np.eye(channels)[alternative]
    array = finite_array(alternative, "alternative")
    if array.shape not in ((channels,), volume.shape):
        raise ValueError(f"alternative: got shape {array.shape}, wants ({channels},) or {volume.shape}")
    return np.where(region, array if array.ndim == 4 else array[:, None, None, None], volume)


def claim(
    volume: NDArray, without: NDArray, region: NDArray, feature: str | int | None = None
) -> tuple[str | int, float, NDArray]:
    """What a region is claimed to be, how far the volume goes there, and the change that would go all the way."""
    channels, inside = len(volume), region[None]
    density = _density(without, region)
    pure = {VACUUM: np.zeros(channels)} | dict(enumerate(np.eye(channels)))
    known = isinstance(feature, (str, numbers.Integral)) and not isinstance(feature, bool) and feature in pure
    if feature is not None and not known:
        raise ValueError(f"feature: got {feature!r}, wants one of {list(pure)}")
    changes = {
        name: inside * (vector[:, None, None, None] * density - without)
        for name, vector in pure.items()
        if feature is None or name == feature
    }
    size = {name: float((change**2).sum()) for name, change in changes.items()}
    overlap = {name: float(((volume - without) * change).sum()) for name, change in changes.items()}
    name = max(changes, key=lambda k: overlap[k] / max(size[k], 1e-12) ** 0.5)
    return name, overlap[name] / size[name] if size[name] > 1e-6 * region.sum() else 0.0, changes[name]


def _density(without, region):
    """Of what a region would be filled with: that of the alternative, unless it is all but vacuum."""
    return without.sum(0) if without.sum(0)[region].mean() > 0.1 else np.ones(region.shape)


def other_compositions(channels: int, name: str | int = VACUUM) -> NDArray[np.float64]:
    """Directions (C, C - 1) of fractions that say nothing of vacuum, or of one phase."""
    if name == VACUUM:
        return np.linalg.svd(np.ones((1, channels)))[2][1:].T
    return np.delete(np.eye(channels), name, axis=1)


# ---------------------------------------------------------------- what the volume may be wrong by


class _ErrorModel:
    """M with C = M Mᵀ, from white numbers to whitened projections of errors of the volume."""

    def __init__(self, projector, loss, base, errors, region, directions):
        self.projector, self.loss, self.directions = projector, loss, directions
        slope = torch.zeros_like(base)
        for axis, n in enumerate(base.shape[1:], 1):
            if n > 1:
                slope += torch.gradient(base, dim=axis)[0] ** 2
        inside = base.sum(0).clamp(0, 1).expand_as(base)
        fine = ((errors.interface_px**2) * slope + (errors.bulk * inside) ** 2).sqrt()
        self.sizes = fine, errors.smooth * inside
        lengths = errors.length_px, errors.smooth_length_px
        self.kernels = [[_kernel(n, length, base) for n in base.shape[1:]] for length in lengths]
        self.region = errors.composition * region

    def __call__(self, white):
        error = 0
        for size, kernels, everywhere, other in zip(self.sizes, self.kernels, white[::2], white[1::2], strict=True):
            error = error + _smooth(size * everywhere, kernels)
            error = error + torch.tensordot(self.directions, self.region * _smooth(other, kernels), dims=1)
        return self.loss.whiten(self.projector(error))

    def transpose(self, stack):
        back = self.projector.T(self.loss.whiten_transposed(stack))
        other = self.region * torch.tensordot(self.directions.T, back, dims=1)
        pairs = [
            (size * _smooth(back, kernels), _smooth(other, kernels))
            for size, kernels in zip(self.sizes, self.kernels, strict=True)
        ]
        return [part for pair in pairs for part in pair]

    def covariance(self, stack):
        """S of whitened projections."""
        return stack + self(self.transpose(stack))


def _kernel(n, length, like):
    """Gaussian smoothing along an axis of n voxels that leaves white noise with unit variance."""
    x = torch.arange(n, dtype=like.dtype, device=like.device)
    kernel = torch.exp(-0.5 * ((x[:, None] - x) / length) ** 2)
    return kernel / (kernel[n // 2] ** 2).sum().sqrt()


def _smooth(volume, kernels):
    for kernel in kernels:  # each pass takes the first axis of space and puts it last
        volume = torch.tensordot(volume, kernel, dims=([1], [0]))
    return volume


def _lanczos(apply, start, steps=100, tolerance=3e-3):
    """S⁻¹ g, and (α, β) of the tridiagonal matrix with gᵀ f(S) g = |g|² f(T)₀₀.

    Ends where gᵀ S⁻¹ g, which grows from step to step, has settled.
    """
    norm = float(start.norm())
    basis = start.new_empty((steps, start.numel()))
    basis[0] = start.flatten() / norm
    alpha, beta, value = [], [], 0.0
    for k in range(steps):
        ahead = apply(basis[k].reshape(start.shape)).flatten()
        alpha.append(float(ahead @ basis[k]))
        known = basis[: k + 1]
        for _ in range(2):  # twice is enough for orthogonality
            ahead = ahead - known.T @ (known @ ahead)
        size = float(ahead.norm())
        ended = k + 1 == steps or size < 1e-8 * alpha[0]
        if ended or k % 4 == 3:
            matrix = np.diag(alpha) + np.diag(beta, 1) + np.diag(beta, -1)
            solution = np.linalg.solve(matrix, np.eye(k + 1)[0])
            if ended or solution[0] - value < tolerance * value:
                break
            value = solution[0]
        beta.append(size)
        basis[k + 1] = ahead / size
    weights = torch.as_tensor(norm * solution, dtype=basis.dtype, device=basis.device)
    return (weights @ known).reshape(start.shape), norm, np.array(alpha), np.array(beta)


# ---------------------------------------------------------------- one hypothesis


class _Hypothesis:
    """The volume with a given amplitude of the feature: how the data estimate the amplitude if it is right."""

    def __init__(self, measurement, region, without, change, errors, name, expected=0.0, dispersion=None):
        rows = np.flatnonzero(region.any((1, 2)))
        margin = MARGIN + measurement.projector.reach(measurement.volume_shape[1])
        self.rows = slice(max(0, rows[0] - margin), rows[-1] + 1 + margin)
        self.measurement, self.without, self.expected = measurement, without, expected
        change = torch.as_tensor(change[:, self.rows], device=measurement.device)
        base = torch.as_tensor(without[:, self.rows], device=measurement.device) + expected * change
        self.projections = measurement.projector(base)
        self.loss = as_gaussian(measurement.rows(self.rows).loss, self.projections)
        like = {"dtype": base.dtype, "device": base.device}
        where = torch.as_tensor((region * _density(without, region))[self.rows], **like)
        directions = torch.as_tensor(other_compositions(len(base), name), **like)
        self.model = _ErrorModel(measurement.projector, self.loss, base, errors, where, directions)
        self.signal = self.loss.whiten(measurement.projector(change))
        if not float(self.signal.norm()):
            raise ValueError("region: got one that no measured value sees, wants one in the field of view")
        self.solved, *self.spectrum = _lanczos(self.model.covariance, self.signal)
        self.information = float((self.solved * self.signal).sum())
        if dispersion is None:
            rest = self.residual(measurement, without) - self.amplitude() * self.signal
            dispersion = max(1.0, float((rest * _lanczos(self.model.covariance, rest)[0]).sum()) / self.loss.size)
        self.dispersion = dispersion
        self.standard_error = (self.dispersion / self.information) ** 0.5

    def residual(self, measurement, without):
        """Whitened, of the volume without the feature."""
        data = measurement.projections[:, :, self.rows].double()
        if measurement.counts:
            data = data / measurement.loss.gain
        base = torch.as_tensor(without[:, self.rows], device=data.device)
        return self.loss.whiten(data - measurement.projector(base))

    def amplitude(self, measurement=None, without=None):
        """Of the feature, added to the volume without it; of these data, or of others."""
        measurement = self.measurement if measurement is None else measurement
        residual = self.residual(measurement, self.without if without is None else without)
        return float((self.solved * residual).sum()) / self.information

    def statistic(self, measurement=None, without=None):
        """Standard normal where this hypothesis and its noise are right."""
        return (self.amplitude(measurement, without) - self.expected) / self.standard_error

    def simulated(self, simulations, rng):
        """Statistics of Poisson counts drawn from the volume; its errors are drawn as well."""
        used = self.loss.used & (self.solved != 0)
        gain = self.measurement.loss.gain.double().expand_as(self.projections)[used].cpu().numpy()
        mean = (gain * self.projections[used].cpu().numpy()).clip(1e-6)
        weights = (self.solved * self.loss.precision)[used].cpu().numpy() / gain
        variance = weights**2 * mean
        order = np.argsort(-variance)
        drawn = order[: 1 + np.searchsorted(variance[order].cumsum(), 0.98 * variance.sum())]
        rest = variance.sum() - variance[drawn].sum()  # many small terms: normal
        rest += sum(float((part**2).sum()) for part in self.model.transpose(self.solved))
        draws = np.array([weights[drawn] @ (rng.poisson(mean[drawn]) - mean[drawn]) for _ in range(simulations)])
        return (draws + rest**0.5 * rng.standard_normal(simulations)) / self.information**0.5

    def fluence_factor(self, wanted):
        """Times the fluence at which the root of the information is ``wanted``."""
        norm, alpha, beta = self.spectrum
        values, vectors = np.linalg.eigh(np.diag(alpha - 1) + np.diag(beta, 1) + np.diag(beta, -1))
        weights, values = (norm * vectors[0]) ** 2, values.clip(0)

        def missing(log_factor):
            root = (weights / (np.exp(-log_factor) + values)).sum() ** 0.5
            return root / self.dispersion**0.5 - wanted

        if missing(np.log(1e4)) < 0:
            return np.inf
        return float(np.exp(optimize.brentq(missing, np.log(1e-8), np.log(1e4))))


def as_gaussian(loss: GaussianLoss | PoissonLoss, projections: torch.Tensor) -> GaussianLoss:
    """The loss in the precision of a volume's projections; of counts, with the variance that these predict."""
    kind = projections.dtype
    if isinstance(loss, GaussianLoss):
        return GaussianLoss(loss.projections.to(kind), loss.used, loss.modes.to(kind), loss.precision.to(kind))
    gain = loss.gain.to(kind)
    sigma = (gain * projections).clamp_min(FEWEST_COUNTS).sqrt() / gain
    modes = torch.eye(len(gain), dtype=kind, device=gain.device)[..., None, None, None]
    return GaussianLoss(loss.projections.to(kind) / gain, loss.used, modes, loss.used / sigma)


def _repeats(measurement, volume, reconstruct, simulations, seed):
    """Measurements simulated from a volume, each with its reconstruction."""
    clean = measurement.projector(volume)
    if measurement.counts:
        clean = measurement.loss.gain.cpu().numpy() * clean.clip(0)
    for k in range(simulations):
        noisy = measurement.repeated(clean).resample(1000 * seed + k).projections
        repeat = measurement.repeated(noisy.cpu().numpy())
        yield repeat, as_volume(measurement, reconstruct(repeat))


def _tail(statistic, null):
    """Chance of a statistic this large: by rank where ten simulated ones are, else by a normal of their spread."""
    if not null.size:
        return float(stats.norm.sf(statistic))
    above = int((null >= statistic).sum())
    if above >= 10:
        return (1 + above) / (1 + null.size)
    scale = null.std(ddof=1) * (1 + 1 / null.size) ** 0.5
    return float(stats.t.sf((statistic - null.mean()) / scale, null.size - 1))
