"""What users of LocalOutlierFactor expect of AutoencoderAnomalyDetector."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderAnomalyDetector

IRIS = load_iris().data
TOY = [[-2, -1], [-1, -1], [-1, -2], [1, 1], [1, 2], [2, 1], [5, 3], [-4, 2]]


def _detector(**options):
    return AutoencoderAnomalyDetector(**{"random_state": 0, "device": "cpu"} | options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_the_two_outliers_of_eight_rows_score_lowest(dtype):
    rows = np.array(TOY, dtype=dtype)
    detector = _detector(contamination=0.25)
    assert detector.fit_predict(rows).tolist() == [1] * 6 + [-1] * 2
    scores = detector.score_samples(rows)
    assert scores[6:].max() < scores[:6].min()


def test_new_outliers_around_one_cluster_are_found():
    rng = np.random.default_rng(2)
    rows, strange = rng.normal(scale=0.3, size=(120, 2)), rng.uniform(-4, 4, size=(20, 2))
    scores = _detector().fit(rows[:100]).score_samples(np.vstack([rows[100:], strange]))
    assert roc_auc_score(np.repeat([1, 0], 20), scores) > 0.98


def test_novelty_and_outlier_detection_are_one_mode():
    # LocalOutlierFactor has either fit_predict or predict, by its parameter novelty.
    assert not hasattr(LocalOutlierFactor(novelty=True), "fit_predict")
    detector = _detector()
    labels = detector.fit_predict(IRIS)
    np.testing.assert_array_equal(detector.predict(IRIS), labels)
    for method in ("decision_function", "score_samples", "predict", "fit_predict"):
        assert hasattr(detector, method)


@pytest.mark.parametrize("n_outliers", [15, 30, 53])
def test_as_many_training_rows_are_flagged_as_contamination_says(n_outliers):
    labels = _detector(contamination=n_outliers / 150).fit_predict(IRIS)
    assert (labels == -1).sum() == n_outliers


def test_scores_of_training_rows_are_of_the_kind_of_new_ones():
    rng = np.random.default_rng(0)
    rows, new = rng.normal(size=(300, 4)), rng.normal(size=(2000, 4))
    detector = _detector().fit(rows)
    medians = np.median(detector.score_samples(rows)), np.median(detector.score_samples(new))
    assert medians[0] == pytest.approx(medians[1], abs=0.2)


def test_float32_rows_have_nearly_the_scores_of_float64_ones():
    rows = IRIS.astype(np.float32)
    scores, expected = (_detector().fit(X).score_samples(X) for X in (rows, IRIS))
    np.testing.assert_allclose(scores, expected, atol=1e-3)
    assert scores.dtype == np.float64


def test_units_of_a_column_do_not_matter():
    # Neighbors are counted in the units of the table.
    rows, factors = IRIS[:100], [1.0, 1e3, 1e-3, 1.0]
    scores, other = (_detector().fit(X).score_samples(X) for X in (rows, rows * factors))
    np.testing.assert_allclose(other, scores, atol=1e-3)


def test_copies_of_one_row_are_normal():
    rng = np.random.default_rng(0)
    rows = np.vstack([np.zeros((50, 2)), rng.normal(size=(10, 2))])
    assert (_detector().fit_predict(rows)[:50] == 1).all()


def test_one_row_is_refused_by_fit_and_by_calibrate():
    with pytest.raises(ValueError, match="n_samples=1"):
        _detector().fit(IRIS[:1])
    detector = _detector().fit(IRIS)
    before = detector.score_samples(IRIS)
    with pytest.raises(ValueError, match="n_samples=1"):
        detector.calibrate(IRIS[:1])
    with pytest.raises(ValueError, match="n_samples=1"):
        detector.calibrate(IRIS[:3], sample_weight=[0, 1, 0])
    np.testing.assert_array_equal(detector.score_samples(IRIS), before)


def test_scores_at_the_end_of_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), _detector()).fit(IRIS)
    scaled = StandardScaler().fit_transform(IRIS)
    expected = clone(pipeline[-1]).fit(scaled)
    for method in ("score_samples", "decision_function", "predict"):
        np.testing.assert_array_equal(
            getattr(pipeline, method)(IRIS), getattr(expected, method)(scaled)
        )
