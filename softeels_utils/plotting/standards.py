"""Figures of chapter 2: references found in the specimen itself. They draw results; nothing is computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .panels import _scale_bar, show_spectra
from .style import COLORS, WIDTH

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

__all__ = [
    "cases_figure",
    "comparison_figure",
    "constraints_figure",
    "diagnostics_figure",
    "found_figure",
    "hidden_figure",
    "pair_figure",
    "recordings_figure",
    "references_figure",
    "rotation_figure",
    "specimen_figure",
    "valence_figure",
]

LEAST_LOG = -8.0  # log-likelihoods below are shown as this


def specimen_figure(
    thickness_nm: Mapping[str, ArrayLike], fraction: ArrayLike, *, fraction_label: str, pixel_size_nm: float | None
) -> Figure:
    """Draw the thickness of each phase, on one scale, and the fraction of the metal in one of them.

    Parameters
    ----------
    thickness_nm : dict of str to array (Y, X)
    fraction : array (Y, X)
        0 to 1, NaN where there is no metal.
    fraction_label : str
    pixel_size_nm : float or None
        Draws a scale bar.
    """
    images = {name: np.asarray(image) for name, image in thickness_nm.items()}
    top = max(float(image.max()) for image in images.values())
    figure, axes = plt.subplots(1, len(images) + 1, figsize=(WIDTH, 3.1))
    for ax, (name, image) in zip(axes, images.items(), strict=False):
        shown = ax.imshow(image, vmin=0, vmax=top, cmap="magma")
        ax.set_title(name)
        if pixel_size_nm:
            _scale_bar(ax, image.shape, pixel_size_nm)
    figure.colorbar(shown, ax=axes[:-1], shrink=0.8, label="nm", location="bottom")
    shown = axes[-1].imshow(fraction, vmin=0, vmax=1, cmap="viridis")
    axes[-1].set_title(fraction_label)
    figure.colorbar(shown, ax=axes[-1], shrink=0.8, label="fraction", location="bottom")
    for ax in axes:
        ax.axis("off")
    return figure


def recordings_figure(
    low_loss: tuple[ArrayLike, Mapping[str, ArrayLike]],
    core_loss: tuple[ArrayLike, Mapping[str, ArrayLike]],
    *,
    marks: tuple[Mapping[str, float], Mapping[str, float]] = ({}, {}),
    ylabel: str = "electrons",
) -> Figure:
    """Draw spectra of the low loss, on a logarithmic scale, and of the core loss.

    Parameters
    ----------
    low_loss, core_loss : (array (E,), dict of str to array (E,))
        Energies, and up to two spectra, the noisier one first.
    marks : (dict of str to float, dict of str to float)
        Edges to mark in the one and in the other.
    ylabel : str
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.3))
    for ax, (energy, spectra), named in zip(axes, (low_loss, core_loss), marks, strict=True):
        for (label, spectrum), color in zip(spectra.items(), ("0.65", "0.1")[-len(spectra) :], strict=True):
            ax.plot(energy, spectrum, color=color, lw=1, label=label)
        for name, position in named.items():
            ax.axvline(position, color="0.4", lw=1, ls=":")
            side = "right" if position > 600 else "left"  # L2,3 is near the end of its axis
            style = {"transform": ax.get_xaxis_transform(), "va": "bottom", "ha": side, "fontsize": 10}
            ax.text(position, 1.0, name, **style)
        ax.set_xlabel("energy loss (eV)")
        ax.set_title("core loss" if ax is axes[1] else "low loss", pad=18)
        if len(spectra) > 1:
            ax.legend(loc="upper center" if ax is axes[1] else "upper right")
    positive = np.concatenate([np.asarray(y)[np.asarray(y) > 0] for y in low_loss[1].values()])
    axes[0].set(xlim=(-5, 120), yscale="log", ylabel=ylabel, ylim=(max(positive.min(), positive.max() / 1e6), None))
    axes[1].set_xlim(np.asarray(core_loss[0])[[0, -1]])
    return figure


def valence_figure(
    energy_eV: ArrayLike, spectra: Mapping[str, ArrayLike], *, marks: Mapping[str, float], title: str
) -> Figure:
    """Draw L2,3 of groups of pixels, each in the colour of the phase that it is rich in.

    Parameters
    ----------
    energy_eV : array (E,)
    spectra : dict of str to array (E,)
        By phase.
    marks : dict of str to float
        Energies to mark, the lowest first.
    title : str
    """
    figure, ax = plt.subplots(figsize=(6.0, 3.4))
    for phase, spectrum in spectra.items():
        ax.plot(energy_eV, spectrum, color=COLORS.get(phase), lw=1.8, label=f"pixels rich in {phase}")
    for number, (name, energy) in enumerate(marks.items()):
        ax.axvline(energy, color="0.5", lw=1, ls=":")
        style = {"va": "bottom", "ha": "left" if number else "right", "fontsize": 10}
        ax.text(energy, 1.0, name, transform=ax.get_xaxis_transform(), **style)
    ax.set(xlabel="energy loss (eV)", ylabel="probability (1/eV)", xlim=np.asarray(energy_eV)[[0, -1]])
    ax.set_title(title, pad=18 if marks else None)
    ax.legend()
    return figure


def rotation_figure(
    energy_eV: ArrayLike, amounts: Sequence[float], pairs: Sequence[ArrayLike], phases: Sequence[str]
) -> go.Figure:
    """Return a plotly figure of pairs of references that fit the same data, one pair for each place of its slider.

    Parameters
    ----------
    energy_eV : array (E,)
    amounts : list of N float
        Fraction of the second phase in the first reference.
    pairs : list of N arrays (2, E)
    phases : (str, str)
    """
    import plotly.graph_objects as go

    figure, middle = go.Figure(), len(amounts) // 2
    for amount, pair in zip(amounts, pairs, strict=True):
        for name, y in zip(phases, pair, strict=True):
            figure.add_scatter(
                x=energy_eV,
                y=np.asarray(y).round(8),
                name=name,
                line={"color": COLORS.get(name)},
                visible=bool(amount == amounts[middle]),
            )
    shown = np.repeat(np.eye(len(amounts), dtype=bool), 2, axis=1).tolist()
    steps = [
        {"label": f"{amount:+.2f}", "method": "update", "args": [{"visible": visible}]}
        for amount, visible in zip(amounts, shown, strict=True)
    ]
    prefix = f"{phases[1]} in the {phases[0]} reference: "
    pairs = np.asarray(pairs)
    figure.update_layout(
        sliders=[{"active": middle, "steps": steps, "currentvalue": {"prefix": prefix}, "pad": {"t": 45}}],
        xaxis_title="energy loss (eV)",
        yaxis={
            "title": {"text": "probability (1/(eV nm))"},
            "range": [pairs.min(), 1.05 * pairs.max()],
            "exponentformat": "power",
        },
        margin={"l": 70, "r": 20, "t": 30},
        legend={"x": 0.98, "xanchor": "right", "y": 0.95},
    )
    return figure


def constraints_figure(rotation: Any, phases: Sequence[str]) -> Figure:
    """Draw the log-likelihood of each constraint over the places of the two phases, and of all of them together.

    Parameters
    ----------
    rotation : Rotation
        Of `standards.extract_standards`; the result is at (0, 1).
    phases : (str, str)
        The reduced one and the oxidised one.
    """
    across, up = ((grid - rotation.x0) / rotation.width for grid in (rotation.grid0, rotation.grid1))
    panels = {**rotation.parts, "all together": np.log(np.maximum(rotation.probability, 1e-300))}
    rows = -(-len(panels) // 3)
    figure, axes = plt.subplots(rows, 3, figsize=(WIDTH, 2.4 * rows + 0.6), sharex=True, sharey=True, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, (name, part) in zip(axes.flat, panels.items(), strict=False):
        ax.axis("on")
        shown = ax.imshow(
            np.clip(part - part[np.isfinite(part)].max(), LEAST_LOG, 0).T,
            origin="lower",
            aspect="auto",
            cmap="viridis",
            extent=(across[0], across[-1], up[0], up[-1]),
            vmin=LEAST_LOG,
            vmax=0,
        )
        ax.plot(0, 1, "+", color="w", ms=13, mew=3)
        ax.plot(0, 1, "+", color="k", ms=12, mew=1.2)
        ax.set_title(name.replace("cross_", "cross-").replace("_", " "))
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "\N{MINUS SIGN}"))
        ax.tick_params(axis="x", labelsize=10)  # else those of neighbouring panels touch
    figure.supxlabel(f"place of {phases[1]}, $x_0$", fontsize=11)
    figure.supylabel(f"place of {phases[0]}, $x_1$", fontsize=11)
    figure.colorbar(shown, ax=axes, label="log-likelihood")
    return figure


def references_figure(
    energy_eV: ArrayLike, references: Mapping[str, ArrayLike], uncertainty: Mapping[str, ArrayLike], truth: ArrayLike
) -> Figure:
    """Draw references with one standard deviation, and what they differ by from the truth.

    Parameters
    ----------
    energy_eV : array (E,)
    references, uncertainty : dict of str to array (E,)
        By phase.
    truth : array (K, E)
        In the order of ``references``.
    """
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(6.0, 5.2), sharex=True, height_ratios=(3, 2))
    for (name, y), true in zip(references.items(), np.asarray(truth), strict=True):
        color, half = COLORS.get(name), uncertainty[name]
        _band(upper, energy_eV, y, half, color, name)
        upper.plot(energy_eV, true, color=COLORS["truth"], lw=1, ls="--", label="truth")
        off, width = 100 * (y - true) / true.max(), 100 * half / true.max()
        _band(lower, energy_eV, off, width, color, name)
    handles = dict(zip(*upper.get_legend_handles_labels()[::-1], strict=True))  # one entry for the truth, the last
    handles["truth"] = handles.pop("truth")
    upper.legend(handles.values(), handles)
    upper.set(ylabel="probability (1/(eV nm))")
    lower.axhline(0, color="0.4", lw=0.8)
    lower.set(xlabel="energy loss (eV)", ylabel="less the truth\n(% of maximum)")
    return figure


def _band(ax, x, y, half, color, label):
    ax.plot(x, y, color=color, lw=1.6, label=label)
    ax.fill_between(x, y - half, y + half, color=color, alpha=0.22, lw=0)


def diagnostics_figure(diagnostics: Any) -> Figure:
    """Draw how many components stand out of the noise, and whether the residual has structure.

    Parameters
    ----------
    diagnostics : Diagnostics
        Of `standards.extract_standards`.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.1))
    shown = diagnostics.signal[:8]
    left.semilogy(np.arange(1, len(shown) + 1), shown, "o-", color="0.1")
    left.axhline(1, color="0.5", ls=":")
    left.set(xlabel="component", ylabel="singular value² / noise")
    _residual(right, diagnostics)
    return figure


def _residual(ax, diagnostics):
    ax.plot(diagnostics.residual_energy_eV, diagnostics.residual_spectrum, lw=0.8, color="0.1")
    highest = max(1.5, 1.05 * float(np.max(diagnostics.residual_spectrum)))
    ax.set(xlabel="energy loss (eV)", ylabel="RMS residual / noise", ylim=(0.5, highest))


def cases_figure(cases: Mapping[str, Mapping[str, Any]], phases: Sequence[str]) -> Figure:
    """Draw fitted volumes over the true ones, and the error of the mean valence, for several specimens.

    Parameters
    ----------
    cases : dict of str to dict
        By specimen: ``volume`` and ``volume_error`` (K,), fitted over true; ``valence`` and ``valence_error``, fitted
        less true; ``flags``, the number of warnings.
    phases : K names
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 0.62 * len(cases) + 1.4), sharey=True)
    rows = np.arange(len(cases))[::-1]
    for k, phase in enumerate(phases):
        value, error = (np.array([case[name][k] for case in cases.values()]) for name in ("volume", "volume_error"))
        style = {"fmt": "o", "ms": 6, "capsize": 3, "color": COLORS.get(phase)}
        left.errorbar(value, rows + 0.12 - 0.24 * k, xerr=error, label=phase, **style)
    value, error = (np.array([case[name] for case in cases.values()]) for name in ("valence", "valence_error"))
    right.errorbar(value, rows, xerr=error, fmt="s", ms=6, capsize=3, color="0.1")
    for ax, true in ((left, 1.0), (right, 0.0)):
        ax.axvline(true, color="0.4", lw=1, ls=":")
    labels = [f"{name}\n({case['flags']} warnings)" if case["flags"] else name for name, case in cases.items()]
    left.set_yticks(rows, labels)
    left.set(xlabel="volume, fitted / true", ylim=(-0.6, len(cases) - 0.4))
    right.set(xlabel="mean valence, fitted − true")
    right.locator_params(axis="x", nbins=4)
    figure.legend(loc="outside upper right", ncols=len(phases))
    return figure


def hidden_figure(
    energy_eV: ArrayLike, phase: tuple[str, ArrayLike], nearest: tuple[str, ArrayLike], others: Mapping[str, ArrayLike]
) -> Figure:
    """Draw a phase that is nearly a sum of other phases.

    Parameters
    ----------
    energy_eV : array (E,)
    phase, nearest : (str, array (E,))
        The phase and the sum, with their labels.
    others : dict of str to array (E,)
        What the sum is made of.
    """
    figure, ax = plt.subplots(figsize=(6.0, 3.5))
    for name, y in others.items():
        ax.plot(energy_eV, y, color=COLORS.get(name), lw=1.4, label=name)
    ax.plot(energy_eV, phase[1], color=COLORS.get(phase[0], "0.1"), lw=4, alpha=0.6, label=phase[0])
    ax.plot(energy_eV, nearest[1], color=COLORS["truth"], lw=1.2, ls="--", label=nearest[0])
    ax.set(xlabel="energy loss (eV)", ylabel="probability per iron atom\n(nm²/eV)", xlim=np.asarray(energy_eV)[[0, -1]])
    ax.legend()
    return figure


def comparison_figure(report: Any, window_eV: tuple[float, float], *, reference: str) -> Figure:
    """Draw measured L2,3 beside a reference, and maps of L3/L2 and of the L3 maximum.

    Parameters
    ----------
    report : L23Comparison
        From `standards.compare_l23`.
    window_eV : (float, float)
    reference : str
        What the reference is.
    """
    figure, axes = plt.subplot_mosaic([["spectrum", "spectrum"], ["ratio", "position"]], figsize=(6.2, 5.4))
    near = (report.energy_eV > window_eV[0]) & (report.energy_eV < window_eV[1])
    ax = axes["spectrum"]
    ax.plot(report.energy_eV[near], report.spectrum[near], color="0.1", lw=1.6, label="measured")
    ax.plot(report.energy_eV[near], report.matched[near], color="0.5", lw=1.6, ls="--", label=reference)
    ax.set(xlabel="energy loss (eV)", ylabel="counts", xlim=window_eV)
    ax.legend()
    for name, image, title in (
        ("ratio", report.ratio_map, "L3/L2"),
        ("position", report.position_map, "L3 maximum (eV)"),
    ):
        low, high = np.nanpercentile(image, (2, 98))
        shown = axes[name].imshow(image, cmap="viridis", vmin=low, vmax=high)
        axes[name].set_title(title)
        axes[name].axis("off")
        figure.colorbar(shown, ax=axes[name], shrink=0.9)
    return figure


def pair_figure(pair: Any, window_eV: tuple[float, float], *, metal: str = "Mn") -> Figure:
    """Draw M2,3 against L2,3 of the same pixels, and the M2,3 reference that follows.

    Parameters
    ----------
    pair : EdgePair
        From `standards.pair_edges`.
    window_eV : (float, float)
    metal : str
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.3))
    style = {"fmt": "o", "ms": 3, "lw": 0.7, "color": "0.2"}
    left.errorbar(pair.core_signal, pair.low_signal, pair.low_error, pair.core_error, **style)
    left.set(xlabel=f"{metal}-L2,3 / its mean", ylabel=f"{metal}-M2,3 / its mean")
    near = (pair.energy_eV > window_eV[0]) & (pair.energy_eV < window_eV[1])
    energy = pair.energy_eV[near]
    _band(right, energy, 1e3 * pair.reference[near], 1e3 * pair.uncertainty[near], "0.1", "")
    right.axhline(0, color="0.5", lw=0.8)
    right.set(xlabel="energy loss (eV)", ylabel=f"10⁻³ per mean {metal}-L2,3")
    return figure


def found_figure(standards: Any, window_eV: tuple[float, float], *, title: str) -> Figure:
    """Draw the references of a user's specimen with one standard deviation, and the residual of its pixels.

    Parameters
    ----------
    standards : Standards
        Found in a specimen.
    window_eV : (float, float)
    title : str
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.3))
    inside: NDArray = (standards.energy_eV > window_eV[0]) & (standards.energy_eV < window_eV[1])
    show_spectra(
        standards.energy_eV[inside],
        dict(zip(standards.phases, standards.references[:, inside], strict=True)),
        bands=dict(zip(standards.phases, standards.uncertainty[:, inside], strict=True)),
        ylabel="probability (1/(eV nm))",
        title=title,
        ax=axes[0],
    )
    _residual(axes[1], standards.diagnostics)
    return figure
