"""A fit whose network is useless is an error; one that is merely poor is not."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)
from skae.exceptions import DivergenceError
from skae.model_selection import AutoencoderSearchCV

TABLE = load_breast_cancer().data

IMAGES = load_digits().images[:300]

HOLES = np.where(np.random.default_rng(0).random(TABLE.shape) < 0.1, np.nan, TABLE)

CLASSES = [
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
    AutoencoderAnomalyDetector,
]

FEW = {"max_epochs": 15, "random_state": 0, "device": "cpu"}


def assert_diverges(estimator, X, method="fit", **options):
    before = pickle.dumps(estimator)
    with pytest.raises(DivergenceError, match="smaller learning_rate"):
        getattr(estimator, method)(X, **options)
    assert pickle.dumps(estimator) == before


@pytest.mark.parametrize("rate", [100.0, 1e3])
@pytest.mark.parametrize("X", [HOLES, IMAGES], ids=["holes", "images"])
@pytest.mark.parametrize("cls", CLASSES)
def test_a_rate_that_is_far_too_high(cls, X, rate):
    assert_diverges(cls(learning_rate=rate, **FEW), X)


@pytest.mark.parametrize(
    ("rate", "options"),
    [
        (1e6, {"loss": "absolute_error"}),
        (1e6, {"loss": "huber"}),
        (1e6, {"loss": "log_loss"}),
        (1e3, {"activation": "tanh"}),
        (1e3, {"activation": "relu"}),
        (1e3, {"normalization": "batch"}),
        (1e3, {"network": "conv"}),
        (1e3, {"early_stopping": True}),
        (1e3, {"lr_schedule": "constant", "max_epochs": 1}),
        (1e3, {"optimizer": "sgd"}),
        (1e3, {"precision": "bfloat16"}),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else None,
)
def test_with_any_settings(rate, options):
    estimator = AutoencoderTransformer(**FEW | {"learning_rate": rate} | options)
    assert_diverges(estimator, IMAGES if "network" in options else TABLE)


def test_predictions_that_are_not_finite():
    options = {"normalization": "batch", "learning_rate": 1e6, "max_epochs": 5}
    assert_diverges(AutoencoderTransformer(**FEW | options), TABLE)


def test_a_step_that_ruins_the_network_after_its_loss_was_noted():
    fitted = AutoencoderTransformer(**FEW).fit(TABLE)
    fitted.set_params(learning_rate=1e3)
    assert_diverges(fitted, TABLE[:32], "partial_fit")
    assert fitted.score(TABLE) > 0.9
    assert_diverges(fitted.set_params(warm_start=True), TABLE)


def test_a_candidate_of_a_search_diverges_by_itself():
    rates = {"learning_rate": [0.003, 1e3]}
    search = AutoencoderSearchCV(AutoencoderTransformer(**FEW), rates, cv=2, error_score=-9.0)
    with pytest.warns(match="fits failed"):
        search.fit(TABLE)
    assert search.cv_results_["mean_test_score"][1] == -9.0
    assert search.cv_results_["mean_test_score"][0] > 0.8


RNG = np.random.default_rng(1)

POOR = {
    "tails": RNG.standard_cauchy((300, 6)),
    "an outlier": np.vstack([RNG.normal(size=(299, 6)), np.full((1, 6), 1e4)]),
    "far from zero": 1e5 + RNG.normal(size=(60, 6)),
    "tiny": 1e-9 * RNG.normal(size=(60, 6)),
    "flags": (RNG.random((300, 6)) < 0.01).astype(float),
    "one row": RNG.normal(size=(1, 6)),
    "constant": np.ones((40, 6)),
}


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber", "log_loss"])
@pytest.mark.parametrize("X", POOR.values(), ids=POOR)
@pytest.mark.parametrize(
    "cls", [CLASSES[0], *(pytest.param(cls, marks=pytest.mark.slow) for cls in CLASSES[1:3])]
)
def test_a_poor_fit_is_none(cls, X, loss):
    weights = 10.0 ** RNG.integers(-6, 6, len(X))
    for scaling in ["auto"] if loss == "log_loss" else ["auto", "robust", None]:
        estimator = cls(loss=loss, scaling=scaling, **FEW | {"max_epochs": 1})
        estimator.fit(X)
        clone(estimator).set_params(init="random", batch_size=2).fit(
            X[:50], sample_weight=weights[:50]
        )
        for part in np.array_split(X, min(4, len(X))):
            estimator.partial_fit(part)


def test_a_stream_that_drifts_far_is_none():
    estimator = AutoencoderTransformer(random_state=0)
    for k in range(7):
        estimator.partial_fit(10.0**k * RNG.normal(size=(64, 6)))
