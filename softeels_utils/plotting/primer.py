"""Figures of the primer: spectra and their edges, blur and damage, projections and the missing wedge, networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Wedge
from numpy.typing import ArrayLike

from .style import COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "blur_figure",
    "damage_figure",
    "loss_figure",
    "near_edge_figure",
    "network_figure",
    "plural_figure",
    "priors_figure",
    "slice_theorem_figure",
    "wedge_figure",
]

WIDTH = 5.0  # inches: 550 pixels, of which a phone shows nearly three quarters
GREYS = ("0.65", "0.4", "0.0")
LINE = "#E69F00"  # no phase, no edge


def loss_figure(spectra: Sequence[tuple[ArrayLike, ArrayLike]], edges: Mapping[str, float]) -> Figure:
    """Return a figure of whole spectra, a row for each part, with their edges marked.

    Parameters
    ----------
    spectra : sequence of (array (E,), array (E,))
        Energy loss in eV, and electrons per eV for one electron of the beam.
    edges : dict of str to float
        Names and onsets in eV; each is marked where it lies in a part.
    """
    figure = Figure(figsize=(WIDTH, 2.3 * len(spectra)), layout="constrained")
    for ax, (energy, values) in zip(np.atleast_1d(figure.subplots(len(spectra))), spectra, strict=True):
        energy = np.asarray(energy)
        ax.semilogy(energy, values, color="black", lw=1.2)
        for name, onset in edges.items():
            if energy[0] < onset < energy[-1]:
                ax.axvline(onset, color="0.55", lw=1, ls=":")
                ax.annotate(name, (onset, 0.93), (4, 0), xycoords=("data", "axes fraction"), textcoords="offset points")
        ax.set(xlim=(energy[0], energy[-1]), ylabel="electrons / eV")
        ax.set_ylim(top=2 * np.max(values))  # room for the names
    ax.set_xlabel("energy loss (eV)")
    return figure


def near_edge_figure(parts: Mapping[str, tuple[ArrayLike, Mapping[str, ArrayLike]]]) -> Figure:
    """Return a figure of the near-edge structure of the phases, a row for each edge, each row to its own scale.

    Parameters
    ----------
    parts : dict of str to (array (E,), dict of str to array (E,))
        For each edge the energy loss in eV, and the single scattering of each phase.
    """
    figure = Figure(figsize=(WIDTH, 2.3 * len(parts)), layout="constrained")
    for ax, (edge, (energy, phases)) in zip(np.atleast_1d(figure.subplots(len(parts))), parts.items(), strict=True):
        highest = max(np.max(values) for values in phases.values())
        for name, values in phases.items():
            ax.plot(energy, np.asarray(values) / highest, color=COLORS.get(name), label=name, lw=1.5)
        ax.set(title=f"Fe-{edge}", xlim=(energy[0], energy[-1]), ylabel="single scattering", yticks=[])
    figure.axes[0].legend()
    ax.set_xlabel("energy loss (eV)")
    return figure


def plural_figure(energy_eV: ArrayLike, spectra: Mapping[str, ArrayLike], window_eV: tuple[float, float]) -> Figure:
    """Return a figure of spectra of several thicknesses: from the zero loss on, and about one edge, scaled to it.

    Parameters
    ----------
    energy_eV : array (E,)
    spectra : dict of str to array (E,)
        At most three, from thin to thick.
    window_eV : (float, float)
        Of the lower row, whose curves all begin at 1.
    """
    energy = np.asarray(energy_eV)
    figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
    whole, near = figure.subplots(2)
    inside = (energy >= window_eV[0]) & (energy <= window_eV[1])
    for (label, values), color in zip(spectra.items(), GREYS, strict=False):
        whole.semilogy(energy, values, color=color, label=label, lw=1.3)
        near.plot(energy[inside], np.asarray(values)[inside] / values[np.argmax(inside)], color=color, lw=1.3)
    whole.set(ylabel="electrons / eV", xlim=(energy[0], energy[-1]))
    whole.legend()
    near.set(xlabel="energy loss (eV)", ylabel=f"relative to {window_eV[0]:g} eV", xlim=window_eV)
    return figure


def blur_figure(energy_eV: ArrayLike, diameters_nm: Mapping[str, ArrayLike], edges: Mapping[str, float]) -> Figure:
    """Return a figure of the diameter that holds half of a signal over its energy loss, a curve per beam energy.

    Parameters
    ----------
    energy_eV : array (E,)
    diameters_nm : dict of str to array (E,)
    edges : dict of str to float
        Energies in eV to mark.
    """
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    ax = figure.subplots()
    for (label, values), style in zip(diameters_nm.items(), ("-", "--", ":"), strict=False):
        ax.loglog(energy_eV, values, color="black", ls=style, label=label)
    for name, energy in edges.items():
        ax.axvline(energy, color="0.55", lw=1, ls=":")
        ax.annotate(name, (energy, 0.9), (4, 0), xycoords=("data", "axes fraction"), textcoords="offset points")
    ax.set(xlabel="energy loss (eV)", ylabel="diameter with half\nof the signal (nm)")
    ax.legend(loc="lower left")
    return figure


def damage_figure(limits_e_per_A2: Mapping[str, tuple[float, float]], used_e_per_A2: Mapping[str, float]) -> Figure:
    """Return a figure of the fluence that materials stand, with fluences of this book as vertical lines.

    Parameters
    ----------
    limits_e_per_A2 : dict of str to (float, float)
        Lowest and highest limit found for a material; equal where there is one number.
    used_e_per_A2 : dict of str to float
    """
    figure = Figure(figsize=(WIDTH, 0.45 * len(limits_e_per_A2) + 1.6), layout="constrained")
    ax = figure.subplots()
    for row, (low, high) in enumerate(limits_e_per_A2.values()):
        ax.plot([low, high], [row, row], color="0.35", lw=5, solid_capstyle="butt")
        ax.plot([low, high], [row, row], "|", color="black", ms=13, mew=2)
    for (name, value), style in zip(used_e_per_A2.items(), ("--", ":", "-."), strict=False):
        ax.axvline(value, color="black", lw=1.2, ls=style, label=name)
    ax.set(xscale="log", xlabel="fluence (e/Å²)", yticks=range(len(limits_e_per_A2)), yticklabels=[*limits_e_per_A2])
    ax.set_ylim(len(limits_e_per_A2) - 0.4, -0.6)
    figure.legend(loc="outside lower center")
    return figure


def slice_theorem_figure(
    image: ArrayLike,
    projection: ArrayLike,
    tilt_deg: float,
    plane: ArrayLike,
    frequency: ArrayLike,
    transforms: Mapping[str, ArrayLike],
) -> Figure:
    """Return a figure of the projection-slice theorem on one slice and one of its projections.

    Parameters
    ----------
    image : array (N, N)
        A slice (Z, X) of a volume.
    projection : array (N,)
        Line integrals of it at the tilt.
    tilt_deg : float
        In the convention of `tomography.ParallelBeam`.
    plane : array (M, M)
        Size of the slice's Fourier transform at frequencies (k_z, k_x) from -1/2 to 1/2.
    frequency : array (F,)
        Frequencies of the transforms, in cycles per pixel.
    transforms : dict of str to array (F,)
        Two sizes that the theorem calls equal: of the slice along the line, and of the projection.
    """
    plane, direction = np.asarray(plane), np.array([np.cos(np.deg2rad(tilt_deg)), np.sin(np.deg2rad(tilt_deg))])
    figure = Figure(figsize=(WIDTH, 5.2), layout="constrained")
    (slice_ax, plane_ax), (shadow_ax, line_ax) = figure.subplots(2, 2)
    whole = {"cmap": "gray", "extent": (-0.5, 0.5, 0.5, -0.5)}
    slice_ax.imshow(image, **whole)
    beam = 0.46 * np.array([-direction[1], direction[0]])  # along which u = x cos + z sin stays the same
    slice_ax.annotate("", beam, -beam, arrowprops={"arrowstyle": "->", "color": LINE, "lw": 2})
    slice_ax.set(title="a slice, and the beam", xlabel="X", ylabel="Z", xticks=[], yticks=[])
    plane_ax.imshow(np.log10(plane + 1e-3 * plane.max()), **whole)
    plane_ax.plot(*np.outer(direction, [-0.5, 0.5]), color=LINE, lw=1.5)
    plane_ax.set(title="its Fourier transform", xlabel="$k_x$", ylabel="$k_z$", xticks=[], yticks=[])
    shadow_ax.plot(np.arange(len(projection)) - (len(projection) - 1) / 2, projection, color="black")
    shadow_ax.set(title="its projection", xlabel="detector (pixels)", yticks=[])
    for (label, values), look in zip(
        transforms.items(), ({"color": LINE, "lw": 4, "alpha": 0.7}, {"color": "black", "lw": 1.2}), strict=True
    ):
        line_ax.plot(frequency, values, label=label, **look)
    line_ax.set(title="Fourier transforms", xlabel="frequency (1/pixel)", yscale="log", yticks=[])
    line_ax.minorticks_off()
    line_ax.legend()
    return figure


def wedge_figure(images: Mapping[str, ArrayLike], tilts_deg: ArrayLike) -> Figure:
    """Return a figure of the lines of the Fourier plane that a tilt series measures, and of slices made from them.

    Parameters
    ----------
    images : dict of str to array (Z, X)
        Three slices, to one scale from 0 to 1.
    tilts_deg : array (T,)
        Of the series whose lines are drawn.
    """
    figure = Figure(figsize=(WIDTH, 5.3), layout="constrained")
    plane, *others = figure.subplots(2, 2).flat
    most = float(np.abs(tilts_deg).max())
    for start in (most, 180 + most):
        plane.add_patch(Wedge((0, 0), 1, start, start + 180 - 2 * most, color=LINE, alpha=0.35, lw=0))
    for tilt in np.deg2rad(tilts_deg):
        plane.plot([-np.cos(tilt), np.cos(tilt)], [-np.sin(tilt), np.sin(tilt)], color="black", lw=1.2)
    plane.add_patch(Circle((0, 0), 1, fill=False, color="0.4"))
    plane.text(0, 0.8, "missing\nwedge", ha="center", va="center", fontsize=9)
    plane.set(title="what is measured", xlabel="$k_x$", ylabel="$k_z$", xticks=[], yticks=[], aspect="equal")
    for ax, (label, image) in zip(others, images.items(), strict=True):
        ax.imshow(image, cmap="gray", vmin=0, vmax=1)
        ax.set(title=label, xlabel="X", ylabel="Z (beam)", xticks=[], yticks=[])
    return figure


def priors_figure(images: Mapping[str, ArrayLike]) -> Figure:
    """Return a figure of images side by side, each to its own scale: what a network makes before it is trained.

    Parameters
    ----------
    images : dict of str to array (Z, X)
    """
    figure = Figure(figsize=(WIDTH, 1.85), layout="constrained")
    for ax, (label, image) in zip(figure.subplots(1, len(images)), images.items(), strict=True):
        ax.imshow(image, cmap="gray")
        ax.set(title=label, xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    return figure


def network_figure(frequencies: int, width: int, layers: int, phases: Sequence[str]) -> Figure:
    """Return a diagram of DIPm-TV: from the coordinates of a point to its fractions, their projections, and the loss.

    Parameters
    ----------
    frequencies, width, layers : int
        Of the network: random frequencies, width and number of its layers.
    phases : sequence of str
    """
    figure = Figure(figsize=(WIDTH, 6.3), layout="constrained")
    ax = figure.subplots()
    ax.set(xlim=(0, 10.6), ylim=(0, 11.2))
    ax.axis("off")
    names = ", ".join([*phases, "vacuum"])
    rows = [
        ("a point  (y, z, x)", "in units of the specimen's size"),
        (f"cos, sin  of {frequencies} random waves", "fixed: their frequencies are the prior"),
        (f"{layers} layers of {width} values each", "weights and biases w: what is trained"),
        (f"softmax over {names}", "fractions of a voxel: 0 to 1, together 1"),
        ("volume  f$_w$", "all points of a few slices at a time"),
        ("projector  A", "line integrals at the measured tilts"),
        ("misfit to the maps  +  $\\lambda$ joint TV", "whitened with the covariance of the fit"),
    ]
    tops = 10.4 - 1.55 * np.arange(len(rows))
    for (title, note), y in zip(rows, tops, strict=True):
        _box(ax, (0.9, y - 0.5), 8.2, 1.0, title, note)
    for above, below in pairwise(tops):
        ax.add_patch(
            FancyArrowPatch((5, above - 0.52), (5, below + 0.52), arrowstyle="-|>", mutation_scale=12, color="0.2")
        )
    back = {"connectionstyle": "bar,fraction=0.075", "arrowstyle": "-|>", "mutation_scale": 12, "color": LINE}
    ax.add_patch(FancyArrowPatch((9.15, tops[-1]), (9.15, tops[2]), lw=1.8, **back))
    ax.text(9.9, (tops[-1] + tops[2]) / 2, "gradient", rotation=90, ha="left", va="center", color="#8A5A00")
    return figure


def _box(ax: Axes, corner: tuple[float, float], width: float, height: float, title: str, note: str) -> None:
    box = FancyBboxPatch(corner, width, height, boxstyle="round,pad=0,rounding_size=0.15", fc="0.96", ec="0.3")
    ax.add_patch(box)
    x, y = corner[0] + width / 2, corner[1] + height / 2
    ax.text(x, y + 0.2, title, ha="center", va="center", fontsize=11)
    ax.text(x, y - 0.24, note, ha="center", va="center", fontsize=10, color="0.3")
