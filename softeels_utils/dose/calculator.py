"""Dose calculator for a page: a precomputed grid of bounds, and controls that read it without a kernel.

The controls are the script ``calculator.js`` beside this module.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..checks import check_kind, real_array
from ..doors import checked
from ..scattering import System
from ..simulate import Microscope, SpectrumModel, spectrum_model
from .bounds import linear_model
from .efficiency import metal_weights

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["Calculator", "calculator"]

EDGES = ("M2,3", "L2,3")
CAPTION = (
    "Smallest possible standard errors (Cramér-Rao bound, background unknown) in one pixel against the fluence, for "
    "both edges: solid M2,3, dashed L2,3. Precomputed on a grid of conditions; the controls need no kernel."
)


@checked(electrons="N")
@dataclass(frozen=True)
class Calculator:
    """Standard errors of each phase and of the total metal on a grid of conditions; shows itself in a notebook or page.

    Attributes
    ----------
    axes : dict
        Values of each argument of `calculator`, in the order of the axes of `error_nm`.
    electrons : (N,)
        Electrons per pixel.
    error_nm : (..., 2, P + 1, N)
        Conditions, edge (M2,3, L2,3), quantity, electrons.
    quantities : tuple of str
        The phases, and the total metal: ``("FeO", "Fe3O4", "total iron")``.
    """

    axes: dict[str, tuple[float, ...]]
    electrons: NDArray
    error_nm: NDArray
    quantities: tuple[str, ...]

    def html(self) -> str:
        """The figure and its controls as HTML; plotly draws it, no kernel is needed."""
        from ..plotting.interactive import captioned, figure_html

        script = files(__package__).joinpath("calculator.js").read_text(encoding="utf-8")
        drawn = figure_html(self.figure(), full_html=False, post_script=script.replace("__GRID__", self.json()))
        label = "Standard errors against the fluence, with controls for the conditions"
        return captioned(f'<div role="group" aria-label="{label}">{drawn}</div>', CAPTION, "calculator")

    _repr_html_ = html

    @property
    def start(self) -> tuple[int, ...]:
        """Index of the conditions that are shown first: the middle of each axis, without readout noise."""
        return tuple(0 if name == "readout_electrons" else len(v) // 2 for name, v in self.axes.items())

    def figure(self) -> Figure:
        """Errors against fluence under the conditions `start`; pixel of 0.4 nm (the page's control rescales it)."""
        import plotly.graph_objects as go

        from ..plotting import phase_colors

        figure, total = go.Figure(), "Fe total"  # of any metal
        colors = phase_colors([total if q.startswith("total") else q for q in self.quantities])
        for (e, edge), (q, quantity) in product(enumerate(EDGES), enumerate(self.quantities)):
            figure.add_trace(
                go.Scatter(
                    x=self.electrons / 16.0,
                    y=self.error_nm[self.start][e, q],
                    mode="lines",
                    name=f"{quantity}, {edge}",
                    line={
                        "color": colors[q],
                        "dash": "solid" if e == 0 else "dash",
                    },
                    hovertemplate="%{x:.2e} e/Å²: %{y:.2f} nm",
                )
            )
        figure.update_layout(
            template="plotly_white",
            xaxis={"type": "log", "title": {"text": "fluence (e/Å²)"}, "exponentformat": "power", "dtick": 1},
            yaxis={"type": "log", "title": {"text": "standard error (nm)"}, "exponentformat": "power", "dtick": 1},
            legend={"orientation": "h", "y": -0.25},
            margin={"l": 70, "r": 20, "t": 20, "b": 60},
            height=400,
            autosize=True,
        )
        return figure

    def json(self) -> str:
        """The grid as the page's script reads it: axes, start, quantities, electrons, shape and log10 of the errors."""
        from ..plotting.formulas import in_text

        logs = np.round(np.log10(self.error_nm), 4)
        grid = {
            "axes": {name: [float(v) for v in values] for name, values in self.axes.items()},
            "start": list(self.start),
            "quantities": [in_text(name) for name in self.quantities],
            "electrons": [float(f"{n:.5g}") for n in self.electrons],
            "shape": list(logs.shape),
            "log_error": logs.ravel().tolist(),
        }
        return json.dumps(grid, separators=(",", ":"))


@checked
def calculator(
    *,
    beam_energy_keV: Sequence[float] = (80.0, 200.0, 300.0),
    collection_mrad: Sequence[float] = (10.0, 20.0, 40.0),
    energy_resolution_eV: Sequence[float] = (0.3, 0.7, 1.2),
    thickness_nm: Sequence[float] = (5.0, 10.0, 20.0, 40.0, 80.0),
    readout_electrons: Sequence[float] = (0.0, 1.0, 5.0),
    microscope: Microscope | None = None,
    system: System | str | None = None,
) -> Calculator:
    """Bounds of both edges over all combinations of some conditions, as `Calculator`.

    Parameters
    ----------
    beam_energy_keV, collection_mrad, energy_resolution_eV
        Settings of the microscope.
    thickness_nm
        Total thickness, the same of each phase.
    readout_electrons
        Readout noise of each channel in electrons (standard deviation); 0: a camera that counts.
    microscope
        Everything else of the microscope.
    system
        A `scattering.System`, or the name or path of one; None: the iron oxides.

    Raises
    ------
    ValueError
        For a condition without values, or with values that are negative or not finite.
    """
    microscope = Microscope() if microscope is None else check_kind(microscope, "microscope", Microscope)
    given = {
        "beam_energy_keV": beam_energy_keV,
        "collection_mrad": collection_mrad,
        "energy_resolution_eV": energy_resolution_eV,
        "thickness_nm": thickness_nm,
        "readout_electrons": readout_electrons,
    }
    axes = {name: tuple(real_array(values, name, ndim=1).tolist()) for name, values in given.items()}
    for name, values in axes.items():
        if min(values) < 0:
            raise ValueError(f"{name}: got {values!r}, wants values of at least 0")
    electrons = np.geomspace(1e3, 1e9, 13)
    phases = spectrum_model(microscope, system=system).phases
    error = np.empty((*(len(v) for v in axes.values()), len(EDGES), len(phases) + 1, electrons.size))
    *settings, thicknesses, readouts = axes.values()
    for index in np.ndindex(*map(len, settings)):
        conditions = {name: axes[name][i] for name, i in zip(axes, index, strict=False)}
        model = spectrum_model(replace(microscope, **conditions), system=system)
        for (h, nm), (e, edge) in product(enumerate(thicknesses), enumerate(EDGES)):
            error[*index, h, :, e] = _errors_nm(model, edge, nm, readouts, electrons)
    return Calculator(axes, electrons, error, (*phases, f"total {model.system.metal_name}"))


def _errors_nm(
    model: SpectrumModel, edge: str, thickness_nm: float, readout_electrons: Sequence[float], electrons: NDArray
) -> NDArray:
    """Standard errors (readout, quantity, electrons) for one model, edge and thickness."""
    count = len(model.phases)
    weights = np.vstack([np.eye(count), metal_weights(model)])
    thickness = np.full(count, thickness_nm / count)
    one = linear_model(model, 1.0, edge=edge, thickness_nm=thickness, pixel_size_nm=0.1)
    error = np.empty((len(readout_electrons), len(weights), electrons.size))
    for (r, readout), (n, many) in product(enumerate(readout_electrons), enumerate(electrons)):
        # in units of one electron's spectrum: the shot noise falls with the electrons, the readout noise faster
        covariance = one.covariance(one.expected / many + (readout / many) ** 2)
        error[r, :, n] = np.sqrt(np.einsum("qp,pr,qr->q", weights, covariance, weights))
    return error
