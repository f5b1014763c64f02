"""Views of a volume in three dimensions."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..checks import check_count, check_flag, check_mapping, check_number, check_positive, check_texts
from ..progress import headless
from .interactive import figure_html
from .panels import checked_volume
from .style import phase_colors

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["show_3d", "surfaces_figure"]

VERTICES = 36_000  # in one `surfaces_figure`: about 1.2 MB
SMOOTHING = 0.5  # standard deviation in voxels: a plane of partly filled voxels is drawn as a plane
ROUNDS = 6  # of averaging over neighbours on a surface: at two samples per voxel, over about a voxel
SAMPLES_PER_VOXEL = (2.0, 1.5)  # along each axis; the finest that is small enough keeps a thin skin together
GRID = 3_000_000  # samples of one volume, at most, so that a view takes seconds
FAR_BELOW = -1e4  # outside a body: puts its surface on the last samples before a cut, within 1e-4 of a voxel
LIGHT = {"ambient": 0.55, "diffuse": 0.6, "specular": 0.1, "roughness": 0.8}
SECTION_LIGHT = {"ambient": 1.0, "diffuse": 0.0, "specular": 0.0}  # the colour itself
CAMERA = {  # looks at the cut, a little from above; the axes below it fit into the view
    "eye": {"x": 2.0, "y": 1.2, "z": 0.92},
    "center": {"x": 0.0, "y": 0.0, "z": -0.17},
}


def surfaces_figure(
    volume: ArrayLike | Mapping[str, ArrayLike],
    *,
    voxel_size_nm: float | None = 1.0,
    channels: Sequence[str] = ("FeO", "Fe3O4"),
    level: float = 0.3,
    cutaway: bool = True,
    errors: ArrayLike | Mapping[str, ArrayLike] | None = None,
    error_unit: str = "volume fraction",
    height: int = 480,
    title: str | None = None,
) -> go.Figure:
    """Return a 3-D view of the phases of a volume as solid bodies, cut open, which can be turned.

    The specimen is where the sum of the channels is at least ``level``; each part of it belongs to the channel that is
    largest there, so that a thin skin shows though its own fraction stays below one half, and the section shows core,
    shell and skin. A click on a phase in the legend hides it: what it encloses is seen then. Several volumes have a
    button each. With ``errors``, a second row of buttons colours the bodies by their standard error.

    Bodies are those of the volume smoothed by a Gaussian of half a voxel and interpolated between voxels: on the voxels
    alone, a skin thinner than one of them breaks into stripes wherever a tilted face passes from one row of voxels to
    the next. For the same reason the channels are compared on the outer surface as averages along it, over about a
    voxel, so that patches of up to two voxels are not drawn there; the section shows them as they are. Large volumes
    are averaged over cubes of voxels first.

    Parameters
    ----------
    volume : array, shape (C, Y, Z, X), or dict of str to such arrays
        The first of several is shown first.
    voxel_size_nm : float or None
        None: axes in voxels.
    level : float
        Sum of the channels at the surface of the specimen. Volume fractions: 0.3 keeps a skin of one voxel together.
    cutaway : bool
        Leave out the half with X beyond the centre; otherwise the specimen is whole.
    errors : as ``volume``, optional
        Standard error of each voxel and channel.
    error_unit : str
        Written at the colour bar of ``errors``.
    height : int
        In pixels.

    Raises
    ------
    ValueError
        A volume of another shape, or errors that do not go with the volumes.
    """
    import plotly.graph_objects as go

    volumes = _checked(volume, channels)
    check_number(level, "level")
    check_flag(cutaway, "cutaway")
    check_count(height, "height")
    check_texts(error_unit=error_unit, title=title)
    if voxel_size_nm is not None:
        check_positive(voxel_size_nm=voxel_size_nm)
    spreads = {} if errors is None else _checked(errors, channels, name="errors")
    if errors is not None and {k: v.shape for k, v in spreads.items()} != {k: v.shape for k, v in volumes.items()}:
        raise ValueError(
            f"errors: got {[f'{k} {v.shape}' for k, v in spreads.items()]}, wants one for each volume, of its shape: "
            f"{[f'{k} {v.shape}' for k, v in volumes.items()]}"
        )
    colors = phase_colors(channels)
    traces, owners = [], []
    for label, bodies in _within_budget(volumes, spreads, level, cutaway).items():
        for name, color, parts in zip(channels, colors, bodies, strict=True):
            for number, (vertices, faces, values) in enumerate(parts):
                y, z, x = np.round((voxel_size_nm or 1.0) * vertices.T, 2).astype(np.float32)
                i, j, k = faces.T.astype(np.uint16 if len(vertices) < 2**16 else np.uint32)
                flat = [[0.0, color], [1.0, color]]
                coloured = {"color": color} if values is None else {"intensity": values, "colorscale": flat}
                traces.append(
                    go.Mesh3d(
                        x=x, y=y, z=z, i=i, j=j, k=k, **coloured, showscale=False, name=name, legendgroup=name,
                        showlegend=number == 0, lighting=SECTION_LIGHT if number else LIGHT, hoverinfo="name",
                        visible=label == next(iter(volumes)),
                    )
                )  # fmt: skip
                owners.append(label)
    figure = go.Figure(traces)
    unit = "voxels" if voxel_size_nm is None else "nm"
    axes = {
        f"{axis}axis": {"title": {"text": f"{axis.upper()} ({unit})"}, "nticks": 5, **_range(traces, axis)}
        for axis in "xyz"
    }
    menus = [_volume_menu(list(volumes), owners)] if len(volumes) > 1 else []
    if spreads and traces:
        menus.append(_colour_menu(traces, error_unit))
    figure.update_layout(
        scene={**axes, "aspectmode": "data", "camera": CAMERA},
        legend={"itemsizing": "constant", "x": 0.01, "y": 0.99},
        margin={"l": 0, "r": 0, "t": 40 if title else 0, "b": 0},
        title=title,
        template="plotly_white",
        updatemenus=menus,
        height=height,
    )
    return figure


def _checked(volume, channels, name="volume"):
    """``{label: array}``, all of one shape."""
    if not isinstance(volume, Mapping):
        volume = {"": volume}
    arrays = {
        label: checked_volume(f"{name}[{label!r}]" if label else name, array, channels).astype(np.float32)
        for label, array in check_mapping(volume, name).items()
    }
    if len({array.shape for array in arrays.values()}) != 1:
        raise ValueError(f"{name}: got shapes {[array.shape for array in arrays.values()]}, wants one shape")
    return arrays


def _within_budget(volumes, spreads, level, cutaway):
    """Bodies of all volumes, from voxels averaged over 1, 2, 3 ... along each axis until they are small enough."""
    shape = next(iter(volumes.values())).shape[1:]
    for factor in range(1, max(shape)):
        for samples in SAMPLES_PER_VOXEL:
            if np.prod(shape) * (samples / factor) ** 3 > GRID:
                continue
            bodies = {
                label: _bodies(_coarse(v, factor), _coarse(spreads.get(label), factor), level, cutaway, factor, samples)
                for label, v in volumes.items()
            }
            if sum(len(part[0]) for body in bodies.values() for parts in body for part in parts) <= VERTICES:
                return bodies
    return bodies


def _coarse(volume, factor):
    """Means over cubes of voxels; a rest at the border is left out."""
    from skimage.measure import block_reduce

    if volume is None or factor == 1:
        return volume
    whole = tuple(slice(0, length - length % factor) for length in volume.shape[1:])
    return block_reduce(volume[:, *whole], (1, factor, factor, factor), np.mean)


def _sampled(channel, cut, samples):
    """A channel, smoothed, up to a cut in X, on a finer grid; and the spacing of that grid in voxels."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    smooth = gaussian_filter(channel, SMOOTHING, mode="nearest")[..., : cut + 1]
    axes = [np.linspace(0, size - 1, round((size - 1) * samples) + 1) for size in smooth.shape]
    spacing = np.array([axis[1] if len(axis) > 1 else 1.0 for axis in axes])
    return map_coordinates(smooth, np.meshgrid(*axes, indexing="ij"), order=3), spacing


def _bodies(volume, spread, level, cutaway, factor, samples):
    """For each channel the outside of its body and its section: vertices (voxels), triangles, and errors or None.

    The outside is the part of the specimen's surface where the channel is the largest, and its interface to the others.
    """
    from scipy.ndimage import map_coordinates

    def lead(values, number):
        """By how much a channel exceeds the others."""
        return values[number] - np.delete(values, number, axis=0).max(0) if len(values) > 1 else 1 + 0 * values[0]

    cut = volume.shape[-1] // 2 if cutaway else volume.shape[-1] - 1
    fields, spacings = zip(*(_sampled(channel, cut, samples) for channel in np.nan_to_num(volume)), strict=True)
    fields, spacing = np.array(fields), spacings[0]
    inside = fields.sum(0) - level
    surface, faces = _contour(np.pad(inside, 1, constant_values=FAR_BELOW), offset=1)
    in_section = np.all(surface[faces][..., 2] * spacing[2] > cut - 0.01, axis=1)
    here = np.array([_at(field, surface) for field in fields])
    around = _averaged(here, faces[~in_section])
    bodies = []
    for number in range(len(fields)):
        between = lead(fields, number)
        interface, triangles = _contour(between)
        outside = _joined(
            _clipped(surface, faces[~in_section], lead(around, number)),
            _clipped(interface, triangles, _at(inside, interface)),
        )
        parts = []
        for points, triangles in (outside, _clipped(surface, faces[in_section], lead(here, number))):
            if len(triangles):
                points, triangles = _used(points * spacing, triangles)
                values = None
                if spread is not None:
                    values = map_coordinates(spread[number], points.T, order=1, mode="nearest").astype(np.float32)
                parts.append(((points + 0.5) * factor, triangles, values))
        bodies.append(parts)
    return bodies


def _contour(field, offset=0):
    """The surface where a field is zero: vertices, in samples less an offset, and triangles; nothing if it has none."""
    from skimage.measure import marching_cubes

    if min(field.shape) < 2 or not field.min() < 0 < field.max():
        return np.empty((0, 3)), np.empty((0, 3), int)
    vertices, faces, _, _ = marching_cubes(field, 0.0)
    return vertices - offset, faces


def _at(field, vertices):
    """A field at vertices."""
    from scipy.ndimage import map_coordinates

    return map_coordinates(field, vertices.T, order=1, mode="nearest") if len(vertices) else np.empty(0)


def _averaged(values, faces):
    """Values (C, N) at the vertices of a surface, each averaged over its neighbours along the surface."""
    from scipy.sparse import coo_array, eye_array

    count = values.shape[1]
    if not count:
        return values
    starts, ends = faces.ravel(), np.roll(faces, 1, axis=1).ravel()
    pairs = np.unique(np.concatenate([[starts, ends], [ends, starts]], axis=1), axis=1)
    near = (coo_array((np.ones(pairs.shape[1]), pairs), (count, count)) + eye_array(count)).tocsr()
    number = near.sum(axis=1)[:, None]
    for _ in range(ROUNDS):
        values = (near @ values.T / number).T
    return values


def _clipped(vertices, faces, values):
    """The part of a surface where values at its vertices are positive; triangles on its border are cut."""
    positive = values[faces] > 0
    kept, added = [faces[positive.all(1)]], [vertices]
    count = len(vertices)
    for wanted in (1, 2):  # vertices of a triangle that stay
        cut = positive.sum(1) == wanted
        alone = np.argmax(positive[cut] == (wanted == 1), axis=1)  # the vertex unlike the other two
        a, b, c = (np.take_along_axis(faces[cut], (alone[:, None] + k) % 3, 1)[:, 0] for k in range(3))
        middles = [  # where the field is zero on two edges
            vertices[a] + (values[a] / (values[a] - values[end]))[:, None] * (vertices[end] - vertices[a])
            for end in (b, c)
        ]
        ab, ac = (count + np.arange(len(a)) + k * len(a) for k in range(2))
        added += middles
        count += 2 * len(a)
        kept += [np.stack(corners, 1) for corners in ([(a, ab, ac)] if wanted == 1 else [(ab, b, c), (ab, c, ac)])]
    return np.concatenate(added), np.concatenate(kept)


def _joined(first, second):
    """Two surfaces as one."""
    return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1] + len(first[0])])


def _used(vertices, faces):
    """The triangles, with only the vertices that they use."""
    used, faces = np.unique(faces, return_inverse=True)
    return vertices[used], faces.reshape(-1, 3)


def _range(traces, axis):
    """Of an axis: that of all bodies, shown or not, and a little more."""
    if not traces:
        return {}
    values = [trace[axis] for trace in traces]
    low, high = float(min(v.min() for v in values)), float(max(v.max() for v in values))
    rim = 0.05 * (high - low)
    return {"range": [low - rim, high + rim], "autorange": False}


def _volume_menu(labels, owners):
    buttons = [
        {"label": label, "method": "restyle", "args": [{"visible": [owner == label for owner in owners]}]}
        for label in labels
    ]
    return {"type": "buttons", "direction": "right", "name": "volume", "buttons": buttons, "y": 1.1}


def _colour_menu(traces, unit):
    """Colours of the phases, or one scale for the errors of all bodies."""
    top = float(np.percentile(np.concatenate([trace.intensity for trace in traces]), 99))
    bar = {"title": {"text": f"standard error ({unit})", "side": "right"}, "thickness": 12, "len": 0.7}
    phase = {"colorscale": [trace.colorscale for trace in traces], "showscale": False}
    error = {"colorscale": "Viridis", "cmin": 0.0, "cmax": top, "colorbar": bar}
    error["showscale"] = [number == 0 for number in range(len(traces))]
    buttons = [
        {"label": label, "method": "restyle", "args": [changes]}
        for label, changes in (("phases", phase), ("standard error", error))
    ]
    return {"type": "buttons", "direction": "right", "name": "colour", "buttons": buttons, "y": 1.2}


def show_3d(
    volume: ArrayLike | Mapping[str, ArrayLike],
    *,
    height: int = 480,
    title: str | None = None,
    turning: bool = False,
    caption: str | None = None,
    name: str | None = None,
    alt: str | None = None,
    **options: Any,
) -> None:
    """Show `surfaces_figure`, with its options, in a frame of its own.

    The mouse and the arrow keys turn it, plus and minus move it; a button for each phase hides it.

    Parameters
    ----------
    volume : array, shape (C, Y, Z, X), or dict of str to such arrays
    turning : bool
        Turn slowly while it can be seen, until the reader takes hold of it or presses the button; not where the reader
        has asked for less motion.
    caption, name, alt : str, optional
        As for `show`.
    """
    from IPython.display import display

    from .interactive import captioned

    check_flag(turning, "turning")
    check_texts(caption=caption, name=name, alt=alt)
    figure = surfaces_figure(volume, height=height, title=title, **options)
    if not headless():
        figure.show()
        return
    scripts = [files(__package__).joinpath(f"{script}.js") for script in ("turning", "keys")[not turning :]]
    script = "\n".join(path.read_text("utf-8") for path in scripts)
    controls = 40 * (len(figure.layout.updatemenus) + turning + 1)
    page = figure_html(figure, full_html=True, post_script=script).replace(
        "<body>", '<body style="font: 14px sans-serif">', 1
    )
    label = html.escape(alt or title or "3-D view", quote=True)
    frame = (
        f'<iframe title="{label}" srcdoc="{html.escape(page, quote=True)}" loading="lazy" scrolling="no" '
        f'style="width: 100%; height: {height + controls + 24}px; border: 0"></iframe>'
    )
    display({"text/html": captioned(frame, caption, name)}, raw=True)
