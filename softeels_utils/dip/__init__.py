"""DIPm-TV: all phases at once from few projections, with an untrained network and total variation.

`dipm_tv` is the way in; `fit` does the same for a `tomography.Measurement`. Volume models stand side by side: the
network on coordinates (`coordinates`), free voxels (`voxels`), the paper's network with its formulation (`paper`).
"""

from .dipm_tv import DIPResult, dipm_tv, fit
from .ensemble import EnsembleResult, ensemble, resample
from .paper import PaperSettings
from .settings import CoordinateSettings, TrainingSettings, TVSettings
from .stopping import EarlyStopping

__all__ = [
    "DIPResult",
    "CoordinateSettings",
    "EarlyStopping",
    "EnsembleResult",
    "PaperSettings",
    "TVSettings",
    "TrainingSettings",
    "dipm_tv",
    "ensemble",
    "fit",
    "resample",
]
