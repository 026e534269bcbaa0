"""AutoencoderAnomalyDetector: scores, thresholds, contributions."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score

import skae._estimators.calibrated
from skae import AutoencoderAnomalyDetector
from skae._anomaly.rows import SCORES
from skae._estimators import callbacks
from skae._runtime.randomness import subsamples

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


def test_contributions_sum_to_the_score_and_name_the_planted_column(fitted):
    rows = BENIGN[200:260].copy()
    columns = np.arange(60) % X.shape[1]
    rows[np.arange(60), columns] += 6 * BENIGN.std(axis=0)[columns]
    contributions = fitted.feature_contributions(rows)
    assert (contributions >= 0).all()
    expected = -fitted.score_samples(rows).clip(max=0.0)
    assert (expected > 0).mean() > 0.9
    np.testing.assert_allclose(contributions.sum(axis=1), expected, rtol=1e-9)
    assert (contributions.argmax(axis=1) == columns).mean() > 0.9


def test_contributions_of_the_reconstruction_score_sum_to_the_error():
    detector = AutoencoderAnomalyDetector(anomaly_score="reconstruction", random_state=0)
    contributions = detector.fit(BENIGN).feature_contributions(X)
    np.testing.assert_allclose(contributions.sum(1), -detector.score_samples(X), rtol=1e-5)


@pytest.mark.parametrize("kind", ["auto", "reconstruction"])
def test_missing_cells_contribute_nothing(kind):
    detector = AutoencoderAnomalyDetector(anomaly_score=kind, random_state=0).fit(BENIGN[:200])
    rows = BENIGN[200:210].copy()
    rows[:, 3] = np.nan
    contributions = detector.feature_contributions(rows)
    assert (contributions[:, 3] == 0).all()
    expected = -detector.score_samples(rows).clip(max=0.0)
    np.testing.assert_allclose(contributions.sum(axis=1), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in SCORES if kind != "reconstruction"])
def test_each_kind_of_score_finds_malignant_tumors_by_benign_ones(kind):
    detector = AutoencoderAnomalyDetector(anomaly_score=kind, random_state=0).fit(BENIGN[:200])
    test = np.vstack([BENIGN[200:], X[Y == 0]])
    labels = np.r_[np.zeros(len(BENIGN) - 200), np.ones((Y == 0).sum())]
    assert roc_auc_score(labels, -detector.score_samples(test)) > 0.93


def test_cluster_of_outliers_in_the_training_rows_is_found():
    """Near neighbors call a dense cluster normal, few random rows do not."""
    rng = np.random.default_rng(0)
    rows = np.vstack([rng.normal(size=(950, 6)), 6 + 0.1 * rng.normal(size=(50, 6))])
    labels = np.repeat([0, 1], [950, 50])
    detector = AutoencoderAnomalyDetector(random_state=0).fit(rows)
    assert roc_auc_score(labels, -detector.score_samples(rows)) > 0.99
    nearest = AutoencoderAnomalyDetector(anomaly_score="nearest", random_state=0).fit(rows)
    assert roc_auc_score(labels, -nearest.score_samples(rows)) < 0.9


def test_scores_of_rows_like_the_training_rows_have_median_zero_and_unit_spread():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2000, 4)) @ rng.normal(size=(4, 10)) + 0.3 * rng.normal(size=(2000, 10))
    detector = AutoencoderAnomalyDetector(random_state=0).fit(rows[:1000])
    deviations = detector._typical.deviations(detector.score_samples(rows[1000:]))
    assert abs(np.median(deviations)) < 0.2
    assert 0.6 < 1.4826 * np.median(np.abs(deviations - np.median(deviations))) < 1.4


def test_outlier_probability_is_one_half_at_the_threshold_and_falls_with_the_score(fitted):
    scores, probabilities = fitted.score_samples(X), fitted.outlier_probability(X)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    np.testing.assert_array_equal(probabilities > 0.5, fitted.predict(X) == -1)
    order = np.argsort(scores)
    assert (np.diff(probabilities[order]) <= 0).all()
    one_deviation = fitted.offset_ - fitted._typical.deviation
    expected = 1 / (1 + np.exp(-1.0))
    at = np.interp(one_deviation, scores[order], probabilities[order])
    assert at == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("size", [1e6, 1e20, 1e38, 1e300])
@pytest.mark.parametrize("kind", ["auto", "isolation", "mahalanobis", "nearest"])
def test_whatever_overflows_is_an_outlier(size, kind):
    rows = np.random.default_rng(0).normal(size=(300, 5))
    detector = AutoencoderAnomalyDetector(anomaly_score=kind, random_state=0).fit(rows)
    far = rows[:5].copy()
    far[:, 2] = size
    assert np.isfinite(detector.score_samples(far)).all()
    assert (detector.score_samples(far) < detector.score_samples(rows).min()).all()
    assert (detector.predict(far) == -1).all()
    contributions = detector.feature_contributions(far)
    assert np.isfinite(contributions).all()


def test_no_contamination_flags_no_training_row():
    detector = AutoencoderAnomalyDetector(contamination=0, random_state=0).fit(BENIGN)
    assert (detector.predict(BENIGN) == 1).all()
    assert (detector.predict(10 * BENIGN) == -1).mean() > 0.9


def test_large_data_are_calibrated_on_a_sample_of_held_out_rows(monkeypatch):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3000, 4))
    whole = AutoencoderAnomalyDetector(random_state=0).fit(rows)
    monkeypatch.setattr(skae._estimators.calibrated, "CALIBRATION_ROWS", 500)
    sampled = AutoencoderAnomalyDetector(random_state=0).fit(rows)
    assert torch.equal(sampled.encoder_[0].weight, whole.encoder_[0].weight)
    odd = rows[:100] + 8.0 * np.eye(4)[rng.integers(4, size=100)]
    labels = np.repeat([0, 1], [3000, 100])
    assert roc_auc_score(labels, -sampled.score_samples(np.vstack([rows, odd]))) > 0.99
    assert abs(sampled._typical.median - whole._typical.median) < 0.2


def test_members_are_trained_on_their_own_share_of_the_rows():
    seen = subsamples(1000, 800, (1, 2, 3))
    assert seen.shape == (3, 800)
    assert all(len(set(rows.tolist())) == 800 for rows in seen)
    assert len(set(seen[0].tolist()) & set(seen[1].tolist())) < 700
    detector = AutoencoderAnomalyDetector(n_estimators=3, max_samples=50, random_state=0)
    assert detector.fit(X).n_estimators_ == 3
    assert detector._model.network.n_members == 3
    assert detector._plan(len(X), torch.float32, False, False).max_samples == 50


def test_several_members_of_user_modules_are_refused():
    def pair(input_shape, n_components):
        width = input_shape[0]
        return torch.nn.Linear(width, n_components), torch.nn.Linear(n_components, width)

    detector = AutoencoderAnomalyDetector(network=pair, max_epochs=2, random_state=0)
    assert detector.fit(X).n_estimators_ == 1
    with pytest.raises(ValueError, match="n_estimators=1"):
        detector.set_params(n_estimators=2).fit(X)


def test_calibrating_on_drifted_rows_moves_the_threshold_and_not_the_network():
    detector = AutoencoderAnomalyDetector(random_state=0).fit(BENIGN)
    drifted = BENIGN + 3 * BENIGN.std(axis=0)
    assert (detector.predict(drifted) == -1).mean() > 0.9
    before = detector.encoder_[0].weight.clone()
    detector.calibrate(drifted)
    assert (detector.predict(drifted) == -1).mean() < 0.2
    assert torch.equal(detector.encoder_[0].weight, before)


def test_wide_rows_are_scored_by_a_projection():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 600)) + 0.1 * rng.normal(size=(200, 600))
    detector = AutoencoderAnomalyDetector(random_state=0).fit(rows[:100])
    odd = rows[100:] + rng.normal(size=(100, 600))
    # Beside them stands the size of what is outside of the 75 axes.
    assert detector._scorer.members[0].few.shape[-1] == 256 + 1
    labels = np.repeat([0, 1], 100)
    scores = detector.score_samples(np.vstack([rows[100:], odd]))
    assert roc_auc_score(labels, -scores) > 0.99


def test_partial_fit_moves_the_offset_with_the_scores():
    detector = AutoencoderAnomalyDetector(contamination=0.1, random_state=0)
    for _ in range(20):
        detector.partial_fit(BENIGN)
    assert (detector.predict(BENIGN) == -1).sum() == int(0.1 * len(BENIGN))


def test_rare_flags_are_no_outliers_by_themselves():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=(600, 3)) @ rng.normal(size=(3, 6)), np.zeros((600, 20))])
    X[np.arange(40), 6 + np.arange(40) // 2] = 1.0  # Each flag is set in two rows.
    odd = X[100:140].copy()
    odd[:, :6] += rng.normal(size=(40, 6)) * X[:, :6].std(axis=0) * 3.0
    scores = AutoencoderAnomalyDetector(random_state=0).fit(X).score_samples
    assert np.median(scores(X[:40])) > np.median(scores(odd)) + 1.0
    standard = AutoencoderAnomalyDetector(scaling="standard", random_state=0).fit(X).score_samples
    assert np.median(standard(X[:40])) < np.median(standard(odd))


@pytest.mark.parametrize(
    ("shape", "changes", "rate"),
    [
        ((40, 32), {}, 3e-3 * 784 / 1280),
        ((28, 28), {}, 3e-3),
        ((9, 9), {}, 3e-3),
        ((40, 32), {"anomaly_score": "reconstruction"}, 3e-3),
        ((40, 32), {"learning_rate": 3e-3}, 3e-3),
        ((40, 32), {"learning_rate": 0.02}, 0.02),
        ((1280,), {}, 3e-3),
    ],
    ids=str,
)
def test_rate_of_large_images_is_smaller_unless_it_is_a_number(shape, changes, rate, monkeypatch):
    plans = []
    run = callbacks.run
    monkeypatch.setattr(callbacks, "run", lambda job: plans.append(job.plan) or run(job))
    images = np.random.default_rng(0).random((6, *shape))
    settings = {"hidden_layer_sizes": (4,), "max_epochs": 1, "random_state": 0}
    AutoencoderAnomalyDetector(**settings, n_estimators=2, **changes).fit(images)
    [plan] = plans
    assert plan.learning_rates == pytest.approx((rate, rate), rel=1e-12)
