"""One edge against another: three definitions of how many electrons it saves."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from ..checks import (
    check_choice,
    check_kind,
    check_not_negative,
    check_positive,
    check_window,
    describe,
    finite_array,
    named,
)
from ..doors import checked
from ..scattering import System, as_system, partial_cross_section
from ..simulate import Microscope, SpectrumModel
from ..simulate import spectrum_model as make_model
from .acquisition import Acquisition, phase_thickness
from .bounds import phase_bound

__all__ = [
    "DoseComparison",
    "compare_edges",
    "dose_efficiency",
    "metal_weights",
    "shot_noise_ratio",
    "signal_ratio",
    "standard_errors",
    "sweep",
]


#: What `sweep` can vary besides the microscope.
SWEPT = (
    "thickness_nm",
    "pixel_size_nm",
    "readout_counts",
    "gain",
    "fluence_e_per_A2",
    *(f"{what}_{edge}" for what in ("edge", "background", "spectrum") for edge in "ab"),
    "window_a_eV",
    "window_b_eV",
)


@checked
def signal_ratio(
    edge_a: str = "M2,3",
    edge_b: str = "L2,3",
    *,
    system: System | str | None = None,
    beam_energy_keV: float = 300.0,
    collection_mrad: float = 40.0,
    window_a_eV: tuple[float, float] | None = None,
    window_b_eV: tuple[float, float] | None = None,
    **angles: float | bool,
) -> float:
    """Signal per electron of one edge over another's: the ratio of their partial cross-sections.

    Parameters
    ----------
    edge_a, edge_b
        Edges of the system.
    system
        A `scattering.System`, or the name or path of one; None: the iron oxides.
    beam_energy_keV, collection_mrad, **angles
        As for `scattering.partial_cross_section`.
    window_a_eV, window_b_eV
        Windows in which the signal is counted; default: those of the system.

    Raises
    ------
    ValueError
        For an edge without a default window, or arguments that `scattering.partial_cross_section` refuses.

    Examples
    --------
    >>> round(signal_ratio("M2,3", "L2,3", beam_energy_keV=300, collection_mrad=40))
    55
    """
    system = as_system(system)
    edge_a, edge_b = (check_choice(e, n, system.edges) for e, n in ((edge_a, "edge_a"), (edge_b, "edge_b")))
    angles |= {"beam_energy_keV": beam_energy_keV, "collection_mrad": collection_mrad}
    sigma_a, sigma_b = (
        partial_cross_section(
            system.edge(edge).element, edge, window_eV=_signal_window(system, edge, window, name), **angles
        )
        for edge, window, name in ((edge_a, window_a_eV, "window_a_eV"), (edge_b, window_b_eV, "window_b_eV"))
    )
    return sigma_a / sigma_b


def _signal_window(system: System, edge: str, window_eV: ArrayLike | None, name: str) -> tuple[float, float]:
    """Window in which the signal of an edge is counted, by default the edge's own."""
    default = system.edge(edge).window_eV
    if window_eV is None and default is None:
        raise ValueError(f"{name}: got None, wants a window for the edge {edge!r}, which has no default")
    return check_window(default if window_eV is None else window_eV, name)


@checked
def metal_weights(model: SpectrumModel) -> NDArray:
    """Atoms of the metal per nm³ of each phase over those of the first, (P,).

    Total metal = weights · thickness, in nm of phase one.

    Examples
    --------
    >>> metal_weights(make_model(system="manganese_oxides"))
    array([1.  , 0.84])
    """
    atoms = check_kind(model, "model", SpectrumModel).system.metal_per_nm3(model.phases)
    return atoms / atoms[0]


@checked
def standard_errors(model: SpectrumModel, covariance: ArrayLike) -> dict[str, float]:
    """Standard errors of each phase, nm, and of the metal of all of them, in nm of the first phase.

    Parameters
    ----------
    model
        From `simulate.spectrum_model`.
    covariance
        ``(P, P)`` of the thicknesses, nm², such as `phase_bound` returns.

    Raises
    ------
    ValueError
        For a covariance that is not one of the model's phases.

    Examples
    --------
    >>> standard_errors(make_model(), [[4.0, 0.0], [0.0, 1.0]])
    {'FeO': 2.0, 'Fe3O4': 1.0, 'total iron': 2.157...}
    """
    count = len(check_kind(model, "model", SpectrumModel).phases)
    covariance = finite_array(covariance, "covariance")
    if covariance.shape != (count, count):
        raise ValueError(f"covariance: got shape {covariance.shape}, wants ({count}, {count}), one row per phase")
    if (np.diag(covariance) < 0).any():
        raise ValueError(f"covariance: got variances {np.diag(covariance).tolist()}, wants them 0 or more")
    weights = {phase: _quantity_weights(model, phase) for phase in model.phases}
    weights[f"total {model.system.metal_name}"] = metal_weights(model)
    return {name: float(np.sqrt(w @ covariance @ w)) for name, w in weights.items()}


def _quantity_weights(model: SpectrumModel, quantity: str | ArrayLike) -> NDArray:
    """Weights of a quantity that is linear in the thicknesses."""
    if isinstance(quantity, str):
        if quantity in ("total metal", f"total {model.system.metal_name}"):
            return metal_weights(model)
        if quantity in model.phases:
            return np.eye(len(model.phases))[model.phases.index(quantity)]
        raise ValueError(f"quantity: got {quantity!r}, wants 'total metal' or one of {model.phases}")
    weights = finite_array(quantity, "quantity")
    if weights.shape != (len(model.phases),):
        raise ValueError(f"quantity: got {quantity!r}, wants a name or {len(model.phases)} weights")
    return weights


def _model(spectrum_model):
    return make_model() if spectrum_model is None else check_kind(spectrum_model, "spectrum_model", SpectrumModel)


@contextmanager
def _of_edge(letter):
    """Within it, errors about an acquisition speak of the arguments of edge a, or b."""
    with ExitStack() as stack:
        for of in ("edge", "window_eV", "background", "spectrum"):
            name = f"window_{letter}_eV" if of == "window_eV" else f"{of}_{letter}"
            stack.enter_context(named(name, of=of))
        yield


@checked
def dose_efficiency(
    spectrum_model: SpectrumModel | None = None,
    *,
    quantity: str | ArrayLike = "total metal",
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
        ``"total metal"`` (or ``"total iron"``, as the system's metal is called), the name of a phase, or weights of the
        phase thicknesses.
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
    model = _model(spectrum_model)
    weights = _quantity_weights(model, quantity)
    with _of_edge("a"):
        a = Acquisition.from_settings(
            edge=edge_a, window_eV=window_a_eV, background=background_a, spectrum=spectrum_a, **settings
        )
        target = _variance(model, weights, fluence_e_per_A2, a)
    with _of_edge("b"):
        b = replace(a, edge=edge_b, window_eV=window_b_eV, background=background_b, spectrum=spectrum_b)
        return _fluence_ratio(model, weights, fluence_e_per_A2, b, target)


def _fluence_ratio(
    model: SpectrumModel, weights: NDArray, fluence_e_per_A2: float, b: Acquisition, target: float
) -> float:
    """Fluence that edge b needs to reach a variance, over the fluence given."""
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


@checked
def shot_noise_ratio(
    spectrum_model: SpectrumModel | None = None,
    *,
    edge_a: str = "M2,3",
    edge_b: str = "L2,3",
    thickness_nm: ArrayLike | None = None,
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
        Thickness of each phase; None: 10 nm of each.
    window_a_eV, window_b_eV
        Windows in which the counts are added up; default: those of the model's system.
    background_factor
        h: 1 where the background is known, 5 to 10 where it is extrapolated from before the edge.
    """
    model = _model(spectrum_model)
    thickness = phase_thickness(thickness_nm, model)
    check_not_negative(background_factor=background_factor)
    snr2 = []
    if not thickness.any():
        raise ValueError("thickness_nm: got 0 of every phase, wants some of one")
    for edge, name in ((edge_a, "edge_a"), (edge_b, "edge_b")):
        check_choice(edge, name, model.system.edges)
    for edge, window, name in ((edge_a, window_a_eV, "window_a_eV"), (edge_b, window_b_eV, "window_b_eV")):
        low, high = _signal_window(model.system, edge, window, name)
        energy = model.energy_eV(edge)
        inside = (energy >= low) & (energy < high)
        signal = (thickness @ model.derivative(thickness, edge))[inside].sum()
        total = model.expected(thickness, edge)[inside].sum()
        snr2.append(signal**2 / (signal + background_factor * (total - signal)))
    return float(snr2[0] / snr2[1])


@checked
@dataclass(frozen=True)
class DoseComparison:
    """Edge a against edge b by the three definitions; each a ratio of fluences (the first: of signals).

    Attributes
    ----------
    signal, shot_noise
        `signal_ratio` and `shot_noise_ratio`.
    total_metal, phases
        `dose_efficiency` for the metal of the system (total iron), and for each phase by name.
    """

    signal: float
    shot_noise: float
    total_metal: float
    phases: dict[str, float]


@checked
def compare_edges(
    spectrum_model: SpectrumModel | None = None, *, thickness_nm: ArrayLike | None = None, **settings: Any
) -> DoseComparison:
    """`DoseComparison` of M2,3 against L2,3 of the system's metal; settings as for `dose_efficiency`."""
    model = _model(spectrum_model)
    settings |= {"thickness_nm": thickness_nm}
    return DoseComparison(
        signal=signal_ratio(system=model.system, **model.microscope.angles),
        shot_noise=shot_noise_ratio(model, thickness_nm=thickness_nm),
        total_metal=dose_efficiency(model, **settings),
        phases={p: dose_efficiency(model, quantity=p, **settings) for p in model.phases},
    )


@checked
def sweep(
    parameter: str,
    values: Sequence[Any] | NDArray,
    *,
    microscope: Microscope | None = None,
    system: System | str | None = None,
    thickness_nm: ArrayLike | None = None,
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
    microscope, system, thickness_nm, **settings
        All other conditions.

    Returns
    -------
    list of DoseComparison
        One for each value.
    """
    microscope = Microscope() if microscope is None else check_kind(microscope, "microscope", Microscope)
    check_choice(parameter, "parameter", (*(field.name for field in fields(Microscope)), *SWEPT))
    if isinstance(values, str) or not np.iterable(values) or not len(values := list(values)):
        raise ValueError(f"values: got {describe(values)}, wants a sequence of values")
    model = make_model(microscope, system=system)
    thickness = phase_thickness(thickness_nm, model)
    if not thickness.any():
        raise ValueError("thickness_nm: got 0 of every phase, wants some of one")
    comparisons = []
    for value in values:
        model_here, here = model, {**settings, "thickness_nm": thickness}
        with named("values", of=parameter):
            if parameter == "thickness_nm":
                check_positive(thickness_nm=value)
                here["thickness_nm"] = thickness * value / thickness.sum()
            elif hasattr(microscope, parameter):
                model_here = make_model(replace(microscope, **{parameter: value}), system=system)
            else:
                here[parameter] = value
            comparisons.append(compare_edges(model_here, **here))
    return comparisons
