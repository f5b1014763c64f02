"""Figures of the book: maps, slices, spectra, interactive plotly figures, 3-D views, and prose with numbers in it."""

from __future__ import annotations

import html
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import patheffects

__all__ = [
    "COLORS",
    "live",
    "notice",
    "say",
    "show",
    "show_3d",
    "show_maps",
    "show_slices",
    "show_spectra",
    "table",
    "use_style",
]

# Okabe and Ito's palette: told apart in colour-blind vision too.
COLORS = {
    "FeO": "#0072B2",
    "Fe3O4": "#D55E00",
    "Fe total": "#009E73",
    "truth": "#000000",
    "M2,3": "#CC79A7",
    "L2,3": "#56B4E9",
}
CYCLE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]


def headless():
    """True where no person drives the kernel: papermill, tests, continuous integration (``SOFTEELS_HEADLESS``)."""
    return os.environ.get("SOFTEELS_HEADLESS", "") not in ("", "0")


def use_style():
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


def say(markdown):
    """Put Markdown text into the page, so that numbers in prose come from variables: ``say(f"... {x:.1f} nm")``."""
    from IPython.display import Markdown, display

    display(Markdown(markdown))


def notice(markdown, kind="note", title=None):
    """Put a visible box into the page (an HTML admonition, the same in Jupyter and in the book).

    Parameters
    ----------
    markdown : str
        Text; ``**bold**``, ``*emphasis*`` and `` `code` `` are understood.
    kind : {"note", "warning", "tip"}
    title : str, optional
        Head line; by default the kind.
    """
    from IPython.display import HTML, display
    from markdown_it import MarkdownIt

    if kind not in ("note", "warning", "tip"):
        raise ValueError(f"kind: got {kind!r}, wants 'note', 'warning' or 'tip'")
    body = MarkdownIt("commonmark", {"html": False}).render(markdown)
    display(
        HTML(
            f'<div class="admonition {kind}" style="border-left: 0.25rem solid #0072B2; padding: 0.4rem 0.8rem">'
            f'<p class="admonition-title">{html.escape(title or kind.capitalize())}</p>{body}</div>'
        )
    )


def table(rows, *, caption=None):
    """Show a list of dictionaries as a Markdown table; keys of the first row are the columns.

    Floats are shown with three significant digits; pass strings for another format.
    """
    rows = [dict(row) for row in rows]
    if not rows:
        raise ValueError("rows: got none, wants at least one dictionary")

    def cell(value):
        if isinstance(value, (float, np.floating)):
            return f"{value:.3g}"
        return str(value).replace("|", "\\|")

    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell(row.get(column, "")) for column in columns) + " |" for row in rows]
    say((f"**{caption}**\n\n" if caption else "") + "\n".join(lines))


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
    """Draw a bar of a round length, about a quarter of the width."""
    width = shape[1] * pixel_size_nm
    power = 10 ** np.floor(np.log10(width / 4))
    length = max(step * power for step in (1, 2, 5) if step * power <= width / 4 + 1e-9)
    x0, y0 = 0.05 * shape[1], 0.93 * shape[0]
    outline = [patheffects.withStroke(linewidth=3, foreground="black")]
    ax.plot(
        [x0, x0 + length / pixel_size_nm],
        [y0, y0],
        color="white",
        lw=3,
        solid_capstyle="butt",
        path_effects=outline,
    )
    ax.text(
        x0,
        y0 - 0.03 * shape[0],
        f"{length:g} nm",
        color="white",
        va="bottom",
        fontsize=9,
        path_effects=outline,
    )


def show_maps(
    maps,
    *,
    unit="",
    pixel_size_nm=None,
    columns=4,
    vmin=None,
    vmax=None,
    share=True,
    cmap="magma",
    percentile=100.0,
    title=None,
):
    """Show ``{label: map}`` side by side, each an image ``(rows, columns)``.

    Parameters
    ----------
    maps : dict of str to array, shape (rows, columns)
    unit : str
        Unit of the values, written at the colour bar.
    pixel_size_nm : float, optional
        Size of a pixel; draws a scale bar.
    columns : int
        Maps in a row of the figure.
    vmin, vmax : float, optional
        Colour limits; by default the extremes (or ``percentile``) of the data.
    share : bool
        One pair of limits for all maps, with one colour bar; else one each.
    percentile : float
        100 shows the full range; 99.5 leaves out hot pixels.

    Returns
    -------
    matplotlib.figure.Figure
    """
    maps = {label: np.asarray(image) for label, image in maps.items()}
    for label, image in maps.items():
        if image.ndim != 2:
            raise ValueError(f"maps[{label!r}]: got shape {image.shape}, wants 2 axes")
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
    plt.show()
    return fig


def show_slices(
    volumes,
    *,
    voxel_size_nm=None,
    channels=("FeO", "Fe3O4"),
    index=None,
    vmin=0.0,
    vmax=1.0,
    unit="volume fraction",
    cmap="magma",
    title=None,
):
    """Show the slice perpendicular to the tilt axis of ``{label: volume}``: a column a volume, a row a channel.

    Parameters
    ----------
    volumes : dict of str to array, shape (C, Y, Z, X)
    index : int, optional
        Which slice along Y; by default the middle one.
    channels : sequence of str
        Names of the C channels.

    Returns
    -------
    matplotlib.figure.Figure
    """
    volumes = {label: np.asarray(volume) for label, volume in volumes.items()}
    for label, volume in volumes.items():
        if volume.ndim != 4 or len(volume) != len(channels):
            raise ValueError(
                f"volumes[{label!r}]: got shape {volume.shape}, wants (C, Y, Z, X) with C = {len(channels)}"
            )
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
    plt.show()
    return fig


def show_spectra(
    energy_eV,
    spectra,
    *,
    bands=None,
    ylabel="intensity",
    logy=False,
    marks=None,
    ax=None,
    title=None,
    figsize=(7.0, 3.4),
):
    """Draw ``{label: spectrum}`` over energy loss; labels of `COLORS` keep their colour.

    Parameters
    ----------
    energy_eV : array, shape (E,)
    spectra : dict of str to array, shape (E,)
    bands : dict of str to array, shape (E,), optional
        Half width of an uncertainty band, for some of the labels.
    marks : dict of str to float, optional
        Energies to mark by a dotted line, as ``{"Fe-M2,3": 54}``.
    ax : matplotlib.axes.Axes, optional
        Draw here rather than into a new figure.

    Returns
    -------
    matplotlib.figure.Figure
    """
    own = ax is None
    if own:
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
    if own:
        plt.show()
    return ax.figure


# ---------------------------------------------------------------- interactive figures


def plotly_script():
    """Address of plotly.js that figures load (``SOFTEELS_PLOTLYJS``), else ``None``: each carries the script."""
    return os.environ.get("SOFTEELS_PLOTLYJS") or None


def plotly_file():
    """Path of the plotly.js that plotly's own Python package carries."""
    import plotly

    return Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


def _to_html(figure, **options):
    source = plotly_script()
    return figure.to_html(include_plotlyjs=source or True, config={"displaylogo": False, "responsive": True}, **options)


def show(figure, *, height=None):
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
    display(HTML(_to_html(figure, full_html=False)))


def show_3d(volume, *, voxel_size_nm=1.0, channels=("FeO", "Fe3O4"), level=0.5, cutaway=True, height=480, title=None):
    """Show the surfaces of each channel of a volume as a 3-D view that can be turned, in a frame of its own.

    Parameters
    ----------
    volume : array, shape (C, Y, Z, X)
    level : float
        Value at the surface (0.5: the interface of a volume fraction).
    cutaway : bool
        Leave out the half with X beyond the centre, so that the inside is seen.
    height : int
        In pixels.
    """
    import plotly.graph_objects as go
    from IPython.display import display
    from skimage.measure import marching_cubes

    volume = np.asarray(volume, dtype=np.float32)
    if volume.ndim != 4 or len(volume) != len(channels):
        raise ValueError(f"volume: got shape {volume.shape}, wants (C, Y, Z, X) with C = {len(channels)}")
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
    if not headless():
        figure.show()
        return
    page = html.escape(_to_html(figure, full_html=True), quote=True)
    label = html.escape(title or "3-D view", quote=True)
    frame = (
        f'<iframe title="{label}" srcdoc="{page}" loading="lazy" scrolling="no" '
        f'style="width: 100%; height: {height}px; border: 0"></iframe>'
    )
    display({"text/html": frame}, raw=True)


def live(function, figure, **controls):
    """Controls for a person at a live kernel; the plotly figure for a reader of the page.

    Parameters
    ----------
    function : callable
        Called with the values of the controls; draws.
    figure : plotly.graph_objects.Figure
        What stands in the page when the notebook runs headless, where widgets must not be made.
    **controls
        As for ``ipywidgets.interact``.
    """
    if headless():
        show(figure)
        return
    from ipywidgets import interact

    interact(function, **controls)
