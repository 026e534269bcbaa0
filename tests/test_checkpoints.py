"""Fits that are killed and go on end as if nothing had happened, to the bit."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer, DenoisingAutoencoder
from skae._data import sources, streamed
from skae._training.monitor import Monitor
from skae.checkpoints import resumable_fit
from skae.io import load, save

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 9)) @ RNG.normal(size=(9, 9))
X[::7, 2] = np.nan
IMAGES = RNG.random((12, 9, 8)).astype(np.float32)
WEIGHTS = RNG.random(90)

SMALL = {
    "n_components": 3,
    "hidden_layer_sizes": (6,),
    "batch_size": 32,
    "max_epochs": 6,
    "random_state": 0,
    "device": "cpu",
}


def dropping_pair(input_shape, n_components):
    """Modules that draw from torch's global generator in training."""
    encoder = nn.Sequential(
        nn.Linear(9, 8), nn.BatchNorm1d(8), nn.SiLU(), nn.Dropout(0.3), nn.Linear(8, n_components)
    )
    return encoder, nn.Linear(n_components, 9)


STALLING = {
    "lr_schedule": "constant",
    "learning_rate": 0.03,
    "early_stopping": True,
    "n_iter_no_change": 3,
}
KINDS = {
    "transformer": AutoencoderTransformer(**SMALL),
    "one batch": AutoencoderTransformer(**SMALL | {"batch_size": 128}, normalization="batch"),
    "sparse": AutoencoderTransformer(
        **SMALL, n_nonzero_coefs=1, optimizer="adamw", weight_decay=0.1
    ),
    "stopping": AutoencoderTransformer(**SMALL | {"max_epochs": 30}, init="random", **STALLING),
    "share of the variance": AutoencoderTransformer(**SMALL | {"n_components": 0.6}),
    "denoiser": DenoisingAutoencoder(**SMALL, dropout=0.2, optimizer="sgd", normalization="batch"),
    "detector": AutoencoderAnomalyDetector(**SMALL, early_stopping=True),
    "user modules": AutoencoderTransformer(**SMALL, network=dropping_pair),
    "convolutions": AutoencoderTransformer(
        **SMALL, network="conv", image_shape=(3, 3), dropout=0.2, normalization="batch"
    ),
    "patches": DenoisingAutoencoder(**SMALL, network="conv", patch_size=4),
}
METHODS = ("transform", "reconstruct", "score_samples", "predict")


def rows_of(kind):
    return IMAGES if kind == "patches" else X


def outputs(estimator):
    rows = X
    if estimator._input.is_patch:
        rows = IMAGES[:, :4, :4]
    return {name: getattr(estimator, name)(rows) for name in METHODS if hasattr(estimator, name)}


def assert_same_fit(estimator, expected):
    for name, result in outputs(expected).items():
        np.testing.assert_array_equal(outputs(estimator)[name], result, err_msg=name)
    assert estimator.loss_curve_ == expected.loss_curve_
    assert estimator.validation_loss_curve_ == expected.validation_loss_curve_
    state, other = estimator._train_state, expected._train_state
    assert (state["n_steps"], state["n_epochs"]) == (other["n_steps"], other["n_epochs"])
    for name, moment in other["moments"].items():
        np.testing.assert_array_equal(state["moments"][name], moment, err_msg=name)


def interrupted_after(n_epochs, monkeypatch, call):
    """Ctrl-C at the end of an epoch."""
    epoch_done, n_calls = Monitor.epoch_done, 0

    def stopping(monitor, loss, validation_loss):
        nonlocal n_calls
        n_calls += 1
        stop = epoch_done(monitor, loss, validation_loss)
        if n_calls == n_epochs:
            raise KeyboardInterrupt
        return stop

    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "epoch_done", stopping)
        with pytest.raises(KeyboardInterrupt):
            call()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.safetensors"


@pytest.mark.parametrize("kind", KINDS)
def test_interrupted_after_every_other_epoch_it_ends_with_the_same_bits(kind, path, monkeypatch):
    rows, expected = rows_of(kind), clone(KINDS[kind]).fit(rows_of(kind))
    for _ in range(expected.n_iter_ // 2):
        estimator = clone(KINDS[kind])
        call = lambda estimator=estimator: resumable_fit(estimator, rows, path)  # noqa: E731
        interrupted_after(2, monkeypatch, call)
        assert not hasattr(estimator, "n_features_in_")
    assert_same_fit(resumable_fit(clone(KINDS[kind]), rows, path), expected)


def test_streamed_rows_go_on_too_and_others_are_refused(path, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_READ_BYTES", 1 << 10)
    monkeypatch.setattr(streamed, "SHUFFLE_BUFFER", 1 << 14)
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(3000, 9)).astype("f4"))
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert streamed.block_length(sources.source_of(rows), torch.float32, 1) is not None
    expected = clone(KINDS["transformer"]).fit(rows)
    call = lambda: resumable_fit(clone(KINDS["transformer"]), rows, path)  # noqa: E731
    interrupted_after(2, monkeypatch, call)
    np.save(tmp_path / "others.npy", np.asarray(rows) + 1e-3)
    others = np.load(tmp_path / "others.npy", mmap_mode="r")
    with pytest.raises(ValueError, match="other rows"):
        resumable_fit(clone(KINDS["transformer"]), others, path)
    assert_same_fit(call(), expected)


@pytest.mark.parametrize("kind", ["transformer", "stopping"])
@pytest.mark.parametrize("every", [2, 3, 100])
def test_epochs_since_the_last_checkpoint_are_done_again(kind, every, path, monkeypatch):
    expected = clone(KINDS[kind]).fit(X, sample_weight=WEIGHTS)
    options = {"every": every, "sample_weight": WEIGHTS}
    for _ in range(2):
        call = lambda: resumable_fit(clone(KINDS[kind]), X, path, **options)  # noqa: E731
        interrupted_after(3, monkeypatch, call)
    assert path.exists() == (every < 100)
    assert_same_fit(resumable_fit(clone(KINDS[kind]), X, path, **options), expected)


def test_patience_and_best_weights_go_on(path, monkeypatch):
    expected = clone(KINDS["stopping"]).fit(X)
    best = int(np.argmin(expected.validation_loss_curve_)) + 1
    assert best < expected.n_iter_ - 1 < 29
    # Between the best epoch and the last one.
    call = lambda: resumable_fit(clone(KINDS["stopping"]), X, path)  # noqa: E731
    interrupted_after(best + 1, monkeypatch, call)
    assert_same_fit(resumable_fit(clone(KINDS["stopping"]), X, path), expected)


def test_done_again_from_what_is_left_it_ends_with_the_same_bits(path):
    first = resumable_fit(clone(KINDS["transformer"]), X, path)
    left = path.read_bytes()
    second = resumable_fit(clone(KINDS["transformer"]).set_params(verbose=1), X, path)
    assert_same_fit(second, first)
    assert path.read_bytes() == left
    assert_same_fit(second.partial_fit(X), first.partial_fit(X))


def test_passes_of_modules_that_draw_equal_the_epochs_of_one_fit():
    options = {"max_epochs": 3, "lr_schedule": "constant"}
    whole = clone(KINDS["user modules"]).set_params(**options).fit(X)
    passes = clone(KINDS["user modules"])
    for _ in range(3):
        passes.partial_fit(X)
    assert_same_fit(passes, whole)


def test_warm_start_begins_at_the_last_fit(path, monkeypatch):
    begun = clone(KINDS["denoiser"]).set_params(warm_start=True).fit(X)
    save(begun, path.with_name("begun"))
    expected = load(path.with_name("begun")).fit(X)
    interrupted_after(3, monkeypatch, lambda: resumable_fit(begun, X, path))
    assert_same_fit(resumable_fit(begun, X, path), expected)
    with pytest.raises(ValueError, match="other rows, weights or a fitted estimator"):
        resumable_fit(clone(begun), X, path)


def test_every_task_of_a_callback_ends(path, monkeypatch):
    pytest.importorskip("sklearn.callback")
    from sklearn.callback import ScoringMonitor

    def score(estimator, X, y):
        return estimator.score(X)

    interrupted_after(3, monkeypatch, lambda: resumable_fit(clone(KINDS["transformer"]), X, path))
    monitor = ScoringMonitor(scoring={"score": score})
    estimator = clone(KINDS["transformer"]).set_callbacks(monitor)
    resumable_fit(estimator, X, path, y=np.zeros(90))
    assert [entry["task_name"] for entry in monitor.get_logs().data].count("epoch") == 3


def test_full_disk_ends_the_fit_and_keeps_the_last_checkpoint(path, monkeypatch):
    expected, sync, n_calls = clone(KINDS["detector"]).fit(X), os.fsync, 0

    def full(file):
        nonlocal n_calls
        n_calls += 1
        if n_calls == 3:
            raise OSError(28, "No space left on device")
        sync(file)

    estimator = clone(KINDS["detector"])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            resumable_fit(estimator, X, path)
    assert not hasattr(estimator, "n_features_in_")
    assert os.listdir(path.parent) == [path.name]
    assert_same_fit(resumable_fit(estimator, X, path), expected)


# What is refused.


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e: (e.set_params(max_epochs=7), X), "max_epochs was 6, is 7"),
        (lambda e: (e.set_params(random_state=1), X), "random_state was 0, is 1"),
        (lambda e: (e, X[::-1]), "other rows"),
        (lambda e: (e, X[:-1]), "other rows"),
        (lambda e: (DenoisingAutoencoder(**SMALL), X), "class was AutoencoderTransformer"),
    ],
    ids=range(5),
)
def test_checkpoint_of_another_run_is_refused(change, words, path):
    resumable_fit(clone(KINDS["transformer"]), X, path)
    before = path.read_bytes()
    estimator, rows = change(clone(KINDS["transformer"]))
    with pytest.raises(ValueError, match=f"{path.name} is no checkpoint.*{words}.*Remove it"):
        resumable_fit(estimator, rows, path)
    assert not hasattr(estimator, "n_features_in_")
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b[:-1] + b"\1", lambda b: b"", 0])
def test_damaged_checkpoint_is_refused(damage, path):
    estimator = resumable_fit(clone(KINDS["transformer"]), X, path)
    if damage:
        path.write_bytes(damage(path.read_bytes()))
    else:
        save(estimator, path)
    with pytest.raises(ValueError, match=f"{path.name} is no checkpoint"):
        resumable_fit(clone(estimator), X, path)


def test_checkpoint_is_no_model(path):
    resumable_fit(clone(KINDS["transformer"]), X, path)
    with pytest.raises(ValueError, match="checkpoint of a fit that did not end"):
        load(path)


@pytest.mark.parametrize(
    ("changes", "every", "words"),
    [
        ({"random_state": None}, 1, "random_state=None"),
        ({"random_state": np.random.RandomState(0)}, 1, "random_state="),
        ({"noise": lambda clean, rng: clean}, 1, "noise="),
        ({"max_epochs": 0}, 1, "max_epochs"),
        ({}, 0, "every=0"),
        ({}, 1.5, "every=1.5"),
    ],
    ids=range(6),
)
def test_what_cannot_be_done_again_is_refused(changes, every, words, path):
    estimator = clone(KINDS["denoiser"]).set_params(**changes)
    with pytest.raises(ValueError, match=words):
        resumable_fit(estimator, X, path, every=every)
    assert not path.exists()


# kill -9.

KILLED = """
import os, random, sys, time
import numpy as np, torch
from skae import AutoencoderAnomalyDetector
from skae.checkpoints import resumable_fit
from skae.io import save

torch.set_num_threads(1)
path = sys.argv[1]
X = np.random.default_rng(0).normal(size=(2000, 20))

def fit(checkpoint, model):
    detector = AutoencoderAnomalyDetector(
        n_components=4, hidden_layer_sizes=(32,), max_epochs=40, random_state=0, device="cpu"
    )
    save(resumable_fit(detector, X, checkpoint, every=2), model)

fit(path + ".whole", path + ".expected")
random.seed(int(sys.argv[2]))
run, n_kills = path + ".run", 0

def written():
    return os.stat(run).st_mtime_ns if os.path.exists(run) else 0

while not os.path.exists(path):
    before, child = written(), os.fork()
    if not child:
        fit(run, path)
        os._exit(0)
    # Once it has come further, within an epoch, a write, or at the end.
    while n_kills < 8 and written() == before and not os.path.exists(path):
        time.sleep(0.001)
    if n_kills < 8 and not os.path.exists(path):
        time.sleep(random.random() * 0.02)
        os.kill(child, 9)
        n_kills += 1
    os.waitpid(child, 0)
assert open(path, "rb").read() == open(path + ".expected", "rb").read()
print(n_kills)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("seed", [0, *(pytest.param(i, marks=pytest.mark.slow) for i in (1, 2))])
def test_killed_at_random_moments_it_ends_with_the_same_file(seed, tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", KILLED, str(tmp_path / "model"), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1
