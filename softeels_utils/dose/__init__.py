"""What the electrons can tell: signal, Cramér-Rao bounds, and how to spend a fluence on tilts.

Three ways to say that one edge needs fewer electrons than another, which give three numbers:

1. `signal_ratio`: signal per electron, the ratio of the partial cross-sections;
2. `shot_noise_ratio`: that signal against the shot noise of all counts in its window;
3. `dose_efficiency`: the fluences at which the thickness of a phase is known equally well, background and other
   phases unknown (`phase_bound`).
"""

from ..scattering import partial_cross_section
from .acquisition import FIT_WINDOW_EV, Acquisition
from .bounds import LinearModel, error_ellipse, linear_model, phase_bound, simulate_counts
from .calculator import Calculator, calculator
from .efficiency import (
    DoseComparison,
    compare_edges,
    dose_efficiency,
    metal_weights,
    shot_noise_ratio,
    signal_ratio,
    standard_errors,
    sweep,
)
from .forecast import ErrorForecast, forecast_errors
from .measured import measured_spectrum
from .planning import TiltPlan, plan_tilt_series, smallest_void_nm, thinnest_skin_nm

__all__ = [
    "FIT_WINDOW_EV",
    "Acquisition",
    "Calculator",
    "DoseComparison",
    "ErrorForecast",
    "LinearModel",
    "TiltPlan",
    "calculator",
    "compare_edges",
    "dose_efficiency",
    "error_ellipse",
    "forecast_errors",
    "linear_model",
    "measured_spectrum",
    "metal_weights",
    "partial_cross_section",
    "phase_bound",
    "plan_tilt_series",
    "shot_noise_ratio",
    "signal_ratio",
    "simulate_counts",
    "smallest_void_nm",
    "standard_errors",
    "sweep",
    "thinnest_skin_nm",
]
