"""DIPm-TV: all phases at once from few projections, with an untrained network and total variation."""

from .engine import DIPResult, Look, dipm_tv
from .settings import Settings
from .uncertainty import EnsembleResult, ensemble, resample

__all__ = ["DIPResult", "EnsembleResult", "Look", "Settings", "dipm_tv", "ensemble", "resample"]
