"""Figures of chapter 3: references, fits of single pixels, maps and their errors, what a wrong model costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .panels import _scale_bar, maps_figure
from .style import COLORS, WIDTH

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "background_choices",
    "cases",
    "crossover",
    "edges",
    "fluences",
    "maps_and_errors",
    "measured_edge",
    "pixel",
    "plural_scattering",
    "pulls",
    "references",
    "weights",
    "window_sweep",
]

DATA, FIT, BACKGROUND = "#999999", "black", "#E69F00"  # none of them the colour of a phase
METHODS = ("-", "--", ":")
ENERGY = "energy loss (eV)"


def references(
    energy_eV: ArrayLike,
    found: Mapping[str, ArrayLike],
    errors: ArrayLike | None = None,
    exact: ArrayLike | None = None,
    *,
    spectrum: tuple[ArrayLike, ArrayLike] | None = None,
    onset_eV: float | None = None,
    unit: str = "probability per eV and nm (10⁻⁶)",
) -> Figure:
    """Reference spectra of the phases with their errors; dashed, those of a truth.

    Parameters
    ----------
    energy_eV : (E,)
    found : dict of str to array (E,)
        Of each phase.
    errors : (K, E), optional
        One standard deviation.
    exact : (K, E), optional
    spectrum : (energies, counts), optional
        What the references will be fitted to, in a panel above.
    onset_eV : float, optional
        Marks the edge in the spectrum.
    unit : str
        Of the references.
    """
    if spectrum is None:
        figure, ax = plt.subplots(figsize=(WIDTH, 3.5))
    else:
        figure, (above, ax) = plt.subplots(2, 1, figsize=(WIDTH, 5.4))
        above.semilogy(*spectrum, color=DATA)
        above.set(xlim=(-5, 120), xlabel=ENERGY, ylabel="mean counts")
        if onset_eV is not None:
            above.axvline(onset_eV, color="black", lw=1, ls=":")
    for k, (name, values) in enumerate(found.items()):
        (line,) = ax.plot(energy_eV, values, color=COLORS.get(name), label=name)
        if errors is not None:
            band = np.asarray(values) - errors[k], np.asarray(values) + errors[k]
            ax.fill_between(energy_eV, *band, color=line.get_color(), alpha=0.25, lw=0)
        if exact is not None:
            ax.plot(energy_eV, exact[k], "--", lw=1, color=line.get_color(), label=f"{name}, the twin's own")
    ax.set(xlabel=ENERGY, ylabel=unit)
    ax.legend()
    return figure


def pixel(fit: Any, counts: ArrayLike, phases: Sequence[str] = (), *, variance: ArrayLike | None = None) -> Figure:
    """Fit of one spectrum: counts with fit and background, what the phases add, and the residual over the noise.

    Parameters
    ----------
    fit : PhaseFit
        Of one spectrum.
    counts : (E',)
        In the window of the fit.
    phases : sequence of str
        Names; by default those of the fit.
    variance : (E',), optional
        Of the counts; by default the fitted counts.
    """
    curve, background = fit.curves()
    energy, phases = fit.energy_eV, tuple(phases) or fit.phases
    noise = np.sqrt(np.maximum(curve if variance is None else variance, 1e-9))
    figure, (top, middle, bottom) = plt.subplots(3, 1, figsize=(WIDTH, 6.2), sharex=True, height_ratios=(3, 3, 2))
    top.step(energy, counts, where="mid", color=DATA, lw=1, label="counts")
    top.plot(energy, curve, color=FIT, label="fit")
    top.plot(energy, background, "--", color=BACKGROUND, label="background")
    middle.step(energy, np.asarray(counts) - background, where="mid", color=DATA, lw=0.8, label="counts − background")
    for name, part in zip(phases, _parts(fit), strict=True):
        middle.plot(energy, part, color=COLORS.get(name), label=name)
    bottom.step(energy, (np.asarray(counts) - curve) / noise, where="mid", color=DATA, lw=0.8)
    bottom.axhline(0, color="black", lw=0.8)
    for ax, label in ((top, "counts per channel"), (middle, "counts per channel"), (bottom, "residual / noise")):
        ax.set(ylabel=label)
    top.legend(ncol=3)
    middle.legend(ncol=3)
    bottom.set(xlabel=ENERGY)
    return figure


def _parts(fit):
    """Counts of each phase in a fit of one spectrum, (K, E')."""
    amplitudes = fit.coefficients * np.asarray(fit.electrons)
    return amplitudes[:, None] * fit.shapes[: amplitudes.size]


def fluences(
    fits: Sequence[Any], counts: ArrayLike, fluence_e_per_A2: Sequence[float], *, active: int = 0
) -> go.Figure:
    """One pixel at several fluences: a slider moves from one to the next.

    Parameters
    ----------
    fits : sequence of F PhaseFit
        Each of one spectrum, in one window.
    counts : (F, E')
        In the window of the fits.
    fluence_e_per_A2 : sequence of F float
    active : int
        What is shown first.
    """
    import plotly.graph_objects as go

    figure, phases = go.Figure(), fits[0].phases
    colors = [DATA, "black", BACKGROUND, *(COLORS.get(name, "grey") for name in phases)]
    for k, fit in enumerate(fits):
        curve, background = fit.curves()
        lines = [counts[k], curve, background, *_parts(fit)]
        for name, y, color in zip(("counts", "fit", "background", *phases), lines, colors, strict=True):
            line = {"color": color, "shape": "hvh" if name == "counts" else "linear"}
            figure.add_scatter(
                x=np.round(fit.energy_eV, 3), y=np.round(y, 3), name=name, line=line, visible=k == active,
                hoverinfo="skip",
            )  # fmt: skip
    titles = [_amounts(fit) for fit in fits]
    shown = np.repeat(np.eye(len(fits), dtype=bool), len(colors), axis=1).tolist()
    steps = [
        {"label": f"{level:,.0f}", "method": "update", "args": [{"visible": visible}, {"title.text": title}]}
        for level, visible, title in zip(fluence_e_per_A2, shown, titles, strict=True)
    ]
    current = {"prefix": "fluence (e/Å²): "}
    figure.update_layout(
        title={"text": titles[active], "font": {"size": 14}},
        xaxis_title=ENERGY,
        yaxis_title="counts per channel",
        legend={"x": 1, "y": 1, "xanchor": "right", "yanchor": "top", "bgcolor": "rgba(255, 255, 255, 0.7)"},
        sliders=[{"active": active, "steps": steps, "currentvalue": current, "pad": {"t": 45}}],
        margin={"t": 70},
    )
    return figure


def _amounts(fit):
    """``FeO 24.9 ± 1.2 nm, ...`` of a fit of one spectrum."""
    values = zip(fit.phases, fit.coefficients, fit.standard_error, strict=True)
    return "<br>".join(f"{name} {amount:.1f} ± {error:.1f} nm" for name, amount, error in values)


def maps_and_errors(
    rows: Mapping[str, Sequence[ArrayLike]], columns: Sequence[str], *, pixel_size_nm: float | None = None
) -> Figure:
    """Maps of each phase in a row: all but the last share one scale, the last, of errors, has its own.

    Parameters
    ----------
    rows : dict of str to sequence of arrays (Y, X)
        ``{phase: maps}``, in nm.
    columns : sequence of str
        What the maps of a row are, such as ``("truth", "fit", "error bar")``.
    pixel_size_nm : float, optional
        Draws a scale bar.
    """
    from matplotlib.colors import Normalize

    size = (WIDTH, 1.8 * len(rows) + 0.4)
    figure, axes = plt.subplots(len(rows), len(columns), figsize=size, squeeze=False)
    groups = [np.concatenate([np.ravel(m) for maps in rows.values() for m in maps[part]]) for part in (
        slice(None, -1), slice(-1, None)
    )]  # fmt: skip
    norms = [Normalize(0, np.nanpercentile(values, 99.8)) for values in groups]
    for (name, maps), line in zip(rows.items(), axes, strict=True):
        for column, (image, ax) in enumerate(zip(maps, line, strict=True)):
            last = column == len(columns) - 1
            shown = ax.imshow(image, norm=norms[last], cmap="viridis" if last else "magma")
            ax.set(xticks=[], yticks=[], title=columns[column] if ax in axes[0] else None)
            ax.spines[:].set_visible(False)
            if column >= len(columns) - 2:
                figure.colorbar(shown, ax=ax, shrink=0.85, label="nm")
        line[0].set_ylabel(name)
    if pixel_size_nm:
        _scale_bar(axes[0, 0], np.shape(next(iter(rows.values()))[0]), pixel_size_nm)
    return figure


def pulls(pull: ArrayLike, errors_nm: ArrayLike, ellipse_nm: ArrayLike, phases: Sequence[str]) -> Figure:
    """Histogram of errors over error bars, and the errors of two phases against each other.

    Parameters
    ----------
    pull, errors_nm : (N, 2)
        Errors in units of their error bars, and in nm.
    ellipse_nm : (2, P)
        Outline of two mean reported standard errors, with their correlation.
    phases : two str
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.1))
    bins = np.linspace(-5, 5, 41)
    for k, name in enumerate(phases):
        left.hist(pull[:, k], bins, density=True, histtype="step", color=COLORS.get(name), label=name)
    left.plot(bins, np.exp(-(bins**2) / 2) / np.sqrt(2 * np.pi), "k:", label="normal")
    left.set(xlabel="error / error bar", ylabel="density", ylim=(0, 0.55))
    left.legend(loc="upper left", handlelength=1, borderpad=0)
    right.plot(*np.transpose(errors_nm), ".", ms=2, color=DATA)
    right.plot(*ellipse_nm, color="black", label="2 error bars")
    right.set(xlabel=f"error of {phases[0]} (nm)", ylabel=f"error of {phases[1]} (nm)", aspect="equal")
    right.legend(loc="upper right")
    return figure


def cases(results: Mapping[str, Mapping[str, tuple[float, float]]], *, split: str = "mean valence") -> Figure:
    """What a fit says of several specimens, over the truth, with its whole error; a star where it warns.

    Parameters
    ----------
    results : dict of str to dict of str to (float, float)
        ``{specimen: {quantity: (deviation from the truth, standard error)}}``; relative, but for ``split``. A
        specimen whose fit warns ends in ``*``.
    split : str
        The quantity that has a panel of its own, in its own unit.
    """
    names, quantities = list(results), list(next(iter(results.values())))
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 0.75 * len(names) + 1.4), sharey=True, width_ratios=(3, 2))
    ratios = [quantity for quantity in quantities if quantity != split]
    for ax, shown in zip(axes, (ratios, [split]), strict=True):
        for k, quantity in enumerate(shown):
            at = np.arange(len(names)) + (k - (len(shown) - 1) / 2) * 0.22
            values, errors = np.transpose([results[name][quantity] for name in names])
            factor = 100 if ax is axes[0] else 1
            color = COLORS.get(quantity, "black")
            ax.errorbar(factor * values, at, xerr=factor * errors, fmt="o", ms=5, color=color, label=quantity)
        ax.axvline(0, color="0.6", lw=0.8, zorder=0)
    axes[0].set(xlabel="fit less truth (%)", yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    axes[1].set(xlabel=f"{split},\nfit less truth")
    axes[0].legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=3, handletextpad=0.2)
    return figure


def weights(counts: ArrayLike, biases_nm: Mapping[str, ArrayLike], scatter_nm: ArrayLike) -> Figure:
    """Bias of a sum of phases over the counts per channel, for several weights.

    Parameters
    ----------
    counts : (F,)
        Mean counts per channel.
    biases_nm : dict of str to array (F,)
    scatter_nm : (F,)
        Standard deviation of one pixel.
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 3.5))
    ax.fill_between(counts, -np.asarray(scatter_nm), scatter_nm, color="0.9", label="± scatter of one pixel")
    for (name, bias), style in zip(biases_nm.items(), ("o-k", "s--", "^:"), strict=False):
        ax.semilogx(counts, bias, style, label=name, **({} if "k" in style else {"color": BACKGROUND}))
    ax.axhline(0, color="0.5", lw=0.8)
    most = 1.3 * max(np.abs(bias).max() for bias in biases_nm.values())
    ax.set(xlabel="counts per channel", ylabel="bias of the sum (nm)", xscale="log", ylim=(-most, most))
    ax.legend()
    return figure


def plural_scattering(paths: ArrayLike, biases: Mapping[str, ArrayLike], phases: Sequence[str]) -> Figure:
    """Bias of each phase over the thickness, for several treatments of plural scattering.

    Parameters
    ----------
    paths : (N,)
        Thickness in inelastic mean free paths.
    biases : dict of str to array (N, K)
        In per cent of the thickness; at most three.
    phases : sequence of K str
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 3.9))
    for (name, bias), style in zip(biases.items(), METHODS, strict=False):
        for k, phase in enumerate(phases):
            ax.plot(paths, np.asarray(bias)[:, k], style, color=COLORS.get(phase), label=f"{phase}, {name}")
    ax.set(xlabel="thickness (inelastic mean free paths)", ylabel="bias (% of the thickness)")
    ax.margins(y=0.15)
    figure.legend(*ax.get_legend_handles_labels(), ncol=2, loc="outside upper center", columnspacing=1)
    return figure


def background_choices(
    names: Sequence[str], biases_nm: ArrayLike, errors_nm: ArrayLike, phases: Sequence[str]
) -> Figure:
    """Bias of each phase, with its error bar, for several backgrounds.

    Parameters
    ----------
    names : sequence of N str
    biases_nm, errors_nm : (N, K)
    phases : sequence of K str
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 0.5 * len(names) + 1.2))
    for k, phase in enumerate(phases):
        at = np.arange(len(names)) + 0.2 * (k - (len(phases) - 1) / 2)
        ax.errorbar(
            np.asarray(biases_nm)[:, k], at, xerr=np.asarray(errors_nm)[:, k], fmt="o", ms=5, color=COLORS.get(phase),
            label=phase,
        )  # fmt: skip
    ax.axvline(0, color="0.6", lw=0.8, zorder=0)
    ax.set(xlabel="bias, with the error bar of one pixel (nm)", yticks=range(len(names)), yticklabels=names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=len(phases))
    return figure


def edges(maps: Mapping[str, ArrayLike], *, pixel_size_nm: float | None = None, vmax: float | None = None) -> Figure:
    """Maps of one scale, two in a row.

    Parameters
    ----------
    maps : dict of str to array (Y, X)
        In nm.
    """
    return maps_figure(maps, unit="nm", pixel_size_nm=pixel_size_nm, columns=2, vmin=0, vmax=vmax)


def crossover(
    fluence_e_per_A2: ArrayLike,
    errors_nm: Mapping[str, ArrayLike],
    resolutions_nm: Mapping[str, ArrayLike],
    limits_nm: Mapping[str, float],
    phases: Sequence[str],
) -> Figure:
    """Error of the best map of each edge over the fluence, and the resolution it has.

    Parameters
    ----------
    fluence_e_per_A2 : (F,)
    errors_nm, resolutions_nm : dict of str to array (F, K)
        Of each edge.
    limits_nm : dict of str to float
        Delocalisation of each edge, dotted.
    phases : sequence of K str
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.9))
    for edge, error in errors_nm.items():
        color = COLORS.get(edge)
        for k, style in zip(range(len(phases)), METHODS, strict=False):
            left.loglog(fluence_e_per_A2, error[:, k], style, color=color, label=f"{phases[k]}, {edge}")
            right.loglog(fluence_e_per_A2, resolutions_nm[edge][:, k], style, color=color)
        right.axhline(limits_nm[edge], color=color, lw=1, ls=":")
    left.set(xlabel="fluence (e/Å²)", ylabel="RMS error of the map (nm)")
    right.set(xlabel="fluence (e/Å²)", ylabel="resolution of the map (nm)")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncol=2, columnspacing=1)
    return figure


def measured_edge(fit: Any, counts: ArrayLike, other: ArrayLike, amounts: ArrayLike, errors: ArrayLike) -> Figure:
    """A measured edge with its fit, and its amounts against those of another edge of the same pixels.

    Parameters
    ----------
    fit : PhaseFit
        Of the mean spectrum.
    counts : (E',)
        The mean spectrum in the window of the fit.
    other, amounts, errors : (N,)
        Amplitude of the other edge (mean 1), and amount by this one, with its error, along the line.
    """
    curve, background = fit.curves()
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.5))
    left.plot(fit.energy_eV, counts, color=DATA, label="mean of all positions")
    left.plot(fit.energy_eV, curve, color=FIT, lw=1, label="fit")
    left.plot(fit.energy_eV, background, "--", color=BACKGROUND, label="background")
    left.set(xlabel=ENERGY, ylabel="counts per channel")
    left.legend()
    groups = np.array_split(np.arange(len(amounts)), 8)
    means = np.array([[np.mean(x[g]) for g in groups] for x in (other, amounts)])
    error = [np.sqrt(np.sum(errors[g] ** 2)) / g.size for g in groups]
    right.errorbar(other, amounts, errors, fmt=".", color="0.8", label="one position")
    right.errorbar(*means, error, fmt="o", color=COLORS["M2,3"], label=f"means of {groups[0].size}")
    slope = np.sum(other * amounts / errors**2) / np.sum(other**2 / errors**2)
    ends = np.array([np.min(other), np.max(other)])
    right.plot(ends, slope * ends, "k:", label="proportional")
    right.set(xlabel="L2,3 amplitude (mean = 1)", ylabel="M2,3: atoms per nm²")
    right.legend()
    return figure


def window_sweep(
    sweep: Any, names: Sequence[str] = (), *, scale: float = 1.0, unit: str = "nm", expected: tuple[float, float] = ()
) -> Figure:
    """How the mean amounts move with the ends of the fit window.

    Parameters
    ----------
    sweep : WindowSweep
    names : sequence of K str
        By default the phases of the sweep.
    scale : float
        Multiplies amounts and errors.
    unit : str
        Of the scaled amounts.
    expected : (value, error), optional
        An independent number for the sum, as a band.
    """
    names = tuple(names) or sweep.phases or [f"reference {k + 1}" for k in range(sweep.amounts.shape[-1])]
    figure, ax = plt.subplots(figsize=(WIDTH, 4.0))
    if expected:
        value, error = expected
        ax.axhspan(value - error, value + error, color="0.9", label="thickness by the low loss")
    offsets = 0.12 * (np.arange(sweep.ends_eV.size) - (sweep.ends_eV.size - 1) / 2)
    for k, name in enumerate(names):
        for j, (end, marker) in enumerate(zip(sweep.ends_eV, "os^Dv", strict=False)):
            _sweep_line(
                ax, sweep.starts_eV + offsets[j], scale * sweep.amounts[:, j, k],
                scale * sweep.standard_error[:, j, k], marker, COLORS.get(name, "black"), f"{name}, to {end:g} eV",
            )  # fmt: skip
    ax.set(xlabel="start of the window (eV)", ylabel=f"mean amount ({unit})", xticks=sweep.starts_eV)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncol=2)
    return figure


def _sweep_line(ax: Axes, at: NDArray, amounts: NDArray, errors: NDArray, marker: str, color: str, label: str) -> None:
    ax.errorbar(at, amounts, errors, fmt=f"{marker}-", ms=5, lw=1, color=color, label=label)
