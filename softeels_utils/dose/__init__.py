"""What the electrons can tell: cross-sections, signal, Cramér-Rao bounds, and how to spend a fluence on tilts.

Three ways to say that one edge needs fewer electrons than another, which give three numbers:

1. `signal_ratio`: signal per electron, the ratio of the partial cross-sections;
2. `shot_noise_ratio`: that signal against the shot noise of all counts in its window;
3. `dose_efficiency`: the fluences at which the thickness of a phase is known equally well, background and other
   phases unknown (`phase_bound`).
"""

from .bounds import (
    FIT_WINDOW_EV,
    LinearModel,
    error_ellipse,
    linear_model,
    measured_spectrum,
    microscope_of,
    phase_bound,
    simulate_counts,
)
from .calculator import Calculator, calculator
from .cross_sections import SIGNAL_WINDOW_EV, hydrogenic_cross_section, partial_cross_section, signal_ratio
from .efficiency import DoseComparison, compare_edges, dose_efficiency, iron_weights, shot_noise_ratio, sweep
from .planning import TiltPlan, plan_tilt_series

__all__ = [
    "FIT_WINDOW_EV",
    "SIGNAL_WINDOW_EV",
    "Calculator",
    "DoseComparison",
    "LinearModel",
    "TiltPlan",
    "calculator",
    "compare_edges",
    "dose_efficiency",
    "error_ellipse",
    "hydrogenic_cross_section",
    "iron_weights",
    "linear_model",
    "measured_spectrum",
    "microscope_of",
    "partial_cross_section",
    "phase_bound",
    "plan_tilt_series",
    "shot_noise_ratio",
    "signal_ratio",
    "simulate_counts",
    "sweep",
]
