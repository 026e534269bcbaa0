"""Autoencoders for scikit-learn: features, outliers, denoising."""

from skae._denoiser import DenoisingAutoencoder
from skae._detector import AutoencoderAnomalyDetector
from skae._transformer import AutoencoderTransformer
from skae._variational import VariationalAutoencoder

__version__ = "0.1.0"

__all__ = [
    "AutoencoderAnomalyDetector",
    "AutoencoderTransformer",
    "DenoisingAutoencoder",
    "VariationalAutoencoder",
    "__version__",
]
