"""Colours and defaults of the book's figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import cycle

import matplotlib.pyplot as plt

from ..checks import describe

__all__ = ["COLORS", "NEUTRAL", "WIDTH", "phase_colors", "use_style"]


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

WIDTH = 6.2  # inches of a figure, at most: 682 pixels fill the text's column; on a phone 10 points are 9 pixels high

# Of methods, runs and whatever has no colour of its own in `COLORS`: none of these is a phase's or an edge's.
NEUTRAL = ["#6A3D9A", "#B8860B", "#1B7837", "#C51B7D", "#4D4D4D"]


def phase_colors(names: Sequence[str]) -> list[str]:
    """Return a colour for each phase or channel: its own in `COLORS`, or else one that no phase of the book has.

    Examples
    --------
    >>> phase_colors(["FeO", "unknown", "another"])
    ['#0072B2', '#6A3D9A', '#B8860B']
    """
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ValueError(f"names: got {describe(names)}, wants a sequence of names")
    others = cycle(NEUTRAL)
    return [COLORS.get(name) or next(others) for name in names]


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
            "axes.formatter.use_mathtext": True,  # × 10⁻⁵ at an axis, not 1e−5
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": plt.cycler(color=NEUTRAL),
            "image.interpolation": "nearest",
            "image.cmap": "magma",
            "legend.frameon": False,
            "legend.fontsize": 10,
        }
    )
