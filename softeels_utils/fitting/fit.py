"""`fit_phases`: checks, plural scattering, and blocks of pixels, in memory or out of core."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from ..spectra.arrays import data_of, energy_axis, is_dask, window_mask
from ..spectra.plural import convolve_low_loss, default_split, low_loss_axis, repeated_losses
from .background import background_shapes
from .result import FitFlag, unpack
from .solver import Solver

BLOCK = 192  # spectra worked on at once: their arrays stay in the processor's cache
BLOCK_ALIKE = 512  # with one variance for all pixels there are no arrays of their size beside the spectra
MOST_NONNEGATIVE = 8  # 2**8 sets of phases are still tried in no time


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
    tolerance=1e-2,
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
        the number of electrons along: coefficients come out in nm if references are per electron and nm. A low loss of
        the same pixels that holds the window, too, serves the background: exponents are then those of single
        scattering, convolved like the references (amplitudes are per electron), and what losses below the window
        add by repeated scattering is computed from them (`spectra.repeated_losses`) and has a fixed amplitude: such
        a low loss must be in counts, and ``exposure_ratio`` true. Shapes of your own stay as given. The model is good
        as far as the low loss reaches over the window, if the window starts below the onset; noise of the low loss is
        not in the error bars.
    low_loss_energy_eV : (E2,)
    zero_loss_peak : {"delta", "keep"}
        See `spectra.convolve_low_loss`.
    exposure_ratio : float
        Exposure of ``spectra`` over that of ``low_loss`` (dual EELS). To be given, for a fit with repeated losses
        (``low_loss``) is not the same up to a factor.
    electrons : float or array (...)
        Divides the coefficients: electrons per pixel, where no low loss brings them. Not together with a low loss that
        serves the background, which must be in counts.
    scale_covariance : bool
        Multiply the covariance by the reduced chi², where that is above 1 (noise above Poisson).
    tolerance : float
        The Poisson weights are iterated until no coefficient moves by more than this part of its error; what is left to
        move then is several times less.
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
    inside = np.ones(energy.size, bool) if window_eV is None else window_mask(energy, window_eV)
    inside = slice(*(np.flatnonzero(inside)[[0, -1]] + [0, 1])) if inside.any() else slice(0, 0)
    tail = background_shapes(energy[inside], _cut(background, energy.size, inside))
    if np.ndim(nonnegative) and np.shape(nonnegative) != (len(references),):
        raise ValueError(f"nonnegative must be one bool or {len(references)} of them, got {nonnegative!r}")
    bounded = np.r_[
        np.broadcast_to(np.asarray(nonnegative, bool), (len(references),)),
        np.full(len(tail), bool(nonnegative_background)),
    ]
    if bounded.sum() > MOST_NONNEGATIVE:
        raise ValueError(f"nonnegative: at most {MOST_NONNEGATIVE} amplitudes may be bounded, got {bounded.sum()}")
    if energy[inside].size <= len(bounded):
        raise ValueError(f"window_eV holds {energy[inside].size} channels, too few for {len(bounded)} amplitudes")
    for name, value, least in (("gain", gain, 0), ("exposure_ratio", exposure_ratio, 0), ("tolerance", tolerance, 0)):
        if not (np.isfinite(value) and value > least):
            raise ValueError(f"{name} must be above {least}, got {value}")
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, got {max_iterations}")
    if not (np.isfinite(readout_noise) and readout_noise >= 0):
        raise ValueError(f"readout_noise must not be negative, got {readout_noise}")
    data = data_of(spectra)
    lead = data.shape[:-1]
    variance = _variance(variance, data, inside)
    electrons = _electrons(electrons, lead)

    each_pixel = None
    phases = references[:, inside]
    if low_loss is not None:
        low_energy = low_loss_axis(low_loss, low_loss_energy_eV, energy)
        low = data_of(low_loss)
        step, (first, last) = energy[1] - energy[0], energy[inside][[0, -1]]
        own_low = low.shape[:-1] == lead
        with_background = own_low and len(tail) > 0 and np.ndim(background) < 2 and last <= low_energy[-1] + 1e-6
        if with_background and (electrons != 1).any():
            raise ValueError("low_loss serves the background, so must be in counts: it brings the electrons, give none")
        split = default_split(low, low_energy) if zero_loss_peak == "delta" or with_background else None
        # losses only add up: nothing past the window matters to it, but for the width of the zero loss
        stop = inside.stop + int(-low_energy[0] / step)
        used = low_energy < last + 2 * step
        low_energy = low_energy[used]

        def seen_through(rows, intrinsic=references, zero_loss_peak=zero_loss_peak):
            """Spectra (K, E) after plural scattering, inside the window, for blocks of low-loss spectra."""
            how = dict(zero_loss_peak=zero_loss_peak, split_eV=split)
            spectra = convolve_low_loss(intrinsic[:, :stop], rows[..., used], energy[:stop], low_energy, **how)
            return exposure_ratio * spectra[..., inside]

        def background_of(rows):
            """Background shapes (n, P, E') that begin with the window; repeated losses from below it, (n, 1, E')."""
            begun = np.zeros((len(tail), energy.size))
            begun[:, inside] = tail
            repeated = repeated_losses(rows[:, used], low_energy, below_eV=first, split_eV=split)
            place = (energy[inside] - low_energy[0]) / step
            at = np.clip(place.astype(int), 0, low_energy.size - 2)
            repeated = repeated[:, at] + (place - at) * (repeated[:, at + 1] - repeated[:, at])
            return seen_through(rows, begun, "delta"), exposure_ratio * repeated[:, None]

        if own_low:

            def each_pixel(rows):
                """Shapes of each pixel (n, K or K + P, E'), then what is fixed."""
                rest = background_of(rows) if with_background else (np.zeros((len(rows), 1, tail.shape[1])),)
                shapes = np.concatenate([seen_through(rows), *rest], axis=1)
                return shapes if split is None else np.where(_misaligned(rows, low_energy, split), np.nan, shapes)

        elif low.ndim == 1:
            phases = np.asarray(seen_through(low))
        else:
            raise ValueError(f"low_loss must have leading axes {lead} (or be one spectrum), got {low.shape[:-1]}")

    shapes = np.concatenate([phases, tail])
    _check_collinear(shapes, len(references))

    solver = Solver(
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
    fit = unpack(packed, len(references), len(tail), energy_eV=energy[inside])
    if not is_dask(packed) and (fit.flags & FitFlag.BAD_INPUT).all():
        raise ValueError("spectra (or their variance) have no pixel that is finite and usable in the window")
    fixed = 0.0
    if each_pixel is not None and lead:
        shapes = None
        fixed = None if with_background else 0.0
    elif each_pixel is not None:
        *own, fixed = each_pixel(np.asarray(low)[None])[0]
        shapes = np.concatenate([own, shapes[len(own) :]])
    return replace(
        fit,
        coefficients=fit.coefficients / electrons[..., None],
        covariance=fit.covariance / electrons[..., None, None] ** 2,
        shapes=shapes,
        fixed=fixed,
        electrons=electrons,
    )


def _misaligned(low_loss, energy, split):
    """Which low-loss spectra (n, 1, 1) have less than half of what lies below the plasmons within ``split`` of 0 eV."""
    below = np.flatnonzero(energy < max(10.0, 2 * split))
    peak = np.flatnonzero(np.abs(energy) <= split)
    peak, below = low_loss[:, peak].sum(-1), low_loss[:, below].sum(-1)
    return (peak < 0.5 * below)[:, None, None]


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
    variance = data_of(variance)
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
    if phases < len(shapes) and np.linalg.svd(unit[phases:], compute_uv=False)[-1] < 1e-9:
        raise ValueError("background: a shape is zero, or a sum of the others, in the window")
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
    pixelwise = [variance] if variance is not None and variance.ndim > 1 else []
    pixelwise += [] if low_loss is None else [low_loss]

    def run(y, *rest):
        rest = list(rest)
        var = rest.pop(0) if variance is not None and variance.ndim > 1 else variance
        low = rest.pop(0) if low_loss is not None else None
        rows = int(np.prod(y.shape[:-1], dtype=int))
        flat = [None if x is None else np.asarray(x).reshape(-1, x.shape[-1]) for x in (y, var, low)]
        out = np.empty((rows, size))
        many = BLOCK_ALIKE if var is not None and var.ndim == 1 and low is None else BLOCK

        def one(start):
            part = slice(start, start + many)
            out[part] = block(*(x if x is None or (len(x) == 1 and rows != 1) else x[part] for x in flat))

        with _single_threaded_blas:
            if workers == 1:
                for start in range(0, rows, many):
                    one(start)
            else:
                with ThreadPoolExecutor(workers) as pool:
                    list(pool.map(one, range(0, rows, many)))
        return out.reshape(*y.shape[:-1], size)

    if not any(is_dask(x) for x in (data, *pixelwise)):
        return run(data, *pixelwise)
    workers = 1  # Dask brings its own
    import dask.array as da

    arrays = [da.asarray(x) for x in (data, *pixelwise)]
    chunks = next(x for x in (data, *pixelwise) if is_dask(x)).chunks[:-1]
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
