"""Reference spectra of phases, how far to rely on them, and their file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..archives import check_archive
from ..checks import check_file, check_names, check_output, real_array
from ..doors import checked
from ..spectra import energy_axis
from .misfit import LEAST_PROBABLE, RESIDUAL, THIRD
from .rotation import Rotation

__all__ = ["Diagnostics", "Standards"]

CONDITION, LEAKAGE = 30.0, 0.1  # beyond which references are doubtful

FORMAT = "softeels standards 4"
# before systems, all standards were those of the iron oxides
FORMER, FORMER_SYSTEM = "softeels standards 3", "iron_oxides"
FORMER_NAMES = {"iron_per_nm3": "metal_per_nm3", "iron_samples": "metal_samples"}


@checked(
    leakage="2",
    purity="2",
    signal="M",
    residual_energy_eV="W",
    residual_spectrum="W",
    residual_map="...",
    end_valence="2",
    end_valence_error="2",
    mask="...",
)
@dataclass(frozen=True)
class Diagnostics:
    """What to check before using the references.

    Attributes
    ----------
    system : str
        Name of the system.
    phases : tuple of str
        The reduced phase and the oxidised one.
    condition_number : float
        Condition number of the references, each scaled to norm 1, from the onset to 90 eV.
    leakage : (2,)
        How much of the other phase each reference may contain: one standard deviation, as a fraction of the metal.
    leakage_correlation : float
        Correlation between the positions of the two phases on the line.
    purity : (2,)
        Lowest and highest fraction of the metal that is in the reduced phase, over the pixels.
    signal : (M,)
        Squared singular values of M2,3 over the largest from noise: two should exceed 1, not three.
    residual : float
        Mean squared residual of the plane, in units of the noise.
    residual_energy_eV, residual_spectrum : (W,)
        Root mean square of the residual in each channel.
    residual_map : (...)
        Mean squared residual in each pixel, NaN off the specimen.
    delocalisation_pixels : float
        Standard deviation of the blur of the core loss.
    l3_eV : float
        Where the L3 maximum is on the energy axis of the core loss.
    leading_edge_eV : float
        Window on the leading edge of L3 that was used, NaN for none.
    outermost : str or None
        The phase at the rim, where it is resolved.
    electrons_per_pixel : float
        Of the low loss.
    constraints : dict of str to float
        Log-likelihood of each constraint at the result, minus the highest that it reaches anywhere.
    tension : float
        p-value of the constraints, see `Rotation`.
    doubt : dict of str to float
        Probability that this constraint is the one that does not hold.
    end_valence, end_valence_error : (2,)
        Lowest and highest mean valence of the metal over the pixels, from the constraints on valence alone, and one
        standard error.
    thickness_ratio : float
        Thickness from counted atoms over that from the mean free path.
    left_out : dict of str to str
        Constraints that were asked for but could not be used, and why.
    microscope : dict of str to float
        ``beam_energy_keV``, ``collection_mrad``, ``convergence_mrad``.
    onset_eV : float
    window_eV : (float, float)
    mask : bool (...)
        Pixels of the specimen.
    oxygen_deficit, oxygen_deficit_deviations : float
        Fraction of the oxygen per metal atom that is missing in the spot with the least oxygen, and the same in
        standard deviations over the specimen; NaN where it is not known.
    oxygen_to_l3_eV : float
        Distance from the main maximum of O-K to that of L3, which a wrong dispersion stretches; NaN where it cannot be
        measured.
    other_matter : float
        Part of the valence losses that goes with neither phase, such as those of ligands; 0 where none is seen, NaN in
        files of earlier versions.
    """

    system: str
    phases: tuple[str, ...]
    condition_number: float
    leakage: NDArray
    leakage_correlation: float
    purity: NDArray
    signal: NDArray
    residual: float
    residual_energy_eV: NDArray = field(repr=False)
    residual_spectrum: NDArray = field(repr=False)
    residual_map: NDArray = field(repr=False)
    delocalisation_pixels: float
    l3_eV: float
    leading_edge_eV: float
    outermost: str | None
    electrons_per_pixel: float
    constraints: dict[str, float]
    tension: float
    doubt: dict[str, float]
    end_valence: NDArray
    end_valence_error: NDArray
    thickness_ratio: float
    left_out: dict[str, str]
    microscope: dict[str, float]
    onset_eV: float
    window_eV: tuple[float, float]
    mask: NDArray = field(repr=False)
    oxygen_deficit: float = float("nan")
    oxygen_deficit_deviations: float = float("nan")
    oxygen_to_l3_eV: float = float("nan")
    other_matter: float = float("nan")

    def checklist(self) -> list[dict[str, str | float]]:
        """Quantities to check, each with its value and when to doubt it; for a table."""
        least, most = RESIDUAL
        rows = [
            ("condition number of the references", self.condition_number, f"above {CONDITION:g}: phases too similar"),
            ("third component / noise", self.signal[2], f"above {THIRD:g}: a third phase, drift, a bad background"),
            ("mean squared residual / noise", self.residual, f"outside {least:g} to {most:g}: wrong gain, or a misfit"),
            ("p-value of the constraints", self.tension, f"below {LEAST_PROBABLE:g}: they contradict each other"),
        ]
        rows += [
            (f"leakage of {phase}", part, f"above {LEAKAGE:g}: the constraints leave the rotation open")
            for phase, part in zip(self.phases, self.leakage, strict=True)
        ]
        return [{"quantity": name, "value": float(value), "doubt if": text} for name, value, text in rows]

    def to_json(self) -> str:
        """Everything as JSON text; arrays become lists."""
        return json.dumps(asdict(self), default=lambda array: array.tolist())

    @classmethod
    def from_json(cls, text: str) -> Diagnostics:
        """Read what `to_json` wrote."""
        values = {"system": FORMER_SYSTEM} | json.loads(text)
        for f in fields(cls):
            if f.type == "NDArray":
                values[f.name] = np.asarray(values[f.name])
            elif f.type.startswith("tuple"):
                values[f.name] = tuple(values[f.name])
        return cls(**values)


@checked(
    energy_eV="E",
    references="K E",
    uncertainty="K E",
    samples="B K E",
    metal_per_nm3="K",
    valence="K",
    metal_samples="B K",
    valence_samples="B K",
    abundances="K ...",
    core_energy_eV="F",
    core_references="K F",
)
@dataclass(frozen=True)
class Standards:
    """References of K phases: found in the specimen itself (`extract_standards`) or obtained from outside.

    Attributes
    ----------
    system : str
        Name of the system of phases.
    phases : tuple of str
        Names of the K phases.
    energy_eV : (E,)
        Energy loss of the references; where they were found in a specimen, the axis of its low loss.
    references : (K, E)
        M2,3 of each phase: single-scattering probability per electron, per eV and per nm of the phase.
    uncertainty : (K, E)
        Standard deviation of the samples.
    samples : (B, K, E)
        Draws of the references, to propagate their uncertainty. For references found in a specimen, they vary the
        pixels, what the constraints leave open and, where constraints contradict each other, which one does not hold.
    metal_per_nm3, valence : (K,)
        Metal atoms per nm³ of each phase, and their mean valence, vacancies included.
    metal_samples, valence_samples : (B, K)
        The same for each of the samples.
    abundances : (K, ...) or None
        Thickness of each phase in every pixel, nm; None for references from outside.
    core_energy_eV, core_references : (E2,), (K, E2), or None
        The core loss that goes with the references, per electron, eV and nm, with its background.
    diagnostics : Diagnostics or None
    warnings : tuple of str
        What speaks against the result, one sentence each; empty where nothing does.
    rotation : Rotation or None
        Probability of the rotation, for figures; not saved.
    """

    system: str
    phases: tuple[str, ...]
    energy_eV: NDArray
    references: NDArray
    uncertainty: NDArray
    samples: NDArray = field(repr=False)
    metal_per_nm3: NDArray
    valence: NDArray
    metal_samples: NDArray = field(repr=False)
    valence_samples: NDArray = field(repr=False)
    abundances: NDArray | None = field(repr=False, default=None)
    core_energy_eV: NDArray | None = field(repr=False, default=None)
    core_references: NDArray | None = field(repr=False, default=None)
    diagnostics: Diagnostics | None = field(repr=False, default=None)
    warnings: tuple[str, ...] = ()
    rotation: Rotation | None = field(repr=False, default=None)

    def __post_init__(self):
        check_names(self.phases, "phases", len(self.references))
        energy_axis(self.references, self.energy_eV, of="references")
        for name in ("references", "uncertainty", "samples"):
            real_array(getattr(self, name), name)

    @property
    def flagged(self) -> bool:
        """Whether there are warnings."""
        return bool(self.warnings)

    @classmethod
    def from_spectra(cls, spectra: Mapping[str, Any], **options: Any) -> Standards:
        """References of phases from their spectra: `standards_from_spectra`."""
        from .outside import standards_from_spectra

        return standards_from_spectra(spectra, **options)

    @classmethod
    def from_roi(cls, low_loss: Any, regions: Mapping[str, Any], **options: Any) -> Standards:
        """References from regions of a spectrum image that contain one phase each: `standards_from_roi`."""
        from .outside import standards_from_roi

        return standards_from_roi(low_loss, regions, **options)

    def on(self, energy_eV: ArrayLike) -> Standards:
        """The same references, samples included, on another energy axis (E2,), by linear interpolation.

        Raises
        ------
        ValueError
            If the axis is not evenly spaced, or extends beyond that of the references: nothing is extrapolated.
        """
        energy = energy_axis(np.zeros(np.size(energy_eV)), energy_eV)
        first, last = self.energy_eV[0], self.energy_eV[-1]
        slack = 1e-6 * (self.energy_eV[1] - first)
        if energy[0] < first - slack or energy[-1] > last + slack:
            raise ValueError(
                f"energy_eV: got {energy[0]:g} to {energy[-1]:g} eV, wants energies within those of the references, "
                f"{first:g} to {last:g} eV"
            )
        move = partial(interpolate, energy, self.energy_eV)
        samples, references = move(self.samples).astype(self.samples.dtype), move(self.references)
        return replace(self, energy_eV=energy, references=references, uncertainty=samples.std(axis=0), samples=samples)

    def save(self, path: str | Path) -> None:
        """Write to a ``.npz`` file: arrays, and the rest as JSON text; nothing is pickled.

        Raises
        ------
        ValueError
            If the name does not end in ``.npz``, or nothing can be written there.
        """
        path = check_output(path, (".npz",))
        arrays = {name: getattr(self, name) for name in _ARRAYS if getattr(self, name) is not None}
        texts = {"format": FORMAT, "warnings": json.dumps(self.warnings), "phases": json.dumps(self.phases)}
        texts |= {"system": self.system}
        if self.diagnostics is not None:
            texts |= {"diagnostics": self.diagnostics.to_json()}
        np.savez_compressed(path, **{name: np.array(text) for name, text in texts.items()}, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Standards:
        """Read what `save` wrote, including files from before systems existed (iron oxides).

        Raises
        ------
        ValueError
            If there is no such file, or it was not written by `save`.
        """
        path = check_file(path, (".npz",))
        check_archive(path)
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                found = str(file["format"]) if "format" in file else "another kind of file"
                if found not in (FORMAT, FORMER):
                    raise ValueError(f"format: got {found}, wants {FORMAT}")
                stored = {FORMER_NAMES.get(name, name): file[name] for name in file.files}
            texts = {name: str(stored[name]) for name in ("diagnostics", "system") if name in stored}
            diagnostics = Diagnostics.from_json(texts["diagnostics"]) if "diagnostics" in texts else None
            phases = json.loads(str(stored["phases"])) if "phases" in stored else diagnostics.phases
            return cls(
                system=texts.get("system", FORMER_SYSTEM),
                phases=tuple(phases),
                diagnostics=diagnostics,
                warnings=tuple(json.loads(str(stored["warnings"]))),
                **{name: stored[name] for name in _ARRAYS if name in stored},
            )
        except Exception as error:  # whatever may be packed there
            raise ValueError(f"path: got {path.name}, wants a file of Standards.save ({error})") from None


_ARRAYS = tuple(f.name for f in fields(Standards) if f.type.startswith("NDArray"))


def interpolate(new: NDArray, old: NDArray, spectra: NDArray) -> NDArray[np.float64]:
    """Spectra (..., E) on other energies (E2,), linearly."""
    flat = np.reshape(spectra, (-1, len(old)))
    return np.array([np.interp(new, old, y) for y in flat]).reshape(*np.shape(spectra)[:-1], len(new))
