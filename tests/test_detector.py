"""AutoencoderAnomalyDetector: scores, thresholds, contributions."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score

from skae import AutoencoderAnomalyDetector
from skae.scoring import contamination_threshold, robust_threshold, weighted_quantile

X, Y = load_breast_cancer(return_X_y=True)
BENIGN = X[Y == 1]


@pytest.fixture(scope="module")
def fitted():
    return AutoencoderAnomalyDetector(n_components=5, random_state=0).fit(BENIGN[:200])


def test_outliers_score_lower(fitted):
    test = np.vstack([BENIGN[200:], X[Y == 0]])
    labels = np.r_[np.ones(len(BENIGN) - 200), np.zeros((Y == 0).sum())]
    assert roc_auc_score(labels, fitted.score_samples(test)) > 0.9


def test_decision_function_is_the_score_above_the_offset_to_the_bit(fitted):
    scores = fitted.score_samples(X)
    np.testing.assert_array_equal(fitted.decision_function(X), scores - fitted.offset_)
    np.testing.assert_array_equal(fitted.predict(X), np.where(scores < fitted.offset_, -1, 1))


@pytest.mark.parametrize("contamination", [0.01, 0.1, 0.29, 0.5])
def test_contamination_is_the_share_of_training_rows_below_the_threshold(contamination):
    rows = BENIGN[:200]
    detector = AutoencoderAnomalyDetector(
        contamination=contamination, max_epochs=3, random_state=0
    ).fit(rows)
    assert (detector.predict(rows) == -1).sum() == round(contamination * 200)


def test_contamination_moves_the_threshold_and_not_the_scores():
    settings = {"max_epochs": 3, "random_state": 0}
    one = AutoencoderAnomalyDetector(contamination=0.1, **settings).fit(X)
    other = AutoencoderAnomalyDetector(**settings).fit(X)
    np.testing.assert_array_equal(one.score_samples(X), other.score_samples(X))
    assert one.offset_ != other.offset_


def test_auto_threshold_flags_few_rows_of_clean_data():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2000, 4)) @ rng.normal(size=(4, 12)) + 0.1 * rng.normal(size=(2000, 12))
    detector = AutoencoderAnomalyDetector(n_components=4, random_state=0, max_epochs=20)
    share = (detector.fit_predict(rows) == -1).mean()
    assert 0.0 < share < 0.05


def test_contributions_sum_to_the_error_and_name_the_planted_column(fitted):
    rows = BENIGN[200:260].copy()
    columns = np.arange(60) % X.shape[1]
    rows[np.arange(60), columns] += 8 * BENIGN.std(axis=0)[columns]
    contributions = fitted.feature_contributions(rows)
    assert (contributions >= 0).all()
    np.testing.assert_allclose(contributions.sum(axis=1), -fitted.score_samples(rows), rtol=1e-5)
    assert (contributions.argmax(axis=1) == columns).mean() > 0.8


def test_missing_cells_contribute_nothing(fitted):
    rows = BENIGN[200:210].copy()
    rows[:, 3] = np.nan
    contributions = fitted.feature_contributions(rows)
    assert (contributions[:, 3] == 0).all()
    np.testing.assert_allclose(contributions.sum(axis=1), -fitted.score_samples(rows), rtol=1e-5)


def test_thresholds_by_hand():
    scores = -np.arange(10.0)
    assert weighted_quantile(scores, None, 0.3) == -6.0
    assert weighted_quantile(scores, np.r_[np.ones(9), 0.0001], 0.3) == -6.0
    assert contamination_threshold(scores, None, 0.2) == -7.0
    errors = np.array([1.0, 8.0, 27.0, 64.0, 125.0])  # cube roots 1..5: median 3, MAD 1
    assert robust_threshold(np.array([-2.0, -2.0, -2.0, -9.0]), None) == -2.0
    assert robust_threshold(-errors, None) == pytest.approx(-((3 + 2.5 * 1.4826) ** 3))


def test_partial_fit_moves_the_offset_with_the_scores():
    detector = AutoencoderAnomalyDetector(contamination=0.1, random_state=0)
    for _ in range(20):
        detector.partial_fit(BENIGN)
    assert (detector.predict(BENIGN) == -1).sum() == int(0.1 * len(BENIGN))
