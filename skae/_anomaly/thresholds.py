"""Location and spread of scores, and thresholds on them: where normal ends."""

from typing import NamedTuple

import numpy as np

from skae._runtime.tuning import UNUSUAL_DEVIATIONS

# The median absolute deviation of a normal distribution times this is its standard deviation.
MAD_TO_DEVIATION = 1.4826


def weighted_quantile(values: np.ndarray, weights: np.ndarray | None, share: float) -> float:
    """The smallest value such that more than ``share`` of the weight lies at or below it."""
    order = np.argsort(values, kind="stable")
    weight = np.ones(len(values)) if weights is None else np.asarray(weights)[order]
    cumulated = np.cumsum(weight)
    # Shares such as 0.29 are a rounding error below what they stand for.
    bound = share * cumulated[-1] * (1 + 1e-12)
    position = min(int(np.searchsorted(cumulated, bound, side="right")), len(values) - 1)
    return float(values[order][position])


def median_deviation(values: np.ndarray, median: float, weights: np.ndarray | None) -> float:
    """The standard deviation that the median absolute deviation stands for."""
    return weighted_quantile(np.abs(values - median), weights, 0.5) * MAD_TO_DEVIATION


def threshold_of_share(scores: np.ndarray, weights: np.ndarray | None, share: float) -> float:
    """Threshold below which a share of the scores lies, half-way to the next one above it."""
    order = np.argsort(scores, kind="stable")
    scores = scores[order]
    weight = np.ones(len(scores)) if weights is None else np.asarray(weights)[order]
    cumulated = np.cumsum(weight)
    # Shares such as 0.29 are a rounding error below what they stand for.
    n_below = int((cumulated <= share * cumulated[-1] * (1 + 1e-12)).sum())
    low, high = scores[max(0, n_below - 1)], scores[n_below]
    if n_below == 0 or low == high:
        return just_below(high)
    return float((low + high) / 2)


def threshold_between(outliers: np.ndarray, others: np.ndarray, usual: float) -> float:
    """The threshold that tells most of both apart, of several the one nearest to the usual one.

    That is the one of the highest balanced accuracy, half-way between two scores.
    """
    scores = np.unique(np.concatenate([outliers, others]))
    between = (scores[1:] + scores[:-1]) / 2
    candidates = np.concatenate([[just_below(scores[0])], between, [scores[-1] + 1e-9]])
    flagged = np.searchsorted(np.sort(outliers), candidates) / len(outliers)
    passed = 1.0 - np.searchsorted(np.sort(others), candidates) / len(others)
    best = candidates[flagged + passed >= (flagged + passed).max() - 1e-12]
    low, high = best.min(), best.max()
    return float(np.clip(usual, low, high))


def just_below(score: float) -> float:
    """A threshold that this score is not below, even where it is rounded otherwise."""
    # Scores of images have the accuracy of float32.
    return float(score - max(1e-9, 5e-7 * abs(score)))


class HeldOut(NamedTuple):
    """Scores by which thresholds are set.

    Attributes
    ----------
    scores, weights : ndarray of shape (n,)
        Of the rows that were held out.
    unusual : float
        The score that is unusual.
    """

    scores: np.ndarray
    weights: np.ndarray
    unusual: float

    def threshold(self, contamination: float | str) -> float:
        """The threshold below which such a share lies; "auto" is what is unusual."""
        if isinstance(contamination, str):
            return self.unusual
        return threshold_of_share(self.scores, self.weights, float(contamination))


class Typical(NamedTuple):
    """What scores of normal rows are like, by rows that were held out.

    Attributes
    ----------
    median, deviation : float
        Of minus the scores; of the cube roots of errors, which are close to normal
        where errors are sums of squares (Wilson and Hilferty 1931).
    is_error : bool
        Whether scores are minus errors.
    """

    median: float
    deviation: float
    is_error: bool

    @classmethod
    def of(cls, scores: np.ndarray, weights: np.ndarray | None, is_error: bool) -> "Typical":
        values = np.cbrt(np.maximum(-scores, 0.0)) if is_error else -scores
        median = weighted_quantile(values, weights, 0.5)
        return cls(median, median_deviation(values, median, weights), is_error)

    @property
    def score(self) -> float:
        """The score of a typical row."""
        return -(self.median**3) if self.is_error else -self.median

    def deviations(self, scores: np.ndarray) -> np.ndarray:
        """Robust standard deviations that a row lies farther out than the median."""
        values = np.cbrt(np.maximum(-scores, 0.0)) if self.is_error else -scores
        return (values - self.median) / max(self.deviation, 1e-12)

    def unusual(self, scores: np.ndarray, weights: np.ndarray | None) -> float:
        """The score that lies so far out that it is unusual (Leys et al. 2013)."""
        if self.deviation == 0.0:
            # Where half of the scores are one value, that value is normal.
            return just_below(weighted_quantile(scores, weights, 0.5))
        bound = self.median + UNUSUAL_DEVIATIONS * self.deviation
        return -(bound**3) if self.is_error else -bound
