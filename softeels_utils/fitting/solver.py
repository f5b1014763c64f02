"""Weighted non-negative fits of blocks of spectra, all pixels at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

from ..checks import check_count, check_not_negative, check_positive
from .energy_errors import EnergyErrors
from .misfit import BINS, bin_matrix
from .result import FitFlag, pack, packed_size

__all__ = ["Design", "PixelShapes", "PoissonWeights", "Solver"]

NO_BOUND = np.zeros(0, bool)  # for `Design.solve`
FLOOR = 0.1  # of the mean counts: no channel's variance is taken below it


@dataclass(frozen=True)
class PoissonWeights:
    """Weights 1 / (gain · model + readout_noise²) from the fitted model, iterated until the coefficients converge."""

    gain: float = 1.0
    readout_noise: float = 0.0
    tolerance: float = 1e-2
    max_iterations: int = 12

    def __post_init__(self):
        check_positive(gain=self.gain, tolerance=self.tolerance)
        check_not_negative(readout_noise=self.readout_noise)
        check_count(self.max_iterations, "max_iterations")

    def floor(self, counts: np.ndarray) -> np.ndarray:
        """Least counts (n, 1) of a channel in its weight.

        A linear model may fall to zero where counts are few: no channel gets more weight than if it held a tenth of the
        mean, or one count were spread over the window. The floor depends on the sum only, so causes no bias.
        """
        return np.maximum(FLOOR * counts.mean(-1, keepdims=True), self.gain / counts.shape[-1])

    def weigh(self, model: np.ndarray, floor: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Weights (n, E') of a model in counts, written to ``out``."""
        np.maximum(model, floor, out=out)
        if self.gain != 1:
            out *= self.gain
        if self.readout_noise:
            out += self.readout_noise**2
        return np.reciprocal(out, out=out)

    def covariance_factor(self, total: np.ndarray, channels: int, n_amplitudes: int) -> np.ndarray:
        """Factor (n,) of the covariance for weights that are the inverse of a fitted model.

        1/model is on average above 1/expectation, by one part in (counts / amplitudes): to first order this corrects
        it, where it matters, at a few counts per amplitude.
        """
        counts = np.maximum(total, 0) / self.gain + channels * (self.readout_noise / self.gain) ** 2
        return 1 + n_amplitudes / (counts + n_amplitudes)


@dataclass(frozen=True)
class PixelShapes:
    """Shapes (n, Q, E') that differ from pixel to pixel, and counts (n, E') with a fixed amplitude, if any."""

    shapes: np.ndarray
    fixed: np.ndarray | None = None

    def __getitem__(self, rows: np.ndarray) -> PixelShapes:
        return PixelShapes(self.shapes[rows], None if self.fixed is None else self.fixed[rows])

    def usable(self) -> np.ndarray:
        """Which pixels (n,) have finite shapes, none of them zero."""
        good = np.isfinite(self.shapes).all((-1, -2)) & (np.abs(self.shapes).max(-1) > 0).all(-1)
        return good if self.fixed is None else good & np.isfinite(self.fixed).all(-1)


@dataclass(frozen=True)
class Solver:
    """Weighted fits of a block of spectra (n, E') -> packed results (n, size), see `result.pack`.

    Attributes
    ----------
    shapes : (Q, E')
        References and background; for `PixelShapes` they only give the weights of the first guess.
    n_references : int
    nonnegative : (Q,), bool
    poisson : PoissonWeights
        For spectra without a variance.
    scale_covariance : bool
        Whether to multiply the covariance by the reduced chi², where that is above 1.
    energy_errors : EnergyErrors, optional
        Parameters of the energy axis of each pixel.
    """

    shapes: np.ndarray
    n_references: int
    nonnegative: np.ndarray
    poisson: PoissonWeights
    scale_covariance: bool = False
    energy_errors: EnergyErrors | None = None

    @cached_property
    def common_design(self) -> Design:
        return Design(self.shapes)

    @property
    def size(self) -> int:
        return packed_size(self.n_references, len(self.shapes) - self.n_references) + self.n_energy_errors

    @property
    def n_energy_errors(self) -> int:
        return 0 if self.energy_errors is None else len(self.energy_errors.sigmas)

    @property
    def flag_column(self) -> int:
        return packed_size(self.n_references, len(self.shapes) - self.n_references) - BINS - 2

    def __call__(
        self, counts: np.ndarray, variance: np.ndarray | None = None, pixel_shapes: PixelShapes | None = None
    ) -> np.ndarray:
        """Fit ``counts`` (n, E'): Poisson without a ``variance`` (n or 1, E')."""
        y = np.asarray(counts, float)
        if variance is not None and len(variance) == 1 and pixel_shapes is None and not self.n_energy_errors:
            return self._fit_common_weight(y, variance[0])
        usable = self._usable(y, variance, pixel_shapes)
        if usable.all():
            return self._fit(y, variance, pixel_shapes)
        results = self._bad_input(len(y))
        if usable.any():
            variance = variance if variance is None or len(variance) == 1 else variance[usable]
            pixel_shapes = None if pixel_shapes is None else pixel_shapes[usable]
            results[usable] = self._fit(y[usable], variance, pixel_shapes)
        return results

    def _usable(self, y, variance, pixel_shapes):
        usable = np.isfinite(y.sum(-1))  # one bad channel spoils the sum
        if variance is not None:
            usable = usable & (variance > 0).all(-1) & (np.isfinite(variance).sum(-1) > len(self.shapes))
        return usable if pixel_shapes is None else usable & pixel_shapes.usable()

    def _bad_input(self, n):
        results = np.full((n, self.size), np.nan)
        results[:, self.flag_column] = FitFlag.BAD_INPUT
        return results

    def _fit_common_weight(self, y, variance):
        """One variance (E') for all pixels."""
        channels = np.isfinite(variance).sum()
        if channels <= len(self.shapes):
            return self._bad_input(len(y))
        with np.errstate(invalid="ignore"):  # bad pixels show in their results
            x, covariance, residuals = self.common_design.solve_common_weight(y, 1 / variance, self.nonnegative)
            bad = ~np.isfinite(residuals[0])
            bins = bin_matrix(y.shape[1]) * np.isfinite(variance)[:, None]
            free = x.copy()
            bound = self._at_bound(x)
            free[bound] = self.common_design.solve_common_weight(y[bound], 1 / variance, NO_BOUND)[0]
            binned = y @ bins - free @ (self.shapes @ bins)
            results = self._packed(x, covariance, (*residuals, binned), channels, y.shape[1])
        if bad.any():
            results[bad] = self._bad_input(bad.sum())
        return results

    def _fit(self, y, variance, pixel_shapes):
        """Usable spectra that differ in their weights or shapes."""
        design = self.common_design if pixel_shapes is None else Design(self.shapes, pixel_shapes)
        if variance is None:
            return self._fit_poisson(y, design)
        weight = np.broadcast_to(1 / variance, y.shape)
        x, covariance = design.solve(y, weight, self.nonnegative)
        return self._finished(x, covariance, y, weight, design, (weight > 0).sum(-1))

    def _fit_poisson(self, y, design):
        x, covariance, weight, converged = self._reweighted(y, design)
        total, channels, n_amplitudes = y.sum(-1), y.shape[1], len(self.shapes)
        covariance = covariance * self.poisson.covariance_factor(total, channels, n_amplitudes)[:, None, None]
        flags = np.where(converged, 0, FitFlag.NOT_CONVERGED)
        flags = flags | np.where(total < 10 * n_amplitudes * self.poisson.gain, FitFlag.FEW_COUNTS, 0)
        return self._finished(x, covariance, y, weight, design, channels, flags)

    def _finished(self, x, covariance, y, weight, design, channels_used, flags=0):
        """Packed results, the errors of the energy axis taken into account."""
        edge, extra, found = design.edge_counts(x, self.n_references), None, ()
        if self.n_energy_errors:
            terms = design.energy_terms(x[:, : self.n_references], self.energy_errors)
            weighted = np.where(weight > 0, weight * (y - design.model(x)), 0.0)
            found, moved, more = self.energy_errors.solve(*terms.products(weight, weighted), covariance)
            free = ((x > 0) | ~self.nonnegative).all(-1)  # a pixel at a bound stays where it is
            found = np.where(free[:, None], found, 0.0)
            x = np.where(free[:, None], x + moved, x)
            x = np.where(self.nonnegative, np.maximum(x, 0), x)
            covariance, extra = covariance + more, terms.counts(found)
        residuals = design.residuals(x, y, weight, extra)
        bound = self._at_bound(x)
        if bound.any():
            residuals[2][bound] = self._unbounded_bins(y[bound], weight[bound], design.take(bound))
        return self._packed(x, covariance, residuals, channels_used, y.shape[1], flags, edge, found)

    def _at_bound(self, x):
        """Pixels (n,) that an amplitude is held at zero in."""
        return ((x == 0) & self.nonnegative).any(-1)

    @staticmethod
    def _unbounded_bins(y, weight, design):
        """Binned residuals of the fit without bounds: what pixels have in common is then not made by the bound."""
        x, _ = design.solve(y, weight, NO_BOUND)
        return design.residuals(x, y, weight)[2]

    def _reweighted(self, y, design):
        """Maximum likelihood: weights from the fitted model until the coefficients converge.

        Returns
        -------
        amplitudes (n, Q), covariance (n, Q, Q), weight (n, E'), converged (n,)
        """
        poisson, n, k = self.poisson, len(y), self.n_references
        floor = poisson.floor(y)
        x = design.first_guess(y, self.nonnegative)
        weight = poisson.weigh(design.model(x), floor, np.empty_like(y))
        covariance = np.empty((n, x.shape[1], x.shape[1]))
        active = slice(None)  # pixels that still move; all of them at first, as views
        active_design, active_y, active_floor, active_weight = design, y, floor, weight
        for _ in range(poisson.max_iterations):
            new, new_covariance = active_design.solve(active_y, active_weight, self.nonnegative)
            covariance[active] = new_covariance
            error = np.sqrt(np.einsum("nkk->nk", new_covariance))
            moved = (np.abs(new - x[active]) > poisson.tolerance * error)[:, :k].any(-1)
            x[active] = new
            poisson.weigh(active_design.model(new), active_floor, active_weight)
            if active_weight is not weight:
                weight[active] = active_weight
            active = np.arange(n)[active][moved]
            if not active.size:
                break
            active_design, active_y = active_design.take(moved), y[active]
            active_floor, active_weight = floor[active], weight[active]
        converged = np.ones(n, bool)
        converged[active] = False
        return x, covariance, weight, converged

    def _packed(self, x, covariance, residuals, channels_used, channels, flags=0, edge=None, found=()):
        """Results (n, size) from amplitudes, covariance, and the sums of `Design.residuals`."""
        k = self.n_references
        at_zero = (x == 0) & self.nonnegative
        freedom = np.maximum(channels_used - len(self.shapes) + at_zero.sum(-1), 1)
        rms, chi2 = np.sqrt(residuals[0] / channels), residuals[1] / freedom
        covariance = covariance[:, :k, :k]
        if self.scale_covariance:
            covariance = covariance * np.maximum(chi2, 1)[:, None, None]
        flags = flags | np.where(at_zero[:, :k].any(-1), FitFlag.AT_BOUND, 0)
        spread = 5 * np.sqrt(2 / freedom)
        flags = flags | np.where(chi2 > 1 + spread, FitFlag.POOR_FIT, 0)
        too_good = (chi2 < 1 - spread) & ((flags & FitFlag.FEW_COUNTS) == 0)
        flags = flags | np.where(too_good, FitFlag.TOO_GOOD, 0)
        edge = self.common_design.edge_counts(x, k) if edge is None else edge
        return pack(x[:, :k], covariance, x[:, k:], chi2, rms, flags, edge, residuals[2], found if len(found) else None)


@dataclass(frozen=True)
class PixelTerms:
    """Counts (n, J, E') that errors of the energy axis add, per unit, beside shapes (n, Q, E') of each pixel."""

    terms: np.ndarray
    shapes: np.ndarray

    def products(self, weight: np.ndarray, weighted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What `EnergyErrors.solve` takes, for weights (n, E') and the residual times them (n, E')."""
        rows = self.terms * weight[:, None]
        projections = rows @ self.shapes.transpose(0, 2, 1)
        return projections, rows @ self.terms.transpose(0, 2, 1), np.matmul(self.terms, weighted[..., None])[..., 0]

    def counts(self, found: np.ndarray) -> np.ndarray:
        """Counts (n, E') for errors (n, J)."""
        return np.matmul(found[:, None], self.terms)[:, 0]


@dataclass(frozen=True)
class CommonTerms:
    """The same for shapes (Q, E') that all pixels share: ``x`` (n, K) times the changes of the references (J, K, E').

    Products over channels are those of the changes, for all pixels in one product of matrices.
    """

    x: np.ndarray
    changes: np.ndarray
    shapes: np.ndarray

    def products(self, weight: np.ndarray, weighted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `PixelTerms.products`."""
        (j, k, channels), q = self.changes.shape, len(self.shapes)
        changes = self.changes.reshape(j * k, channels)
        pairs = changes[:, None] * np.concatenate([self.shapes, changes])
        both = (weight @ pairs.reshape(-1, channels).T).reshape(-1, j, k, q + j * k)
        both = np.matmul(self.x[:, None, None], both)[:, :, 0]  # summed over the references
        curvature = both[:, :, q:].reshape(-1, j, j, k) @ self.x[:, None, :, None]
        right = (weighted @ changes.T).reshape(-1, j, k) @ self.x[..., None]
        return both[:, :, :q], curvature[..., 0], right[..., 0]

    def counts(self, found: np.ndarray) -> np.ndarray:
        """As `PixelTerms.counts`."""
        amplitudes = found[:, :, None] * self.x[:, None]
        return amplitudes.reshape(len(found), -1) @ self.changes.reshape(-1, self.changes.shape[-1])


class Design:
    """Shapes (Q, E') shared by all pixels, or `PixelShapes` in their place."""

    def __init__(self, shapes: np.ndarray, per_pixel: PixelShapes | None = None):
        self.shapes, self.per_pixel = shapes, per_pixel
        if per_pixel is None:
            self.upper = np.triu_indices(len(shapes))
            self.products = (shapes[self.upper[0]] * shapes[self.upper[1]]).T.copy()

    def take(self, rows: np.ndarray) -> Design:
        """The design of some of the pixels."""
        return self if self.per_pixel is None else Design(self.shapes, self.per_pixel[rows])

    def model(self, x: np.ndarray) -> np.ndarray:
        """Counts (n, E') for amplitudes (n, Q)."""
        if self.per_pixel is None:
            return x @ self.shapes
        model = np.matmul(x[:, None], self.per_pixel.shapes)[:, 0]
        return model if self.per_pixel.fixed is None else model + self.per_pixel.fixed

    def edges(self, x: np.ndarray, n_references: int) -> np.ndarray:
        """Counts (n, E') of the references."""
        k = n_references
        if self.per_pixel is None:
            return x[:, :k] @ self.shapes[:k]
        return np.matmul(x[:, None, :k], self.per_pixel.shapes[:, :k])[:, 0]

    def energy_terms(self, x: np.ndarray, errors: EnergyErrors) -> PixelTerms | CommonTerms:
        """What errors of the energy axis change in each pixel, for amplitudes (n, K) of the references."""
        if self.per_pixel is not None:
            return PixelTerms(errors.shapes(self.edges(x, x.shape[1])), self.per_pixel.shapes)
        return CommonTerms(x, errors.shapes(self.shapes[: x.shape[1]]).swapaxes(0, 1), self.shapes)

    def residuals(
        self, x: np.ndarray, y: np.ndarray, weight: np.ndarray, extra: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sums (n,) over channels of residual² and of weight · residual²; sums (n, B) of residuals over bins.

        ``extra`` (n, E') counts are part of the model, too.
        """
        squared = self.model(x)
        if extra is not None:
            squared = squared + extra
        np.subtract(y, squared, out=squared)
        binned = np.where(weight > 0, squared, 0.0) @ bin_matrix(y.shape[1])
        np.square(squared, out=squared)
        return squared.sum(-1), np.einsum("ne,ne->n", squared, np.broadcast_to(weight, y.shape)), binned

    def edge_counts(self, x: np.ndarray, n_references: int) -> np.ndarray:
        """Counts (n,) of the references in the window."""
        k = n_references
        if self.per_pixel is None:
            return x[:, :k] @ self.shapes[:k].sum(-1)
        return np.vecdot(x[:, :k], self.per_pixel.shapes[:, :k].sum(-1))

    def first_guess(self, y: np.ndarray, nonnegative: np.ndarray) -> np.ndarray:
        """Amplitudes to start from: weights as if every shape contributed equally to the counts."""
        height = np.abs(self.shapes).mean(axis=1, keepdims=True)
        guess = np.abs(self.shapes / np.where(height > 0, height, 1)).mean(axis=0)
        weight = 1 / np.maximum(guess, FLOOR * guess.mean())
        if self.per_pixel is not None:
            return self.solve(y, np.broadcast_to(weight, y.shape), nonnegative)[0]
        weighted = weight * self.shapes
        return _bounded_solve((weighted @ self.shapes.T)[None], y @ weighted.T, nonnegative)[0]

    def solve_common_weight(
        self, y: np.ndarray, weight: np.ndarray, nonnegative: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """`solve` for one weight (E') that serves all pixels, and the sums of `residuals`.

        One matrix product reads the spectra and another pass squares them; the sums follow from the normal equations,
        so no residual spectrum is made.
        """
        q, uniform = len(self.shapes), np.ptp(weight) == 0
        rows = self.shapes * weight
        normal = rows @ self.shapes.T
        right = y @ (rows if uniform else np.concatenate([rows, self.shapes])).T
        x, covariance = _bounded_solve(normal[None], right[:, :q], nonnegative)
        if uniform:
            plain = _residual_sum(np.vecdot(y, y), right / weight[0], normal / weight[0], x)
            return x, covariance, (plain, weight[0] * plain)
        squares = np.square(y) @ np.stack([weight, np.ones_like(weight)], axis=1)
        plain = _residual_sum(squares[:, 1], right[:, q:], self.shapes @ self.shapes.T, x)
        return x, covariance, (plain, _residual_sum(squares[:, 0], right[:, :q], normal, x))

    def solve(self, y: np.ndarray, weight: np.ndarray, nonnegative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Amplitudes (n, Q) of the weighted problem and their covariance (n, Q, Q)."""
        q = len(self.shapes)
        if self.per_pixel is None:
            normal = np.empty((len(weight), q, q))
            normal[:, self.upper[0], self.upper[1]] = normal[:, self.upper[1], self.upper[0]] = weight @ self.products
            right = (weight * y) @ self.shapes.T
        else:
            shapes, fixed = self.per_pixel.shapes, self.per_pixel.fixed
            weighted = shapes * weight[:, None]
            normal = weighted @ shapes.transpose(0, 2, 1)
            right = np.matmul(weighted, (y if fixed is None else y - fixed)[..., None])[..., 0]
        return _bounded_solve(normal, right, nonnegative)


def _residual_sum(squares, right, normal, x):
    """Σ (y - x·shapes)² from Σ y², the right-hand side and the normal matrix."""
    return np.maximum(squares - np.vecdot(2 * right - x @ normal, x), 0)


def _bounded_solve(normal, right, nonnegative):
    """Minimise ``x' G x / 2 - b' x`` with x >= 0 where ``nonnegative``, for a stack of G (n or 1, q, q) and b (n, q).

    Returns x (n, q) and the inverse of G, which is the covariance of the unbounded solution.
    """
    scale = 1 / np.sqrt(np.einsum("nkk->nk", normal))  # unit diagonal: well conditioned whatever the units
    normal = normal * scale[:, :, None] * scale[:, None, :]
    try:
        inverse = np.linalg.inv(normal)
    except np.linalg.LinAlgError:  # too few channels in one pixel to determine all amplitudes: its errors become huge
        inverse = np.linalg.inv(normal + 1e-12 * np.eye(normal.shape[-1]))
    right = right * scale
    x = right @ inverse[0] if len(inverse) == 1 else np.matmul(inverse, right[..., None])[..., 0]
    bounded = np.flatnonzero(nonnegative)
    rows = np.flatnonzero((x[:, bounded] < 0).any(-1))
    if rows.size:
        x[rows] = _best_active_set(x[rows], np.broadcast_to(inverse, (len(x), *inverse.shape[1:]))[rows], bounded)
    covariance = inverse * scale[:, :, None] * scale[:, None, :]
    return x * scale, np.broadcast_to(covariance, (len(x), *covariance.shape[1:]))


def _best_active_set(x, inverse, bounded):
    """The exact bounded minimum from the unbounded one: try which of the ``bounded`` amplitudes are zero.

    Holding the set Z at zero moves the others along their covariance with it, ``x - V[:, Z] V[Z, Z]⁻¹ x[Z]``, and costs
    ``x[Z]' V[Z, Z]⁻¹ x[Z]``. The cheapest set that leaves no amplitude negative is the minimum.
    """
    best, least_cost = np.empty_like(x), np.full(len(x), np.inf)
    for size in range(1, bounded.size + 1):
        for chosen in combinations(bounded, size):
            zero = list(chosen)
            block, at = inverse[:, zero][:, :, zero], x[:, zero]
            force = at / block[:, 0] if size == 1 else np.linalg.solve(block, at[..., None])[..., 0]
            trial = x - np.matmul(inverse[:, :, zero], force[..., None])[..., 0]
            trial[:, zero] = 0
            cost = np.where((trial[:, bounded] >= 0).all(-1), (force * at).sum(-1), np.inf)
            better = cost < least_cost
            least_cost[better], best[better] = cost[better], trial[better]
    return best
