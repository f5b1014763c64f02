"""Figures of the book: maps, slices, spectra, interactive plotly figures, 3-D views, and prose with numbers in it."""

from .interactive import browse_slices, figure_html, plotly_file, show, slices_figure
from .panels import maps_figure, show_maps, show_slices, show_spectra, slices_panels
from .pixels import browse_pixels, pixel_explorer, pixel_panels
from .prose import markdown_table, notice, say, table
from .style import COLORS, phase_colors, use_style
from .surfaces import show_3d, surfaces_figure

__all__ = [
    "COLORS",
    "browse_pixels",
    "browse_slices",
    "figure_html",
    "maps_figure",
    "markdown_table",
    "notice",
    "phase_colors",
    "pixel_explorer",
    "pixel_panels",
    "plotly_file",
    "say",
    "show",
    "show_3d",
    "show_maps",
    "show_slices",
    "show_spectra",
    "slices_figure",
    "slices_panels",
    "surfaces_figure",
    "table",
    "use_style",
]
