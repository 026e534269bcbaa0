"""Parameters searched by cross-validation, the networks of all candidates side by side."""

from skae._estimators.search import AutoencoderSearchCV

__all__ = ["AutoencoderSearchCV"]
