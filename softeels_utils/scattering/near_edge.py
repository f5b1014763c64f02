"""Near-edge structure of an edge in a material: multiplet shapes on the strength of the atomic tables."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

import numpy as np

from .cross_sections import edge_oscillator_strength, onset
from .materials import Material

HOLES = {"Fe2+ Oh": 4, "Fe3+ Oh": 5, "Fe3+ Td": 5}
# White-line area over the continuum's in the window, for one 3d hole. L2,3: 1.0 for the five holes of Fe3+, read
# off the Fe2O3 spectrum of the EELS Data Base. M2,3: what stands above a smooth onset of the 3p continuum in
# the Henke table of iron (about four holes) between 53 and 73 eV.
WHITE_LINE_PER_HOLE = {"L2,3": 0.20, "M2,3": 0.16}
WINDOW_EV = {"M2,3": (53.0, 73.0), "L2,3": (706.0, 746.0), "K": (528.0, 568.0)}
L2_SPLITTING_EV = 13.1
M1_ONSET_EV, M1_FRACTION = 91.3, 0.05  # a schematic 3s edge: 5 % of the 3p continuum


@lru_cache
def multiplets(edge: str) -> tuple[np.ndarray, dict]:
    """Multiplet table of Fe-M2,3 or Fe-L2,3: energies (eV) and the shape of each ion (1/eV, area 1)."""
    name = {"M2,3": "fe_m23.csv", "L2,3": "fe_l23.csv"}[edge]
    table = np.loadtxt(files(__package__).joinpath("tables", name).open(), delimiter=",")
    return table[:, 0], dict(zip(HOLES, table[:, 1:].T, strict=True))


def _step(energy, centre, width):
    return 0.5 + np.arctan((energy - centre) / (width / 2)) / np.pi


def near_edge(element: str, edge: str, energy_eV, material: Material):
    """df/dE of one atom in a material, 1/eV, with near-edge structure.

    Fe-M2,3 and Fe-L2,3: white lines (multiplets) and a rounded continuum step share the Henke strength of the
    edge's window (`WINDOW_EV`, `WHITE_LINE_PER_HOLE`), so that partial cross-sections over it do not depend on
    valence; tens of eV past the window the strength returns to the table's. O-K: the table's continuum, shifted to
    the oxide's threshold, with schematic peaks on it.
    """
    energy = np.asarray(energy_eV, dtype=float)
    start = onset(element, edge)
    lo, hi = WINDOW_EV[edge]

    def table(e):
        return edge_oscillator_strength(element, edge, np.maximum(e, start))

    if edge == "K":
        step = table(energy + start - 534.0) * _step(energy, 535.0, 3.0)
        peak = table(start + 5.0)
        for area, centre, width in material.oxygen_k:
            step = step + peak * area / width * np.exp(-4 * np.log(2) * ((energy - centre) / width) ** 2)
        return np.where(energy > 0.9 * lo, step, 0.0)

    def continuum(e):
        if edge == "L2,3":
            return table(e) * (2 * _step(e, 709.0, 1.0) + _step(e, 709.0 + L2_SPLITTING_EV, 1.0)) / 3
        # the resonance stands on a smooth rise to what is left of the edge past it
        plateau = table(hi + 2.0) * (hi + 2.0) / np.maximum(e, start)
        return np.where(e > hi, table(e), np.minimum(table(e), plateau)) / (1 + np.exp((57.5 - e) / 1.5))

    fine = np.arange(lo, hi + 0.01, 0.02)
    total, smooth_area = np.trapezoid(table(fine), fine), np.trapezoid(continuum(fine), fine)
    grid, shapes = multiplets(edge)
    late = 10 if edge == "M2,3" else 60  # where the strength returns to the table's
    past = 1 / (1 + np.exp((hi + late - energy) / (late / 5)))
    out = table(energy) * past
    for ion, share in material.iron.items():
        ratio = WHITE_LINE_PER_HOLE[edge] * HOLES[ion]
        white = np.interp(energy, grid, shapes[ion], 0, 0) / np.trapezoid(np.interp(fine, grid, shapes[ion]), fine)
        out = out + share * total / (1 + ratio) * (ratio * white + continuum(energy) / smooth_area) * (1 - past)
    return np.where(energy > 0.8 * lo, out, 0.0)
