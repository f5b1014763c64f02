"""Reference spectra from outside of the specimen: spectra of pure phases, or regions of an image that hold one each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import (
    check_choice,
    check_count,
    check_file,
    check_flag,
    check_mapping,
    check_not_negative,
    check_positive,
    check_seed,
    check_window,
    finite_array,
    named,
)
from ..doors import checked
from ..scattering import System, as_system
from ..spectra import (
    align_zero_loss,
    energy_axis,
    find_rare_spikes,
    fourier_log,
    in_window,
    remove_background,
    remove_spikes,
    zero_loss,
)
from ..spectra.arrays import data_of, is_signal
from .extract import remove_m23_background
from .prepare import known_m23
from .result import Standards, interpolate

__all__ = ["standards_from_roi", "standards_from_spectra"]

NM2_PER_BARN = 1e-10
MOST_SAMPLES = 100_000
SUFFIXES = (".msa", ".csv", ".txt")
BELOW_EV, FEWEST_BELOW_EV = 10.0, 3.0  # stretch below an edge that shows whether the background is off
MOST_BELOW = 0.1  # mean intensity there, as a part of that in the window


@checked
def standards_from_spectra(
    spectra: Mapping[str, Any],
    *,
    system: System | str | None = None,
    edge: str = "M2,3",
    energy_eV: ArrayLike | None = None,
    background_eV: tuple[float, float] | None = None,
    bad_eV: Sequence[float] = (),
    cross_section_barn: float | None = None,
    window_eV: tuple[float, float] | None = None,
    scale_uncertainty: float = 0.0,
    energy_uncertainty_eV: float = 0.1,
    uncertainty: float | None = None,
    samples: int = 60,
    seed: int = 0,
) -> Standards:
    r"""References of K phases from a spectrum of each, measured elsewhere or taken from a database.

    A spectrum must be single scattering, at the resolution of the data that it will be fitted to, on a calibrated
    energy axis. It becomes a probability per electron, eV and nm in one of two ways: either it already is one
    (``cross_section_barn=None``), or only its shape is used, and its area over ``window_eV`` is made

    .. math:: \int R_k(E)\,dE = n_k \sigma

    with the metal atoms per nm³ of the phase and the cross-section per atom.

    Parameters
    ----------
    spectra : dict of str to spectrum
        For each phase, by its name in the system: a HyperSpy signal of one spectrum; arrays ``(energy_eV, intensity)``
        or ``(energy_eV, intensity, uncertainty)``; or the path of a file, ``.msa`` or ``.csv`` (two or three columns:
        energy, intensity, uncertainty; lines that are not numbers are skipped). Intensities per eV, or per channel of
        an even axis.
    system : System or str, optional
        Of the phases; by default the iron oxides.
    edge : str
        Which edge the spectra show: ``"M2,3"`` or ``"L2,3"``.
    energy_eV : (E,), optional
        Evenly spaced axis of the references; by default that of the spectra, which must then share it. Interpolation is
        linear.
    background_eV : (float, float), optional
        Window before the edge in which a power law is fitted, then subtracted; None: it is already removed.
    bad_eV : sequence of float
        Energies of dead channels and spikes, in all spectra: they are interpolated, like NaN.
    cross_section_barn : float, optional
        Of the edge, per metal atom and for the collection angle of the spectra, over ``window_eV``.
        `scattering.partial_cross_section` gives that of free atoms from measurements; calculated ones of M2,3 are up to
        three times smaller, since they lack the resonance.
    window_eV : (float, float), optional
        By default the system's, of the edge.
    scale_uncertainty : float
        Relative standard uncertainty that all references share: of the cross-section, or of the thickness by which a
        spectrum was divided. That of each phase's density, from the system, is added.
    energy_uncertainty_eV : float
        Standard uncertainty of an energy axis: of each spectrum's own, and of that of the data which all will be fitted
        to. Near-edge lines are steep: a tenth of an eV moves phases by 10 to 20 %. 0 where all share one axis.
    uncertainty : float, optional
        Standard deviation of every channel, as a fraction of the spectrum's maximum. By default the third column, or
        the scatter of neighbouring channels.
    samples : int
        Draws of the references within their uncertainties.
    seed : int

    Returns
    -------
    Standards
        ``abundances``, ``core_references`` and ``diagnostics`` are None; ``warnings`` says which spectra seem to hold
        their background still.

    Raises
    ------
    ValueError
        For phases that are not in the system, files of another kind, energies that do not cover the window or would
        have to be extrapolated, or spectra without a signal.

    Examples
    --------
    >>> energy = np.arange(45.0, 90.0, 0.5)
    >>> peak = np.exp(-0.5 * ((energy - 57) / 3) ** 2)
    >>> found = Standards.from_spectra({"FeO": (energy, peak)}, cross_section_barn=5e5, scale_uncertainty=0.2)
    >>> found.phases, found.references.shape, bool(found.abundances is None)
    (('FeO',), (1, 90), True)
    """
    system = as_system(system)
    with named("spectra", of="phases"):
        names = system.check_phases(tuple(check_mapping(spectra, "spectra")))
    check_choice(edge, "edge", system.edges)
    check_not_negative(scale_uncertainty=scale_uncertainty, energy_uncertainty_eV=energy_uncertainty_eV)
    check_count(samples, "samples", 2, MOST_SAMPLES)
    check_seed(seed)
    bad_eV = finite_array(bad_eV, "bad_eV").ravel()
    if background_eV is not None:
        check_window(background_eV, "background_eV")
    window_eV = system.edge(edge).window_eV if window_eV is None else window_eV
    check_window(window_eV)
    read = [_Spectrum.read(name, spectra[name], bad_eV, uncertainty) for name in names]
    energy = _common_axis(read, energy_eV)
    if background_eV is not None:
        with named("background_eV", of="window_eV"):
            read = [one.without_background(background_eV) for one in read]
    areas, scales = [one.area(window_eV) for one in read], [1.0] * len(read)
    if cross_section_barn is not None:
        check_positive(cross_section_barn=cross_section_barn)
        per_nm = cross_section_barn * NM2_PER_BARN * system.metal_per_nm3(names)
        scales = [wanted / area for area, wanted in zip(areas, per_nm, strict=True)]
    references, errors = (
        np.array([scale * y for scale, y in zip(scales, (one.on(energy, part) for one in read), strict=True)])
        for part in ("intensity", "error")
    )
    rng = np.random.default_rng(seed)
    noise = errors * rng.standard_normal((samples, *references.shape))
    shifts = energy_uncertainty_eV * (rng.standard_normal(noise.shape[:2]) + rng.standard_normal((samples, 1)))
    moved = [[np.interp(energy - by, energy, y) for by, y in zip(one, references, strict=True)] for one in shifts]
    found = _finished(system, names, energy, references, np.array(moved) + noise, scale_uncertainty, rng)
    return replace(found, warnings=_backgrounds(read, areas, window_eV, system.edge(edge)))


def _backgrounds(read, areas, window_eV, edge):
    """A sentence for each spectrum that is not near zero below the edge."""
    begins = edge.standards.get("onset_eV", np.max(edge.standards.get("before_eV", -np.inf)))
    found = []
    for one, area in zip(read, areas, strict=True):
        below = in_window(one.energy, (begins - BELOW_EV, begins))
        if not below.any() or np.ptp(one.energy[below]) < FEWEST_BELOW_EV:
            continue
        part = one.intensity[below].mean() / (area / (window_eV[1] - window_eV[0]))
        if abs(part) > MOST_BELOW:
            found.append(
                f"Below {begins:g} eV, before the edge, the mean intensity of {one.name} is {100 * part:.0f} % of that "
                "in the window: its background is not removed (background_eV), or its energies are off."
            )
    return tuple(found)


@checked
def standards_from_roi(
    low_loss: ArrayLike,
    regions: Mapping[str, ArrayLike | slice | tuple],
    *,
    system: System | str | None = None,
    energy_eV: ArrayLike | None = None,
    thickness_nm: Mapping[str, float] | None = None,
    cross_section_barn: float | None = None,
    scale_uncertainty: float = 0.0,
    onset_eV: float | None = None,
    window_eV: tuple[float, float] | None = None,
    spikes: bool = True,
    gain: float = 1.0,
    samples: int = 60,
    seed: int = 0,
) -> Standards:
    """References of M2,3 from regions of a low-loss spectrum image that contain one phase each.

    Spectra are aligned, freed of spikes and of plural scattering, averaged over each region, and the background under
    the edge is removed as in `extract_standards`. That each region contains one phase only is taken for granted.

    Parameters
    ----------
    low_loss : (..., E) HyperSpy signal or array
        Counts, with the zero loss.
    regions : dict of str to mask, slice or tuple of slices
        Pixels of each phase, by its name in the system: bool ``(...)``, or an index of the pixels.
    system : System or str, optional
        By default the iron oxides.
    energy_eV : (E,), optional
        For a plain array.
    thickness_nm : dict of str to float, optional
        Mean thickness of each region. Without it, and without a cross-section, nothing sets the scale.
    cross_section_barn, scale_uncertainty
        As in `standards_from_spectra`, over the window of M2,3 of the system.
    onset_eV, window_eV : optional
        Onset, below which there is no M2,3, and window of M2,3 in the low loss. By default those of the system.
    spikes : bool
        Remove spikes.
    gain : float
        Counts per electron, to tell spikes from noise.
    samples : int
        Draws of the pixels of each region, and of the scale.
    seed : int

    Raises
    ------
    ValueError
        For regions of fewer than ten pixels, phases that are not in the system, no scale, or two scales.
    """
    system = as_system(system)
    with named("regions", of="phases"):
        names = system.check_phases(tuple(check_mapping(regions, "regions")))
    check_not_negative(scale_uncertainty=scale_uncertainty)
    if (thickness_nm is None) == (cross_section_barn is None):
        raise ValueError("thickness_nm: got it and cross_section_barn, or neither, wants one of the two: the scale")
    if thickness_nm is None:
        check_positive(cross_section_barn=cross_section_barn)
    else:
        thickness_nm = check_mapping(thickness_nm, "thickness_nm")
        if missing := sorted(set(names) - set(thickness_nm)):
            raise ValueError(f"thickness_nm: got none of {', '.join(missing)}, wants one for each region")
        check_positive(**{f"thickness_nm of {name}": thickness_nm[name] for name in names})
    window_eV, onset_eV = known_m23(system, window_eV, onset_eV)
    check_flag(spikes, "spikes")
    check_positive(gain=gain)
    check_count(samples, "samples", 2, MOST_SAMPLES)
    check_seed(seed)
    known = system.edge("M2,3").standards
    energy = energy_axis(low_loss, energy_eV, of="low_loss")
    if energy[0] > -2 or energy[-1] < window_eV[1]:
        raise ValueError(
            f"low_loss: got energies {energy[0]:g} to {energy[-1]:g} eV, wants the zero loss and M2,3: "
            f"-2 to {window_eV[1]:g} eV"
        )
    pixel = np.empty((*data_of(low_loss).shape[:-1], 1))
    for name in names:  # before the work
        _pixels(name, pixel, regions[name])
    single = _single_scattering(low_loss, energy, spikes, gain)
    pixels = {name: _pixels(name, single, regions[name]) for name in names}
    rng = np.random.default_rng(seed)
    tail, deviation = known["tail"]
    tails = tail + deviation * rng.standard_normal(samples + 1) * (np.arange(samples + 1) > 0)
    means = np.array(
        [[_drawn(y, rng if draw else None).mean(0) for y in pixels.values()] for draw in range(len(tails))]
    )
    edges = remove_m23_background(means, energy, means[0].mean(0), window_eV, onset_eV, known["near_eV"], tails)
    if thickness_nm is not None:
        edges = edges / np.array([thickness_nm[name] for name in names])[:, None]
    else:
        inside, step = in_window(energy, system.edge("M2,3").window_eV), energy[1] - energy[0]
        per_nm = cross_section_barn * NM2_PER_BARN * system.metal_per_nm3(names)
        edges = edges * (per_nm / (edges[..., inside].sum(-1) * step))[..., None]
    return _finished(system, names, energy, edges[0], edges[1:], scale_uncertainty, rng)


def _finished(system, names, energy, references, samples, scale_uncertainty, rng):
    """Standards from references (K, E) and samples (B, K, E) that do not yet hold the errors of the scale."""
    metal, density = system.metal_per_nm3(names), np.array([system.phase(n).atoms_uncertainty for n in names])
    valence = np.nan_to_num([system.mean_valence(name) for name in names])  # 0 where there is no metal
    # a density scales the reference and the atoms alike; what all references share moves the references alone
    packing = np.exp(density * rng.standard_normal((len(samples), len(names))))
    scale = packing * np.exp(scale_uncertainty * rng.standard_normal((len(samples), 1)))
    samples = samples * scale[..., None]
    return Standards(
        system=system.name,
        phases=names,
        energy_eV=energy,
        references=references,
        uncertainty=samples.std(axis=0),
        samples=samples.astype(np.float32),
        metal_per_nm3=metal,
        valence=valence,
        metal_samples=metal * packing,
        valence_samples=np.tile(valence, (len(samples), 1)),
    )


# ---------------------------------------------------------------- one spectrum


class _Spectrum:
    """Energies, intensities and their errors (E,) of one phase; the energies may be uneven."""

    def __init__(self, name: str, energy: NDArray, intensity: NDArray, error: NDArray):
        self.name, self.energy, self.intensity, self.error = name, energy, intensity, error

    @classmethod
    def read(cls, name, source, bad_eV, uncertainty):
        columns = [np.asarray(column, float) for column in _columns(name, source)]
        energy, y = columns[:2]
        if energy.ndim != 1 or y.shape != energy.shape or energy.size < 8 or not (np.diff(energy) > 0).all():
            raise ValueError(
                f"spectra: got {name!r} with energies of shape {energy.shape} and intensities of shape {y.shape}, "
                "wants one spectrum, at least 8 channels, energies that increase"
            )
        bad = ~np.isfinite(y)
        for value in bad_eV:
            bad[np.argmin(np.abs(energy - value))] = True
        if bad.all():
            raise ValueError(f"spectra: got {name!r} without a finite channel, wants a spectrum")
        y = np.interp(energy, energy[~bad], y[~bad])
        if uncertainty is not None:
            check_not_negative(uncertainty=uncertainty)
            error = np.full(y.size, uncertainty * np.abs(y).max())
        elif len(columns) > 2:
            error = columns[2]
            error = np.interp(energy, energy[~bad], error[~bad]) if error.shape == y.shape else np.array([np.nan])
            if not (error >= 0).all():
                raise ValueError(f"spectra: got uncertainties of {name!r} that are not all 0 or more, wants them so")
        else:  # of white noise, third differences have 20 times the variance
            error = np.full(y.size, 1.4826 * np.median(np.abs(np.diff(y[~bad], 3))) / np.sqrt(20))
        return cls(name, energy, y, error)

    def on(self, energy, part):
        return interpolate(energy, self.energy, getattr(self, part)[None])[0]

    def without_background(self, window_eV):
        step = np.diff(self.energy).min()
        even = np.arange(self.energy[0], self.energy[-1] + step / 2, step)
        even = even[even <= self.energy[-1] + 1e-6]
        above = remove_background(self.on(even, "intensity"), even, window_eV=window_eV)
        return _Spectrum(self.name, even, above, self.on(even, "error"))

    def area(self, window_eV):
        low, high = window_eV
        if self.energy[0] > low or self.energy[-1] < high:
            raise ValueError(
                f"window_eV: got ({low:g}, {high:g}), wants it inside the energies of {self.name!r}, "
                f"{self.energy[0]:g} to {self.energy[-1]:g} eV"
            )
        inside = in_window(self.energy, window_eV)
        area = np.trapezoid(self.intensity[inside], self.energy[inside])
        if not area > 0:
            raise ValueError(
                f"spectra: got {self.name!r} with an area of {area:.3g} in {window_eV} eV, wants it positive"
            )
        return area


def _columns(name, source):
    """Energy, intensity and, if stated, uncertainty of a signal, a file, or arrays."""
    if is_signal(source):
        data = np.asarray(source.data, float)
        if data.size != data.shape[-1]:
            raise ValueError(f"spectra: got {name!r} of shape {data.shape}, wants one spectrum")
        return energy_axis(source), data.ravel()
    if isinstance(source, (str, Path)):
        with named("spectra"):
            return _read_file(check_file(source, SUFFIXES))
    if not isinstance(source, (tuple, list)) or len(source) not in (2, 3):
        raise ValueError(f"spectra: got {type(source).__name__} for {name!r}, wants a signal, a path, or (energy, y)")
    return source


def _read_file(path):
    if path.suffix.lower() == ".msa":
        from ..data import read_signal

        signal = read_signal(path)
        return energy_axis(signal), np.asarray(signal.data, float)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"spectra: got {path.name}, wants text ({error})") from None
    rows = [_numbers(line) for line in lines]
    rows = [row for row in rows if row]
    sizes = {len(row) for row in rows}
    if len(sizes) != 1 or not sizes <= {2, 3}:
        raise ValueError(f"spectra: got columns {sorted(sizes)} in {path.name}, wants two or three in every line")
    return tuple(np.array(rows).T)


def _numbers(line):
    """Numbers of a line, separated by commas, semicolons or space; none where one of its words is no number."""
    try:
        return [float(word) for word in line.replace(",", " ").replace(";", " ").split()]
    except ValueError:
        return []


def _common_axis(read, energy_eV):
    """The axis of the references, within the energies of every spectrum."""
    if energy_eV is None:
        first = read[0].energy
        same = all(one.energy.shape == first.shape and np.allclose(one.energy, first) for one in read)
        if not same:
            raise ValueError("energy_eV: got None for spectra on different energies, wants the axis to put them on")
        energy_eV = first
    energy = energy_axis(np.zeros(np.size(energy_eV)), energy_eV)
    for one in read:
        slack = 1e-6 * (energy[1] - energy[0])
        if energy[0] < one.energy[0] - slack or energy[-1] > one.energy[-1] + slack:
            raise ValueError(
                f"energy_eV: got {energy[0]:g} to {energy[-1]:g} eV, wants energies within those of {one.name!r}, "
                f"{one.energy[0]:g} to {one.energy[-1]:g} eV"
            )
    return energy


# ---------------------------------------------------------------- regions


def _single_scattering(low_loss, energy, spikes, gain):
    """Probability per eV and electron of every pixel (..., E)."""
    low = np.asarray(getattr(low_loss, "data", low_loss), float)
    if not np.isfinite(low).all():
        raise ValueError("low_loss: got NaN or infinity, wants finite counts")
    low = align_zero_loss(low, energy_eV=energy)
    low = np.where(energy > 10, remove_spikes(low, mask=find_rare_spikes(low, gain=gain)), low) if spikes else low
    direct = zero_loss(low, energy).sum(-1, keepdims=True)
    if not (direct > 0).all():
        raise ValueError(f"low_loss: got no zero loss in {int((direct <= 0).sum())} pixels, wants one in each")
    return fourier_log(low, energy) / (direct * (energy[1] - energy[0]))


def _pixels(name, single, region):
    """Spectra (N, E) of one region."""
    if isinstance(region, (slice, tuple)):
        chosen = single[region].reshape(-1, single.shape[-1]) if np.ndim(single[region]) > 1 else single[region][None]
    else:
        region = np.asarray(region)
        if region.dtype != bool or region.shape != single.shape[:-1]:
            raise ValueError(
                f"regions: got {region.dtype} of shape {region.shape} for {name!r}, wants bool {single.shape[:-1]}, or "
                "slices"
            )
        chosen = single[region]
    if len(chosen) < 10:
        raise ValueError(f"regions: got {len(chosen)} pixels for {name!r}, wants at least 10")
    return chosen


def _drawn(spectra, rng):
    return spectra if rng is None else spectra[rng.integers(len(spectra), size=len(spectra))]
