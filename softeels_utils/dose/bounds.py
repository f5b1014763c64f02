"""Cramér-Rao bound of the phase thicknesses of a pixel, and the counts that test it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..fitting import background_shapes
from ..simulate import Microscope, SpectrumModel
from ..spectra import zero_loss_position
from .cross_sections import _window

#: Windows fitted, background before the edge included.
FIT_WINDOW_EV = {"M2,3": (42.0, 88.0), "L2,3": (640.0, 750.0)}
#: Background shapes under each edge (names of `fitting.BACKGROUNDS`).
BACKGROUND = {"M2,3": "plasmon_tail", "L2,3": "power_law"}


@dataclass(frozen=True)
class LinearModel:
    """Counts of one pixel and edge as a linear model: expected = phases · thickness + background · amplitudes.

    Attributes
    ----------
    energy_eV : (E,)
    phases : (P, E)
        Counts per nm of each phase, plural scattering and resolution included.
    background : (B, E)
        Shapes under the edge.
    amplitudes : (B,)
        Least-squares amplitudes of the background that the model or the measured spectrum has.
    thickness_nm : (P,)
    expected : (E,)
        Expected counts, from the spectrum itself (not the linear model); their Poisson noise is the noise.
    misfit : float
        Weighted rms distance of the true background from its shapes, in standard deviations of a channel.
    """

    energy_eV: np.ndarray
    phases: np.ndarray
    background: np.ndarray
    amplitudes: np.ndarray
    thickness_nm: np.ndarray
    expected: np.ndarray
    misfit: float

    @property
    def linear(self) -> np.ndarray:
        """Counts that the linear model expects, (E,)."""
        return self.thickness_nm @ self.phases + self.amplitudes @ self.background

    def covariance(self, variance=None) -> np.ndarray:
        """Inverse Fisher information of the thicknesses, backgrounds free; variance of the counts (E,)."""
        design = np.concatenate([self.phases, self.background])
        root = np.sqrt(self.expected if variance is None else variance)
        q = design / root
        scale = np.linalg.norm(q, axis=1)
        _, r = np.linalg.qr((q / scale[:, None]).T)
        inverse = np.linalg.inv(r)
        covariance = inverse @ inverse.T / np.outer(scale, scale)
        n = len(self.phases)
        return covariance[:n, :n]


def linear_model(
    model: SpectrumModel,
    fluence_e_per_A2: float,
    *,
    edge: str = "M2,3",
    thickness_nm=(10.0, 10.0),
    pixel_size_nm: float = 0.4,
    window_eV: tuple[float, float] | None = None,
    background=None,
    spectrum=None,
) -> LinearModel:
    """Linear model of the counts of one pixel around one edge; arguments as for `phase_bound`."""
    if not (np.isfinite(fluence_e_per_A2) and fluence_e_per_A2 > 0):
        raise ValueError(f"fluence_e_per_A2 must be positive, got {fluence_e_per_A2!r}")
    if not (np.isfinite(pixel_size_nm) and pixel_size_nm > 0):
        raise ValueError(f"pixel_size_nm must be positive, got {pixel_size_nm!r}")
    if edge not in FIT_WINDOW_EV:
        raise ValueError(f"edge must be one of {sorted(FIT_WINDOW_EV)}, got {edge!r}")
    t = np.asarray(thickness_nm, dtype=float)
    if t.shape != (len(model.phases),) or not np.isfinite(t).all() or (t < 0).any():
        raise ValueError(f"thickness_nm must hold {len(model.phases)} values of at least 0, got {thickness_nm!r}")
    lo, hi = _window(FIT_WINDOW_EV[edge] if window_eV is None else window_eV)
    energy = model.energy_eV(edge)
    inside = (energy >= lo) & (energy <= hi)
    if lo < energy[0] or hi > energy[-1]:
        raise ValueError(
            f"window_eV must lie within the energy axis, {energy[0]} to {energy[-1]} eV, got {window_eV!r}"
        )
    electrons = fluence_e_per_A2 * (10 * pixel_size_nm) ** 2
    shapes = background_shapes(energy[inside], BACKGROUND[edge] if background is None else background)
    if inside.sum() <= len(shapes) + len(t):
        raise ValueError(f"window_eV holds {inside.sum()} channels, too few for {len(shapes) + len(t)} amplitudes")
    phases = electrons * model.derivative(t, edge)[:, inside]
    if spectrum is None:
        expected = electrons * model.expected(t, edge)[inside]
    else:
        spectrum = np.asarray(spectrum, dtype=float)
        if spectrum.shape != energy.shape or not np.isfinite(spectrum[inside]).all() or (spectrum[inside] <= 0).any():
            raise ValueError(
                f"spectrum must be {energy.shape} positive counts per electron on the model's axis, got "
                f"shape {spectrum.shape}"
            )
        expected = electrons * spectrum[inside]
    expected = np.maximum(expected, 1e-12 * expected.max())
    weight = 1 / np.sqrt(expected)
    if spectrum is None:
        rest = expected - t @ phases
    else:  # a measured spectrum carries whatever iron it carries: fit all of it
        design = np.concatenate([phases, shapes]) * weight
        coefficients = np.linalg.lstsq(design.T, expected * weight, rcond=None)[0]
        t = coefficients[: len(t)]
        rest = expected - t @ phases
    amplitudes = np.linalg.lstsq((shapes * weight).T, rest * weight, rcond=None)[0] if len(shapes) else np.empty(0)
    misfit = float(np.sqrt(np.mean(((rest - amplitudes @ shapes) * weight) ** 2)))
    return LinearModel(energy[inside], phases, shapes, amplitudes, t, expected, misfit)


def phase_bound(
    spectrum_model: SpectrumModel,
    fluence_e_per_A2: float,
    *,
    edge: str = "M2,3",
    thickness_nm=(10.0, 10.0),
    pixel_size_nm: float = 0.4,
    window_eV: tuple[float, float] | None = None,
    background=None,
    readout_counts: float = 0.0,
    gain: float = 1.0,
    spectrum=None,
) -> np.ndarray:
    r"""Cramér-Rao bound of the phase thicknesses of one pixel: their smallest possible covariance, nm².

    The Fisher information of independent channels with mean :math:`\mu` and variance :math:`v`,
    :math:`F_{ij} = \sum_E \partial_i\mu\,\partial_j\mu / v`, is inverted with the amplitudes of all background shapes
    among the unknowns; the block of the phases, with the covariance between them, is returned. The part of the
    information that lies in the variance itself is left out (for Poisson counts there is none of it).

    Parameters
    ----------
    spectrum_model
        From `simulate.spectrum_model`.
    fluence_e_per_A2
        Electrons per Å².
    edge
        ``"M2,3"`` or ``"L2,3"``.
    thickness_nm
        Thickness of each phase in the pixel (FeO, Fe3O4).
    window_eV, background
        What is fitted: defaults `FIT_WINDOW_EV`, and the background of the same name in `fitting.background_shapes`.
    readout_counts, gain
        Readout noise (standard deviation, counts) and counts per electron of the camera.
    spectrum
        Measured spectrum ``(E,)`` in counts per electron on the model's axis (`measured_spectrum`), whose counts
        take the place of the model's in the noise.

    Returns
    -------
    numpy.ndarray
        ``(P, P)`` covariance, nm².

    Raises
    ------
    ValueError
        Naming the argument, for values out of range or a window off the energy axis.
    """
    if not (np.isfinite(readout_counts) and readout_counts >= 0):
        raise ValueError(f"readout_counts must be finite and not negative, got {readout_counts!r}")
    if not (np.isfinite(gain) and gain > 0):
        raise ValueError(f"gain must be positive, got {gain!r}")
    linear = linear_model(
        spectrum_model,
        fluence_e_per_A2,
        edge=edge,
        thickness_nm=thickness_nm,
        pixel_size_nm=pixel_size_nm,
        window_eV=window_eV,
        background=background,
        spectrum=spectrum,
    )
    return linear.covariance(linear.expected + (readout_counts / gain) ** 2)


def simulate_counts(
    linear: LinearModel, draws: int, *, exact: bool = False, readout_counts: float = 0.0, gain: float = 1.0, seed=0
) -> np.ndarray:
    """Noisy counts of one pixel, many times over, ``(draws, E)``: what `fitting.fit_phases` gets to fit.

    Parameters
    ----------
    exact
        False: the mean is the linear model's, so that a linear fit is unbiased and its scatter is to meet the bound.
        True: the mean is the twin's own spectrum, whose background the shapes follow only nearly.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws!r}")
    mean = linear.expected if exact else linear.linear
    if (mean < 0).any():
        raise ValueError("linear model expects negative counts: its background does not fit; choose another window")
    rng = np.random.default_rng(seed)
    counts = gain * rng.poisson(mean, (draws, mean.size)).astype(float)
    return counts + rng.normal(0.0, readout_counts, counts.shape) if readout_counts else counts


def measured_spectrum(
    signal, model: SpectrumModel, edge: str, *, electrons: float | None = None, thickness_nm=(10.0, 10.0)
) -> np.ndarray:
    """Measured spectrum on the axis of a model, counts per electron and channel, for ``spectrum=`` of `phase_bound`.

    Parameters
    ----------
    signal
        HyperSpy EELS signal in counts; spectrum images are averaged, a zero-loss peak is put at 0 eV.
    electrons
        Incident electrons of the (mean) spectrum. None: all counts of a low-loss spectrum that holds the zero-loss
        peak; any other spectrum is scaled so that its edge is as strong as that of ``thickness_nm`` in the
        model: then the ratio of edge to background is the measured one. (Its energy axis may be off by up to
        15 eV; it is put where the edge fits best.)

    Raises
    ------
    ValueError
        If the signal's energies do not cover the edge's fit window, or no edge is found to scale by.
    """
    if edge not in FIT_WINDOW_EV:
        raise ValueError(f"edge must be one of {sorted(FIT_WINDOW_EV)}, got {edge!r}")
    energy = np.asarray(signal.axes_manager.signal_axes[0].axis, dtype=float)
    mean = np.nanmean(np.asarray(signal.data, dtype=float).reshape(-1, energy.size), axis=0)
    zero_loss = energy[0] < 0 < energy[-1]
    if zero_loss:
        energy = energy - float(zero_loss_position(mean, energy))
    lo, hi = FIT_WINDOW_EV[edge]
    if energy[0] > lo or energy[-1] < hi:
        raise ValueError(f"signal must cover {lo} to {hi} eV for {edge}, got {energy[0]:.1f} to {energy[-1]:.1f} eV")
    axis, density = model.energy_eV(edge), mean / np.gradient(energy)

    def on_axis(shift):
        return np.interp(axis, energy + shift, density) * model.microscope.dispersion_eV

    if zero_loss or electrons is not None:
        electrons = mean.sum() if electrons is None else electrons
        if not electrons > 0:
            raise ValueError(f"electrons must be positive, got {electrons!r}")
        return on_axis(0.0) / electrons

    inside = (axis >= lo) & (axis <= hi)
    t = np.asarray(thickness_nm, dtype=float)
    shapes = np.concatenate(
        [(t @ model.derivative(t, edge))[None, inside], background_shapes(axis[inside], BACKGROUND[edge])]
    )
    # the pseudo-inverse of all shapes at once: each trial shift costs one product
    scale = np.linalg.norm(shapes, axis=1, keepdims=True)
    inverse = np.linalg.pinv((shapes / scale).T)

    def fit(shift):
        y = on_axis(shift)[inside]
        amplitudes = inverse @ y
        return np.linalg.norm(y - amplitudes @ (shapes / scale)), amplitudes[0] / scale[0, 0], shift

    _, strength, shift = min(
        fit(s) for s in np.arange(-15.0, 15.1, 0.25) if energy[0] + s <= lo and energy[-1] + s >= hi
    )
    if not strength > 0:
        raise ValueError(f"signal shows no {edge} edge to scale it by; give electrons=")
    return on_axis(shift) / strength


def microscope_of(signal, default: Microscope | None = None) -> Microscope:
    """Beam energy and angles that a HyperSpy signal's metadata state; what it does not state comes from `default`."""
    default = default or Microscope()
    metadata = signal.metadata
    found = {}
    for name, key in (
        ("beam_energy_keV", "Acquisition_instrument.TEM.beam_energy"),
        ("convergence_mrad", "Acquisition_instrument.TEM.convergence_angle"),
        ("collection_mrad", "Acquisition_instrument.TEM.Detector.EELS.collection_angle"),
    ):
        value = metadata.get_item(key)
        if value:
            found[name] = float(value)
    return replace(default, **found)


def error_ellipse(covariance, *, sigmas: float = 1.0, points: int = 200) -> np.ndarray:
    """Outline of the error ellipse of two quantities, ``(2, points)``, around the origin."""
    covariance = np.asarray(covariance, dtype=float)
    if covariance.shape != (2, 2):
        raise ValueError(f"covariance must be (2, 2), got shape {covariance.shape}")
    angle = np.linspace(0, 2 * np.pi, points)
    return sigmas * np.linalg.cholesky(covariance) @ np.stack([np.cos(angle), np.sin(angle)])
