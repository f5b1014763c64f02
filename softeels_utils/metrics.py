"""Quality of a reconstruction: errors against a truth, agreement of halves of the data, positions of interfaces.

Volumes are ``(C, Y, Z, X)`` or one channel ``(Y, Z, X)``, Z along the beam at 0° (the direction of the missing
wedge). All functions raise `ValueError` for volumes of wrong or unequal shapes, or with NaN or inf.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "FourierShellCorrelation",
    "InterfaceError",
    "PowerSpectrumResolution",
    "fourier_shell_correlation",
    "interface_error",
    "nrmse",
    "phase_fraction_error",
    "psd_resolution",
    "psnr",
    "ssim",
]


def _pair(volume, truth):
    volume, truth = np.asarray(volume, float), np.asarray(truth, float)
    if volume.shape != truth.shape or volume.ndim not in (3, 4):
        raise ValueError(f"volume, truth: got shapes {volume.shape} and {truth.shape}, wants two equal (C, Y, Z, X)")
    for name, array in (("volume", volume), ("truth", truth)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: got NaN or inf, wants finite values")
    return volume, truth


# ---------------------------------------------------------------- errors against a truth


def nrmse(volume: ArrayLike, truth: ArrayLike, *, per_channel: bool = False) -> float | NDArray[np.float64]:
    r"""Normalised root-mean-square error, :math:`\lVert v - t \rVert / \lVert t \rVert`.

    0 is perfect, 1 is the error of an empty volume. `skimage.metrics.normalized_root_mse` calls it ``"euclidean"``.

    Returns
    -------
    float, or array (C,) with ``per_channel``

    Raises
    ------
    ValueError
        The truth is zero everywhere.

    Examples
    --------
    >>> nrmse(np.zeros((2, 4, 4, 4)), np.ones((2, 4, 4, 4)))
    1.0
    """
    volume, truth = _pair(volume, truth)
    if per_channel:
        return np.array([nrmse(v, t) for v, t in zip(volume, truth, strict=True)])
    size = np.linalg.norm(truth)
    if size == 0:
        raise ValueError("truth: got zeros only, wants a volume that is not empty")
    return float(np.linalg.norm(volume - truth) / size)


def psnr(volume: ArrayLike, truth: ArrayLike, *, data_range: float = 1.0) -> float:
    r"""Peak signal-to-noise ratio in dB, :math:`10 \log_{10}(R^2 / \mathrm{MSE})`.

    R is ``data_range`` (1 for volume fractions).
    """
    from skimage.metrics import peak_signal_noise_ratio

    volume, truth = _pair(volume, truth)
    return float(peak_signal_noise_ratio(truth, volume, data_range=data_range))


def ssim(volume: ArrayLike, truth: ArrayLike, *, data_range: float = 1.0) -> float:
    """Structural similarity in 3-D, averaged over the channels, in windows of 7 voxels.

    Z. Wang et al., IEEE Trans. Image Process. 13, 600 (2004); `skimage.metrics.structural_similarity`. Vacuum counts
    as much as the specimen and is easy to get right: compare values of one field of view only.

    Parameters
    ----------
    volume, truth : array (C, Y, Z, X) or (Y, Z, X)
        At least 7 voxels per side.
    data_range : float
        1 for volume fractions.
    """
    from skimage.metrics import structural_similarity

    volume, truth = _pair(volume, truth)
    shape = volume.shape[-3:]
    if min(shape) < 7:
        raise ValueError(f"volume: got {shape} voxels, wants at least 7 per side")
    pairs = zip(volume.reshape(-1, *shape), truth.reshape(-1, *shape), strict=True)
    return float(np.mean([structural_similarity(t, v, data_range=data_range) for v, t in pairs]))


def phase_fraction_error(volume: ArrayLike, truth: ArrayLike, *, channel: int = 0) -> tuple[float, float]:
    r"""Error of the fraction of one phase, :math:`f = v_c / \sum_k v_k`.

    Returns
    -------
    (float, float)
        Error of the fraction in the whole specimen (:math:`\sum v_c / \sum_k v_k` minus that of the truth); and RMS
        error over the voxels that the truth fills to at least half (f = 0 where the reconstruction is empty).

    Examples
    --------
    >>> truth = np.stack([np.ones((4, 4, 4)), np.zeros((4, 4, 4))])
    >>> phase_fraction_error(truth[::-1], truth)
    (-1.0, 1.0)
    """
    volume, truth = _pair(volume, truth)

    def fraction(array):
        total = array.sum(axis=0)
        return np.divide(array[channel], total, out=np.zeros_like(total), where=total > 1e-6)

    filled = truth.sum(axis=0) >= 0.5
    whole = volume[channel].sum() / max(volume.sum(), 1e-12) - truth[channel].sum() / truth.sum()
    return float(whole), float(np.sqrt(np.mean((fraction(volume) - fraction(truth))[filled] ** 2)))


# ---------------------------------------------------------------- agreement of two halves of the data


@dataclass(frozen=True)
class FourierShellCorrelation:
    """A Fourier shell correlation.

    Attributes
    ----------
    frequency : array (K,)
        Centre of each shell, in 1/nm.
    correlation : array (K,)
        Between -1 and 1; NaN where a shell is empty.
    count : array (K,)
        Number of Fourier coefficients in each shell.
    threshold : float
    resolution_nm : float
        One over the frequency at which the correlation first falls below the threshold; NaN if it starts below.
        Where it never does, two voxels (Nyquist).
    """

    frequency: NDArray[np.float64]
    correlation: NDArray[np.float64]
    count: NDArray[np.int64]
    threshold: float
    resolution_nm: float


def fourier_shell_correlation(
    first: ArrayLike,
    second: ArrayLike,
    voxel_size_nm: float = 1.0,
    *,
    axis: str | None = None,
    half_angle_deg: float = 30.0,
    threshold: float = 0.143,
    taper: bool = True,
) -> FourierShellCorrelation:
    r"""Fourier shell correlation between two reconstructions of independent data, in all directions or in a cone.

    .. math:: \mathrm{FSC}(k) = \frac{\mathrm{Re} \sum_{|q| \in k} F_1(q) F_2^*(q)}
        {\sqrt{\sum |F_1(q)|^2 \sum |F_2(q)|^2}}

    summed over channels as well. For half-dose reconstructions the usual threshold is 0.143 (P. B. Rosenthal & R.
    Henderson, J. Mol. Biol. 333, 721 (2003)); G. Harauz & M. van Heel, Optik 73, 146 (1986); limits of fixed
    thresholds: M. van Heel & M. Schatz, J. Struct. Biol. 151, 250 (2005). Two runs of one regulariser agree where
    both invent the same detail: the correlation measures repeatability, not truth.

    Parameters
    ----------
    first, second : array (C, Y, Z, X) or (Y, Z, X)
    axis : {"Y", "Z", "X"} or None
        Only frequencies within ``half_angle_deg`` of this axis. ``"Z"`` lies in the missing wedge, ``"X"`` outside.
    threshold : float
        Correlation at which the resolution is read.
    taper : bool
        Let the outer eighth of each side fall to 0 (a Hann edge), so that borders do not correlate.

    Raises
    ------
    ValueError
        Another axis.
    """
    first, second = _pair(first, second)
    if axis not in (None, "Y", "Z", "X"):
        raise ValueError(f"axis: got {axis!r}, wants 'Y', 'Z', 'X' or None")
    shape = first.shape[-3:]
    if taper:
        window = _hann_edges(shape)
        first, second = first * window, second * window
    f1, f2 = (np.fft.fftn(volume, axes=(-3, -2, -1)) for volume in (first, second))
    q = np.meshgrid(*(np.fft.fftfreq(n, voxel_size_nm) for n in shape), indexing="ij")
    radius = np.sqrt(sum(c**2 for c in q))
    step = 1 / (voxel_size_nm * max(shape))
    shell = np.rint(radius / step).astype(int)
    shells = round(0.5 / voxel_size_nm / step) + 1
    keep = shell < shells
    if axis is not None:
        along = np.abs(q["YZX".index(axis)])
        keep &= along >= np.cos(np.deg2rad(half_angle_deg)) * radius - 1e-12

    def total(values):
        values = values.reshape(-1, *shape).sum(axis=0)
        return np.bincount(shell[keep], weights=values[keep], minlength=shells)

    cross = total((f1 * f2.conj()).real)
    scale = np.sqrt(total(np.abs(f1) ** 2) * total(np.abs(f2) ** 2))
    correlation = np.divide(cross, scale, out=np.full(shells, np.nan), where=scale > 0)
    frequency = np.arange(shells) * step
    count = np.bincount(shell[keep], minlength=shells)
    resolution = _first_below(frequency[1:], correlation[1:], threshold, 0.5 / voxel_size_nm)
    return FourierShellCorrelation(frequency, correlation, count, threshold, resolution)


def _hann_edges(shape):
    window = np.ones(shape)
    for axis, n in enumerate(shape):
        edge = max(1, n // 8)
        ramp = np.ones(n)
        ramp[:edge] = 0.5 - 0.5 * np.cos(np.pi * (np.arange(edge) + 0.5) / edge)
        ramp[-edge:] = ramp[:edge][::-1]
        window *= ramp.reshape([-1 if a == axis else 1 for a in range(3)])
    return window


def _first_below(frequency, correlation, threshold, nyquist):
    """One over the frequency at which the correlation first crosses the threshold, linear between shells."""
    finite = np.isfinite(correlation)
    frequency, correlation = frequency[finite], correlation[finite]
    below = np.flatnonzero(correlation < threshold)
    if below.size == 0:
        return float(1 / nyquist)
    i = below[0]
    if i == 0:
        return float("nan")
    part = (correlation[i - 1] - threshold) / (correlation[i - 1] - correlation[i])
    return float(1 / (frequency[i - 1] + part * (frequency[i] - frequency[i - 1])))


# ---------------------------------------------------------------- power spectrum


@dataclass(frozen=True)
class PowerSpectrumResolution:
    """Where the power spectrum of a volume meets the line through its tail, along Y, Z and X.

    Attributes
    ----------
    resolution_nm : dict of str to float
        For ``"Y"``, ``"Z"``, ``"X"``; NaN where the fit fails.
    frequency, power, model, floor : dict of str to array
        Power spectrum along each axis, the model fitted to it, and the line fitted to its tail.
    """

    resolution_nm: dict[str, float]
    frequency: dict[str, NDArray[np.float64]]
    power: dict[str, NDArray[np.float64]]
    model: dict[str, NDArray[np.float64]]
    floor: dict[str, NDArray[np.float64]]


def psd_resolution(
    volume: ArrayLike,
    voxel_size_nm: float = 1.0,
    *,
    band_per_nm: float = 0.25,
    median: int = 11,
    tail: float = 0.2,
) -> PowerSpectrumResolution:
    r"""Resolution by the power spectrum, as in the public code of arXiv:2606.10893.

    The 3-D power spectrum is averaged over a slab of ±``band_per_nm`` about each axis and smoothed by a running
    median of ``median`` frequencies. The logarithm of :math:`A / (1 + (2\pi k \xi)^2)^p + C` is fitted to it, and a
    straight line to the logarithm of its last fifth (``tail``); the resolution is one over the highest frequency at
    which the two cross (or come closest). A volume of several channels is summed over them first.

    It tells where detail stops, not whether it is true: a sharp hallucination passes, and so does an edge sharpened
    by a regulariser. Read it together with errors against a truth and the Fourier shell correlation of split data.
    Needs about 40 voxels per side.
    """
    volume = np.asarray(volume, float)
    volume = volume.sum(axis=0) if volume.ndim == 4 else volume
    if volume.ndim != 3 or not np.isfinite(volume).all():
        raise ValueError(f"volume: got shape {np.shape(volume)}, wants finite (C, Y, Z, X) or (Y, Z, X)")
    power = np.abs(np.fft.fftn(volume)) ** 2
    result = {name: {} for name in ("frequency", "power", "model", "floor", "resolution_nm")}
    for axis, name in enumerate("YZX"):
        k, profile = _power_profile(power, axis, voxel_size_nm, band_per_nm, median)
        floor = _tail_line(k, profile, tail)
        model = _power_model(k, profile, tail)
        resolution = float("nan") if np.isnan(model).any() else _last_crossing(k, model - floor)
        for values, value in zip(result.values(), (k, profile, 10**model, 10**floor, resolution), strict=True):
            values[name] = value
    return PowerSpectrumResolution(**result)


def _power_profile(power, axis, voxel_size_nm, band_per_nm, median):
    """Frequencies (1/nm) along one axis, and the smoothed mean power of a slab about it."""
    from scipy.ndimage import median_filter

    frequencies = [np.fft.fftfreq(n, voxel_size_nm) for n in power.shape]
    others = tuple(set(range(3)) - {axis})
    for other in others:
        step = abs(frequencies[other][1])
        power = power.compress(np.abs(frequencies[other]) <= max(band_per_nm, step) + step / 2, axis=other)
    n = power.shape[axis] // 2
    profile = median_filter(power.mean(axis=others)[:n], size=min(median, n // 2 * 2 - 1), mode="nearest")
    return np.abs(frequencies[axis][:n]), np.maximum(profile, 1e-30)


def _tail_count(k, tail):
    return max(4, int(np.ceil(tail * k.size)))


def _tail_line(k, profile, tail):
    """Straight line through the logarithm (base 10) of the last frequencies."""
    last = slice(-_tail_count(k, tail), None)
    slope, offset = np.polyfit(k[last], np.log10(profile[last]), 1)
    return offset + slope * k


def _power_model(k, profile, tail):
    """Logarithm (base 10) of the fitted power spectrum; NaN where the fit fails."""
    from scipy.optimize import curve_fit

    def logarithm(k, log_a, log_xi, p, log_c):
        return np.log10(10**log_a / (1 + (2 * np.pi * k * 10**log_xi) ** 2) ** p + 10**log_c)

    y, fitted = np.log10(profile), k <= 0.97 * k[-1]
    half = k[np.argmin(np.abs(profile - profile[0] / 2))] or k[1]
    low = y[-_tail_count(k, tail) :].min()
    start = (y[0], -np.log10(2 * np.pi * half), 1.2, low - 0.05)
    bounds = ([low - 3, -6, 0.05, low - 12], [y[0] + 6, 6, 20, y[0] + 1])
    try:
        parameters = curve_fit(logarithm, k[fitted], y[fitted], p0=start, bounds=bounds, maxfev=20000)[0]
    except (RuntimeError, ValueError):
        return np.full(k.size, np.nan)
    return logarithm(k, *parameters)


def _last_crossing(k, difference):
    """One over the highest frequency at which a difference changes sign, or else comes closest to 0."""
    cross = np.flatnonzero(difference[:-1] * difference[1:] <= 0)
    if cross.size:
        i = cross[-1]
        before, after = difference[i], difference[i + 1]
        frequency = k[i] + (before / (before - after) if before != after else 1.0) * (k[i + 1] - k[i])
    else:
        frequency = k[1:][np.argmin(np.abs(difference[1:]))]
    return float(1 / frequency) if frequency > 0 else float("nan")


# ---------------------------------------------------------------- interfaces


@dataclass(frozen=True)
class InterfaceError:
    """Positions of the interfaces of a core-shell particle, compared with the truth (all lengths in nm).

    Attributes
    ----------
    core_rms_nm, core_bias_nm : float
        Edge of the core (where FeO gives way to Fe3O4): RMS and mean of the displacement along the normal of the
        interface, positive outwards.
    outer_rms_nm, outer_bias_nm : float
        Surface of the particle (where both phases together fall to one half): the outer edge of shell and skin.
    skin_nm, true_skin_nm : float
        Mean thickness of FeO outside the middle of the shell.
    void_nm3, true_void_nm3 : float
        Volume of vacuum in the void of the truth and up to two voxels around it.
    void_offset_nm : float
        Distance between the centres of vacuum there; NaN where there is none.
    missed : float
        Fraction of directions in which the reconstruction has no such interface (0 is good). They count in no other
        number.
    """

    core_rms_nm: float
    core_bias_nm: float
    outer_rms_nm: float
    outer_bias_nm: float
    skin_nm: float
    true_skin_nm: float
    void_nm3: float
    true_void_nm3: float
    void_offset_nm: float
    missed: float


def interface_error(
    volume: ArrayLike,
    truth: ArrayLike,
    voxel_size_nm: float = 1.0,
    *,
    directions: int = 2000,
    step: float = 0.1,
) -> InterfaceError:
    r"""Errors of the positions of the interfaces of a core-shell particle, along rays from the centre of the truth.

    Rays leave the centre of mass of the true particle in ``directions`` directions, evenly spread (a Fibonacci
    sphere). Along each, both volumes are read by linear interpolation every ``step`` voxels. The edge of the core is
    the first place where :math:`v_{FeO} - v_{Fe_3O_4}` changes sign, the outer edge the last where :math:`v_{FeO} +
    v_{Fe_3O_4}` falls below 1/2, both linear between samples; a displacement along a ray is multiplied by the cosine
    between the ray and the normal of the true interface. The thickness of the skin is :math:`\int v_{FeO}\,dr` outside
    the middle between the two true edges, with the same cosine, so that a skin thinner than a voxel is measured too.
    Void: :math:`\sum (1 - v_{FeO} - v_{Fe_3O_4})` over the true void and two voxels around.

    Parameters
    ----------
    volume, truth : array (2, Y, Z, X)
        Volume fractions of FeO and Fe3O4, core of FeO.
    directions : int
        Number of rays.
    step : float
        Distance between samples along a ray, in voxels.

    Raises
    ------
    ValueError
        Other than two channels, or an empty particle.
    """
    from scipy.ndimage import gaussian_filter

    volume, truth = _pair(volume, truth)
    if volume.ndim != 4 or len(volume) != 2:
        raise ValueError(f"volume: got shape {volume.shape}, wants (2, Y, Z, X): FeO and Fe3O4")
    total = truth.sum(axis=0)
    if total.sum() == 0:
        raise ValueError("truth: got an empty particle, wants volume fractions above 0")
    centre, rays = _centre(total), _fibonacci_sphere(directions)
    reach = np.arange(0, np.linalg.norm(total.shape) / 2, step)
    points = centre[:, None, None] + rays.T[:, :, None] * reach  # (3, D, R)
    found, true = (_along(array, points) for array in (volume, truth))  # (2, D, R)

    # Only directions in which the true particle has an interface count.
    core, true_core = (_first_sign_change(v[0] - v[1], reach) for v in (found, true))
    outer, true_outer = (_last_fall(v.sum(axis=0), reach) for v in (found, true))
    core_cosine = _cosine(gaussian_filter(truth[0] - truth[1], 1.5), centre, rays, true_core)
    outer_cosine = _cosine(gaussian_filter(total, 1.5), centre, rays, true_outer)
    core_shift, outer_shift = (core - true_core) * core_cosine, (outer - true_outer) * outer_cosine
    measured = np.concatenate([core_shift[np.isfinite(true_core)], outer_shift[np.isfinite(true_outer)]])

    middle = np.where(np.isfinite(true_core), (true_core + true_outer) / 2, 0.8 * true_outer)
    beyond = reach > middle[:, None]
    skin, true_skin = (np.nanmean((v[0] * beyond).sum(axis=1) * step * outer_cosine) for v in (found, true))
    void, true_void, offset = _void(volume, truth)
    return InterfaceError(
        core_rms_nm=_rms(core_shift) * voxel_size_nm,
        core_bias_nm=_mean(core_shift) * voxel_size_nm,
        outer_rms_nm=_rms(outer_shift) * voxel_size_nm,
        outer_bias_nm=_mean(outer_shift) * voxel_size_nm,
        skin_nm=float(skin * voxel_size_nm),
        true_skin_nm=float(true_skin * voxel_size_nm),
        void_nm3=float(void * voxel_size_nm**3),
        true_void_nm3=float(true_void * voxel_size_nm**3),
        void_offset_nm=float(offset * voxel_size_nm),
        missed=float(np.mean(~np.isfinite(measured))) if measured.size else 1.0,
    )


def _mean(values):
    """Mean of the finite values; NaN without any."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else float("nan")


def _rms(values):
    return float(np.sqrt(_mean(values**2)))


def _centre(density):
    """Centre of mass, in voxels."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in density.shape), indexing="ij"))
    return (grid * density).sum(axis=(1, 2, 3)) / density.sum()


def _fibonacci_sphere(count):
    """Evenly spread unit vectors (count, 3)."""
    i = np.arange(count) + 0.5
    height, angle = 1 - 2 * i / count, np.pi * (1 + 5**0.5) * i
    ring = np.sqrt(1 - height**2)
    return np.stack([height, ring * np.cos(angle), ring * np.sin(angle)], axis=1)


def _along(array, points):
    """Each channel read at points (3, D, R)."""
    from scipy.ndimage import map_coordinates

    return np.stack([map_coordinates(channel, points, order=1, mode="constant") for channel in array])


def _first_sign_change(values, reach):
    """Distance at which each row of values (D, R) first falls below 0; NaN where it never does."""
    negative = (values[:, :-1] > 0) & (values[:, 1:] <= 0)
    return _crossing(values, reach, negative, negative.argmax(axis=1))


def _last_fall(values, reach):
    """Distance at which each row of values (D, R) last falls below 1/2; NaN where it never does."""
    fall = (values[:, :-1] > 0.5) & (values[:, 1:] <= 0.5)
    return _crossing(values - 0.5, reach, fall, fall.shape[1] - 1 - fall[:, ::-1].argmax(axis=1))


def _crossing(values, reach, found, index):
    """Distance at which each row is 0 between the samples ``index`` and the next, linear; NaN where none was found."""
    rows = np.arange(len(values))
    before, after = values[rows, index], values[rows, index + 1]
    part = np.divide(before, before - after, out=np.zeros_like(before), where=before != after)
    return np.where(found.any(axis=1), reach[index] + part * (reach[1] - reach[0]), np.nan)


def _cosine(field, centre, rays, distance):
    """Cosine between each ray and the normal of the interface (minus the gradient of a field) where they meet."""
    from scipy.ndimage import map_coordinates

    points = centre[:, None] + (rays * np.nan_to_num(distance)[:, None]).T
    normal = np.stack([map_coordinates(g, points, order=1, mode="nearest") for g in np.gradient(field)], axis=1)
    length = np.linalg.norm(normal, axis=1)
    return np.abs((normal * rays).sum(axis=1)) / np.where(length > 0, length, 1)


def _void(volume, truth):
    """Vacuum about the true void in the volume and in the truth, and the distance of their centres, in voxels."""
    from scipy.ndimage import binary_dilation, binary_fill_holes, label

    filled = truth.sum(axis=0) > 0.5
    holes, count = label(binary_fill_holes(filled) & ~filled)
    if count == 0:
        return 0.0, 0.0, np.nan
    largest = holes == 1 + np.argmax(np.bincount(holes.ravel())[1:])
    near = binary_dilation(largest, iterations=2)
    near &= ~binary_dilation(~binary_fill_holes(filled), iterations=2)
    grid = np.argwhere(near)
    empty = [np.clip(1 - array.sum(axis=0)[near], 0, 1) for array in (volume, truth)]
    found, true = (e.sum() for e in empty)
    if found < 1e-6:
        return 0.0, true, np.nan
    centres = [(grid * e[:, None]).sum(axis=0) / e.sum() for e in empty]
    return found, true, np.linalg.norm(centres[0] - centres[1])
