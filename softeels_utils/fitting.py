"""Phase maps from spectrum images: references and background fitted to every pixel at once, with covariance.

The spectrum of one pixel is a sum of fixed shapes with unknown amplitudes,

    y(E) = Σ_k c_k R_k(E) + Σ_p b_p B_p(E) + noise,        c >= 0,

phases R (FeO, Fe3O4) and background B. `fit_phases` solves all pixels together: with weights W = 1/variance the
normal matrices of N pixels are one matrix product, ``(N, E) @ (E, Q(Q+1)/2)``, and the few non-negative amplitudes are
found exactly, by trying every set of phases that may be present. For Poisson data the variance is that of the
fitted model, not of the counts, and is iterated: the result is the maximum of the Poisson likelihood, and has no
bias from weights that follow the noise.
"""

from __future__ import annotations

import enum
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations

import numpy as np

from .spectra import _data, _default_split, _is_dask, _low_loss_axis, _window, convolve_low_loss, energy_axis

__all__ = ["BACKGROUNDS", "FitFlag", "PhaseFit", "background_shapes", "fit_phases"]

BLOCK = 192  # spectra worked on at once: their arrays stay in the processor's cache
FLOOR = 0.1  # of the mean counts: no channel's variance is taken below it
MOST_NONNEGATIVE = 8  # 2**8 sets of phases are still tried in no time

#: Exponents r of the power laws E**-r that make up each named background.
BACKGROUNDS = {"plasmon_tail": (1.0, 3.0, 5.0), "power_law": (2.0, 4.0)}


class FitFlag(enum.IntFlag):
    """What is to be known of a pixel; flags add up."""

    OK = 0
    BAD_INPUT = 1  #: NaN, infinite or non-positive variance in the window: result NaN
    AT_BOUND = 2  #: a phase is at its bound of zero
    FEW_COUNTS = 4  #: fewer than ten counts per free amplitude: the error bars are rough
    POOR_FIT = 8  #: reduced chi² more than five of its standard deviations above 1
    NOT_CONVERGED = 16  #: the weights still moved by more than the tolerance


@dataclass(frozen=True)
class PhaseFit:
    """Result of `fit_phases`. Arrays are NumPy, or Dask where the spectra were lazy (`compute` makes them NumPy).

    Attributes
    ----------
    coefficients : (..., K)
        Amplitude of each reference: in nm, where references are per electron and per nm and the electrons are
        given (``electrons=`` or a ``low_loss`` in counts).
    covariance : (..., K, K)
        Covariance of the unconstrained estimate, background amplitudes free: the inverse Fisher information. Near a
        bound (`FitFlag.AT_BOUND`) the non-negative estimate itself scatters less.
    reduced_chi2, residual_rms : (...)
        Σ (y - fit)²/variance over degrees of freedom; root of the mean of (y - fit)², in counts.
    flags : (...), uint8
        Sums of `FitFlag`.
    background : (..., P)
        Amplitudes of the background shapes.
    energy_eV : (E',)
        Energies that were fitted.
    shapes : (K + P, E') or None
        References and background shapes as they were fitted; None where each pixel had its own (``low_loss``).
    """

    coefficients: np.ndarray
    covariance: np.ndarray
    reduced_chi2: np.ndarray
    residual_rms: np.ndarray
    flags: np.ndarray
    background: np.ndarray
    energy_eV: np.ndarray
    shapes: np.ndarray | None = field(repr=False, default=None)
    electrons: float | np.ndarray = field(repr=False, default=1.0)

    @property
    def standard_error(self):
        """Standard deviation of each coefficient, (..., K)."""
        return np.sqrt(np.einsum("...kk->...k", self.covariance))

    @property
    def correlation(self):
        """Correlation matrix of the coefficients, (..., K, K)."""
        error = self.standard_error
        return self.covariance / (error[..., :, None] * error[..., None, :])

    def curves(self):
        """Fitted spectra and their background part, two arrays (..., E'); not for a `low_loss` per pixel."""
        if self.shapes is None:
            raise ValueError("curves need one set of shapes, but every pixel was fitted with its own low_loss")
        k = self.coefficients.shape[-1]
        background = self.background @ self.shapes[k:]
        amplitudes = self.coefficients * np.asarray(self.electrons)[..., None]
        return amplitudes @ self.shapes[:k] + background, background

    def compute(self):
        """The same result with Dask arrays computed, in one pass over the spectra."""
        import dask

        names = ("coefficients", "covariance", "reduced_chi2", "residual_rms", "flags", "background")
        return replace(self, **dict(zip(names, dask.compute(*(getattr(self, n) for n in names)), strict=True)))

    def save(self, path):
        """Write coefficients, upper triangle of the covariance, chi², residual and flags as one HyperSpy signal.

        Lazy results are computed and written chunk by chunk where the format allows (``.zspy``, ``.hspy``), so a
        series larger than the memory can be fitted straight to disk. `load` reads it back.
        """
        import hyperspy.api as hs

        k, p = self.coefficients.shape[-1], self.background.shape[-1]
        join = np.concatenate
        if _is_dask(self.coefficients):
            import dask.array as da

            join = da.concatenate
        lead = self.flags.shape
        packed = join(
            [
                self.coefficients,
                self.covariance.reshape(*lead, k * k),
                self.background,
                self.reduced_chi2[..., None],
                self.residual_rms[..., None],
                self.flags[..., None].astype(float),
            ],
            axis=-1,
        )
        signal = hs.signals.BaseSignal(packed if lead else packed[None])
        signal = signal.transpose(signal_axes=1)
        if _is_dask(packed):
            signal = signal.as_lazy()
        signal.metadata.set_item("SoftEELS.fit", {"phases": k, "background": p, "energy_eV": self.energy_eV.tolist()})
        signal.save(path, overwrite=True)

    @classmethod
    def load(cls, path, lazy=False):
        """Read what `save` wrote."""
        import hyperspy.api as hs

        signal = hs.load(path, lazy=lazy)
        about = signal.metadata.SoftEELS.fit
        return _unpack(signal.data, about.phases, about.background, energy_eV=np.asarray(about.energy_eV))


# --- background -------------------------------------------------------------------------------------------


def background_shapes(energy_eV, background="plasmon_tail"):
    """Shapes of a background made of fixed components with free amplitudes.

    Parameters
    ----------
    energy_eV : (E,)
    background : str, sequence of float, array (P, E) or None
        A name of `BACKGROUNDS`; exponents r of power laws E**-r; shapes of your own (a measured tail, the low loss
        of a support film, ...); None for no background.

        "plasmon_tail": the tail of the valence losses and their plural scattering falls as a power whose exponent
        changes slowly with energy (Drude: E**-3 far above the plasmon), which a few fixed powers with
        amplitudes of either sign follow. "power_law": the same for a core-loss edge far above the last one.

    Returns
    -------
    (P, E), each 1 at the middle of the range.
    """
    energy = np.asarray(energy_eV, float)
    if background is None:
        return np.empty((0, energy.size))
    if isinstance(background, str):
        if background not in BACKGROUNDS:
            raise ValueError(
                f"background must be one of {sorted(BACKGROUNDS)}, exponents or shapes, got {background!r}"
            )
        background = BACKGROUNDS[background]
    background = np.asarray(background, float)
    if background.ndim == 1:
        if energy[0] <= 0:
            raise ValueError(f"window_eV must lie above 0 for a power-law background, it starts at {energy[0]:g} eV")
        return (energy / np.sqrt(energy[0] * energy[-1])) ** -background[:, None]
    if background.ndim != 2 or background.shape[1] != energy.size:
        raise ValueError(f"background shapes must be (P, {energy.size}), got {background.shape}")
    if not np.isfinite(background).all():
        raise ValueError("background shapes must be finite")
    return background


# --- the fit ----------------------------------------------------------------------------------------------


def fit_phases(
    spectra,
    energy_eV=None,
    references=None,
    *,
    background="plasmon_tail",
    nonnegative=True,
    nonnegative_background=False,
    variance=None,
    gain=1.0,
    readout_noise=0.0,
    window_eV=None,
    low_loss=None,
    low_loss_energy_eV=None,
    zero_loss_peak="delta",
    exposure_ratio=1.0,
    electrons=1.0,
    scale_covariance=False,
    tolerance=1e-3,
    max_iterations=12,
):
    """Fit phases and background to every spectrum of an image, a tilt series, or a lazy signal.

    Parameters
    ----------
    spectra : (..., E) array, Dask array or HyperSpy signal
        Counts, energy last; not background-subtracted, not denoised. Lazy input gives a lazy result.
    energy_eV : (E,)
        Energies; may be None for a HyperSpy signal.
    references : (K, E)
        One reference spectrum a row, on the same energies.
    background : str, exponents, shapes (P, E) or None
        See `background_shapes`.
    nonnegative : bool or sequence of K bools
        Which phases must not be negative. At most 8.
    nonnegative_background : bool
        The same for the background shapes. Off by default: powers of one sign cannot follow a tail that bends, and a
        bound on a nuisance makes the phases biased where counts are few.
    variance : None, scalar, (E,) or (..., E)
        None: Poisson, variance = gain · fit + readout_noise², iterated to self-consistency. An array: taken as given;
        ``inf`` leaves a channel out.
    gain, readout_noise : float
        Counts per electron; standard deviation of the readout in counts.
    window_eV : (float, float), optional
        Energies to fit; all by default. Channels outside may hold anything.
    low_loss : (..., E2) or (E2,), optional
        Low loss of the same pixels (or one for all), zero loss at 0 eV: the references are convolved with it before
        the fit, so plural scattering is in the model, the data stay as counted, and in counts it brings
        the number of electrons along: coefficients come out in nm if references are per electron and nm.
    low_loss_energy_eV : (E2,)
    zero_loss_peak : {"delta", "keep"}
        See `spectra.convolve_low_loss`.
    exposure_ratio : float
        Exposure of ``spectra`` over that of ``low_loss`` (dual EELS).
    electrons : float or array (...)
        Divides the coefficients: electrons per pixel, where no low loss brings them.
    scale_covariance : bool
        Multiply the covariance by the reduced chi², where that is above 1 (noise above Poisson).
    tolerance : float
        The Poisson weights are iterated until no coefficient moves by more than this part of its error.
    max_iterations : int

    Returns
    -------
    PhaseFit

    Raises
    ------
    ValueError
        Naming the argument, for energies that do not match the last axis or cover the window, references that are
        not finite, all zero, or collinear with each other or with the background, variances that are not positive, or
        spectra without a single usable pixel. Single bad pixels are flagged and NaN instead.

    Notes
    -----
    The non-negative minimum is exact: the free amplitudes are eliminated (Schur complement), every subset of the
    non-negative ones is solved, and the best of those without a negative amplitude is the minimum, because the
    problem is strictly convex. Lawson & Hanson's NNLS (``scipy.optimize.nnls``) finds the same, pixel by pixel.

    Maximum likelihood by iterated weighting: Nelder & Wedderburn, J. R. Stat. Soc. A 135 (1972) 370.
    """
    energy = energy_axis(spectra, energy_eV)
    references = _references(references, energy)
    inside = np.ones(energy.size, bool) if window_eV is None else _window(energy, window_eV)
    inside = slice(*(np.flatnonzero(inside)[[0, -1]] + [0, 1])) if inside.any() else slice(0, 0)
    tail = background_shapes(energy[inside], _cut(background, energy.size, inside))
    free_phase = ~np.broadcast_to(np.asarray(nonnegative, bool), (len(references),))
    bounded = np.r_[~free_phase, np.full(len(tail), nonnegative_background)]
    if bounded.sum() > MOST_NONNEGATIVE:
        raise ValueError(f"nonnegative: at most {MOST_NONNEGATIVE} amplitudes may be bounded, got {bounded.sum()}")
    if energy[inside].size <= len(bounded):
        raise ValueError(f"window_eV holds {energy[inside].size} channels, too few for {len(bounded)} amplitudes")
    for name, value, least in (("gain", gain, 0), ("exposure_ratio", exposure_ratio, 0), ("tolerance", tolerance, 0)):
        if not (np.isfinite(value) and value > least):
            raise ValueError(f"{name} must be above {least}, got {value}")
    if not (np.isfinite(readout_noise) and readout_noise >= 0):
        raise ValueError(f"readout_noise must not be negative, got {readout_noise}")
    data = _data(spectra)
    lead = data.shape[:-1]
    variance = _variance(variance, data, inside)
    electrons = _electrons(electrons, lead)

    each_pixel = None
    phases = references
    if low_loss is not None:
        low_energy = _low_loss_axis(low_loss, low_loss_energy_eV, energy)
        low = _data(low_loss)
        split = _default_split(low, low_energy) if zero_loss_peak == "delta" else None

        def seen_through(rows):
            """The references after plural scattering, (..., K, E), for blocks of low-loss spectra."""
            how = dict(zero_loss_peak=zero_loss_peak, split_eV=split)
            return exposure_ratio * convolve_low_loss(references, rows, energy, low_energy, **how)

        if low.ndim == 1:
            phases = np.asarray(seen_through(low))
        elif low.shape[:-1] != lead:
            raise ValueError(f"low_loss must have leading axes {lead} (or be one spectrum), got {low.shape[:-1]}")
        else:

            def each_pixel(rows):
                return seen_through(rows)[..., inside]

    shapes = np.concatenate([phases[:, inside], tail])
    _check_collinear(shapes, len(references))

    solver = _Solver(
        shapes=shapes,
        bounded=bounded,
        phases=len(references),
        gain=gain,
        readout=readout_noise,
        scale_covariance=scale_covariance,
        tolerance=tolerance,
        max_iterations=max_iterations,
    )

    def block(y, var=None, low=None):
        own = None if low is None else each_pixel(low)
        return solver(y[:, inside], None if var is None else var[..., inside], own)

    packed = _over_blocks(block, solver.size, data, variance, None if each_pixel is None else low)
    fit = _unpack(packed, len(references), len(tail), energy_eV=energy[inside])
    if not _is_dask(packed) and (fit.flags & FitFlag.BAD_INPUT).all():
        raise ValueError("spectra (or their variance) have no pixel that is finite and usable in the window")
    return replace(
        fit,
        coefficients=fit.coefficients / electrons[..., None],
        covariance=fit.covariance / electrons[..., None, None] ** 2,
        shapes=None if each_pixel else shapes,
        electrons=electrons,
    )


def _references(references, energy):
    if references is None:
        raise ValueError("references must be given, one spectrum a row")
    references = np.atleast_2d(np.asarray(references, float))
    if references.ndim != 2 or references.shape[1] != energy.size:
        raise ValueError(f"references must have shape (K, {energy.size}), got {references.shape}")
    if not np.isfinite(references).all():
        raise ValueError("references must be finite, got NaN or infinity")
    return references


def _cut(background, channels, inside):
    """Background shapes given on all channels, cut to the window."""
    if background is None or isinstance(background, str) or np.ndim(background) != 2:
        return background
    background = np.asarray(background, float)
    return background[:, inside] if background.shape[1] == channels else background


def _variance(variance, data, inside):
    if variance is None:
        return None
    variance = _data(variance)
    if variance.ndim == 0:
        variance = np.full(data.shape[-1], float(variance))
    if variance.shape not in (data.shape[-1:], data.shape):
        raise ValueError(f"variance must be a scalar, ({data.shape[-1]},) or {data.shape}, got {variance.shape}")
    if variance.ndim == 1:
        bad = ~(np.asarray(variance)[inside] > 0)
        if bad.any():
            raise ValueError(f"variance must be positive, got {np.asarray(variance)[inside][bad][0]:g}")
    return variance


def _electrons(electrons, lead):
    electrons = np.asarray(electrons, float)
    if electrons.shape not in ((), lead):
        raise ValueError(f"electrons must be a number or have shape {lead}, got {electrons.shape}")
    if not (electrons > 0).all():
        raise ValueError("electrons must be positive")
    return electrons


def _check_collinear(shapes, phases, least=1e-5):
    """Each reference must have a part of its own, apart from all other shapes."""
    norm = np.linalg.norm(shapes, axis=1)
    if not norm[:phases].all():
        raise ValueError(f"references: row {int(np.argmin(norm[:phases]))} is zero all over the window")
    unit = shapes / np.where(norm > 0, norm, 1)[:, None]
    for k in range(phases):
        others = np.delete(unit, k, axis=0)
        own = unit[k] - others.T @ np.linalg.lstsq(others.T, unit[k], rcond=1e-12)[0] if len(others) else unit[k]
        if np.linalg.norm(own) < least:
            alone = np.delete(unit[:phases], k, axis=0)
            left = unit[k] - alone.T @ np.linalg.lstsq(alone.T, unit[k], rcond=1e-12)[0] if phases > 1 else unit[k]
            with_what = "the other references" if np.linalg.norm(left) < least else "the background"
            raise ValueError(f"references: row {k} is collinear with {with_what} in the window")


def _over_blocks(block, size, data, variance, low_loss):
    """Run ``block`` over all pixels: at once for arrays, chunk by chunk and lazily for Dask arrays."""
    lead = data.shape[:-1]
    workers = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    pixelwise = [x for x in (variance, low_loss) if x is not None and x.ndim > 1]

    def run(y, *rest):
        rest = list(rest)
        var = rest.pop(0) if variance is not None and variance.ndim > 1 else variance
        low = rest.pop(0) if low_loss is not None else None
        rows = int(np.prod(y.shape[:-1], dtype=int))
        flat = [None if x is None else np.asarray(x).reshape(-1, x.shape[-1]) for x in (y, var, low)]
        out = np.empty((rows, size))

        def one(start):
            part = slice(start, start + BLOCK)
            out[part] = block(*(x if x is None or (len(x) == 1 and rows != 1) else x[part] for x in flat))

        with _single_threaded_blas:
            if workers == 1:
                for start in range(0, rows, BLOCK):
                    one(start)
            else:
                with ThreadPoolExecutor(workers) as pool:
                    list(pool.map(one, range(0, rows, BLOCK)))
        return out.reshape(*y.shape[:-1], size)

    if not any(_is_dask(x) for x in (data, *pixelwise)):
        return run(data, *pixelwise)
    workers = 1  # Dask brings its own
    import dask.array as da

    arrays = [da.asarray(x) for x in (data, *pixelwise)]
    chunks = next(x for x in (data, *pixelwise) if _is_dask(x)).chunks[:-1]
    arrays = [x.rechunk((*chunks, -1)) for x in arrays]
    nav = tuple(range(len(lead)))
    pairs = [item for i, x in enumerate(arrays) for item in (x, (*nav, 50 + i))]
    return da.blockwise(
        run,
        (*nav, 100),
        *pairs,
        new_axes={100: size},
        concatenate=True,
        dtype=float,
        meta=np.empty((0,) * (len(nav) + 1)),
    )


class _SingleThreadedBLAS:
    """The blocks run side by side, each on one core: BLAS must not spread each small product over all of them.

    The limit belongs to the process, so the first block in sets it and the last one out lifts it.
    """

    def __init__(self):
        self.lock, self.inside, self.limit = threading.Lock(), 0, None

    def __enter__(self):
        with self.lock:
            self.inside += 1
            if self.inside == 1:
                try:
                    from threadpoolctl import threadpool_limits
                except ImportError:  # slower, not wrong
                    return
                self.limit = threadpool_limits(1, user_api="blas")

    def __exit__(self, *error):
        with self.lock:
            self.inside -= 1
            if not self.inside and self.limit is not None:
                self.limit.restore_original_limits()
                self.limit = None


_single_threaded_blas = _SingleThreadedBLAS()


def _unpack(packed, k, p, **more):
    parts = np.cumsum([0, k, k * k, p])
    a, b, c, d = parts
    return PhaseFit(
        coefficients=packed[..., a:b],
        covariance=packed[..., b:c].reshape(*packed.shape[:-1], k, k),
        background=packed[..., c:d],
        reduced_chi2=packed[..., d],
        residual_rms=packed[..., d + 1],
        flags=packed[..., d + 2].astype(np.uint8),
        **more,
    )


@dataclass(frozen=True)
class _Solver:
    """Weighted fits of a block of spectra (n, E') -> packed results (n, size)."""

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
        return _Design(self.shapes)

    @property
    def size(self):
        k = self.phases
        return k + k * k + (len(self.shapes) - k) + 3

    def __call__(self, y, variance=None, own=None):
        y = np.asarray(y, float)
        k, q, channels = self.phases, len(self.shapes), y.shape[1]
        total = y.sum(-1)
        good = np.isfinite(total)  # one bad channel spoils the sum
        if variance is not None:
            good = good & (variance > 0).all(-1) & (np.isfinite(variance).sum(-1) > q)
        if own is not None:
            good = good & np.isfinite(own).all((-1, -2)) & (np.abs(own).max(-1) > 0).all(-1)
        out = np.full((len(y), self.size), np.nan)
        out[:, -1] = FitFlag.BAD_INPUT
        if not good.any():
            return out
        if not good.all():
            variance = variance if variance is None or len(variance) == 1 else variance[good]
            out[good] = self(y[good], variance, None if own is None else own[good])
            return out

        design = self.common if own is None else _Design(self.shapes, own)
        settled = np.ones(len(y), bool)
        used, sums = channels, None
        if variance is None:
            x, covariance, weight, settled = self._poisson(y, design)
        else:
            weight = 1 / variance
            used = (weight > 0).sum(-1)
            if len(weight) == 1 and own is None:
                x, covariance, sums = design.solve_alike(y, weight[0], self.bounded)
            else:
                x, covariance = design.solve(y, weight, self.bounded)
        if sums is None:
            squared = design.model(x)
            np.subtract(y, squared, out=squared)
            np.square(squared, out=squared)
            sums = squared.sum(-1), np.einsum("ne,ne->n", squared, np.broadcast_to(weight, y.shape))
        at_zero = (x == 0) & self.bounded
        freedom = np.maximum(used - q + at_zero.sum(-1), 1)
        rms, chi2 = np.sqrt(sums[0] / channels), sums[1] / freedom
        covariance = covariance[:, :k, :k]
        if variance is None:
            # Weights are the inverse of a fitted model, and 1/model is on average above 1/expectation, by one part in
            # (counts / amplitudes): to first order this takes it back, where it matters, at a few counts per amplitude.
            counts = np.maximum(total, 0) / self.gain + channels * (self.readout / self.gain) ** 2
            covariance = covariance * (1 + q / (counts + q))[:, None, None]
        if self.scale_covariance:
            covariance = covariance * np.maximum(chi2, 1)[:, None, None]
        flags = np.where(at_zero[:, :k].any(-1), FitFlag.AT_BOUND, 0)
        flags = flags | np.where(chi2 > 1 + 5 * np.sqrt(2 / freedom), FitFlag.POOR_FIT, 0)
        flags = flags | np.where(settled, 0, FitFlag.NOT_CONVERGED)
        if variance is None:
            flags = flags | np.where(total < 10 * q * self.gain, FitFlag.FEW_COUNTS, 0)
        results = (x[:, :k], covariance.reshape(len(y), -1), x[:, k:], chi2[:, None], rms[:, None], flags[:, None])
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

        x = design.solve_evenly(y, self.bounded)
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


class _Design:
    """Shapes (q, E) shared by all pixels, of which the first may be replaced by each pixel's own (n, k, E)."""

    def __init__(self, shapes, own=None):
        self.shapes, self.own = shapes, own
        q = len(shapes)
        self.upper = np.triu_indices(q)
        if own is None:
            self.pairs = (shapes[self.upper[0]] * shapes[self.upper[1]]).T.copy()
        else:
            common = np.broadcast_to(shapes[own.shape[1] :], (len(own), q - own.shape[1], shapes.shape[1]))
            self.full = np.concatenate([own, common], axis=1)

    def take(self, rows):
        return self if self.own is None else _Design(self.shapes, self.own[rows])

    def model(self, x):
        return x @ self.shapes if self.own is None else np.matmul(x[:, None], self.full)[:, 0]

    def solve_evenly(self, y, bounded):
        """Amplitudes for equal weights, to start from."""
        if self.own is not None:
            return self.solve(y, np.ones_like(y), bounded)[0]
        return _bounded_solve((self.shapes @ self.shapes.T)[None], y @ self.shapes.T, bounded)[0]

    def solve_alike(self, y, weight, bounded):
        """`solve` for one weight (E,) that serves all pixels, and the sums of residual² and of weight · residual².

        The sums follow from the normal equations, so no residual spectrum is made.
        """
        weights = np.stack([np.ones_like(weight), weight])
        weighted = weights[:, None] * self.shapes
        normal = weighted @ self.shapes.T
        right = (y @ weighted.reshape(-1, weight.size).T).reshape(len(y), 2, -1)
        x, covariance = _bounded_solve(normal[1:], right[:, 1], bounded)
        sums = np.square(y) @ weights.T - 2 * np.matmul(right, x[..., None])[..., 0]
        sums += np.stack([((x @ g) * x).sum(-1) for g in normal], axis=-1)
        return x, covariance, np.maximum(sums, 0).T

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
            right = np.matmul(weighted, y[..., None])[..., 0]
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
    inverse = np.broadcast_to(inverse, (len(x), *inverse.shape[1:]))
    held = np.flatnonzero(bounded)
    rows = np.flatnonzero((x[:, held] < 0).any(-1))
    if rows.size:
        x[rows] = _enumerate(x[rows], inverse[rows], held)
    return x * scale, inverse * scale[:, :, None] * scale[:, None, :]


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
