"""Steps that a device repeats by itself, on a device that is made up.

What is recorded are torch's operations with all their arguments, numbers included, as a graph of
kernels has them. They are done when it is replayed, and not before.
"""

import numpy as np
import pytest
from sklearn.base import clone
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderFeatures,
    AutoencoderTransformer,
    DenoisingAutoencoder,
)
from skae._training import loop, optimizers, replays

rng = np.random.default_rng(0)
X = rng.normal(size=(332, 3)) @ rng.normal(size=(3, 6)) + 0.1 * rng.normal(size=(332, 6))
WEIGHTS = rng.uniform(0.2, 2.0, size=len(X))
HOLES = np.where(rng.random(X.shape) < 0.1, np.nan, X)
FLAGS = (X[:, :1] > np.linspace(-2, 2, 9)).astype(float)
# 20 batches of 16 rows and one of 12; the bounds come in within an epoch.
SETTINGS = {"batch_size": 16, "max_epochs": 4, "random_state": 0, "precision": "float64"}


def _modules(n_features, n_components):
    return nn.Linear(n_features, n_components), nn.Linear(n_components, n_features)


# What asks the device for a number, or brings one to it, cannot be recorded.
REFUSED = ("_local_scalar_dense", "is_nonzero", "lift_fresh")


class Recorder(TorchDispatchMode):
    """Notes operations and their arguments; what would change a tensor is not done."""

    def __init__(self, calls):
        super().__init__()
        self._calls = calls

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if any(name in str(function) for name in REFUSED):
            raise RuntimeError("operation not permitted when stream is capturing")
        if not function._schema.is_mutable:
            out = function(*args, **kwargs)
        else:
            out = kwargs.get("out", args[0]) if function._schema.returns else None
        self._calls.append((function, args, kwargs, out))
        return out


class Operations:
    """A graph of operations of the CPU."""

    n_replays = 0

    def __init__(self):
        self._calls = []

    def record(self, operations):
        with Recorder(self._calls):
            operations()

    def replay(self):
        Operations.n_replays += 1
        for function, args, kwargs, out in self._calls:
            again = function(*args, **kwargs)
            for old, new in zip(_tensors(out), _tensors(again), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def _tensors(out):
    return [one for one in (out if isinstance(out, tuple) else (out,)) if one is not None]


@pytest.fixture
def replayed(monkeypatch):
    """Fits an estimator with replayed steps; counts launches."""

    def fit(estimator, X, **given):
        with monkeypatch.context() as patch:
            patch.setattr(loop, "has_graphs", lambda device: True)
            patch.setattr(replays, "Graph", Operations)
            before = Operations.n_replays
            estimator.fit(X, **given)
        return Operations.n_replays - before

    return fit


@pytest.mark.parametrize(
    ("estimator", "rows"),
    [
        (AutoencoderTransformer(n_components=2), X),
        (AutoencoderTransformer(n_components=2), FLAGS),
        (AutoencoderTransformer(n_components=2, optimizer="sgd", learning_rate=0.1), HOLES),
        (AutoencoderTransformer(n_components=2, optimizer="adamw", weight_decay=1e-3), X),
        (AutoencoderTransformer(n_components=2, normalization="batch", dropout=0.1), HOLES),
        (AutoencoderTransformer(n_components=2, normalization="layer", latent_l1=0.1), HOLES),
        (AutoencoderTransformer(ordered=True, n_components=3, lr_schedule="constant"), X),
        (AutoencoderTransformer(n_components=2, early_stopping=True, scaling="minmax"), HOLES),
        (DenoisingAutoencoder(n_components=2, noise=("masking", "gaussian")), X),
        (DenoisingAutoencoder(n_components=2, noise="swap"), HOLES),
        (AutoencoderFeatures(n_components=8), HOLES),
        (AutoencoderAnomalyDetector(n_components=2), X),
    ],
)
def test_replayed_steps_are_as_steps_one_by_one(replayed, monkeypatch, estimator, rows):
    # torch's own kernels take rates of the device in float32.
    monkeypatch.setattr(optimizers, "has_fused_optimizers", lambda device: False)
    given = {"X": rows} | ({"sample_weight": WEIGHTS} if rows is HOLES else {})
    one_by_one = clone(estimator).set_params(**SETTINGS).fit(**given)
    at_once = clone(estimator).set_params(**SETTINGS)
    n_replays = replayed(at_once, **given)
    assert n_replays >= 4
    np.testing.assert_allclose(at_once.loss_curve_, one_by_one.loss_curve_, rtol=1e-12)
    ours, theirs = (one._model.network.parameters for one in (at_once, one_by_one))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_a_fit_that_goes_on_is_replayed_too(replayed):
    one_by_one = AutoencoderTransformer(n_components=2, warm_start=True, **SETTINGS)
    at_once = clone(one_by_one)
    for _ in range(2):
        one_by_one.fit(X)
        assert replayed(at_once, X)
    np.testing.assert_allclose(at_once.loss_curve_, one_by_one.loss_curve_, rtol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"n_nonzero_coefs": 1},
        {"max_epochs": 1},
        {"network": lambda shape, n: _modules(shape[0], n)},
    ],
)
def test_what_changes_from_step_to_step_is_not_replayed(replayed, options):
    estimator = AutoencoderTransformer(n_components=2, **SETTINGS | options)
    assert replayed(estimator, X) == 0


def test_what_cannot_be_recorded_goes_step_by_step(replayed, monkeypatch):
    def refuse(self, operations):
        raise RuntimeError("out of memory")

    expected = AutoencoderTransformer(n_components=2, **SETTINGS).fit(X)
    found = clone(expected)
    monkeypatch.setattr(Operations, "record", refuse)
    with pytest.warns(RuntimeWarning, match="step by step.*out of memory"):
        assert replayed(found, X) == 0
    np.testing.assert_allclose(found.loss_curve_, expected.loss_curve_, rtol=1e-6)
