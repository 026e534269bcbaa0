"""The same bits, whatever runs them: threads, processes, batches."""

import threading
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

import skae._model.model
from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)

RNG = np.random.default_rng(0)

X = RNG.normal(size=(300, 8)) @ RNG.normal(size=(8, 8))

WIDE = RNG.normal(size=(300, 600)).astype(np.float32)

SMALL = {
    "n_components": 3,
    "hidden_layer_sizes": (16,),
    "batch_size": 64,
    "max_epochs": 4,
    "random_state": 0,
    "device": "cpu",
}

# Layers of a size at which the products go through oneDNN and on several threads.
LARGE = SMALL | {"hidden_layer_sizes": (512,), "batch_size": 256, "max_epochs": 2}


def dropping_pair(input_shape, n_components):
    """Encoder and decoder that draw from torch's global generator in training."""
    width = input_shape[0]
    encoder = nn.Sequential(
        nn.Linear(width, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(16, n_components),
    )  # fmt: skip
    return encoder, nn.Sequential(
        nn.Linear(n_components, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, width)
    )


KINDS = {
    "transformer": AutoencoderTransformer(**SMALL),
    "denoiser": DenoisingAutoencoder(**SMALL),
    "detector": AutoencoderAnomalyDetector(**SMALL),
    "variational": VariationalAutoencoder(**SMALL, early_stopping=True),
    "dropout": AutoencoderTransformer(**SMALL, dropout=0.2, normalization="layer"),
    "early_stopping": AutoencoderTransformer(**SMALL, early_stopping=True, normalization="batch"),
    "user_modules": AutoencoderTransformer(**SMALL, network=dropping_pair),
    "one_exact_batch": DenoisingAutoencoder(**SMALL | {"batch_size": 300}, noise="swap"),
}

each_kind = pytest.mark.parametrize("kind", KINDS)

dense_and_modules = pytest.mark.parametrize("kind", ["transformer", "user_modules"])


def outputs(estimator, X=X):
    names = ("transform", "reconstruct", "score_samples", "decision_function", "impute")
    return {name: getattr(estimator, name)(X) for name in names if hasattr(estimator, name)}


def assert_same_bits(results, expected):
    assert results.keys() == expected.keys()
    for name, result in results.items():
        assert result.dtype == expected[name].dtype
        np.testing.assert_array_equal(result, expected[name], err_msg=name)


def assert_same_fit(estimator, expected, X=X):
    assert estimator.loss_curve_ == expected.loss_curve_
    assert_same_bits(outputs(estimator, X), outputs(expected, X))


@pytest.fixture
def threads():
    """Set the number of torch's threads, for this test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


# The same bits, whatever runs them.


@each_kind
def test_refit_gives_the_same_bits(kind):
    first, second = clone(KINDS[kind]).fit(X), clone(KINDS[kind]).fit(X)
    assert_same_fit(second, first)
    assert_same_fit(first.fit(X), second)


def test_other_random_states_give_other_weights():
    # Not where nothing but PCA is kept.
    a = clone(KINDS["transformer"]).set_params(early_stopping=False).fit(X)
    b = clone(a).set_params(random_state=1).fit(X)
    assert not np.array_equal(a.transform(X), b.transform(X))


def test_random_state_instance_gives_the_same_bits_as_its_twin():
    fits = [
        clone(KINDS["dropout"]).set_params(random_state=np.random.RandomState(7)).fit(X)
        for _ in range(2)
    ]
    assert_same_fit(*fits)


@each_kind
def test_number_of_threads_does_not_change_the_bits(kind, threads):
    threads(1)
    one = clone(KINDS[kind]).fit(X)
    expected = outputs(one)
    threads(2)
    assert_same_fit(clone(KINDS[kind]).fit(X), one)
    assert_same_bits(outputs(one), expected)


@pytest.mark.parametrize("changes", [{}, {"dropout": 0.1, "normalization": "batch"}], ids=str)
def test_number_of_threads_does_not_change_the_bits_of_large_layers(changes, threads):
    estimator = DenoisingAutoencoder(**LARGE, **changes)
    threads(1)
    one = clone(estimator).fit(WIDE)
    expected = outputs(one, WIDE)
    threads(2)
    assert_same_fit(clone(estimator).fit(WIDE), one, WIDE)
    assert_same_bits(outputs(one, WIDE), expected)


@each_kind
def test_fits_in_threads_at_once_give_the_bits_of_one_alone(kind):
    alone = clone(KINDS[kind]).fit(X)
    with ThreadPoolExecutor(4) as pool:
        fits = list(pool.map(lambda _: clone(KINDS[kind]).fit(X), range(4)))
    for fit in fits:
        assert_same_fit(fit, alone)


@pytest.mark.parametrize("backend", [pytest.param("loky", marks=pytest.mark.slow), "threading"])
def test_parallel_jobs_give_the_bits_of_one_job(backend):
    estimators = [AutoencoderTransformer(**SMALL), DenoisingAutoencoder(**SMALL, dropout=0.1)]
    parallel = joblib.Parallel(n_jobs=2, backend=backend)
    fits = parallel(joblib.delayed(clone(estimator).fit)(X) for estimator in estimators)
    for fit, estimator in zip(fits, estimators, strict=True):
        assert_same_fit(fit, clone(estimator).fit(X))


@pytest.mark.slow
def test_loky_process_gives_the_bits_of_this_process_for_large_layers():
    estimator = AutoencoderTransformer(**LARGE)
    [fit] = joblib.Parallel(n_jobs=2, backend="loky")([joblib.delayed(clone(estimator).fit)(WIDE)])
    assert_same_fit(fit, clone(estimator).fit(WIDE), WIDE)


@pytest.mark.parametrize("kind", ["transformer", "early_stopping", "user_modules"])
def test_row_does_not_depend_on_its_batch(kind):
    estimator = clone(KINDS[kind]).fit(X)
    whole = outputs(estimator)
    for start, stop in [(0, 1), (7, 10), (100, 163), (299, 300)]:
        for name, part in outputs(estimator, X[start:stop]).items():
            np.testing.assert_allclose(part, whole[name][start:stop], rtol=1e-5, err_msg=name)
    for name, backwards in outputs(estimator, X[::-1]).items():
        np.testing.assert_allclose(backwards[::-1], whole[name], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("init", ["pca", "random"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("n_features", [5, 9, 10, 15])
def test_row_does_not_depend_on_its_place(n_features, precision, init):
    # Widths at which MKL rounds by the place of a row.
    rows = np.random.default_rng(0).normal(size=(100, n_features))
    settings = {"n_components": 3, "hidden_layer_sizes": (16, 8), "max_epochs": 1}
    model = AutoencoderTransformer(**settings, random_state=0, precision=precision, init=init)
    for method in (model.fit(rows).transform, model.reconstruct):
        expected = method(rows)
        for n in (1, 7, 33, 100):
            some = np.random.default_rng(n).permutation(100)[:n]
            np.testing.assert_array_equal(method(rows[some]), expected[some])


def test_row_does_not_depend_on_its_batch_in_large_layers(monkeypatch):
    estimator = AutoencoderTransformer(**LARGE).fit(WIDE)
    whole = outputs(estimator, WIDE)
    for rows in ([0], [5, 200, 17], range(250)):
        for name, part in outputs(estimator, WIDE[list(rows)]).items():
            np.testing.assert_allclose(part, whole[name][list(rows)], rtol=1e-5, err_msg=name)
    monkeypatch.setattr(skae._model.model, "_BATCH_VALUES", 1 << 16)
    for name, result in outputs(estimator, WIDE).items():
        np.testing.assert_allclose(result, whole[name], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("kind", ["detector", "early_stopping", "user_modules"])
def test_sixteen_threads_scoring_at_once_agree_to_the_bit(kind):
    estimator = clone(KINDS[kind]).fit(X)
    expected, start = outputs(estimator), threading.Barrier(16)

    def work(_):
        start.wait(60)
        return [outputs(estimator) for _ in range(5)]

    with ThreadPoolExecutor(16) as pool:
        for results in pool.map(work, range(16)):
            for result in results:
                assert_same_bits(result, expected)


def test_sixteen_threads_scoring_large_layers_agree_to_the_bit():
    estimator = AutoencoderAnomalyDetector(**LARGE).fit(WIDE)
    expected, start = estimator.score_samples(WIDE), threading.Barrier(16)

    def work(_):
        start.wait(60)
        return estimator.score_samples(WIDE)

    with ThreadPoolExecutor(16) as pool:
        for result in pool.map(work, range(16)):
            np.testing.assert_array_equal(result, expected)


@dense_and_modules
def test_fitted_modules_compute_what_the_estimator_computes(kind):
    estimator = clone(KINDS[kind]).set_params(scaling=None).fit(X)
    rows = torch.from_numpy(X).float()
    codes = estimator.encoder_(rows)
    np.testing.assert_allclose(codes.detach(), estimator.transform(X), rtol=1e-4, atol=1e-5)
    decoded = estimator.decoder_(codes).detach()
    np.testing.assert_allclose(decoded, estimator.reconstruct(X), rtol=1e-4, atol=1e-5)
