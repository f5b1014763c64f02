"""Prepared dual EELS: aligned, without spikes, single scattering; and where in it the specimen is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from ..checks import (
    check_flag,
    check_kind,
    check_mask,
    check_not_negative,
    check_number,
    check_positive,
    check_window,
)
from ..doors import checked
from ..scattering import System, as_system, microscope_from_metadata
from ..spectra import (
    align_zero_loss,
    cut_off_fraction,
    energy_axis,
    find_bad_channels,
    find_rare_spikes,
    fourier_log,
    fourier_ratio,
    in_window,
    mend_channels,
    remove_spikes,
    zero_loss,
    zero_loss_position,
)
from ..spectra.arrays import check_spectra, step_nm
from .line import neighbours

__all__ = [
    "DualEELS",
    "Specimen",
    "exposure_s",
    "find_specimen",
    "known_m23",
    "known_pixel_size",
    "prepare_dual_eels",
    "stated_exposure_ratio",
]

BEAM_KEV = 1.0, 1e4  # beyond, the energy is not in keV
DETECTOR, EXPOSURE = "Acquisition_instrument.TEM.Detector.EELS", ("exposure", "dwell_time")
EXPOSURE_AGREES = 0.05  # relative: so far apart a given ratio and the stated one may be


@checked(low_loss="... E", core_loss="... E2", energy_eV="E", core_energy_eV="E2", variance="... W")
@dataclass(frozen=True)
class DualEELS:
    """Dual EELS as single-scattering probabilities, see `prepare_dual_eels`.

    Attributes
    ----------
    low_loss, core_loss : (..., E), (..., E2)
        Single scattering, probability per eV and electron: the whole low loss, and the core loss with its background.
    energy_eV, core_energy_eV : (E,), (E2,)
    electrons : float
        Mean number of electrons per pixel of the low loss.
    variance : (..., W)
        Of ``low_loss`` inside ``window_eV``, from counting statistics.
    window_eV : (float, float)
        Of M2,3 in the low loss.
    microscope : dict
        ``beam_energy_keV``, ``collection_mrad``, ``convergence_mrad``.
    system : System
        Whose edges are looked for.
    pixel_size_nm : float or None
        None where it is not known.
    exposure_ratio : float
        Electrons of the core loss over those of the low loss: as given, as the metadata state it, or 1.
    warnings : tuple of str
        What is wrong with the counts, or with what is stated of them, one sentence each.
    """

    low_loss: NDArray = field(repr=False)
    core_loss: NDArray = field(repr=False)
    energy_eV: NDArray = field(repr=False)
    core_energy_eV: NDArray = field(repr=False)
    electrons: float
    variance: NDArray = field(repr=False)
    window_eV: tuple[float, float]
    microscope: dict[str, float]
    system: System = field(repr=False)
    pixel_size_nm: float | None = None
    warnings: tuple[str, ...] = ()
    exposure_ratio: float = 1.0

    @property
    def in_window(self) -> NDArray:
        """Channels of the low loss inside ``window_eV``, bool (E,)."""
        return in_window(self.energy_eV, self.window_eV)

    def binned(self, factor: int) -> DualEELS:
        """Means over ``factor`` × ``factor`` pixels of each image, see `block_mean`."""
        means = {name: block_mean(getattr(self, name), factor) for name in ("low_loss", "core_loss", "variance")}
        means["variance"] = means["variance"] / factor**2
        electrons, size = self.electrons * factor**2, self.pixel_size_nm
        return replace(self, **means, electrons=electrons, pixel_size_nm=size and size * factor)


@checked
def prepare_dual_eels(
    low_loss: ArrayLike,
    core_loss: ArrayLike,
    *,
    system: System | str | None = None,
    energy_eV: ArrayLike | None = None,
    core_energy_eV: ArrayLike | None = None,
    beam_energy_keV: float | None = None,
    collection_mrad: float | None = None,
    convergence_mrad: float | None = None,
    exposure_ratio: float | None = None,
    spikes: bool = True,
    gain: float = 1.0,
    window_eV: tuple[float, float] | None = None,
    pixel_size_nm: float | None = None,
) -> DualEELS:
    """Align, clean and deconvolve dual EELS to single-scattering probabilities per eV and electron.

    The low loss is deconvolved by Fourier-log, the core loss, its background included, by Fourier-ratio. Channels that
    are dead or hot in all low-loss spectra are interpolated, where M2,3 is.

    Parameters
    ----------
    low_loss, core_loss : (..., E), (..., E2) HyperSpy signals or arrays
        Counts, from the same pixels. The low loss has the zero loss and M2,3, the core loss L2,3 and (better) O-K.
    system : System or str, optional
        Whose edges are looked for; by default the iron oxides.
    energy_eV, core_energy_eV : (E,), (E2,)
        For plain arrays.
    beam_energy_keV, collection_mrad, convergence_mrad : float, optional
        By default from the metadata of ``core_loss``; the convergence is 0 where that does not state it.
    exposure_ratio : float, optional
        Electrons of the core loss over those of the low loss; by default that of the exposure times that both signals
        state (`stated_exposure_ratio`), else 1. One that is far from theirs is warned of.
    spikes : bool
        Remove spikes.
    gain : float
        Counts per electron.
    window_eV : (float, float), optional
        Of the low loss, for M2,3; by default that of the system.
    pixel_size_nm : float, optional
        By default that of the axes of ``core_loss``. Without it, nothing is known of the delocalisation in pixels.

    Raises
    ------
    ValueError
        For axes without zero loss or M2,3, pixels that disagree, counts that are not finite, an unknown microscope.
    """
    system = as_system(system)
    window_eV, _ = known_m23(system, window_eV)
    check_flag(spikes, "spikes")
    microscope = _microscope(core_loss, beam_energy_keV, collection_mrad, convergence_mrad)
    check_positive(gain=gain)
    exposure_ratio, doubts = _known_exposure(low_loss, core_loss, exposure_ratio)
    pixel_size_nm = known_pixel_size(core_loss, pixel_size_nm)
    energy = energy_axis(low_loss, energy_eV, of="low_loss")
    core_energy = energy_axis(core_loss, core_energy_eV, name="core_energy_eV", of="core_loss")
    if not core_energy[0] > 0:
        raise ValueError(f"core_loss: got energies from {core_energy[0]:g} eV, wants those of {system.metal}-L2,3")
    low, core = _checked_counts(low_loss, core_loss, energy, window_eV)
    low, told = _mended(low, energy, window_eV, gain)
    low, core = align_zero_loss(low, core, energy_eV=energy, others_energy_eV=core_energy)
    if spikes:
        low = np.where(energy > 10, remove_spikes(low, mask=find_rare_spikes(low, gain=gain)), low)
        core = remove_spikes(core, mask=find_rare_spikes(core, gain=gain))
    direct = zero_loss(low, energy).sum(-1, keepdims=True)
    if not (direct > 0).all():
        raise ValueError(f"low_loss: got no zero loss in {int((direct <= 0).sum())} pixels, wants one in each")
    step, core_step = energy[1] - energy[0], core_energy[1] - core_energy[0]
    counts = ndimage.uniform_filter1d(low[..., in_window(energy, window_eV)], 9, axis=-1)
    return DualEELS(
        low_loss=fourier_log(low, energy) / (direct * step),
        core_loss=_deconvolve_core(core, low, core_energy, energy) / (direct * exposure_ratio * core_step),
        energy_eV=energy,
        core_energy_eV=core_energy,
        electrons=float(low.sum(-1).mean() / gain),
        variance=gain * np.maximum(counts, gain) / (direct * step) ** 2,
        window_eV=tuple(window_eV),
        microscope=microscope,
        system=system,
        pixel_size_nm=pixel_size_nm,
        exposure_ratio=exposure_ratio,
        warnings=(*doubts, *told),
    )


def known_m23(
    system: System, window_eV: tuple[float, float] | None = None, onset_eV: float | None = None
) -> tuple[tuple[float, float], float]:
    """Window and onset of M2,3 in the low loss: as given, or as the system's file states them."""
    known = system.edge("M2,3").standards
    if not known:
        raise ValueError(f"system: got {system.name!r}, without standards of M2,3, wants them in its file")
    if window_eV is None:
        window_eV = known["window_eV"]
    low, high = check_window(window_eV)
    if not low < known["onset_eV"] < high:
        raise ValueError(f"window_eV: got {window_eV!r}, wants it around the onset of M2,3, {known['onset_eV']:g} eV")
    if onset_eV is None:
        return window_eV, known["onset_eV"]
    check_number(onset_eV, "onset_eV", low, high)
    return window_eV, onset_eV


def known_pixel_size(core_loss: ArrayLike, pixel_size_nm: float | None = None) -> float | None:
    """Size of a pixel, nm: as given, or as the axes of an image state it."""
    if pixel_size_nm is not None:
        check_positive(pixel_size_nm=pixel_size_nm)
        return float(pixel_size_nm)
    axes = core_loss.axes_manager.navigation_axes if hasattr(core_loss, "axes_manager") else ()
    return step_nm(axes[0]) if len(axes) >= 2 else None


def exposure_s(signal: Any) -> float | None:
    """Time that each spectrum of a HyperSpy signal was exposed for, times its number of frames; None if not stated.

    The exposure, or where that is missing the dwell time, of the detector's metadata.
    """
    if not hasattr(signal, "metadata"):
        return None
    stated = {key: signal.metadata.get_item(f"{DETECTOR}.{key}", default=None) for key in EXPOSURE}
    times = [value for value in stated.values() if isinstance(value, Real) and 0 < value < np.inf]
    frames = signal.metadata.get_item(f"{DETECTOR}.frame_number", default=1)
    frames = frames if isinstance(frames, Real) and 0 < frames < np.inf else 1
    return float(times[0] * frames) if times else None


@checked
def stated_exposure_ratio(low_loss: Any, core_loss: Any) -> float | None:
    """Exposure of the core loss over that of the low loss, where the metadata of both state it; else None."""
    low, core = exposure_s(check_spectra(low_loss, "low_loss")), exposure_s(check_spectra(core_loss, "core_loss"))
    return core / low if low and core else None


def _known_exposure(low_loss, core_loss, exposure_ratio):
    """The exposure ratio as given, as stated, or 1; and a warning where the first two differ."""
    stated = stated_exposure_ratio(low_loss, core_loss)
    if exposure_ratio is None:
        return (1.0 if stated is None else stated), ()
    check_positive(exposure_ratio=exposure_ratio)
    if stated is None or abs(np.log(exposure_ratio / stated)) < np.log1p(EXPOSURE_AGREES):
        return float(exposure_ratio), ()
    return float(exposure_ratio), (
        f"exposure_ratio is {exposure_ratio:g}, but the exposures in the metadata of both signals make it {stated:g}: "
        "atoms counted in the core loss are off by the same factor if it is wrong.",
    )


def _microscope(core_loss, beam_energy_keV, collection_mrad, convergence_mrad):
    stated = {
        "beam_energy_keV": beam_energy_keV,
        "collection_mrad": collection_mrad,
        "convergence_mrad": convergence_mrad,
    }
    stated = {name: value for name, value in stated.items() if value is not None}
    values = {"convergence_mrad": 0.0} | microscope_from_metadata(core_loss) | stated
    for name in ("beam_energy_keV", "collection_mrad"):
        if name not in values:
            raise ValueError(f"{name}: got None, and the metadata of core_loss do not state it; wants a number")
    check_positive(beam_energy_keV=values["beam_energy_keV"], collection_mrad=values["collection_mrad"])
    check_number(values["beam_energy_keV"], "beam_energy_keV", *BEAM_KEV)
    check_not_negative(convergence_mrad=values["convergence_mrad"])
    return {name: float(value) for name, value in values.items()}


def _checked_counts(low_loss, core_loss, energy, window_eV):
    low = np.asarray(getattr(low_loss, "data", low_loss), float)
    core = np.asarray(getattr(core_loss, "data", core_loss), float)
    if low.shape[:-1] != core.shape[:-1]:
        raise ValueError(f"core_loss: got pixels {core.shape[:-1]}, wants those of low_loss {low.shape[:-1]}")
    for name, counts in (("low_loss", low), ("core_loss", core)):
        bad = int((~np.isfinite(counts)).any(-1).sum())
        if bad:
            raise ValueError(f"{name}: got NaN or infinity in {bad} pixels, wants finite counts")
    if energy[0] > -2 or energy[-1] < window_eV[1]:
        raise ValueError(
            f"low_loss: got energies {energy[0]:g} to {energy[-1]:g} eV, wants the zero loss and M2,3: "
            f"-2 to {window_eV[1]:g} eV"
        )
    return low, core


def _mended(low, energy, window_eV, gain):
    """The low loss with the camera's bad channels interpolated where M2,3 is, and what is wrong with it."""
    told, zero_eV = [], zero_loss_position(low.reshape(-1, energy.size).mean(0), energy)
    if cut_off := cut_off_fraction(low):
        told.append(
            f"{100 * cut_off:.0f} % of the low-loss spectra are cut off at the largest of all values: the zero loss is "
            "saturated, and amounts, which are divided by it, are too large."
        )
    bad = find_bad_channels(low, in_window(energy - zero_eV, window_eV), gain=gain)
    if bad.size:
        named = ", ".join(f"{place:.2f}" for place in (energy - zero_eV)[bad])
        told.append(
            f"Low-loss channels at {named} eV are far off their neighbours in all spectra: they are dead or hot. They "
            "were interpolated for the references; interpolate them before a fit, too."
        )
    return mend_channels(low, bad), tuple(told)


def _deconvolve_core(core, low, core_energy, energy):
    """Single scattering of the core loss, with what lies before its axis, and scatters into it, extrapolated."""
    step = core_energy[1] - core_energy[0]
    low, energy = _resample(low, energy, step)
    pad = round(140.0 / step)
    longer = np.concatenate([_extrapolate_down(core, core_energy, pad), core], axis=-1)
    longer_energy = core_energy[0] + step * np.arange(-pad, core_energy.size)
    return fourier_ratio(longer, low, longer_energy, energy)[..., pad:]


def _extrapolate_down(core, energy, pad):
    """Spectra on ``pad`` channels before their first, by the power law of their first 22 eV."""
    step = energy[1] - energy[0]
    n = max(8, round(22.0 / step))
    first = core[..., :n]
    mean = first.reshape(-1, n).mean(0)
    slope = np.polyfit(np.log(energy[:n]), np.log(np.maximum(mean, 1e-12)), 1)[0]
    level = first.sum(-1, keepdims=True) / (energy[:n] ** slope).sum()
    return level * (energy[0] + step * np.arange(-pad, 0)) ** slope


def _resample(y, energy, step):
    """Counts on channels of another width, through their running sum."""
    old_step = energy[1] - energy[0]
    if abs(old_step - step) < 1e-3 * old_step:
        return y, energy
    edges = np.append(energy - old_step / 2, energy[-1] + old_step / 2)
    new = np.arange(int((edges[-1] - edges[0]) / step) + 1) * step + edges[0]
    running = np.concatenate([np.zeros((*y.shape[:-1], 1)), np.cumsum(y, axis=-1)], axis=-1)
    place = np.clip((new - edges[0]) / old_step, 0, y.shape[-1])
    below = np.minimum(place.astype(int), y.shape[-1] - 1)
    part = place - below
    at_edges = (1 - part) * running[..., below] + part * running[..., below + 1]
    return np.diff(at_edges, axis=-1), new[:-1] + step / 2


@checked(mask="...", outside="...", film="E2")
@dataclass(frozen=True)
class Specimen:
    """Dual EELS less the support film and the detector offset, and where the specimen is, see `find_specimen`.

    Attributes
    ----------
    dual : DualEELS
        Of every pixel, also of those outside of the mask.
    mask : bool (...)
        Pixels of the specimen, N of them.
    has_rim : bool
        The mask was found in the data, and so ends where the specimen does.
    outside : bool (...)
        Pixels well outside of it.
    film : (E2,)
        What was subtracted from the core loss: the mean of those pixels, 0 where there are too few.
    """

    dual: DualEELS
    mask: NDArray = field(repr=False)
    has_rim: bool
    outside: NDArray = field(repr=False)
    film: NDArray = field(repr=False)

    def binned(self, factor: int) -> Specimen:
        """The same specimen with `DualEELS.binned`; a pixel is inside, or outside, if half of it is."""
        if factor == 1:
            return self
        mask, outside = (block_mean(pixels[..., None], factor)[..., 0] >= 0.5 for pixels in (self.mask, self.outside))
        return replace(self, dual=self.dual.binned(factor), mask=mask, outside=outside)


@checked
def find_specimen(dual: DualEELS, mask: ArrayLike | None = None) -> Specimen:
    """Pixels of the specimen, and all spectra less the mean of the pixels well outside of it.

    Parameters
    ----------
    dual : DualEELS
    mask : bool (...), optional
        By default found from the valence losses.

    Raises
    ------
    ValueError
        For fewer than 50 pixels.
    """
    check_kind(dual, "dual", DualEELS)
    has_rim = mask is None
    if has_rim:
        mask, outside = _find_particle(dual.low_loss, dual.energy_eV)
    else:
        mask = check_mask(mask, "mask", dual.low_loss.shape[:-1])
        outside = ~ndimage.binary_dilation(mask, neighbours(mask.ndim), iterations=2)
    if mask.sum() < 50:
        raise ValueError(f"mask: got {mask.sum()} pixels of specimen, wants at least 50")
    film = np.zeros(dual.core_energy_eV.size)
    if outside.sum() >= 20:  # support film and detector offset
        film = dual.core_loss[outside].mean(0)
        dual = replace(dual, low_loss=dual.low_loss - dual.low_loss[outside].mean(0), core_loss=dual.core_loss - film)
    return Specimen(dual, mask, has_rim, outside, film)


def block_mean(values: NDArray, factor: int) -> NDArray:
    """Means over ``factor`` × ``factor`` pixels of images (..., Y, X, E); rows and columns left over are cut off."""
    *stack, height, width, channels = values.shape
    rows, columns = height // factor, width // factor
    whole = values[..., : rows * factor, : columns * factor, :]
    return whole.reshape(*stack, rows, factor, columns, factor, channels).mean(axis=(-4, -2))


def _find_particle(low, energy):
    """Pixels of the specimen, and pixels well outside of it, from the valence losses."""
    from skimage.filters import threshold_otsu

    image = low[..., (energy > 12) & (energy < 60)].sum(-1)
    vacuum = np.median(image[image < threshold_otsu(image)])
    top = np.percentile(image, 98)
    level = (image - vacuum) / (top - vacuum)
    near = ndimage.binary_dilation(level > 0.05, neighbours(level.ndim), iterations=2)
    return level > 0.08, ~near
