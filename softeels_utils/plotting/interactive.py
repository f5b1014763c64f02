"""Interactive figures (plotly): they work in the page, without a kernel."""

from __future__ import annotations

import base64
import html
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ..checks import check_count, check_mapping, check_positive, check_texts, describe
from ..progress import headless
from .formulas import in_plotly, in_text, set_figure
from .panels import check_limits, checked_volume, show_slices
from .prose import inline_html

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["browse_slices", "figure_html", "plotly_file", "show", "slices_figure"]


FIGURE_VOXELS = 1_200_000  # in one `slices_figure`


def plotly_file() -> Path:
    """Return the path of the plotly.js that comes with plotly's Python package."""
    import plotly

    return Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


def figure_html(figure: go.Figure, **options: Any) -> str:
    """Return a plotly figure as HTML that works without a kernel.

    Sliders and menus of the figure become HTML controls beside it, which can be reached by the keyboard and have names.
    A figure may have a second layout for narrow pages, in ``layout.meta["narrow"]``, and what of it to take back when
    the page is wide, in ``layout.meta["wide"]``, each as for ``Plotly.relayout``.

    It loads plotly.js from the address in ``SOFTEELS_PLOTLYJS``, or carries the whole script where that is not set.
    Animations wait for the reader.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
    **options
        Of `plotly.graph_objects.Figure.to_html`, such as ``full_html`` or ``post_script``.
    """
    from plotly.io import to_html

    if not hasattr(figure, "to_plotly_json"):
        raise ValueError(f"figure: got {describe(figure)}, wants a figure of plotly")
    options.setdefault("include_plotlyjs", os.environ.get("SOFTEELS_PLOTLYJS") or True)
    config = {"displaylogo": False, "responsive": True, "showSendToCloud": False}  # no button that uploads the data
    shown = in_plotly(figure.to_dict())
    layout = {key: value for key, value in shown["layout"].items() if key not in ("sliders", "updatemenus", "meta")}
    controls = {
        "sliders": [_slider_settings(slider.to_plotly_json()) for slider in figure.layout.sliders],
        "menus": [_menu_settings(menu.to_plotly_json()) for menu in figure.layout.updatemenus],
        **(figure.layout.meta or {}),
    }
    if "wide" in controls:
        controls["wide"] = controls["wide"] | {"height": layout.get("height")}
    pixels = controls.pop("pixels", None)
    scripts = [_script("pixels.js", pixels)] if pixels else []
    scripts += [options.pop("post_script")] if "post_script" in options else []
    if scripts or any(controls.values()):
        scripts.insert(0, _script("controls.js", controls))
    return to_html(
        {**shown, "layout": layout}, config=config, auto_play=False, validate=False, post_script=scripts, **options
    )


def _script(name, settings):
    """A script of this package with its settings, which can stand in a page."""
    from plotly.utils import PlotlyJSONEncoder

    text = json.dumps(settings, separators=(",", ":"), cls=PlotlyJSONEncoder).replace("</", "<\\/")
    return files(__package__).joinpath(name).read_text(encoding="utf-8").replace("__SETTINGS__", text)


def _steps(steps):
    return [
        {"label": in_text(step["label"]), "method": step["method"], "args": in_plotly(step["args"])} for step in steps
    ]


def _slider_settings(slider):
    value = slider.get("currentvalue", {})
    texts = {key: in_text(value.get(key, "")) for key in ("prefix", "suffix")}
    return {"steps": _steps(slider["steps"]), "active": slider.get("active", 0), **texts}


def _menu_settings(menu):
    return {"steps": _steps(menu["buttons"]), "active": menu.get("active", 0), "name": menu.get("name", "shown")}


def show(
    figure: Figure | go.Figure,
    *,
    caption: str | None = None,
    name: str | None = None,
    alt: str | None = None,
    height: int | None = None,
) -> None:
    """Put a figure into the page, with its caption and an alternative text.

    A plotly figure keeps its own sliders and buttons, which work there without a kernel. The book numbers figures that
    have a name; ``<a href="#fig-NAME"></a>`` in a page becomes a link with that number, such as "Figure 4.3".

    Parameters
    ----------
    figure : matplotlib.figure.Figure or plotly.graph_objects.Figure
    caption : str, optional
        Markdown, with ``$...$`` for symbols: what is shown, and what to see in it.
    name : str, optional
        For links to the figure: lower case, with hyphens.
    alt : str, optional
        What a reader who cannot see the figure should know, as plain text; by default the caption.
    height : int, optional
        Of a plotly figure, in pixels.
    """
    from IPython.display import display

    if not isinstance(figure, Figure) and not hasattr(figure, "to_plotly_json"):
        raise ValueError(f"figure: got {describe(figure)}, wants a figure of Matplotlib or plotly")
    check_texts(caption=caption, name=name, alt=alt)
    if height is not None:
        check_count(height, "height")
    bundle = {}
    label = html.escape(alt or _plain(inline_html(caption or "")) or "figure", quote=True)
    if isinstance(figure, Figure):
        image = io.BytesIO()
        set_figure(figure)
        figure.savefig(image, format="png")
        plt.close(figure)  # else Jupyter shows it a second time
        bundle["image/png"] = base64.b64encode(image.getvalue()).decode()
        body = f'<img src="data:image/png;base64,{bundle["image/png"]}" alt="{label}">'
    else:
        figure.update_layout(
            width=None, height=height or figure.layout.height or 480, autosize=True, template="plotly_white"
        )
        # As text/html: the page then loads one script by address; plotly's own bundle would need a front-end extension.
        body = f'<div role="group" aria-label="{label}">{figure_html(figure, full_html=False)}</div>'
    bundle["text/html"] = captioned(body, caption, name)
    display(bundle, raw=True)


def captioned(body: str, caption: str | None, name: str | None) -> str:
    """Return HTML as a figure with a caption (Markdown) and a name, which the book numbers; see `show`."""
    identity = f' id="fig-{name}"' if name else ""
    text = f"<figcaption>{inline_html(caption or '')}</figcaption>" if caption or name else ""
    return f'<figure class="softeels"{identity}>{body}{text}</figure>'


def _plain(markup):
    """The text of some HTML, without its tags and the signs around equations."""
    return html.unescape(re.sub(r"<[^>]*>|\\[()]", "", markup))


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

    The channels stand side by side, on a narrow page one below the other. The figure opens at the middle slice of the
    first volume. It stores one byte per voxel, and leaves out every second (third, ...) voxel and slice of volumes that
    together have more than `FIGURE_VOXELS`, so that a page stays below 2 MB.

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

    volumes = check_mapping(volumes, "volumes")
    arrays = [checked_volume(f"volumes[{label!r}]", volume, channels) for label, volume in volumes.items()]
    check_limits(vmin, vmax)
    check_texts(unit=unit)
    if voxel_size_nm is not None:
        check_positive(voxel_size_nm=voxel_size_nm)
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
        modebar={"remove": ["zoom", "pan", "zoomIn", "zoomOut", "autoScale"]},
        margin={"t": 30, "b": 50, "l": 60, "r": 20},
        height=400,
        meta=_stacked(figure, len(channels)),
    )
    return figure


def _stacked(figure, count):
    """Layouts of ``count`` panels one below the other, 280 pixels each, and back side by side (see `figure_html`)."""
    narrow, wide = {"height": 60 + 290 * count}, {}
    panel = 0.84 / count  # of the height; titles take the rest
    for number in range(count):
        x, y = (f"{axis}axis{number + 1 if number else ''}" for axis in "xy")
        wide |= {f"{name}.domain": list(figure.layout[name].domain) for name in (x, y)}
        wide[f"{x}.constraintoward"] = figure.layout[x].constraintoward
        top = 1 - number * (panel + 0.16 / max(count - 1, 1))
        narrow |= {f"{x}.domain": [0, 1], f"{y}.domain": [max(0, top - panel), top], f"{x}.constraintoward": "center"}
    return {"narrow": narrow, "wide": wide}


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
    """Buttons that show the panels of one volume."""
    shown = np.repeat(np.eye(len(labels), dtype=bool), channel_count, axis=1).tolist()
    buttons = [
        {"label": label, "method": "restyle", "args": [{"visible": visible}]}
        for label, visible in zip(labels, shown, strict=True)
    ]
    place = {"x": 0, "xanchor": "left", "y": 1.12, "yanchor": "bottom"}
    return {"type": "buttons", "direction": "right", "buttons": buttons, "name": "volume", **place}


def browse_slices(
    volumes: Mapping[str, ArrayLike],
    *,
    height: int = 400,
    caption: str | None = None,
    name: str | None = None,
    alt: str | None = None,
    **options: Any,
) -> None:
    """Let the reader choose the volume and the slice across the tilt axis.

    In the page this is `slices_figure`, which needs no kernel. Where a person runs the notebook, widgets redraw
    `show_slices` from the arrays themselves, at full resolution.

    Parameters
    ----------
    volumes : dict of str to array, shape (C, Y, Z, X)
        All of one shape.
    height : int
        Of the figure in the page, in pixels.
    caption, name, alt : str, optional
        As for `show`.
    **options
        ``voxel_size_nm``, ``channels``, ``vmin``, ``vmax`` and ``unit``, as for `slices_figure`.

    Raises
    ------
    ValueError
        As `slices_figure`.
    """
    check_texts(caption=caption, name=name, alt=alt)
    check_count(height, "height")
    if headless():
        show(slices_figure(volumes, **options), caption=caption, name=name, alt=alt, height=height)
        return
    from ipywidgets import IntSlider, interact

    def draw(volume, index):
        show_slices({volume: volumes[volume]}, index=index, **options)

    size = np.shape(next(iter(volumes.values())))[1]
    interact(draw, volume=list(volumes), index=IntSlider(size // 2, 0, size - 1, description="slice"))
