"""Thresholds on scores, by hand."""

import numpy as np
import pytest

from skae._anomaly.thresholds import Typical, contamination_threshold, weighted_quantile


def test_thresholds_by_hand():
    scores = -np.arange(10.0)
    assert weighted_quantile(scores, None, 0.3) == -6.0
    assert weighted_quantile(scores, np.r_[np.ones(9), 0.0001], 0.3) == -6.0
    assert contamination_threshold(scores, None, 0.2) == -7.0
    assert weighted_quantile(scores, None, 0.0) == -9.0


@pytest.mark.parametrize("is_error", [False, True])
def test_unusual_is_beyond_two_and_a_half_robust_deviations(is_error):
    values = np.array([0.0, 1.0, 2.0, 3.0, 40.0])  # median 2, median absolute deviation 1
    scores = -(values**3) if is_error else -values
    typical = Typical.of(scores, None, is_error)
    assert typical.median == pytest.approx(2.0)
    assert typical.deviation == pytest.approx(1.4826)
    bound = 2 + 2.5 * 1.4826
    assert typical.unusual(scores, None) == pytest.approx(-(bound**3) if is_error else -bound)
    np.testing.assert_allclose(typical.deviations(scores), (values - 2) / 1.4826, rtol=1e-6)


def test_value_of_half_of_the_scores_is_normal_to_the_bit():
    scores = np.array([-0.1, -0.1, -0.1, -9.0])
    for is_error in (True, False):
        assert Typical.of(scores, None, is_error).unusual(scores, None) == -0.1
