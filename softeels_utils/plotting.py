"""Figures of the book: maps, slices, spectra, interactive plotly figures, 3-D views, and prose with numbers in it."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import patheffects
from numpy.typing import ArrayLike

from .progress import headless

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLORS",
    "browse_slices",
    "figure_html",
    "maps_figure",
    "markdown_table",
    "notice",
    "plotly_file",
    "say",
    "show",
    "show_3d",
    "show_maps",
    "show_slices",
    "show_spectra",
    "show_visibility",
    "slices_figure",
    "slices_panels",
    "surfaces_figure",
    "table",
    "use_style",
]

# Okabe and Ito's palette, and Tol's muted one for phases of which few are shown together: told apart in colour-blind
# vision too.
COLORS = {
    "FeO": "#0072B2",
    "Fe3O4": "#D55E00",
    "gamma-Fe2O3": "#882255",
    "alpha-Fe2O3": "#661100",
    "Fe": "#888888",
    "Fe total": "#009E73",
    "MnO": "#332288",
    "Mn3O4": "#CC6677",
    "Mn2O3": "#999933",
    "Mn total": "#117733",
    "truth": "#000000",
    "M2,3": "#CC79A7",
    "L2,3": "#56B4E9",
}
CYCLE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
FIGURE_VOXELS = 1_200_000  # in one `slices_figure`


def use_style() -> None:
    """Set Matplotlib's defaults for the book: readable at 750 pixels of page width, images not interpolated."""
    plt.rcParams.update(
        {
            "figure.dpi": 110,
            "savefig.dpi": 110,
            "figure.constrained_layout.use": True,
            "font.size": 11,
            "axes.titlesize": 11,
            "axes.labelsize": 11,
            "axes.grid": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": plt.cycler(color=CYCLE),
            "image.interpolation": "nearest",
            "image.cmap": "magma",
            "legend.frameon": False,
            "legend.fontsize": 10,
        }
    )


# ---------------------------------------------------------------- prose


def say(markdown: str) -> None:
    """Put Markdown text into the page, so that numbers in prose come from variables: ``say(f"... {x:.1f} nm")``."""
    from IPython.display import Markdown, display

    display(Markdown(markdown))


def notice(markdown: str, kind: str = "note", title: str | None = None) -> None:
    """Put a visible box into the page (an HTML admonition, the same in Jupyter and in the book).

    Parameters
    ----------
    markdown : str
        Text; ``**bold**``, ``*emphasis*`` and `` `code` `` are understood.
    kind : {"note", "warning", "danger", "tip"}
    title : str, optional
        Headline; by default the kind.

    Raises
    ------
    ValueError
        Another kind.
    """
    from IPython.display import HTML, display
    from markdown_it import MarkdownIt

    if kind not in ("note", "warning", "danger", "tip"):
        raise ValueError(f"kind: got {kind!r}, wants 'note', 'warning', 'danger' or 'tip'")
    color = "#C00000" if kind == "danger" else "#0072B2"
    body = MarkdownIt("commonmark", {"html": False}).render(markdown)
    display(
        HTML(
            f'<div class="admonition {kind}" style="border-left: 0.25rem solid {color}; padding: 0.4rem 0.8rem">'
            f'<p class="admonition-title">{html.escape(title or kind.capitalize())}</p>{body}</div>'
        )
    )


def markdown_table(rows: Iterable[Mapping[str, Any]], *, digits: int = 3) -> str:
    r"""Return dictionaries as a Markdown table, one row each; the columns are their keys, in order of appearance.

    Parameters
    ----------
    rows : iterable of dict
        A key that a row does not have leaves its cell empty.
    digits : int
        Significant digits of floats; pass strings for another format.

    Raises
    ------
    ValueError
        No rows.

    Examples
    --------
    >>> print(markdown_table([{"method": "SIRT", "NRMSE": 0.43212}, {"method": "TV", "NRMSE": "-"}]))
    | method | NRMSE |
    |---|---|
    | SIRT | 0.432 |
    | TV | - |
    """
    rows = [dict(row) for row in rows]
    if not rows:
        raise ValueError("rows: got none, wants at least one dictionary")
    columns = list(dict.fromkeys(column for row in rows for column in row))

    def line(values):
        texts = [f"{v:.{digits}g}" if isinstance(v, (float, np.floating)) else str(v) for v in values]
        return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"

    rule = "|" + "---|" * len(columns)
    return "\n".join([line(columns), rule, *(line(row.get(column, "") for column in columns) for row in rows)])


def table(rows: Iterable[Mapping[str, Any]], *, caption: str | None = None) -> None:
    """Put a `markdown_table` of dictionaries into the page, under a bold caption."""
    say((f"**{caption}**\n\n" if caption else "") + markdown_table(rows))


# ---------------------------------------------------------------- static figures


def _limits(images, vmin, vmax, percentile):
    values = np.concatenate([np.ravel(image) for image in images])
    values = values[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0
    low = float(np.percentile(values, 100 - percentile)) if vmin is None else vmin
    high = float(np.percentile(values, percentile)) if vmax is None else vmax
    return (low, high) if high > low else (low, low + 1.0)


def _scale_bar(ax, shape, pixel_size_nm):
    """Draw a scale bar of a round length, about a quarter of the width."""
    width = shape[1] * pixel_size_nm
    power = 10 ** np.floor(np.log10(width / 4))
    length = max(step * power for step in (1, 2, 5) if step * power <= width / 4 + 1e-9)
    x0, y0 = 0.05 * shape[1], 0.93 * shape[0]
    outline = [patheffects.withStroke(linewidth=3, foreground="black")]
    style = {"color": "white", "path_effects": outline}
    ax.plot([x0, x0 + length / pixel_size_nm], [y0, y0], lw=3, solid_capstyle="butt", **style)
    ax.text(x0, y0 - 0.03 * shape[0], f"{length:g} nm", va="bottom", fontsize=9, **style)


def maps_figure(
    maps: Mapping[str, ArrayLike],
    *,
    unit: str = "",
    pixel_size_nm: float | None = None,
    columns: int = 4,
    vmin: float | None = None,
    vmax: float | None = None,
    share: bool = True,
    cmap: str = "magma",
    percentile: float = 100.0,
    title: str | None = None,
) -> Figure:
    """Return a figure of ``{label: map}`` side by side, each an image ``(rows, columns)``.

    Parameters
    ----------
    maps : dict of str to array, shape (rows, columns)
    unit : str
        Unit of the values, written beside the colour bar.
    pixel_size_nm : float, optional
        Size of a pixel; draws a scale bar.
    columns : int
        Maps per row of the figure.
    vmin, vmax : float, optional
        Colour limits; by default the extremes (or ``percentile``) of the data.
    share : bool
        All maps share one pair of limits and one colour bar; otherwise each has its own.
    percentile : float
        100 shows the full range; 99.5 leaves out hot pixels.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        An array that is not an image.
    """
    maps = {label: np.asarray(image) for label, image in maps.items()}
    for label, image in maps.items():
        if image.ndim != 2:
            raise ValueError(f"maps[{label!r}]: got shape {image.shape}, wants (rows, columns)")
    columns = min(columns, len(maps))
    rows = -(-len(maps) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(2.5 * columns + 0.6, 2.55 * rows + 0.3), squeeze=False)
    common = _limits(maps.values(), vmin, vmax, percentile)
    for ax in axes.flat:
        ax.axis("off")
    for ax, (label, image) in zip(axes.flat, maps.items(), strict=False):
        low, high = common if share else _limits([image], vmin, vmax, percentile)
        shown = ax.imshow(image, vmin=low, vmax=high, cmap=cmap)
        ax.set_title(label)
        if pixel_size_nm:
            _scale_bar(ax, image.shape, pixel_size_nm)
        if not share:
            fig.colorbar(shown, ax=ax, shrink=0.75, label=unit)
    if share:
        fig.colorbar(shown, ax=axes, shrink=0.8, label=unit)
    if title:
        fig.suptitle(title)
    return fig


def show_maps(maps: Mapping[str, ArrayLike], **options: Any) -> Figure:
    """Show `maps_figure`, with its options, and return it."""
    figure = maps_figure(maps, **options)
    plt.show()
    return figure


def _checked_volume(name, volume, channels):
    volume = np.asarray(volume)
    if volume.ndim != 4 or len(volume) != len(channels):
        raise ValueError(f"{name}: got shape {volume.shape}, wants (C, Y, Z, X) with C = {len(channels)}")
    return volume


def slices_panels(
    volumes: Mapping[str, ArrayLike],
    *,
    voxel_size_nm: float | None = None,
    channels: Sequence[str] = ("FeO", "Fe3O4"),
    index: int | None = None,
    vmin: float = 0.0,
    vmax: float = 1.0,
    unit: str = "volume fraction",
    cmap: str = "magma",
    title: str | None = None,
) -> Figure:
    """Return a figure of the slice across the tilt axis of ``{label: volume}``: a column per volume, a row per channel.

    Parameters
    ----------
    volumes : dict of str to array, shape (C, Y, Z, X)
    voxel_size_nm : float, optional
        Draws a scale bar.
    channels : sequence of str
        Names of the C channels.
    index : int, optional
        Which slice along Y; by default the middle one.
    vmin, vmax : float
        Colour limits.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        A volume of another shape.
    """
    volumes = {label: _checked_volume(f"volumes[{label!r}]", v, channels) for label, v in volumes.items()}
    rows, columns = len(channels), len(volumes)
    fig, axes = plt.subplots(rows, columns, figsize=(2.3 * columns + 0.8, 2.4 * rows + 0.2), squeeze=False)
    for column, (label, volume) in enumerate(volumes.items()):
        middle = volume.shape[1] // 2 if index is None else index
        for row, name in enumerate(channels):
            ax = axes[row, column]
            shown = ax.imshow(volume[row, middle], vmin=vmin, vmax=vmax, cmap=cmap)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if row == 0:
                ax.set_title(label)
            if column == 0:
                ax.set_ylabel(f"{name}\nZ (beam)")
            if row == rows - 1:
                ax.set_xlabel("X")
            if voxel_size_nm and column == 0:
                _scale_bar(ax, volume.shape[2:], voxel_size_nm)
    fig.colorbar(shown, ax=axes, shrink=0.8, label=unit)
    if title:
        fig.suptitle(title)
    return fig


def show_slices(volumes: Mapping[str, ArrayLike], **options: Any) -> Figure:
    """Show `slices_panels`, with its options, and return it."""
    figure = slices_panels(volumes, **options)
    plt.show()
    return figure


def show_spectra(
    energy_eV: ArrayLike,
    spectra: Mapping[str, ArrayLike],
    *,
    bands: Mapping[str, ArrayLike] | None = None,
    ylabel: str = "intensity",
    logy: bool = False,
    marks: Mapping[str, float] | None = None,
    ax: Axes | None = None,
    title: str | None = None,
    figsize: tuple[float, float] = (7.0, 3.4),
) -> Figure:
    """Draw ``{label: spectrum}`` over energy loss; labels of `COLORS` keep their colour.

    Parameters
    ----------
    energy_eV : array, shape (E,)
    spectra : dict of str to array, shape (E,)
    bands : dict of str to array, shape (E,), optional
        Half width of an uncertainty band, for some of the labels.
    marks : dict of str to float, optional
        Energies to mark with a dotted line, such as ``{"Fe-M2,3": 54}``.
    ax : matplotlib.axes.Axes, optional
        Draw here instead of in a new figure.

    Returns
    -------
    matplotlib.figure.Figure
    """
    new_figure = ax is None
    if new_figure:
        _, ax = plt.subplots(figsize=figsize)
    free = [color for color in CYCLE if color not in {COLORS.get(label) for label in spectra}]
    for label, spectrum in spectra.items():
        color = COLORS.get(label) or (free.pop(0) if free else None)
        (line,) = ax.plot(energy_eV, spectrum, label=label, color=color, lw=1.4)
        if bands and label in bands:
            half = np.asarray(bands[label])
            ax.fill_between(energy_eV, spectrum - half, spectrum + half, color=line.get_color(), alpha=0.25, lw=0)
    for name, energy in (marks or {}).items():
        ax.axvline(energy, color="0.5", lw=1, ls=":")
        ax.text(energy, 0.98, f" {name}", transform=ax.get_xaxis_transform(), va="top", fontsize=9, color="0.35")
    if logy:
        ax.set_yscale("log")
    ax.set(xlabel="energy loss (eV)", ylabel=ylabel, xlim=(energy_eV[0], energy_eV[-1]), title=title or "")
    if len(spectra) > 1 or next(iter(spectra)):
        ax.legend()
    if new_figure:
        plt.show()
    return ax.figure


def show_visibility(
    normals: ArrayLike,
    standard_errors: ArrayLike,
    *,
    max_tilt_deg: float | None = None,
    unit: str = "voxels",
    title: str | None = None,
) -> Figure:
    """Show how well interfaces are known over the direction of their normal: all directions, seen along the tilt axis.

    Y is in the middle, X to the sides, Z (the beam at 0°) at the top and bottom; opposite normals are the same
    interface. Equal areas of the figure are equal solid angles (J. H. Lambert, 1772).

    Parameters
    ----------
    normals : array (N, 3)
        (y, z, x), of any length: of discs (`tomography.visibility`) or of a volume's own patches.
    standard_errors : array (N,)
        Infinite ones are left out.
    max_tilt_deg : float, optional
        Dashed lines to the largest tilt: interfaces with normals above and below them are never seen edge-on.
    unit : str
        Of the standard errors.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        Normals and standard errors that disagree in number.
    """
    normals, values = np.asarray(normals, float), np.asarray(standard_errors, float)
    if normals.ndim != 2 or normals.shape[1] != 3 or values.shape != normals.shape[:1]:
        raise ValueError(f"normals: got {normals.shape} with {values.shape} standard errors, wants (N, 3) with (N,)")
    normals = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.where(normals[:, :1] < 0, -normals, normals)
    y, z, x = normals.T
    across, up = x / np.sqrt(1 + y), z / np.sqrt(1 + y)  # the rim, y = 0, is the unit circle
    figure, ax = plt.subplots(figsize=(4.6, 3.8))
    known = np.isfinite(values)
    size = np.clip(30000 / max(known.sum(), 1), 15, 400)
    shown = ax.scatter(across[known], up[known], c=values[known], s=size, cmap="viridis", linewidths=0)
    ax.add_patch(plt.Circle((0, 0), 1, fill=False, color="0.4"))
    if max_tilt_deg is not None:
        for angle in np.deg2rad([max_tilt_deg, -max_tilt_deg]):
            ends = np.array([-1, 1])
            ax.plot(ends * np.cos(angle), ends * np.sin(angle), "--", color="0.3", linewidth=1, zorder=3)
    for label, place in (("X", (1.1, 0)), ("Z", (0, 1.1))):
        ax.text(*place, label, ha="center", va="center")
    ax.annotate(
        "Y", (0, 0), ha="center", va="center", path_effects=[patheffects.withStroke(linewidth=3, foreground="w")]
    )
    ax.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal", title=title)
    ax.axis("off")
    figure.colorbar(shown, ax=ax, shrink=0.8, label=f"standard error of the position ({unit})")
    plt.show()
    return figure


# ---------------------------------------------------------------- interactive figures


def plotly_file() -> Path:
    """Return the path of the plotly.js that comes with plotly's Python package."""
    import plotly

    return Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


def figure_html(figure: go.Figure, **options: Any) -> str:
    """Return a plotly figure as HTML that works without a kernel.

    It loads plotly.js from the address in ``SOFTEELS_PLOTLYJS``, or carries the whole script where that is not set.
    Animations wait for the reader.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
    **options
        Of `plotly.graph_objects.Figure.to_html`, such as ``full_html`` or ``post_script``.
    """
    script = os.environ.get("SOFTEELS_PLOTLYJS") or True
    config = {"displaylogo": False, "responsive": True, "showSendToCloud": False}  # no button that uploads the data
    return figure.to_html(include_plotlyjs=script, config=config, auto_play=False, **options)


def show(figure: go.Figure, *, height: int | None = None) -> None:
    """Put a plotly figure into the page; its own sliders and buttons work there without a kernel.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
    height : int, optional
        In pixels.
    """
    from IPython.display import HTML, display

    figure.update_layout(
        template="plotly_white", font={"size": 13}, margin={"l": 60, "r": 20, "t": 50, "b": 50}, autosize=True
    )
    if height:
        figure.update_layout(height=height)
    if not headless():
        figure.show()
        return
    # One text/html output, with the script by address: a mime bundle of plotly's own would need a front-end extension.
    display(HTML(figure_html(figure, full_html=False)))


def slices_figure(
    volumes: Mapping[str, ArrayLike],
    *,
    voxel_size_nm: float | None = None,
    channels: Sequence[str] = ("FeO", "Fe3O4"),
    vmin: float = 0.0,
    vmax: float = 1.0,
    unit: str = "volume fraction",
) -> go.Figure:
    """Return a plotly figure of slices across the tilt axis: a slider for the slice, a button for each volume.

    The channels stand side by side. The figure opens at the middle slice of the first volume. It stores one byte per
    voxel, and leaves out every second (third, ...) voxel and slice of volumes that together have more than
    `FIGURE_VOXELS`, so that a page stays below 2 MB.

    Parameters
    ----------
    volumes : dict of str to array, shape (C, Y, Z, X)
        All of one shape.
    voxel_size_nm : float, optional
        Axes in nm; otherwise in voxels.
    channels : sequence of str
        Names of the C channels.
    vmin, vmax : float
        Colour limits; values are shown as whole per cents of this range.

    Raises
    ------
    ValueError
        No volume, or volumes of different or wrong shapes.
    """
    from plotly import graph_objects as go
    from plotly.subplots import make_subplots

    arrays = [_checked_volume(f"volumes[{label!r}]", volume, channels) for label, volume in volumes.items()]
    if len({array.shape for array in arrays}) != 1:
        raise ValueError(f"volumes: got shapes {[array.shape for array in arrays]}, wants one shape")
    step = max(1, int(np.ceil((len(arrays) * arrays[0].size / FIGURE_VOXELS) ** (1 / 3))))
    slices = _per_cent(np.concatenate(arrays)[:, ::step, ::step, ::step], vmin, vmax).swapaxes(0, 1)
    indices = list(range(0, arrays[0].shape[1], step))
    middle = len(indices) // 2

    figure = make_subplots(1, len(channels), horizontal_spacing=0.04)
    scale, length = (1, "voxels") if voxel_size_nm is None else (voxel_size_nm, "nm")
    hover = f"X %{{x:.3~g}} {length}, Z %{{y:.3~g}} {length}: %{{z}} %<extra></extra>"
    for number, image in enumerate(slices[middle]):  # volume by volume, its channels side by side
        figure.add_heatmap(
            z=image, dx=step * scale, dy=step * scale, coloraxis="coloraxis", hovertemplate=hover,
            visible=number < len(channels), row=1, col=1 + number % len(channels),
        )  # fmt: skip
    figure.frames = [
        go.Frame(name=str(index), data=[go.Heatmap(z=image) for image in images], traces=list(range(len(images))))
        for index, images in zip(indices, slices, strict=True)
    ]
    axis = {"constrain": "domain", "showgrid": False, "zeroline": False, "ticks": "outside"}
    figure.update_xaxes(**axis, title=f"X ({length})")
    figure.update_yaxes(**axis, autorange="reversed", constraintoward="top", showticklabels=False)
    figure.update_yaxes(title=f"Z, beam ({length})", showticklabels=True, col=1)
    towards = ["right", *["center"] * (len(channels) - 2), "left"] if len(channels) > 1 else ["center"]
    for number, (channel, side) in enumerate(zip(channels, towards, strict=True), start=1):
        figure.update_xaxes(constraintoward=side, col=number)
        figure.update_yaxes(scaleanchor=f"x{number}", col=number)
        figure.add_annotation(
            text=channel, x=0.5, xref="x domain", y=1, yref="y domain", yanchor="bottom", showarrow=False,
            row=1, col=number,
        )  # fmt: skip
    figure.update_layout(
        coloraxis=_per_cent_colours(vmin, vmax, unit),
        sliders=[_slice_slider(indices, middle)],
        updatemenus=[_volume_buttons(list(volumes), len(channels))] if len(volumes) > 1 else [],
        modebar={"remove": ["zoom", "pan", "zoomIn", "zoomOut", "autoScale"]},  # leaves room for the buttons
    )
    return figure


def _per_cent(values, vmin, vmax):
    """Position of values between two limits in whole per cents, as bytes."""
    return np.rint(100 * np.clip((np.nan_to_num(values) - vmin) / (vmax - vmin), 0, 1)).astype(np.uint8)


def _per_cent_colours(vmin, vmax, unit):
    ticks = {"tickvals": [0, 50, 100], "ticktext": [f"{value:.3g}" for value in (vmin, (vmin + vmax) / 2, vmax)]}
    colorbar = {"title": {"text": unit, "side": "right"}, "thickness": 12, **ticks}
    return {"colorscale": "Magma", "cmin": 0, "cmax": 100, "colorbar": colorbar}


def _slice_slider(indices, active):
    at_once = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    steps = [{"label": str(i), "method": "animate", "args": [[str(i)], at_once]} for i in indices]
    return {"active": active, "steps": steps, "currentvalue": {"prefix": "slice along Y: "}, "pad": {"t": 45}}


def _volume_buttons(labels, channel_count):
    """Buttons that show the panels of one volume; a menu where the buttons would not fit on a narrow page."""
    shown = np.repeat(np.eye(len(labels), dtype=bool), channel_count, axis=1).tolist()
    buttons = [
        {"label": label, "method": "restyle", "args": [{"visible": visible}]}
        for label, visible in zip(labels, shown, strict=True)
    ]
    kind = "buttons" if sum(map(len, labels)) <= 30 else "dropdown"
    place = {"x": 0, "xanchor": "left", "y": 1.12, "yanchor": "bottom"}
    return {"type": kind, "direction": "right" if kind == "buttons" else "down", "buttons": buttons, **place}


def browse_slices(volumes: Mapping[str, ArrayLike], *, height: int = 480, **options: Any) -> None:
    """Let the reader choose the volume and the slice across the tilt axis.

    In the page this is `slices_figure`, which needs no kernel. Where a person runs the notebook, widgets redraw
    `show_slices` from the arrays themselves, at full resolution.

    Parameters
    ----------
    volumes : dict of str to array, shape (C, Y, Z, X)
        All of one shape.
    height : int
        Of the figure in the page, in pixels.
    **options
        ``voxel_size_nm``, ``channels``, ``vmin``, ``vmax`` and ``unit``, as for `slices_figure`.

    Raises
    ------
    ValueError
        As `slices_figure`.
    """
    if headless():
        show(slices_figure(volumes, **options), height=height)
        return
    from ipywidgets import IntSlider, interact

    def draw(volume, index):
        show_slices({volume: volumes[volume]}, index=index, **options)

    size = np.shape(next(iter(volumes.values())))[1]
    interact(draw, volume=list(volumes), index=IntSlider(size // 2, 0, size - 1, description="slice"))


def surfaces_figure(
    volume: ArrayLike,
    *,
    voxel_size_nm: float = 1.0,
    channels: Sequence[str] = ("FeO", "Fe3O4"),
    level: float = 0.5,
    cutaway: bool = True,
    height: int = 480,
    title: str | None = None,
) -> go.Figure:
    """Return a 3-D view of the surfaces of each channel of a volume, which can be turned.

    Parameters
    ----------
    volume : array, shape (C, Y, Z, X)
    level : float
        Value at the surface (0.5: the interface of a volume fraction).
    cutaway : bool
        Leave out the half with X beyond the centre, so that the inside can be seen.
    height : int
        In pixels.

    Raises
    ------
    ValueError
        A volume of another shape.
    """
    import plotly.graph_objects as go
    from skimage.measure import marching_cubes

    volume = _checked_volume("volume", volume, channels).astype(np.float32)
    figure = go.Figure()
    for name, channel, color in zip(channels, volume, CYCLE, strict=False):
        body = channel[..., : channel.shape[-1] // 2] if cutaway else channel
        body = np.pad(body, 1)  # closes surfaces at the cut and at the border
        if not body.min() < level < body.max():
            continue
        vertices, faces, _, _ = marching_cubes(body, level, step_size=max(1, round(max(volume.shape) / 64)))
        y, z, x = ((vertices - 1) * voxel_size_nm).T
        figure.add_trace(
            go.Mesh3d(
                x=np.round(x, 2), y=np.round(y, 2), z=np.round(z, 2),
                i=faces[:, 0], j=faces[:, 1], k=faces[:, 2],
                color=COLORS.get(name, color), opacity=0.55, name=name, showlegend=True, flatshading=False,
            )
        )  # fmt: skip
    axes = {f"{axis}axis": {"title": {"text": f"{axis.upper()} (nm)"}} for axis in "xyz"}
    figure.update_layout(
        scene={**axes, "aspectmode": "data"},
        legend={"itemsizing": "constant"},
        margin={"l": 0, "r": 0, "t": 40, "b": 0},
        title=title,
        template="plotly_white",
        height=height - 16,
    )
    return figure


def show_3d(volume: ArrayLike, *, height: int = 480, title: str | None = None, **options: Any) -> None:
    """Show `surfaces_figure`, with its options, in a frame of its own."""
    from IPython.display import display

    figure = surfaces_figure(volume, height=height, title=title, **options)
    if not headless():
        figure.show()
        return
    page = html.escape(figure_html(figure, full_html=True), quote=True)
    label = html.escape(title or "3-D view", quote=True)
    frame = (
        f'<iframe title="{label}" srcdoc="{page}" loading="lazy" scrolling="no" '
        f'style="width: 100%; height: {height}px; border: 0"></iframe>'
    )
    display({"text/html": frame}, raw=True)
