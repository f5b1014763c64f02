"""One edge against another: three definitions of how many electrons it saves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from .. import scattering
from ..scattering import WINDOW_EV, check_window, partial_cross_section
from ..simulate import Microscope, SpectrumModel
from ..simulate import spectrum_model as make_model
from .acquisition import Acquisition
from .bounds import phase_bound

__all__ = [
    "DoseComparison",
    "compare_edges",
    "dose_efficiency",
    "iron_weights",
    "shot_noise_ratio",
    "signal_ratio",
    "sweep",
]


def signal_ratio(
    edge_a: str = "M2,3",
    edge_b: str = "L2,3",
    *,
    element: str = "Fe",
    beam_energy_keV: float = 300.0,
    collection_mrad: float = 40.0,
    window_a_eV: tuple[float, float] | None = None,
    window_b_eV: tuple[float, float] | None = None,
    **angles: float,
) -> float:
    """Signal per electron of one edge over another's: the ratio of their partial cross-sections.

    Parameters
    ----------
    edge_a, edge_b
        Edges of the element.
    element
        Symbol of the element.
    beam_energy_keV, collection_mrad, **angles
        As for `scattering.partial_cross_section`.
    window_a_eV, window_b_eV
        Windows in which the signal is counted; default: `scattering.WINDOW_EV`.

    Raises
    ------
    ValueError
        For an edge without a default window, or arguments that `scattering.partial_cross_section` refuses.

    Examples
    --------
    >>> round(signal_ratio("M2,3", "L2,3", beam_energy_keV=300, collection_mrad=40))
    55
    """
    angles |= {"beam_energy_keV": beam_energy_keV, "collection_mrad": collection_mrad}
    sigma_a, sigma_b = (
        partial_cross_section(element, edge, window_eV=_signal_window(edge, window, name), **angles)
        for edge, window, name in ((edge_a, window_a_eV, "window_a_eV"), (edge_b, window_b_eV, "window_b_eV"))
    )
    return sigma_a / sigma_b


def _signal_window(edge: str, window_eV: ArrayLike | None, name: str) -> tuple[float, float]:
    """Window in which the signal of an edge is counted, by default the edge's own."""
    if window_eV is None and edge not in WINDOW_EV:
        raise ValueError(f"{name}: got None, wants a window for the edge {edge!r}; {sorted(WINDOW_EV)} have a default")
    return check_window(WINDOW_EV[edge] if window_eV is None else window_eV, name)


def iron_weights(model: SpectrumModel) -> NDArray:
    """Iron atoms per nm³ of each phase over those of the first: total iron = weights · thickness (nm of phase one)."""
    atoms = np.array([scattering.MATERIALS[p].atoms_per_nm3.get("Fe", 0.0) for p in model.phases])
    return atoms / atoms[0]


def _quantity_weights(model: SpectrumModel, quantity: str | ArrayLike) -> NDArray:
    """Weights of a quantity that is linear in the thicknesses."""
    if isinstance(quantity, str):
        if quantity == "total iron":
            return iron_weights(model)
        if quantity in model.phases:
            return np.eye(len(model.phases))[model.phases.index(quantity)]
        raise ValueError(f"quantity: got {quantity!r}, wants 'total iron' or one of {model.phases}")
    weights = np.asarray(quantity, dtype=float)
    if weights.shape != (len(model.phases),):
        raise ValueError(f"quantity: got {quantity!r}, wants a name or {len(model.phases)} weights")
    return weights


def dose_efficiency(
    spectrum_model: SpectrumModel | None = None,
    *,
    quantity: str | ArrayLike = "total iron",
    edge_a: str = "M2,3",
    edge_b: str = "L2,3",
    fluence_e_per_A2: float = 1e4,
    window_a_eV: tuple[float, float] | None = None,
    window_b_eV: tuple[float, float] | None = None,
    background_a: str | ArrayLike | None = None,
    background_b: str | ArrayLike | None = None,
    spectrum_a: ArrayLike | None = None,
    spectrum_b: ArrayLike | None = None,
    **settings: Any,
) -> float:
    """Fluence that edge b needs, over that of edge a, to bound a quantity equally well.

    Parameters
    ----------
    spectrum_model
        From `simulate.spectrum_model`; None: its default.
    quantity
        ``"total iron"``, the name of a phase, or weights of the phase thicknesses.
    edge_a, edge_b
        The edges compared.
    fluence_e_per_A2
        Fluence of edge a; it matters only with readout noise, where the bounds do not just scale.
    window_a_eV, window_b_eV, background_a, background_b, spectrum_a, spectrum_b
        ``window_eV``, ``background`` and ``spectrum`` of the `Acquisition` of each edge.
    **settings
        What both edges share: ``thickness_nm``, ``pixel_size_nm``, ``readout_counts`` and ``gain`` of `Acquisition`.

    Raises
    ------
    ValueError
        For an unknown quantity, or arguments that `phase_bound` refuses.
    TypeError
        For a setting that `Acquisition` does not have.
    """
    model = spectrum_model or make_model()
    weights = _quantity_weights(model, quantity)
    a = Acquisition.from_settings(
        edge=edge_a, window_eV=window_a_eV, background=background_a, spectrum=spectrum_a, **settings
    )
    b = replace(a, edge=edge_b, window_eV=window_b_eV, background=background_b, spectrum=spectrum_b)
    target = _variance(model, weights, fluence_e_per_A2, a)
    if not b.readout_counts:  # bounds scale with the fluence
        return float(_variance(model, weights, fluence_e_per_A2, b) / target)
    log_ratio = brentq(
        lambda x: np.log(_variance(model, weights, fluence_e_per_A2 * np.exp(x), b) / target),
        np.log(1e-4),
        np.log(1e8),
        xtol=1e-6,
    )
    return float(np.exp(log_ratio))


def _variance(model: SpectrumModel, weights: NDArray, fluence_e_per_A2: float, acquisition: Acquisition) -> float:
    return weights @ phase_bound(model, fluence_e_per_A2, acquisition) @ weights


def shot_noise_ratio(
    spectrum_model: SpectrumModel | None = None,
    *,
    edge_a: str = "M2,3",
    edge_b: str = "L2,3",
    thickness_nm: ArrayLike = (10.0, 10.0),
    window_a_eV: tuple[float, float] | None = None,
    window_b_eV: tuple[float, float] | None = None,
    background_factor: float = 1.0,
) -> float:
    """Fluence that edge b needs, over that of edge a, for equal signal-to-noise of the counts in a window.

    SNR² = S² / (S + h B) per electron, with signal S and background B in the window (Egerton 2011, eq. 4.61).

    Parameters
    ----------
    spectrum_model
        From `simulate.spectrum_model`; None: its default.
    edge_a, edge_b
        The edges compared.
    thickness_nm
        Thickness of each phase.
    window_a_eV, window_b_eV
        Windows in which the counts are added up; default: `scattering.WINDOW_EV`.
    background_factor
        h: 1 where the background is known, 5 to 10 where it is extrapolated from before the edge.
    """
    model, thickness = spectrum_model or make_model(), np.asarray(thickness_nm, dtype=float)
    snr2 = []
    for edge, window, name in ((edge_a, window_a_eV, "window_a_eV"), (edge_b, window_b_eV, "window_b_eV")):
        low, high = _signal_window(edge, window, name)
        energy = model.energy_eV(edge)
        inside = (energy >= low) & (energy < high)
        signal = (thickness @ model.derivative(thickness, edge))[inside].sum()
        total = model.expected(thickness, edge)[inside].sum()
        snr2.append(signal**2 / (signal + background_factor * (total - signal)))
    return float(snr2[0] / snr2[1])


@dataclass(frozen=True)
class DoseComparison:
    """Edge a against edge b by the three definitions; each a ratio of fluences (the first: of signals).

    Attributes
    ----------
    signal, shot_noise
        `signal_ratio` and `shot_noise_ratio`.
    total_iron, phases
        `dose_efficiency` for total iron, and for each phase by name.
    """

    signal: float
    shot_noise: float
    total_iron: float
    phases: dict[str, float]


def compare_edges(
    spectrum_model: SpectrumModel | None = None, *, thickness_nm: ArrayLike = (10.0, 10.0), **settings: Any
) -> DoseComparison:
    """`DoseComparison` of Fe-M2,3 against Fe-L2,3; settings as for `dose_efficiency`."""
    model = spectrum_model or make_model()
    m = model.microscope
    settings |= {"thickness_nm": thickness_nm}
    return DoseComparison(
        signal=signal_ratio(
            beam_energy_keV=m.beam_energy_keV, collection_mrad=m.collection_mrad, bethe_ridge=m.bethe_ridge
        ),
        shot_noise=shot_noise_ratio(model, thickness_nm=thickness_nm),
        total_iron=dose_efficiency(model, **settings),
        phases={p: dose_efficiency(model, quantity=p, **settings) for p in model.phases},
    )


def sweep(
    parameter: str,
    values: Sequence[Any] | NDArray,
    *,
    microscope: Microscope | None = None,
    thickness_nm: ArrayLike = (10.0, 10.0),
    **settings: Any,
) -> list[DoseComparison]:
    """`compare_edges` over one parameter.

    Parameters
    ----------
    parameter
        A field of `simulate.Microscope` (``"collection_mrad"``, ``"beam_energy_keV"``, ...),
        ``"thickness_nm"`` (total, divided between the phases as in ``thickness_nm``) or any setting of
        `dose_efficiency`.
    values
        Values of the parameter.
    microscope, thickness_nm, **settings
        All other conditions.

    Returns
    -------
    list of DoseComparison
        One for each value.
    """
    microscope = microscope or Microscope()
    model, thickness = make_model(microscope), np.asarray(thickness_nm, dtype=float)
    comparisons = []
    for value in values:
        model_here, here = model, {**settings, "thickness_nm": thickness}
        if parameter == "thickness_nm":
            here["thickness_nm"] = thickness * value / thickness.sum()
        elif hasattr(microscope, parameter):
            model_here = make_model(replace(microscope, **{parameter: value}))
        else:
            here[parameter] = value
        comparisons.append(compare_edges(model_here, **here))
    return comparisons
