"""How good is a reconstruction: errors against a truth, agreement of halves of the data, positions of interfaces.

Volumes are ``(C, Y, Z, X)`` or one channel ``(Y, Z, X)``, Z along the beam at 0° (the direction of the missing
wedge).
"""

from dataclasses import dataclass

import numpy as np

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
        raise ValueError(f"volume, truth: got shapes {volume.shape} and {truth.shape}, want two equal (C, Y, Z, X)")
    for name, array in (("volume", volume), ("truth", truth)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: got NaN or inf, wants finite values")
    return volume, truth


# ---------------------------------------------------------------- errors against a truth


def nrmse(volume, truth, *, per_channel=False):
    r"""Normalised root-mean-square error, :math:`\lVert v - t \rVert / \lVert t \rVert`.

    0 is perfect, 1 as bad as nothing at all. `skimage.metrics.normalized_root_mse` calls it ``"euclidean"``.

    Returns
    -------
    float, or array (C,) with ``per_channel``

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
        raise ValueError("truth: got zeros only, NRMSE has no scale")
    return float(np.linalg.norm(volume - truth) / size)


def psnr(volume, truth, *, data_range=1.0):
    r"""Peak signal-to-noise ratio in dB, :math:`10 \log_{10}(R^2 / \mathrm{MSE})`.

    R is the ``data_range`` (1: volume fractions).
    """
    from skimage.metrics import peak_signal_noise_ratio

    volume, truth = _pair(volume, truth)
    return float(peak_signal_noise_ratio(truth, volume, data_range=data_range))


def ssim(volume, truth, *, data_range=1.0):
    """Structural similarity in 3-D, mean over channels: 7-voxel windows, ``data_range`` 1 (fractions) unless given.

    Z. Wang et al., IEEE Trans. Image Process. 13, 600 (2004); `skimage.metrics.structural_similarity`. Vacuum counts
    like the specimen and is easy to get right: compare values of one field of view only.
    """
    from skimage.metrics import structural_similarity

    volume, truth = _pair(volume, truth)
    shape = volume.shape[-3:]
    if min(shape) < 7:
        raise ValueError(f"volume: got {shape}, SSIM wants at least 7 voxels a side")
    pairs = zip(volume.reshape(-1, *shape), truth.reshape(-1, *shape), strict=True)
    return float(np.mean([structural_similarity(t, v, data_range=data_range) for v, t in pairs]))


def phase_fraction_error(volume, truth, *, channel=0):
    r"""Error of the share of one phase, :math:`f = v_c / \sum_k v_k`.

    Returns
    -------
    (float, float)
        Of the whole specimen, :math:`\sum v_c / \sum_k v_k` less that of the truth; and RMS over the voxels that the
        truth fills to at least half (a voxel that the reconstruction leaves empty counts with f = 0).

    Examples
    --------
    >>> truth = np.stack([np.ones((4, 4, 4)), np.zeros((4, 4, 4))])
    >>> phase_fraction_error(truth[::-1], truth)
    (-1.0, 1.0)
    """
    volume, truth = _pair(volume, truth)

    def share(array):
        total = array.sum(axis=0)
        return np.divide(array[channel], total, out=np.zeros_like(total), where=total > 1e-6)

    filled = truth.sum(axis=0) >= 0.5
    whole = volume[channel].sum() / max(volume.sum(), 1e-12) - truth[channel].sum() / truth.sum()
    return float(whole), float(np.sqrt(np.mean((share(volume) - share(truth))[filled] ** 2)))


# ---------------------------------------------------------------- agreement of two halves of the data


@dataclass(frozen=True)
class FourierShellCorrelation:
    """A Fourier shell correlation.

    Attributes
    ----------
    frequency : array (K,)
        Middle of each shell, in 1/nm.
    correlation : array (K,)
        Between -1 and 1; NaN where a shell is empty.
    count : array (K,)
        Fourier coefficients in each shell.
    threshold : float
    resolution_nm : float
        One over the frequency at which the correlation first falls below the threshold; NaN if it starts below.
        Where it never does, two voxels (Nyquist).
    """

    frequency: np.ndarray
    correlation: np.ndarray
    count: np.ndarray
    threshold: float
    resolution_nm: float


def fourier_shell_correlation(
    first, second, voxel_size_nm=1.0, *, axis=None, half_angle_deg=30.0, threshold=0.143, taper=True
):
    r"""Fourier shell correlation between two reconstructions of independent data, in all directions or in a cone.

    .. math:: \mathrm{FSC}(k) = \frac{\mathrm{Re} \sum_{|q| \in k} F_1(q) F_2^*(q)}
        {\sqrt{\sum |F_1(q)|^2 \sum |F_2(q)|^2}}

    summed over channels as well. For half-dose reconstructions the usual threshold is 0.143 (P. B. Rosenthal & R.
    Henderson, J. Mol. Biol. 333, 721 (2003)); G. Harauz & M. van Heel, Optik 73, 146 (1986); limits of fixed
    thresholds: M. van Heel & M. Schatz, J. Struct. Biol. 151, 250 (2005). Two runs of one regulariser agree where
    both invent the same: it measures repeatability, not truth.

    Parameters
    ----------
    first, second : array (C, Y, Z, X) or (Y, Z, X)
    axis : {"Y", "Z", "X"} or None
        Only frequencies within ``half_angle_deg`` of this axis. ``"Z"`` is the missing wedge's, ``"X"`` across it.
    taper : bool
        Let the outer eighth of each side fall to 0 (a Hann edge), so that borders do not correlate.
    """
    first, second = _pair(first, second)
    if axis not in (None, "Y", "Z", "X"):
        raise ValueError(f"axis: got {axis!r}, wants 'Y', 'Z', 'X' or None")
    shape = first.shape[-3:]
    if taper:
        window = _hann_edges(shape)
        first, second = first * window, second * window
    axes = (-3, -2, -1)
    one, two = np.fft.fftn(first, axes=axes), np.fft.fftn(second, axes=axes)
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

    cross, power = total((one * two.conj()).real), (total(np.abs(one) ** 2), total(np.abs(two) ** 2))
    scale = np.sqrt(power[0] * power[1])
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
    """One over the frequency of the first crossing, linear between shells."""
    known = np.isfinite(correlation)
    frequency, correlation = frequency[known], correlation[known]
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
    """Where the power spectrum of a volume meets its own tail, along Y, Z and X.

    Attributes
    ----------
    resolution_nm : dict of str to float
        For ``"Y"``, ``"Z"``, ``"X"``; NaN where the fit fails.
    frequency, power, model, floor : dict of str to array
        Profiles and their fits.
    """

    resolution_nm: dict[str, float]
    frequency: dict[str, np.ndarray]
    power: dict[str, np.ndarray]
    model: dict[str, np.ndarray]
    floor: dict[str, np.ndarray]


def psd_resolution(volume, voxel_size_nm=1.0, *, band_per_nm=0.25, median=11, tail=0.2):
    r"""Resolution by the power spectrum, as in the public code of arXiv:2606.10893.

    The 3-D power spectrum is averaged over a slab of ±``band_per_nm`` about each axis and smoothed by a running
    median. The logarithm of :math:`A / (1 + (2\pi k \xi)^2)^p + C` is fitted to it, and a straight line to the
    logarithm of its last fifth; the resolution is one over the highest frequency at which the two cross (or come
    closest). For a volume of several channels, that of their sum.

    It asks where detail stops, not whether it is true: a sharp hallucination passes, and so does an edge sharpened
    by a regulariser. Read it beside errors against a truth and the split-data Fourier shell correlation. Needs about
    40 voxels a side.
    """
    from scipy.ndimage import median_filter
    from scipy.optimize import curve_fit

    volume = np.asarray(volume, float)
    volume = volume.sum(axis=0) if volume.ndim == 4 else volume
    if volume.ndim != 3 or not np.isfinite(volume).all():
        raise ValueError(f"volume: got shape {np.shape(volume)}, wants finite (C, Y, Z, X) or (Y, Z, X)")
    power = np.abs(np.fft.fftn(volume)) ** 2
    frequencies = [np.fft.fftfreq(n, voxel_size_nm) for n in volume.shape]
    result = {name: {} for name in ("resolution_nm", "frequency", "power", "model", "floor")}

    def logarithm(k, log_a, log_xi, p, log_c):
        return np.log10(10**log_a / (1 + (2 * np.pi * k * 10**log_xi) ** 2) ** p + 10**log_c)

    for axis, name in enumerate("YZX"):
        slab = power
        for other in set(range(3)) - {axis}:
            step = abs(frequencies[other][1])
            near = np.abs(frequencies[other]) <= max(band_per_nm, step) + step / 2
            slab = slab.compress(near, axis=other)
        n = volume.shape[axis] // 2
        profile = slab.mean(axis=tuple(set(range(3)) - {axis}))[:n]
        k = np.abs(frequencies[axis][:n])
        smooth = np.maximum(median_filter(profile, size=min(median, n // 2 * 2 - 1), mode="nearest"), 1e-30)
        y, use = np.log10(smooth), k <= 0.97 * k[-1]
        count = max(4, int(np.ceil(tail * n)))
        slope, offset = np.polyfit(k[-count:], y[-count:], 1)
        half = k[np.argmin(np.abs(smooth - smooth[0] / 2))] or k[1]
        low = y[-count:].min()
        start = (y[0], -np.log10(2 * np.pi * half), 1.2, low - 0.05)
        limits = ([low - 3, -6, 0.05, low - 12], [y[0] + 6, 6, 20, y[0] + 1])
        result["frequency"][name], result["power"][name] = k, smooth
        result["floor"][name] = 10 ** (offset + slope * k)
        try:
            found = curve_fit(logarithm, k[use], y[use], p0=start, bounds=limits, maxfev=20000)[0]
        except (RuntimeError, ValueError):
            result["model"][name], result["resolution_nm"][name] = np.full(n, np.nan), float("nan")
            continue
        model = logarithm(k, *found)
        above = model - (offset + slope * k)
        cross = np.flatnonzero(above[:-1] * above[1:] <= 0)
        if cross.size:
            i = cross[-1]
            part = above[i] / (above[i] - above[i + 1]) if above[i] != above[i + 1] else 1.0
            cut = k[i] + part * (k[i + 1] - k[i])
        else:
            cut = k[1:][np.argmin(np.abs(above[1:]))]
        result["model"][name] = 10**model
        result["resolution_nm"][name] = float(1 / cut) if cut > 0 else float("nan")
    return PowerSpectrumResolution(**result)


# ---------------------------------------------------------------- interfaces


@dataclass(frozen=True)
class InterfaceError:
    """Where the interfaces of a core-shell particle are, against the truth (all lengths in nm).

    Attributes
    ----------
    core_rms_nm, core_bias_nm : float
        Core edge (where FeO gives way to Fe3O4): RMS and mean of the displacement along the interface's normal,
        outwards positive.
    outer_rms_nm, outer_bias_nm : float
        Particle's surface (where both together fall to one half): the outer edge of shell and skin.
    skin_nm, true_skin_nm : float
        Mean thickness of FeO outside the middle of the shell.
    void_nm3, true_void_nm3 : float
        Volume of vacuum inside the particle, where the truth has its void and up to two voxels around.
    void_offset_nm : float
        Distance between the centres of vacuum there; NaN where there is none.
    missed : float
        Share of directions in which the reconstruction has no such interface (0 is good). They count in no other
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


def interface_error(volume, truth, voxel_size_nm=1.0, *, directions=2000, step=0.1):
    r"""Errors of the interfaces' positions of a core-shell particle, along rays from the truth's centre.

    Rays leave the centre of mass of the true particle in ``directions`` directions, evenly spread (a Fibonacci
    sphere). Along each, both volumes are read by linear interpolation every ``step`` voxels. The core's edge is the
    first place where :math:`v_{FeO} - v_{Fe_3O_4}` changes sign, the outer edge the last where :math:`v_{FeO} +
    v_{Fe_3O_4}` falls below 1/2, both linear between samples; a displacement along a ray counts with the cosine
    between the ray and the true interface's normal. The skin's thickness is :math:`\int v_{FeO}\,dr` outside the
    middle between the two true edges, with the same cosine, so that a skin thinner than a voxel is measured too.
    Void: :math:`\sum (1 - v_{FeO} - v_{Fe_3O_4})` over the true void and two voxels around.

    Parameters
    ----------
    volume, truth : array (2, Y, Z, X)
        Volume fractions of FeO and Fe3O4, core of FeO.
    """
    from scipy.ndimage import gaussian_filter

    volume, truth = _pair(volume, truth)
    if volume.ndim != 4 or len(volume) != 2:
        raise ValueError(f"volume: got shape {volume.shape}, wants (2, Y, Z, X): FeO and Fe3O4")
    total = truth.sum(axis=0)
    if total.sum() == 0:
        raise ValueError("truth: got an empty particle")
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in total.shape), indexing="ij"))
    centre = (grid * total).sum(axis=(1, 2, 3)) / total.sum()
    ways = _fibonacci_sphere(directions)
    reach = np.arange(0, np.linalg.norm(total.shape) / 2, step)
    points = centre[:, None, None] + ways.T[:, :, None] * reach  # (3, D, R)
    seen, real = (_along(array, points) for array in (volume, truth))

    # Of a true particle's directions only those that have an interface count.
    core, real_core = (_first_sign_change(a[0] - a[1], reach) for a in (seen, real))
    outer, real_outer = (_last_fall(a.sum(axis=0), reach) for a in (seen, real))
    facing = [_cosine(gaussian_filter(f, 1.5), centre, ways, r) for f, r in (
        (truth[0] - truth[1], real_core), (total, real_outer))]  # fmt: skip
    core_shift, outer_shift = (core - real_core) * facing[0], (outer - real_outer) * facing[1]
    defined = np.concatenate([core_shift[np.isfinite(real_core)], outer_shift[np.isfinite(real_outer)]])

    middle = np.where(np.isfinite(real_core), (real_core + real_outer) / 2, 0.8 * real_outer)
    beyond = reach > middle[:, None]
    skin, real_skin = (np.nanmean((a[0] * beyond).sum(axis=1) * step * facing[1]) for a in (seen, real))
    void, real_void, offset = _void(volume, truth, centre, points, real)
    size = voxel_size_nm

    def rms(values):
        values = values[np.isfinite(values)]
        return float(np.sqrt(np.mean(values**2)) * size) if values.size else float("nan")

    def mean(values):
        values = values[np.isfinite(values)]
        return float(values.mean() * size) if values.size else float("nan")

    return InterfaceError(
        core_rms_nm=rms(core_shift),
        core_bias_nm=mean(core_shift),
        outer_rms_nm=rms(outer_shift),
        outer_bias_nm=mean(outer_shift),
        skin_nm=float(skin * size),
        true_skin_nm=float(real_skin * size),
        void_nm3=float(void * size**3),
        true_void_nm3=float(real_void * size**3),
        void_offset_nm=float(offset * size),
        missed=float(np.mean(~np.isfinite(defined))) if defined.size else 1.0,
    )


def _fibonacci_sphere(count):
    """Evenly spread unit vectors (count, 3)."""
    i = np.arange(count) + 0.5
    height, angle = 1 - 2 * i / count, np.pi * (1 + 5**0.5) * i
    ring = np.sqrt(1 - height**2)
    return np.stack([height, ring * np.cos(angle), ring * np.sin(angle)], axis=1)


def _along(array, points):
    from scipy.ndimage import map_coordinates

    return np.stack([map_coordinates(channel, points, order=1, mode="constant") for channel in array])


def _first_sign_change(values, reach):
    """Distance at which each row (D, R), positive at first, turns negative; NaN if it never does, or starts so."""
    negative = (values[:, :-1] > 0) & (values[:, 1:] <= 0)
    return _crossing(values, reach, negative, negative.argmax(axis=1))


def _last_fall(values, reach):
    fall = (values[:, :-1] > 0.5) & (values[:, 1:] <= 0.5)
    return _crossing(values - 0.5, reach, fall, fall.shape[1] - 1 - fall[:, ::-1].argmax(axis=1))


def _crossing(values, reach, found, index):
    rows = np.arange(len(values))
    a, b = values[rows, index], values[rows, index + 1]
    part = np.divide(a, a - b, out=np.zeros_like(a), where=a != b)
    place = reach[index] + part * (reach[1] - reach[0])
    return np.where(found.any(axis=1), place, np.nan)


def _cosine(field, centre, ways, distance):
    """Between each ray and the normal of the true interface (minus the gradient) where the ray meets it."""
    from scipy.ndimage import map_coordinates

    points = centre[:, None] + (ways * np.nan_to_num(distance)[:, None]).T
    normal = np.stack([map_coordinates(g, points, order=1, mode="nearest") for g in np.gradient(field)], axis=1)
    length = np.linalg.norm(normal, axis=1)
    return np.abs((normal * ways).sum(axis=1)) / np.where(length > 0, length, 1)


def _void(volume, truth, centre, points, real):
    """(vacuum in the volume, in the truth, distance of their centres) about the true void, in voxels."""
    from scipy.ndimage import binary_dilation, binary_fill_holes, label

    filled = truth.sum(axis=0) > 0.5
    holes, count = label(binary_fill_holes(filled) & ~filled)
    if count == 0:
        return 0.0, 0.0, np.nan
    largest = holes == 1 + np.argmax(np.bincount(holes.ravel())[1:])
    near = binary_dilation(largest, iterations=2)
    outside = ~binary_fill_holes(filled)
    near &= ~binary_dilation(outside, iterations=2)
    grid = np.argwhere(near)
    empty = [np.clip(1 - array.sum(axis=0)[near], 0, 1) for array in (volume, truth)]
    sums = [e.sum() for e in empty]
    if sums[0] < 1e-6:
        return 0.0, sums[1], np.nan
    centres = [(grid * e[:, None]).sum(axis=0) / e.sum() for e in empty]
    return sums[0], sums[1], np.linalg.norm(centres[0] - centres[1])
