"""Rows of the fit that others are compared with, as they are."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from skae import AutoencoderAnomalyDetector

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(300, 4))
NEW = RNG.normal(size=(50, 4))
SMALL = {"n_components": 2, "hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}


def _novelty(X, **others):
    return AutoencoderAnomalyDetector(**SMALL, anomaly_score="novelty", **others).fit(X)


def _ring(n, rng):
    angles, radii = rng.uniform(0, 2 * np.pi, n), 5 + rng.normal(scale=0.2, size=n)
    return np.column_stack([radii * np.cos(angles), radii * np.sin(angles)])


def _scaled(detector, X):
    parts = [batch.values.numpy().copy() for batch in detector._model.batches(detector._check_X(X))]
    return np.concatenate(parts).astype(float)


def _near(detector, X, known):
    """The deviations of the nearest rows, read from the scorer."""
    found = []
    detector._model.map(
        X,
        lambda batch: (
            found.append(
                detector._scorer._from_neighbors(
                    detector._model.coded(batch, detector._seen.among(batch) if known else None)
                )[1]
            )
            or batch.values[:, 0]
        ),
    )
    return np.concatenate(found)


@pytest.mark.parametrize("known", [False, True])
def test_distances_are_those_to_the_nearest_other_row(known):
    detector = _novelty(TABLE)
    rows = TABLE if known else NEW
    train, scaled = _scaled(detector, TABLE), _scaled(detector, rows)
    neighbors = NearestNeighbors(n_neighbors=2).fit(train)
    own, found = neighbors.kneighbors(train)[0][:, 1], neighbors.kneighbors(scaled)[0]
    logs = np.log(own / np.sort(own)[150] + 0.01)
    location = np.sort(logs)[150]
    scale = 1.4826 * np.sort(np.abs(logs - location))[150]
    expected = (np.log(found[:, int(known)] / np.sort(own)[150] + 0.01) - location) / scale
    np.testing.assert_allclose(_near(detector, rows, known), expected, atol=1e-4)


def test_clean_rows_are_declared_by_contamination():
    declared = AutoencoderAnomalyDetector(**SMALL, contamination=0).fit(TABLE)
    np.testing.assert_array_equal(
        declared.score_samples(NEW), _novelty(TABLE, contamination=0).score_samples(NEW)
    )
    assert (declared.predict(TABLE) == 1).all()
    usual = AutoencoderAnomalyDetector(**SMALL).fit(TABLE)
    before = usual.score_samples(NEW)
    np.testing.assert_array_equal(usual.set_contamination(0).score_samples(NEW), before)


def test_a_hole_among_clean_rows_is_found():
    rng = np.random.default_rng(1)
    detector = _novelty(_ring(400, rng))
    inside, usual = rng.normal(scale=1.5, size=(100, 2)), _ring(200, rng)
    scores = detector.score_samples(np.concatenate([inside, usual]))
    assert roc_auc_score(np.repeat([0, 1], [100, 200]), scores) > 0.99


def test_a_cluster_of_outliers_does_not_vouch_for_itself():
    rng = np.random.default_rng(2)
    X = np.concatenate([rng.normal(size=(400, 4)), 6 + 0.05 * rng.normal(size=(12, 4))])
    detector = AutoencoderAnomalyDetector(random_state=0).fit(X)
    rows = detector._scorer.neighbors.rows.many[0]
    assert len(rows) == pytest.approx(0.8 * len(X), abs=3)
    far = _scaled(detector, X[400:]).mean(0)
    assert np.linalg.norm(rows - far, axis=1).min() > 1.0
    assert (detector.score_samples(X)[400:] < np.quantile(detector.score_samples(X), 0.05)).all()


def test_scores_of_training_and_new_rows_are_of_one_distribution():
    rng = np.random.default_rng(3)
    detector = AutoencoderAnomalyDetector(contamination=0, random_state=0)
    detector.fit(rng.normal(size=(1000, 6)))
    new = detector.score_samples(rng.normal(size=(1000, 6)))
    trained = detector.score_samples(np.random.default_rng(3).normal(size=(1000, 6)))
    np.testing.assert_allclose(
        np.quantile(new, [0.1, 0.5]), np.quantile(trained, [0.1, 0.5]), atol=0.2
    )


def test_missing_cells_are_as_expected():
    rng = np.random.default_rng(4)
    X = rng.normal(size=(400, 1)) + 0.1 * rng.normal(size=(400, 6))
    gaps = X.copy()
    gaps[rng.random(X.shape) < 0.2] = np.nan
    detector = _novelty(gaps)
    assert np.isfinite(detector.score_samples(gaps)).all()
    broken = X[:100].copy()
    broken[:, 0] += 3
    broken[:, 3] = np.nan
    scores = np.concatenate([detector.score_samples(broken), detector.score_samples(gaps[100:])])
    assert roc_auc_score(np.repeat([0, 1], [100, 300]), scores) > 0.95
