"""What the electrons can tell: cross-sections, signal, Cramér-Rao bounds, and how to spend a fluence on tilts.

Three ways to say that one edge needs fewer electrons than another, which give three numbers:

1. `signal_ratio`: signal per electron, the ratio of the partial cross-sections;
2. `shot_noise_ratio`: that signal against the shot noise of all counts in its window;
3. `dose_efficiency`: the fluences at which the thickness of a phase is known equally well, background and other
   phases unknown (`phase_bound`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq

from .fitting import background_shapes
from .simulate import Microscope, SpectrumModel, scattering, spectrum_model

__all__ = [
    "FIT_WINDOW_EV",
    "SIGNAL_WINDOW_EV",
    "DoseComparison",
    "TiltPlan",
    "compare_edges",
    "dose_efficiency",
    "hydrogenic_cross_section",
    "iron_weights",
    "linear_model",
    "measured_spectrum",
    "partial_cross_section",
    "phase_bound",
    "plan_tilt_series",
    "shot_noise_ratio",
    "signal_ratio",
    "simulate_counts",
    "sweep",
]

#: Windows over which the signal of an edge is counted.
SIGNAL_WINDOW_EV = {"M2,3": (53.0, 73.0), "L2,3": (706.0, 746.0)}
#: Windows fitted, background before the edge included.
FIT_WINDOW_EV = {"M2,3": (42.0, 88.0), "L2,3": (640.0, 750.0)}
#: Background shapes under each edge (names of `fitting.BACKGROUNDS`).
BACKGROUND = {"M2,3": "plasmon_tail", "L2,3": "power_law"}


# ------------------------------------------------------------------------------------------- cross-sections


def partial_cross_section(
    element: str,
    edge: str,
    *,
    beam_energy_keV: float,
    collection_mrad: float,
    window_eV: tuple[float, float],
    convergence_mrad: float = 0.0,
    bethe_ridge: bool = False,
) -> float:
    r"""Cross-section of one edge over an energy window and collection angle, barn.

    .. math:: \sigma = \int dE\,\frac{4\pi a_0^2R^2}{E\,T}\frac{df}{dE}\ln\!\left(1+\frac{\beta^2}{\theta_E^2}\right),
        \quad \frac{df}{dE} = \frac{2 f_2}{\pi E},\quad T = \tfrac12 m v^2

    with Henke's :math:`f_2` less the power law of the other electrons below the edge (Egerton 2011, ch. 3-4).

    Parameters
    ----------
    element, edge
        ``"Fe"`` and ``"M2,3"``, ``"L2,3"``; ``"K"`` of O, C and others in the Henke tables.
    window_eV
        Energies ``(from, to)``.
    convergence_mrad
        Half angle of the probe; 0: parallel beam.
    bethe_ridge
        Cut the angles off at the Bethe ridge: the dipole formula counts too much past it, 12 mrad for Fe-M2,3 and
        43 mrad for Fe-L2,3 at 300 kV.

    Raises
    ------
    ValueError
        For an element or edge that is not known, a window that is not increasing or lies below the edge.

    Examples
    --------
    >>> m = partial_cross_section("Fe", "M2,3", beam_energy_keV=300, collection_mrad=40, window_eV=(53, 73))
    >>> print(f"{m:.2e} barn")
    1.05e+05 barn
    """
    lo, hi = _window(window_eV)
    start = scattering.onset(element, edge)
    if hi <= start:
        raise ValueError(f"window_eV must reach above the onset of {element}-{edge} at {start} eV, got {window_eV!r}")
    energy = np.linspace(max(lo, start), hi, max(400, int(50 * (hi - lo))))
    return float(
        np.trapezoid(
            scattering.differential_cross_section(
                scattering.edge_oscillator_strength(element, edge, energy),
                energy,
                beam_energy_keV=beam_energy_keV,
                collection_mrad=collection_mrad,
                convergence_mrad=convergence_mrad,
                bethe_ridge=bethe_ridge,
            ),
            energy,
        )
        / scattering.BARN_NM2
    )


def signal_ratio(
    edge_a: str = "M2,3",
    edge_b: str = "L2,3",
    *,
    element: str = "Fe",
    beam_energy_keV: float = 300.0,
    collection_mrad: float = 40.0,
    window_a_eV: tuple[float, float] | None = None,
    window_b_eV: tuple[float, float] | None = None,
    **angles,
) -> float:
    """Signal per electron of one edge over another's: the ratio of their partial cross-sections.

    Windows default to `SIGNAL_WINDOW_EV`; ``angles`` as for `partial_cross_section`.
    """
    sigma = []
    for name, edge, window in (("window_a_eV", edge_a, window_a_eV), ("window_b_eV", edge_b, window_b_eV)):
        if window is None and edge not in SIGNAL_WINDOW_EV:
            raise ValueError(f"{name} must be given for edge {edge!r}; only {sorted(SIGNAL_WINDOW_EV)} have a default")
        sigma.append(
            partial_cross_section(
                element,
                edge,
                beam_energy_keV=beam_energy_keV,
                collection_mrad=collection_mrad,
                window_eV=window or SIGNAL_WINDOW_EV[edge],
                **angles,
            )
        )
    return sigma[0] / sigma[1]


def hydrogenic_cross_section(
    element: str = "Fe",
    *,
    beam_energy_keV: float,
    collection_mrad: float,
    window_eV: tuple[float, float],
    near_edge_reduction: bool = True,
) -> float:
    """Partial cross-section of L2,3 from eXSpy's hydrogenic model (Egerton's SIGMAL3), barn, to compare with.

    Parameters
    ----------
    near_edge_reduction
        The model multiplies its strength near the edge by ((E - E_L3) / 1.8 Z²)^u (u = 0.18 for iron), an empirical
        reduction meant for fits well above white lines. False takes it off again (iron only).
    """
    from exspy.components import EELSCLEdge

    lo, hi = _window(window_eV)
    edge = EELSCLEdge(f"{element}_L3", GOS="hydrogenic")  # its Fe_L3 is the whole L shell
    edge.set_microscope_parameters(E0=beam_energy_keV, alpha=1e-3, beta=collection_mrad, energy_scale=1.0)
    start = edge.onset_energy.value
    energy = np.linspace(max(lo, start), hi, 800)
    strength = edge.function(energy)
    if not near_edge_reduction:
        if element != "Fe":
            raise ValueError(f"near_edge_reduction=False knows iron only, got element={element!r}")
        strength = strength / ((energy + 0.1 - start) / (1.8 * 26**2)) ** 0.18
    return float(np.trapezoid(strength, energy))


def _window(window_eV):
    window = np.asarray(window_eV, dtype=float)
    if window.shape != (2,) or not np.isfinite(window).all() or not 0 < window[0] < window[1]:
        raise ValueError(f"window_eV must be two increasing positive energies, got {window_eV!r}")
    return float(window[0]), float(window[1])


# ------------------------------------------------------------------------------------------ Cramér-Rao bound


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


def iron_weights(model: SpectrumModel) -> np.ndarray:
    """Iron atoms per nm³ of each phase over those of the first: total iron = weights · thickness (nm of phase one)."""
    atoms = np.array([scattering.MATERIALS[p].atoms_per_nm3.get("Fe", 0.0) for p in model.phases])
    return atoms / atoms[0]


def _quantity(model: SpectrumModel, quantity) -> np.ndarray:
    """Weights of a quantity that is linear in the thicknesses."""
    if isinstance(quantity, str):
        if quantity == "total iron":
            return iron_weights(model)
        if quantity in model.phases:
            return np.eye(len(model.phases))[model.phases.index(quantity)]
        raise ValueError(f"quantity must be 'total iron' or one of {model.phases}, got {quantity!r}")
    weights = np.asarray(quantity, dtype=float)
    if weights.shape != (len(model.phases),):
        raise ValueError(f"quantity must be a name or {len(model.phases)} weights, got {quantity!r}")
    return weights


def dose_efficiency(
    spectrum_model: SpectrumModel | None = None,
    *,
    quantity="total iron",
    edge_a: str = "M2,3",
    edge_b: str = "L2,3",
    fluence_e_per_A2: float = 1e4,
    window_a_eV=None,
    window_b_eV=None,
    background_a=None,
    background_b=None,
    spectrum_a=None,
    spectrum_b=None,
    **settings,
) -> float:
    """Fluence that edge b needs, over that of edge a, to bound a quantity equally well.

    Parameters
    ----------
    quantity
        ``"total iron"``, the name of a phase, or weights of the phase thicknesses.
    fluence_e_per_A2
        Fluence of edge a; it matters only with readout noise, where the bounds do not just scale.
    settings
        As for `phase_bound` (thickness_nm, pixel_size_nm, readout_counts, gain).
    """
    model = spectrum_model if spectrum_model is not None else _default_model()
    weights = _quantity(model, quantity)

    def variance(edge, fluence, window, background, spectrum):
        bound = phase_bound(
            model, fluence, edge=edge, window_eV=window, background=background, spectrum=spectrum, **settings
        )
        return weights @ bound @ weights

    wanted = variance(edge_a, fluence_e_per_A2, window_a_eV, background_a, spectrum_a)
    b = (window_b_eV, background_b, spectrum_b)
    if not settings.get("readout_counts"):
        return float(variance(edge_b, fluence_e_per_A2, *b) / wanted)
    return float(
        np.exp(
            brentq(
                lambda x: np.log(variance(edge_b, fluence_e_per_A2 * np.exp(x), *b) / wanted),
                np.log(1e-4),
                np.log(1e8),
                xtol=1e-6,
            )
        )
    )


def shot_noise_ratio(
    spectrum_model: SpectrumModel | None = None,
    *,
    edge_a: str = "M2,3",
    edge_b: str = "L2,3",
    thickness_nm=(10.0, 10.0),
    window_a_eV=None,
    window_b_eV=None,
    background_factor: float = 1.0,
) -> float:
    """Fluence that edge b needs, over that of edge a, for equal signal-to-noise of the counts in a window.

    SNR² = S² / (S + h B) per electron, with signal S and background B in the window (Egerton 2011, eq. 4.61).

    Parameters
    ----------
    background_factor
        h: 1 where the background is known, 5 to 10 where it is extrapolated from before the edge.
    """
    model = spectrum_model if spectrum_model is not None else _default_model()
    snr2 = []
    for edge, window in ((edge_a, window_a_eV), (edge_b, window_b_eV)):
        lo, hi = _window(SIGNAL_WINDOW_EV[edge] if window is None else window)
        energy = model.energy_eV(edge)
        inside = (energy >= lo) & (energy < hi)
        t = np.asarray(thickness_nm, dtype=float)
        signal = (t @ model.derivative(t, edge))[inside].sum()
        total = model.expected(t, edge)[inside].sum()
        snr2.append(signal**2 / (signal + background_factor * (total - signal)))
    return float(snr2[0] / snr2[1])


@dataclass(frozen=True)
class DoseComparison:
    """Edge a against edge b by the three definitions; each a ratio of fluences (or of signals, the first)."""

    signal: float
    shot_noise: float
    total_iron: float
    phases: dict


def compare_edges(spectrum_model: SpectrumModel | None = None, *, thickness_nm=(10.0, 10.0), **settings):
    """`DoseComparison` of Fe-M2,3 against Fe-L2,3; settings as for `dose_efficiency`."""
    model = spectrum_model if spectrum_model is not None else _default_model()
    m = model.microscope
    return DoseComparison(
        signal=signal_ratio(
            beam_energy_keV=m.beam_energy_keV, collection_mrad=m.collection_mrad, bethe_ridge=m.bethe_ridge
        ),
        shot_noise=shot_noise_ratio(model, thickness_nm=thickness_nm),
        total_iron=dose_efficiency(model, thickness_nm=thickness_nm, **settings),
        phases={p: dose_efficiency(model, quantity=p, thickness_nm=thickness_nm, **settings) for p in model.phases},
    )


def _default_model() -> SpectrumModel:
    return spectrum_model()


def sweep(parameter: str, values, *, microscope: Microscope | None = None, thickness_nm=(10.0, 10.0), **settings):
    """`compare_edges` over one parameter.

    Parameters
    ----------
    parameter
        A field of `simulate.Microscope` (``"collection_mrad"``, ``"beam_energy_keV"``, ...),
        ``"thickness_nm"`` (total, shared as in ``thickness_nm``) or any setting of `dose_efficiency`.
    values
        What it takes.

    Returns
    -------
    list of DoseComparison
    """
    microscope = microscope or Microscope()
    t = np.asarray(thickness_nm, dtype=float)
    model = spectrum_model(microscope)
    out = []
    for value in values:
        if parameter == "thickness_nm":
            out.append(compare_edges(model, thickness_nm=t * value / t.sum(), **settings))
        elif hasattr(microscope, parameter):
            changed = spectrum_model(replace(microscope, **{parameter: value}))
            out.append(compare_edges(changed, thickness_nm=t, **settings))
        else:
            out.append(compare_edges(model, thickness_nm=t, **{**settings, parameter: value}))
    return out


# ------------------------------------------------------------------------------------ Monte Carlo, user data


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


def measured_spectrum(signal, model: SpectrumModel, edge: str, *, electrons: float | None = None) -> np.ndarray:
    """Measured spectrum on the axis of a model, counts per electron and channel, for ``spectrum=`` of `phase_bound`.

    Parameters
    ----------
    signal
        HyperSpy EELS signal in counts; spectrum images are averaged.
    electrons
        Incident electrons of the (mean) spectrum. None: all counts of a low-loss spectrum that holds the zero-loss
        peak; a core-loss spectrum without the number of electrons is scaled to the model's counts before the edge.

    Raises
    ------
    ValueError
        If the signal's energies do not cover the edge's fit window.
    """
    energy = np.asarray(signal.axes_manager.signal_axes[0].axis, dtype=float)
    data = np.asarray(signal.data, dtype=float).reshape(-1, energy.size)
    mean = np.nanmean(data, axis=0)
    lo, hi = FIT_WINDOW_EV[edge]
    if energy[0] > lo or energy[-1] < hi:
        raise ValueError(f"signal must cover {lo} to {hi} eV for {edge}, got {energy[0]:.1f} to {energy[-1]:.1f} eV")
    axis = model.energy_eV(edge)
    density = np.interp(axis, energy, mean / np.gradient(energy)) * model.microscope.dispersion_eV
    if electrons is None and energy[0] < 0:
        electrons = mean.sum()
    if electrons is None:
        before = (axis >= lo) & (axis < lo + 0.4 * (hi - lo))
        electrons = density[before].sum() / model.expected(np.full(len(model.phases), 10.0), edge)[before].sum()
    if not electrons > 0:
        raise ValueError(f"electrons must be positive, got {electrons!r}")
    return density / electrons


# ------------------------------------------------------------------------------------------------ planning


@dataclass(frozen=True)
class TiltPlan:
    """Ways to spend one total fluence on a tilt series; one entry for each number of tilts.

    Attributes
    ----------
    tilts : (N,) int
    fluence_e_per_A2 : (N,)
        Of each tilt.
    error_nm : (N, P)
        Bound of each phase's thickness in one pixel of one projection.
    total_iron_error_nm : (N,)
    correlation : (N,)
        Between the first two phases.
    volume_error : (N,)
        Error of the volume fraction of the worse phase in a cubic feature, from all tilts: the bound of one projection
        over the feature's size and the root of the number of pixels and tilts that see it (Hegerl and Hoppe 1976:
        without readout noise it does not depend on how the fluence is split).
    crowther_nm : (N,)
        Finest detail that the angular step resolves in an object of the given diameter, D Δθ (Crowther 1970).
    recommended : int
        Most tilts whose `error_nm` meets the target for every phase; the fewest if none does.
    """

    tilts: np.ndarray
    fluence_e_per_A2: np.ndarray
    error_nm: np.ndarray
    total_iron_error_nm: np.ndarray
    correlation: np.ndarray
    volume_error: np.ndarray
    crowther_nm: np.ndarray
    recommended: int


def plan_tilt_series(
    spectrum_model: SpectrumModel,
    total_fluence_e_per_A2: float,
    *,
    edge: str = "M2,3",
    thickness_nm=(10.0, 10.0),
    diameter_nm: float = 34.4,
    feature_nm: float = 2.0,
    tilt_range_deg: float = 140.0,
    tilts=(5, 7, 9, 11, 15, 21, 29, 41, 57, 71),
    target_error_nm: float = 5.0,
    **settings,
) -> TiltPlan:
    """For a total fluence: how many tilts, and what error of each phase in a pixel.

    Parameters
    ----------
    total_fluence_e_per_A2
        All the specimen may get, over the series.
    diameter_nm
        Of the particle, for the Crowther limit.
    feature_nm
        Side of the feature whose volume fraction is asked for.
    tilt_range_deg
        From the first to the last tilt.
    target_error_nm
        Standard error of each phase in one pixel that fitting needs to stay safely above its bound at zero.
    settings
        As for `phase_bound`.
    """
    counts = np.asarray(tilts)
    if counts.ndim != 1 or counts.size == 0 or (counts < 2).any() or (counts != counts.astype(int)).any():
        raise ValueError(f"tilts must be integers of at least 2, got {tilts!r}")
    for name, value in (
        ("total_fluence_e_per_A2", total_fluence_e_per_A2),
        ("diameter_nm", diameter_nm),
        ("feature_nm", feature_nm),
        ("tilt_range_deg", tilt_range_deg),
        ("target_error_nm", target_error_nm),
    ):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive, got {value!r}")
    counts = np.sort(counts.astype(int))
    each = total_fluence_e_per_A2 / counts
    bounds = np.stack([phase_bound(spectrum_model, f, edge=edge, thickness_nm=thickness_nm, **settings) for f in each])
    error = np.sqrt(np.einsum("npp->np", bounds))
    iron = iron_weights(spectrum_model)
    # the feature covers (feature / pixel)² pixels of every projection
    pixels = (feature_nm / settings.get("pixel_size_nm", 0.4)) ** 2
    good = (error <= target_error_nm).all(axis=1)
    return TiltPlan(
        tilts=counts,
        fluence_e_per_A2=each,
        error_nm=error,
        total_iron_error_nm=np.sqrt(np.einsum("p,npq,q->n", iron, bounds, iron)),
        correlation=bounds[:, 0, 1] / (error[:, 0] * error[:, 1]),
        volume_error=error.max(axis=1) / feature_nm / np.sqrt(counts * pixels),
        crowther_nm=diameter_nm * np.deg2rad(tilt_range_deg / (counts - 1)),
        recommended=int(counts[good].max() if good.any() else counts.min()),
    )
