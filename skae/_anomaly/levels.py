"""Location and scale of scores, by how much of a row was observed.

A network rebuilds little more closely than much, and what is missing is never unusual: by itself,
the score of a short signal, padded by NaN, is another one than that of a long one.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from skae._anomaly.thresholds import median_deviation, weighted_quantile
from skae._runtime.tuning import MOST_LEVELS, NARROWEST_LEVEL, ROWS_OF_A_LEVEL


class Level(NamedTuple):
    """What scores are usual among rows of which as much was observed.

    Attributes
    ----------
    shares : ndarray of shape (m,)
        Of the observed cells, ascending; between them, location and scale change linearly.
    location, scale : ndarray of shape (m,)
    """

    shares: np.ndarray
    location: np.ndarray
    scale: np.ndarray

    def standardized(self, scores: Tensor, shares: Tensor) -> Tensor:
        """Scores (n, ...) of rows with these shares of observed cells, (n,)."""
        if len(self.shares) == 1:  # As much of all rows: no steps, as ever in complete data.
            return (scores - float(self.location[0])) / float(self.scale[0])
        knots, location, scale = (torch.from_numpy(v).to(scores) for v in self)
        steps = ((shares.to(scores)[:, None] - knots[:-1]) / knots.diff()).clamp(0.0, 1.0)
        shape = (-1, *(1 for _ in scores.shape[1:]))
        at, spread = ((v[0] + (steps * v.diff()).sum(1)).view(shape) for v in (location, scale))
        return (scores - at) / spread

    @classmethod
    def of(cls, scores: np.ndarray, shares: np.ndarray, weights: np.ndarray) -> "Level":
        """Medians and robust deviations of groups of rows with nearly the same share."""
        n_groups = max(1, min(MOST_LEVELS, len(scores) // ROWS_OF_A_LEVEL))
        order = np.argsort(shares, kind="stable")
        below = weights[order].cumsum() / weights.sum()
        groups = np.split(order, np.searchsorted(below, np.arange(1, n_groups) / n_groups))
        groups = [group for group in groups if len(group)]
        knots, number = np.unique([np.median(shares[g]) for g in groups], return_inverse=True)
        location, scale = np.empty(len(knots)), np.empty(len(knots))
        for k in range(len(knots)):
            own = np.concatenate([g for g, n in zip(groups, number, strict=True) if n == k])
            location[k], scale[k] = _usual(scores[own], weights[own])
        return cls(knots, location, np.maximum(scale, NARROWEST_LEVEL * scale.mean()))

    @classmethod
    def within(cls, scores: np.ndarray, shares: np.ndarray, weights: np.ndarray) -> "Level":
        """What gives the scores of all groups the location and the scale of all rows."""
        level, (location, scale) = cls.of(scores, shares, weights), _usual(scores, weights)
        ratio = level.scale / scale
        return level._replace(location=level.location - ratio * location, scale=ratio)


def _usual(scores: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    location = weighted_quantile(scores, weights, 0.5)
    return location, max(median_deviation(scores, location, weights), 1e-6)
