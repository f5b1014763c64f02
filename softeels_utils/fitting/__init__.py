"""Phase maps from spectrum images: references and background fitted to every pixel at once, with covariance.

The spectrum of one pixel is a sum of fixed shapes with unknown amplitudes,

    y(E) = Σ_k c_k R_k(E) + Σ_p b_p B_p(E) + noise,        c >= 0,

phases R (FeO, Fe3O4) and background B. `fit_phases` solves all pixels together: with weights W = 1/variance the
normal matrices of N pixels are one matrix product, ``(N, E) @ (E, Q(Q+1)/2)``, and the few non-negative amplitudes are
found exactly, by trying every set of phases that may be present. For Poisson data the variance is that of the
fitted model, not of the counts, and is iterated: the result is the maximum of the Poisson likelihood, and has no
bias from weights that follow the noise.
"""

from .background import BACKGROUNDS, background_shapes
from .fit import fit_phases
from .result import FitFlag, PhaseFit

__all__ = ["BACKGROUNDS", "FitFlag", "PhaseFit", "background_shapes", "fit_phases"]
