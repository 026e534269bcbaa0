"""What goes wrong around a fit: memory that is not there, workers and sources that fail."""

import os
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import skae
from skae import AutoencoderAnomalyDetector, AutoencoderTransformer, DenoisingAutoencoder

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4))
X[3, 1] = np.nan

SMALL = {
    "n_components": 2,
    "hidden_layer_sizes": (4,),
    "max_epochs": 1,
    "batch_size": 20,
    "random_state": 0,
    "device": "cpu",
}
KINDS = {
    "transformer": AutoencoderTransformer(**SMALL),
    "denoiser": DenoisingAutoencoder(**SMALL, early_stopping=True),
    "detector": AutoencoderAnomalyDetector(**SMALL, n_estimators=2),
    "convolutions": AutoencoderTransformer(
        **SMALL | {"hidden_layer_sizes": (2,), "network": "conv", "image_shape": (2, 2)}
    ),
}
METHODS = ("transform", "reconstruct", "impute", "score_samples", "predict")


def outputs(estimator, rows=X):
    return {name: getattr(estimator, name)(rows) for name in METHODS if hasattr(estimator, name)}


def assert_same_bits(results, expected):
    assert results.keys() == expected.keys()
    for name, result in results.items():
        np.testing.assert_array_equal(result, expected[name], err_msg=name)


def as_it_was(estimator, before):
    now = vars(estimator)
    return now.keys() == before.keys() and all(now[name] is before[name] for name in now)


def global_state():
    return torch.get_num_threads(), torch.is_grad_enabled(), torch.get_rng_state().numpy().tobytes()


# Memory that runs out.


class _Operations(TorchDispatchMode):
    """Counts torch's operations, and raises in place of one of them."""

    def __init__(self, failing=None):
        super().__init__()
        self.n, self._failing = 0, failing

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.n += 1
        if self.n == self._failing:
            raise MemoryError("injected")
        return operation(*args, **kwargs or {})


class _Calls:
    """The same for whatever else skae's files call that is written in C: NumPy, above all."""

    def __init__(self, failing=None):
        self.n, self._failing = 0, failing

    def __enter__(self):
        self._outer = sys.getprofile()
        sys.setprofile(self._hook)
        return self

    def __exit__(self, *_):
        sys.setprofile(self._outer)

    def _hook(self, frame, event, function):
        ours = frame.f_code.co_filename.startswith(skae.__path__[0])
        # What leaves a context takes no memory.
        if event != "c_call" or not ours or function.__name__ == "__exit__":
            return
        self.n += 1
        if self.n == self._failing:
            raise MemoryError("injected")


@pytest.mark.parametrize(
    ("kind", "faults", "step"),
    [
        ("transformer", _Calls, 11),
        *(
            pytest.param(kind, faults, 1, marks=pytest.mark.slow)
            for kind in ("transformer", "denoiser", "detector", "convolutions")
            for faults in (_Operations, _Calls)
        ),
    ],
)
def test_memory_error_anywhere_in_a_fit_leaves_the_estimator_as_it_was(kind, faults, step):
    estimator = clone(KINDS[kind]).fit(X)
    expected, before, settings = outputs(estimator), dict(vars(estimator)), global_state()
    state = pickle.dumps(estimator._train_state)
    with faults() as counted:
        clone(KINDS[kind]).fit(X)
    assert counted.n > 100
    for k in range(1, counted.n + 1, step):
        unfitted = clone(KINDS[kind])
        for tried in (estimator, unfitted):
            with pytest.raises(MemoryError, match="injected"), faults(k):
                tried.fit(X[::-1] if tried is estimator else X)
        assert as_it_was(estimator, before), k
        assert not hasattr(unfitted, "n_features_in_"), k
        assert global_state() == settings, k
    assert_same_bits(outputs(estimator), expected)
    assert pickle.dumps(estimator._train_state) == state
    assert_same_bits(outputs(estimator.fit(X)), expected)


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.slow] * (kind == "detector")) for kind in KINDS],
)
def test_memory_error_anywhere_in_a_prediction_changes_nothing(kind):
    estimator = clone(KINDS[kind]).fit(X)
    expected, settings = outputs(estimator), global_state()
    with _Operations() as counted:
        outputs(estimator)
    for k in range(1, counted.n + 1):
        with pytest.raises(MemoryError, match="injected"), _Operations(k):
            outputs(estimator)
        assert global_state() == settings
    assert_same_bits(outputs(estimator), expected)


# What the user hands over fails in the middle.


class _Torn(sparse.csr_array):
    """Rows that can be sliced so often, then no more."""

    def __getitem__(self, key):
        self.left = getattr(self, "left", 3) - 1
        if self.left < 0:
            raise OSError("the disk is gone")
        return super().__getitem__(key)


class _FailingScaler(StandardScaler):
    def transform(self, X, copy=None):
        raise OSError("the disk is gone")


def _noise_that_fails(clean, rng):
    raise OSError("the disk is gone")


class _FailingLayer(nn.Linear):
    n_calls = 0

    def forward(self, x):
        type(self).n_calls += 1
        if self.n_calls > 2:
            raise OSError("the disk is gone")
        return super().forward(x)


def _network_that_fails(input_shape, n_components):
    _FailingLayer.n_calls = 0
    return _FailingLayer(4, n_components), nn.Linear(n_components, 4)


@pytest.mark.parametrize(
    "changes",
    [
        {"scaling": _FailingScaler()},
        {"noise": _noise_that_fails},
        {"network": _network_that_fails},
    ],
    ids=["scaling", "noise", "network"],
)
def test_code_of_the_user_that_fails_leaves_the_estimator_as_it_was(changes):
    estimator = DenoisingAutoencoder(**SMALL).fit(X)
    expected = outputs(estimator)
    before = dict(vars(estimator.set_params(**changes)))
    settings = global_state()
    with pytest.raises(OSError, match="gone"):
        estimator.fit(X)
    assert as_it_was(estimator, before)
    assert global_state() == settings
    assert_same_bits(outputs(estimator), expected)


@pytest.mark.parametrize("method", ["fit", "partial_fit", "transform", "score_samples"])
def test_source_that_fails_in_the_middle_leaves_the_estimator_as_it_was(method, monkeypatch):
    monkeypatch.setattr("skae._data.convert._CHUNK_VALUES", 40)
    monkeypatch.setattr("skae._model.model._BATCH_VALUES", 40)
    rows = np.tile(np.nan_to_num(X), (8, 1))
    estimator = AutoencoderTransformer(**SMALL).fit(rows)
    expected, before = outputs(estimator, rows), dict(vars(estimator))
    with pytest.raises(OSError, match="gone"):
        getattr(estimator, method)(_Torn(rows))
    assert as_it_was(estimator, before)
    assert_same_bits(outputs(estimator, rows), expected)


# Threads and processes.


def test_fits_that_fail_in_threads_leave_those_beside_them_alone():
    expected = {kind: outputs(clone(KINDS[kind]).fit(X)) for kind in KINDS}
    start, settings = threading.Barrier(16), global_state()

    def work(i):
        start.wait(60)
        for kind in list(KINDS) * 2:
            if i % 2:
                with pytest.raises(ValueError, match="infinity"):
                    clone(KINDS[kind]).fit(np.where(np.eye(40, 4, -20), np.inf, X))
            else:
                assert_same_bits(outputs(clone(KINDS[kind]).fit(X)), expected[kind])

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert global_state() == settings


FORKED = """
import os, threading, time
import numpy as np
from torch import nn
from skae import AutoencoderTransformer

X = np.random.default_rng(0).normal(size=(64, 4))
training = threading.Event()

class Announcing(nn.Linear):
    def forward(self, x):
        training.set()
        time.sleep(0.001)
        return super().forward(x)

def network(input_shape, n_components):
    return Announcing(4, n_components), nn.Linear(n_components, 4)

def fit(max_epochs):
    options = {"network": network, "n_components": 2, "device": "cpu", "random_state": 0}
    return AutoencoderTransformer(max_epochs=max_epochs, **options).fit(X)

fit(1)  # torch imports on the way, and no child gets past a lock of an import
training.clear()
thread = threading.Thread(target=fit, args=(300,), daemon=True)
thread.start()
training.wait()
time.sleep(0.1)
child = os.fork()
if not child:
    fit(2)
    os._exit(7)
for _ in range(300):
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        break
    time.sleep(0.1)
else:
    os.kill(child, 9)
print(os.waitstatus_to_exitcode(status) if done else "hangs", flush=True)
os._exit(0)  # the thread still trains
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_child_forked_while_a_thread_trains_user_modules_can_train_them_too():
    command = [sys.executable, "-W", "ignore", "-c", FORKED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "7"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_worker_fails_the_search_and_nothing_else():
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    parent = os.getpid()

    def deadly(input_shape, n_components):
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return nn.Linear(4, n_components), nn.Linear(n_components, 4)

    estimator = AutoencoderTransformer(**SMALL).fit(X)
    expected = outputs(estimator)
    grid = {"n_components": [1, 2]}
    search = GridSearchCV(clone(estimator), grid, cv=2, n_jobs=2, error_score="raise")
    with pytest.raises(TerminatedWorkerError):
        clone(search).set_params(estimator__network=deadly).fit(X)
    assert_same_bits(outputs(estimator), expected)
    alone = clone(search).set_params(n_jobs=1).fit(X).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(search.fit(X).cv_results_["mean_test_score"], alone)
