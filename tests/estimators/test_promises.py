"""What DESIGN.md promises: reproducibility, no side effects, all or nothing, no leaks."""

import ctypes
import gc
import io
import os
import pickle
import platform
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

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
from skae._estimators.base import BaseAutoencoder
from skae.exceptions import DivergenceError
from skae._training.monitor import Monitor
from skae._training.optimizers import Optimizer

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
    a = clone(KINDS["transformer"]).fit(X)
    b = clone(KINDS["transformer"]).set_params(random_state=1).fit(X)
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


# Nothing global is read or moved.


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


@dense_and_modules
def test_fitted_modules_compute_what_the_estimator_computes(kind):
    estimator = clone(KINDS[kind]).set_params(scaling=None).fit(X)
    rows = torch.from_numpy(X).float()
    codes = estimator.encoder_(rows)
    np.testing.assert_allclose(codes.detach(), estimator.transform(X), rtol=1e-4, atol=1e-5)
    decoded = estimator.decoder_(codes).detach()
    np.testing.assert_allclose(decoded, estimator.reconstruct(X), rtol=1e-4, atol=1e-5)


# A failed fit leaves the estimator as it was.

N_STEPS = SMALL["max_epochs"] * 5
BREAKS = {
    "first step": (Optimizer, "step", 1),
    "second epoch": (Optimizer, "step", 7),
    "last step": (Optimizer, "step", N_STEPS),
    "end of the first epoch": (Monitor, "epoch_done", 1),
    "end of the last epoch": (Monitor, "epoch_done", SMALL["max_epochs"]),
    "after training": (BaseAutoencoder, "_store", 1),
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


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, DivergenceError])
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
    monkeypatch.setattr(skae._model.model.Model, "map_joint", raising(KeyboardInterrupt, 1))
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


# Nothing leaks.


def resident_bytes():
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)  # what malloc keeps for the next call is no leak
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_fifty_fits_leak_no_memory_threads_or_files():
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

    fits(12)
    memory, n_threads = resident_bytes(), len(os.listdir("/proc/self/task"))
    n_files = len(os.listdir("/proc/self/fd"))
    fits(50)
    assert resident_bytes() - memory < 20e6
    assert len(os.listdir("/proc/self/task")) <= n_threads
    assert len(os.listdir("/proc/self/fd")) <= n_files


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


@each_kind
def test_pickle_does_not_grow_with_the_training_set(kind):
    data = np.random.default_rng(0).normal(size=(9000, 8))
    # One epoch at a rate that is the same, so that only the rows differ. A detector keeps
    # up to 1,024 of them.
    estimator = clone(KINDS[kind]).set_params(max_epochs=2, batch_size=64)
    few = len(pickle.dumps(clone(estimator).fit(data[:2000])))
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
    state = skae._model.model.Model.__getstate__
    with monkeypatch.context() as patch:
        patch.setattr(
            skae._model.model.Model, "__getstate__", lambda model: state(model) | {"device": "cuda:77"}
        )
        data = pickle.dumps(estimator)
    restored = pickle.loads(data)
    assert restored.device_ == "cpu"
    assert_same_fit(restored, estimator)


# Other processes.


def run_script(path, *arguments, timeout=120):
    done = subprocess.run(
        [sys.executable, str(path), *arguments],
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


CHILD = """
import multiprocessing, sys
import numpy as np, torch
from skae import AutoencoderTransformer

X = np.random.default_rng(0).normal(size=(600, 300)).astype(np.float32)

def fitted():
    return AutoencoderTransformer(
        n_components=4, hidden_layer_sizes=(256,), batch_size=256, max_epochs=2, random_state=0,
        device="cpu",
    ).fit(X)

def work(estimator):
    return estimator.transform(X), fitted().transform(X), torch.get_num_threads()

if __name__ == "__main__":
    torch.set_num_threads(2)
    estimator = fitted()
    expected = estimator.transform(X)
    torch.randn(700, 700) @ torch.randn(700, 700)
    context = multiprocessing.get_context(sys.argv[1])
    with context.Pool(1) as pool:
        scored, refitted, n_threads = pool.apply_async(work, (estimator,)).get(60)
    assert (scored == expected).all() and (refitted == expected).all()
    assert torch.get_num_threads() == 2
    assert sys.argv[1] != "fork" or n_threads == 1, n_threads
    print("ok")
"""


@pytest.mark.parametrize(
    "method",
    [
        "fork",
        pytest.param("spawn", marks=pytest.mark.slow),
        pytest.param("forkserver", marks=pytest.mark.slow),
    ],
)
def test_children_work_after_the_parent_used_two_threads(method, tmp_path):
    import multiprocessing

    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this platform")
    script = tmp_path / "children.py"
    script.write_text(CHILD)
    assert run_script(script, method).strip() == "ok"


IMPORT = """
import sys, time
import torch, sklearn.base, sklearn.utils.validation
try:
    import sklearn.callback
except ImportError:
    pass
before = set(sys.modules)
start = time.perf_counter()
import skae
seconds = time.perf_counter() - start
def heavy():
    names = {"pandas", "polars", "matplotlib", "dask", "onnx", "tqdm", "torch._dynamo", "rich"}
    return sorted(names & (set(sys.modules) - before))
assert not heavy(), heavy()
assert seconds < 1.0, seconds
import numpy as np
X = np.random.default_rng(0).normal(size=(50, 4))
skae.DenoisingAutoencoder(max_epochs=1, device="cpu").fit(X).transform(X)
assert not heavy(), heavy()
print("ok")
"""


def test_import_and_fit_load_no_optional_or_heavy_module(tmp_path):
    script = tmp_path / "imports.py"
    script.write_text(IMPORT)
    assert run_script(script).strip() == "ok"


def test_interrupt_signal_stops_a_fit_and_leaves_the_estimator_as_it_was():
    """A real Ctrl-C, from another thread, at whatever point it arrives."""
    import signal

    estimator = clone(KINDS["transformer"]).fit(X)
    expected, threads = outputs(estimator), torch.get_num_threads()
    before = dict(vars(estimator.set_params(max_epochs=10**6, n_iter_no_change=None)))
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X)
    timer.join()
    assert as_it_was(estimator, before)
    assert_same_bits(outputs(estimator), expected)
    assert torch.get_num_threads() == threads
