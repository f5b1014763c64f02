"""Reference spectra found in a specimen, how far to rely on them, and their file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .rotation import Rotation

__all__ = ["Diagnostics", "Standards"]

FORMAT = "softeels standards 3"


@dataclass(frozen=True)
class Diagnostics:
    """What to look at before references are used.

    Attributes
    ----------
    phases : tuple of str
    condition_number : float
        Of the references, each scaled to norm 1, from the onset to 90 eV.
    leakage : (2,)
        How much of the other phase a reference may hold: one standard deviation.
    leakage_correlation : float
        Between the two places of the phases on the line.
    purity : (2,)
        Lowest and highest FeO fraction of the iron in the pixels.
    signal : (M,)
        Squared singular values of M2,3 over the largest of noise: two components, not three.
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
        Log-likelihood of each constraint at the result, less the best that it has anywhere.
    tension : float
        p-value of the constraints, see `Rotation`.
    doubt : dict of str to float
        Probability that a constraint is the one that does not hold.
    end_valence, end_valence_error : (2,)
        Lowest and highest mean valence of the iron in the pixels, by what counts valence alone, and one standard error.
    thickness_ratio : float
        Thickness by counted atoms over that by the mean free path.
    left_out : dict of str to str
        Constraints that were asked for and could not be used, and why.
    microscope : dict of str to float
        ``beam_energy_keV``, ``collection_mrad``, ``convergence_mrad``.
    onset_eV : float
    window_eV : (float, float)
    mask : bool (...)
        Pixels of the specimen.
    """

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

    def to_json(self) -> str:
        """All of it as JSON text; arrays become lists."""
        return json.dumps(asdict(self), default=lambda array: array.tolist())

    @classmethod
    def from_json(cls, text: str) -> Diagnostics:
        """What `to_json` wrote."""
        values = json.loads(text)
        for f in fields(cls):
            if f.type == "NDArray":
                values[f.name] = np.asarray(values[f.name])
            elif f.type.startswith("tuple"):
                values[f.name] = tuple(values[f.name])
        return cls(**values)


@dataclass(frozen=True)
class Standards:
    """References of the phases, found in the specimen itself.

    Attributes
    ----------
    energy_eV : (E,)
        Energy loss of the references: the axis of the low loss.
    references : (2, E)
        M2,3 of FeO and of Fe3O4: single-scattering probability per electron, per eV and per nm of the phase.
    uncertainty : (2, E)
        One standard deviation, over bootstrap draws of the pixels and over what the constraints leave open.
    abundances : (2, ...)
        nm of each phase in every pixel.
    diagnostics : Diagnostics
    core_energy_eV : (E2,)
    core_references : (2, E2)
        The core loss that goes with the references, per electron, eV and nm, with its background.
    samples : (B, 2, E)
        Draws of the references, to propagate their uncertainty: of the pixels, of what the constraints leave open and,
        where they contradict each other, of which one does not hold.
    iron_per_nm3, valence : (2,)
        Iron atoms per nm³ of each phase, and their mean valence, vacancies included.
    iron_samples, valence_samples : (B, 2)
        The same for each of the samples.
    warnings : tuple of str
        What speaks against the result, one sentence each; empty where nothing does.
    rotation : Rotation or None
        Probability of the rotation, for figures; not saved.
    """

    energy_eV: NDArray
    references: NDArray
    uncertainty: NDArray
    abundances: NDArray
    diagnostics: Diagnostics
    core_energy_eV: NDArray
    core_references: NDArray
    samples: NDArray = field(repr=False)
    iron_per_nm3: NDArray
    valence: NDArray
    iron_samples: NDArray = field(repr=False)
    valence_samples: NDArray = field(repr=False)
    warnings: tuple[str, ...] = ()
    rotation: Rotation | None = field(repr=False, default=None)

    @property
    def flagged(self) -> bool:
        """Whether there are warnings."""
        return bool(self.warnings)

    def save(self, path: str | Path) -> None:
        """Write to a ``.npz`` file: arrays, and the diagnostics as JSON text. Nothing is pickled.

        Raises
        ------
        ValueError
            If the name does not end in ``.npz``.
        """
        path = Path(path)
        if path.suffix != ".npz":
            raise ValueError(f"path: got {path.name}, wants a name that ends in .npz")
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        texts = {"diagnostics": self.diagnostics.to_json(), "warnings": json.dumps(self.warnings), "format": FORMAT}
        np.savez_compressed(path, **{name: np.array(text) for name, text in texts.items()}, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Standards:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            If the file is not one of `save`.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                found = str(file["format"]) if "format" in file else "another kind of file"
                if found != FORMAT:
                    raise ValueError(f"format: got {found}, wants {FORMAT}")
                arrays = {name: file[name] for name in _ARRAYS}
                diagnostics = Diagnostics.from_json(str(file["diagnostics"]))
                warnings = tuple(json.loads(str(file["warnings"])))
        except FileNotFoundError:
            raise
        except (ValueError, KeyError, TypeError, OSError, EOFError) as error:
            raise ValueError(f"path: got {Path(path).name}, wants a file of Standards.save ({error})") from None
        return cls(diagnostics=diagnostics, warnings=warnings, **arrays)


_ARRAYS = tuple(f.name for f in fields(Standards) if f.type == "NDArray")
