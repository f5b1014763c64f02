"""What goes into the chain: spectra over tilt, cleaned; maps over tilt, ready for a measurement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import data, spectra
from ..checks import check_tilts
from ..data.signals import array_axes, square_pixel_nm
from ..data.tilts import stage_tilt, tilts_beside, tilts_in_names
from ..fitting import PhaseFit, ReferenceDraws
from ..scattering.microscope import MICROSCOPE_KEYS
from ..tomography import Measurement, ParallelBeam

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal

    from ..standards import Standards
    from .settings import Settings

__all__ = ["Maps", "clean_low_loss", "noise_gain_of", "on_axis", "read_maps", "read_spectra", "tilt_table"]

LEAST_MODE = 0.1  # of the largest: below, a mode of the references' errors is left out
SPIKES_ABOVE_EV = 10.0  # the zero-loss peak itself is as sharp as a spike


def read_spectra(paths: tuple[Path, ...], settings: Settings, name: str, *, lazy: bool = False) -> BaseSignal:
    """Spectra (T, Y, X, E) of a stack, or of one file per tilt, with what the settings say in place of the metadata.

    Raises
    ------
    ValueError
        Naming the input, for spectra that are no series, or tilts that are not known.
    """
    if len(paths) == 1:
        signal = _of_one_file(paths[0], settings, name, lazy)
    else:
        given, whole = _given_tilts(settings, name, len(paths)), name == "low_loss"
        signal = data.read_spectrum_series(paths, tilt_angles_deg=given, whole=whole, lazy=lazy)
    for key, place in MICROSCOPE_KEYS.items():
        if settings[key] is not None:
            signal.metadata.set_item(place, settings[key])
    if settings.pixel_size_nm:
        for axis in signal.axes_manager.navigation_axes[:2]:
            axis.scale, axis.units = settings.pixel_size_nm, "nm"
    square_pixel_nm(signal)
    if not lazy:
        bad = np.count_nonzero(~np.isfinite(signal.data).all(axis=-1))
        if bad:
            raise ValueError(f"{name}: got {bad} pixels with values that are not finite, wants counts (fill them in)")
    return signal


def tilt_table(settings: Settings) -> str:
    """Which file is which tilt, where each is one: a line for each; nothing for stacks."""
    extracted = not (settings.standards or settings.standards_low_loss)  # else no core loss is read
    pairs = []
    for name in ("low_loss", "core_loss")[: 1 + extracted]:
        if len(paths := getattr(settings, name)) > 1:
            known = read_spectra(paths, settings, name, lazy=True).metadata.Tomography
            pairs += zip(known.tilts, known.files, strict=True)
    if settings.maps and settings.maps.is_dir():
        maps = data.read_tilt_series(settings.maps, tilt_angles_deg=settings.tilt_angles_deg)
        files = maps.metadata["files"]
        pairs += zip(maps.tilt_angles_deg, files, strict=True) if len(files) > 1 else []
    return "\n".join(f"{tilt:8.2f}°  {file}" for tilt, file in pairs)


def _given_tilts(settings, name, count):
    """Tilts of the settings; None for a core loss of another number of tilts, which are some of the low loss."""
    tilts = settings.tilt_angles_deg
    return tilts if name == "low_loss" or (tilts and len(tilts) == count) else None


def _of_one_file(path, settings, name, lazy):
    """Spectra (T, Y, X, E) of a stack, with its tilts; or the core loss (Y, X, E) of one tilt as a series of one."""
    signal = data.read_signal(path, lazy=lazy)
    single = name == "core_loss" and signal.data.ndim == 3
    if signal.axes_manager.signal_dimension != 1 or not (single or signal.data.ndim == 4):
        raise ValueError(
            f"{name}: got shape {signal.data.shape} in {path.name}, wants spectra of a tilt series (T, Y, X, E), or "
            "one file for each tilt"
        )
    if single:
        tilts, signal = _tilt_of_core(signal, path, settings.low_loss), _as_series(signal)
    else:
        tilts = _given_tilts(settings, name, len(signal.data))
        tilts = data.get_tilts(signal) if tilts is None else tilts
        tilts = tilts_beside(path) if tilts is None else tilts
    if tilts is None:
        raise ValueError(f"tilt_angles_deg: got none in {path.name}, wants the angles (--tilts)")
    tilts = check_tilts(tilts, len(signal.data), series=name == "low_loss")
    signal.metadata.set_item("Tomography.tilts", tilts.tolist())
    return signal


def _tilt_of_core(signal, path, low_loss):
    """The angle of one core-loss image, which says with which image of the low loss it goes."""
    tilt = stage_tilt(signal)
    if tilt is not None:
        return [tilt]
    # beside the names of the low loss it shows whether a hyphen is a minus, and whether numbers count the files
    for names, explicit in (([path, *low_loss], False), ([path], True)):
        named = tilts_in_names(names, explicit=explicit)
        if named is not None:
            return named[:1]
    beside = tilts_beside(path)
    if beside is None:
        raise ValueError(
            f"core_loss: got no angle in {path.name}, wants that of its image of the low loss in the metadata or the "
            "name (core_+30deg.hspy)"
        )
    return beside


def _as_series(signal):
    """The image of one tilt as a series (1, Y, X, E)."""
    axes = [{"name": "tilt", "size": 1, "navigate": True}]
    axes += [axis.get_axis_dictionary() for axis in array_axes(signal)]
    for index, axis in enumerate(axes):
        axis["index_in_array"] = index
    return type(signal)(signal.data[None], axes=axes, metadata=signal.metadata.as_dictionary())


def noise_gain_of(low: BaseSignal, gain: float | None, window_eV: tuple[float, float]) -> tuple[float, list[str]]:
    """Counts per electron, and warnings: as given, 1 of whole numbers, else estimated from the noise."""
    if gain is not None:
        return float(gain), []
    energy, part = spectra.energy_axis(low), np.asarray(low.data[len(low.data) // 2])
    part = part[np.isfinite(part).all(axis=-1)]
    beyond = window_eV[1] - 0.6 * (window_eV[1] - window_eV[0]), window_eV[1]  # the edge, where it is smooth
    counts = part[..., spectra.window_mask(energy, beyond)].sum(axis=-1)
    bright = part[counts > 0.5 * np.percentile(counts, 98)] if counts.any() else part[:0]  # vacuum tells nothing
    found = spectra.noise_gain(bright, energy, window_eV=beyond, block=4) if len(bright) else 0.0
    if not 0 < found < np.inf:
        raise ValueError("gain: got None, and the low loss has no counts or no noise to estimate it, wants a number")
    if not (part % 1).any() and found < 1.5:
        return 1.0, []
    return found, [
        f"The noise is that of {found:.3g} counts per electron, as estimated from it; set gain to what is known of the "
        "camera."
    ]


def clean_low_loss(
    low: BaseSignal, gain: float, zero_loss_eV: NDArray | None = None
) -> tuple[BaseSignal, dict[str, NDArray], dict[str, Any]]:
    """Zero losses at 0, to whole channels (Poisson counts stay so), and no spikes; tilt by tilt.

    Parameters
    ----------
    low : signal (T, Y, X, E)
    gain : float
        Counts per electron.
    zero_loss_eV : array (T, Y, X), optional
        Where the zero losses are, as found before.

    Returns
    -------
    signal, images, facts
        ``images``: ``zero_loss_eV`` and ``relative_thickness`` (t/λ), each (T, Y, X).
    """
    energy = spectra.energy_axis(low)
    cleaned = np.empty(low.data.shape, np.float32)
    moves, thickness, spikes = np.empty(cleaned.shape[:-1]), np.empty(cleaned.shape[:-1]), 0
    for t, counts in enumerate(low.data):
        counts = np.asarray(counts)
        moves[t] = spectra.zero_loss_position(counts, energy) if zero_loss_eV is None else zero_loss_eV[t]
        aligned = spectra.shift_spectra(counts, -moves[t], energy, method="nearest")
        found = spectra.find_rare_spikes(aligned, gain=gain) & (energy > SPIKES_ABOVE_EV)
        spikes += int(found.any(-1).sum())
        cleaned[t] = spectra.remove_spikes(aligned, mask=found)
        thickness[t] = spectra.relative_thickness(cleaned[t], energy)
    facts = {
        "electrons": float(cleaned.sum(-1, dtype=float).mean() / gain),
        "zero_loss_range_eV": [float(moves.min()), float(moves.max())],
        "spikes": spikes,
        "relative_thickness": float(np.nanmax(thickness)),
    }
    return spectra.with_data(low, cleaned), {"zero_loss_eV": moves, "relative_thickness": thickness}, facts


def on_axis(found: Standards, energy: NDArray) -> Standards:
    """Standards on the axis of the spectra, 0 beyond their own: what lies outside the fitted window."""
    inside = (energy >= found.energy_eV[0]) & (energy <= found.energy_eV[-1])
    part = found.on(energy[inside])
    around = int(inside.argmax()), int(inside[::-1].argmax())
    names = ("references", "uncertainty", "samples")
    padded = {n: np.pad(a := getattr(part, n), [(0, 0)] * (a.ndim - 1) + [around]) for n in names}
    return replace(part, energy_eV=energy, **padded)


@dataclass(frozen=True)
class Maps:
    """Maps over tilt, with all that a measurement needs of them.

    Attributes
    ----------
    values : array (C, T, Y, X)
        NaN where not measured.
    tilt_angles_deg : array (T,)
    channels : tuple of str
    covariance : array (T, Y, X, C, C) or None
    pixel_size_nm : float or None
    unit : str
    draws : ReferenceDraws or None
        What other references would do.
    shifts_px : array (T, 2) or None
    axis_angle_deg : float
        See `ParallelBeam`; of the series as recorded until it is aligned.
    """

    values: NDArray
    tilt_angles_deg: NDArray
    channels: tuple[str, ...]
    covariance: NDArray | None = None
    pixel_size_nm: float | None = None
    unit: str = ""
    draws: ReferenceDraws | None = None
    shifts_px: NDArray | None = None
    axis_angle_deg: float = 0.0

    @classmethod
    def of_fit(cls, fit: PhaseFit) -> Maps:
        """The maps of a fit over tilt."""
        values = np.moveaxis(np.asarray(fit.coefficients), -1, 0)
        channels = fit.phases or tuple(f"phase {k}" for k in range(len(values)))
        known = fit.drawn if fit.drawn is not None and len(fit.drawn.transforms) else None
        return cls(values, fit.tilt_angles_deg, channels, fit.covariance, fit.pixel_size_nm, "nm", known)

    @classmethod
    def of_series(cls, series: data.TiltSeries) -> Maps:
        """The maps of a file."""
        covariance = series.covariance
        if covariance is None and series.variance is not None:
            variance = np.moveaxis(series.variance, 0, -1)
            covariance = variance[..., None] * np.eye(len(series.channels))
        return cls(
            series.projections, series.tilt_angles_deg, series.channels, covariance, series.pixel_size_nm, series.unit
        )

    def save(self, path: Path) -> None:
        """Write what `load` reads."""
        series = data.TiltSeries(
            self.values.astype(np.float32), self.tilt_angles_deg, self.channels, self.pixel_size_nm,
            covariance=self.covariance, unit=self.unit,
        )  # fmt: skip
        series.save(path)

    @classmethod
    def load(cls, path: Path) -> Maps:
        """Read what `save` wrote."""
        return cls.of_series(data.read_tilt_series(path))

    def tilts(self, chosen: NDArray) -> Maps:
        """Some of the tilts."""
        covariance = None if self.covariance is None else self.covariance[chosen]
        shifts = None if self.shifts_px is None else self.shifts_px[chosen]
        own = {"values": self.values[:, chosen], "tilt_angles_deg": self.tilt_angles_deg[chosen]}
        return replace(self, **own, covariance=covariance, shifts_px=shifts)

    def total(self) -> NDArray:
        """Sum of the channels (T, Y, X), each over its mean where they have no common unit; 0 where not measured."""
        values = np.nan_to_num(self.values)
        mean = values.mean(axis=(1, 2, 3), keepdims=True)
        return (values if self.unit == "nm" else values / np.where(mean > 0, mean, 1)).sum(axis=0)

    @property
    def mask(self) -> NDArray:
        """Where all channels were measured, and their errors are known if any are: bool (T, Y, X)."""
        measured = np.isfinite(self.values).all(axis=0)
        if self.covariance is None:
            return measured
        errors = np.einsum("...kk->...k", self.covariance)
        known = np.isfinite(self.covariance).all(axis=(-2, -1)) & (errors > 0).all(axis=-1)
        return measured & known

    def projections(self, padding: int = 0) -> NDArray:
        """Values, 0 where not measured, with columns added on each side."""
        values = np.where(self.mask, self.values, 0).astype(np.float32)
        return np.pad(values, ((0, 0), (0, 0), (0, 0), (padding, padding)))

    def stated(self, padding: int = 0) -> dict[str, Any]:
        """Arguments of `Measurement` (and `dip.ensemble`): covariance, mask, voxel size and geometry."""
        stated: dict[str, Any] = {"voxel_size_nm": self.pixel_size_nm or 1.0}
        stated |= self._geometry()
        mask = np.pad(self.mask, ((0, 0), (0, 0), (padding, padding)))
        if self.axis_angle_deg:  # turned, the corners of the detector see what is beyond the volume
            turned = ParallelBeam(mask.shape[2], self.tilt_angles_deg, **self._geometry())
            first, last = turned.source_rows(mask.shape[1])
            mask &= (first >= -1) & (last <= mask.shape[1])
        if not mask.all():
            stated["mask"] = mask
        if self.covariance is not None:
            one = np.eye(len(self.channels))
            inside = np.where(self.mask[..., None, None], self.covariance, one)
            whole = np.broadcast_to(one, (*mask.shape, *one.shape)).copy()
            whole[:, :, padding : mask.shape[2] - padding] = inside
            stated["covariance"] = whole
        return stated

    def _geometry(self):
        return {"shifts_px": self.shifts_px, "axis_angle_deg": self.axis_angle_deg}

    def measurement(self, padding: int = 0) -> Measurement:
        """What is reconstructed."""
        return Measurement(self.projections(padding), self.tilt_angles_deg, **self.stated(padding))

    def reference_draws(self, n: int, *, scale_is_learned: bool) -> NDArray | None:
        """What other references would do to the maps, at most ``n`` transforms (C, C); None where that is not known.

        Sigma points: plus and minus each of the M most important modes, times the root of M, so that the mean square
        of what they do is the variance; those taken are made larger by what the others would add. Where the scale of
        each channel is learned, errors of scale do nothing, and are left out (S. J. Julier & J. K. Uhlmann, Proc. IEEE
        92, 401 (2004)).
        """
        if self.draws is None or n < 2:
            return None
        transforms = self.draws.transforms
        if scale_is_learned:
            transforms = transforms / np.einsum("skk->sk", transforms)[:, None]
        modes = ReferenceDraws(transforms).modes
        size = np.sqrt((modes**2).sum(axis=(1, 2)))
        modes = modes[size > LEAST_MODE * size[:1].max(initial=0)][: n // 2]
        whole = np.sqrt((size**2).sum() / max((size[: len(modes)] ** 2).sum(), 1e-300))
        steps = whole * len(modes) ** 0.5 * np.concatenate([modes, -modes])
        return np.eye(len(self.channels)) + steps


def read_maps(settings: Settings) -> Maps | PhaseFit:
    """Maps of the settings' file, in any format of `data.read_tilt_series`; a fit of chapter 3 as what it is.

    Raises
    ------
    ValueError
        As `data.read_tilt_series`.
    """
    tilts, size = settings.tilt_angles_deg, settings.pixel_size_nm
    series = data.read_tilt_series(settings.maps, tilt_angles_deg=tilts, pixel_size_nm=size)
    if settings.maps.suffix in (".hspy", ".zspy"):
        signal = data.read_signal(settings.maps)
        if signal.metadata.get_item("SoftEELS.fit", default=None) is not None:
            fit = PhaseFit.from_signal(signal)
            return replace(fit, tilt_angles_deg=series.tilt_angles_deg, pixel_size_nm=series.pixel_size_nm)
    return Maps.of_series(series)
