"""What the microscope records: dual EELS of every tilt and pixel, with all that blurs it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from .. import scattering
from ..scattering import PHASES
from .spectrum import COMPONENTS, Microscope, SpectrumModel

# Energies at which each component's delocalisation is taken (eV).
_BLUR_ENERGY_EV = {"valence": 22.0, "M2,3": 57.0, "M1": 95.0, "K": 540.0, "L2,3": 712.0}


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
    with warnings.catch_warnings():  # importing HyperSpy warns of its own deprecations
        warnings.simplefilter("ignore")
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
