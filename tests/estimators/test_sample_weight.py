"""Weights of rows: repetitions, relative, and routed."""

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import (
    GridSearchCV,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)

RNG = np.random.default_rng(0)

X = RNG.normal(size=(200, 6)) @ RNG.normal(size=(6, 6))

SMALL = {
    "n_components": 3,
    "hidden_layer_sizes": (16,),
    "batch_size": 64,
    "max_epochs": 5,
    "random_state": 0,
    "device": "cpu",
}

CLASSES = [
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
    AutoencoderAnomalyDetector,
]

each_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)

TRANSFORMERS = CLASSES[:3]

each_transformer = pytest.mark.parametrize("cls", TRANSFORMERS, ids=lambda cls: cls.__name__)


# Weights and routing.


@each_class
@pytest.mark.parametrize("changes", [{}, {"normalization": "layer"}, {"loss": "huber"}], ids=str)
def test_sample_weight_equals_repeated_rows(cls, changes):
    data, weights = X[:80], np.random.default_rng(1).integers(0, 4, size=80)
    options = SMALL | {"batch_size": 512, "max_epochs": 30} | changes
    if cls is AutoencoderAnomalyDetector:
        options["max_samples"] = 1.0
    weighted = cls(**options).fit(data, sample_weight=weights)
    repeated = cls(**options).fit(np.repeat(data, weights, axis=0))
    np.testing.assert_allclose(weighted.loss_curve_, repeated.loss_curve_, rtol=1e-6)
    np.testing.assert_allclose(
        weighted.score_samples(X), repeated.score_samples(X), rtol=1e-4, atol=1e-5
    )
    if cls is AutoencoderAnomalyDetector:
        assert weighted.offset_ == pytest.approx(repeated.offset_, rel=1e-4)


def test_weights_are_relative():
    once = AutoencoderTransformer(**SMALL).fit(X, sample_weight=np.full(200, 1.0))
    thrice = AutoencoderTransformer(**SMALL).fit(X, sample_weight=np.full(200, 3.0))
    plain = AutoencoderTransformer(**SMALL).fit(X)
    for weighted in (once, thrice):
        np.testing.assert_allclose(weighted.transform(X), plain.transform(X), rtol=1e-3, atol=1e-4)


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.usefixtures("routing")
@each_transformer
def test_sample_weight_is_routed_through_a_pipeline(cls):
    weights = np.random.default_rng(2).uniform(0.1, 5.0, size=len(X))
    step = cls(**SMALL).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    pipeline = Pipeline([("same", FunctionTransformer()), ("latents", step)])
    pipeline.fit(X, sample_weight=weights)
    alone = cls(**SMALL).fit(X, sample_weight=weights)
    unweighted = cls(**SMALL).fit(X)
    np.testing.assert_array_equal(pipeline.transform(X), alone.transform(X))
    assert not np.array_equal(alone.transform(X), unweighted.transform(X))
    assert pipeline.score(X, sample_weight=weights) == alone.score(X, sample_weight=weights)


@pytest.mark.usefixtures("routing")
def test_sample_weight_that_nobody_asked_for_is_refused():
    pipeline = make_pipeline(FunctionTransformer(), AutoencoderTransformer(**SMALL))
    with pytest.raises(ValueError, match="sample_weight"):
        pipeline.fit(X, sample_weight=np.ones(len(X)))


@pytest.mark.usefixtures("routing")
def test_sample_weight_is_routed_through_a_search():
    weights = np.r_[np.full(100, 1e-6), np.ones(100)]
    step = AutoencoderTransformer(**SMALL, init="random")
    step.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    search = GridSearchCV(step, {"max_epochs": [1, 40]}, cv=2).fit(X, sample_weight=weights)
    assert search.best_params_ == {"max_epochs": 40}
    expected = clone(step).set_params(max_epochs=40).fit(X, sample_weight=weights)
    np.testing.assert_array_equal(search.transform(X), expected.transform(X))
