"""Errors to expect of a user's specimen at other fluences, from a spectrum that was measured at one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from .. import scattering
from ..checks import check_not_negative, check_positive, describe
from ..doors import checked
from ..fitting import PhaseFit, fit_phases
from ..scattering.microscope import MICROSCOPE_KEYS
from ..spectra import FWHM_PER_SIGMA, align_zero_loss, energy_axis, window_mask

if TYPE_CHECKING:
    from ..standards import Standards

__all__ = ["ErrorForecast", "forecast_errors"]

CLEARLY_BETTER = 0.8  # reduced chi² of another metal's edge, over that of the metal looked for
CLEARLY_THERE = 5.0  # standard errors


@checked(energy_eV="W", electrons="W", fitted="W", background="W")
@dataclass(frozen=True)
class ErrorForecast:
    """What one measured low-loss spectrum tells of the errors at other fluences, see `forecast_errors`.

    Attributes
    ----------
    metal : str
        Whose M2,3 edge was fitted.
    energy_eV, electrons, fitted, background : (W,)
        Channels of the fit window: electrons of all pixels together, the fit of the metal's edge, its background.
    spectra : int
        How many were summed.
    thickness_nm : dict of str to float
        Mean thickness: of all metal, taken as the first phase of the system, and of each phase with references.
    error_nm : dict of str to float
        Standard error in one pixel at one electron per Å².
    better : tuple of str
        Other metals whose edge fits clearly better.
    significance : float
        Amount of the metal over its standard error, in the summed spectrum.
    """

    metal: str
    energy_eV: NDArray = field(repr=False)
    electrons: NDArray = field(repr=False)
    fitted: NDArray = field(repr=False)
    background: NDArray = field(repr=False)
    spectra: int
    thickness_nm: dict[str, float]
    error_nm: dict[str, float]
    better: tuple[str, ...]
    significance: float

    @property
    def doubt(self) -> str:
        """Why this may not be the metal that was looked for, in words; empty where nothing speaks against it."""
        if self.better:
            return f"M2,3 of {' or '.join(self.better)} fits better"
        return "" if self.significance >= CLEARLY_THERE else "no edge stands out"

    def fluence_e_per_A2(self, error_nm: float) -> dict[str, float]:
        """Fluence at which each thickness is known to ``error_nm`` in one pixel."""
        return {name: (at_one / error_nm) ** 2 for name, at_one in self.error_nm.items()}


@checked
def forecast_errors(
    signal: Any,
    *,
    system: scattering.System | str | None = None,
    references: Standards | None = None,
    pixel_size_nm: float = 0.4,
    gain: float = 1.0,
    energy_resolution_eV: float = 0.7,
    **microscope: float,
) -> ErrorForecast:
    """Fit the M2,3 edge in the sum of low-loss spectra, and scale the covariance of the fit to one electron per Å².

    Counts, background and plural scattering are those of the spectrum. For an unbiased fit whose noise is that of
    counting, the error is the Cramér-Rao bound.

    Parameters
    ----------
    signal
        HyperSpy EELS signal, (..., E), in counts: the zero loss, whose electrons are counted, and M2,3.
    system
        Whose metal it is; None: the iron oxides.
    references
        Standards of the phases; None: only all metal, by the cross-section of free atoms.
    pixel_size_nm
        Side of the pixel that the errors are for.
    gain
        Counts per electron.
    energy_resolution_eV
        FWHM by which the cross-section is broadened.
    **microscope
        ``beam_energy_keV``, ``collection_mrad`` and ``convergence_mrad``, as for
        `scattering.differential_cross_section`.

    Raises
    ------
    ValueError
        For energies, of the signal or of the references, that do not reach beyond M2,3.
    """
    check_positive(pixel_size_nm=pixel_size_nm, gain=gain, energy_resolution_eV=energy_resolution_eV)
    system = scattering.as_system(system)
    if references is not None and not hasattr(references, "energy_eV"):
        raise ValueError(f"references: got {describe(references)}, wants Standards")
    edge = system.edge("M2,3")
    first, last = edge.fit_window_eV
    energy = energy_axis(signal, of="signal")
    if energy[0] > -2 or energy[-1] < last:
        got = f"{energy[0]:.0f} to {energy[-1]:.0f} eV"
        raise ValueError(f"signal: got energies of {got}, wants the zero loss and {system.metal}-M2,3: -2 to {last} eV")
    if references is not None and (references.energy_eV[0] > first or references.energy_eV[-1] < last):
        got = f"{references.energy_eV[0]:g} to {references.energy_eV[-1]:g} eV"
        raise ValueError(f"references: got energies of {got}, wants {first} to {last} eV")
    _check_microscope(microscope)

    aligned = np.asarray(align_zero_loss(signal).data, float).reshape(-1, energy.size)
    total = aligned.sum(axis=0) / gain
    options = {"low_loss": total, "nonnegative": False, **edge.fit_options}
    shapes = _edges_of_free_atoms(energy, energy_resolution_eV, microscope)
    atoms = {metal: fit_phases(total, energy, [shape], **options) for metal, shape in shapes.items()}
    own = atoms[system.metal]
    amounts = {f"all {system.metal}, as {system.channels[0]}": (own, 0, system.metal_per_nm3()[0])}
    if references is not None:
        step = energy[1] - energy[0]
        of_phases = [step * np.interp(energy, references.energy_eV, y, left=0) for y in references.references]
        fit = fit_phases(total, energy, np.stack(of_phases), **options)
        amounts |= {phase: (fit, k, 1.0) for k, phase in enumerate(references.phases)}
    inside, (fitted, background) = window_mask(energy, edge.fit_window_eV), own.curves()
    return ErrorForecast(
        metal=system.metal,
        energy_eV=energy[inside],
        electrons=total[inside],
        fitted=fitted,
        background=background,
        spectra=len(aligned),
        thickness_nm={name: float(fit.coefficients[k] / unit) for name, (fit, k, unit) in amounts.items()},
        error_nm={
            name: _error_at_one(fit, k, total.sum(), pixel_size_nm) / unit for name, (fit, k, unit) in amounts.items()
        },
        better=tuple(m for m, fit in atoms.items() if fit.reduced_chi2 < CLEARLY_BETTER * own.reduced_chi2),
        significance=float(own.coefficients[0] / own.standard_error[0]),
    )


def _check_microscope(microscope):
    unknown = sorted(set(microscope) - set(MICROSCOPE_KEYS))
    if unknown:
        raise TypeError(f"microscope: got {', '.join(unknown)}, wants some of {', '.join(MICROSCOPE_KEYS)}")
    check_not_negative(**microscope)
    for name in ("beam_energy_keV", "collection_mrad"):
        if name not in microscope:
            raise TypeError(f"{name}: got None, wants a number")
        check_positive(**{name: microscope[name]})


def _error_at_one(fit: PhaseFit, k: int, electrons: float, pixel_size_nm: float) -> float:
    """Standard error of a coefficient in one pixel at one electron per Å², from a fit to a number of electrons."""
    return float(fit.standard_error[k] * np.sqrt(electrons) / (10 * pixel_size_nm))


def _edges_of_free_atoms(
    energy_eV: NDArray, energy_resolution_eV: float, microscope: dict[str, float]
) -> dict[str, NDArray]:
    """M2,3 of the metal of each system that there is, per atom and nm², in each channel: ``{metal: (E,)}``."""
    step, loss = energy_eV[1] - energy_eV[0], np.maximum(energy_eV, 10.5)
    shapes = {}
    angles = {name: value for name, value in microscope.items() if name in ("collection_mrad", "convergence_mrad")}
    collected = scattering.collected_fraction(**angles)
    for metal in {scattering.load_system(name).metal: None for name in scattering.system_names()}:
        strength = scattering.edge_oscillator_strength(metal, "M2,3", loss)
        per_eV = scattering.differential_cross_section(strength, loss, **microscope) / collected
        shapes[metal] = gaussian_filter1d(per_eV * step, energy_resolution_eV / FWHM_PER_SIGMA / step)
    return shapes
