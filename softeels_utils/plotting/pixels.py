"""The spectrum, its fit and their uncertainty at the pixel of a map that the reader chooses."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_mapping, check_texts, describe, finite_array, real_array
from ..progress import headless
from .formulas import in_text
from .interactive import show
from .panels import shown_array

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

__all__ = ["browse_pixels", "pixel_explorer", "pixel_panels"]

LEVELS = 4000, 500  # steps from zero to a pixel's largest fit, and to its largest residual, in `pixel_explorer`
GREY = "#555555"
WIDE = {
    "xaxis.domain": [0.0, 0.34], "yaxis.domain": [0.0, 1.0],
    "coloraxis.colorbar.x": 0.35, "coloraxis.colorbar.y": 0.5, "coloraxis.colorbar.len": 1.0,
    "xaxis2.domain": [0.56, 1.0], "yaxis2.domain": [0.38, 1.0], "legend.x": 0.56, "legend.y": 0.36,
    "xaxis3.domain": [0.56, 1.0], "yaxis3.domain": [0.0, 0.26],
}  # fmt: skip
NARROW = {
    "xaxis.domain": [0.0, 1.0], "yaxis.domain": [0.6, 1.0],
    "coloraxis.colorbar.x": 1.0, "coloraxis.colorbar.y": 0.8, "coloraxis.colorbar.len": 0.4,
    "xaxis2.domain": [0.0, 1.0], "yaxis2.domain": [0.23, 0.51], "legend.x": 0.0, "legend.y": 0.22,
    "xaxis3.domain": [0.0, 1.0], "yaxis3.domain": [0.0, 0.14], "height": 800,
}  # fmt: skip


def pixel_explorer(
    image: ArrayLike,
    energy_eV: ArrayLike,
    spectra: ArrayLike,
    fits: ArrayLike,
    *,
    bands: ArrayLike | None = None,
    values: Mapping[str, ArrayLike | tuple[ArrayLike, ArrayLike]] | None = None,
    unit: str = "nm",
    image_label: str = "",
    intensity_label: str = "counts",
    start: tuple[int, int] | None = None,
) -> go.Figure:
    """Return a plotly figure of a map and of the spectrum at one pixel: a click, or arrow keys, choose the pixel.

    Beside the map stand the spectrum with its fit, and below them the residual. Under the figure the page
    says what the fit found at the pixel. Pass the figure to `show`; it needs no kernel. The page keeps fits to a
    4000th, and residuals and bands to a 500th, of the largest at each pixel: about 0.4 MB for 32 x 32 pixels of
    150 channels.

    Parameters
    ----------
    image : array, shape (Y, X)
        The map to choose from.
    energy_eV : array, shape (E,)
    spectra, fits : array, shape (Y, X, E)
        Spectra that are not finite are shown as not measured.
    bands : array, shape (Y, X, E), optional
        Half width of an interval about the fit, or about zero: one standard deviation of the counting noise, say.
        It is drawn about the fit, and about zero in the residual.
    values : dict of str to (Y, X) or to a pair of (Y, X), optional
        What the fit found, and its standard error: ``{"FeO": (thickness, error)}``.
    unit : str
        Of ``values``.
    image_label, intensity_label : str
        For the colour bar and the axis of the spectra.
    start : (int, int), optional
        Row and column shown first; by default the maximum of ``image``.

    Raises
    ------
    ValueError
        Arrays of other shapes, or a pixel outside the map.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> energy, fits = np.arange(40.0, 80.0), 100 + np.zeros((4, 5, 40))
    >>> figure = pixel_explorer(fits[..., 0], energy, rng.poisson(fits), fits, bands=fits**0.5, start=(1, 2))
    >>> figure.data[0].type
    'heatmap'
    """
    import plotly.graph_objects as go

    check_texts(unit=unit, image_label=image_label, intensity_label=intensity_label)
    image, energy, spectra, fits, bands, values = _checked(image, energy_eV, spectra, fits, bands, values)
    row, column = _start(image, start)
    spectrum, fit, band = spectra[row, column], fits[row, column], bands[row, column]
    around = np.concatenate([energy, energy[::-1]])
    shade = {"fill": "toself", "fillcolor": "rgba(120,120,120,0.3)", "line": {"width": 0}, "mode": "lines"}
    points = {"mode": "markers", "marker": {"size": 4, "color": GREY}}
    beside, below = {"xaxis": "x2", "yaxis": "y2"}, {"xaxis": "x3", "yaxis": "y3", "showlegend": False}
    hover = "column %{x}, row %{y}: %{z:.3g}<extra></extra>"
    frame = {"symbol": "square-open", "size": 14, "color": "#00FFFF", "line": {"width": 2}}
    figure = go.Figure(
        [
            go.Heatmap(z=image.astype(np.float32), coloraxis="coloraxis", hovertemplate=hover),
            go.Scatter(x=[column], y=[row], mode="markers", marker=frame, hoverinfo="skip", showlegend=False),
            go.Scatter(x=around, y=_around(fit, band), name="interval", hoverinfo="skip", **shade, **beside),
            go.Scatter(x=energy, y=spectrum, name="spectrum", **points, **beside),
            go.Scatter(x=energy, y=fit, name="fit", mode="lines", line={"color": "black", "width": 2}, **beside),
            go.Scatter(x=around, y=_around(0 * fit, band), hoverinfo="skip", **shade, **below),
            go.Scatter(x=energy, y=spectrum - fit, **points, **below),
        ]
    )
    bare = {"showgrid": False, "zeroline": False, "constrain": "domain"}
    figure.update_layout(
        xaxis=bare | {"title": "column"},
        yaxis=bare | {"title": "row", "autorange": "reversed", "scaleanchor": "x"},
        xaxis2={"anchor": "y2", "matches": "x3", "showticklabels": False},
        yaxis2={"anchor": "x2", "title": intensity_label},
        xaxis3={"anchor": "y3", "title": "energy loss (eV)"},
        yaxis3={"anchor": "x3", "title": "residual"},
        coloraxis={
            "colorscale": "Magma",
            "colorbar": {"title": {"text": image_label, "side": "right"}, "thickness": 10},
        },
        legend={"orientation": "h", "yanchor": "top"},
        template="plotly_white",
        height=420,
        margin={"l": 50, "r": 10, "t": 30, "b": 50},
        modebar={"remove": ["lasso", "select", "autoScale"]},
        meta={
            "wide": WIDE,
            "narrow": NARROW,
            "pixels": _packed(spectra, fits, bands) | {"values": values, "unit": unit, "start": [row, column]},
        },
    )
    for place, value in WIDE.items():
        figure.layout[place] = value
    return figure


def _checked(image, energy, spectra, fits, bands, values):
    """The arguments of `pixel_explorer` as arrays; ``values`` as ``[name, rows, rows of errors or None]``."""
    image = shown_array(image, "image", 2).astype(float)
    energy = real_array(energy, "energy_eV", ndim=1).astype(float)
    wanted = (*image.shape, *energy.shape)
    bands = np.zeros(wanted) if bands is None else bands
    arrays = []
    for name, array in (("spectra", spectra), ("fits", fits), ("bands", bands)):
        array = real_array(array, name, finite=False).astype(float)
        if array.shape != wanted:
            raise ValueError(f"{name}: got shape {array.shape}, wants (Y, X, E) = {wanted} of image and energy_eV")
        arrays.append(array)
    listed = []
    for name, value in (check_mapping(values, "values", empty=True) if values is not None else {}).items():
        pair = value if isinstance(value, tuple) else (value, None)
        for array in pair:
            if array is not None and shown_array(array, f"values[{name!r}]", 2).shape != image.shape:
                raise ValueError(f"values[{name!r}]: got shape {np.shape(array)}, wants (Y, X) = {image.shape}")
        listed.append([in_text(name), *(None if array is None else _short(array) for array in pair)])
    return image, energy, *arrays, listed


def _short(array):
    """Nested lists with four significant digits; what is not finite becomes 0."""
    return [[float(f"{value:.4g}") for value in row] for row in np.nan_to_num(np.asarray(array, float))]


def _start(image, start):
    if start is None:
        start = np.unravel_index(np.argmax(np.nan_to_num(image, nan=-np.inf)), image.shape)
    where = finite_array(start, "start")
    if where.shape != (2,):
        raise ValueError(f"start: got {describe(start)}, wants a row and a column")
    row, column = map(int, where)
    if not (0 <= row < image.shape[0] and 0 <= column < image.shape[1]):
        raise ValueError(f"start: got {(row, column)}, wants a row and a column of a map of shape {image.shape}")
    return row, column


def _around(middle, half):
    """Upper edge and, backwards, lower edge of a band."""
    return np.concatenate([middle + half, (middle - half)[::-1]])


def _packed(spectra, fits, bands):
    """Fits, residuals and bands of all pixels for ``pixels.js``: 16-bit integers, steps along energy, deflated.

    Each pixel has a scale for its fit and one for its residual and band, of which ``LEVELS`` are the largest values; 0
    where the pixel was not measured.
    """
    measured = np.isfinite(spectra + fits + bands).all(axis=-1, keepdims=True)
    fits, residuals, bands = (np.where(measured, array, 0.0) for array in (fits, spectra - fits, bands))
    scales = np.max(np.abs(fits), -1) / LEVELS[0], np.max(np.abs([residuals, bands]), (0, -1)) / LEVELS[1]
    fit, residual, band = (
        np.rint(array / np.where(scale > 0, scale, 1.0)[..., None]).astype(np.int16)
        for array, scale in zip((fits, residuals, bands), (scales[0], scales[1], scales[1]), strict=True)
    )
    planes = b"".join(map(_bytes, (_steps(fit), residual, _steps(band))))
    return {
        "shape": spectra.shape,
        "measured": measured.ravel().astype(int).tolist(),
        "scales": [[float(f"{value:.5g}") for value in scale.ravel()] for scale in scales],
        "data": base64.b64encode(zlib.compress(planes, 9)).decode(),
    }


def _steps(array):
    return np.diff(array, axis=-1, prepend=np.int16(0))


def _bytes(array: NDArray[np.int16]) -> bytes:
    """Numbers of either sign, small ones as small numbers, low bytes before high bytes: they compress well so."""
    folded = ((array << 1) ^ (array >> 15)).astype(np.uint16)
    return (folded & 255).astype(np.uint8).tobytes() + (folded >> 8).astype(np.uint8).tobytes()


def pixel_panels(
    image: ArrayLike,
    energy_eV: ArrayLike,
    spectra: ArrayLike,
    fits: ArrayLike,
    *,
    bands: ArrayLike | None = None,
    values: Mapping[str, ArrayLike | tuple[ArrayLike, ArrayLike]] | None = None,
    unit: str = "nm",
    image_label: str = "",
    intensity_label: str = "counts",
    start: tuple[int, int] | None = None,
) -> Figure:
    """Return what `pixel_explorer` shows at the pixel ``start`` as a Matplotlib figure; it takes the same arguments."""
    check_texts(unit=unit, image_label=image_label, intensity_label=intensity_label)
    image, energy, spectra, fits, bands, listed = _checked(image, energy_eV, spectra, fits, bands, values)
    row, column = _start(image, start)
    spectrum, fit, band = spectra[row, column], fits[row, column], bands[row, column]
    figure = plt.figure(figsize=(7.5, 3.8), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=[3, 1], width_ratios=[2, 3])
    place, curve = figure.add_subplot(grid[:, 0]), figure.add_subplot(grid[0, 1])
    below = figure.add_subplot(grid[1, 1], sharex=curve)
    figure.colorbar(place.imshow(image), ax=place, label=image_label, location="bottom")
    place.plot(column, row, "s", mfc="none", mec="cyan", ms=9)
    place.set(xlabel="column", ylabel="row")
    for ax, middle in ((curve, fit), (below, 0 * fit)):
        ax.fill_between(energy, middle - band, middle + band, color="0.75", lw=0)
        ax.plot(energy, middle + spectrum - fit, ".", color=GREY, ms=3)
        ax.plot(energy, middle, color="black", lw=1.4)
    texts = [f"{n} {v[row][column]:.3g}" + (f" ± {e[row][column]:.2g}" if e else "") for n, v, e in listed]
    curve.set(ylabel=intensity_label, title="; ".join(f"{text} {unit}" for text in texts))
    curve.tick_params(labelbottom=False)
    below.set(xlabel="energy loss (eV)", ylabel="residual")
    return figure


def browse_pixels(
    image: ArrayLike,
    energy_eV: ArrayLike,
    spectra: ArrayLike,
    fits: ArrayLike,
    *,
    caption: str | None = None,
    name: str | None = None,
    alt: str | None = None,
    **options: Any,
) -> None:
    """Let the reader choose a pixel of a map, and see its spectrum, its fit and their uncertainty.

    In the page this is `pixel_explorer`, which needs no kernel. Where a person runs the notebook, widgets redraw
    `pixel_panels` from the arrays themselves.

    Parameters
    ----------
    image, energy_eV, spectra, fits, **options
        As for `pixel_explorer`.
    caption, name, alt : str, optional
        As for `show`.

    Raises
    ------
    ValueError
        As `pixel_explorer`.
    """
    if headless():
        show(pixel_explorer(image, energy_eV, spectra, fits, **options), caption=caption, name=name, alt=alt)
        return
    from ipywidgets import IntSlider, interact

    rows, columns = np.shape(image)
    row, column = _start(np.asarray(image, float), options.pop("start", None))

    def draw(row, column):
        pixel_panels(image, energy_eV, spectra, fits, start=(row, column), **options)
        plt.show()

    interact(draw, row=IntSlider(row, 0, rows - 1), column=IntSlider(column, 0, columns - 1))
