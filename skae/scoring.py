"""Thresholds on scores: where normal ends."""

import numpy as np

# The median absolute deviation of a normal distribution times this is its standard deviation.
_MAD_TO_DEVIATION = 1.4826


def weighted_quantile(values: np.ndarray, weights: np.ndarray | None, share: float) -> float:
    """The smallest value such that more than ``share`` of the weight lies at or below it."""
    order = np.argsort(values, kind="stable")
    weight = np.ones(len(values)) if weights is None else np.asarray(weights)[order]
    cumulated = np.cumsum(weight)
    # Shares such as 0.29 are a rounding error below what they stand for.
    bound = share * cumulated[-1] * (1 + 1e-12)
    position = min(int(np.searchsorted(cumulated, bound, side="right")), len(values) - 1)
    return float(values[order][position])


def contamination_threshold(scores: np.ndarray, weights: np.ndarray | None, share: float) -> float:
    """Offset below which a given share of the training scores lies."""
    return weighted_quantile(scores, weights, share)


def robust_threshold(
    scores: np.ndarray, weights: np.ndarray | None, n_deviations: float = 2.5
) -> float:
    """Offset ``n_deviations`` robust deviations above the median cube root of the error.

    The cube root of a sum of squares is close to normal (Wilson and Hilferty
    1931); 2.5 median absolute deviations is what Leys et al. (2013) recommend.
    """
    roots = np.cbrt(np.maximum(-scores.astype(np.float64), 0.0))
    median = weighted_quantile(roots, weights, 0.5)
    deviation = weighted_quantile(np.abs(roots - median), weights, 0.5) * _MAD_TO_DEVIATION
    if deviation == 0.0:
        # Where half of the errors are one value, that value is normal, to the bit.
        return weighted_quantile(scores, weights, 0.5)
    return float(-((median + n_deviations * deviation) ** 3))
