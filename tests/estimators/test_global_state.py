"""Nothing global is read or moved."""

import os
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)
from skae._training.optimizers import Optimizer

RNG = np.random.default_rng(0)

X = RNG.normal(size=(300, 8)) @ RNG.normal(size=(8, 8))

SMALL = {
    "n_components": 3,
    "hidden_layer_sizes": (16,),
    "batch_size": 64,
    "max_epochs": 4,
    "random_state": 0,
    "device": "cpu",
}


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


@pytest.fixture
def threads():
    """Set the number of torch's threads, for this test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def random_states():
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return name, keys.tobytes(), rest, torch.get_rng_state().numpy().tobytes()


def every_call(estimator):
    """Fit, go on and predict; what came out."""
    estimator = clone(estimator).fit(X)
    estimator.partial_fit(X)
    estimator.set_params(warm_start=True).fit(X)
    results = outputs(estimator)
    if hasattr(estimator, "score"):
        results["score"] = np.array(estimator.score(X))
        results["inverse"] = estimator.inverse_transform(results["transform"])
    restored = pickle.loads(pickle.dumps(estimator))
    assert_same_bits(outputs(restored), outputs(estimator))
    return results


@each_kind
def test_global_random_states_are_neither_read_nor_moved(kind):
    results = []
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        before = random_states()
        results.append(every_call(KINDS[kind]))
        assert random_states() == before
    assert_same_bits(*results)


@each_kind
def test_no_random_state_is_fresh_entropy_and_moves_no_global_state(kind):
    fits = []
    for _ in range(2):
        np.random.seed(0)  # noqa: NPY002
        torch.manual_seed(0)
        before = random_states()
        fits.append(clone(KINDS[kind]).set_params(random_state=None).fit(X))
        assert random_states() == before
    assert fits[0].loss_curve_ != fits[1].loss_curve_


def test_failed_fit_of_user_modules_puts_the_random_state_back(monkeypatch):
    before = random_states()
    monkeypatch.setattr(Optimizer, "step", raising(KeyboardInterrupt, after=3))
    with pytest.raises(KeyboardInterrupt):
        clone(KINDS["user_modules"]).fit(X)
    assert random_states() == before


def raising(error, after, otherwise=None):
    """A method that raises on its call number ``after``, counted from one."""
    n_calls = 0

    def method(*args, **kwargs):
        nonlocal n_calls
        n_calls += 1
        if n_calls >= after:
            raise error
        return None if otherwise is None else otherwise(*args, **kwargs)

    return method


def global_settings():
    return {
        "threads": torch.get_num_threads(),
        "threads of a new thread": joblib.Parallel(n_jobs=2, backend="threading")(
            [joblib.delayed(torch.get_num_threads)()]
        ),
        "interop threads": torch.get_num_interop_threads(),
        "dtype": torch.get_default_dtype(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "autocast dtype": torch.get_autocast_dtype("cpu"),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "denormals": torch.tensor(1e-310, dtype=torch.float64).mul(1.0).item(),
        "warnings": list(warnings.filters),
        "floating-point errors": np.geterr(),
        "environment": dict(os.environ),
    }


@each_kind
def test_no_global_setting_is_changed_by_success(kind, threads):
    threads(2)
    before = global_settings()
    every_call(KINDS[kind])
    assert global_settings() == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError])
@dense_and_modules
def test_no_global_setting_is_changed_by_a_failed_fit(kind, error, threads, monkeypatch):
    threads(2)
    before = global_settings()
    monkeypatch.setattr(Optimizer, "step", raising(error, after=3))
    with pytest.raises(error):
        clone(KINDS[kind]).fit(X)
    assert global_settings() == before


@dense_and_modules
def test_no_global_setting_is_changed_by_a_failed_prediction(kind, threads, monkeypatch):
    threads(2)
    estimator = clone(KINDS[kind]).fit(X)
    before = global_settings()
    monkeypatch.setattr(type(estimator._model.network), "encode", raising(KeyboardInterrupt, 1))
    for method in (estimator.transform, estimator.score, estimator.score_samples):
        with pytest.raises(KeyboardInterrupt):
            method(X)
        assert global_settings() == before


def test_threads_that_score_at_once_leave_the_number_of_threads(threads):
    threads(2)
    estimator = clone(KINDS["detector"]).fit(X)
    before = global_settings()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: estimator.score_samples(X[:16]), range(200)))
    assert global_settings() == before


@contextmanager
def float64_default():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


CALLERS = {
    "no_grad": torch.no_grad,
    "enable_grad": torch.enable_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "float64_default": float64_default,
    "numpy_raises": lambda: np.errstate(all="raise"),
}


@pytest.mark.parametrize("caller", CALLERS)
@each_kind
def test_the_callers_setting_does_not_change_the_bits(kind, caller):
    expected = every_call(KINDS[kind])
    with CALLERS[caller]():
        before = global_settings()
        results = every_call(KINDS[kind])
        assert global_settings() == before
    assert_same_bits(results, expected)


@pytest.mark.parametrize("first", ["inference_mode", "plain"])
@dense_and_modules
def test_training_goes_on_in_and_out_of_inference_mode(kind, first):
    plain = clone(KINDS[kind]).fit(X).partial_fit(X)
    contexts = [torch.inference_mode, nullcontext]
    inner, outer = contexts if first == "inference_mode" else contexts[::-1]
    estimator = clone(KINDS[kind])
    with inner():
        estimator.fit(X)
    with outer():
        assert_same_bits(outputs(estimator.partial_fit(X)), outputs(plain))
