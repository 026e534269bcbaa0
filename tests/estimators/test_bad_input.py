"""What bad input gets: an error that says what to do. What odd input gets: the right answer."""

import numpy as np
import pytest
import torch
from scipy import sparse
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


def assert_close(results, expected, **tolerances):
    assert results.keys() == expected.keys()
    for name, result in results.items():
        np.testing.assert_allclose(result, expected[name], err_msg=name, **tolerances)


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


# Parameters: the name and value that are wrong, and words that the message must hold.

BAD_PARAMETERS = [
    ({"activation": "swish"}, ["activation", "'swish'", "'relu'"]),
    ({"loss": "mse"}, ["loss", "'mse'", "'squared_error'"]),
    ({"optimizer": "rmsprop"}, ["optimizer", "'rmsprop'", "'adam'"]),
    ({"scaling": "zscore"}, ["scaling", "'zscore'", "'standard'"]),
    ({"scaling": 3.0}, ["scaling", "3.0"]),
    ({"scaling": object()}, ["scaling", "inverse_transform"]),
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
    ({"learning_rate": "fast"}, ["learning_rate", "'fast'"]),
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
    ({"compile": "yes"}, ["compile", "'yes'"]),
    ({"verbose": -1}, ["verbose", "-1"]),
    ({"verbose": "loud"}, ["verbose", "'loud'"]),
]


def _name(changes):
    return ",".join(f"{name}={value!r:.20}" for name, value in changes.items())


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


# User networks.


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


# Data.


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


def test_huge_values_without_scaling_diverge_instead_of_giving_nan():
    estimator = AutoencoderTransformer(**SMALL, scaling=None)
    assert_refused(estimator, 1e30 * X, ["scaling='standard'"], error=DivergenceError)


# What must work.

POWERS = [2.0**-100, 2.0**-40, 2.0**40, 2.0**100]  # about 1e-30, 1e-12, 1e12, 1e30


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scaling", ["auto", "common", "minmax", "robust"])
@pytest.mark.parametrize("cls", [AutoencoderTransformer, AutoencoderAnomalyDetector])
def test_unit_of_the_data_changes_only_the_unit_of_the_results(cls, scaling, dtype, power):
    data = X.astype(dtype)
    small = cls(**SMALL, scaling=scaling).fit(data)
    large = cls(**SMALL, scaling=scaling).fit(data * dtype(power))
    results, expected = outputs(large, data * dtype(power)), outputs(small, data)
    if "reconstruct" in expected:
        results["reconstruct"] = results["reconstruct"] / np.float32(power)
        assert large.score(data * dtype(power)) == pytest.approx(small.score(data), rel=1e-6)
    assert_close(results, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scaling", ["standard", "minmax", "robust"])
def test_columns_of_any_magnitude_count_alike(scaling):
    powers = 2.0 ** np.array([-100, -60, -20, 0, 1, 20, 60, 100])
    plain = AutoencoderTransformer(**SMALL, scaling=scaling).fit(X)
    mixed = AutoencoderTransformer(**SMALL, scaling=scaling).fit(X * powers)
    np.testing.assert_allclose(
        mixed.transform(X * powers), plain.transform(X), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        mixed.reconstruct(X * powers) / powers, plain.reconstruct(X), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("value", [0.0, 7.0, -0.1, 1e30 / 3, -1e-30, 1e10 / 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scaling", ["auto", "common", "minmax", "robust"])
@pytest.mark.parametrize("cls", [AutoencoderTransformer, AutoencoderAnomalyDetector])
def test_constant_column_is_reconstructed_and_does_not_disturb_the_others(
    cls, scaling, dtype, value
):
    data = X.astype(dtype)
    data[:, 3] = value
    estimator = cls(**SMALL, scaling=scaling).fit(data)
    assert_finite(estimator, data)
    # The losses are of the order of a standardised table's.
    assert estimator.loss_curve_[0] < 10
    assert -estimator.score_samples(data).min() < 100
    if cls is not AutoencoderAnomalyDetector:
        np.testing.assert_allclose(
            estimator.reconstruct(data)[:, 3], dtype(value), rtol=1e-5, atol=4 * X.std()
        )


@pytest.mark.parametrize("value", [1e10 / 3, 1e30 / 3])
def test_constant_column_of_another_precision_does_not_disturb_the_row(value):
    data = X.copy()
    data[:, 3] = value
    for cls in CLASSES:
        estimator = cls(**SMALL).fit(data)
        single = data.astype(np.float32)
        scores = estimator.score_samples(data)
        np.testing.assert_allclose(estimator.score_samples(single), scores, rtol=1e-3, atol=1e-3)
    denoiser = DenoisingAutoencoder(**SMALL).fit(data)
    rows = data[:20].copy()
    rows[:, 3] = np.nan
    filled = denoiser.impute(rows)
    assert np.isfinite(filled).all()
    # One unit of the scaled column is at most the value itself.
    assert (np.abs(filled[:, 3] - value) < 2 * value).all()
    rows[:, 2] = np.nan
    assert np.abs(denoiser.impute(rows)[:, 2]).max() < 10 * X.std()


@each_class
def test_all_columns_constant(cls):
    for value in (0.0, 5.0, 1e30):
        data = np.full((40, 4), value)
        estimator = cls(**SMALL).fit(data)
        assert_finite(estimator, data)
        if cls is AutoencoderAnomalyDetector:
            assert (estimator.predict(data) == 1).all()


@pytest.mark.parametrize("shape", [(1, 8), (2, 8), (150, 1), (1, 1), (63, 8), (65, 8), (129, 8)])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"normalization": "batch"},
        {"normalization": "layer", "dropout": 0.3},
        {"loss": "log_loss"},
        {"n_nonzero_coefs": 2, "latent_l1": 0.1},
        {"hidden_layer_sizes": ()},
        {"hidden_layer_sizes": 4},
    ],
    ids=_name,
)
def test_any_number_of_rows_and_columns_works(shape, changes):
    data = X[: shape[0], : shape[1]]
    for cls in CLASSES:
        if cls is VariationalAutoencoder and "n_nonzero_coefs" in changes:
            continue  # It has no sparse latents, and says so.
        estimator = cls(**SMALL | changes).fit(data)
        assert_finite(estimator, data)
        assert_finite(estimator.partial_fit(data), data)
        assert outputs(estimator, data)["score_samples"].shape == (shape[0],)
        if cls is not AutoencoderAnomalyDetector:
            assert estimator.transform(data).shape == (shape[0], 3)
            assert estimator.reconstruct(data).shape == shape
            assert estimator.score(data) <= 1.0


@pytest.mark.parametrize("n", [1, 65])
def test_last_batch_of_one_row_in_a_user_network(n):
    def network(input_shape, n_components):
        encoder = nn.Sequential(nn.Linear(8, 6), nn.LayerNorm(6), nn.Linear(6, n_components))
        return encoder, nn.Linear(n_components, 8)

    estimator = AutoencoderTransformer(**SMALL, network=network).fit(X[:n])
    assert_finite(estimator, X)


def _read_only(data, tmp_path):
    data = data.copy()
    data.setflags(write=False)
    return data


def _memory_mapped(data, tmp_path):
    np.save(tmp_path / "rows.npy", data)
    return np.load(tmp_path / "rows.npy", mmap_mode="r")


def _strided(data, tmp_path):
    wide = np.zeros((2 * len(data), 3 * data.shape[1]), dtype=data.dtype)
    wide[::2, ::3] = data
    return wide[::2, ::3]


LAYOUTS = {
    "Fortran order": lambda data, tmp_path: np.asfortranarray(data),
    "read-only": _read_only,
    "memory-mapped": _memory_mapped,
    "strided": _strided,
    "reversed strides": lambda data, tmp_path: data[::-1, ::-1].copy()[::-1, ::-1],
    "list": lambda data, tmp_path: data.astype(np.float64).tolist(),
    "objects": lambda data, tmp_path: data.astype(object),
    "other byte order": lambda data, tmp_path: data.astype(data.dtype.newbyteorder()),
    "csr": lambda data, tmp_path: sparse.csr_matrix(data),
    "csr array": lambda data, tmp_path: sparse.csr_array(data),
    "csc": lambda data, tmp_path: sparse.csc_matrix(data),
    "coo": lambda data, tmp_path: sparse.coo_matrix(data),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@each_class
def test_layout_of_the_data_does_not_change_the_bits(cls, layout, tmp_path):
    data = np.where(np.abs(X) < 1.5, 0.0, X)
    data[5] = 0.0
    other = LAYOUTS[layout](data, tmp_path)
    expected = cls(**SMALL).fit(data)
    estimator = cls(**SMALL).fit(other)
    assert estimator.loss_curve_ == expected.loss_curve_
    assert_same_bits(outputs(estimator, other), outputs(expected, data))
    if hasattr(expected, "score"):
        assert estimator.score(other) == expected.score(data)
    estimator.partial_fit(other)
    assert_same_bits(outputs(estimator, other), outputs(expected.partial_fit(data), data))


@each_class
def test_data_are_not_written_to(cls):
    data = np.where(X > 2, np.nan, X).astype(np.float32)
    before = data.tobytes()
    estimator = cls(**SMALL).fit(data)
    outputs(estimator, data)
    if hasattr(estimator, "impute"):
        estimator.impute(data)
        estimator.inpaint(data, np.isnan(data))
    assert data.tobytes() == before


INTEGERS = np.random.default_rng(3).integers(0, 100, size=(150, 8))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int64", "uint64", "float16", "bool"])
@each_class
def test_number_types_give_the_results_of_float64(cls, dtype):
    values = INTEGERS > 40 if dtype == "bool" else INTEGERS
    expected = cls(**SMALL).fit(values.astype(np.float64))
    estimator = cls(**SMALL).fit(values.astype(dtype))
    assert_close(
        outputs(estimator, values.astype(dtype)),
        outputs(expected, values.astype(np.float64)),
        rtol=2e-3,
        atol=2e-3,
    )


def test_half_precision_sums_do_not_overflow():
    data = (1000.0 + 100.0 * X / X.std()).astype(np.float16)
    estimator = AutoencoderTransformer(**SMALL).fit(data)
    expected = AutoencoderTransformer(**SMALL).fit(data.astype(np.float64))
    assert_close(outputs(estimator, data), outputs(expected, data), rtol=5e-3, atol=5e-3)
    data[3, 3] = np.nan
    assert np.isfinite(estimator.fit(data).reconstruct(data)).all()


def test_sums_of_huge_float32_do_not_overflow():
    data = np.where(X > 0, 1e37, 0.9e37).astype(np.float32)
    estimator = AutoencoderTransformer(**SMALL).fit(data)
    assert np.isfinite(estimator.transform(data)).all()
    assert np.isfinite(estimator.score_samples(data)).all()


@each_class
def test_float32_is_close_to_float64(cls):
    expected = cls(**SMALL).fit(X)
    estimator = cls(**SMALL).fit(X.astype(np.float32))
    assert_close(outputs(estimator, X.astype(np.float32)), outputs(expected), rtol=1e-3, atol=1e-3)


def test_float64_precision_gives_float64():
    estimator = AutoencoderTransformer(**SMALL | {"precision": "float64"}).fit(X)
    single = AutoencoderTransformer(**SMALL).fit(X)
    assert estimator.transform(X).dtype == np.float64
    assert estimator.reconstruct(X).dtype == np.float64
    assert_close(outputs(estimator), outputs(single), rtol=1e-3, atol=1e-3)


# Missing cells.

HOLES = np.where(np.random.default_rng(4).random(X.shape) < 0.2, np.nan, X)


@pytest.mark.parametrize("scaling", ["auto", "common", "minmax", "robust", None, StandardScaler()])
@pytest.mark.parametrize("sparse_rows", [False, True], ids=["dense", "sparse"])
def test_missing_cells_are_filled_and_left_out_of_the_score(scaling, sparse_rows):
    data = sparse.csr_matrix(HOLES) if sparse_rows else HOLES
    estimator = AutoencoderTransformer(**SMALL | {"max_epochs": 30}, scaling=scaling).fit(data)
    result, observed = estimator.reconstruct(data), ~np.isnan(HOLES)
    assert np.isfinite(result).all()
    center, scale = np.nanmean(HOLES, axis=0), np.nanstd(HOLES, axis=0)
    if scaling in ("auto", None):
        if scaling is None:
            scale = np.ones_like(scale)
        squares = np.where(observed, (result - HOLES) / scale, 0.0) ** 2
        losses = squares.sum(1) / observed.sum(1)
        np.testing.assert_allclose(-estimator.score_samples(data), losses, rtol=1e-3, atol=1e-5)
        total = (np.where(observed, (HOLES - center) / scale, 0.0) ** 2).sum()
        assert estimator.score(data) == pytest.approx(1 - squares.sum() / total, abs=1e-4)


def test_scaling_and_losses_ignore_what_is_missing():
    """Rows of nothing but missing cells add nothing: the fit's scaling is that without them."""
    padded = np.vstack([X, np.full((50, 8), np.nan)])
    settings = {**SMALL, "anomaly_score": "reconstruction"}
    detector = AutoencoderAnomalyDetector(**settings).fit(padded)
    alone = AutoencoderAnomalyDetector(**settings).fit(X)
    for name in ("center", "scale"):
        np.testing.assert_allclose(
            getattr(detector._model.scaler, name), getattr(alone._model.scaler, name), rtol=1e-12
        )
    assert_finite(detector, padded)
    assert (detector.score_samples(padded)[150:] == 0.0).all()


def test_contributions_of_missing_cells_are_zero_and_rows_sum_to_the_score():
    detector = AutoencoderAnomalyDetector(**SMALL).fit(HOLES)
    contributions = detector.feature_contributions(HOLES)
    assert (contributions[np.isnan(HOLES)] == 0.0).all()
    assert (contributions >= 0.0).all()
    np.testing.assert_allclose(
        contributions.sum(1), -detector.score_samples(HOLES).clip(max=0.0), rtol=1e-5, atol=1e-7
    )


def test_a_column_of_nothing_but_missing_cells_works():
    data = X.copy()
    data[:, 2] = np.nan
    for cls in CLASSES:
        for scaling in ("auto", "common", "minmax", "robust", None):
            estimator = cls(**SMALL, scaling=scaling).fit(data)
            assert_finite(estimator, data)


@each_class
def test_a_table_of_nothing_but_missing_cells_is_refused(cls):
    assert_refused(cls(**SMALL), np.full((5, 3), np.nan), ["X", "NaN"])
    fitted = cls(**SMALL).fit(X)
    assert_finite(fitted, np.full((5, 8), np.nan))


def test_imputing_fills_missing_cells_alone_and_close_to_the_truth():
    low_rank = RNG.normal(size=(300, 2)) @ RNG.normal(size=(2, 8))
    holes = np.where(RNG.random(low_rank.shape) < 0.1, np.nan, low_rank)
    estimator = DenoisingAutoencoder(n_components=2, random_state=0, device="cpu").fit(holes)
    missing = np.isnan(holes)
    filled = estimator.impute(holes)
    np.testing.assert_array_equal(filled[~missing], holes[~missing])
    error = np.sqrt(np.mean((filled - low_rank)[missing] ** 2))
    assert error < 0.4 * low_rank.std()
    np.testing.assert_array_equal(estimator.inpaint(low_rank, missing), filled)
    np.testing.assert_array_equal(estimator.impute(low_rank), low_rank)


def test_inpaint_wants_a_mask_of_the_rows_shape():
    estimator = DenoisingAutoencoder(**SMALL).fit(X)
    for mask in (np.ones((2, 8), bool), np.ones(X.shape), np.ones(8, bool)):
        with pytest.raises(ValueError, match=r"mask must be boolean and of X's shape \(150, 8\)"):
            estimator.inpaint(X, mask)


# Whatever floats there are.


def test_any_finite_table_is_fitted_with_finite_results():
    hypothesis = pytest.importorskip("hypothesis")
    strategies = pytest.importorskip("hypothesis.strategies")
    arrays = pytest.importorskip("hypothesis.extra.numpy")
    cells = strategies.one_of(
        strategies.floats(-1e30, 1e30),
        strategies.sampled_from([0.0, -0.0, 1e-30, -1e30, 1e30, 1.0, np.nan, 5e-324]),
    )
    tables = arrays.arrays(
        np.float64,
        arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
        elements=cells,
    )
    options = {"max_epochs": 2, "hidden_layer_sizes": (4,), "random_state": 0, "device": "cpu"}

    @hypothesis.settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(
        tables,
        strategies.sampled_from([np.float32, np.float64]),
        strategies.sampled_from(["auto", "minmax", "common"]),
    )
    def check(table, dtype, scaling):
        with np.errstate(under="ignore"):
            table = table.astype(dtype)
        hypothesis.assume(not np.isnan(table).all())
        transformer = AutoencoderTransformer(scaling=scaling, **options).fit(table)
        assert_finite(transformer, table)
        assert transformer.score(table) <= 1.0
        detector = AutoencoderAnomalyDetector(scaling=scaling, **options).fit(table)
        assert set(detector.predict(table)) <= {-1, 1}
        imputed = DenoisingAutoencoder(scaling=scaling, **options).fit(table).impute(table)
        observed = ~np.isnan(table)
        assert np.isfinite(imputed).all()
        assert (imputed[observed] == table[observed]).all()

    check()


@pytest.mark.parametrize("rare", [1.0, 1e19, 1e30])
@each_class
def test_robust_scaling_of_a_column_that_is_nearly_always_zero(cls, rare):
    data = X.copy()
    data[:, 3] = 0.0
    data[17, 3] = rare
    estimator = cls(**SMALL, scaling="robust").fit(data)
    assert_finite(estimator, data)


@each_class
def test_rows_far_from_the_training_data_give_no_nan(cls):
    estimator = cls(**SMALL).fit(X)
    rows = X[:4].copy()
    rows[:, 0] = [1e10, 1e20, 1e30, -1e30]
    rows[1:, 3] = np.nan
    for name, result in outputs(estimator, rows).items():
        assert not np.isnan(result).any(), name
    if cls is AutoencoderAnomalyDetector:
        assert (estimator.predict(rows) == -1).all()
        assert not np.isnan(estimator.feature_contributions(rows)).any()
    else:
        assert estimator.score(rows) < 1.0


@pytest.mark.parametrize("rows", [X[:4] * 1e40, X[:4] * 1e300, np.full((4, 8), 3e38, np.float32)])
@each_class
def test_rows_beyond_any_sense_give_finite_results(cls, rows):
    rows = np.where(np.eye(4, 8, 2), np.nan, rows)
    estimator = cls(**SMALL).fit(X)
    assert_finite(estimator, rows)
    expected = outputs(estimator, rows[:1])
    first = {name: result[:1] for name, result in outputs(estimator, rows).items()}
    assert_close(first, expected, rtol=0)


@pytest.mark.parametrize("scaling", ["auto", "minmax", "robust"])
def test_units_beyond_float32_are_given_back_in_float64(scaling):
    large = AutoencoderTransformer(**SMALL, scaling=scaling).fit(X * 1e60)
    small = AutoencoderTransformer(**SMALL, scaling=scaling).fit(X)
    rebuilt = large.reconstruct(X * 1e60)
    assert rebuilt.dtype == np.float64
    np.testing.assert_allclose(rebuilt / 1e60, small.reconstruct(X), rtol=1e-3, atol=1e-4)
    assert small.reconstruct(X).dtype == np.float32


@pytest.mark.parametrize("scaling", ["auto", "minmax", "robust"])
@each_class
def test_values_whose_squares_are_infinite_are_refused(cls, scaling):
    assert_refused(cls(**SMALL, scaling=scaling), X * 1e200, ["X", "1e150", "Divide"])


@each_class
def test_values_beyond_float32_without_scaling_diverge(cls):
    assert_refused(cls(**SMALL, scaling=None), X * 1e60, ["diverged", "scaling"])


def test_clone_of_an_estimator_with_bad_parameters_is_possible():
    estimator = AutoencoderTransformer(activation="swish", n_components=-1)
    assert clone(estimator).get_params() == estimator.get_params()
    assert torch.get_num_threads() >= 1
