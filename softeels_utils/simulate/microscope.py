"""What the microscope records of a specimen: dual EELS of every tilt and pixel, with all that blurs it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from scipy.special import ndtr, voigt_profile

from . import scattering
from .specimen import PHASES

COMPONENTS = ("valence", "M2,3", "M1", "K", "L2,3")
# Energies at which each component's delocalisation is taken (eV).
_BLUR_ENERGY_EV = {"valence": 22.0, "M2,3": 57.0, "M1": 95.0, "K": 540.0, "L2,3": 712.0}


@dataclass(frozen=True)
class Microscope:
    """Beam and spectrometer. Angles in mrad are half angles; the resolution is the zero-loss peak's FWHM."""

    beam_energy_keV: float = 300.0
    convergence_mrad: float = 20.0
    collection_mrad: float = 40.0
    energy_resolution_eV: float = 0.7
    zero_loss_tail_eV: float = 0.0  # FWHM of a Lorentzian in the zero-loss peak (Voigt)
    dispersion_eV: float = 0.25
    channels: int = 1024
    low_start_eV: float = -16.0
    core_start_eV: float = 500.0
    bethe_ridge: bool = False

    def __post_init__(self):
        for name in ("beam_energy_keV", "collection_mrad", "energy_resolution_eV", "dispersion_eV", "channels"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive, got {value!r}")
        if not (np.isfinite(self.convergence_mrad) and self.convergence_mrad >= 0):
            raise ValueError(f"convergence_mrad must be finite and not negative, got {self.convergence_mrad!r}")
        if self.zero_loss_tail_eV < 0:
            raise ValueError(f"zero_loss_tail_eV must not be negative, got {self.zero_loss_tail_eV!r}")
        if not -100 <= self.low_start_eV <= 0 or self.core_start_eV <= 0:
            raise ValueError(
                "low_start_eV must be within -100 to 0 and core_start_eV positive, got "
                f"{self.low_start_eV!r} and {self.core_start_eV!r}"
            )

    @property
    def angles(self) -> dict:
        return {
            "beam_energy_keV": self.beam_energy_keV,
            "collection_mrad": self.collection_mrad,
            "convergence_mrad": self.convergence_mrad,
            "bethe_ridge": self.bethe_ridge,
        }


@dataclass(frozen=True)
class Detector:
    """Camera. The default counts electrons; `scintillator` is a classic fibre-coupled CCD.

    Attributes
    ----------
    gain
        Counts for one electron.
    readout_counts
        Standard deviation of the readout noise of a channel, counts.
    point_spread_channels
        Standard deviation of the point spread along energy; it also correlates the shot noise.
    spike_rate, spike_counts
        Cosmic rays: chance for one channel of one spectrum, and mean height (exponential).
    """

    gain: float = 1.0
    readout_counts: float = 0.0
    point_spread_channels: float = 0.0
    spike_rate: float = 0.0
    spike_counts: float = 2000.0

    def __post_init__(self):
        for name, value in self.__dict__.items():
            if not (np.isfinite(value) and value >= 0) or (name == "gain" and value == 0):
                raise ValueError(f"{name} must be finite and not negative (gain positive), got {value!r}")

    @classmethod
    def scintillator(cls) -> Detector:
        return cls(gain=4.0, readout_counts=8.0, point_spread_channels=0.8, spike_rate=2e-6, spike_counts=4000.0)


@dataclass(frozen=True)
class SpectrumModel:
    """Noise-free spectra of a specimen of known thickness, for one incident electron.

    Everything is linear in the single-scattering distributions, counts per channel, nm and electron; plural
    scattering follows from them by the Fourier-log relation
    :math:`j(\\nu) = z(\\nu) \\exp(\\sum_p t_p s_p(\\nu))` (Egerton 2011, eq. 4.8), with the zero-loss peak z of unit
    area and :math:`s_p(0) = 0` replaced by :math:`s_p(\\nu) - s_p(0)`, which keeps the number of electrons.

    Attributes
    ----------
    microscope, phases, materials
        What was modelled; `materials` has one entry for each phase, then the support, if any.
    plural
        False: single scattering only.
    """

    microscope: Microscope = field(default_factory=Microscope)
    phases: tuple = PHASES
    plural: bool = True

    def __post_init__(self):
        unknown = [p for p in self.phases if p not in scattering.MATERIALS]
        if unknown or not self.phases:
            raise ValueError(f"phases must be among {sorted(scattering.MATERIALS)}, got {self.phases!r}")

    # ------------------------------------------------------------------ energies

    @property
    def low_energy_eV(self) -> np.ndarray:
        """Energies of the low-loss channels; the axis starts at a whole multiple of the dispersion."""
        m = self.microscope
        return m.dispersion_eV * (round(m.low_start_eV / m.dispersion_eV) + np.arange(m.channels))

    @property
    def core_energy_eV(self) -> np.ndarray:
        """Energies of the core-loss channels."""
        m = self.microscope
        return m.dispersion_eV * (round(m.core_start_eV / m.dispersion_eV) + np.arange(m.channels))

    @cached_property
    def _grid(self) -> np.ndarray:
        """Energies of the periodic grid of the transforms: from 0 up, the last stretch standing for losses < 0."""
        m = self.microscope
        top = max(self.low_energy_eV[-1], self.core_energy_eV[-1], 800.0)
        size = next_fast_len(int(np.ceil((1.15 * top + 110.0) / m.dispersion_eV)), real=True)
        return m.dispersion_eV * np.arange(size)

    def _cut(self, spectra, which: str):
        """Values of spectra on the grid at the channels of one axis."""
        m = self.microscope
        first = round({"low": m.low_start_eV, "core": m.core_start_eV}[which] / m.dispersion_eV)
        return spectra[..., (first + np.arange(m.channels)) % self._grid.size]

    def energy_eV(self, which: str) -> np.ndarray:
        """Energy axis: ``"low"``, ``"core"``, or the axis that holds an edge (``"M2,3"``, ``"L2,3"``, ``"K"``)."""
        which = self.which(which)
        return self.low_energy_eV if which == "low" else self.core_energy_eV

    @staticmethod
    def which(name: str) -> str:
        table = {
            "low": "low",
            "core": "core",
            "M2,3": "low",
            "M1": "low",
            "valence": "low",
            "L2,3": "core",
            "K": "core",
        }
        if name not in table:
            raise ValueError(f"edge must be one of {sorted(table)}, got {name!r}")
        return table[name]

    # ------------------------------------------------------------------ single scattering

    @cached_property
    def _single(self) -> dict:
        """{phase: {component: counts per channel, nm and electron on the grid}}, before any blur."""
        return {p: self._phase_components(scattering.MATERIALS[p]) for p in self.phases}

    def _phase_components(self, material) -> dict:
        m = self.microscope
        e = self._grid
        safe = np.maximum(e, m.dispersion_eV / 2)
        top = max(self.core_energy_eV[-1], self.low_energy_eV[-1]) * 1.05
        cut = np.where((e > 0) & (e < top), 1.0, 0.0)

        def sigma(dfde, **angles):
            return scattering.differential_cross_section(dfde, safe, **{**m.angles, **angles}) * m.dispersion_eV * cut

        edges = {"Fe": ("M2,3", "L2,3"), "O": ("K",), "C": ("K",)}
        table = np.maximum(e, 10.5)
        out = dict.fromkeys(COMPONENTS, np.zeros_like(e))
        tail = np.zeros_like(e)
        for element, density in material.atoms_per_nm3.items():
            rest = scattering.oscillator_strength(element, table)
            for edge in edges[element]:
                rest = rest - scattering.edge_oscillator_strength(element, edge, table)
                if element == "C":
                    strength = scattering.edge_oscillator_strength(element, edge, table)
                    tail = tail + density * sigma(strength)  # C-K lies on neither axis: only its tail counts
                else:
                    out[edge] = out[edge] + density * sigma(scattering.near_edge(element, edge, e, material))
            if element == "Fe":
                past = scattering.edge_oscillator_strength(element, "M2,3", np.maximum(e, 60.0))
                rise = 0.5 + np.arctan((e - scattering.M1_ONSET_EV - 2) / 1.5) / np.pi
                out["M1"] = density * sigma(scattering.M1_SHARE * past * rise * (e > 80))
                out["M2,3"] = out["M2,3"] - out["M1"]  # the table's strength holds both
            tail = tail + density * sigma(np.maximum(rest, 0), bethe_ridge=True)
        # Valence: a loss function of a few Drude terms below, the table (cut at the Bethe ridge, as the mean free
        # path is) above, handed over between 29 and 41 eV. The mean free path, which counts the edges too, sets
        # the scale.
        drude = sum(w * safe * g * ep**2 / ((safe**2 - ep**2) ** 2 + (safe * g) ** 2) for w, ep, g in material.plasmon)
        drude = drude * scattering.angular_factor(safe, **{**m.angles, "bethe_ridge": True}) * cut
        over = np.clip((e - 29.0) / 12.0, 0, 1)
        over = over * over * (3 - 2 * over)
        path = scattering.inelastic_mean_free_path(
            material.density_g_cm3,
            beam_energy_keV=m.beam_energy_keV,
            collection_mrad=m.collection_mrad,
            convergence_mrad=m.convergence_mrad,
        )
        left = 1 / path - sum(v.sum() for v in out.values()) - (tail * over).sum()
        out["valence"] = tail * over + drude * (1 - over) * left / (drude * (1 - over)).sum()
        return out

    @cached_property
    def mean_free_path_nm(self) -> np.ndarray:
        """Inelastic mean free path of each phase into the aperture, nm."""
        return np.array([1 / sum(v.sum() for v in self._single[p].values()) for p in self.phases])

    def _zero_loss_peak(self, shift_eV=0.0) -> np.ndarray:
        """Transform of the zero-loss peak of unit area, centred at `shift_eV` (...), integrated over each channel.

        Made in real space: a peak as narrow as a few channels would ring if it were cut off in frequency.
        """
        m, size = self.microscope, self._grid.size
        index = np.arange(size)
        loss = m.dispersion_eV * np.where(index < size - round(100 / m.dispersion_eV), index, index - size)
        x = loss - np.asarray(shift_eV, dtype=float)[..., None]
        sigma, half = m.energy_resolution_eV / np.sqrt(8 * np.log(2)), m.dispersion_eV / 2
        if m.zero_loss_tail_eV:
            peak = voigt_profile(x, sigma, m.zero_loss_tail_eV / 2)
            peak /= peak.sum(axis=-1, keepdims=True)
        else:
            peak = np.zeros(x.shape)
            near = np.abs(x) < 9 * sigma + half
            peak[near] = ndtr((x[near] + half) / sigma) - ndtr((x[near] - half) / sigma)
        return rfft(peak, axis=-1)

    @cached_property
    def _zero_loss(self) -> np.ndarray:
        return self._zero_loss_peak()

    @cached_property
    def _transforms(self) -> np.ndarray:
        """(P, component, frequency) transforms of the single-scattering distributions."""
        return np.stack([[rfft(self._single[p][c]) for c in COMPONENTS] for p in self.phases])

    def reference(self, phase: str, edge: str) -> np.ndarray:
        """Single-scattering reference of an edge (or ``"valence"``), counts per channel, nm and electron.

        On the energy axis of the edge (`energy_eV(edge)`), with the resolution of the zero-loss peak.
        """
        self._check(phase)
        which = self.which(edge)
        k = COMPONENTS.index(edge)
        spectrum = irfft(self._zero_loss * self._transforms[self.phases.index(phase), k], self._grid.size)
        return self._cut(spectrum, which)

    def references(self, edge: str) -> np.ndarray:
        """`reference` of every phase, ``(P, E)``."""
        return np.stack([self.reference(p, edge) for p in self.phases])

    def _check(self, phase):
        if phase not in self.phases:
            raise ValueError(f"phase must be one of {self.phases}, got {phase!r}")

    # ------------------------------------------------------------------ spectra

    def _thickness(self, thickness_nm) -> np.ndarray:
        t = np.asarray(thickness_nm, dtype=float)
        if t.ndim == 0 or t.shape[-1] != len(self.phases):
            raise ValueError(f"thickness_nm must end in an axis of {len(self.phases)} phases, got shape {t.shape}")
        if not np.isfinite(t).all():
            raise ValueError("thickness_nm must be finite, got NaN or infinity")
        return t

    def _log_spectrum(self, thickness: np.ndarray) -> np.ndarray:
        """sum of t s(nu) - t s(0); thickness (..., P) or, for blurred components, (..., P, component)."""
        s = self._transforms
        if thickness.shape[-1] == len(self.phases):
            flat = s.sum(axis=1)
        else:
            flat = s.reshape(-1, s.shape[-1])
        return thickness @ (flat - flat[:, :1])

    def _spectrum(self, thickness: np.ndarray, shift_eV=None, ranges: Sequence[str] = ("low", "core")):
        log = self._log_spectrum(thickness)
        zero_loss = self._zero_loss if shift_eV is None else self._zero_loss_peak(shift_eV)
        spectrum = (np.exp(log) if self.plural else 1 + log) * zero_loss
        full = irfft(spectrum, self._grid.size, axis=-1)
        return [np.maximum(self._cut(full, r), 0.0) for r in ranges]

    def expected(self, thickness_nm, which: str = "low", *, shift_eV=None) -> np.ndarray:
        """Expected counts per channel for one incident electron, ``(..., E)``.

        Parameters
        ----------
        thickness_nm
            ``(..., P)`` thickness of each phase.
        which
            ``"low"`` or ``"core"``, or an edge.
        shift_eV
            Energy drift, one value a spectrum.
        """
        return self._spectrum(self._thickness(thickness_nm), shift_eV, (self.which(which),))[0]

    def derivative(self, thickness_nm, edge: str) -> np.ndarray:
        """Change of `expected` with the amount of one edge of each phase, ``(..., P, E)`` per nm and electron.

        The reference as it looks through the specimen: plural scattering and resolution included.
        """
        t = self._thickness(thickness_nm)
        which, k = self.which(edge), COMPONENTS.index(edge)
        through = np.exp(self._log_spectrum(t)) if self.plural else np.ones((*t.shape[:-1], 1))
        s = self._transforms[:, k]
        spectrum = (through * self._zero_loss)[..., None, :] * s
        return self._cut(irfft(spectrum, self._grid.size, axis=-1), which)

    def background(self, thickness_nm, edge: str) -> np.ndarray:
        """`expected` less what one edge adds to it to first order, ``(..., E)``."""
        t = self._thickness(thickness_nm)
        return self.expected(t, edge) - np.einsum("...p,...pe->...e", t, self.derivative(t, edge))


def spectrum_model(microscope: Microscope | None = None, *, phases=PHASES, plural: bool = True, **settings):
    """`SpectrumModel` of a microscope, or of the default one with some settings changed.

    Examples
    --------
    >>> model = spectrum_model(collection_mrad=20.0)
    >>> model.reference("FeO", "L2,3").shape
    (1024,)
    """
    if microscope is not None and settings:
        raise ValueError(f"settings must be empty where a microscope is given, got {sorted(settings)}")
    return SpectrumModel(microscope or Microscope(**settings), tuple(phases), plural)


def dual_eels(
    projections_nm,
    fluence_e_per_A2,
    *,
    tilt_angles_deg=None,
    pixel_size_nm: float = 0.4,
    microscope: Microscope | None = None,
    detector: Detector | None = None,
    carbon_nm: float = 0.0,
    plural: bool = True,
    delocalisation: bool = True,
    drift_eV: float = 0.0,
    noise: bool = True,
    seed: int | np.random.Generator = 0,
    lazy: bool = False,
    chunk_pixels: int = 1024,
    dtype="float32",
    progress: bool | None = None,
):
    """Dual EELS of every pixel of a tilt series: low loss (with Fe-M2,3) and core loss (O-K, Fe-L2,3).

    Parameters
    ----------
    projections_nm
        ``(P, T, Y, X)`` or ``(P, Y, X)`` line integrals of the volume fractions of FeO and Fe3O4, nm.
    fluence_e_per_A2
        Electrons per Å² and tilt of each of the two exposures; a pair ``(low, core)`` sets them apart.
    tilt_angles_deg
        One for each tilt; written to ``metadata.Tomography.tilts``.
    pixel_size_nm
        Side of a pixel: with the fluence it sets the electrons, with the delocalisation the blur.
    microscope, detector
        Defaults: 300 kV, 20 and 40 mrad, 0.7 eV, 2 × 1024 channels of 0.25 eV; a camera that counts electrons.
    carbon_nm
        Thickness of an amorphous carbon support at 0°; it grows as 1/cos(tilt).
    plural
        Plural scattering (Fourier-log); False: single scattering.
    delocalisation
        Blur of each component's maps by a Gaussian whose FWHM is Egerton's d50 at its energy.
    drift_eV
        rms of a slow wander of the energy axis over each scan (the same in both ranges).
    noise
        False: expected counts, still with gain and point spread, without shot and readout noise or spikes.
    seed
        Same seed, same counts, lazy or not, whatever `chunk_pixels`.
    lazy
        Give lazy signals: pixels are made when they are computed or written, in chunks.
    chunk_pixels
        Pixels made at once (rounded to whole rows); 1024 take about 150 MB.
    dtype
        Type of the counts.
    progress
        Show a bar; default: unless ``SOFTEELS_HEADLESS`` is set.

    Returns
    -------
    low_loss, core_loss : exspy.signals.EELSSpectrum
        ``(T, Y, X | E)``, or ``(Y, X | E)`` for one projection; beam energy and angles in the metadata.

    Raises
    ------
    ValueError
        For projections of the wrong shape, negative or not finite, tilts that do not match, a bad fluence.

    Notes
    -----
    Electrons scattered elastically past the aperture are not taken off, and the gain of a real camera is not
    uniform. The shapes are multiplet-motivated, not measured (see `scattering`).
    """
    maps = np.asarray(projections_nm, dtype=float)
    if maps.ndim not in (3, 4) or maps.shape[0] != len(PHASES):
        raise ValueError(f"projections_nm must be (2, T, Y, X) or (2, Y, X), channels {PHASES}, got shape {maps.shape}")
    if not np.isfinite(maps).all() or maps.min(initial=0) < 0:
        raise ValueError("projections_nm must be finite and not negative, got NaN, infinity or a negative value")
    single = maps.ndim == 3
    maps = maps[:, None] if single else maps
    tilts = np.zeros(maps.shape[1]) if tilt_angles_deg is None else np.asarray(tilt_angles_deg, dtype=float)
    tilts = np.atleast_1d(tilts)
    if tilts.shape != (maps.shape[1],) or not np.isfinite(tilts).all():
        raise ValueError(f"tilt_angles_deg must hold {maps.shape[1]} finite tilts, got {tilt_angles_deg!r}")
    fluence = np.broadcast_to(np.asarray(fluence_e_per_A2, dtype=float), (2,))
    if not np.isfinite(fluence).all() or (fluence <= 0).any():
        raise ValueError(f"fluence_e_per_A2 must be positive, got {fluence_e_per_A2!r}")
    for name, value in (("carbon_nm", carbon_nm), ("drift_eV", drift_eV)):
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be finite and not negative, got {value!r}")
    if not (np.isfinite(pixel_size_nm) and pixel_size_nm > 0):
        raise ValueError(f"pixel_size_nm must be positive, got {pixel_size_nm!r}")
    if chunk_pixels < 1:
        raise ValueError(f"chunk_pixels must be at least 1, got {chunk_pixels!r}")
    microscope, detector = microscope or Microscope(), detector or Detector()

    phases = PHASES
    if carbon_nm:
        support = np.broadcast_to(carbon_nm / np.cos(np.deg2rad(tilts))[:, None, None], maps.shape[1:])
        maps, phases = np.concatenate([maps, support[None]]), (*PHASES, "carbon")
    model = SpectrumModel(microscope, phases, plural)
    n_tilts, height, width = maps.shape[1:]
    thickness = np.moveaxis(maps, 0, -1)
    if delocalisation:
        thickness = np.concatenate(
            [_blur(maps, microscope, component, pixel_size_nm)[..., None] for component in COMPONENTS], axis=-1
        )  # (P, T, Y, X, component)
        thickness = np.moveaxis(thickness, 0, -2).reshape(n_tilts, height, width, -1)
    else:
        thickness = np.repeat(thickness, len(COMPONENTS), axis=-1)

    root = np.random.SeedSequence(seed) if not isinstance(seed, np.random.Generator) else seed.bit_generator.seed_seq
    drift_seed, *row_seeds = root.spawn(1 + n_tilts * height)
    drift = None
    if drift_eV:
        walk = np.random.default_rng(drift_seed).standard_normal((n_tilts, height * width)).cumsum(axis=1)
        walk -= walk.mean(axis=1, keepdims=True)
        drift = drift_eV * (walk / np.maximum(walk.std(axis=1, keepdims=True), 1e-12)).reshape(thickness.shape[:3])
    electrons = fluence * (10 * pixel_size_nm) ** 2

    def record(first_row: int, last_row: int, ranges=("low", "core")) -> list[np.ndarray]:
        """Counts of some rows of the stack of all tilts, (rows, X, E), one array a range."""
        rows = slice(first_row, last_row)
        t = thickness.reshape(-1, width, thickness.shape[-1])[rows]
        shift = None if drift is None else drift.reshape(-1, width)[rows]
        spectra = model._spectrum(t, shift, ranges)
        out = []
        for name, spectrum in zip(ranges, spectra, strict=True):
            k = ("low", "core").index(name)
            spectrum *= electrons[k]
            for row, values in enumerate(spectrum):
                # a generator for each row and range: the draws do not depend on the chunks
                rng = np.random.default_rng([*row_seeds[first_row + row].generate_state(4), k])
                values[...] = _detect(values, detector, rng if noise else None)
            out.append(spectrum.astype(dtype))
        return out

    rows = max(1, chunk_pixels // width)
    edges = [*range(0, n_tilts * height, rows), n_tilts * height]
    shape = (n_tilts * height, width, microscope.channels)
    if lazy:
        data = [_lazy_rows(record, edges, name, shape, dtype) for name in ("low", "core")]
    else:
        from os import environ

        from tqdm.auto import tqdm

        hide = environ.get("SOFTEELS_HEADLESS") == "1" if progress is None else not progress
        data = [np.empty(shape, dtype=dtype) for _ in range(2)]
        for a, b in tqdm(list(pairwise(edges)), desc="dual EELS", disable=hide):
            for whole, part in zip(data, record(a, b), strict=True):
                whole[a:b] = part
    stack = (height, width) if single else (n_tilts, height, width)
    starts = (float(model.low_energy_eV[0]), float(model.core_energy_eV[0]))
    facts = {
        "fluence_e_per_A2": fluence.tolist(),
        "pixel_size_nm": pixel_size_nm,
        "simulated": True,
        "seed": None if isinstance(seed, np.random.Generator) else int(seed),
    }
    return tuple(
        _signal(d.reshape(*stack, -1), start, title, microscope, pixel_size_nm, tilts, single, facts, lazy)
        for d, start, title in zip(data, starts, ("Low loss (simulated)", "Core loss (simulated)"), strict=True)
    )


def _blur(maps, microscope: Microscope, component: str, pixel_size_nm: float) -> np.ndarray:
    d50 = scattering.delocalisation_nm(
        _BLUR_ENERGY_EV[component],
        beam_energy_keV=microscope.beam_energy_keV,
        collection_mrad=microscope.collection_mrad,
    )
    sigma = d50 / np.sqrt(8 * np.log(2)) / pixel_size_nm
    return gaussian_filter(maps, (0, 0, sigma, sigma), mode="nearest")


def _detect(electrons: np.ndarray, detector: Detector, rng) -> np.ndarray:
    """Counts that a camera makes of expected electrons (..., E); rng None: no noise."""
    counts = electrons if rng is None else rng.poisson(electrons).astype(float)
    if detector.point_spread_channels:
        counts = gaussian_filter1d(counts, detector.point_spread_channels, axis=-1, mode="nearest")
    counts = counts * detector.gain
    if rng is not None and detector.readout_counts:
        counts = counts + rng.normal(0.0, detector.readout_counts, counts.shape)
    if rng is not None and detector.spike_rate:
        hit = rng.random(counts.shape) < detector.spike_rate
        counts[hit] += rng.exponential(detector.spike_counts, hit.sum())
    return counts


def _lazy_rows(record, edges, name, shape, dtype):
    import dask
    import dask.array as da

    make = dask.delayed(lambda a, b: record(a, b, (name,))[0], pure=False)
    return da.concatenate([da.from_delayed(make(a, b), (b - a, *shape[1:]), dtype=dtype) for a, b in pairwise(edges)])


def _signal(data, start, title, microscope, pixel_size_nm, tilts, single, facts, lazy):
    from exspy.signals import EELSSpectrum

    axes = [
        {"name": "y", "units": "nm", "scale": pixel_size_nm, "size": data.shape[-3]},
        {"name": "x", "units": "nm", "scale": pixel_size_nm, "size": data.shape[-2]},
        {
            "name": "Energy loss",
            "units": "eV",
            "offset": start,
            "scale": microscope.dispersion_eV,
            "size": data.shape[-1],
            "navigate": False,
        },
    ]
    if not single:
        axes.insert(0, {"name": "tilt", "units": "", "scale": 1.0, "size": data.shape[0]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signal = EELSSpectrum(data, axes=axes)
        if lazy:
            signal = signal.as_lazy()
        signal.set_microscope_parameters(
            beam_energy=microscope.beam_energy_keV,
            convergence_angle=microscope.convergence_mrad,
            collection_angle=microscope.collection_mrad,
        )
    signal.metadata.General.title = title
    signal.metadata.Signal.quantity = "Electrons (Counts)"
    signal.metadata.set_item("Tomography.tilts", tilts.tolist() if not single else [float(tilts[0])])
    signal.metadata.set_item("Simulation", facts)
    return signal
