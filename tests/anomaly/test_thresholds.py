"""Thresholds on scores, by hand."""

import numpy as np
import pytest

from skae._anomaly.thresholds import Typical, threshold_of_share, weighted_quantile


def test_thresholds_by_hand():
    scores = -np.arange(10.0)
    assert weighted_quantile(scores, None, 0.3) == -6.0
    assert weighted_quantile(scores, np.r_[np.ones(9), 0.0001], 0.3) == -6.0
    assert weighted_quantile(scores, None, 0.0) == -9.0


@pytest.mark.parametrize(("share", "n_flagged"), [(0.2, 2), (0.29, 2), (0.3, 3), (0.5, 5), (0, 0)])
def test_a_share_of_the_scores_lies_below_its_threshold_with_room_on_both_sides(share, n_flagged):
    scores = -np.arange(10.0)
    threshold = threshold_of_share(scores, None, share)
    assert (scores < threshold).sum() == n_flagged
    if share:
        assert threshold == -9.5 + n_flagged
    weights = np.r_[np.ones(8), 2.0, 1.0]
    assert threshold_of_share(scores, weights, 3 / 11) == -7.5


def test_equal_scores_are_not_flagged_by_their_rounding():
    scores = np.array([-3.0, -1.0, -1.0, -1.0, 0.0])
    threshold = threshold_of_share(scores, None, 0.4)
    assert (scores < threshold).sum() == 1
    assert (scores * (1 + 1e-12) < threshold).sum() == 1


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


def test_value_of_half_of_the_scores_is_normal():
    scores = np.array([-0.1, -0.1, -0.1, -9.0])
    for is_error in (True, False):
        threshold = Typical.of(scores, None, is_error).unusual(scores, None)
        assert threshold == pytest.approx(-0.1)
        assert (scores < threshold).tolist() == [False, False, False, True]
