"""Resolution: Fourier shell correlation, in all directions or in one, and the power spectrum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_count, check_flag, check_number, check_positive, finite_array
from ..doors import checked
from .errors import check_pair

__all__ = [
    "DirectionalResolution",
    "FourierShellCorrelation",
    "PowerSpectrumResolution",
    "directional_resolution",
    "fourier_shell_correlation",
    "psd_resolution",
]


LEAST_SIDE = 16  # voxels: 8 frequencies along an axis


@checked(frequency="K", correlation="K", count="K")
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
        One over the frequency at which the correlation first falls below the threshold; NaN if it starts below; two
        voxels (Nyquist) if it never does.
    """

    frequency: NDArray[np.float64]
    correlation: NDArray[np.float64]
    count: NDArray[np.int64]
    threshold: float
    resolution_nm: float


@checked
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

    summed over channels, too. For half-dose reconstructions the usual threshold is 0.143 (P. B. Rosenthal & R.
    Henderson, J. Mol. Biol. 333, 721 (2003)); G. Harauz & M. van Heel, Optik 73, 146 (1986); limits of fixed
    thresholds: M. van Heel & M. Schatz, J. Struct. Biol. 151, 250 (2005). Two runs with the same regulariser agree
    where both invent the same detail: the correlation measures repeatability, not truth.

    Parameters
    ----------
    first, second : array (C, Y, Z, X) or (Y, Z, X)
    axis : {"Y", "Z", "X"} or None
        Only frequencies within ``half_angle_deg`` of this axis. ``"Z"`` lies inside the missing wedge, ``"X"`` outside.
    threshold : float
        Correlation at which the resolution is read.
    taper : bool
        Let the outer eighth of each side fall to 0 (a Hann edge), so that borders do not correlate.

    Raises
    ------
    ValueError
        For any other axis.
    """
    if axis is not None and (not isinstance(axis, str) or axis not in ("Y", "Z", "X")):
        raise ValueError(f"axis: got {axis!r}, wants 'Y', 'Z', 'X' or None")
    shells = _Shells(first, second, voxel_size_nm, taper, ("first", "second"))
    _check_cone(half_angle_deg, threshold)
    keep = shells.keep if axis is None else shells.cone(np.eye(3)["YZX".index(axis)], half_angle_deg)
    return shells.correlation(keep, threshold)


@checked(directions="D 3", resolution_nm="D")
@dataclass(frozen=True)
class DirectionalResolution:
    """Resolution of a volume against its truth in many directions.

    Attributes
    ----------
    directions : array (D, 3)
        Unit vectors (y, z, x).
    resolution_nm : array (D,)
    worst_nm : float
        The largest of them.
    worst_direction : tuple of float
        (y, z, x).
    """

    directions: NDArray[np.float64]
    resolution_nm: NDArray[np.float64]
    worst_nm: float
    worst_direction: tuple[float, float, float]


@checked
def directional_resolution(
    volume: ArrayLike,
    truth: ArrayLike,
    voxel_size_nm: float = 1.0,
    *,
    directions: int = 40,
    half_angle_deg: float = 20.0,
    threshold: float = 0.5,
    taper: bool = True,
) -> DirectionalResolution:
    """Where the Fourier shell correlation with the truth first falls below a threshold, in cones of many directions.

    The axes of the cones are spread evenly over half a sphere. If the correlation is below the threshold from the first
    shell on, the resolution is the side of the field of view; if it never is, two voxels.

    Parameters
    ----------
    volume, truth : array (C, Y, Z, X) or (Y, Z, X)
    directions : int
    half_angle_deg : float
        Of the cones; 40 cones of 20° overlap.
    threshold : float
        0.5: the error has the power of the signal (J. Frank, *Three-Dimensional Electron Microscopy* (2006), sec. 5.5).
    taper : bool
        As in `fourier_shell_correlation`.
    """
    shells = _Shells(volume, truth, voxel_size_nm, taper)
    _check_cone(half_angle_deg, threshold)
    height = (np.arange(check_count(directions, "directions")) + 0.5) / directions
    around = np.pi * (1 + 5**0.5) * np.arange(directions)
    ring = np.sqrt(1 - height**2)
    axes = np.stack([ring * np.cos(around), height, ring * np.sin(around)], axis=1)
    found = [shells.correlation(shells.cone(axis, half_angle_deg), threshold).resolution_nm for axis in axes]
    found = np.where(np.isnan(found), voxel_size_nm * max(np.shape(truth)[-3:]), found)
    worst = int(np.argmax(found))
    return DirectionalResolution(axes, found, float(found[worst]), tuple(float(value) for value in axes[worst]))


def _check_cone(half_angle_deg, threshold):
    check_positive(half_angle_deg=half_angle_deg)
    check_number(half_angle_deg, "half_angle_deg", 0, 90)
    check_number(threshold, "threshold", 0, 1)


class _Shells:
    """Products of two volumes' Fourier coefficients, and the shell and direction of each."""

    def __init__(self, first, second, voxel_size_nm, taper, names=("volume", "truth")):
        first, second = check_pair(first, second, names)
        check_positive(voxel_size_nm=voxel_size_nm)
        shape = first.shape[-3:]
        if check_flag(taper, "taper"):
            window = _hann_edges(shape)
            first, second = first * window, second * window
        f1, f2 = (np.fft.fftn(volume, axes=(-3, -2, -1)).reshape(-1, *shape) for volume in (first, second))
        self.products = ((f1 * f2.conj()).real.sum(axis=0), *((np.abs(f) ** 2).sum(axis=0) for f in (f1, f2)))
        self.q = np.meshgrid(*(np.fft.fftfreq(n, voxel_size_nm) for n in shape), indexing="ij")
        self.radius = np.sqrt(sum(c**2 for c in self.q))
        self.nyquist = 0.5 / voxel_size_nm
        self.step = 1 / (voxel_size_nm * max(shape))
        self.shell = np.rint(self.radius / self.step).astype(int)
        self.count = round(self.nyquist / self.step) + 1
        self.keep = self.shell < self.count

    def cone(self, axis, half_angle_deg):
        """Coefficients within an angle of an axis (y, z, x)."""
        along = np.abs(sum(a * c for a, c in zip(axis, self.q, strict=True)))
        return self.keep & (along >= np.cos(np.deg2rad(half_angle_deg)) * self.radius - 1e-12)

    def correlation(self, keep, threshold):
        """The correlation of some coefficients."""
        shell = self.shell[keep]
        cross, *power = (np.bincount(shell, weights=p[keep], minlength=self.count) for p in self.products)
        scale = np.sqrt(power[0] * power[1])
        correlation = np.divide(cross, scale, out=np.full(self.count, np.nan), where=scale > 0)
        frequency = np.arange(self.count) * self.step
        resolution = _first_below(frequency[1:], correlation[1:], threshold, self.nyquist)
        count = np.bincount(shell, minlength=self.count)
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


@checked
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


@checked
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

    It tells where detail ends, not whether it is true: a sharp hallucination passes, and so does an edge sharpened by a
    regulariser. Read it together with errors against a truth and the Fourier shell correlation of split data. Needs
    about 40 voxels per side.
    """
    volume = finite_array(volume, "volume")
    volume = volume.sum(axis=0) if volume.ndim == 4 else volume
    if volume.ndim != 3 or min(volume.shape) < LEAST_SIDE:
        wanted = f"(C, Y, Z, X) or (Y, Z, X) of at least {LEAST_SIDE} voxels per side"
        raise ValueError(f"volume: got shape {np.shape(volume)}, wants {wanted}")
    if not np.ptp(volume):
        raise ValueError("volume: got the same value everywhere, wants one whose power spectrum falls somewhere")
    check_positive(voxel_size_nm=voxel_size_nm, band_per_nm=band_per_nm)
    check_count(median, "median")
    if check_number(tail, "tail", 0, 1) in (0, 1):
        raise ValueError(f"tail: got {tail!r}, wants a fraction between 0 and 1")
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
