"""One edge against another: three definitions of how many electrons it saves."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq

from .. import scattering
from ..simulate import Microscope, SpectrumModel, spectrum_model
from .bounds import phase_bound
from .cross_sections import SIGNAL_WINDOW_EV, _window, signal_ratio


def iron_weights(model: SpectrumModel) -> np.ndarray:
    """Iron atoms per nm³ of each phase over those of the first: total iron = weights · thickness (nm of phase one)."""
    atoms = np.array([scattering.MATERIALS[p].atoms_per_nm3.get("Fe", 0.0) for p in model.phases])
    return atoms / atoms[0]


def _quantity(model: SpectrumModel, quantity) -> np.ndarray:
    """Weights of a quantity that is linear in the thicknesses."""
    if isinstance(quantity, str):
        if quantity == "total iron":
            return iron_weights(model)
        if quantity in model.phases:
            return np.eye(len(model.phases))[model.phases.index(quantity)]
        raise ValueError(f"quantity must be 'total iron' or one of {model.phases}, got {quantity!r}")
    weights = np.asarray(quantity, dtype=float)
    if weights.shape != (len(model.phases),):
        raise ValueError(f"quantity must be a name or {len(model.phases)} weights, got {quantity!r}")
    return weights


def dose_efficiency(
    spectrum_model: SpectrumModel | None = None,
    *,
    quantity="total iron",
    edge_a: str = "M2,3",
    edge_b: str = "L2,3",
    fluence_e_per_A2: float = 1e4,
    window_a_eV=None,
    window_b_eV=None,
    background_a=None,
    background_b=None,
    spectrum_a=None,
    spectrum_b=None,
    **settings,
) -> float:
    """Fluence that edge b needs, over that of edge a, to bound a quantity equally well.

    Parameters
    ----------
    quantity
        ``"total iron"``, the name of a phase, or weights of the phase thicknesses.
    fluence_e_per_A2
        Fluence of edge a; it matters only with readout noise, where the bounds do not just scale.
    settings
        As for `phase_bound` (thickness_nm, pixel_size_nm, readout_counts, gain).
    """
    model = spectrum_model if spectrum_model is not None else _default_model()
    weights = _quantity(model, quantity)

    def variance(edge, fluence, window, background, spectrum):
        bound = phase_bound(
            model, fluence, edge=edge, window_eV=window, background=background, spectrum=spectrum, **settings
        )
        return weights @ bound @ weights

    wanted = variance(edge_a, fluence_e_per_A2, window_a_eV, background_a, spectrum_a)
    b = (window_b_eV, background_b, spectrum_b)
    if not settings.get("readout_counts"):
        return float(variance(edge_b, fluence_e_per_A2, *b) / wanted)
    return float(
        np.exp(
            brentq(
                lambda x: np.log(variance(edge_b, fluence_e_per_A2 * np.exp(x), *b) / wanted),
                np.log(1e-4),
                np.log(1e8),
                xtol=1e-6,
            )
        )
    )


def shot_noise_ratio(
    spectrum_model: SpectrumModel | None = None,
    *,
    edge_a: str = "M2,3",
    edge_b: str = "L2,3",
    thickness_nm=(10.0, 10.0),
    window_a_eV=None,
    window_b_eV=None,
    background_factor: float = 1.0,
) -> float:
    """Fluence that edge b needs, over that of edge a, for equal signal-to-noise of the counts in a window.

    SNR² = S² / (S + h B) per electron, with signal S and background B in the window (Egerton 2011, eq. 4.61).

    Parameters
    ----------
    background_factor
        h: 1 where the background is known, 5 to 10 where it is extrapolated from before the edge.
    """
    model = spectrum_model if spectrum_model is not None else _default_model()
    snr2 = []
    for edge, window in ((edge_a, window_a_eV), (edge_b, window_b_eV)):
        lo, hi = _window(SIGNAL_WINDOW_EV[edge] if window is None else window)
        energy = model.energy_eV(edge)
        inside = (energy >= lo) & (energy < hi)
        t = np.asarray(thickness_nm, dtype=float)
        signal = (t @ model.derivative(t, edge))[inside].sum()
        total = model.expected(t, edge)[inside].sum()
        snr2.append(signal**2 / (signal + background_factor * (total - signal)))
    return float(snr2[0] / snr2[1])


@dataclass(frozen=True)
class DoseComparison:
    """Edge a against edge b by the three definitions; each a ratio of fluences (or of signals, the first)."""

    signal: float
    shot_noise: float
    total_iron: float
    phases: dict


def compare_edges(spectrum_model: SpectrumModel | None = None, *, thickness_nm=(10.0, 10.0), **settings):
    """`DoseComparison` of Fe-M2,3 against Fe-L2,3; settings as for `dose_efficiency`."""
    model = spectrum_model if spectrum_model is not None else _default_model()
    m = model.microscope
    return DoseComparison(
        signal=signal_ratio(
            beam_energy_keV=m.beam_energy_keV, collection_mrad=m.collection_mrad, bethe_ridge=m.bethe_ridge
        ),
        shot_noise=shot_noise_ratio(model, thickness_nm=thickness_nm),
        total_iron=dose_efficiency(model, thickness_nm=thickness_nm, **settings),
        phases={p: dose_efficiency(model, quantity=p, thickness_nm=thickness_nm, **settings) for p in model.phases},
    )


def _default_model() -> SpectrumModel:
    return spectrum_model()


def sweep(parameter: str, values, *, microscope: Microscope | None = None, thickness_nm=(10.0, 10.0), **settings):
    """`compare_edges` over one parameter.

    Parameters
    ----------
    parameter
        A field of `simulate.Microscope` (``"collection_mrad"``, ``"beam_energy_keV"``, ...),
        ``"thickness_nm"`` (total, shared as in ``thickness_nm``) or any setting of `dose_efficiency`.
    values
        What it takes.

    Returns
    -------
    list of DoseComparison
    """
    microscope = microscope or Microscope()
    t = np.asarray(thickness_nm, dtype=float)
    model = spectrum_model(microscope)
    out = []
    for value in values:
        if parameter == "thickness_nm":
            out.append(compare_edges(model, thickness_nm=t * value / t.sum(), **settings))
        elif hasattr(microscope, parameter):
            changed = spectrum_model(replace(microscope, **{parameter: value}))
            out.append(compare_edges(changed, thickness_nm=t, **settings))
        else:
            out.append(compare_edges(model, thickness_nm=t, **{**settings, parameter: value}))
    return out
