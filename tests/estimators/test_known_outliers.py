"""Thresholds: of known outliers, and of another contamination after the fit."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from skae import AutoencoderAnomalyDetector
from skae._anomaly.thresholds import threshold_between
from skae.io import load, save

RNG = np.random.default_rng(0)
MIX = RNG.normal(size=(3, 6))
NORMAL = RNG.normal(size=(600, 3)) @ MIX + 0.1 * RNG.normal(size=(600, 6))
ODD = RNG.normal(size=(40, 3)) @ MIX + 1.5 * RNG.normal(size=(40, 6))
X = np.vstack([NORMAL, ODD])


def test_threshold_between_is_half_way_or_the_usual_one():
    outliers, others = np.array([-5.0, -4.0, -1.0]), np.array([-3.0, -2.0, 0.0, 1.0])
    assert threshold_between(outliers, others, 9.0) == -3.5
    assert threshold_between(np.array([-5.0]), np.array([0.0, 1.0]), -2.0) == -2.5


@pytest.mark.parametrize("kind", ["auto", "reconstruction"])
def test_contamination_after_the_fit_is_that_of_a_fit(kind, tmp_path):
    settings = {"anomaly_score": kind, "max_epochs": 5, "random_state": 0}
    detector = AutoencoderAnomalyDetector(**settings).fit(X)
    scores, auto = detector.score_samples(X), detector.offset_
    save(detector, tmp_path / "detector.safetensors")
    for fitted in (detector, load(tmp_path / "detector.safetensors")):
        for contamination in (0.05, 0.2, 0, "auto"):
            fitted.set_contamination(contamination)
            other = AutoencoderAnomalyDetector(contamination=contamination, **settings).fit(X)
            # Declared clean before the fit, rows are scored otherwise.
            if kind != "auto" or contamination != 0:
                assert fitted.offset_ == other.offset_
            assert (fitted.predict(X) == -1).any() == (contamination != 0)
            assert fitted.get_params()["contamination"] == contamination
        assert fitted.offset_ == auto
        np.testing.assert_array_equal(fitted.score_samples(X), scores)


def test_contamination_after_the_fit_is_checked():
    detector = AutoencoderAnomalyDetector(max_epochs=2, random_state=0)
    with pytest.raises(NotFittedError):
        detector.set_contamination(0.1)
    offset = detector.fit(X).offset_
    with pytest.raises(ValueError, match="contamination"):
        detector.set_contamination(0.7)
    assert detector.offset_ == offset
    assert detector.contamination == "auto"


@pytest.mark.parametrize("some_normal", [False, True])
def test_known_outliers_set_the_threshold(some_normal):
    y = np.zeros(640, dtype=int)
    y[600:620] = -1
    if some_normal:
        y[:100] = 1
    plain = AutoencoderAnomalyDetector(random_state=0).fit(X)
    detector = AutoencoderAnomalyDetector(random_state=0).fit(X, y)
    assert detector.offset_ != plain.offset_

    def balanced(fitted):
        labels = fitted.predict(X)
        return (labels[620:] == -1).mean() + (labels[:600] == 1).mean()

    assert balanced(detector) > balanced(plain) - 0.02
    assert (detector.predict(X[600:620]) == -1).mean() > 0.9


def test_known_outliers_are_not_trained_on():
    y = np.zeros(640, dtype=int)
    y[600:] = -1
    settings = {"max_epochs": 5, "random_state": 0}
    detector = AutoencoderAnomalyDetector(**settings).fit(X, y)
    without = AutoencoderAnomalyDetector(**settings).fit(NORMAL)
    np.testing.assert_allclose(detector.score_samples(X), without.score_samples(X), rtol=1e-5)


@pytest.mark.parametrize("y", [np.arange(640) % 3, np.arange(640) % 2, np.ones(640)])
def test_other_targets_are_not_used(y):
    settings = {"max_epochs": 2, "random_state": 0}
    detector = AutoencoderAnomalyDetector(**settings).fit(X, y)
    assert detector.offset_ == AutoencoderAnomalyDetector(**settings).fit(X).offset_


def test_outliers_alone_are_refused():
    with pytest.raises(ValueError, match="y holds -1"):
        AutoencoderAnomalyDetector().fit(X, -np.ones(640))
