"""Noise-free spectra of a specimen of known thickness, and of each edge in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import ndtr, voigt_profile

from .. import scattering
from ..checks import (
    check_choice,
    check_count,
    check_flag,
    check_kind,
    check_not_negative,
    check_number,
    check_positive,
    real_array,
)
from ..doors import checked
from ..scattering import Phase, System, as_system
from ..spectra import FWHM_PER_SIGMA

__all__ = ["AXES", "COMPONENTS", "Microscope", "SpectrumModel", "spectrum_model"]

#: The two energy ranges that are recorded.
AXES = ("low", "core")
#: Parts of the single-scattering distribution, and the energy axis that holds each.
COMPONENTS = {"valence": "low", "M2,3": "low", "M1": "low", "K": "core", "L2,3": "core"}
MOST_CHANNELS = 2**20


@checked
@dataclass(frozen=True)
class Microscope:
    """Beam and spectrometer.

    Attributes
    ----------
    beam_energy_keV
        Beam energy.
    convergence_mrad, collection_mrad
        Half angles of the probe and of the spectrometer's aperture.
    energy_resolution_eV
        FWHM of the zero-loss peak.
    zero_loss_tail_eV
        FWHM of a Lorentzian in the zero-loss peak (Voigt); 0: a Gaussian peak.
    dispersion_eV, channels
        Width and number of the channels of each of the two energy axes.
    low_start_eV, core_start_eV
        Where the low-loss and the core-loss axis start.
    bethe_ridge
        Cut the dipole formula off at the Bethe ridge (`scattering.angular_factor`).
    """

    beam_energy_keV: float = 300.0
    convergence_mrad: float = 20.0
    collection_mrad: float = 40.0
    energy_resolution_eV: float = 0.7
    zero_loss_tail_eV: float = 0.0
    dispersion_eV: float = 0.25
    channels: int = 1024
    low_start_eV: float = -16.0
    core_start_eV: float = 500.0
    bethe_ridge: bool = False

    def __post_init__(self):
        check_positive(
            beam_energy_keV=self.beam_energy_keV,
            collection_mrad=self.collection_mrad,
            energy_resolution_eV=self.energy_resolution_eV,
            dispersion_eV=self.dispersion_eV,
            core_start_eV=self.core_start_eV,
        )
        if check_count(self.channels, "channels") > MOST_CHANNELS:
            raise ValueError(f"channels: got {self.channels!r}, wants at most {MOST_CHANNELS}")
        check_flag(self.bethe_ridge, "bethe_ridge")
        check_not_negative(convergence_mrad=self.convergence_mrad, zero_loss_tail_eV=self.zero_loss_tail_eV)
        check_number(self.low_start_eV, "low_start_eV", -100, 0)

    @classmethod
    def from_metadata(cls, signal: Any, default: Microscope | None = None) -> Microscope:
        """The microscope that recorded a signal: beam energy and angles from its metadata, everything else from a
        default.

        Parameters
        ----------
        signal
            HyperSpy signal.
        default
            Supplies what the metadata do not state; None: ``Microscope()``.

        See Also
        --------
        softeels_utils.scattering.microscope_from_metadata : what the metadata state, as a dict.
        """
        return replace(default or cls(), **scattering.microscope_from_metadata(signal))

    @property
    def angles(self) -> dict[str, Any]:
        """Keyword arguments of `scattering.angular_factor`."""
        return {
            "beam_energy_keV": self.beam_energy_keV,
            "collection_mrad": self.collection_mrad,
            "convergence_mrad": self.convergence_mrad,
            "bethe_ridge": self.bethe_ridge,
        }

    @property
    def collected_fraction(self) -> float:
        """Electrons that reach the spectrometer without a specimen, per incident electron."""
        return scattering.collected_fraction(self.collection_mrad, self.convergence_mrad)


@checked
@dataclass(frozen=True)
class SpectrumModel:
    r"""Noise-free spectra of a specimen of known thickness, per incident electron.

    Everything is linear in the single-scattering distributions, counts per channel, nm and electron; plural
    scattering follows from them by the Fourier-log relation
    :math:`j(\nu) = z(\nu) \exp(\sum_p t_p s_p(\nu))` (Egerton 2011, eq. 4.8), with the zero-loss peak z of unit
    area and :math:`s_p(0) = 0` replaced by :math:`s_p(\nu) - s_p(0)`, which conserves the number of electrons.

    Attributes
    ----------
    microscope
        Beam and spectrometer.
    phases
        Names of phases of the system, in the order of the thicknesses; a support film is one of them. None: the
        system's channels.
    plural
        False: single scattering only.
    system
        A `scattering.System`, or the name or path of one; None: the iron oxides.

    Examples
    --------
    >>> model = SpectrumModel()
    >>> model.expected([10.0, 10.0], "core").shape
    (1024,)
    >>> print(f"{model.expected([10.0, 10.0]).sum():.3f}")  # nearly all electrons arrive on the low-loss axis
    0.996
    """

    microscope: Microscope = field(default_factory=Microscope)
    phases: tuple[str, ...] | None = None
    plural: bool = True
    system: System | str | None = None

    def __post_init__(self):
        check_kind(self.microscope, "microscope", Microscope)
        check_flag(self.plural, "plural")
        object.__setattr__(self, "system", as_system(self.system))
        object.__setattr__(self, "phases", self.system.check_phases(self.phases))

    # ------------------------------------------------------------------ energies

    @property
    def low_energy_eV(self) -> NDArray:
        """Energies of the low-loss channels; the axis starts at a whole multiple of the dispersion."""
        return self._energies(self.microscope.low_start_eV)

    @property
    def core_energy_eV(self) -> NDArray:
        """Energies of the core-loss channels."""
        return self._energies(self.microscope.core_start_eV)

    def _energies(self, start_eV: float) -> NDArray:
        m = self.microscope
        return m.dispersion_eV * (round(start_eV / m.dispersion_eV) + np.arange(m.channels))

    @cached_property
    def grid_eV(self) -> NDArray:
        """Energies of the periodic grid of the transforms: from 0 up, the last stretch standing for losses < 0."""
        m = self.microscope
        top = max(self.low_energy_eV[-1], self.core_energy_eV[-1], 800.0)
        size = next_fast_len(int(np.ceil((1.15 * top + 110.0) / m.dispersion_eV)), real=True)
        return m.dispersion_eV * np.arange(size)

    def _on_axis(self, spectra: NDArray, axis: str) -> NDArray:
        """Values of spectra on the grid at the channels of one axis."""
        m = self.microscope
        first = round((m.low_start_eV if axis == "low" else m.core_start_eV) / m.dispersion_eV)
        return spectra[..., (first + np.arange(m.channels)) % self.grid_eV.size]

    def energy_eV(self, name: str) -> NDArray:
        """Energy axis: ``"low"``, ``"core"``, or the axis that holds an edge (``"M2,3"``, ``"L2,3"``, ``"K"``)."""
        return self.low_energy_eV if self.axis_of(name) == "low" else self.core_energy_eV

    @staticmethod
    def axis_of(name: str) -> str:
        """``"low"`` or ``"core"``: the axis of that name, or the one that holds a component or edge."""
        if name in AXES:
            return name
        if name not in COMPONENTS:
            raise ValueError(f"edge: got {name!r}, wants one of {[*AXES, *COMPONENTS]}")
        return COMPONENTS[name]

    # ------------------------------------------------------------------ single scattering

    @cached_property
    def single_scattering(self) -> dict[str, dict[str, NDArray]]:
        """``{phase: {component: counts per channel, nm and electron}}`` on `grid_eV`, before any blur."""
        # neither the resolution nor the detector's zero-loss tail enters: models that differ in them share it
        microscope = replace(self.microscope, energy_resolution_eV=1.0, zero_loss_tail_eV=0.0)
        top = max(self.core_energy_eV[-1], self.low_energy_eV[-1]) * 1.05
        size = self.grid_eV.size
        return {p: _single_scattering(self.system, self.system.phase(p), microscope, size, top) for p in self.phases}

    @cached_property
    def mean_free_path_nm(self) -> NDArray:
        """Inelastic mean free path of each phase into the aperture, nm, ``(P,)``."""
        return np.array([1 / sum(v.sum() for v in self.single_scattering[p].values()) for p in self.phases])

    def _zero_loss_peak(self, shift_eV: ArrayLike = 0.0) -> NDArray:
        """Transform of the zero-loss peak of unit area, centred at `shift_eV` (...), integrated over each channel.

        Made in real space: a peak as narrow as a few channels would ring if it were cut off in frequency.
        """
        m, size = self.microscope, self.grid_eV.size
        index = np.arange(size)
        loss = m.dispersion_eV * np.where(index < size - round(100 / m.dispersion_eV), index, index - size)
        x = loss - np.asarray(shift_eV, dtype=float)[..., None]
        sigma, half = m.energy_resolution_eV / FWHM_PER_SIGMA, m.dispersion_eV / 2
        if m.zero_loss_tail_eV:
            peak = voigt_profile(x, sigma, m.zero_loss_tail_eV / 2)
            peak /= peak.sum(axis=-1, keepdims=True)
        else:
            peak = np.zeros(x.shape)
            near = np.abs(x) < 9 * sigma + half
            peak[near] = ndtr((x[near] + half) / sigma) - ndtr((x[near] - half) / sigma)
        return rfft(peak, axis=-1)

    @cached_property
    def _zero_loss(self) -> NDArray:
        return self._zero_loss_peak()

    @cached_property
    def _transforms(self) -> NDArray:
        """(P, component, frequency) transforms of the single-scattering distributions."""
        return np.stack([[rfft(self.single_scattering[p][c]) for c in COMPONENTS] for p in self.phases])

    def _transform(self, edge: str) -> NDArray:
        """(P, frequency) transforms of one component."""
        if edge not in COMPONENTS:
            raise ValueError(f"edge: got {edge!r}, wants one of {list(COMPONENTS)}")
        return self._transforms[:, list(COMPONENTS).index(edge)]

    def reference(self, phase: str, edge: str) -> NDArray:
        """Single-scattering reference ``(E,)`` of an edge (or ``"valence"``), counts per channel, nm and electron.

        Per electron that would be collected without a specimen: all of them, if the aperture is wider than the probe.
        On the energy axis of the edge (`energy_eV(edge)`), with the resolution of the zero-loss peak.
        """
        if phase not in self.phases:
            raise ValueError(f"phase: got {phase!r}, wants one of {self.phases}")
        spectrum = irfft(self._zero_loss * self._transform(edge)[self.phases.index(phase)], self.grid_eV.size)
        return self._on_axis(spectrum, COMPONENTS[edge])

    def references(self, edge: str) -> NDArray:
        """`reference` of every phase, ``(P, E)``."""
        return np.stack([self.reference(p, edge) for p in self.phases])

    # ------------------------------------------------------------------ spectra

    def _thickness(self, thickness_nm: ArrayLike) -> NDArray:
        t = np.asarray(real_array(thickness_nm, "thickness_nm"), dtype=float)
        if t.ndim == 0 or t.shape[-1] != len(self.phases):
            raise ValueError(f"thickness_nm: got shape {t.shape}, wants a last axis of {len(self.phases)} phases")
        return t

    def _log_spectrum(self, thickness: NDArray) -> NDArray:
        """sum of t s(nu) - t s(0); thickness (..., P) or, where each component has its own, (..., P * component)."""
        s = self._transforms
        flat = s.sum(axis=1) if thickness.shape[-1] == len(self.phases) else s.reshape(-1, s.shape[-1])
        return thickness @ (flat - flat[:, :1])

    @checked(thickness_nm="... P")
    def spectra(
        self, thickness_nm: NDArray, shift_eV: ArrayLike | None = None, axes: Sequence[str] = AXES
    ) -> list[NDArray]:
        """Expected counts per channel and incident electron, on several energy axes at once.

        Parameters
        ----------
        thickness_nm
            ``(..., P)`` thickness of each phase; or ``(..., P * C)``, where each of the C `COMPONENTS` of a phase has
            its own thickness (delocalised signals; phase-major order). Not checked.
        shift_eV
            Energy drift of each spectrum, ``(...)``; None: none.
        axes
            Which of `AXES`.

        Returns
        -------
        list of numpy.ndarray
            One ``(..., E)`` for each of the axes.
        """
        log = self._log_spectrum(thickness_nm)
        zero_loss = self._zero_loss if shift_eV is None else self._zero_loss_peak(shift_eV)
        spectrum = (np.exp(log) if self.plural else 1 + log) * zero_loss
        full = irfft(spectrum, self.grid_eV.size, axis=-1)
        full *= self.microscope.collected_fraction
        return [np.maximum(self._on_axis(full, axis), 0.0) for axis in axes]

    def expected(self, thickness_nm: ArrayLike, axis: str = "low", *, shift_eV: ArrayLike | None = None) -> NDArray:
        """Expected counts per channel and incident electron, ``(..., E)``.

        Parameters
        ----------
        thickness_nm
            ``(..., P)`` thickness of each phase.
        axis
            ``"low"`` or ``"core"``, or an edge.
        shift_eV
            Energy drift, one value per spectrum.

        Raises
        ------
        ValueError
            For thicknesses that are not finite or do not match the phases, or an unknown axis.
        """
        axis = self.axis_of(check_choice(axis, "axis", (*AXES, *COMPONENTS)))
        return self.spectra(self._thickness(thickness_nm), shift_eV, (axis,))[0]

    @checked(thickness_nm="... P")
    def derivative(self, thickness_nm: ArrayLike, edge: str, axis: str | None = None) -> NDArray:
        """Change of `expected` with the amount of one edge of each phase, ``(..., P, E)`` per nm and electron.

        The reference as seen through the specimen, with plural scattering and resolution.

        Parameters
        ----------
        thickness_nm
            ``(..., P)`` thickness of each phase.
        edge
            One of `COMPONENTS`.
        axis
            ``"low"`` or ``"core"``; default: the one that holds the edge.
        """
        t = self._thickness(thickness_nm)
        through = np.exp(self._log_spectrum(t)) if self.plural else np.ones((*t.shape[:-1], 1))
        through = through * self.microscope.collected_fraction
        spectrum = (through * self._zero_loss)[..., None, :] * self._transform(edge)
        return self._on_axis(irfft(spectrum, self.grid_eV.size, axis=-1), self.axis_of(axis or edge))

    @checked(thickness_nm="... P")
    def background(self, thickness_nm: ArrayLike, edge: str) -> NDArray:
        """`expected` minus what one edge adds to it to first order, ``(..., E)``."""
        t = self._thickness(thickness_nm)
        return self.expected(t, edge) - np.einsum("...p,...pe->...e", t, self.derivative(t, edge))


@lru_cache(maxsize=64)
def _single_scattering(system: System, phase: Phase, m: Microscope, size: int, top: float) -> dict[str, NDArray]:
    """{component: single scattering per channel, nm and collected electron} of a phase, on a grid from 0 to `top`."""
    energy = m.dispersion_eV * np.arange(size)
    inside = np.where((energy > 0) & (energy < top), 1.0, 0.0)
    single = dict.fromkeys(COMPONENTS, np.zeros_like(energy))
    tail = np.zeros_like(energy)
    for element, density in phase.atoms_per_nm3.items():
        for edge in system.edges_of(element):
            if system.edge(edge).element != element:  # C-K lies on neither axis: only its tail counts
                strength = scattering.edge_oscillator_strength(element, edge, np.maximum(energy, 10.5))
                tail = tail + density * _per_channel(strength, energy, inside, m)
            else:
                strength = scattering.near_edge_oscillator_strength(system, phase, edge, energy)
                single[edge] = single[edge] + density * _per_channel(strength, energy, inside, m)
        if element == system.metal:
            m1 = scattering.m1_oscillator_strength(system, energy)
            single["M1"] = density * _per_channel(m1, energy, inside, m)
            single["M2,3"] = single["M2,3"] - single["M1"]  # the table's strength holds both
        rest = np.maximum(_outer_oscillator_strength(element, system.edges_of(element), energy), 0)
        tail = tail + density * _per_channel(rest, energy, inside, m, bethe_ridge=True)
    single["valence"] = _valence(phase, energy, inside, m, tail, sum(v.sum() for v in single.values()))
    return single


def _per_channel(strength: NDArray, energy: NDArray, inside: NDArray, m: Microscope, **angles: bool) -> NDArray:
    """Cross-section of each channel, nm² per collected electron, from df/dE; zero outside the modelled energies."""
    safe = np.maximum(energy, m.dispersion_eV / 2)
    per_eV = scattering.differential_cross_section(strength, safe, **{**m.angles, **angles}) / m.collected_fraction
    return per_eV * m.dispersion_eV * inside


def _outer_oscillator_strength(element: str, edges: Sequence[str], energy: NDArray) -> NDArray:
    """df/dE of an atom less that of its edges."""
    table = np.maximum(energy, 10.5)
    strength = scattering.oscillator_strength(element, table)
    for edge in edges:
        strength = strength - scattering.edge_oscillator_strength(element, edge, table)
    return strength


def _valence(
    phase: Phase, energy: NDArray, inside: NDArray, m: Microscope, tail: NDArray, edges_per_nm: float
) -> NDArray:
    """Valence losses: Drude terms below, the atoms' tail above, blended between 29 and 41 eV.

    The tail is cut at the Bethe ridge, as the mean free path is; the mean free path, which counts the edges too, sets
    the scale of the Drude terms.
    """
    safe = np.maximum(energy, m.dispersion_eV / 2)
    drude = sum(w * safe * g * ep**2 / ((safe**2 - ep**2) ** 2 + (safe * g) ** 2) for w, ep, g in phase.valence_loss)
    drude = drude * scattering.angular_factor(safe, **{**m.angles, "bethe_ridge": True}) * inside
    blend = np.clip((energy - 29.0) / 12.0, 0, 1)
    blend = blend * blend * (3 - 2 * blend)
    path_nm = scattering.inelastic_mean_free_path(
        phase.density_g_cm3,
        beam_energy_keV=m.beam_energy_keV,
        collection_mrad=m.collection_mrad,
        convergence_mrad=m.convergence_mrad,
    )
    drude_per_nm = 1 / path_nm - edges_per_nm - (tail * blend).sum()
    return tail * blend + drude * (1 - blend) * drude_per_nm / (drude * (1 - blend)).sum()


@checked
def spectrum_model(
    microscope: Microscope | None = None,
    *,
    system: System | str | None = None,
    phases: Sequence[str] | None = None,
    plural: bool = True,
    **settings: Any,
) -> SpectrumModel:
    """`SpectrumModel` of a microscope, or of the default one with some settings changed.

    Parameters
    ----------
    microscope
        Beam and spectrometer; None: ``Microscope(**settings)``.
    system, phases, plural
        As for `SpectrumModel`.
    **settings
        Fields of `Microscope`.

    Raises
    ------
    ValueError
        If both a microscope and settings are passed, or a setting is out of range.

    Examples
    --------
    >>> model = spectrum_model(collection_mrad=20.0)
    >>> model.reference("FeO", "L2,3").shape
    (1024,)
    >>> manganese = spectrum_model(system="manganese_oxides")
    >>> manganese.phases, float(manganese.energy_eV("M2,3")[manganese.reference("MnO", "M2,3").argmax()])
    (('MnO', 'Mn3O4'), 50.75)
    """
    if microscope is not None and settings:
        raise ValueError(f"settings: got {sorted(settings)}, wants none where a microscope is passed")
    return SpectrumModel(microscope or Microscope(**settings), phases, plural, system)
