"""Autoencoders for scikit-learn: features, outliers, denoising."""

import importlib
from typing import Any

from skae._estimators.denoiser import DenoisingAutoencoder
from skae._estimators.detector import AutoencoderAnomalyDetector
from skae._estimators.features import AutoencoderFeatures
from skae._estimators.imputer import AutoencoderImputer
from skae._estimators.transformer import AutoencoderTransformer
from skae._estimators.variational import VariationalAutoencoder
from skae._runtime.version import __version__

# Loaded when they are first used: `skae.io` works after `import skae`.
_SUBMODULES = (
    "checkpoints",
    "codec",
    "dask",
    "exceptions",
    "export",
    "inspection",
    "io",
    "model_selection",
    "parquet",
    "segmentation",
)

__all__ = [
    "AutoencoderAnomalyDetector",
    "AutoencoderFeatures",
    "AutoencoderImputer",
    "AutoencoderTransformer",
    "DenoisingAutoencoder",
    "VariationalAutoencoder",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"skae.{name}")
    raise AttributeError(f"module 'skae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_SUBMODULES])
