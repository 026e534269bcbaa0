"""Scores, labels and thresholds of training rows are out of sample."""

import numpy as np
import pytest
from scipy.stats import ks_2samp
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits

from skae import AutoencoderAnomalyDetector

DETECTOR = AutoencoderAnomalyDetector(max_epochs=10, random_state=0)


def _gaussian(seed, n=1000, d=8):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(d, d))
    return rng.normal(size=(n, d)) @ mixing, rng.normal(size=(4 * n, d)) @ mixing


def _digits(seed):
    X = load_digits().data
    order = np.random.default_rng(seed).permutation(len(X))
    return X[order[:900]], X[order[900:]]


def _benign(seed):
    data = load_breast_cancer()
    X = data.data[data.target == 1]
    order = np.random.default_rng(seed).permutation(len(X))
    return X[order[:180]], X[order[180:]]


@pytest.mark.parametrize("score", ["auto", "nearest", "reconstruction"])
@pytest.mark.parametrize("share", [0.01, 0.05, 0.1])
def test_new_rows_are_flagged_as_often_as_asked_for(share, score):
    flagged = []
    for seed in range(3):
        X, new = _gaussian(seed)
        detector = clone(DETECTOR).set_params(contamination=share, anomaly_score=score)
        flagged.append((detector.fit(X).predict(new) == -1).mean())
    # A training row's loss is that of one member: it varies more than the mean of four.
    least = share / 4 if score == "reconstruction" else share / 2
    assert least < np.mean(flagged) < 1.6 * share


@pytest.mark.parametrize("data", [_digits, _benign])
def test_new_rows_of_real_data_are_flagged_as_often_as_asked_for(data):
    flagged = []
    for seed in range(3):
        X, new = data(seed)
        detector = clone(DETECTOR).set_params(contamination=0.1, random_state=seed)
        flagged.append((detector.fit(X).predict(new) == -1).mean())
    assert 0.06 < np.mean(flagged) < 0.14


@pytest.mark.parametrize("score", ["auto", "isolation", "mahalanobis", "nearest", "reconstruction"])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.45])
def test_the_asked_share_of_training_rows_is_flagged(score, share):
    X, _ = _gaussian(0, n=300)
    detector = clone(DETECTOR).set_params(contamination=share, anomaly_score=score)
    labels = detector.fit_predict(X)
    assert (labels == -1).sum() == round(300 * share)
    np.testing.assert_array_equal(detector.predict(X), labels)


def test_a_drift_test_of_training_against_new_scores_is_silent():
    p_values = []
    for seed in range(3):
        X, new = _gaussian(seed)
        detector = clone(DETECTOR).set_params(random_state=seed).fit(X)
        p_values.append(ks_2samp(detector.score_samples(X), detector.score_samples(new)).pvalue)
    assert np.median(p_values) > 0.01


def test_training_rows_are_known_again_in_any_order_batch_and_container():
    pd = pytest.importorskip("pandas")
    X, _ = _gaussian(0, n=300)
    frame = pd.DataFrame(X, columns=[f"c{i}" for i in range(8)])
    detector = clone(DETECTOR).fit(frame)
    scores = detector.score_samples(frame)
    np.testing.assert_array_equal(detector.score_samples(frame.iloc[::-1])[::-1], scores)
    rounded = frame.astype(np.float32)
    np.testing.assert_allclose(detector.score_samples(rounded), scores, atol=1e-3)
    one_by_one = [detector.score_samples(frame.iloc[[i]])[0] for i in range(20)]
    np.testing.assert_array_equal(one_by_one, scores[:20])
    moved = detector.score_samples(frame + 1e-3)
    assert np.median(moved) > np.median(scores)  # Those are new rows to all members.


def test_contributions_of_training_rows_sum_to_their_scores():
    X, _ = _gaussian(0, n=300)
    for score in ("auto", "reconstruction"):
        detector = clone(DETECTOR).set_params(anomaly_score=score).fit(X)
        expected = -detector.score_samples(X).clip(max=0.0)
        sums = detector.feature_contributions(X).sum(axis=1)
        np.testing.assert_allclose(sums, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("n", "max_samples"), [(100, 0.99), (100, 99), (2000, 1999), (70, 0.95)])
def test_few_held_out_rows_do_not_calibrate(n, max_samples):
    X, new = _gaussian(0, n=n)
    detector = clone(DETECTOR).set_params(max_samples=max_samples, max_epochs=3).fit(X)
    scores = detector.score_samples(new)
    assert np.abs(scores).max() < 100
    assert (detector.predict(new) == -1).mean() < 0.35


@pytest.mark.slow
def test_few_held_out_rows_of_a_sample_of_many():
    X, new = _gaussian(0, n=20_000, d=4)
    detector = clone(DETECTOR).set_params(max_samples=19_999, max_epochs=1).fit(X)
    assert (detector.predict(new) == -1).mean() < 0.2


def test_outliers_among_a_handful_of_rows_are_flagged():
    X = np.array([[-2, -1], [-1, -1], [-1, -2], [1, 1], [1, 2], [2, 1], [6, 3], [-4, 7]], float)
    labels = clone(DETECTOR).set_params(contamination=0.25, max_epochs="auto").fit_predict(X)
    np.testing.assert_array_equal(labels, [1, 1, 1, 1, 1, 1, -1, -1])


@pytest.mark.slow
def test_moments_of_features_are_those_of_all_rows():
    rng = np.random.default_rng(0)
    X = np.sort(rng.normal(size=(5000, 1000)).astype(np.float32), axis=0)
    detector = clone(DETECTOR).set_params(max_epochs=1, n_estimators=2).fit(X)
    mean, deviation, _ = detector._scorer.features
    np.testing.assert_allclose(mean, np.zeros(1000), atol=0.02)
    np.testing.assert_allclose(deviation, np.ones(1000), atol=0.02)


@pytest.mark.parametrize("n_members", [2, 3, 4, 6])
def test_every_row_is_left_out_by_a_member(n_members):
    X, _ = _gaussian(0, n=500)
    detector = clone(DETECTOR).set_params(n_estimators=n_members, max_epochs=1).fit(X)
    trained = detector._seen.trained
    assert trained.shape == (500, n_members)
    assert not trained.all(axis=1).any()
    assert trained.sum(axis=0).min() == trained.sum(axis=0).max()


def test_labels_of_clean_training_rows_are_all_normal():
    X, _ = _gaussian(0, n=300)
    detector = clone(DETECTOR).set_params(contamination=0)
    assert (detector.fit_predict(X) == 1).all()
