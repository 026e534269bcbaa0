"""Fits of data larger than memory, from shuffled blocks of them."""

import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer, DenoisingAutoencoder
from skae._data import sources, streamed
from skae._estimators import fitting

SMALL = {"hidden_layer_sizes": (16,), "n_components": 4, "random_state": 0, "max_epochs": 6}


class Slices:
    """The least that a source has; rows from ``cut`` on are lacking once they are read."""

    def __init__(self, values, error=None, cut=None):
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.error, self.cut, self.n_reads = error, cut, 0

    def __getitem__(self, part):
        assert isinstance(part, slice)
        self.n_reads += 1
        if self.n_reads > 300 and self.error is not None:
            raise self.error
        return self.values[part] if self.n_reads <= 300 else self.values[part][: self.cut]


@pytest.fixture
def small_buffer(monkeypatch):
    """Buffers of a thousand rows or two, read some rows at a time."""
    monkeypatch.setattr(sources, "_READ_BYTES", 1 << 13)
    monkeypatch.setattr(streamed, "SHUFFLE_BUFFER", 1 << 17)


@pytest.fixture(scope="module")
def by_class():
    """Rows in five clusters, one after another."""
    rng = np.random.default_rng(0)
    centers, directions = 3 * rng.normal(size=(5, 10)), rng.normal(size=(5, 3, 10))
    parts = [
        center + rng.normal(size=(2001, 3)) @ basis + 0.1 * rng.normal(size=(2001, 10))
        for center, basis in zip(centers, directions, strict=True)
    ]
    return np.concatenate(parts).astype(np.float32)


def mapped(tmp_path, values, name="rows.npy"):
    np.save(tmp_path / name, values)
    return np.load(tmp_path / name, mmap_mode="r")


def weights_of(estimator):
    return estimator._model.network.parameters.numpy()


@pytest.mark.usefixtures("small_buffer")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"early_stopping": True, "lr_schedule": "constant"},
        {"scaling": "robust"},
        {"scaling": StandardScaler(), "max_epochs": 8},
        {"dropout": 0.05, "normalization": "batch", "max_epochs": 8},
    ],
    ids=str,
)
def test_streaming_rows_sorted_by_class_is_as_good_as_loading_them(tmp_path, by_class, options):
    source = mapped(tmp_path, by_class)
    model = AutoencoderTransformer(**SMALL | {"max_epochs": 12} | options)
    expected, found = clone(model).fit(by_class), clone(model).fit(source)
    assert found._train_state["n_steps"] == pytest.approx(expected._train_state["n_steps"], abs=40)
    assert abs(found.score(by_class) - expected.score(by_class)) < 0.015
    assert abs(found.loss_curve_[-1] - expected.loss_curve_[-1]) < 0.01
    assert found.score(by_class) > 0.9


@pytest.mark.usefixtures("small_buffer")
@pytest.mark.parametrize("estimator", [AutoencoderTransformer, AutoencoderAnomalyDetector])
def test_a_streamed_fit_is_reproduced_to_the_bit(tmp_path, by_class, estimator):
    source = mapped(tmp_path, by_class)
    short = SMALL | {"max_epochs": 2}
    first, second = (estimator(**short).fit(source) for _ in range(2))
    np.testing.assert_array_equal(weights_of(first), weights_of(second))
    # The scaling is fitted on all rows, in the chunks of an array.
    loaded = estimator(**short).fit(by_class)
    np.testing.assert_array_equal(first._model.scaler.center, loaded._model.scaler.center)
    assert first.loss_curve_[-1] < first.loss_curve_[0]


@pytest.mark.usefixtures("small_buffer")
def test_streamed_missing_values_and_weights_count_as_in_memory(tmp_path, by_class):
    values = by_class.copy()
    values[::3, 4] = np.nan
    weights = np.where(np.arange(len(values)) % 4 == 0, 0.0, 1.0 + (values[:, 0] > 0))
    values[::4] = 1e6  # Of weight zero: left out.
    model = DenoisingAutoencoder(**SMALL | {"max_epochs": 8})
    expected = clone(model).fit(values, sample_weight=weights)
    found = clone(model).fit(mapped(tmp_path, values), sample_weight=weights)
    np.testing.assert_allclose(found._model.scaler.center, expected._model.scaler.center, 1e-6)
    kept = weights > 0
    scores = [model.score(values[kept], sample_weight=weights[kept]) for model in (expected, found)]
    assert abs(scores[1] - scores[0]) < 0.02
    assert abs(found.loss_curve_[-1] / expected.loss_curve_[-1] - 1.0) < 0.1


@pytest.mark.usefixtures("small_buffer")
def test_a_streamed_weight_of_two_is_close_to_a_row_given_twice(tmp_path, by_class):
    model = AutoencoderTransformer(**SMALL)
    weights = 1 + (np.arange(len(by_class)) % 2)
    repeated = mapped(tmp_path, by_class.repeat(weights, axis=0), "repeated.npy")
    scores = [
        clone(model).fit(repeated).score(by_class),
        clone(model).fit(mapped(tmp_path, by_class), sample_weight=weights).score(by_class),
    ]
    assert abs(scores[0] - scores[1]) < 0.02


@pytest.mark.slow
@pytest.mark.usefixtures("small_buffer")
def test_the_streamed_detector_finds_outliers_and_flags_the_share_it_is_told(tmp_path, by_class):
    rng = np.random.default_rng(1)
    values, is_outlier = by_class.copy(), rng.random(len(by_class)) < 0.03
    values[is_outlier] = rng.normal(size=(is_outlier.sum(), 10)) * by_class.std(0) + by_class.mean(
        0
    )
    model = AutoencoderAnomalyDetector(random_state=0, hidden_layer_sizes=(16,), contamination=0.03)
    loaded = clone(model).fit(values)
    detector = clone(model).fit(mapped(tmp_path, values))
    assert (detector.predict(values) == -1).mean() == pytest.approx(0.03, abs=1e-3)
    areas = [roc_auc_score(is_outlier, -each.score_samples(values)) for each in (loaded, detector)]
    assert areas[1] > areas[0] - 0.02
    before = detector.offset_
    detector.calibrate(mapped(tmp_path, by_class, "clean.npy"))
    assert detector.offset_ != before


@pytest.mark.usefixtures("small_buffer")
def test_partial_fit_goes_on_over_a_stream(tmp_path, by_class):
    source = mapped(tmp_path, by_class)
    model = AutoencoderTransformer(**SMALL)
    for _ in range(5):
        model.partial_fit(source)
    assert model.n_iter_ == 5
    assert model.loss_curve_[-1] < 0.5 * model.loss_curve_[0]
    model.set_params(warm_start=True, max_epochs=3).fit(source)
    assert model.loss_curve_[-1] < 0.5


@pytest.mark.usefixtures("small_buffer")
@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize(
    ("fault", "kind", "match"),
    [
        ({"error": OSError("the disk is gone")}, OSError, "the disk is gone"),
        ({"error": KeyboardInterrupt()}, KeyboardInterrupt, None),
        ({"cut": 3}, ValueError, "it changed while it was read"),
    ],
    ids=["raises", "interrupted", "shrinks"],
)
def test_a_source_that_fails_in_an_epoch_leaves_the_estimator_as_it_was(
    by_class, fitted, fault, kind, match
):
    model = AutoencoderTransformer(**SMALL)
    if fitted:
        model.fit(by_class[:100])
    before = {name: id(value) for name, value in vars(model).items()}
    source = Slices(by_class, **fault)
    with pytest.raises(kind, match=match) as caught:
        model.fit(source)
    assert source.n_reads > 300
    assert {name: id(value) for name, value in vars(model).items()} == before
    if kind is OSError:
        assert "rows" in caught.value.__notes__[0]


@pytest.mark.usefixtures("small_buffer")
def test_a_mapped_file_that_is_cut_short_is_an_error(tmp_path, by_class, monkeypatch):
    source = mapped(tmp_path, by_class)
    scaler_of = fitting.fitted_scaler

    def cutting(*args):
        scaler = scaler_of(*args)
        os.truncate(tmp_path / "rows.npy", 100_000)
        return scaler

    model = AutoencoderTransformer(**SMALL)
    monkeypatch.setattr(fitting, "fitted_scaler", cutting)
    with pytest.raises(ValueError, match="changed while it was read"):
        model.fit(source)
    monkeypatch.undo()
    assert not hasattr(model, "_model")
    with pytest.raises(ValueError, match="shorter than the 400200 bytes"):
        AutoencoderTransformer(**SMALL).fit(source)


@pytest.mark.usefixtures("small_buffer")
def test_infinite_values_in_a_stream_are_an_error(by_class):
    values = by_class.copy()
    values[-1, 3] = np.inf
    with pytest.raises(ValueError, match="contains infinity"):
        AutoencoderTransformer(**SMALL).fit(Slices(values))


_PEAK = """
import sys, threading, time
import numpy as np
import skae
from skae._data import sources, streamed

streamed.SHUFFLE_BUFFER = 16 << 20
peak, done = 0, False

def anonymous():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("RssAnon"))

def watch():
    global peak
    while not done:
        peak = max(peak, anonymous())
        time.sleep(0.005)

model = skae.AutoencoderTransformer(
    hidden_layer_sizes=(8,), n_components=2, max_epochs=1, random_state=0
)
rows = np.load(sys.argv[1], mmap_mode="r")
model.fit(np.array(rows[:1000]))
before = anonymous()
watcher = threading.Thread(target=watch)
watcher.start()
model.fit(rows).score_samples(rows)
out = np.lib.format.open_memmap(sys.argv[1] + ".out", "w+", dtype=np.float32, shape=rows.shape)
model.reconstruct(rows, out=out)
done = True
watcher.join()
print(peak - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's /proc")
def test_a_fit_holds_two_buffers_and_little_else(tmp_path):
    rows = np.lib.format.open_memmap(
        tmp_path / "rows.npy", "w+", dtype=np.float32, shape=(200_000, 128)
    )
    rows[:] = np.random.default_rng(0).normal(size=(1, 128))
    rows[:, 0] = np.arange(len(rows)) % 7
    rows.flush()
    command = [sys.executable, "-c", _PEAK, str(tmp_path / "rows.npy")]
    # Freed memory goes back at once: what malloc keeps for later is not what the fit holds.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 17)}
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    assert int(ran.stdout) < 80 << 20, "the file has 98 MB, the buffers 32 MB"
