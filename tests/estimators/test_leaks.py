"""No memory, threads, files or cycles leak, and pickles hold what they need alone."""

import ctypes
import gc
import io
import os
import pickle
import platform
from pathlib import Path

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
from skae._model.model import Model

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


def resident_bytes():
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)  # what malloc keeps for the next call is no leak
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("n_fits", [12, pytest.param(50, marks=pytest.mark.slow)])
def test_fits_leak_no_memory_threads_or_files(n_fits):
    data = np.random.default_rng(0).normal(size=(2000, 50))
    estimators = [
        DenoisingAutoencoder(**SMALL | {"max_epochs": 2, "batch_size": 256}, dropout=0.1),
        AutoencoderAnomalyDetector(**SMALL | {"max_epochs": 2, "batch_size": 256}),
        AutoencoderTransformer(
            **SMALL | {"max_epochs": 2, "batch_size": 256}, network=dropping_pair
        ),
    ]

    def fits(n):
        for i in range(n):
            estimators[i % 3].fit(data).score_samples(data)

    fits(6)
    memory, n_threads = resident_bytes(), len(os.listdir("/proc/self/task"))
    n_files = len(os.listdir("/proc/self/fd"))
    fits(n_fits)
    assert resident_bytes() - memory < 0.4e6 * max(n_fits, 25)
    assert len(os.listdir("/proc/self/task")) <= n_threads
    assert len(os.listdir("/proc/self/fd")) <= n_files


@pytest.mark.slow
@each_kind
def test_fits_leave_no_reference_cycles(kind):
    clone(KINDS[kind]).fit(X)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        estimator = clone(KINDS[kind]).fit(X)
        estimator.partial_fit(X)
        outputs(estimator)
        del estimator
        gc.collect()
        leaked = {
            type(thing).__qualname__
            for thing in gc.garbage
            if isinstance(thing, (torch.Tensor, np.ndarray))
            or type(thing).__module__.startswith("skae")
        }
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not leaked


@pytest.mark.slow
@each_kind
def test_pickle_does_not_grow_with_the_training_set(kind):
    data = np.random.default_rng(0).normal(size=(18_000, 8))
    # One epoch at a rate that is the same, so that only the rows differ. A detector keeps
    # up to 1,024 of them, and knows up to 8,192 again.
    estimator = clone(KINDS[kind]).set_params(max_epochs=2, batch_size=64)
    few = len(pickle.dumps(clone(estimator).fit(data[:9000])))
    many = len(pickle.dumps(clone(estimator).fit(data)))
    assert many - few < 256


class NoTorchUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        assert module.split(".")[0] != "torch", f"the pickle holds {module}.{name}"
        return super().find_class(module, name)


@each_kind
def test_pickle_holds_plain_arrays_and_settings(kind):
    estimator = clone(KINDS[kind]).fit(X)
    restored = NoTorchUnpickler(io.BytesIO(pickle.dumps(estimator))).load()
    assert_same_fit(restored, estimator)


@each_kind
def test_model_of_an_absent_device_loads_on_the_cpu(kind, monkeypatch):
    estimator = clone(KINDS[kind]).fit(X)
    state = Model.__getstate__
    with monkeypatch.context() as patch:
        absent = {"device": "cuda:77"}
        patch.setattr(Model, "__getstate__", lambda model: state(model) | absent)
        data = pickle.dumps(estimator)
    restored = pickle.loads(data)
    assert restored.device_ == "cpu"
    assert_same_fit(restored, estimator)
