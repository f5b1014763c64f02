"""Prepare EELS spectra for quantification: align, clean, subtract background, undo plural scattering.

Every function takes spectra `(..., E)`, energy last: a NumPy array (with ``energy_eV``), a Dask array, or a
HyperSpy signal, lazy or not (whose own energy axis is used), and gives back the same kind. All of them act on
blocks of spectra at once; none loops over pixels.

The order in which dual EELS is usually prepared::

    low, core = align_zero_loss(low, core)
    low, core = remove_spikes(low), remove_spikes(core)
    ssd = fourier_log(low)                      # low loss, M edges: single-scattering distribution
    core = remove_background(core, window_eV=(650, 700))
    core = fourier_ratio(core, low)             # core loss, L and K edges

For quantification prefer `convolve_low_loss` on the references (or ``fit_phases(..., low_loss=...)``) to
deconvolving the data: it leaves the noise of the data as it was counted.
"""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage

__all__ = [
    "align_zero_loss",
    "convolve_low_loss",
    "energy_axis",
    "find_spikes",
    "fit_background",
    "fourier_log",
    "fourier_ratio",
    "relative_thickness",
    "remove_background",
    "remove_spikes",
    "shift_spectra",
    "zero_loss",
    "zero_loss_position",
]

BLOCK = 2048  # spectra worked on at once: large enough for NumPy, small enough for the cache and for memory


# --- containers -------------------------------------------------------------------------------------------


def energy_axis(spectra, energy_eV=None, name="energy_eV"):
    """Energy of each channel in eV: from the signal itself, or ``energy_eV`` checked against the data.

    Returns
    -------
    ndarray (E,), float64, increasing and evenly spaced.

    Raises
    ------
    ValueError
        If an array comes without energies, or the energies are not 1-D, finite, increasing and even, or
        their number is not the length of the last axis (a sign of a wrong axis order).
    """
    if _is_signal(spectra):
        axes = spectra.axes_manager.signal_axes
        if len(axes) != 1:
            raise ValueError(f"spectra must have one signal axis (energy), got {len(axes)}")
        energy_eV = axes[0].axis if energy_eV is None else energy_eV
        spectra = spectra.data
    if energy_eV is None:
        raise ValueError(f"{name} is needed when the spectra are a plain array")
    energy = np.asarray(energy_eV, dtype=float)
    if energy.ndim != 1 or energy.size < 3 or not np.isfinite(energy).all():
        raise ValueError(f"{name} must be a finite 1-D array of at least 3 energies, got {energy.shape}")
    step = np.diff(energy)
    if step.min() <= 0 or np.ptp(step) > 1e-3 * step.mean():
        raise ValueError(f"{name} must increase in even steps, got steps {step.min():.4g} to {step.max():.4g}")
    shape = np.shape(spectra)
    if len(shape) == 0 or shape[-1] != energy.size:
        hint = " (energy must be the last axis)" if energy.size in shape else ""
        raise ValueError(f"{name} has {energy.size} energies, but spectra have shape {shape}{hint}")
    return energy


def _is_signal(x):
    return hasattr(x, "axes_manager")


def _is_dask(x):
    return hasattr(x, "dask")


def _data(x):
    return x.data if _is_signal(x) else x if _is_dask(x) else np.asarray(x)


def _like(x, data):
    """Data in the container of x, with its axes and metadata."""
    return x._deepcopy_with_new_data(data) if _is_signal(x) else data


def _map(function, *inputs, core_shape, dtype=float):
    """Apply a function of blocks ``(n, E), (n, E2), ... -> (n, *core_shape)`` to arrays ``(..., E), ...``.

    Arrays are worked on `BLOCK` spectra at a time; Dask arrays lazily, chunk by chunk. An input without
    leading axes is given to every block as one row.
    """
    inputs = [_data(x) for x in inputs]
    lead = max((x.shape[:-1] for x in inputs), key=len)
    for x in inputs:
        if x.ndim > 1 and x.shape[:-1] != lead:
            raise ValueError(f"spectra do not agree in their leading axes: {x.shape[:-1]} and {lead}")
    if any(_is_dask(x) for x in inputs):
        return _map_dask(function, inputs, lead, core_shape, dtype)
    rows = [x.reshape(-1, x.shape[-1]) for x in inputs]
    n = int(np.prod(lead, dtype=int))
    out = np.empty((n, *core_shape), dtype=dtype)
    for start in range(0, n, BLOCK):
        part = slice(start, start + BLOCK)
        out[part] = function(*(r[part] if x.ndim > 1 else r for r, x in zip(rows, inputs, strict=True)))
    return out.reshape((*lead, *core_shape))


def _map_dask(function, inputs, lead, core_shape, dtype):
    import dask.array as da

    lazy = next(x for x in inputs if _is_dask(x) and x.ndim == len(lead) + 1)
    chunks = lazy.chunks[:-1]
    arrays = [da.asarray(x) for x in inputs]
    arrays = [x.rechunk({**dict(enumerate(chunks)), x.ndim - 1: -1} if x.ndim > 1 else -1) for x in arrays]

    def block(*parts):
        shape = max((p.shape[:-1] for p in parts), key=len)
        return _map(function, *parts, core_shape=core_shape, dtype=dtype).reshape((*shape, *core_shape))

    nav = tuple(range(len(lead)))
    new = {100 + i: size for i, size in enumerate(core_shape)}
    pairs = [pair for i, x in enumerate(arrays) for pair in (x, (*nav, 50 + i) if x.ndim > 1 else (50 + i,))]
    return da.blockwise(block, (*nav, *new), *pairs, new_axes=new, concatenate=True, dtype=dtype, meta=np.empty(0))


# --- alignment --------------------------------------------------------------------------------------------


def zero_loss_position(low_loss, energy_eV=None, *, smoothing_eV=0.5):
    """Energy of the zero-loss peak of each spectrum, to a fraction of a channel.

    The spectrum is smoothed by a Gaussian of ``smoothing_eV`` (standard deviation; close to a matched filter
    where it is near the width of the peak) and a parabola is put through the logarithm of the three
    highest channels.

    Returns
    -------
    ndarray or Dask array (...,), eV.
    """
    energy = energy_axis(low_loss, energy_eV)
    step = energy[1] - energy[0]
    width = max(smoothing_eV / step, 0.5)

    def locate(y):
        smooth = ndimage.gaussian_filter1d(np.asarray(y, float), width, axis=-1)
        top = np.clip(smooth.argmax(-1), 1, energy.size - 2)
        at = np.take_along_axis(smooth, top[:, None] + np.arange(-1, 2), axis=-1)
        left, mid, right = np.log(np.maximum(at, np.finfo(float).tiny)).T
        bend = left - 2 * mid + right
        offset = np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, -1.0), 0.0)
        return energy[top] + step * np.clip(offset, -1, 1)

    return _map(locate, low_loss, core_shape=())


def shift_spectra(spectra, shift_eV, energy_eV=None, *, method="linear"):
    """Move spectra along the energy axis by ``shift_eV`` (positive: towards higher energy).

    Parameters
    ----------
    spectra : (..., E)
    shift_eV : float or array (...,)
    method : {"linear", "nearest", "fourier"}
        "linear" keeps counts non-negative, and their sum, but ties neighbouring channels together (the noise of
        broad features is unchanged, the scatter of single channels falls); "nearest" moves by whole channels
        and leaves Poisson counts Poisson; "fourier" keeps white noise white and may ring at sharp peaks.
        Channels moved in from outside repeat the last one.
    """
    energy = energy_axis(spectra, energy_eV)
    if method not in ("linear", "nearest", "fourier"):
        raise ValueError(f"method must be 'linear', 'nearest' or 'fourier', got {method!r}")
    lead = _data(spectra).shape[:-1]
    shift = shift_eV if _is_dask(shift_eV) else np.broadcast_to(np.asarray(shift_eV, float), lead)
    if shift.shape != lead:
        raise ValueError(f"shift_eV must have shape {lead}, got {shift.shape}")
    channels = shift[..., None] / (energy[1] - energy[0])
    data = _data(spectra)
    move = _shift_fourier if method == "fourier" else _shift_linear
    if method == "nearest":
        channels = channels.round()
    if not lead:
        return _like(spectra, _map(move, data[None], channels[None], core_shape=energy.shape)[0])
    return _like(spectra, _map(move, data, channels, core_shape=energy.shape))


def _shift_linear(y, channels):
    last = y.shape[-1] - 1
    source = np.clip(np.arange(last + 1) - channels, 0, last)
    low = np.minimum(source.astype(np.intp), last - 1)
    part = source - low
    return (1 - part) * np.take_along_axis(y, low, -1) + part * np.take_along_axis(y, low + 1, -1)


def _shift_fourier(y, channels):
    y = np.asarray(y, float)
    n = y.shape[-1]
    pad = int(np.ceil(np.abs(channels).max())) + 32
    ramp = np.linspace(0, 1, 2 * pad)  # a smooth bridge from the last channel back to the first
    bell = 0.5 - 0.5 * np.cos(np.pi * ramp)
    bridge = y[:, -1:] * (1 - bell) + y[:, :1] * bell
    whole = np.concatenate([y, bridge], axis=-1)
    phase = np.exp(-2j * np.pi * fft.rfftfreq(n + 2 * pad) * channels)
    return fft.irfft(fft.rfft(whole) * phase, n + 2 * pad)[:, :n]


def align_zero_loss(low_loss, *others, energy_eV=None, others_energy_eV=None, method="linear", smoothing_eV=0.5):
    """Put the zero-loss peak of every pixel at 0 eV, and move co-acquired spectra with it.

    Parameters
    ----------
    low_loss : (..., E)
        Spectra that contain the zero-loss peak.
    *others : (..., E2)
        Spectra of the same pixels (core loss) that drifted in the same way.
    energy_eV, others_energy_eV : arrays
        Energies, for plain arrays. One ``others_energy_eV`` serves all others.

    Returns
    -------
    The aligned low loss; with ``others``, a tuple of it and them.

    Notes
    -----
    HyperSpy's ``align_zero_loss_peak`` does the same pixel by pixel; this one does blocks of pixels, and agrees
    with it within a small part of a channel (tests).
    """
    energy = energy_axis(low_loss, energy_eV)
    shift = -zero_loss_position(low_loss, energy, smoothing_eV=smoothing_eV)
    aligned = [shift_spectra(low_loss, shift, energy, method=method)]
    for other in others:
        axis = energy_axis(other, others_energy_eV, name="others_energy_eV")
        aligned.append(shift_spectra(other, shift, axis, method=method))
    return tuple(aligned) if others else aligned[0]


# --- spikes -----------------------------------------------------------------------------------------------


def find_spikes(spectra, *, threshold=8.0, width=3, readout_noise=0.0, gain=1.0):
    """Mask of X-ray and cosmic-ray spikes: channels far above the median of their neighbours.

    A channel is a spike where it exceeds the running median along energy (which a spike of up to ``width`` channels
    does not move) by ``threshold`` times the noise. Real peaks are told from
    spikes because they stand in most pixels: the excess that is usual for a channel, its median over pixels in
    proportion to the local intensity, is taken off first, and the spread over pixels bounds the noise from below.

    Parameters
    ----------
    spectra : (..., E) counts
    threshold : float
        In standard deviations.
    width : int
        Widest spike, in channels.
    readout_noise, gain : float
        Detector noise (counts, standard deviation) and counts per electron: noise² = gain · counts + readout².

    Returns
    -------
    bool array (..., E)
    """
    if not threshold > 0:
        raise ValueError(f"threshold must be positive, got {threshold}")
    if not (isinstance(width, int | np.integer) and width >= 1):
        raise ValueError(f"width must be an integer of at least 1, got {width!r}")
    data = _data(spectra)
    size = data.shape[-1]
    if size < 6 * width + 8:
        raise ValueError(f"spectra have {size} channels, width={width} needs at least {6 * width + 8}")
    usual, spread = _usual_excess(data, width, readout_noise, gain)

    def mark(y):
        z, _ = _excess(y, width, readout_noise, gain)
        return z - usual[0] - usual[1] * _level(y, width) > threshold * spread

    return _map(mark, data, core_shape=(size,), dtype=bool)


def _median(y, width):
    """Running median of five channels, spaced so that a spike of ``width`` hits at most two of them.

    As a network of minima and maxima: forty times faster than a general running median.
    """
    y = np.asarray(y, float)
    gap = (width + 2) // 2
    wide = np.pad(y, ((0, 0), (2 * gap, 2 * gap)), mode="reflect")
    a, b, c, d, e = (wide[:, i * gap : i * gap + y.shape[-1]] for i in range(5))
    a, b = np.minimum(a, b), np.maximum(a, b)
    d, e = np.minimum(d, e), np.maximum(d, e)
    low, high = np.maximum(a, d), np.minimum(b, e)  # the median is that of these two and c
    return np.maximum(np.minimum(low, high), np.minimum(np.maximum(low, high), c))


def _level(y, width):
    return np.sqrt(np.maximum(_median(y, 3 * width), 0))


def _excess(y, width, readout_noise, gain):
    """Excess over the running median, in units of the expected noise; and that median."""
    middle = _median(y, width)
    # +1 keeps single counts in nearly empty channels from being spikes
    noise = np.sqrt(gain * np.maximum(middle, 0) + readout_noise**2 + gain**2)
    return (y - middle) / noise, middle


def _usual_excess(data, width, readout_noise, gain, most=4096):
    """What each channel's excess usually is: (constant, slope with sqrt(intensity)), and its spread (>= 1)."""
    size = data.shape[-1]
    flat = data.reshape(-1, size)
    sample = np.asarray(flat[:: max(1, -(-flat.shape[0] // most))], float)
    sample = sample[np.isfinite(sample).all(-1)]
    if len(sample) < 16:  # too few pixels to tell a peak from a spike by comparing them
        z = _excess(sample, width, readout_noise, gain)[0] if len(sample) else np.zeros((1, size))
        return (0.0, 0.0), np.maximum(1.0, 1.4826 * np.median(np.abs(z), axis=-1).max())
    z, level = _excess(sample, width, readout_noise, gain)[0], _level(sample, width)
    # a peak of fixed shape exceeds its surroundings by a number of sigmas that grows as sqrt(intensity)
    slope = np.median(z / np.maximum(level, 1e-6), axis=0) * (np.median(level, axis=0) > 1)
    rest = z - slope * level
    constant = np.median(rest, axis=0)
    spread = 1.4826 * np.median(np.abs(rest - constant), axis=0)
    return (constant, slope), np.maximum(1.0, spread)


def remove_spikes(spectra, *, threshold=8.0, width=3, readout_noise=0.0, gain=1.0, mask=None):
    """Replace spikes by the running median of their surroundings; see `find_spikes` for the parameters.

    Parameters
    ----------
    mask : bool (..., E), optional
        Spikes found before; by default `find_spikes` is called.

    Returns
    -------
    Spectra of the same kind. Channels not marked are returned as they came.
    """
    data = _data(spectra)
    if mask is None:
        mask = find_spikes(data, threshold=threshold, width=width, readout_noise=readout_noise, gain=gain)
    elif np.shape(mask) != data.shape:
        raise ValueError(f"mask must have the shape of spectra {data.shape}, got {np.shape(mask)}")

    def mend(y, hit):
        wide = ndimage.maximum_filter(hit.astype(np.uint8), size=(1, 3)).astype(bool)  # their feet too
        clean = np.asarray(y, float).copy()
        rows = wide.any(-1)
        clean[rows] = np.where(wide[rows], _median(clean[rows], width + 2), clean[rows])
        return clean

    return _like(spectra, _map(mend, data, mask, core_shape=data.shape[-1:]))


# --- background -------------------------------------------------------------------------------------------

_BACKGROUNDS = {
    "power_law": lambda e: np.stack([np.ones_like(e), np.log(e)]),
    "exponential": lambda e: np.stack([np.ones_like(e), e]),
    "log_polynomial": lambda e: np.stack([np.ones_like(e), np.log(e), np.log(e) ** 2]),
}


def fit_background(spectra, energy_eV=None, *, window_eV, model="power_law", iterations=12):
    """Background extrapolated from a window before an edge, fitted by Poisson maximum likelihood.

    The background is ``exp(a + r f(E) ...)``: a Poisson regression with logarithmic link, solved for all pixels at
    once by Newton steps. Unlike a straight line through log(counts) it is not biased where counts are few, and
    channels with no count may take part.

    Parameters
    ----------
    spectra : (..., E) counts
    window_eV : (float, float)
        Fit window, before the edge.
    model : {"power_law", "exponential", "log_polynomial"}
        ``A E^-r``; ``A exp(-E/w)``; ``A E^-r exp(q ln²E)`` (bends; for a plasmon tail under a low edge).

    Returns
    -------
    Background over the whole energy axis, as the spectra came. Channels below the window follow the same curve
    (0 where E <= 0).
    """
    energy = energy_axis(spectra, energy_eV)
    if model not in _BACKGROUNDS:
        raise ValueError(f"model must be one of {sorted(_BACKGROUNDS)}, got {model!r}")
    inside = _window(energy, window_eV)
    scaled = np.maximum(energy, energy[inside][0] * 1e-3) / np.sqrt(energy[inside][0] * energy[inside][-1])
    basis = _BACKGROUNDS[model](scaled)
    # orthonormal in the window: Newton's matrix is then well conditioned whatever the energies
    shape, mix = np.linalg.qr(basis[:, inside].T)
    full = np.linalg.solve(mix.T, basis)
    if inside.sum() <= len(basis):
        raise ValueError(f"window_eV {tuple(window_eV)} holds {inside.sum()} channels, too few for {model}")

    def fit(y):
        y = np.asarray(y[:, inside], float)
        mean = np.maximum(y.mean(-1, keepdims=True), 1e-9)
        # start from the weighted least-squares fit to a smoothed logarithm
        smooth = np.maximum(ndimage.uniform_filter1d(y, max(3, y.shape[-1] // 6), axis=-1), 0.05 * mean)
        theta = np.log(smooth) @ shape
        for _ in range(iterations):
            model_counts = np.exp(np.clip(theta @ shape.T, -60, 60))
            gradient = (y - model_counts) @ shape
            curvature = np.einsum("ne,ek,el->nkl", model_counts, shape, shape, optimize=True)
            step = np.linalg.solve(curvature + 1e-9 * mean[..., None] * np.eye(len(mix)), gradient[..., None])[..., 0]
            # no step changes a channel by more than e²: Newton's method overshoots where counts are few
            theta = theta + step * np.minimum(1, 2 / (np.abs(step @ shape.T).max(-1, keepdims=True) + 1e-12))
        return np.where(energy > 0, np.exp(np.clip(theta @ full, -60, 60)), 0.0)

    def fit_finite(y):
        good = np.isfinite(y[:, inside]).all(-1) & (y[:, inside].sum(-1) > 0)
        out = np.where(np.isfinite(y[:, inside]).all(-1), 0.0, np.nan)[:, None] * np.ones(energy.size)
        if good.any():
            out[good] = fit(y[good])
        return out

    return _like(spectra, _map(fit_finite, spectra, core_shape=energy.shape))


def remove_background(spectra, energy_eV=None, *, window_eV, model="power_law"):
    """Spectra less the background of `fit_background`; channels before the window are kept in, too."""
    background = fit_background(spectra, energy_eV, window_eV=window_eV, model=model)
    return _like(spectra, _data(spectra) - _data(background))


def _window(energy, window_eV, name="window_eV"):
    try:
        low, high = (float(v) for v in window_eV)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a pair (low, high) in eV, got {window_eV!r}") from None
    step = energy[1] - energy[0]
    if not low < high:
        raise ValueError(f"{name} must increase, got ({low:g}, {high:g})")
    if low < energy[0] - step or high > energy[-1] + step:
        raise ValueError(
            f"{name} ({low:g}, {high:g}) eV is not covered by the energy axis {energy[0]:g} to {energy[-1]:g} eV"
        )
    return (energy >= low) & (energy <= high)


# --- plural scattering ------------------------------------------------------------------------------------


def zero_loss(low_loss, energy_eV=None, *, split_eV=None):
    """The zero-loss peak alone: the measured peak up to ``split_eV``, then the mirror image of its left side.

    Parameters
    ----------
    low_loss : (..., E), zero loss at 0 eV (`align_zero_loss`).
    split_eV : float, optional
        Where inelastic scattering is taken to begin; by default three half widths at half maximum of the peak
        in the first row of pixels, at least 1 eV.

    Returns
    -------
    Spectra of the same kind, zero beyond the mirrored tail.
    """
    energy = energy_axis(low_loss, energy_eV)
    if energy[0] > -1 or energy[-1] < 5:
        raise ValueError(f"energy_eV must reach from below -1 eV past 5 eV, got {energy[0]:g} to {energy[-1]:g}")
    split = _default_split(low_loss, energy) if split_eV is None else float(split_eV)
    if not 0 < split < energy[-1]:
        raise ValueError(f"split_eV must lie between 0 and {energy[-1]:g}, got {split:g}")
    step = energy[1] - energy[0]
    beyond = energy > split
    source = (-energy[beyond] - energy[0]) / step  # channel of -E, a fraction
    low = np.floor(source).astype(int)
    part = source - low
    usable = low >= 0

    def separate(y):
        peak = np.array(y, dtype=float)
        tail = np.zeros((len(y), beyond.sum()))
        at, w = low[usable], part[usable]
        tail[:, usable] = (1 - w) * y[:, at] + w * y[:, at + 1]
        peak[:, beyond] = np.minimum(tail, peak[:, beyond])
        return peak

    return _like(low_loss, _map(separate, low_loss, core_shape=energy.shape))


def _default_split(low_loss, energy):
    """Three half widths of the peak, from one row of pixels: the same for all chunks of a lazy signal."""
    data = _data(low_loss)
    row = np.asarray(data[(0,) * (data.ndim - 2)], float)
    mean = np.nanmean(row.reshape(-1, energy.size), axis=0)
    left = energy <= 0
    above = np.flatnonzero(mean[left] > 0.5 * mean[np.abs(energy) < 2].max())
    half_width = max(-energy[left][above[0]] if above.size else 0.0, energy[1] - energy[0])
    return max(1.0, 3 * half_width)


def relative_thickness(low_loss, energy_eV=None, *, split_eV=None):
    """Thickness in inelastic mean free paths, t/λ = ln(total / zero-loss intensity), Egerton (2011) eq. 5.1.

    Returns
    -------
    array (...,)
    """
    energy = energy_axis(low_loss, energy_eV)
    peak = _data(zero_loss(low_loss, energy, split_eV=split_eV))
    return np.log(_data(low_loss).sum(-1) / peak.sum(-1))


def fourier_log(low_loss, energy_eV=None, *, split_eV=None):
    """Single-scattering distribution of a low-loss spectrum, plural scattering removed (Fourier-log).

    ``S(ν) = Z(ν) ln[J(ν) / Z(ν)]``, with J the spectrum and Z its zero-loss peak (Egerton 2011, sect. 4.1.1);
    multiplying by Z keeps the resolution of the data and damps the noise. The end of the spectrum is continued
    by a power law that fades out, since a cut would ring.

    Parameters
    ----------
    low_loss : (..., E), counts, zero loss at 0 eV.

    Returns
    -------
    Spectra of the same kind, in counts; their sum over that of the zero-loss peak is t/λ. M edges inside the
    low loss come out as single scattering, too.
    """
    energy = energy_axis(low_loss, energy_eV)
    peak = zero_loss(low_loss, energy, split_eV=split_eV)
    n = fft.next_fast_len(2 * energy.size, real=True)

    def deconvolve(y, z):
        with np.errstate(divide="ignore", invalid="ignore"):
            j, zf = fft.rfft(_fade_out(y, n), n), fft.rfft(z, n)
            log = np.where(np.abs(zf) > 0, np.log(j / zf), 0.0)
        return fft.irfft(zf * np.nan_to_num(log, nan=0.0, posinf=0.0, neginf=0.0), n)[:, : energy.size]

    return _like(low_loss, _map(deconvolve, low_loss, peak, core_shape=energy.shape))


def fourier_ratio(core_loss, low_loss, energy_eV=None, low_loss_energy_eV=None, *, split_eV=None):
    """Core loss with plural scattering removed, ``core(ν) Z(ν) / J(ν)`` (Egerton 2011, sect. 4.2.1).

    Written as ``core(ν) (1 - I(ν)/J(ν))`` with I = J - Z the inelastic part and ``I/J = I J* / (|J|² + ΣJ)``: ΣJ is the
    power of the Poisson noise of J, so that no cut-off is to be chosen. At high frequencies the ratio goes to 1, so
    resolution and noise of the core loss stay as measured.

    Parameters
    ----------
    core_loss : (..., E), background removed
    low_loss : (..., E2) or (E2,), counts, zero loss at 0 eV; the same eV per channel as the core loss
    energy_eV, low_loss_energy_eV : arrays, for plain arrays

    Returns
    -------
    Spectra of the kind of ``core_loss``: what the zero-loss electrons alone would have given, so divide by the
    zero-loss intensity (not by the total) to get probabilities per electron.
    """
    energy = energy_axis(core_loss, energy_eV)
    low_energy = _low_loss_axis(low_loss, low_loss_energy_eV, energy)
    peak = zero_loss(low_loss, low_energy, split_eV=split_eV)
    n = fft.next_fast_len(energy.size + 2 * low_energy.size, real=True)

    def deconvolve(core, y, z):
        j = fft.rfft(_fade_out(y, n), n)
        inelastic = j - fft.rfft(z, n)
        ratio = 1 - inelastic * j.conj() / (np.abs(j) ** 2 + np.abs(y).sum(-1, keepdims=True))
        pad = n - energy.size
        ends = np.concatenate([core, _bridge(core, pad)], axis=-1)
        return fft.irfft(fft.rfft(ends) * ratio, n)[:, : energy.size]

    return _like(core_loss, _map(deconvolve, core_loss, low_loss, peak, core_shape=energy.shape))


def convolve_low_loss(
    references, low_loss, energy_eV, low_loss_energy_eV=None, *, zero_loss_peak="delta", split_eV=None
):
    """References as they look after plural scattering: their convolution with the low loss.

    An edge of single-scattering probability s(E) adds ``∫ s(E') J(E - E') dE'`` to the spectrum, J the low loss of
    the same electrons (to first order in the edge, which is exact within 1e-3 for edges of 1e-3 per electron).

    Parameters
    ----------
    references : (K, E)
        Per electron (and per nm, ...), at the resolution of the data, on ``energy_eV``; taken as 0 below it.
    low_loss : (..., E2), counts or any scale, zero loss at 0 eV.
    zero_loss_peak : {"delta", "keep"}
        "delta": references carry the energy resolution already, the peak is put into one channel.
        "keep": references are intrinsic, the peak broadens them.

    Returns
    -------
    (..., K, E), array or Dask array, in the scale of ``low_loss``.
    """
    if zero_loss_peak not in ("delta", "keep"):
        raise ValueError(f"zero_loss_peak must be 'delta' or 'keep', got {zero_loss_peak!r}")
    references = np.atleast_2d(np.asarray(references, float))
    energy = energy_axis(references, energy_eV)
    low_energy = _low_loss_axis(low_loss, low_loss_energy_eV, energy)
    n = fft.next_fast_len(energy.size + low_energy.size, real=True)
    zero = -low_energy[0] / (low_energy[1] - low_energy[0])  # the channel of 0 eV, a fraction
    frequency = fft.rfftfreq(n)
    spectrum = fft.rfft(references, n) * (np.exp(2j * np.pi * frequency * zero) if zero_loss_peak == "keep" else 1)
    whole = round(zero)

    def convolve(y, z=None):
        if z is None:
            kernel = fft.rfft(y, n)
        else:
            kernel = np.exp(2j * np.pi * frequency * whole) * fft.rfft(y - z, n) + z.sum(-1, keepdims=True)
        return fft.irfft(spectrum * kernel[:, None], n)[..., : energy.size]

    inputs = [_data(low_loss)]
    if zero_loss_peak == "delta":
        inputs.append(_data(zero_loss(low_loss, low_energy, split_eV=split_eV)))
    single = inputs[0].ndim == 1
    inputs = [x[None] for x in inputs] if single else inputs
    out = _map(convolve, *inputs, core_shape=references.shape)
    return out[0] if single else out


def _low_loss_axis(low_loss, low_loss_energy_eV, energy):
    """Energies of a low loss: its own, those given, or those of the spectra where they hold the zero loss."""
    if low_loss_energy_eV is None and not _is_signal(low_loss) and energy[0] < 0 < energy[-1]:
        low_loss_energy_eV = energy
    low_energy = energy_axis(low_loss, low_loss_energy_eV, name="low_loss_energy_eV")
    ours, theirs = energy[1] - energy[0], low_energy[1] - low_energy[0]
    if abs(ours - theirs) > 1e-3 * ours:
        raise ValueError(f"low_loss has {theirs:.4g} eV per channel, the spectra {ours:.4g}: interpolate one of them")
    return low_energy


def _fade_out(y, n):
    """Continue spectra from their last channels by a power law times a cosine bell, to n channels."""
    y = np.asarray(y, float)
    size = y.shape[-1]
    tenth = max(4, size // 10)
    far, near = y[:, -tenth:].mean(-1, keepdims=True), y[:, -2 * tenth : -tenth].mean(-1, keepdims=True)
    good = (far > 0) & (near > 0)
    middle = np.log((size - 0.5 * tenth) / (size - 1.5 * tenth))
    power = np.clip(np.log(np.where(good, near / np.where(good, far, 1), 1)) / middle, 0, 6)
    x = np.arange(size, n)
    bell = 0.5 + 0.5 * np.cos(np.pi * (x - size) / max(1, (n - size) * 0.75))
    bell[(x - size) > (n - size) * 0.75] = 0.0
    tail = np.maximum(far, 0) * (x / (size - 0.5 * tenth)) ** -power * bell
    return np.concatenate([y, tail], axis=-1)


def _bridge(y, pad):
    """A smooth way from the last channels back to the first, for transforms that wrap around."""
    edge = min(8, y.shape[-1])
    first, last = y[:, :edge].mean(-1, keepdims=True), y[:, -edge:].mean(-1, keepdims=True)
    bell = 0.5 + 0.5 * np.cos(np.pi * np.linspace(0, 1, pad))
    return last * bell + first * (1 - bell)
