"""What the microscope records: dual EELS of every tilt and pixel, with all that blurs it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy.ndimage import gaussian_filter

from ..checks import (
    check_count,
    check_flag,
    check_kind,
    check_not_negative,
    check_positive,
    check_seed,
    check_tilts,
    describe,
    finite_array,
)
from ..doors import checked
from ..progress import progress_bar
from ..scattering import System, delocalisation_nm
from ..spectra import FWHM_PER_SIGMA
from .detector import Detector
from .spectrum import AXES, COMPONENTS, Microscope, SpectrumModel

if TYPE_CHECKING:
    from exspy.signals import EELSSpectrum

__all__ = ["dual_eels"]

VALENCE_EV = 22.0  # at which the delocalisation of the valence losses is taken


@checked
def dual_eels(
    projections_nm: ArrayLike,
    fluence_e_per_A2: float | tuple[float, float],
    *,
    tilt_angles_deg: ArrayLike | None = None,
    pixel_size_nm: float = 0.4,
    system: System | str | None = None,
    phases: Sequence[str] | None = None,
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
    dtype: DTypeLike = "float32",
    progress: bool | None = None,
) -> tuple[EELSSpectrum, EELSSpectrum]:
    """Dual EELS of every pixel of a tilt series: low loss (with M2,3) and core loss (O-K, L2,3).

    Parameters
    ----------
    projections_nm
        ``(P, T, Y, X)`` or ``(P, Y, X)`` line integrals of the volume fractions of each phase, nm.
    fluence_e_per_A2
        Electrons per Å² and tilt of each of the two exposures; a pair ``(low, core)`` sets them separately.
    tilt_angles_deg
        One for each tilt; written to ``metadata.Tomography.tilts``.
    pixel_size_nm
        Side of a pixel: with the fluence it sets the number of electrons, with the delocalisation the blur.
    system
        A `scattering.System`, or the name or path of one; None: the iron oxides.
    phases
        Names of the P phases of the system; None: its channels (FeO and Fe3O4).
    microscope, detector
        Defaults: 300 kV, 20 and 40 mrad, 0.7 eV, 2 × 1024 channels of 0.25 eV; a camera that counts electrons.
    carbon_nm
        Thickness of an amorphous carbon support at 0°; it grows as 1/cos(tilt).
    plural
        Include plural scattering (Fourier-log); False: single scattering only.
    delocalisation
        Blur each component's maps by a Gaussian whose FWHM is Egerton's d50 at its energy.
    drift_eV
        rms of a slow drift of the energy axis over each scan (the same on both axes).
    noise
        False: expected counts, still with gain and point spread, without shot and readout noise or spikes.
    seed
        Same seed, same counts, lazy or not, whatever `chunk_pixels`.
    lazy
        Return lazy signals: pixels are simulated in chunks when they are computed or written.
    chunk_pixels
        Pixels simulated at once (rounded to whole rows); 1024 take about 150 MB.
    dtype
        Type of the counts.
    progress
        Show a progress bar; default: unless ``SOFTEELS_HEADLESS`` is set.

    Returns
    -------
    low_loss, core_loss : exspy.signals.EELSSpectrum
        ``(T, Y, X | E)``, or ``(Y, X | E)`` for one projection; beam energy and angles in the metadata.

    Raises
    ------
    ValueError
        For projections of the wrong shape, negative or not finite, tilts that do not match, or a fluence that is not
        positive.

    Notes
    -----
    Electrons scattered elastically beyond the aperture are not subtracted, and the camera's gain is taken as uniform,
    which that of a real one is not. The near-edge shapes are motivated by multiplets, not measured (see `scattering`).
    """
    model = SpectrumModel(Microscope() if microscope is None else microscope, phases, plural, system)
    detector = Detector() if detector is None else check_kind(detector, "detector", Detector)
    for name, flag in {"delocalisation": delocalisation, "noise": noise, "lazy": lazy}.items():
        check_flag(flag, name)
    dtype = _checked_dtype(dtype)
    maps = _checked_projections(projections_nm, model.phases)
    has_tilts = maps.ndim == 4
    maps = maps if has_tilts else maps[:, None]
    tilts = _checked_tilts(tilt_angles_deg, maps.shape[1])
    fluence = finite_array(fluence_e_per_A2, "fluence_e_per_A2")
    if fluence.shape not in ((), (1,), (2,)) or (fluence < 1e-15).any():
        raise ValueError(f"fluence_e_per_A2: got {fluence_e_per_A2!r}, wants a positive number, or two")
    fluence = np.broadcast_to(fluence, (2,))
    check_not_negative(carbon_nm=carbon_nm, drift_eV=drift_eV)
    check_positive(pixel_size_nm=pixel_size_nm)
    check_count(chunk_pixels, "chunk_pixels")
    check_seed(seed, generator=True)
    if carbon_nm:
        maps, model = _with_support(maps, carbon_nm, tilts), replace(model, phases=(*model.phases, "carbon"))
    n_tilts, height, width = maps.shape[1:]
    drift_seed, *row_seeds = _seed_sequence(seed).spawn(1 + n_tilts * height)
    scan = _Scan(
        model=model,
        detector=detector,
        thickness_nm=_component_thickness(maps, model, pixel_size_nm if delocalisation else None),
        shift_eV=_energy_drift(drift_eV, (n_tilts, height, width), drift_seed) if drift_eV else None,
        electrons=fluence * (10 * pixel_size_nm) ** 2,
        seeds=row_seeds,
        noise=noise,
        dtype=dtype,
    )
    rows = max(1, chunk_pixels // width)
    data = scan.lazy(rows) if lazy else scan.compute(rows, progress)
    facts = {
        "fluence_e_per_A2": fluence.tolist(),
        "pixel_size_nm": pixel_size_nm,
        "system": model.system.name,
        "phases": list(model.phases),
        "simulated": True,
        "seed": None if isinstance(seed, np.random.Generator) else int(seed),
    }
    stack = (n_tilts, height, width) if has_tilts else (height, width)
    low, core = (counts.reshape(*stack, -1) for counts in data)
    return _signal(low, scan.model, "low", tilts, facts), _signal(core, scan.model, "core", tilts, facts)


def _checked_projections(projections_nm: ArrayLike, phases: tuple[str, ...]) -> NDArray:
    maps = finite_array(projections_nm, "projections_nm")
    if maps.ndim not in (3, 4) or maps.shape[0] != len(phases) or not maps.size:
        count = len(phases)
        raise ValueError(
            f"projections_nm: got shape {maps.shape}, wants ({count}, T, Y, X) or ({count}, Y, X), one of each of the "
            f"phases {phases}"
        )
    if maps.min(initial=0) < 0:
        raise ValueError("projections_nm: got a negative value, wants values of at least 0")
    return maps


def _checked_dtype(dtype: DTypeLike) -> DTypeLike:
    try:
        kind = np.dtype(dtype).kind
    except TypeError:
        kind = ""
    if dtype is None or kind not in tuple("fiu"):
        raise ValueError(f"dtype: got {describe(dtype)}, wants a type of real numbers")
    return dtype


def _checked_tilts(tilt_angles_deg: ArrayLike | None, n_tilts: int) -> NDArray:
    if tilt_angles_deg is None:
        return np.zeros(n_tilts)
    tilts = [tilt_angles_deg] if np.isscalar(tilt_angles_deg) else tilt_angles_deg
    return check_tilts(tilts, n_tilts, series=False)


def _with_support(maps: NDArray, carbon_nm: float, tilts: NDArray) -> NDArray:
    """Maps (P + 1, T, Y, X), the last the thickness of a support film along the beam."""
    support = np.broadcast_to(carbon_nm / np.cos(np.deg2rad(tilts))[:, None, None], maps.shape[1:])
    return np.concatenate([maps, support[None]])


def _component_thickness(maps: NDArray, model: SpectrumModel, pixel_size_nm: float | None) -> NDArray:
    """(T * Y, X, P * component): maps as each component sees them, blurred unless the pixel size is None."""
    blurred = np.stack([_blur(maps, model, c, pixel_size_nm) for c in COMPONENTS], axis=-1)
    return np.moveaxis(blurred, 0, -2).reshape(-1, maps.shape[-1], len(maps) * len(COMPONENTS))


def _blur(maps: NDArray, model: SpectrumModel, component: str, pixel_size_nm: float | None) -> NDArray:
    if pixel_size_nm is None:
        return maps
    d50 = delocalisation_nm(
        VALENCE_EV if component == "valence" else model.system.edge(component).signal_eV,
        beam_energy_keV=model.microscope.beam_energy_keV,
        collection_mrad=model.microscope.collection_mrad,
    )
    sigma = d50 / FWHM_PER_SIGMA / pixel_size_nm
    return gaussian_filter(maps, (0, 0, sigma, sigma), mode="nearest")


def _seed_sequence(seed: int | np.random.Generator) -> np.random.SeedSequence:
    return seed.bit_generator.seed_seq if isinstance(seed, np.random.Generator) else np.random.SeedSequence(seed)


def _energy_drift(rms_eV: float, shape: tuple[int, int, int], seed: np.random.SeedSequence) -> NDArray:
    """(T * Y, X) random walk of the energy axis over each scan (T, Y, X), with zero mean and this rms."""
    n_tilts, height, width = shape
    walk = np.random.default_rng(seed).standard_normal((n_tilts, height * width)).cumsum(axis=1)
    walk -= walk.mean(axis=1, keepdims=True)
    return rms_eV * (walk / np.maximum(walk.std(axis=1, keepdims=True), 1e-12)).reshape(-1, width)


@dataclass(frozen=True)
class _Scan:
    """All that fixes the counts of a series, row by row of the stack of all tilts.

    Attributes
    ----------
    thickness_nm : (rows, X, P * component)
    shift_eV : (rows, X) or None
    electrons : (2,)
        Incident electrons per pixel, low loss and core loss.
    seeds
        One for each row.
    """

    model: SpectrumModel
    detector: Detector
    thickness_nm: NDArray
    shift_eV: NDArray | None
    electrons: NDArray
    seeds: Sequence[np.random.SeedSequence]
    noise: bool
    dtype: DTypeLike

    @property
    def shape(self) -> tuple[int, int, int]:
        return (*self.thickness_nm.shape[:2], self.model.microscope.channels)

    def record(self, first: int, last: int, axes: Sequence[str] = AXES) -> list[NDArray]:
        """Counts (rows, X, E) of some rows, one array for each of the axes."""
        shift = None if self.shift_eV is None else self.shift_eV[first:last]
        expected = self.model.spectra(self.thickness_nm[first:last], shift, axes)
        return [self._detect(spectra, first, AXES.index(axis)) for axis, spectra in zip(axes, expected, strict=True)]

    def _detect(self, spectra: NDArray, first: int, axis: int) -> NDArray:
        spectra *= self.electrons[axis]
        for row, values in enumerate(spectra):
            # a generator for each row and axis: the draws do not depend on the chunks
            rng = np.random.default_rng([*self.seeds[first + row].generate_state(4), axis]) if self.noise else None
            values[...] = self.detector.record(values, rng)
        return spectra.astype(self.dtype)

    def _chunks(self, rows: int) -> list[tuple[int, int]]:
        return list(pairwise([*range(0, self.shape[0], rows), self.shape[0]]))

    def compute(self, rows: int, progress: bool | None) -> list[NDArray]:
        """Low-loss and core-loss counts, some rows at a time."""
        data = [np.empty(self.shape, dtype=self.dtype) for _ in AXES]
        for first, last in progress_bar(self._chunks(rows), show=progress, desc="dual EELS"):
            for whole, part in zip(data, self.record(first, last), strict=True):
                whole[first:last] = part
        return data

    def lazy(self, rows: int) -> list[Any]:
        """The same as Dask arrays, made chunk by chunk."""
        import dask
        import dask.array as da

        record = dask.delayed(lambda first, last, axis: self.record(first, last, (axis,))[0], pure=False)
        return [
            da.concatenate(
                [
                    da.from_delayed(record(first, last, axis), (last - first, *self.shape[1:]), dtype=self.dtype)
                    for first, last in self._chunks(rows)
                ]
            )
            for axis in AXES
        ]


def _signal(data: Any, model: SpectrumModel, axis: str, tilts: NDArray, facts: dict[str, Any]) -> EELSSpectrum:
    """HyperSpy signal of counts ([T,] Y, X, E) with axes and metadata; lazy where the data are a Dask array."""
    with warnings.catch_warnings():  # importing HyperSpy warns of its own deprecations
        warnings.simplefilter("ignore")
        from exspy.signals import EELSSpectrum

    microscope, pixel_size_nm = model.microscope, facts["pixel_size_nm"]
    axes = [
        {"name": "tilt", "units": "", "scale": 1.0},
        {"name": "y", "units": "nm", "scale": pixel_size_nm},
        {"name": "x", "units": "nm", "scale": pixel_size_nm},
        {
            "name": "Energy loss",
            "units": "eV",
            "offset": float(model.energy_eV(axis)[0]),
            "scale": microscope.dispersion_eV,
            "navigate": False,
        },
    ][-data.ndim :]
    axes = [{**a, "size": size} for a, size in zip(axes, data.shape, strict=True)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signal = EELSSpectrum(data, axes=axes)
        if not isinstance(data, np.ndarray):
            signal = signal.as_lazy()
        signal.set_microscope_parameters(
            beam_energy=microscope.beam_energy_keV,
            convergence_angle=microscope.convergence_mrad,
            collection_angle=microscope.collection_mrad,
        )
    signal.metadata.General.title = {"low": "Low loss (simulated)", "core": "Core loss (simulated)"}[axis]
    signal.metadata.Signal.quantity = "Electrons (Counts)"
    signal.metadata.set_item("Tomography.tilts", tilts.tolist())
    signal.metadata.set_item("Simulation", facts)
    return signal
