"""Pictures of fitted estimators, after scikit-learn's Display objects. They need matplotlib."""

from skae._displays.latents import LatentSizeDisplay, LatentWalkDisplay
from skae._displays.losses import LossCurveDisplay
from skae._displays.maps import AnomalyMapDisplay
from skae._displays.reconstructions import ReconstructionDisplay
from skae._displays.scores import AnomalyScoreDisplay, ContributionDisplay

__all__ = [
    "AnomalyMapDisplay",
    "AnomalyScoreDisplay",
    "ContributionDisplay",
    "LatentSizeDisplay",
    "LatentWalkDisplay",
    "LossCurveDisplay",
    "ReconstructionDisplay",
]
