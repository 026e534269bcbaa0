"""Bad parameters get an error that names them, their value and what to pass."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from torch import nn

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)

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


def outputs(estimator, X=X):
    names = ("transform", "reconstruct", "score_samples", "decision_function")
    return {name: getattr(estimator, name)(X) for name in names if hasattr(estimator, name)}


def assert_same_bits(results, expected):
    assert results.keys() == expected.keys()
    for name, result in results.items():
        np.testing.assert_array_equal(result, expected[name], err_msg=name)


def assert_finite(estimator, X):
    for name, result in outputs(estimator, X).items():
        assert np.isfinite(result).all(), name
    assert np.isfinite(estimator.loss_curve_).all()


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


BAD_PARAMETERS = [
    ({"activation": "swish"}, ["activation", "'swish'", "'relu'"]),
    ({"loss": "mse"}, ["loss", "'mse'", "'squared_error'"]),
    ({"optimizer": "rmsprop"}, ["optimizer", "'rmsprop'", "'adam'"]),
    ({"scaling": "zscore"}, ["scaling", "'zscore'", "'standard'"]),
    ({"scaling": 3.0}, ["scaling", "3.0"]),
    ({"scaling": ...}, ["scaling", "inverse_transform"]),
    ({"device": "tpu"}, ["device", "'tpu'", "'cpu'", "'auto'"]),
    ({"device": "cuda:99"}, ["device", "'cuda:99'", "'cpu'", "'auto'"]),
    ({"device": 0}, ["device", "0"]),
    ({"precision": "float16"}, ["precision", "'float16'", "'bfloat16'"]),
    ({"lr_schedule": "step"}, ["lr_schedule", "'step'", "'cosine'"]),
    ({"normalization": "group"}, ["normalization", "'group'", "'batch'"]),
    ({"network": "transformer"}, ["network", "'transformer'"]),
    ({"n_components": 0}, ["n_components", "0"]),
    ({"n_components": -2}, ["n_components", "-2"]),
    ({"n_components": 2.5}, ["n_components", "2.5"]),
    ({"n_components": True}, ["n_components", "True"]),
    ({"n_components": np.True_}, ["n_components", "True"]),
    ({"n_components": "many"}, ["n_components", "'many'", "'auto'"]),
    ({"hidden_layer_sizes": (16, 0)}, ["hidden_layer_sizes", "(16, 0)"]),
    ({"hidden_layer_sizes": (-4,)}, ["hidden_layer_sizes", "-4"]),
    ({"hidden_layer_sizes": 0}, ["hidden_layer_sizes", "0"]),
    ({"hidden_layer_sizes": (3.7,)}, ["hidden_layer_sizes", "3.7"]),
    ({"hidden_layer_sizes": (True, 4)}, ["hidden_layer_sizes", "True"]),
    ({"hidden_layer_sizes": ("wide",)}, ["hidden_layer_sizes", "wide"]),
    ({"hidden_layer_sizes": [[3, 4]]}, ["hidden_layer_sizes", "[[3, 4]]"]),
    ({"hidden_layer_sizes": (None,)}, ["hidden_layer_sizes", "None"]),
    ({"image_shape": (3, 3)}, ["image_shape", "(3, 3)", "8 features"]),
    ({"image_shape": (8,)}, ["image_shape", "(8,)", "height, width"]),
    ({"image_shape": (2, 2, 2, 1)}, ["image_shape", "(2, 2, 2, 1)", "height, width"]),
    ({"image_shape": (-2, -4)}, ["image_shape", "(-2, -4)"]),
    ({"image_shape": (2.5, 4)}, ["image_shape", "2.5"]),
    ({"image_shape": ("2", "4")}, ["image_shape", "2"]),
    ({"dropout": 1.0}, ["dropout", "1.0"]),
    ({"dropout": -0.1}, ["dropout", "-0.1"]),
    ({"dropout": True}, ["dropout", "True"]),
    ({"weight_decay": -1.0}, ["weight_decay", "-1.0"]),
    ({"weight_decay": float("nan")}, ["weight_decay", "nan"]),
    ({"latent_l1": -1}, ["latent_l1", "-1"]),
    ({"latent_l1": float("inf")}, ["latent_l1", "inf"]),
    ({"n_nonzero_coefs": 0}, ["n_nonzero_coefs", "0"]),
    ({"n_nonzero_coefs": 1.5}, ["n_nonzero_coefs", "1.5"]),
    ({"n_nonzero_coefs": True}, ["n_nonzero_coefs", "True"]),
    ({"learning_rate": 0.0}, ["learning_rate", "0.0"]),
    ({"learning_rate": -1e-3}, ["learning_rate", "-0.001"]),
    ({"learning_rate": float("nan")}, ["learning_rate", "nan"]),
    ({"learning_rate": float("inf")}, ["learning_rate", "inf"]),
    ({"learning_rate": "fast"}, ["learning_rate", "'fast'", "'auto'"]),
    ({"learning_rate": True}, ["learning_rate", "True"]),
    ({"batch_size": 0}, ["batch_size", "0"]),
    ({"batch_size": 32.0}, ["batch_size", "32.0"]),
    ({"batch_size": True}, ["batch_size", "True"]),
    ({"max_epochs": 0}, ["max_epochs", "0"]),
    ({"max_epochs": True}, ["max_epochs", "True"]),
    ({"max_epochs": 1.5}, ["max_epochs", "1.5"]),
    ({"tol": -1e-4}, ["tol", "-0.0001"]),
    ({"tol": True}, ["tol", "True"]),
    ({"n_iter_no_change": 0}, ["n_iter_no_change", "0"]),
    ({"n_iter_no_change": True}, ["n_iter_no_change", "True"]),
    ({"early_stopping": "always"}, ["early_stopping", "'always'"]),
    ({"validation_fraction": 0.0}, ["validation_fraction", "0.0"]),
    ({"validation_fraction": 1.0}, ["validation_fraction", "1.0"]),
    ({"warm_start": "yes"}, ["warm_start", "'yes'"]),
    ({"random_state": -1}, ["random_state", "-1"]),
    ({"random_state": "seed"}, ["random_state", "'seed'"]),
    ({"random_state": True}, ["random_state", "True"]),
    ({"verbose": -1}, ["verbose", "-1"]),
    ({"verbose": "loud"}, ["verbose", "'loud'"]),
]


@pytest.mark.parametrize(("changes", "words"), BAD_PARAMETERS, ids=lambda v: str(v)[:40])
def test_bad_parameter_is_refused_at_fit_by_name_and_value(changes, words):
    estimator = AutoencoderTransformer(**SMALL | changes)
    assert_refused(estimator, X, words)
    assert_refused(estimator, X, words, method="partial_fit")
    fitted = AutoencoderTransformer(**SMALL).fit(X)
    expected = outputs(fitted)
    assert_refused(fitted.set_params(**changes), X, words)
    assert_same_bits(outputs(fitted), expected)


@pytest.mark.parametrize(
    ("cls", "changes", "words"),
    [
        (DenoisingAutoencoder, {"noise": "static"}, ["noise", "'static'", "'masking'"]),
        (DenoisingAutoencoder, {"noise": None}, ["noise", "None"]),
        (DenoisingAutoencoder, {"noise_level": -0.5}, ["noise_level", "-0.5"]),
        (DenoisingAutoencoder, {"noise_level": True}, ["noise_level", "True"]),
        (DenoisingAutoencoder, {"noise": lambda x, rng: x[:, :1]}, ["noise", "shape"]),
        (DenoisingAutoencoder, {"noise": lambda x, rng: x.numpy()}, ["noise", "tensor"]),
        (DenoisingAutoencoder, {"noise": "masking", "noise_level": 1.5}, ["noise_level", "1.5"]),
        (AutoencoderAnomalyDetector, {"contamination": -0.1}, ["contamination", "-0.1"]),
        (AutoencoderAnomalyDetector, {"contamination": 0.6}, ["contamination", "0.6"]),
        (AutoencoderAnomalyDetector, {"anomaly_score": "knn"}, ["anomaly_score", "'knn'"]),
        (AutoencoderAnomalyDetector, {"n_estimators": 0}, ["n_estimators", "0"]),
        (AutoencoderAnomalyDetector, {"max_samples": 1.5}, ["max_samples", "1.5"]),
        (AutoencoderAnomalyDetector, {"max_samples": 0}, ["max_samples", "0"]),
        (AutoencoderAnomalyDetector, {"contamination": True}, ["contamination", "True"]),
        (AutoencoderAnomalyDetector, {"contamination": "lots"}, ["contamination", "'lots'"]),
    ],
)
def test_bad_parameter_of_one_estimator_is_refused(cls, changes, words):
    assert_refused(cls(**SMALL, **changes), X, words)


@pytest.mark.parametrize("changes", [{"tol": "none"}, {"learning_rate": -1.0}, {"batch_size": 0}])
def test_bad_parameter_is_refused_by_a_later_pass_too(changes):
    ((name, value),) = changes.items()
    estimator = AutoencoderTransformer(**SMALL).fit(X).set_params(**changes)
    assert_refused(estimator, X, [repr(name), str(value)], "partial_fit")


def test_constructor_validates_nothing_and_copies_nothing():
    value = object()
    estimator = AutoencoderTransformer(activation=value, n_components=-1, scaling=value)
    assert estimator.activation is value
    assert estimator.scaling is value
    assert set(vars(estimator)) == set(estimator.get_params())


def test_parameters_are_keyword_only():
    for cls in CLASSES:
        with pytest.raises(TypeError, match="positional"):
            cls(3)


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("n", [2, 3, 10])
def test_validation_fraction_leaves_rows_on_both_sides(n, fraction):
    estimator = AutoencoderTransformer(
        **SMALL, early_stopping=True, validation_fraction=fraction
    ).fit(X[:n])
    assert len(estimator.validation_loss_curve_) == estimator.n_iter_
    assert_finite(estimator, X)


def test_early_stopping_on_one_row_is_refused():
    estimator = AutoencoderTransformer(**SMALL, early_stopping=True)
    assert_refused(estimator, X[:1], ["early_stopping", "False"])


@pytest.mark.parametrize(
    ("scaling", "words"),
    [
        (PCA(n_components=2), ["scaling", "PCA"]),
        (StandardScaler, ["instance", "StandardScaler"]),
    ],
    ids=str,
)
def test_unusable_scaling_transformer_is_refused(scaling, words):
    assert_refused(AutoencoderTransformer(**SMALL | {"scaling": scaling}), X, words)


def _network(encoder, decoder, pack=tuple):
    return lambda input_shape, n_components: pack((encoder, decoder))


class Pair(nn.Module):
    """Gives two outputs, as a variational encoder does."""

    def forward(self, x):
        return x[:, :3], x[:, :3]


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (_network(nn.Linear(8, 3), nn.Linear(3, 7)), ["decoder", "(2, 7)", "(2, 8)"]),
        (_network(nn.Linear(8, 3), nn.Linear(4, 8)), ["decoder", "network"]),
        (_network(nn.Linear(8, 4), nn.Linear(4, 8)), ["encoder", "(2, 4)", "(2, 3)"]),
        (_network(nn.Linear(7, 3), nn.Linear(3, 8)), ["encoder", "8"]),
        (_network(nn.Linear(8, 3), None), ["network", "encoder, decoder", "Module"]),
        (_network(nn.Linear(8, 3), abs), ["network", "encoder, decoder", "Module"]),
        (_network(nn.Linear(8, 3), nn.Linear(3, 8), list), ["network", "pair", "Module"]),
        (lambda input_shape, n_components: nn.Linear(8, 8), ["network", "pair", "Linear"]),
        (lambda input_shape, n_components: None, ["network", "pair", "None"]),
        (_network(Pair(), nn.Linear(3, 8)), ["encoder", "tuple"]),
        (_network(nn.Linear(8, 3), nn.Sequential(nn.Linear(3, 8), Pair())), ["decoder", "tuple"]),
    ],
    ids=range(11),
)
@pytest.mark.parametrize("cls", [AutoencoderTransformer, AutoencoderAnomalyDetector])
def test_user_network_of_wrong_shapes_or_types_is_refused(cls, network, words):
    assert_refused(cls(**SMALL, network=network), X, words)


def test_user_network_for_images_of_wrong_shape_is_refused():
    def network(input_shape, n_components):
        assert input_shape == (1, 2, 4)
        encoder = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(16, n_components))
        return encoder, nn.Sequential(nn.Linear(n_components, 9), nn.Unflatten(1, (1, 3, 3)))

    estimator = AutoencoderTransformer(**SMALL, network=network, image_shape=(2, 4))
    assert_refused(estimator, X, ["decoder", "(2, 1, 3, 3)", "(2, 1, 2, 4)"])


@pytest.mark.parametrize("n", [1, 65])
def test_last_batch_of_one_row_in_a_user_network(n):
    def network(input_shape, n_components):
        encoder = nn.Sequential(nn.Linear(8, 6), nn.LayerNorm(6), nn.Linear(6, n_components))
        return encoder, nn.Linear(n_components, 8)

    estimator = AutoencoderTransformer(**SMALL, network=network).fit(X[:n])
    assert_finite(estimator, X)


def test_clone_of_an_estimator_with_bad_parameters_is_possible():
    estimator = AutoencoderTransformer(activation="swish", n_components=-1)
    assert clone(estimator).get_params() == estimator.get_params()
    assert torch.get_num_threads() >= 1
