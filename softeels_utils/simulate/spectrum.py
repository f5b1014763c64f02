"""Noise-free spectra of a specimen of known thickness, and of each edge in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import ndtr, voigt_profile

from .. import scattering
from ..scattering import PHASES

COMPONENTS = ("valence", "M2,3", "M1", "K", "L2,3")


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
        # neither the resolution nor the detector's zero-loss tail enters: models that differ in them share it
        microscope = replace(self.microscope, energy_resolution_eV=1.0, zero_loss_tail_eV=0.0)
        top = max(self.core_energy_eV[-1], self.low_energy_eV[-1]) * 1.05
        return {p: _single_scattering(p, microscope, self._grid.size, top) for p in self.phases}

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


@lru_cache(maxsize=64)
def _single_scattering(phase: str, m: Microscope, size: int, top: float) -> dict:
    """{component: single scattering per channel, nm and electron} of a phase, on a grid from 0 that ends at `top`."""
    material = scattering.MATERIALS[phase]
    e = m.dispersion_eV * np.arange(size)
    safe = np.maximum(e, m.dispersion_eV / 2)
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
            out["M1"] = density * sigma(scattering.M1_FRACTION * past * rise * (e > 80))
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
