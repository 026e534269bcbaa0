"""Saved and loaded, cloned, copied, gone on with: the same bits."""

import copy
import functools
import io
import pickle

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.preprocessing import QuantileTransformer
from torch import nn

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 8)) @ RNG.normal(size=(8, 8))
X[::7, 2] = np.nan
MORE = 0.5 * X + 1.0
SMALL = {
    "n_components": 3,
    "hidden_layer_sizes": (16,),
    "batch_size": 64,
    "max_epochs": 4,
    "random_state": 0,
    "device": "cpu",
}


def normalized_pair(input_shape, n_components):
    """User modules with parameters and buffers, integer ones too."""
    encoder = nn.Sequential(
        nn.Linear(input_shape[0], 16), nn.BatchNorm1d(16), nn.SiLU(), nn.Dropout(0.1),
        nn.Linear(16, n_components),
    )  # fmt: skip
    return encoder, nn.Sequential(nn.Linear(n_components, 16), nn.SiLU(), nn.Linear(16, 8))


KINDS = {
    "transformer": AutoencoderTransformer(**SMALL),
    "denoiser": DenoisingAutoencoder(**SMALL, noise="gaussian"),
    "detector": AutoencoderAnomalyDetector(**SMALL),
    "variational": VariationalAutoencoder(**SMALL, latent_l1=1e-3, early_stopping=True),
    "batch normalization": AutoencoderTransformer(**SMALL, normalization="batch", dropout=0.1),
    "layer normalization": AutoencoderAnomalyDetector(
        **SMALL, normalization="layer", loss="huber", activation="gelu"
    ),
    "early stopping": DenoisingAutoencoder(
        **SMALL, normalization="batch", early_stopping=True, optimizer="adamw", weight_decay=1e-3
    ),
    "sparse latents": AutoencoderTransformer(
        **SMALL, n_nonzero_coefs=2, latent_l1=1e-3, loss="log_loss", optimizer="sgd"
    ),
    "float64": AutoencoderTransformer(**SMALL, precision="float64"),
    "bfloat16": AutoencoderTransformer(**SMALL, precision="bfloat16"),
    "transformer scaling": AutoencoderTransformer(
        **SMALL, scaling=QuantileTransformer(n_quantiles=20, random_state=0)
    ),
    "one exact batch": AutoencoderTransformer(**SMALL | {"batch_size": 300}),
    "user modules": AutoencoderTransformer(**SMALL, network=normalized_pair),
    "user modules of a detector": AutoencoderAnomalyDetector(**SMALL, network=normalized_pair),
}
each_kind = pytest.mark.parametrize("kind", KINDS)

ATTRIBUTES = [
    "n_components_",
    "n_features_in_",
    "loss_curve_",
    "validation_loss_curve_",
    "best_loss_",
    "n_iter_",
    "device_",
    "offset_",
]


def outputs(estimator, X=X):
    names = ("transform", "reconstruct", "score_samples", "decision_function", "impute", "predict")
    return {name: getattr(estimator, name)(X) for name in names if hasattr(estimator, name)}


def assert_same(estimator, expected):
    for name in ATTRIBUTES:
        assert getattr(estimator, name, None) == getattr(expected, name, None), name
    assert repr(estimator) == repr(expected)
    results = outputs(estimator)
    for name, value in outputs(expected).items():
        assert results[name].dtype == value.dtype
        np.testing.assert_array_equal(results[name], value, err_msg=name)


def _pickle(protocol):
    return lambda estimator: pickle.loads(pickle.dumps(estimator, protocol))


def _joblib(compress):
    def round_trip(estimator):
        file = io.BytesIO()
        joblib.dump(estimator, file, compress=compress)
        file.seek(0)
        return joblib.load(file)

    return round_trip


def _cloudpickle(estimator):
    return pickle.loads(pytest.importorskip("cloudpickle").dumps(estimator))


def _skops(estimator):
    skops_io = pytest.importorskip("skops.io")
    data = skops_io.dumps(estimator)
    return skops_io.loads(data, trusted=skops_io.get_untrusted_types(data=data))


ROUND_TRIPS = {
    "pickle": _pickle(pickle.HIGHEST_PROTOCOL),
    "pickle protocol 2": _pickle(2),
    "joblib": _joblib(0),
    "compressed joblib": _joblib(3),
    "cloudpickle": _cloudpickle,
    "skops": _skops,
    "deepcopy": copy.deepcopy,
}
each_round_trip = pytest.mark.parametrize("round_trip", ROUND_TRIPS)


# The other ways write the same state, in other words.
EACH_WAY = [
    (kind, way)
    for kind in KINDS
    for way in ROUND_TRIPS
    if way in ("pickle", "skops", "deepcopy") or kind in ("detector", "variational", "user modules")
]


@pytest.fixture(scope="module")
def fitted():
    """The fit of a kind, not to be changed, and one that has gone on."""

    @functools.cache
    def of(kind):
        return clone(KINDS[kind]).fit(X), clone(KINDS[kind]).fit(X).partial_fit(MORE)

    return of


@pytest.mark.parametrize(("kind", "round_trip"), EACH_WAY)
def test_round_trip_gives_the_same_bits(fitted, kind, round_trip):
    estimator, gone_on = fitted(kind)
    restored = ROUND_TRIPS[round_trip](estimator)
    assert restored is not estimator
    assert_same(restored, estimator)
    # And goes on as the original does.
    assert_same(restored.partial_fit(MORE), gone_on)
    assert_same(ROUND_TRIPS[round_trip](restored), gone_on)


@each_round_trip
def test_unfitted_estimator_survives(round_trip):
    estimator = DenoisingAutoencoder(**SMALL, scaling=None)
    restored = ROUND_TRIPS[round_trip](estimator)
    assert restored.get_params() == estimator.get_params()
    assert_same(restored.fit(X), estimator.fit(X))


@each_kind
def test_two_pickles_of_one_fit_are_equal(fitted, kind):
    fits = [fitted(kind)[0], clone(KINDS[kind]).fit(X)]
    data = [pickle.dumps(fit) for fit in fits]
    assert len(data[0]) == len(data[1])
    assert pickle.dumps(pickle.loads(data[0])) == pickle.dumps(pickle.loads(data[1]))


def test_estimator_fitted_under_callbacks_free_scikit_learn_holds_no_bookkeeping():
    estimator = clone(KINDS["transformer"]).fit(X)
    assert not [name for name in vars(estimator) if "callback" in name]


def test_user_modules_of_a_local_function_survive_cloudpickle():
    cloudpickle = pytest.importorskip("cloudpickle")

    def local_pair(input_shape, n_components):
        return nn.Linear(input_shape[0], n_components), nn.Linear(n_components, input_shape[0])

    estimator = AutoencoderTransformer(**SMALL, network=local_pair).fit(X)
    restored = pickle.loads(cloudpickle.dumps(estimator))
    np.testing.assert_array_equal(restored.transform(X), estimator.transform(X))


@each_kind
def test_partial_fit_goes_on_after_every_pickle_as_without(kind):
    plain, pickled = clone(KINDS[kind]), clone(KINDS[kind])
    for rows in (X, MORE[100:230], MORE):
        plain.partial_fit(rows)
        pickled = pickle.loads(pickle.dumps(pickled.partial_fit(rows)))
    assert plain.n_iter_ == 3
    assert_same(pickled, plain)


def test_optimizer_state_and_position_are_part_of_the_pickle():
    """Without the moments the next pass would be another one."""
    estimator = clone(KINDS["transformer"]).fit(X)
    forgetful = pickle.loads(pickle.dumps(estimator))
    forgetful._train_state["moments"] = {}
    forgetful.partial_fit(MORE)
    estimator.partial_fit(MORE)
    assert not np.array_equal(forgetful.transform(X), estimator.transform(X))


# Going on.

CONSTANT = {"lr_schedule": "constant", "n_iter_no_change": None}


@pytest.mark.parametrize(
    "kind", ["transformer", "denoiser", "batch normalization", "sparse latents", "float64"]
)
def test_passes_of_partial_fit_equal_the_epochs_of_one_fit(kind):
    whole = clone(KINDS[kind]).set_params(max_epochs=3, **CONSTANT).fit(X)
    passes = clone(KINDS[kind])
    for _ in range(3):
        passes.partial_fit(X)
    assert passes.loss_curve_ == whole.loss_curve_
    np.testing.assert_array_equal(passes.transform(X), whole.transform(X))


@pytest.mark.parametrize("kind", ["transformer", "denoiser", "detector", "batch normalization"])
def test_warm_start_continues_where_the_last_fit_ended(kind):
    whole = clone(KINDS[kind]).set_params(max_epochs=7, **CONSTANT).fit(X)
    parts = clone(KINDS[kind]).set_params(max_epochs=3, warm_start=True, **CONSTANT).fit(X)
    first = list(parts.loss_curve_)
    parts.set_params(max_epochs=4).fit(X)
    assert first + parts.loss_curve_ == whole.loss_curve_
    assert parts.n_iter_ == 4
    np.testing.assert_array_equal(parts.score_samples(X), whole.score_samples(X))


def test_warm_start_of_user_modules_continues():
    estimator = clone(KINDS["user modules"]).set_params(warm_start=True, **CONSTANT).fit(X)
    first = list(estimator.loss_curve_)
    estimator.fit(X)
    assert estimator.loss_curve_[0] < first[0]
    assert estimator.best_loss_ < min(first)


def test_without_warm_start_fit_begins_anew():
    estimator = clone(KINDS["transformer"]).fit(MORE).partial_fit(MORE).fit(X)
    assert_same(estimator, clone(KINDS["transformer"]).fit(X))


def test_warm_start_keeps_the_scaling():
    estimator = clone(KINDS["transformer"]).set_params(warm_start=True).fit(X)
    center = estimator._model.scaler.center
    estimator.fit(X + 5.0)
    np.testing.assert_array_equal(estimator._model.scaler.center, center)


@pytest.mark.parametrize("changes", [{"n_components": 4}, {"hidden_layer_sizes": (8,)}])
def test_warm_start_of_another_network_is_refused(changes):
    estimator = clone(KINDS["transformer"]).set_params(warm_start=True).fit(X)
    expected = outputs(estimator)
    estimator.set_params(**changes)
    with pytest.raises(ValueError, match=r"changed since the last fit.*warm_start=False"):
        estimator.fit(X)
    np.testing.assert_array_equal(estimator.transform(X), expected["transform"])


@each_kind
def test_clone_is_unfitted_with_the_same_parameters_and_fits_the_same_bits(fitted, kind):
    estimator, _ = fitted(kind)
    copied = clone(estimator)
    assert set(vars(copied)) == set(copied.get_params(deep=False))
    params = copied.get_params()
    params.pop("scaling")
    assert params == {k: v for k, v in estimator.get_params().items() if k in params}
    assert_same(copied.fit(X), estimator)


def test_deepcopy_shares_nothing_with_the_original():
    estimator = clone(KINDS["batch normalization"]).fit(X)
    expected = outputs(estimator)
    copy.deepcopy(estimator).partial_fit(MORE).set_params(warm_start=True).fit(MORE)
    for name, value in outputs(estimator).items():
        np.testing.assert_array_equal(value, expected[name])
