"""What is recorded of one edge in one pixel, and how it is fitted."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import (
    check_choice,
    check_kind,
    check_not_negative,
    check_positive,
    check_window,
    describe,
    finite_array,
    real_array,
)
from ..doors import checked
from ..fitting import FIXED_POWERS, background_shapes
from ..scattering import as_system
from ..simulate import SpectrumModel
from ..spectra import in_window

__all__ = ["FIT_WINDOW_EV", "Acquisition", "phase_thickness"]

#: Windows fitted in the iron oxides, background before the edge included.
FIT_WINDOW_EV = {name: edge.fit_window_eV for name, edge in as_system(None).edges.items() if edge.fit_window_eV}


@checked
@dataclass(frozen=True, eq=False)  # arrays among the attributes have no single ==
class Acquisition:
    """One edge in one pixel: what is recorded, and how it is fitted.

    Attributes
    ----------
    edge
        ``"M2,3"`` or ``"L2,3"``.
    thickness_nm
        Thickness of each phase in the pixel; None: 10 nm of each.
    pixel_size_nm
        Side of the pixel: with the fluence it sets the electrons.
    window_eV
        Energies that are fitted; None: `FIT_WINDOW_EV`, or in a model of another system the window of that.
    background
        Background in the fit, as for `fitting.background_shapes`; None: that of the edge, in a model of its system.
    readout_counts, gain
        Readout noise (standard deviation, counts) and counts per electron of the camera.
    spectrum
        Measured spectrum ``(E,)`` in counts per electron on the model's energy axis (`measured_spectrum`), whose counts
        replace the model's in the noise.

    Raises
    ------
    ValueError
        Naming the attribute that is out of range.
    """

    edge: str = "M2,3"
    thickness_nm: ArrayLike | None = None
    pixel_size_nm: float = 0.4
    window_eV: tuple[float, float] | None = None
    background: str | ArrayLike | None = None
    readout_counts: float = 0.0
    gain: float = 1.0
    spectrum: ArrayLike | None = None

    def __post_init__(self):
        check_choice(self.edge, "edge", sorted(FIT_WINDOW_EV))
        thickness = np.zeros(1) if self.thickness_nm is None else finite_array(self.thickness_nm, "thickness_nm")
        if thickness.ndim != 1 or not thickness.size or (thickness < 0).any():
            raise ValueError(f"thickness_nm: got {self.thickness_nm!r}, wants one number of at least 0 per phase")
        check_positive(pixel_size_nm=self.pixel_size_nm, gain=self.gain)
        check_not_negative(readout_counts=self.readout_counts)
        check_window(self.fit_window_eV)
        if isinstance(self.background, str):
            check_choice(self.background, "background", FIXED_POWERS)
        elif self.background is not None and finite_array(self.background, "background").ndim not in (1, 2):
            raise ValueError(f"background: got {describe(self.background)}, wants a name, exponents or shapes (P, E)")
        if self.spectrum is not None:
            real_array(self.spectrum, "spectrum", ndim=1)

    @classmethod
    def from_settings(cls, acquisition: Acquisition | None = None, /, **settings: Any) -> Acquisition:
        """An acquisition (default: all defaults) with some of its attributes replaced.

        Raises
        ------
        TypeError
            For a setting that is no attribute of an acquisition.

        Examples
        --------
        >>> Acquisition.from_settings(edge="L2,3").fit_window_eV
        (640.0, 750.0)
        >>> Acquisition.from_settings(pixel_nm=0.4)
        Traceback (most recent call last):
            ...
        TypeError: settings: got 'pixel_nm', wants some of edge, thickness_nm, pixel_size_nm, window_eV, ...
        """
        names = [f.name for f in fields(cls)]
        unknown = [name for name in settings if name not in names]
        if unknown:
            raise TypeError(f"settings: got {', '.join(map(repr, unknown))}, wants some of {', '.join(names)}")
        return replace(cls() if acquisition is None else check_kind(acquisition, "acquisition", cls), **settings)

    def of_model(self, model: SpectrumModel) -> Acquisition:
        """The same with thicknesses, window and background filled in, where they are left open, from a model and its
        system.

        Raises
        ------
        ValueError
            If there is not one thickness per phase.
        """
        check_kind(model, "spectrum_model", SpectrumModel)
        options = model.system.edge(self.edge).fit_options
        given = {name: getattr(self, name) for name in options if getattr(self, name) is not None}
        return replace(self, thickness_nm=phase_thickness(self.thickness_nm, model), **options | given)

    @property
    def fit_window_eV(self) -> tuple[float, float]:
        """Energies that are fitted, by default those of the edge."""
        return FIT_WINDOW_EV[self.edge] if self.window_eV is None else self.window_eV

    @property
    def electrons_per_fluence(self) -> float:
        """Electrons in the pixel for one electron per Å²."""
        return (10 * self.pixel_size_nm) ** 2

    @checked(energy_eV="E")
    def in_window(self, energy_eV: NDArray) -> NDArray[np.bool_]:
        """Which of the channels (E,) of an energy axis are fitted."""
        window = low, high = check_window(self.fit_window_eV)
        if low < energy_eV[0] or high > energy_eV[-1]:
            raise ValueError(
                f"window_eV: got {self.fit_window_eV!r}, wants energies within {energy_eV[0]} to {energy_eV[-1]} eV"
            )
        return in_window(energy_eV, window)

    @checked(energy_eV="E")
    def background_shapes(self, energy_eV: NDArray) -> NDArray:
        """Shapes (B, E) of the background in the fit."""
        own = as_system(None).edge(self.edge).fit_background
        return background_shapes(energy_eV, own if self.background is None else self.background)


def phase_thickness(thickness_nm: ArrayLike | None, model: SpectrumModel) -> NDArray:
    """Thickness of each phase of a model (P,), by default 10 nm of each; `ValueError` unless there is one per phase."""
    count = len(model.phases)
    thickness = np.full(count, 10.0) if thickness_nm is None else finite_array(thickness_nm, "thickness_nm")
    if thickness.shape != (count,) or (thickness < 0).any():
        raise ValueError(f"thickness_nm: got {thickness_nm!r}, wants {count} thicknesses of at least 0")
    return thickness
