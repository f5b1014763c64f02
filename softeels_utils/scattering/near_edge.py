"""Near-edge structure of an edge in a phase: multiplet shapes scaled to the strength of the atomic tables."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_choice, check_kind, finite_array
from ..doors import checked
from .edges import arctangent_step, broaden_shape, onset
from .oscillator_strengths import edge_oscillator_strength
from .system import METAL_EDGES, Edge, EdgeChange, Phase, System

__all__ = ["m1_oscillator_strength", "near_edge_oscillator_strength"]


@checked
def near_edge_oscillator_strength(system: System, phase: str | Phase, edge: str, energy_eV: ArrayLike) -> NDArray:
    """df/dE of one atom in a phase, 1/eV, with near-edge structure.

    M2,3 and L2,3 of the metal: white lines (multiplets) and a rounded continuum step divide the Henke strength of the
    edge's window between them, so that partial cross-sections over it do not depend on valence
    (`EdgeChange.normalisation` keeps the continuum the same instead); tens of eV past the window the strength returns
    to that of the tables. K of the anion: the table's continuum, shifted to the oxide's threshold, with schematic peaks
    on it.

    Parameters
    ----------
    system
        Of the edge and the ions.
    phase
        A phase of the system, or its name.
    edge
        ``"M2,3"``, ``"L2,3"`` or ``"K"``.
    energy_eV
        Energies (E,).

    Raises
    ------
    ValueError
        For any other edge or phase, or an edge of the metal in a phase that has none.
    """
    check_kind(system, "system", System)
    phase = system.phase(phase) if isinstance(phase, str) else check_kind(phase, "phase", Phase)
    check_choice(edge, "edge", (*METAL_EDGES, "K"))
    if edge in METAL_EDGES and not phase.ion_fractions:
        raise ValueError(f"phase: got {phase.name!r}, wants a phase that holds {system.metal}")
    energy, about, change = finite_array(energy_eV, "energy_eV"), system.edge(edge), phase.edge_change(edge)
    here = energy - change.shift_eV if change.shift_eV else energy
    if edge == "K":
        strength = np.where(energy > 0.9 * about.window_eV[0], _anion(about, here, change), 0.0)
    else:
        strength = np.where(energy > 0.8 * about.window_eV[0], _metal(system, about, here, phase, change), 0.0)
    return strength * change.strength if change.strength != 1 else strength


@checked
def m1_oscillator_strength(system: System, energy_eV: ArrayLike) -> NDArray:
    """df/dE of a schematic M1 edge of the metal, 1/eV: a fraction of the 3p continuum, in which tables include it."""
    energy, edge = finite_array(energy_eV, "energy_eV"), check_kind(system, "system", System).edge("M1")
    begin = edge.near_edge["from_eV"]
    continuum = edge_oscillator_strength(system.metal, "M2,3", np.maximum(energy, begin))
    rise = arctangent_step(energy - edge.onset_eV, 2.0, 3.0)
    return edge.near_edge["fraction"] * continuum * rise * (energy > begin)


def _atomic(edge: Edge, energy: ArrayLike) -> NDArray:
    """Strength of the table; below the onset that at the onset."""
    return edge_oscillator_strength(edge.element, edge.name, np.maximum(energy, onset(edge.element, edge.name)))


def _anion(edge: Edge, energy: NDArray, change: EdgeChange) -> NDArray:
    start, constants = onset(edge.element, edge.name), edge.near_edge
    step = arctangent_step(energy, constants["continuum_eV"], constants["continuum_width_eV"])
    strength = _atomic(edge, energy + start - edge.onset_eV) * step
    peak = _atomic(edge, start + 5.0)
    for area, centre, width in change.peaks:
        strength = strength + peak * area / width * np.exp(-4 * np.log(2) * ((energy - centre) / width) ** 2)
    return strength


def _continuum(edge: Edge, energy: NDArray) -> NDArray:
    """An edge of the metal without its white lines."""
    centre, width = (edge.near_edge[key] for key in ("continuum_eV", "continuum_width_eV"))
    if edge.name == "L2,3":
        second = centre + edge.near_edge["splitting_eV"]
        steps = 2 * arctangent_step(energy, centre, width) + arctangent_step(energy, second, width)
        return _atomic(edge, energy) * steps / 3
    # the resonance stands on a smooth rise to what remains of the edge past it
    high = edge.window_eV[1]
    plateau = _atomic(edge, high + 2.0) * (high + 2.0) / np.maximum(energy, edge.onset_eV)
    table = _atomic(edge, energy)
    return np.where(energy > high, table, np.minimum(table, plateau)) / (1 + np.exp((centre - energy) / width))


def _metal(system: System, edge: Edge, energy: NDArray, phase: Phase, change: EdgeChange) -> NDArray:
    low, high = edge.window_eV
    fine = np.arange(low, high + 0.01, 0.02)
    total = np.trapezoid(_atomic(edge, fine), fine)
    continuum = _continuum(edge, energy) / np.trapezoid(_continuum(edge, fine), fine)
    return_eV = edge.near_edge["return_eV"]  # where, past the window, the strength returns to the table's
    past = 1 / (1 + np.exp((high + return_eV - energy) / (return_eV / 5)))
    strength = _atomic(edge, energy) * past
    for name, fraction in phase.ion_fractions.items():
        ion = system.ions[name]
        grid, shape = ion.tables[edge.name]
        area = np.trapezoid(np.interp(fine, grid, shape), fine)  # before it is broadened: that keeps its strength
        shape = broaden_shape(grid, shape, change.fwhm_eV) if change.fwhm_eV else shape
        ratio = edge.near_edge["white_line_per_hole"] * ion.holes
        white = np.interp(energy, grid, shape, 0, 0) / area
        height = fraction * total / (1 + ratio)
        if change.normalisation:  # towards one continuum for all ions, that of the system's mean ion
            height = height * ((1 + ratio) / (1 + _mean_ratio(system, edge))) ** change.normalisation
        height = height * ion.strengths.get(edge.name, 1.0)
        strength = strength + height * (ratio * white + continuum) * (1 - past)
    return strength


def _mean_ratio(system: System, edge: Edge) -> float:
    """White line over continuum, midway between the ions with the fewest and the most holes in the channels."""
    holes = [system.ions[ion].holes for p in system.channels for ion in system.phases[p].ion_fractions]
    return edge.near_edge["white_line_per_hole"] * (min(holes) + max(holes)) / 2
