"""Phase maps from spectrum images: references and background fitted to every pixel at once, with covariance.

The spectrum of a pixel is a sum of known shapes with unknown amplitudes,

    y(E) = Σ_k c_k R_k(E) + Σ_p b_p B_p(E) + noise,        c >= 0,

phases R (FeO, Fe3O4) and background B. `fit_phases` solves all pixels together: with weights W = 1/variance the
normal matrices of N pixels are one matrix product, ``(N, E) @ (E, Q(Q+1)/2)``, and the few non-negative amplitudes are
found exactly, by trying every set of phases that may be present. For Poisson data the variance is that of the fitted
model, not of the counts, and is iterated: the result is the maximum of the Poisson likelihood, without the bias of
weights that follow the noise.

Errors come in two parts. The covariance of a pixel is statistical: independent between pixels. That of the references
is systematic: one draw for all pixels and tilts, stored as a few matrices (`PhaseFit.systematic`). What M2,3 determines
is the amount of metal and its mean valence (`PhaseFit.metal`, `PhaseFit.mean_valence`); `confusable_phases` says which
phases it cannot tell apart.

Two checks of a fit need no truth: how far it moves with its window (`sweep_windows`), and whether its phases add up to
the thickness that the low loss alone gives (`thickness_map`).

The arguments become `Components` (references and background in the window) and, with a low loss, `PluralScattering`
(the same, smeared by each pixel's low loss); `Solver` fits blocks of pixels.
"""

from .background import FIXED_POWERS, background_shapes
from .fit import fit_phases
from .identify import Confusion, confusable_phases
from .misfit import FitMisfit, p_value_text
from .references import ReferenceDraws
from .result import Estimate, FitFlag, PhaseFit
from .thickness import thickness_map
from .windows import WindowSweep, sweep_windows

__all__ = [
    "FIXED_POWERS",
    "Confusion",
    "Estimate",
    "FitFlag",
    "FitMisfit",
    "PhaseFit",
    "ReferenceDraws",
    "WindowSweep",
    "background_shapes",
    "confusable_phases",
    "fit_phases",
    "p_value_text",
    "sweep_windows",
    "thickness_map",
]
