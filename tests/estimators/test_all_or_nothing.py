"""A fit that fails leaves the estimator as it was."""

import pickle
import subprocess
import sys

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
from skae._anomaly.rows import RowCalibration
from skae._estimators.base import BaseAutoencoder
from skae._training.monitor import Monitor
from skae._training.optimizers import Optimizer
from skae.exceptions import DivergenceError

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


N_STEPS = SMALL["max_epochs"] * 5

BREAKS = {
    "first step": (Optimizer, "step", 1),
    "second epoch": (Optimizer, "step", 7),
    "last step": (Optimizer, "step", N_STEPS),
    "end of the first epoch": (Monitor, "epoch_done", 1),
    "end of the last epoch": (Monitor, "epoch_done", SMALL["max_epochs"]),
    "after training": (BaseAutoencoder, "_keep", 1),
}


def as_it_was(estimator, before):
    now = vars(estimator)
    return now.keys() == before.keys() and all(now[name] is before[name] for name in now)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, DivergenceError])
@pytest.mark.parametrize("where", BREAKS)
def test_interrupted_first_fit_leaves_an_unfitted_estimator(where, error, monkeypatch):
    owner, name, after = BREAKS[where]
    for method in ("fit", "partial_fit"):
        estimator = clone(KINDS["transformer"])
        before = dict(vars(estimator))
        with monkeypatch.context() as patch:
            # One pass has an epoch of five steps.
            calls = min(after, 5 if name == "step" else 1) if method == "partial_fit" else after
            patch.setattr(owner, name, raising(error("stop"), calls, getattr(owner, name)))
            with pytest.raises(error):
                getattr(estimator, method)(X)
        assert as_it_was(estimator, before)
        assert not hasattr(estimator, "n_features_in_")


@pytest.mark.parametrize("error", [KeyboardInterrupt, DivergenceError])
@pytest.mark.parametrize("where", BREAKS)
@dense_and_modules
def test_interrupted_call_leaves_a_fitted_estimator_as_it_was(kind, where, error, monkeypatch):
    owner, name, after = BREAKS[where]
    estimator = clone(KINDS[kind]).fit(X)
    expected, curve = outputs(estimator), list(estimator.loss_curve_)
    state = pickle.dumps(estimator._train_state)
    for method, warm in [("fit", False), ("fit", True), ("partial_fit", False)]:
        estimator.set_params(warm_start=warm)
        before = dict(vars(estimator))
        with monkeypatch.context() as patch:
            calls = min(after, 5 if name == "step" else 1) if method == "partial_fit" else after
            patch.setattr(owner, name, raising(error("stop"), calls, getattr(owner, name)))
            with pytest.raises(error):
                getattr(estimator, method)(2.0 * X + 1.0)
        assert as_it_was(estimator, before)
        assert_same_bits(outputs(estimator), expected)
        assert estimator.loss_curve_ == curve
        assert pickle.dumps(estimator._train_state) == state
    unharmed = clone(KINDS[kind]).fit(X).partial_fit(X)
    assert_same_bits(outputs(estimator.partial_fit(X)), outputs(unharmed))


def test_interrupted_detector_keeps_its_threshold(monkeypatch):
    estimator = clone(KINDS["detector"]).fit(X)
    before, expected = dict(vars(estimator)), outputs(estimator)
    monkeypatch.setattr(RowCalibration, "add", raising(KeyboardInterrupt, 1))
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(10.0 * X)
    monkeypatch.undo()
    assert as_it_was(estimator, before)
    assert_same_bits(outputs(estimator), expected)


@dense_and_modules
def test_divergence_leaves_a_fitted_estimator_as_it_was(kind):
    estimator = clone(KINDS[kind]).fit(X)
    expected = outputs(estimator)
    for changes in ({}, {"warm_start": True}):
        estimator.set_params(optimizer="sgd", learning_rate=1e9, lr_schedule="constant", **changes)
        before = dict(vars(estimator))
        with pytest.raises(DivergenceError):
            estimator.fit(X)
        assert as_it_was(estimator, before)
        assert_same_bits(outputs(estimator), expected)


INTERRUPTED = """
import os, signal, threading
import numpy as np, torch
from skae import AutoencoderTransformer

# Where the parent ignores the signal, as under nohup, children do, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
X = np.random.default_rng(0).normal(size=(300, 8))
estimator = AutoencoderTransformer(
    n_components=3, hidden_layer_sizes=(16,), batch_size=64, max_epochs=4, random_state=0,
    device="cpu",
).fit(X)
expected, threads = estimator.transform(X), torch.get_num_threads()
before = dict(vars(estimator.set_params(max_epochs=10**6, n_iter_no_change=None)))
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    estimator.fit(X)
except KeyboardInterrupt:
    now = vars(estimator)
    assert now.keys() == before.keys()
    assert all(now[name] is before[name] for name in now)
    np.testing.assert_array_equal(estimator.transform(X), expected)
    assert torch.get_num_threads() == threads
    print("interrupted")
"""


def test_interrupt_signal_stops_a_fit_and_leaves_the_estimator_as_it_was():
    """A real Ctrl-C, from another thread, at whatever point it arrives."""
    command = [sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "interrupted", done.stderr
