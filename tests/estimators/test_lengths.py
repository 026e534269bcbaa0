"""Targets of another length, and rows too few to tell anything, are errors."""

import numpy as np
import pytest

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)
from skae.checkpoints import resumable_fit

X = np.random.default_rng(0).normal(size=(60, 5))

FEW = {"max_epochs": 2, "random_state": 0, "device": "cpu"}

CLASSES = [
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
    AutoencoderAnomalyDetector,
]


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("cls", CLASSES)
class TestTargets:
    @pytest.mark.parametrize("y", [np.zeros(59), [0] * 61, np.zeros((3, 60))])
    def test_of_another_length(self, cls, method, y):
        estimator = cls(**FEW)
        before = dict(vars(estimator))
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            getattr(estimator, method)(X, y)
        assert vars(estimator) == before

    @pytest.mark.parametrize("y", [None, ["a"] * 60, np.full((60, 2), np.nan), 3], ids=str)
    def test_of_any_other_kind_are_not_looked_at(self, cls, method, y):
        expected = getattr(cls(**FEW), method)(X)
        estimator = getattr(cls(**FEW), method)(X, y)
        np.testing.assert_array_equal(estimator.score_samples(X), expected.score_samples(X))


def test_targets_of_another_length_on_other_ways_to_fit(tmp_path):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        AutoencoderTransformer(**FEW).fit_transform(X, [1, 2])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        resumable_fit(AutoencoderTransformer(**FEW), X, tmp_path / "run", y=[1, 2])


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    ("rows", "weights"),
    [(X[:1], None), (X[:20], np.eye(1, 20)[0]), (X[:1].reshape(1, 5, 1), None)],
    ids=["row", "row of positive weight", "image"],
)
def test_a_detector_of_one_row(method, rows, weights):
    detector = AutoencoderAnomalyDetector(**FEW)
    with pytest.raises(ValueError, match="n_samples=1: one row tells nothing of what is usual"):
        getattr(detector, method)(rows, sample_weight=weights)
    assert not hasattr(detector, "offset_")


def test_a_detector_of_two_rows():
    assert np.isfinite(AutoencoderAnomalyDetector(**FEW).fit(X[:2]).score_samples(X)).all()
