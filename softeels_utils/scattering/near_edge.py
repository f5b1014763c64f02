"""Near-edge structure of an edge in a material: multiplet shapes scaled to the strength of the atomic tables."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .edges import WINDOW_EV, arctangent_step, onset
from .materials import Material
from .oscillator_strengths import edge_oscillator_strength

__all__ = ["M1_FRACTION", "M1_ONSET_EV", "multiplets", "near_edge_oscillator_strength"]

#: Holes in the 3d shell of each ion of the multiplet tables, in the order of their columns.
HOLES = {"Fe2+ Oh": 4, "Fe3+ Oh": 5, "Fe3+ Td": 5}
# White-line area over the continuum's in the window, for one 3d hole. L2,3: 1.0 for the five holes of Fe3+, read
# off the Fe2O3 spectrum of the EELS Data Base. M2,3: what stands above a smooth onset of the 3p continuum in
# the Henke table of iron (about four holes) between 53 and 73 eV.
WHITE_LINE_PER_HOLE = {"L2,3": 0.20, "M2,3": 0.16}
L2_SPLITTING_EV = 13.1
#: A schematic 3s edge: its onset, and its strength as a fraction of the 3p continuum.
M1_ONSET_EV, M1_FRACTION = 91.3, 0.05

_TABLES = {"M2,3": "fe_m23.csv", "L2,3": "fe_l23.csv"}


@lru_cache
def multiplets(edge: str) -> tuple[NDArray, dict[str, NDArray]]:
    """Multiplet table of Fe-M2,3 or Fe-L2,3: energies (eV) and the shape of each ion (1/eV, area 1).

    The tables and the script that made them, ``compute.py``, are in the folder ``tables`` beside this module.

    Examples
    --------
    >>> energy, shapes = multiplets("M2,3")
    >>> sorted(shapes)
    ['Fe2+ Oh', 'Fe3+ Oh', 'Fe3+ Td']
    """
    if edge not in _TABLES:
        raise ValueError(f"edge: got {edge!r}, wants one of {sorted(_TABLES)}")
    with files(__package__).joinpath("tables", _TABLES[edge]).open() as file:
        table = np.loadtxt(file, delimiter=",")
    return table[:, 0], dict(zip(HOLES, table[:, 1:].T, strict=True))


def near_edge_oscillator_strength(element: str, edge: str, energy_eV: ArrayLike, material: Material) -> NDArray:
    """df/dE of one atom in a material, 1/eV, with near-edge structure.

    Fe-M2,3 and Fe-L2,3: white lines (multiplets) and a rounded continuum step divide the Henke strength of the
    edge's window (`WINDOW_EV`) between them, so that partial cross-sections over it do not depend on valence; tens of
    eV past the window the strength returns to the table's. O-K: the table's continuum, shifted to the oxide's
    threshold, with schematic peaks on it.

    Parameters
    ----------
    element, edge
        ``"Fe"`` with ``"M2,3"`` or ``"L2,3"``, or ``"O"`` with ``"K"``.
    energy_eV
        Energies (E,).
    material
        Gives the ions of the iron and the peaks of O-K.

    Raises
    ------
    ValueError
        For any other edge.
    """
    energy = np.asarray(energy_eV, dtype=float)
    if (element, edge) == ("O", "K"):
        return np.where(energy > 0.9 * WINDOW_EV["K"][0], _oxygen_k(energy, material), 0.0)
    if element != "Fe" or edge not in _TABLES:
        raise ValueError(f"element, edge: got {element!r}, {edge!r}, wants Fe with M2,3 or L2,3, or O with K")
    return np.where(energy > 0.8 * WINDOW_EV[edge][0], _iron(edge, energy, material), 0.0)


def _atomic(element: str, edge: str, energy: ArrayLike) -> NDArray:
    """Strength of the table; below the onset that at the onset."""
    return edge_oscillator_strength(element, edge, np.maximum(energy, onset(element, edge)))


def _oxygen_k(energy: NDArray, material: Material) -> NDArray:
    start = onset("O", "K")
    strength = _atomic("O", "K", energy + start - 534.0) * arctangent_step(energy, 535.0, 3.0)
    peak = _atomic("O", "K", start + 5.0)
    for area, centre, width in material.oxygen_k:
        strength = strength + peak * area / width * np.exp(-4 * np.log(2) * ((energy - centre) / width) ** 2)
    return strength


def _iron_continuum(edge: str, energy: NDArray) -> NDArray:
    """The edge without its white lines."""
    if edge == "L2,3":
        steps = 2 * arctangent_step(energy, 709.0, 1.0) + arctangent_step(energy, 709.0 + L2_SPLITTING_EV, 1.0)
        return _atomic("Fe", edge, energy) * steps / 3
    # the resonance stands on a smooth rise to what remains of the edge past it
    high = WINDOW_EV[edge][1]
    plateau = _atomic("Fe", edge, high + 2.0) * (high + 2.0) / np.maximum(energy, onset("Fe", edge))
    table = _atomic("Fe", edge, energy)
    return np.where(energy > high, table, np.minimum(table, plateau)) / (1 + np.exp((57.5 - energy) / 1.5))


def _iron(edge: str, energy: NDArray, material: Material) -> NDArray:
    low, high = WINDOW_EV[edge]
    fine = np.arange(low, high + 0.01, 0.02)
    total = np.trapezoid(_atomic("Fe", edge, fine), fine)
    continuum = _iron_continuum(edge, energy) / np.trapezoid(_iron_continuum(edge, fine), fine)
    grid, shapes = multiplets(edge)
    return_eV = 10 if edge == "M2,3" else 60  # where, past the window, the strength returns to the table's
    past = 1 / (1 + np.exp((high + return_eV - energy) / (return_eV / 5)))
    strength = _atomic("Fe", edge, energy) * past
    for ion, fraction in material.ion_fractions.items():
        ratio = WHITE_LINE_PER_HOLE[edge] * HOLES[ion]
        white = np.interp(energy, grid, shapes[ion], 0, 0) / np.trapezoid(np.interp(fine, grid, shapes[ion]), fine)
        strength = strength + fraction * total / (1 + ratio) * (ratio * white + continuum) * (1 - past)
    return strength
