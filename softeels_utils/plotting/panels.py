"""Static figures: maps, slices, spectra, visibility of interfaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import patheffects
from numpy.typing import ArrayLike

from ..checks import (
    check_count,
    check_flag,
    check_mapping,
    check_number,
    check_positive,
    check_texts,
    describe,
    finite_array,
    real_array,
)
from .style import WIDTH, phase_colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["maps_figure", "show_maps", "show_slices", "show_spectra", "slices_panels"]


def _limits(images, vmin, vmax, percentile):
    values = np.concatenate([np.ravel(image) for image in images])
    values = values[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0
    low = float(np.percentile(values, 100 - percentile)) if vmin is None else vmin
    high = float(np.percentile(values, percentile)) if vmax is None else vmax
    return (low, high) if high > low else (low, low + 1.0)


def check_limits(vmin, vmax):
    """`ValueError` unless both are numbers or None."""
    for name, value in (("vmin", vmin), ("vmax", vmax)):
        if value is not None:
            check_number(value, name)


def _scale_bar(ax, shape, pixel_size_nm):
    """Draw a scale bar of a round length, about a quarter of the width."""
    width = shape[1] * pixel_size_nm
    power = 10 ** np.floor(np.log10(width / 4))
    length = max(step * power for step in (1, 2, 5) if step * power <= width / 4 + 1e-9)
    x0, y0 = 0.05 * shape[1], 0.93 * shape[0]
    outline = [patheffects.withStroke(linewidth=3, foreground="black")]
    style = {"color": "white", "path_effects": outline}
    ax.plot([x0, x0 + length / pixel_size_nm], [y0, y0], lw=3, solid_capstyle="butt", **style)
    ax.text(x0, y0 - 0.03 * shape[0], f"{length:g} nm", va="bottom", fontsize=10, **style)


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
    maps = {label: shown_array(image, f"maps[{label!r}]", 2) for label, image in check_mapping(maps, "maps").items()}
    check_limits(vmin, vmax)
    check_number(percentile, "percentile", 50, 100)
    check_flag(share, "share")
    check_texts(unit=unit, title=title)
    if pixel_size_nm is not None:
        check_positive(pixel_size_nm=pixel_size_nm)
    columns = min(check_count(columns, "columns"), len(maps))
    rows = -(-len(maps) // columns)
    side = min(2.5, (WIDTH - 0.6) / columns)
    fig, axes = plt.subplots(rows, columns, figsize=(side * columns + 0.6, (side + 0.05) * rows + 0.3), squeeze=False)
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


def shown_array(values, name, ndim):
    """An array that can be shown, of real numbers or bools; single values may be NaN."""
    if getattr(values, "dtype", None) == np.dtype(bool):
        values = values.astype(float)
    return real_array(values, name, ndim=ndim, finite=False)


def checked_volume(name, volume, channels):
    """A volume (C, Y, Z, X) that can be shown."""
    whole = isinstance(channels, Sequence) and not isinstance(channels, str)
    if not whole or not all(isinstance(one, str) for one in channels):
        raise ValueError(f"channels: got {describe(channels)}, wants a sequence of names")
    volume = shown_array(volume, name, 4)
    if len(volume) != len(channels):
        raise ValueError(f"{name}: got shape {volume.shape}, wants (C, Y, Z, X) with C = {len(channels)} (channels)")
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
    volumes = check_mapping(volumes, "volumes")
    volumes = {label: checked_volume(f"volumes[{label!r}]", v, channels) for label, v in volumes.items()}
    check_limits(vmin, vmax)
    check_texts(unit=unit, title=title)
    if voxel_size_nm is not None:
        check_positive(voxel_size_nm=voxel_size_nm)
    fewest = min(volume.shape[1] for volume in volumes.values())
    if index is not None:
        check_number(check_count(index, "index", -fewest), "index", -fewest, fewest - 1)
    rows, columns = len(channels), len(volumes)
    side = min(2.3, (WIDTH - 0.8) / columns)
    fig, axes = plt.subplots(rows, columns, figsize=(side * columns + 0.8, (side + 0.1) * rows + 0.2), squeeze=False)
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
    figsize: tuple[float, float] = (WIDTH, 3.4),
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
    energy_eV, spectra = finite_array(energy_eV, "energy_eV"), check_mapping(spectra, "spectra")
    spectra = {label: shown_array(spectrum, f"spectra[{label!r}]", 1) for label, spectrum in spectra.items()}
    for label, spectrum in spectra.items():
        if energy_eV.shape != spectrum.shape:
            raise ValueError(
                f"spectra[{label!r}]: got shape {spectrum.shape}, wants that of energy_eV, {energy_eV.shape}"
            )
    for name, mapping in (("bands", bands), ("marks", marks)):
        if mapping is not None:
            check_mapping(mapping, name, empty=True)
    for label, half in (bands or {}).items():
        shown_array(half, f"bands[{label!r}]", 1)
    for label, energy in (marks or {}).items():
        check_number(energy, f"marks[{label!r}]")
    check_flag(logy, "logy")
    check_texts(ylabel=ylabel, title=title)
    if ax is not None and not hasattr(ax, "get_xaxis_transform"):
        raise ValueError(f"ax: got {describe(ax)}, wants axes of Matplotlib")
    new_figure = ax is None
    if new_figure:
        _, ax = plt.subplots(figsize=figsize)
    for (label, spectrum), color in zip(spectra.items(), phase_colors(list(spectra)), strict=True):
        (line,) = ax.plot(energy_eV, spectrum, label=label, color=color, lw=1.4)
        if bands and label in bands:
            half = np.asarray(bands[label])
            ax.fill_between(energy_eV, spectrum - half, spectrum + half, color=line.get_color(), alpha=0.25, lw=0)
    for name, energy in (marks or {}).items():
        ax.axvline(energy, color="0.5", lw=1, ls=":")
        ax.text(energy, 0.98, f" {name}", transform=ax.get_xaxis_transform(), va="top", fontsize=10, color="0.35")
    if logy:
        ax.set_yscale("log")
    ax.set(xlabel="energy loss (eV)", ylabel=ylabel, xlim=(energy_eV[0], energy_eV[-1]), title=title or "")
    if len(spectra) > 1 or next(iter(spectra)):
        ax.legend()
    if new_figure:
        plt.show()
    return ax.figure
