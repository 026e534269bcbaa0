"""What users of IsolationForest expect of AutoencoderAnomalyDetector."""

import threading
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone, is_outlier_detector
from sklearn.datasets import load_iris
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from skae import AutoencoderAnomalyDetector

IRIS = load_iris().data
# Six rows in two groups, and two rows far from both.
TOY = [[-2, -1], [-1, -1], [-1, -2], [1, 1], [1, 2], [2, 1], [7, 4], [-5, 9]]
SEEDS = range(2)


def _detector(**options):
    return AutoencoderAnomalyDetector(**{"random_state": 0, "device": "cpu"} | options)


@pytest.fixture(scope="module")
def fitted():
    return _detector().fit(IRIS)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("contamination", [0.25, "auto"])
def test_the_two_outliers_of_eight_rows_are_found(contamination, seed):
    detector = _detector(contamination=contamination, random_state=seed).fit(TOY)
    margin = detector.decision_function(TOY)
    assert margin[6:].max() < 0 < margin[:6].min()
    assert detector.predict(TOY).tolist() == [1] * 6 + [-1] * 2


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_between_two_clusters_are_told_from_those_inside(seed):
    rng = np.random.default_rng(seed)
    inside = rng.normal(scale=0.3, size=(700, 2)) + rng.choice([-2, 2], size=(700, 1))
    between = rng.uniform(-1, 1, size=(100, 2))
    truth = np.repeat([1, 0], 100)
    scores = (
        _detector(random_state=seed)
        .fit(inside[:600])
        .score_samples(np.vstack([inside[600:], between]))
    )
    assert roc_auc_score(truth, scores) > 0.99


@pytest.mark.parametrize("max_samples", [0.5, 1.0, 2, "auto"])
def test_two_rows_are_enough(max_samples):
    detector = _detector(max_samples=max_samples).fit([[0, 1], [1, 2]])
    assert np.isfinite(detector.score_samples([[2, 1], [1, 1]])).all()


@pytest.mark.parametrize("container", ["csr_array", "csc_array", "csr_matrix", "coo_array"])
def test_sparse_rows_have_the_scores_of_dense_ones(fitted, container):
    rows = getattr(sparse, container)(IRIS)
    detector = clone(fitted).fit(rows)
    np.testing.assert_array_equal(detector.score_samples(rows), fitted.score_samples(IRIS))


@pytest.mark.parametrize("contamination", [0.1, 0.3])
def test_share_of_sparse_training_rows_is_flagged(contamination):
    rows = sparse.csr_array(IRIS)
    labels = _detector(contamination=contamination).fit_predict(rows)
    assert (labels == -1).mean() == pytest.approx(contamination)


def test_score_is_the_margin_above_the_offset_whatever_the_contamination(fitted):
    other = clone(fitted).set_params(contamination=0.1).fit(IRIS)
    row = [[6.0, 3.0, 4.0, 1.0]]
    for detector in (fitted, other):
        margin = detector.score_samples(row) - detector.offset_
        np.testing.assert_array_equal(detector.decision_function(row), margin)
    np.testing.assert_array_equal(fitted.score_samples(row), other.score_samples(row))


def test_more_samples_than_rows_warn_and_mean_all_rows():
    with pytest.warns(UserWarning, match=r"max_samples=1000 .* 150 rows"):
        detector = _detector(max_samples=1000).fit(IRIS)
    assert detector.max_samples_ == 150
    whole = _detector(max_samples=150).fit(IRIS)
    np.testing.assert_array_equal(detector.score_samples(IRIS), whole.score_samples(IRIS))


@pytest.mark.parametrize(("max_samples", "expected"), [(0.4, 60), (np.int64(20), 20), (1.0, 150)])
def test_number_of_samples_is_told(max_samples, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector = _detector(max_samples=max_samples).fit(IRIS)
    assert detector.max_samples_ == expected


def test_other_columns_are_refused(fitted):
    with pytest.raises(ValueError, match="X has 3 features"):
        fitted.predict(IRIS[:, 1:])


@pytest.mark.parametrize("contamination", ["auto", 0.1])
@pytest.mark.parametrize("value", [1.0, -0.37])
def test_rows_that_are_all_the_same_are_normal(value, contamination):
    rows = np.full((50, 5), value)
    assert (_detector(contamination=contamination).fit_predict(rows) == 1).all()


def test_a_value_that_a_constant_column_never_had_is_an_outlier():
    # A forest cannot split a constant column, and calls any value of it normal.
    rows = np.ones((50, 5))
    assert (IsolationForest(n_estimators=5).fit(rows).predict(rows + 1) == 1).all()
    assert (_detector().fit(rows).predict(rows + 1) == -1).all()


def test_a_numeric_contamination_keeps_the_names_of_columns():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(IRIS, columns=list("abcd"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector = _detector(contamination=0.05).fit(frame)
        assert (detector.predict(frame) == -1).sum() == 7
    assert detector.feature_names_in_.tolist() == list("abcd")


def test_batches_do_not_change_scores(fitted):
    whole = fitted.score_samples(IRIS)
    for length in (1, 3, 10):
        parts = [IRIS[i : i + length] for i in range(0, 30, length)]
        scores = np.concatenate([fitted.score_samples(part) for part in parts])
        np.testing.assert_array_equal(scores, whole[:30])


def test_threads_share_a_fitted_detector(fitted):
    expected, found = fitted.score_samples(IRIS), [None] * 4

    def score(i):
        found[i] = np.concatenate([fitted.score_samples(IRIS[j : j + 5]) for j in range(0, 150, 5)])

    threads = [threading.Thread(target=score, args=(i,)) for i in range(len(found))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for scores in found:
        np.testing.assert_array_equal(scores, expected)


def test_it_is_an_outlier_detector_to_scikit_learn(fitted):
    assert is_outlier_detector(fitted)
    assert set(fitted.predict(IRIS)) <= {-1, 1}


def test_fits_are_repeatable_by_seed_and_differ_without_one(fitted):
    again = clone(fitted).fit(IRIS)
    np.testing.assert_array_equal(again.score_samples(IRIS), fitted.score_samples(IRIS))
    other = clone(fitted).set_params(random_state=1).fit(IRIS)
    assert (other.score_samples(IRIS) != fitted.score_samples(IRIS)).all()


def test_weights_of_zero_leave_rows_out(fitted):
    strange = np.vstack([IRIS, np.full((5, 4), 50.0)])
    weights = np.repeat([1.0, 0.0], [150, 5])
    detector = clone(fitted).fit(strange, sample_weight=weights)
    np.testing.assert_array_equal(detector.score_samples(IRIS), fitted.score_samples(IRIS))
