"""Estimators for data of a cluster: Dask arrays and data frames.

They take the parameters of the estimators in :mod:`skae`, fit on the workers that hold the rows,
and predict lazily.
"""

from skae._distributed.detector import AutoencoderAnomalyDetector
from skae._distributed.transformers import AutoencoderTransformer, DenoisingAutoencoder
from skae._distributed.wrapping import wrap

__all__ = [
    "AutoencoderAnomalyDetector",
    "AutoencoderTransformer",
    "DenoisingAutoencoder",
    "wrap",
]
