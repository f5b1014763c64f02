"""Dual EELS before and after: do two recordings hold what standards need, and what does L2,3 show of valence?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import check_kind, check_positive
from ..doors import checked
from ..scattering import Edge, System, as_system
from ..spectra import energy_axis, in_window, remove_background
from .prepare import DualEELS
from .result import Standards

__all__ = ["ValenceGroups", "check_dual_eels", "group_by_valence"]

LEAST_RISE = 1.05  # of the counts, where L2,3 starts
LEAST_SIGMA = 5.0  # standard errors of that rise


@checked
def check_dual_eels(
    low_loss: Any, core_loss: Any, *, system: System | str | None = None, gain: float = 1.0
) -> tuple[str, ...]:
    """Check that two recordings contain the edges from which standards are found; return what is missing but not
    needed.

    Parameters
    ----------
    low_loss, core_loss : HyperSpy signals (Y, X, E), (Y, X, E2)
        In counts.
    system : System or str, optional
        Whose edges are looked for; by default the iron oxides.
    gain : float
        Counts per electron.

    Returns
    -------
    tuple of str
        One sentence for each thing that would help but is not there.

    Raises
    ------
    ValueError
        For energies that do not cover the edges, low and core loss of different pixels, or a core loss without the
        edge.
    """
    system = as_system(system)
    check_positive(gain=gain)
    metal, l23, m23, k = system.metal, system.edge("L2,3"), system.edge("M2,3"), system.edge("K")
    for name, signal, first, last, what in (
        ("core_loss", core_loss, *l23.fit_window_eV, f"{metal}-L2,3 and the background before it"),
        ("low_loss", low_loss, -2.0, m23.fit_window_eV[1], f"the zero loss and {metal}-M2,3"),
    ):
        energy = energy_axis(signal, of=name)
        if energy[0] > first or energy[-1] < last:
            got = f"{energy[0]:.0f} to {energy[-1]:.0f} eV"
            raise ValueError(f"{name}: got energies of {got}, wants {what}, {first:.0f} to {last:.0f} eV")
    shapes = low_loss.data.shape[:-1], core_loss.data.shape[:-1]
    if shapes[0] != shapes[1] or len(shapes[0]) != 2:
        raise ValueError(
            f"low_loss, core_loss: got pixels {shapes[0]} and {shapes[1]}, wants two spectrum images (Y, X) of the "
            "same pixels"
        )
    _check_edge_rises(np.asarray(core_loss.data, float).sum(axis=(0, 1)) / gain, energy_axis(core_loss), l23, metal)
    if (start := energy_axis(core_loss)[0]) > k.window_eV[0] - 20:
        return (
            f"The core loss starts at {start:.0f} eV: too late for {system.anion}-K, so that atoms of {system.anion} "
            "cannot be counted, and less determines the standards.",
        )
    return ()


def _check_edge_rises(electrons: NDArray, energy: NDArray, edge: Edge, metal: str) -> None:
    """Refuse a sum of spectra (E,) that does not rise near an edge.

    Electrons in 8 eV are compared with those in 8 eV before, with 4 eV between; the axis may be off by 12 eV.
    """
    eight, four = (round(width / (energy[1] - energy[0])) for width in (8, 4))
    sums = np.convolve(electrons, np.ones(eight), "valid")
    before, after = sums[: -eight - four], sums[eight + four :]
    near = np.abs(energy[eight + four :][: after.size] - edge.onset_eV) < 12
    sigmas = ((after - before) / np.sqrt(np.maximum(after + before, 1)))[near].max()
    ratio = (after / np.maximum(before, 1))[near].max()
    if sigmas < LEAST_SIGMA or ratio < LEAST_RISE:
        raise ValueError(
            f"core_loss: got counts that rise by a factor of {ratio:.2f} near {edge.onset_eV:.0f} eV, wants the edge "
            f"{metal}-{edge.name}, {LEAST_RISE} at least"
        )


@checked(energy_eV="E")
@dataclass(frozen=True)
class ValenceGroups:
    """L2,3 of two halves of the pixels, see `group_by_valence`.

    Attributes
    ----------
    energy_eV : (E,)
        The fit window of L2,3.
    spectra : dict of str to array (E,)
        By phase: mean L2,3 of the pixels that are rich in it, background removed; probability per eV.
    pixels : dict of str to bool array
        Which pixels these are.
    """

    energy_eV: NDArray = field(repr=False)
    spectra: dict[str, NDArray] = field(repr=False)
    pixels: dict[str, NDArray] = field(repr=False)


@checked
def group_by_valence(dual: DualEELS, standards: Standards) -> ValenceGroups:
    """Divide the pixels of a specimen at the median of the phase fraction, and average L2,3 over each half.

    A single pixel has too few electrons at L2,3 to show its valence; a few hundred pixels together have enough.

    Parameters
    ----------
    dual : DualEELS
    standards : Standards
        Found in ``dual``.
    """
    check_kind(dual, "dual", DualEELS)
    if check_kind(standards, "standards", Standards).abundances is None:
        raise ValueError("standards: got some without abundances, wants those found in dual")
    energy, edge = dual.core_energy_eV, dual.system.edge("L2,3")
    window = (edge.fit_window_eV[0], edge.onset_eV - 10)
    l23 = remove_background(np.maximum(dual.core_loss, 0), energy, window_eV=window)
    mask, nm = standards.diagnostics.mask, standards.abundances
    fraction = nm[0] / np.maximum(nm.sum(axis=0), 1e-6)
    rich = fraction > np.median(fraction[mask])
    pixels = dict(zip(standards.phases, (mask & rich, mask & ~rich), strict=True))
    near = in_window(energy, edge.fit_window_eV)
    spectra = {name: l23[where].mean(axis=0)[near] for name, where in pixels.items()}
    return ValenceGroups(energy[near], spectra, pixels)
