"""What the data can tell: the Cramér-Rao bound of a description of the volume, through the projector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import ArrayLike, NDArray

from ..checks import check_kind, check_not_negative, check_number, check_positive
from ..doors import checked
from .checks import as_tensor, finite_array
from .interfaces import disc, displacements
from .measurement import Measurement

__all__ = ["Bound", "detectability", "fluence_factor", "functional_bound", "parameter_bound", "visibility"]

NULL = 1e-9  # of the largest eigenvalue of the scaled information: below it single precision cannot tell it from 0


@checked(information="P P", covariance="P P")
@dataclass(frozen=True)
class Bound:
    """Smallest covariance of unbiased estimates of P parameters.

    Attributes
    ----------
    information : array (P, P)
        Fisher information, without what the nuisance parameters take away and with what a prior adds.
    covariance : array (P, P)
        Its inverse. Where the data cannot tell a parameter from others, its variance is infinite and its covariances
        are NaN.
    """

    information: NDArray
    covariance: NDArray

    @property
    def standard_error(self) -> NDArray:
        """Standard error of each parameter if all others are unknown, (P,)."""
        return np.sqrt(self.covariance.diagonal())

    @property
    def standard_error_alone(self) -> NDArray:
        """Standard error of each parameter if all others were known (except the nuisance parameters), (P,)."""
        with np.errstate(divide="ignore"):
            return 1 / np.sqrt(self.information.diagonal())

    def combination(self, weights: ArrayLike) -> NDArray:
        """Standard error of weighted sums (..., P) of the parameters, as of the mean over several patches."""
        weights = finite_array(weights, "weights")
        if weights.shape[-1:] != self.covariance.shape[:1]:
            raise ValueError(f"weights: got shape {weights.shape}, wants (..., {len(self.covariance)})")
        return np.sqrt(np.einsum("...i,ij,...j", weights, self.covariance, weights))


@checked
def parameter_bound(
    measurement: Measurement,
    directions: ArrayLike | scipy.sparse.sparray,
    *,
    nuisance: ArrayLike | scipy.sparse.sparray | None = None,
    prior_covariance: ArrayLike | None = None,
    voxel_deviation: ArrayLike = 0.0,
    at: ArrayLike | None = None,
    least_counts: float = 1.0,
) -> Bound:
    r"""Cramér-Rao bound for parameters of a volume: the smallest covariance that any unbiased estimate can have.

    For projections :math:`p = A v(\theta)` with noise of covariance :math:`\Sigma` and
    :math:`J = A\, \partial v / \partial \theta`, the Fisher information is

    .. math:: F = J^T \Sigma^{-1} J, \qquad \operatorname{cov}(\hat\theta) \ge F^{-1}.

    For counts of expectation :math:`\mu`, :math:`\Sigma` is the diagonal of :math:`\mu`. The voxels themselves have no
    such bound: from few tilts F is singular. A description with fewer parameters than data has one, such as the
    positions of interfaces in patches of a stated size, but only as long as the description holds. With
    ``voxel_deviation`` it need not hold exactly: each voxel may differ from it by an independent amount of this
    standard deviation, :math:`\tau`, and :math:`\Sigma` becomes :math:`\Sigma + \tau^2 A A^T`.

    Parameters
    ----------
    measurement : Measurement
        Its geometry and errors are used, not its values.
    directions : array (P, C, Y, Z, X) or sparse array (P, C Y Z X)
        Change of the volume per unit of each parameter: `displacements`, `phase_volumes`, or differences of volumes.
    nuisance : the same, optional
        Parameters that are unknown too, but of no interest.
    prior_covariance : array (P,) or (P, P), optional
        Variances or covariance of the parameters that are known beforehand; their inverse is added to the information
        (the bound is then that of the mean over the prior: H. L. van Trees, 1968).
    voxel_deviation : float or array broadcasting to (C, Y, Z, X)
    at : array (C, Y, Z, X), optional
        The volume about which counts are expected. Needed for counts only.
    least_counts : float
        Lower limit for the expected counts: where a sharp specimen ends in a pixel without any background, a count
        would otherwise carry unbounded information.

    Returns
    -------
    Bound

    Notes
    -----
    Information that the *size* of the noise carries about the volume is left out. A method that knows more than the
    description says (smooth surfaces, pure phases, a prior learnt elsewhere) may scatter less than the bound; its
    estimates are then biased where that knowledge is wrong.

    Kay, S. M., *Fundamentals of Statistical Signal Processing: Estimation Theory* (1993), ch. 3.

    Examples
    --------
    Two parameters that the projections cannot tell apart: the same matter, at two heights, at one tilt.

    >>> measurement = Measurement(np.zeros((1, 1, 1, 8)), [0.0], covariance=[1.0], model_error=0)
    >>> directions = np.zeros((2, 1, 1, 8, 8))
    >>> directions[0, 0, 0, 2, 3] = directions[1, 0, 0, 5, 3] = 1
    >>> bound = parameter_bound(measurement, directions)
    >>> bound.standard_error_alone, bound.standard_error
    (array([1., 1.]), array([inf, inf]))
    """
    model = _Model(measurement, () if at is None else (at,), least_counts, voxel_deviation)
    information = model.information(directions, nuisance)
    if prior_covariance is not None:
        information = information + _precision(prior_covariance, len(information))
    return Bound(information, _inverse(information))


@checked
def functional_bound(
    measurement: Measurement,
    functionals: ArrayLike | scipy.sparse.sparray,
    *,
    voxel_deviation: ArrayLike,
    at: ArrayLike | None = None,
    least_counts: float = 1.0,
) -> NDArray:
    r"""Smallest mean squared error of weighted sums of voxels, for volumes whose voxels are uncorrelated.

    Without an assumption, nothing limits the error of a voxel or of the mean over a ball: the missing wedge hides part
    of each. With voxels of standard deviation :math:`\tau` about any known volume (1/2 is the most that a fraction can
    have), no *linear* estimate of :math:`w^T v` has a smaller mean squared error than

    .. math:: w^T (A^T \Sigma^{-1} A + \tau^{-2})^{-1} w .

    Divided by :math:`\tau^2 w^T w`, this is the fraction of the variance that the data leave open; 1 minus it is the
    fraction of w that is resolved. With cosines as functionals, it maps the resolved spatial frequencies.

    Parameters
    ----------
    measurement, at, least_counts
        As for `parameter_bound`.
    functionals : array (P, C, Y, Z, X) or sparse array (P, C Y Z X)
        Weights.
    voxel_deviation : float or array broadcasting to (C, Y, Z, X)
        0 where the volume is known.

    Returns
    -------
    array (P, P)
        Mean squared errors and their covariances.
    """
    model = _Model(measurement, () if at is None else (at,), least_counts, voxel_deviation)
    if not model.deviation.any():
        raise ValueError("voxel_deviation: got 0 everywhere, wants some voxels unknown")
    weights = _as_rows(functionals, measurement.volume_shape, "functionals")
    columns = [model.deviation * row for row in model.volumes(weights)]
    # (F + τ⁻²)⁻¹ = τ (1 + τ F τ)⁻¹ τ, where τ may be 0
    solved = [
        _solve(lambda y: y + model.deviation * model.adjoint(model.forward(model.deviation * y)), column)
        for column in columns
    ]
    return _products(torch.stack(columns), torch.stack(solved))


@checked
def detectability(
    measurement: Measurement,
    volume: ArrayLike,
    alternative: ArrayLike,
    *,
    nuisance: ArrayLike | scipy.sparse.sparray | None = None,
    voxel_deviation: ArrayLike = 0.0,
    least_counts: float = 0.0,
) -> float:
    r"""How far apart two volumes are in the data, in standard errors: the d' of a test between them.

    .. math:: d'^2 = \min_\eta \lVert L (A (v_1 - v_0) - N \eta) \rVert^2, \qquad L^T L = \Sigma^{-1}

    with nuisance directions N. The best test between the two, both known exactly, has the power :math:`\Phi(d' -
    z_{1-\alpha})` at level :math:`\alpha`. For counts, the distance is that between square roots, :math:`4
    (\sqrt{\mu_1} - \sqrt{\mu_0})^2`.

    Parameters
    ----------
    measurement : Measurement
    volume, alternative : array (C, Y, Z, X)
        With and without the feature, such as a void and the same void filled.
    nuisance : array (Q, C, Y, Z, X) or sparse array (Q, C Y Z X), optional
        Directions in which both may change as well, such as `displacements` of the interfaces around the feature.
    voxel_deviation, least_counts
        As for `parameter_bound`.

    Returns
    -------
    float

    Examples
    --------
    >>> measurement = Measurement(np.zeros((1, 9, 4, 8)), np.linspace(-70, 70, 9), covariance=[0.25], model_error=0)
    >>> full = np.ones((1, 4, 8, 8))
    >>> void = full.copy()
    >>> void[0, 2, 3, 3] = 0
    >>> round(detectability(measurement, full, void), 1)
    5.1
    """
    shape = check_kind(measurement, "measurement", Measurement).volume_shape
    first, second = _as_volume(volume, shape, "volume"), _as_volume(alternative, shape, "alternative")
    # Counts halfway between the two errors make the linear distance that of the square roots.
    model = _Model(measurement, (first, second), least_counts, voxel_deviation)
    return float(np.sqrt(model.information((second - first)[None], nuisance)[0, 0]))


@checked
def fluence_factor(d_prime: float, *, level: float = 0.05, power: float = 0.9) -> float:
    """Factor by which the fluence must grow for a feature to be found with this power, in a one-sided test at this
    level.

    d' grows as the square root of the fluence, and, at a fixed fluence per tilt, of the number of evenly spread tilts.

    Parameters
    ----------
    d_prime : float
        From `detectability`, with all of the error from counting (no ``voxel_deviation``).
    level, power : float

    Examples
    --------
    >>> round(fluence_factor(2.0), 2)
    2.14
    """
    from scipy.stats import norm

    for name, value in (("level", level), ("power", power)):
        if check_number(value, name, 0, 1) in (0, 1):
            raise ValueError(f"{name}: got {value!r}, wants a probability between 0 and 1")
    check_not_negative(d_prime=d_prime)
    wanted = max(norm.isf(level) + norm.ppf(power), 0.0)
    return float((wanted / d_prime) ** 2) if d_prime else np.inf


@checked
def visibility(
    measurement: Measurement,
    normals: ArrayLike,
    size: float,
    *,
    difference: ArrayLike | None = None,
    centre: ArrayLike | None = None,
    profile_reach: float = 3.0,
    **options: Any,
) -> NDArray:
    """Which interfaces are visible: bound on the position of a small disc of interface, for each normal.

    A layer of matter is seen at any tilt. Tilts along the interface are needed to tell *where* on its normal the layer
    lies: at the other tilts, an interface that has moved looks like one that has blurred. The profile across the
    interface is therefore unknown as well: layers at half and at all of ``profile_reach``, on both sides.

    Parameters
    ----------
    measurement : Measurement
    normals : array (N, 3)
        (y, z, x), of any length.
    size : float
        Diameter of the disc in voxels. Smaller discs are located less precisely.
    difference : array (C,), optional
        Fractions on one side minus those on the other. By default the first phase against vacuum.
    centre : array (3,), optional
        (y, z, x) of the disc in voxels; by default the middle of the field of view.
    profile_reach : float
        In voxels. 0: the profile is known, and only the noise counts.
    **options
        Further arguments of `parameter_bound`.

    Returns
    -------
    array (N,)
        Standard errors, in voxels.
    """
    shape = check_kind(measurement, "measurement", Measurement).volume_shape
    normals = np.atleast_2d(finite_array(normals, "normals"))
    if normals.ndim != 2 or normals.shape[1] != 3:
        raise ValueError(f"normals: got shape {normals.shape}, wants (N, 3)")
    if not normals.any(axis=1).all():
        raise ValueError("normals: got (0, 0, 0), wants vectors other than 0")
    difference = np.eye(shape[0])[0] if difference is None else finite_array(difference, "difference")
    if difference.shape != shape[:1]:
        raise ValueError(f"difference: got shape {difference.shape}, wants {shape[:1]}")
    check_not_negative(profile_reach=profile_reach)
    check_positive(size=size)
    if size > 2 * max(shape[1:]):
        raise ValueError(f"size: got {size!r}, wants at most {2 * max(shape[1:])}, twice the field of view")
    centre = (np.array(shape[1:]) - 1) / 2 if centre is None else finite_array(centre, "centre")
    offsets = profile_reach * np.array([-1, -0.5, 0.5, 1]) if profile_reach else ()
    errors = []
    for normal in normals:
        piece = disc(centre, normal, size)
        layers = [displacements(piece.moved(offset), difference, shape[1:]) for offset in offsets]
        nuisance = scipy.sparse.csr_array(scipy.sparse.vstack(layers)) if layers else None
        one = displacements(piece, difference, shape[1:])
        errors.append(parameter_bound(measurement, one, nuisance=nuisance, **options).standard_error[0])
    return np.array(errors)


# ---------------------------------------------------------------- the whitened model


class _Model:
    """Forward model in units of the errors, about a volume, with voxels that differ from what is assumed."""

    def __init__(self, measurement, volumes, least_counts, voxel_deviation):
        check_kind(measurement, "measurement", Measurement)
        self.measurement, self.shape = measurement, measurement.volume_shape
        check_not_negative(least_counts=least_counts)
        for volume in volumes:
            _as_volume(volume, self.shape, "at")
        self.scale = _count_scale(measurement, volumes, least_counts) if measurement.counts else 1.0
        deviation = finite_array(voxel_deviation, "voxel_deviation")
        try:
            deviation = np.broadcast_to(deviation, self.shape)
        except ValueError:
            wanted = f"one that broadcasts to {self.shape}"
            raise ValueError(f"voxel_deviation: got shape {deviation.shape}, wants {wanted}") from None
        if (deviation < 0).any():
            raise ValueError("voxel_deviation: got negative values, wants standard deviations")
        self.deviation = as_tensor(deviation.astype(np.float32), measurement.device)

    def forward(self, volume):
        return self.scale * self.measurement.forward(volume)

    def adjoint(self, stack):
        return self.measurement.adjoint(self.scale * stack)

    def information(self, directions, nuisance):
        """Fisher information of directions, less what nuisance takes away."""
        columns = [self.project(_as_rows(directions, self.shape, "directions"))]
        wanted = len(columns[0])
        if nuisance is not None:
            columns.append(self.project(_as_rows(nuisance, self.shape, "nuisance")))
        whole = self.gram(torch.cat(columns))
        information, mixed, unwanted = whole[:wanted, :wanted], whole[:wanted, wanted:], whole[wanted:, wanted:]
        if not len(unwanted):
            return information
        information = information - mixed @ _pseudo_inverse(unwanted) @ mixed.T
        # What rounding leaves of a parameter that lies in the nuisance is no information.
        lost = information.diagonal() <= 1e-6 * whole.diagonal()[:wanted]
        return np.where(lost[:, None] | lost, 0, information)

    def volumes(self, rows):
        """Rows (P, C Y Z X) as volumes, one after another."""
        step = max(1, 2**22 // rows.shape[1])  # a few at a time: rows may be sparse
        for start in range(0, rows.shape[0], step):
            some = rows[start : start + step]
            some = some.toarray() if scipy.sparse.issparse(some) else some
            for row in some.astype(np.float32):
                yield as_tensor(row.reshape(self.shape), self.measurement.device)

    def project(self, rows):
        """Whitened projections (P, C, T, Y, X) of rows (P, C Y Z X)."""
        return torch.stack([self.forward(volume) for volume in self.volumes(rows)])

    def gram(self, columns):
        """``cᵀ (1 + B τ² Bᵀ)⁻¹ c`` of whitened projections c (P, C, T, Y, X), as an array (P, P)."""
        if not self.deviation.any():
            return _products(columns, columns)
        variance = self.deviation**2
        solved = [_solve(lambda y: y + self.forward(variance * self.adjoint(y)), column) for column in columns]
        return _products(columns, torch.stack(solved))


def _products(a, b):
    """Scalar products (P, P) of stacks, symmetric but for rounding."""
    gram = (a.flatten(1).double() @ b.flatten(1).double().T).cpu().numpy()
    return (gram + gram.T) / 2


def _solve(operator, column, tolerance=1e-5, iterations=5000):
    """Conjugate gradients for ``operator(y) = column``, the operator symmetric with no eigenvalue below 1."""

    def dot(a, b):
        return float(torch.sum(a * b, dtype=torch.float64))

    y, residual = torch.zeros_like(column), column.clone()
    direction, squared = residual.clone(), dot(residual, residual)
    target = tolerance**2 * squared
    for _ in range(iterations):
        if squared <= target:
            break
        image = operator(direction)
        step = squared / dot(direction, image)
        y += step * direction
        residual -= step * image
        before, squared = squared, dot(residual, residual)
        direction = residual + squared / before * direction
    return y


def _count_scale(measurement, volumes, least_counts):
    """One over the standard error of the counts that volumes make one expect (the mean of theirs), (C, T, Y, X)."""
    if not volumes:
        raise ValueError("at: got None for counts, wants the volume about which they are expected")
    roots = []
    for volume in volumes:
        volume = _as_volume(volume, measurement.volume_shape, "at").astype(np.float32)
        roots.append(measurement.forward(as_tensor(volume, measurement.device)).clamp_min(least_counts).sqrt())
    root = torch.stack(roots).mean(0)
    return torch.where(root > 0, 1 / root, 0.0)


def _as_volume(volume, shape, name):
    volume = finite_array(volume, name)
    if volume.shape != tuple(shape):
        raise ValueError(f"{name}: got shape {volume.shape}, wants {tuple(shape)}")
    return volume


def _as_rows(directions, shape, name):
    """Directions as an array or sparse array (P, C Y Z X)."""
    size, sparse = int(np.prod(shape)), scipy.sparse.issparse(directions)
    directions = directions.tocsr() if sparse else finite_array(directions, name)
    wanted = (size,) if sparse else tuple(shape)
    if directions.shape[1:] != wanted or not directions.shape[0]:
        raise ValueError(f"{name}: got shape {directions.shape}, wants (P, {', '.join(map(str, wanted))})")
    if sparse:
        finite_array(directions.data, name)
    return directions if sparse else directions.reshape(-1, size)


# ---------------------------------------------------------------- inverses


def _scaled_eigen(matrix):
    """Square roots of the diagonal, and eigenvalues and vectors of the matrix scaled to a diagonal of 1."""
    scale = np.sqrt(matrix.diagonal())
    scale = np.where(scale > 0, scale, 1)
    return scale, *np.linalg.eigh(matrix / np.outer(scale, scale))


def _pseudo_inverse(matrix):
    scale, values, vectors = _scaled_eigen(matrix)
    good = values > NULL * values.max()
    half = vectors[:, good] / np.sqrt(values[good]) / scale[:, None]
    return half @ half.T


def _inverse(information):
    """Inverse; infinite variances (and NaN covariances) of parameters that reach into its null space."""
    _, values, vectors = _scaled_eigen(information)
    null = values <= NULL * values.max()
    covariance = _pseudo_inverse(information)
    open_ = (vectors[:, null] ** 2).sum(axis=1) > 1e-6
    covariance[open_] = np.nan
    covariance[:, open_] = np.nan
    np.fill_diagonal(covariance, np.where(open_, np.inf, covariance.diagonal()))
    return covariance


def _precision(prior_covariance, count):
    prior = finite_array(prior_covariance, "prior_covariance")
    if prior.shape not in ((count,), (count, count)):
        raise ValueError(f"prior_covariance: got shape {prior.shape}, wants ({count},) or ({count}, {count})")
    prior = np.diag(prior) if prior.ndim == 1 else (prior + prior.T) / 2
    least = np.linalg.eigvalsh(prior).min()
    if least <= 0:
        raise ValueError(f"prior_covariance: got an eigenvalue of {least:.3g}, wants a positive definite matrix")
    return np.linalg.inv(prior)
