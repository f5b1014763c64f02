"""Figures of chapter 1: what the electrons can tell. They draw results; nothing is computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import ArrayLike

from .panels import show_spectra
from .style import COLORS, WIDTH

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "counts_figure",
    "edges_figure",
    "ellipses_figure",
    "fit_figure",
    "fluence_figure",
    "scatter_figure",
    "signal_figure",
    "sweep_figure",
    "thickness_figure",
    "tilts_figure",
]

# Conditions are told apart by grey and dash: colours are those of phases and edges.
GREYS = ({"color": "0.1"}, {"color": "0.35", "ls": "--"}, {"color": "0.5", "ls": "-."}, {"color": "0.65", "ls": ":"})


def edges_figure(
    edges: Mapping[str, tuple[ArrayLike, Mapping[str, ArrayLike]]],
    *,
    windows_eV: Mapping[str, tuple[float, float]],
    metal: str = "Fe",
) -> Figure:
    """Draw the spectra of the pure phases at each edge, one panel per edge.

    Parameters
    ----------
    edges : dict of str to (array (E,), dict of str to array (E,))
        By edge: energies, and the counts per electron and channel of each phase.
    windows_eV : dict of str to (float, float)
        By edge: where its signal is counted; shaded.
    metal : str
        Whose edges they are.
    """
    figure, axes = plt.subplots(1, len(edges), figsize=(WIDTH, 3.3), squeeze=False)
    for ax, (edge, (energy, spectra)) in zip(axes.flat, edges.items(), strict=True):
        label = "counts per electron\nand channel"
        show_spectra(np.asarray(energy), spectra, ylabel=label, ax=ax, title=f"{metal}-{edge}")
        ax.axvspan(*windows_eV[edge], color="0.92", zorder=0)
        ax.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    return figure


def signal_figure(
    angles_mrad: ArrayLike,
    by_energy: Mapping[str, ArrayLike],
    widths_eV: ArrayLike,
    by_window: Mapping[str, ArrayLike],
) -> Figure:
    """Draw the signal ratio of M2,3 and L2,3 against the collection angle and against the width of the windows.

    Parameters
    ----------
    angles_mrad : array (N,)
    by_energy : dict of str to array (N,)
        A ratio for each beam energy.
    widths_eV : array (M,)
        Of the M2,3 window.
    by_window : dict of str to array (M,)
        A ratio for each L2,3 window.
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.3), sharey=True)
    panels = (
        (angles_mrad, by_energy, "collection angle (mrad)", "beam energy"),
        (widths_eV, by_window, "width of the M2,3 window (eV)", "L2,3 window"),
    )
    for ax, (x, ratios, label, title) in zip(axes, panels, strict=True):
        for (name, ratio), style in zip(ratios.items(), GREYS, strict=False):
            ax.plot(x, ratio, label=name, **style)
        ax.set(xlabel=label, yscale="log")
        ax.legend(title=title)
    axes[0].set_ylabel("signal M2,3 / L2,3")
    return figure


def ellipses_figure(
    thickness_nm: Sequence[float], ellipses: Mapping[str, ArrayLike], *, phases: Sequence[str] = ("FeO", "Fe3O4")
) -> Figure:
    """Draw error ellipses of two thicknesses, one per edge, on common axes.

    Parameters
    ----------
    thickness_nm : (float, float)
        Where they are centred.
    ellipses : dict of str to array (2, N)
        By edge: the outline about the origin, such as `dose.error_ellipse` returns.
    phases : (str, str)
    """
    figure, ax = plt.subplots(figsize=(4.6, 4.4))
    for edge, (x, y) in ellipses.items():
        ax.plot(thickness_nm[0] + x, thickness_nm[1] + y, color=COLORS.get(edge), lw=2, label=edge)
    ax.plot(*thickness_nm, "k+", ms=10)
    ax.set(xlabel=f"{phases[0]} (nm)", ylabel=f"{phases[1]} (nm)", aspect="equal")
    ax.legend()
    return figure


def sweep_figure(sweeps: Mapping[str, tuple[ArrayLike, Sequence[Any]]], *, metal: str = "Fe") -> Figure:
    """Draw fluence ratios against one condition at a time, a panel each.

    Parameters
    ----------
    sweeps : dict of str to (array (N,), list of N DoseComparison)
        By the label of the axis: values of the condition, and what `dose.sweep` found for them.
    metal : str
        What the total is of.
    """
    rows = -(-len(sweeps) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(WIDTH, 1.9 * rows + 0.7), sharey=True, squeeze=False)
    for ax, (label, (values, found)) in zip(axes.flat, sweeps.items(), strict=False):
        ax.plot(values, [c.signal for c in found], color="0.6", ls=":", lw=2, label="signal")
        ax.plot(values, [c.shot_noise for c in found], color="0.3", ls="--", label="shot noise")
        totals, color = [c.total_metal for c in found], COLORS.get(f"{metal} total", "0.1")
        ax.plot(values, totals, color=color, marker="s", ms=5, label=f"bound, total {metal}")
        for phase in found[0].phases:
            ax.plot(
                values, [c.phases[phase] for c in found], color=COLORS.get(phase), marker="o", label=f"bound, {phase}"
            )
        ax.set(xlabel=label, yscale="log", ylim=(0.8, 200))
        ax.axhline(1, color="0.8", lw=0.8)
    for ax in axes.flat[len(sweeps) :]:
        ax.axis("off")
    figure.supylabel("times fewer electrons with M2,3", fontsize=11)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def thickness_figure(thickness_nm: ArrayLike, errors_nm: Mapping[str, Mapping[str, ArrayLike]]) -> Figure:
    """Draw standard errors against the total thickness.

    Parameters
    ----------
    thickness_nm : array (N,)
    errors_nm : dict of str to dict of str to array (N,)
        By edge, then by quantity: the first quantity is drawn solid, the second dashed.
    """
    figure, ax = plt.subplots(figsize=(5.8, 3.6))
    for edge, quantities in errors_nm.items():
        for (quantity, error), dash in zip(quantities.items(), ("-", "--", ":"), strict=False):
            ax.loglog(thickness_nm, error, color=COLORS.get(edge), ls=dash, lw=1.8, label=f"{quantity}, {edge}")
    ax.set(xlabel="total thickness (nm)", ylabel="standard error (nm)")
    ax.legend()
    return figure


def scatter_figure(
    fits_nm: Mapping[str, ArrayLike],
    ellipses: Mapping[str, Sequence[ArrayLike]],
    thickness_nm: Sequence[float],
    *,
    phases: Sequence[str] = ("FeO", "Fe3O4"),
) -> Figure:
    """Draw fitted thicknesses as points and the ellipses that should hold them, one panel per edge, each on its scale.

    Parameters
    ----------
    fits_nm : dict of str to array (N, 2)
        By edge.
    ellipses : dict of str to list of array (2, M)
        By edge: outlines about the origin.
    thickness_nm : (float, float)
        The truth.
    phases : (str, str)
    """
    figure, axes = plt.subplots(1, len(fits_nm), figsize=(WIDTH, 3.7), squeeze=False)
    for ax, (edge, points) in zip(axes.flat, fits_nm.items(), strict=True):
        ax.plot(*np.asarray(points).T, ".", ms=2, alpha=0.4, color="0.5", rasterized=True)
        for x, y in ellipses[edge]:
            ax.plot(thickness_nm[0] + x, thickness_nm[1] + y, color=COLORS.get(edge), lw=2)
        ax.set(xlabel=f"fitted {phases[0]} (nm)", ylabel=f"fitted {phases[1]} (nm)", title=edge)
    return figure


def tilts_figure(plans: Mapping[str, Any], target_error_nm: float) -> Figure:
    """Draw the error of the worse phase per pixel against the number of tilts, and the error that is allowed.

    Parameters
    ----------
    plans : dict of str to TiltPlan
        By edge.
    target_error_nm : float
    """
    figure, ax = plt.subplots(figsize=(5.8, 3.6))
    for edge, plan in plans.items():
        ax.plot(plan.tilts, plan.error_nm.max(axis=1), marker="o", color=COLORS.get(edge), label=edge)
    ax.axhline(target_error_nm, color="0.4", ls=":")
    ax.text(plan.tilts[-1], target_error_nm, "allowed", va="bottom", ha="right", fontsize=10, color="0.3")
    ax.set(xlabel="number of tilts", ylabel="standard error of the worse\nphase per pixel (nm)", ylim=(0, None))
    ax.legend()
    return figure


def counts_figure(spectra: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw measured counts beside those of the twin, a panel for each spectrum.

    Parameters
    ----------
    spectra : list of dict
        Each with ``title``, ``kind`` ("measured" or "simulated"), ``energy_eV`` (E,), ``counts`` (E,) and ``twin``
        (E,).
    """
    figure, axes = plt.subplots(1, len(spectra), figsize=(WIDTH if len(spectra) > 1 else 4.8, 3.3), squeeze=False)
    for ax, given in zip(axes.flat, spectra, strict=True):
        ax.plot(given["energy_eV"], given["counts"], color="0.1", lw=1.4, label=given["kind"])
        ax.plot(given["energy_eV"], given["twin"], color="0.55", lw=1.8, ls="--", label="twin")
        ax.set(xlabel="energy loss (eV)", ylabel="counts per electron\nand channel")
        ax.set_title(given["title"], y=1.08)  # above the power of ten
        ax.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        ax.legend()
    return figure


def fit_figure(forecast: Any) -> Figure:
    """Draw the M2,3 edge of a user's spectrum, its fit and the background.

    Parameters
    ----------
    forecast : ErrorForecast
        From `dose.forecast_errors`.
    """
    figure, ax = plt.subplots(figsize=(5.8, 3.6))
    ax.plot(forecast.energy_eV, forecast.electrons, color="0.5", lw=2.5, label="your spectrum")
    ax.plot(forecast.energy_eV, forecast.fitted, color="0.1", lw=1.2, label="fit")
    ax.plot(forecast.energy_eV, forecast.background, color="0.1", lw=1.2, ls="--", label="background")
    ax.set(xlabel="energy loss (eV)", ylabel="electrons per channel", title=f"{forecast.metal}-M2,3")
    ax.legend()
    return figure


def fluence_figure(forecast: Any, target_error_nm: float, *, pixel_size_nm: float) -> Figure:
    """Draw the errors of a user's specimen against the fluence, and the error that is allowed.

    Parameters
    ----------
    forecast : ErrorForecast
        From `dose.forecast_errors`.
    target_error_nm : float
    pixel_size_nm : float
        Side of the pixel that the errors are for.
    """
    figure, ax = plt.subplots(figsize=(5.8, 3.6))
    fluence = np.geomspace(1e2, 1e7, 60)
    for name, at_one in forecast.error_nm.items():
        color = COLORS.get(name) or COLORS.get(f"{forecast.metal} total", "0.1")
        ax.loglog(fluence, at_one / np.sqrt(fluence), label=name, color=color, lw=1.8)
    ax.axhline(target_error_nm, color="0.4", ls=":")
    ax.set(xlabel="fluence (e/Å$^2$)", ylabel=f"error in a pixel of {pixel_size_nm:g} nm (nm)")
    ax.legend()
    return figure
