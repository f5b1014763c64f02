"""Weighted non-negative fits of blocks of spectra, all pixels at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

from .result import FitFlag

FLOOR = 0.1  # of the mean counts: no channel's variance is taken below it


@dataclass(frozen=True)
class Solver:
    """Weighted fits of a block of spectra (n, E') -> packed results (n, size).

    ``own`` (n, k + 1, E') holds the first k shapes as each pixel has them, then what is in its spectrum besides.
    """

    shapes: np.ndarray
    bounded: np.ndarray
    phases: int
    gain: float
    readout: float
    scale_covariance: bool
    tolerance: float
    max_iterations: int

    @cached_property
    def common(self):
        return Design(self.shapes)

    @property
    def size(self):
        k = self.phases
        return k + k * k + (len(self.shapes) - k) + 3

    def __call__(self, y, variance=None, own=None):
        y = np.asarray(y, float)
        q = len(self.shapes)
        if variance is not None and len(variance) == 1 and own is None:
            used = np.isfinite(variance).sum()
            if used <= q:
                return self._bad(len(y))
            with np.errstate(invalid="ignore"):  # bad pixels are told by their results
                x, covariance, sums = self.common.solve_alike(y, 1 / variance[0], self.bounded)
                good = np.isfinite(sums[0])
                out = self._pack(x, covariance, sums, used, y.shape[1])
            if good.all():
                return out
        else:
            total = y.sum(-1)
            good = np.isfinite(total)  # one bad channel spoils the sum
            if variance is not None:
                good = good & (variance > 0).all(-1) & (np.isfinite(variance).sum(-1) > q)
            if own is not None:
                good = good & np.isfinite(own).all((-1, -2)) & (np.abs(own[:, :-1]).max(-1) > 0).all(-1)
            out = np.empty((len(y), self.size))
            if good.all():
                return self._each(y, variance, own, total)
            if good.any():
                variance = variance if variance is None or len(variance) == 1 else variance[good]
                out[good] = self._each(y[good], variance, None if own is None else own[good], total[good])
        out[~good] = self._bad((~good).sum())
        return out

    def _bad(self, n):
        out = np.full((n, self.size), np.nan)
        out[:, -1] = FitFlag.BAD_INPUT
        return out

    def _each(self, y, variance, own, total):
        """Results of good spectra that differ in their weights or shapes."""
        design = self.common if own is None else Design(self.shapes, own)
        settled, used = True, y.shape[1]
        if variance is None:
            x, covariance, weight, settled = self._poisson(y, design)
        else:
            weight = 1 / variance
            used = (weight > 0).sum(-1)
            x, covariance = design.solve(y, weight, self.bounded)
        squared = design.model(x)
        np.subtract(y, squared, out=squared)
        np.square(squared, out=squared)
        sums = squared.sum(-1), np.einsum("ne,ne->n", squared, np.broadcast_to(weight, y.shape))
        if variance is None:
            # Weights are the inverse of a fitted model, and 1/model is on average above 1/expectation, by one part in
            # (counts / amplitudes): to first order this takes it back, where it matters, at a few counts per amplitude.
            q, channels = len(self.shapes), y.shape[1]
            counts = np.maximum(total, 0) / self.gain + channels * (self.readout / self.gain) ** 2
            covariance = covariance * (1 + q / (counts + q))[:, None, None]
        few = (total < 10 * len(self.shapes) * self.gain) & (variance is None)
        return self._pack(x, covariance, sums, used, y.shape[1], settled, few)

    def _pack(self, x, covariance, sums, used, channels, settled=True, few=False):
        """Results (n, size) from amplitudes, their covariance, and sums of residual² and of weight · residual²."""
        k, q = self.phases, len(self.shapes)
        at_zero = (x == 0) & self.bounded
        freedom = np.maximum(used - q + at_zero.sum(-1), 1)
        rms, chi2 = np.sqrt(sums[0] / channels), sums[1] / freedom
        covariance = covariance[:, :k, :k]
        if self.scale_covariance:
            covariance = covariance * np.maximum(chi2, 1)[:, None, None]
        flags = np.where(at_zero[:, :k].any(-1), FitFlag.AT_BOUND, 0)
        flags = flags | np.where(chi2 > 1 + 5 * np.sqrt(2 / freedom), FitFlag.POOR_FIT, 0)
        flags = flags | np.where(settled, 0, FitFlag.NOT_CONVERGED) | np.where(few, FitFlag.FEW_COUNTS, 0)
        results = (x[:, :k], covariance.reshape(len(x), -1), x[:, k:], chi2[:, None], rms[:, None], flags[:, None])
        return np.concatenate(results, axis=1)

    def _poisson(self, y, design):
        """Maximum likelihood: weights from the fitted model until the amplitudes settle."""
        n, channels = y.shape
        mean = y.mean(-1, keepdims=True)
        # A linear model may dip to nothing where counts are few: no channel is trusted more than if it held a tenth of
        # the mean, or one count were spread over the window. The floor depends on the sum only, so brings no bias.
        floor = np.maximum(FLOOR * mean, self.gain / channels)

        def weigh(model, floor, out):
            np.maximum(model, floor, out=out)
            if self.gain != 1:
                out *= self.gain
            if self.readout:
                out += self.readout**2
            return np.reciprocal(out, out=out)

        x = design.first_guess(y, self.bounded)
        weight = np.empty_like(y)
        weigh(design.model(x), floor, weight)
        covariance = np.empty((n, x.shape[1], x.shape[1]))
        todo, part, data, least, w = slice(None), design, y, floor, weight
        for _ in range(self.max_iterations):
            new, spread = part.solve(data, w, self.bounded)
            covariance[todo] = spread
            error = np.sqrt(np.einsum("nkk->nk", spread))
            moved = (np.abs(new - x[todo]) > self.tolerance * error)[:, : self.phases].any(-1)
            x[todo] = new
            weigh(part.model(new), least, w)
            if w is not weight:
                weight[todo] = w
            todo = np.arange(n)[todo][moved]
            if not todo.size:
                break
            part, data, least, w = part.take(moved), y[todo], floor[todo], weight[todo]
        settled = np.ones(n, bool)
        settled[todo] = False
        return x, covariance, weight, settled


class Design:
    """Shapes (q, E) shared by all pixels, of which the first k may be replaced by each pixel's own.

    ``own`` (n, k + 1, E): those k shapes, and what is in the spectrum besides, with a fixed amplitude.
    """

    def __init__(self, shapes, own=None):
        self.shapes, self.own = shapes, own
        q = len(shapes)
        self.upper = np.triu_indices(q)
        if own is None:
            self.pairs = (shapes[self.upper[0]] * shapes[self.upper[1]]).T.copy()
        else:
            k = own.shape[1] - 1
            common = np.broadcast_to(shapes[k:], (len(own), q - k, shapes.shape[1]))
            self.full, self.fixed = np.concatenate([own[:, :k], common], axis=1), own[:, k]

    def take(self, rows):
        return self if self.own is None else Design(self.shapes, self.own[rows])

    def model(self, x):
        return x @ self.shapes if self.own is None else np.matmul(x[:, None], self.full)[:, 0] + self.fixed

    def first_guess(self, y, bounded):
        """Amplitudes to start from: weights as if every shape had an equal share of the counts."""
        share = np.abs(self.shapes).mean(axis=1, keepdims=True)
        guess = np.abs(self.shapes / np.where(share > 0, share, 1)).mean(axis=0)
        weight = 1 / np.maximum(guess, FLOOR * guess.mean())
        if self.own is not None:
            return self.solve(y, np.broadcast_to(weight, y.shape), bounded)[0]
        weighted = weight * self.shapes
        return _bounded_solve((weighted @ self.shapes.T)[None], y @ weighted.T, bounded)[0]

    def solve_alike(self, y, weight, bounded):
        """`solve` for one weight (E,) that serves all pixels, and the sums of residual² and of weight · residual².

        One matrix product reads the spectra and another pass squares them; the sums follow from the normal equations,
        so no residual spectrum is made.
        """
        q, even = len(self.shapes), np.ptp(weight) == 0
        rows = self.shapes * weight
        normal = rows @ self.shapes.T
        right = y @ (rows if even else np.concatenate([rows, self.shapes])).T
        x, covariance = _bounded_solve(normal[None], right[:, :q], bounded)

        def residual(squares, right, normal):
            return np.maximum(squares - np.vecdot(2 * right - x @ normal, x), 0)

        if even:
            plain = residual(np.vecdot(y, y), right / weight[0], normal / weight[0])
            return x, covariance, (plain, weight[0] * plain)
        squares = np.square(y) @ np.stack([weight, np.ones_like(weight)], axis=1)
        weighted = residual(squares[:, 0], right[:, :q], normal)
        plain = residual(squares[:, 1], right[:, q:], self.shapes @ self.shapes.T)
        return x, covariance, (plain, weighted)

    def solve(self, y, weight, bounded):
        """Amplitudes (n, q) of the weighted problem and their covariance (n, q, q)."""
        q = len(self.shapes)
        if self.own is None:
            normal = np.empty((len(weight), q, q))
            normal[:, self.upper[0], self.upper[1]] = normal[:, self.upper[1], self.upper[0]] = weight @ self.pairs
            right = (weight * y) @ self.shapes.T
        else:
            weighted = self.full * weight[:, None]
            normal = weighted @ self.full.transpose(0, 2, 1)
            right = np.matmul(weighted, (y - self.fixed)[..., None])[..., 0]
        return _bounded_solve(normal, right, bounded)


def _bounded_solve(normal, right, bounded):
    """Minimise ``x' G x / 2 - b' x`` with x >= 0 where ``bounded``, for a stack of G (n or 1, q, q) and b (n, q).

    Returns x (n, q) and the inverse of G, which is the covariance of the unbounded solution.
    """
    scale = 1 / np.sqrt(np.einsum("nkk->nk", normal))  # unit diagonal: well conditioned whatever the units
    normal = normal * scale[:, :, None] * scale[:, None, :]
    try:
        inverse = np.linalg.inv(normal)
    except np.linalg.LinAlgError:  # a pixel whose channels left in do not determine all amplitudes: say so by its error
        inverse = np.linalg.inv(normal + 1e-12 * np.eye(normal.shape[-1]))
    right = right * scale
    x = right @ inverse[0] if len(inverse) == 1 else np.matmul(inverse, right[..., None])[..., 0]
    held = np.flatnonzero(bounded)
    rows = np.flatnonzero((x[:, held] < 0).any(-1))
    if rows.size:
        x[rows] = _enumerate(x[rows], np.broadcast_to(inverse, (len(x), *inverse.shape[1:]))[rows], held)
    covariance = inverse * scale[:, :, None] * scale[:, None, :]
    return x * scale, np.broadcast_to(covariance, (len(x), *covariance.shape[1:]))


def _enumerate(x, inverse, held):
    """The exact bounded minimum from the unbounded one: try which of the ``held`` amplitudes are zero.

    Holding the set Z at zero moves the others along their covariance with it, ``x - V[:, Z] V[Z, Z]⁻¹ x[Z]``, and costs
    ``x[Z]' V[Z, Z]⁻¹ x[Z]``. The cheapest set that leaves no amplitude negative is the minimum.
    """
    best, cost = np.empty_like(x), np.full(len(x), np.inf)
    for size in range(1, held.size + 1):
        for chosen in combinations(held, size):
            zero = list(chosen)
            block, at = inverse[:, zero][:, :, zero], x[:, zero]
            force = at / block[:, 0] if size == 1 else np.linalg.solve(block, at[..., None])[..., 0]
            trial = x - np.matmul(inverse[:, :, zero], force[..., None])[..., 0]
            trial[:, zero] = 0
            price = np.where((trial[:, held] >= 0).all(-1), (force * at).sum(-1), np.inf)
            better = price < cost
            cost[better], best[better] = price[better], trial[better]
    return best
