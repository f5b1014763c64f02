"""Partial cross-sections of an edge, from Henke's scattering factors, and the signal per electron."""

from __future__ import annotations

import warnings

import numpy as np

from .. import scattering

#: Windows over which the signal of an edge is counted.
SIGNAL_WINDOW_EV = {"M2,3": (53.0, 73.0), "L2,3": (706.0, 746.0)}


def partial_cross_section(
    element: str,
    edge: str,
    *,
    beam_energy_keV: float,
    collection_mrad: float,
    window_eV: tuple[float, float],
    convergence_mrad: float = 0.0,
    bethe_ridge: bool = False,
) -> float:
    r"""Cross-section of one edge over an energy window and collection angle, barn.

    .. math:: \sigma = \int dE\,\frac{4\pi a_0^2R^2}{E\,T}\frac{df}{dE}\ln\!\left(1+\frac{\beta^2}{\theta_E^2}\right),
        \quad \frac{df}{dE} = \frac{2 f_2}{\pi E},\quad T = \tfrac12 m v^2

    with Henke's :math:`f_2` less the power law of the other electrons below the edge (Egerton 2011, ch. 3-4).

    Parameters
    ----------
    element, edge
        ``"Fe"`` and ``"M2,3"``, ``"L2,3"``; ``"K"`` of O, C and others in the Henke tables.
    window_eV
        Energies ``(from, to)``.
    convergence_mrad
        Half angle of the probe; 0: parallel beam.
    bethe_ridge
        Cut the angles off at the Bethe ridge: the dipole formula counts too much past it, 12 mrad for Fe-M2,3 and
        43 mrad for Fe-L2,3 at 300 kV.

    Raises
    ------
    ValueError
        For an element or edge that is not known, a window that is not increasing or lies below the edge.

    Examples
    --------
    >>> m = partial_cross_section("Fe", "M2,3", beam_energy_keV=300, collection_mrad=40, window_eV=(53, 73))
    >>> print(f"{m:.2e} barn")
    1.05e+05 barn
    """
    lo, hi = _window(window_eV)
    start = scattering.onset(element, edge)
    if hi <= start:
        raise ValueError(f"window_eV must reach above the onset of {element}-{edge} at {start} eV, got {window_eV!r}")
    energy = np.linspace(max(lo, start), hi, max(400, int(50 * (hi - lo))))
    return float(
        np.trapezoid(
            scattering.differential_cross_section(
                scattering.edge_oscillator_strength(element, edge, energy),
                energy,
                beam_energy_keV=beam_energy_keV,
                collection_mrad=collection_mrad,
                convergence_mrad=convergence_mrad,
                bethe_ridge=bethe_ridge,
            ),
            energy,
        )
        / scattering.BARN_NM2
    )


def signal_ratio(
    edge_a: str = "M2,3",
    edge_b: str = "L2,3",
    *,
    element: str = "Fe",
    beam_energy_keV: float = 300.0,
    collection_mrad: float = 40.0,
    window_a_eV: tuple[float, float] | None = None,
    window_b_eV: tuple[float, float] | None = None,
    **angles,
) -> float:
    """Signal per electron of one edge over another's: the ratio of their partial cross-sections.

    Windows default to `SIGNAL_WINDOW_EV`; ``angles`` as for `partial_cross_section`.
    """
    sigma = []
    for name, edge, window in (("window_a_eV", edge_a, window_a_eV), ("window_b_eV", edge_b, window_b_eV)):
        if window is None and edge not in SIGNAL_WINDOW_EV:
            raise ValueError(f"{name} must be given for edge {edge!r}; only {sorted(SIGNAL_WINDOW_EV)} have a default")
        sigma.append(
            partial_cross_section(
                element,
                edge,
                beam_energy_keV=beam_energy_keV,
                collection_mrad=collection_mrad,
                window_eV=window or SIGNAL_WINDOW_EV[edge],
                **angles,
            )
        )
    return sigma[0] / sigma[1]


def hydrogenic_cross_section(
    element: str = "Fe",
    *,
    beam_energy_keV: float,
    collection_mrad: float,
    window_eV: tuple[float, float],
    near_edge_reduction: bool = True,
) -> float:
    """Partial cross-section of L2,3 from eXSpy's hydrogenic model (Egerton's SIGMAL3), barn, to compare with.

    Parameters
    ----------
    near_edge_reduction
        The model multiplies its strength near the edge by ((E - E_L3) / 1.8 Z²)^u (u = 0.18 for iron), an empirical
        reduction meant for fits well above white lines. False takes it off again (iron only).
    """
    with warnings.catch_warnings():  # importing HyperSpy warns of its own deprecations
        warnings.simplefilter("ignore")
        from exspy.components import EELSCLEdge

    lo, hi = _window(window_eV)
    edge = EELSCLEdge(f"{element}_L3", GOS="hydrogenic")  # its Fe_L3 is the whole L shell
    edge.set_microscope_parameters(E0=beam_energy_keV, alpha=1e-3, beta=collection_mrad, energy_scale=1.0)
    start = edge.onset_energy.value
    energy = np.linspace(max(lo, start), hi, 800)
    strength = edge.function(energy)
    if not near_edge_reduction:
        if element != "Fe":
            raise ValueError(f"near_edge_reduction=False knows iron only, got element={element!r}")
        strength = strength / ((energy + 0.1 - start) / (1.8 * 26**2)) ** 0.18
    return float(np.trapezoid(strength, energy))


def _window(window_eV):
    window = np.asarray(window_eV, dtype=float)
    if window.shape != (2,) or not np.isfinite(window).all() or not 0 < window[0] < window[1]:
        raise ValueError(f"window_eV must be two increasing positive energies, got {window_eV!r}")
    return float(window[0]), float(window[1])
