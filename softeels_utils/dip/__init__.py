"""DIPm-TV: all phases at once from few projections, with an untrained network and total variation.

Start with `dipm_tv`; `fit` does the same for a `tomography.Measurement`. There are three volume models: the network on
coordinates (`coordinates`), free voxels (`voxels`), and the paper's network with its formulation (`paper`).
`feature_test` asks whether what a volume shows is in the data or in the prior; `audit` asks this about everything that
it shows.
"""

from .audit import Audit, Feature, audit, find_features
from .dipm_tv import DIPResult, dipm_tv, fit
from .ensemble import EnsembleResult, ensemble, fit_each, resample
from .features import FeatureTest, VolumeErrors, feature_test, fill_in
from .paper import PaperSettings
from .settings import CoordinateSettings, TrainingSettings, TVSettings
from .stopping import EarlyStopping

__all__ = [
    "Audit",
    "CoordinateSettings",
    "DIPResult",
    "EarlyStopping",
    "EnsembleResult",
    "Feature",
    "FeatureTest",
    "PaperSettings",
    "TVSettings",
    "TrainingSettings",
    "VolumeErrors",
    "audit",
    "dipm_tv",
    "ensemble",
    "feature_test",
    "fill_in",
    "find_features",
    "fit",
    "fit_each",
    "resample",
]
