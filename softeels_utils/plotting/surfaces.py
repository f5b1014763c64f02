"""Views of a volume in three dimensions."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..progress import headless
from .interactive import figure_html
from .panels import checked_volume
from .style import COLORS, CYCLE

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["show_3d", "surfaces_figure"]


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

    volume = checked_volume("volume", volume, channels).astype(np.float32)
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
