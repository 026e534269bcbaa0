"""Unusable data get an error that says what to do, and change nothing."""

import numpy as np
import pytest
from scipy import sparse
from torch import nn

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)
from skae.exceptions import DivergenceError

RNG = np.random.default_rng(0)

X = RNG.normal(size=(150, 8)) @ RNG.normal(size=(8, 8))

SMALL = {
    "n_components": 3,
    "hidden_layer_sizes": (16,),
    "batch_size": 64,
    "max_epochs": 3,
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


def outputs(estimator, X=X):
    names = ("transform", "reconstruct", "score_samples", "decision_function")
    return {name: getattr(estimator, name)(X) for name in names if hasattr(estimator, name)}


def assert_same_bits(results, expected):
    assert results.keys() == expected.keys()
    for name, result in results.items():
        np.testing.assert_array_equal(result, expected[name], err_msg=name)


def assert_refused(estimator, X, words, method="fit", error=(ValueError, TypeError)):
    """The call fails, the message holds all the words, and the estimator is as it was."""
    before = dict(vars(estimator))
    with pytest.raises(error) as caught:
        getattr(estimator, method)(X)
    now = vars(estimator)
    assert now.keys() == before.keys()
    assert all(now[name] is before[name] for name in now)
    for word in words:
        assert word in str(caught.value), f"{word!r} is not in {caught.value}"


def _network(encoder, decoder, pack=tuple):
    return lambda input_shape, n_components: pack((encoder, decoder))


def _with(value, dtype=np.float64):
    data = X.astype(dtype)
    data[7, 2] = value
    return data


BAD_DATA = {
    "positive infinity": (_with(np.inf), ["X", "infinity", "NaN"]),
    "negative infinity": (_with(-np.inf), ["X", "infinity", "NaN"]),
    "infinity in float32": (_with(np.inf, np.float32), ["X", "infinity"]),
    "infinity in float16": (_with(np.inf, np.float16), ["X", "infinity"]),
    "infinities of both signs": (np.where(_with(9e9) == 9e9, np.inf, -np.inf), ["infinity"]),
    "infinity beside NaN": (np.where(X[8] == X, np.nan, _with(np.inf)), ["X", "infinity"]),
    "sparse infinity": (sparse.csr_matrix(_with(np.inf)), ["X", "infinity"]),
    "no rows": (np.empty((0, 8)), ["0 sample", "minimum of 1"]),
    "no columns": (np.empty((8, 0)), ["0 feature", "minimum of 1"]),
    "one dimension": (X[:, 0], ["1D array", "reshape"]),
    "five dimensions": (X.reshape(-1, 2, 2, 2, 1), ["dim 5", "images"]),
    "a scalar": (3.0, ["scalar"]),
    "complex": (X + 1j, ["omplex"]),
    "strings": (np.full((5, 8), "a"), ["a"]),
    "objects": (np.array([[{}, 1.0]] * 4, dtype=object), ["dict"]),
    "strings among numbers": (np.array([["x", 1.0]] * 4, dtype=object), ["x"]),
    "nothing": (None, ["None"]),
}


@pytest.mark.parametrize("name", BAD_DATA)
@each_class
def test_unusable_data_is_refused(cls, name):
    data, words = BAD_DATA[name]
    for method in ("fit", "partial_fit"):
        assert_refused(cls(**SMALL), data, words, method)


@pytest.mark.parametrize("name", [name for name in BAD_DATA if "columns" not in name])
@each_class
def test_unusable_data_is_refused_by_a_fitted_estimator(cls, name):
    data, words = BAD_DATA[name]
    if np.ndim(data) == 2 and not sparse.issparse(data) and data.shape[1] != 8:
        words = []
    estimator = cls(**SMALL).fit(X)
    expected = outputs(estimator)
    for method in ("fit", "partial_fit", "score_samples", "transform", "reconstruct", "predict"):
        if hasattr(estimator, method):
            assert_refused(estimator, data, words, method)
    assert_same_bits(outputs(estimator), expected)


@each_class
def test_wrong_number_of_features_is_refused(cls):
    estimator = cls(**SMALL).fit(X)
    for method in ("partial_fit", "score_samples", "transform", "reconstruct", "score", "predict"):
        if hasattr(estimator, method):
            assert_refused(estimator, X[:, :5], ["5 features", "8 features"], method)
    assert_refused(estimator.set_params(warm_start=True), X[:, :5], ["5 features", "8 features"])


def test_latents_of_the_wrong_width_are_refused():
    estimator = AutoencoderTransformer(**SMALL).fit(X)
    for bad, words in [
        (X, ["8 columns", "n_components_=3", "transform"]),
        (np.full((2, 3), np.nan), ["NaN"]),
        (np.full((2, 3), np.inf), ["infinity"]),
    ]:
        assert_refused(estimator, bad, words, "inverse_transform")


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (np.ones(149), ["sample_weight"]),
        (-np.ones(150), ["sample_weight", "egative"]),
        (np.zeros(150), ["weight", "zero"]),
        (np.full(150, np.nan), ["NaN"]),
        (np.full(150, np.inf), ["infinity"]),
        (np.ones((150, 2)), ["1D"]),
    ],
    ids=["short", "negative", "zero", "NaN", "infinite", "2-D"],
)
@each_class
def test_unusable_sample_weights_are_refused(cls, weights, words):
    estimator = cls(**SMALL)
    before = dict(vars(estimator))
    with pytest.raises(ValueError) as caught:
        estimator.fit(X, sample_weight=weights)
    assert vars(estimator) == before
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("data", "scaling"), [(X, None), (X, "standard"), (X, "robust"), (3 * np.abs(X), None)]
)
def test_log_loss_of_data_outside_of_zero_and_one_is_refused(data, scaling):
    estimator = AutoencoderTransformer(**SMALL, loss="log_loss", scaling=scaling)
    assert_refused(estimator, data, ["log_loss", "[0, 1]", f"scaling={scaling!r}", "minmax"])


def test_log_loss_reconstructs_in_the_users_units():
    estimator = AutoencoderTransformer(**SMALL | {"max_epochs": 100}, loss="log_loss").fit(X)
    result = estimator.reconstruct(X)
    assert (result >= X.min(0) - 1e-4).all()
    assert (result <= X.max(0) + 1e-4).all()
    assert np.mean((result - X) ** 2) < 0.5 * X.var(0).mean()


@pytest.mark.parametrize(
    ("n_rows", "method"), [(150, "fit"), (150, "partial_fit"), (3, "fit"), (65, "fit")]
)
@pytest.mark.parametrize("network", ["mlp", "modules"])
def test_divergence_names_the_loss_the_learning_rate_and_scaling(n_rows, method, network):
    if network == "modules":
        network = _network(
            nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)), nn.Linear(3, 8)
        )
    estimator = AutoencoderTransformer(
        **SMALL | {"max_epochs": 50, "batch_size": 2},
        network=network,
        activation="relu",
        scaling=None,
        optimizer="sgd",
        learning_rate=1e6,
        lr_schedule="constant",
    )
    words = ["diverged", "loss='squared_error'", "learning_rate", "1e+06", "scaling='standard'"]
    assert_refused(estimator, 1e3 * X[:n_rows], words, method, error=DivergenceError)
    assert isinstance(DivergenceError(""), ValueError)
