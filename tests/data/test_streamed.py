"""Data larger than memory: sources, and fits that read shuffled blocks of them."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer, DenoisingAutoencoder
from skae._data import sources, streamed
from skae._data.scale import fit_scaler
from skae._data.sources import Source, source_of
from skae._training.feeds import BlockFeed
from skae._training.loop import batch_sizes
from skae._training.plan import TrainingPlan

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
    monkeypatch.setattr(sources, "_READ_BYTES", 1 << 10)
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


def in_hdf5(tmp_path, values):
    h5py = pytest.importorskip("h5py")
    file = h5py.File(tmp_path / "rows.h5", "w")
    chunks = (min(97, len(values)), *values.shape[1:])
    return file.create_dataset("rows", data=values, chunks=chunks, compression="gzip")


def in_zarr(tmp_path, values):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(
        tmp_path / "rows.zarr",
        shape=values.shape,
        dtype=values.dtype,
        chunks=(min(97, len(values)), *values.shape[1:]),
    )
    array[:] = values
    return array


STORES = {
    "memmap": mapped,
    "hdf5": in_hdf5,
    "zarr": in_zarr,
    "slices": lambda _, values: Slices(values),
}


def weights_of(estimator):
    return estimator._model.network.parameters.numpy()


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize(
    "estimator",
    [
        AutoencoderTransformer(**SMALL),
        DenoisingAutoencoder(**SMALL, scaling="robust"),
        AutoencoderAnomalyDetector(**SMALL, contamination=0.1),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_a_source_that_fits_in_memory_gives_the_bits_of_an_array(tmp_path, store, estimator):
    values = load_digits().data[:1000]
    values[::7, 20] = np.nan
    weights = np.arange(1000) % 3
    source = STORES[store](tmp_path, values)
    expected = clone(estimator).fit(values, sample_weight=weights)
    found = clone(estimator).fit(source, sample_weight=weights)
    np.testing.assert_array_equal(weights_of(found), weights_of(expected))
    np.testing.assert_array_equal(found.score_samples(source), expected.score_samples(values))


@pytest.mark.parametrize("store", STORES)
def test_images_from_a_source_give_the_bits_of_an_array(tmp_path, store):
    images = load_digits().images[:300].astype(np.uint8)
    source = STORES[store](tmp_path, images)
    expected = AutoencoderTransformer(**SMALL).fit(images)
    found = AutoencoderTransformer(**SMALL).fit(source)
    np.testing.assert_array_equal(found.reconstruct(source), expected.reconstruct(images))


@pytest.mark.parametrize("store", ["memmap", "hdf5", "zarr"])
def test_patches_of_a_source_are_those_of_an_array(tmp_path, store):
    images = load_digits().images[:30]
    source = STORES[store](tmp_path, images)
    model = DenoisingAutoencoder(**SMALL, patch_size=6)
    expected, found = clone(model).fit(images), clone(model).fit(source)
    np.testing.assert_array_equal(found.denoise(source), expected.denoise(images))


@pytest.mark.parametrize("store", STORES)
def test_a_source_gives_the_rows_that_an_array_does(tmp_path, monkeypatch, store):
    values = np.random.default_rng(0).normal(size=(500, 3, 2))
    source, rows = source_of(STORES[store](tmp_path, values)), values.reshape(500, 6)
    source.read_length = 64
    mask, some = rows[:, 0] > 0.5, np.array([3, 4, 70, 71, 320, 499])
    for part in (np.s_[:], np.s_[10:20], np.s_[60:70], np.s_[400:], np.s_[5:5], some, mask):
        np.testing.assert_array_equal(source[part][:], rows[part])
    np.testing.assert_array_equal(source[mask][20:40], rows[mask][20:40])
    np.testing.assert_array_equal(source[mask][np.array([0, 9])], rows[mask][[0, 9]])


@pytest.mark.parametrize("crop", [np.s_[7:], np.s_[3:90:2], np.s_[:, 1:], np.s_[50:60]])
def test_a_part_of_a_memory_map_is_read_where_it_lies(tmp_path, crop):
    values = np.random.default_rng(0).normal(size=(100, 5))
    np.testing.assert_array_equal(source_of(mapped(tmp_path, values)[crop])[:], values[crop])


def test_a_memory_map_of_a_file_that_was_replaced_is_read_as_mapped(tmp_path):
    values = np.random.default_rng(0).normal(size=(100, 5))
    old = mapped(tmp_path, values)
    mapped(tmp_path, values + 1, "new.npy")
    os.replace(tmp_path / "new.npy", tmp_path / "rows.npy")
    np.testing.assert_array_equal(source_of(old)[:], values)


def test_private_changes_to_a_memory_map_are_seen(tmp_path):
    mapped(tmp_path, np.zeros((100, 5)))
    private = np.load(tmp_path / "rows.npy", mmap_mode="c")
    private[50] = 1.0
    assert source_of(private)[50:51].sum() == 5.0


def test_arrays_matrices_and_frames_are_no_sources(by_class):
    pandas = pytest.importorskip("pandas")
    for X in (by_class, pandas.DataFrame(by_class), torch.from_numpy(by_class), [[1.0, 2.0]]):
        assert source_of(X) is None


def feed_of(values, n_own=None, seeds=(0,), weights=None, early_stopping=False, batch_size=32):
    source = Source(Slices(values))
    length = streamed.block_length(source, torch.float32, len(seeds))
    plan = TrainingPlan(
        *("squared_error", "adam", (1e-3,), (0.0,), "constant"), batch_size, 1, 0.0, None,
        early_stopping, 0.1, 0.0, seeds, torch.float32, max_samples=n_own, block_length=length,
    )  # fmt: skip
    scaler = fit_scaler(None, lambda: [(values, None)], False)
    rows = stream.scaled_rows(
        source, weights, scaler, torch.float32, torch.device("cpu"), False,
        *(length, len(seeds), plan.batch_size),
    )  # fmt: skip
    return rows, BlockFeed(rows, plan)


def seen(rows, orders):
    """First column of the rows that are shown, (K, n), and how many at a time."""
    parts = [(rows.values[order][..., 0].clone(), order.shape[1]) for order in orders]
    return torch.cat([values for values, _ in parts], 1).numpy(), [n for _, n in parts]


def numbered(n):
    return np.arange(n, dtype=np.float32)[:, None].repeat(10, axis=1)


def generators(n, seed=0):
    return [torch.Generator().manual_seed(seed + k) for k in range(n)]


@pytest.mark.usefixtures("small_buffer")
@pytest.mark.parametrize("n", [10_005, 9_985, 7_777])
def test_an_epoch_shows_every_row_once_in_whole_batches(n):
    rows, feed = feed_of(numbered(n))
    values, sizes = seen(rows, feed.epoch(generators(1)))
    np.testing.assert_array_equal(np.sort(values[0]), np.arange(n))
    assert feed.n_train == n
    assert len(sizes) > 4
    assert all(size % 32 == 0 for size in sizes[:-1])
    assert not np.array_equal(values, seen(rows, feed.epoch(generators(1, seed=1)))[0])
    np.testing.assert_array_equal(values, seen(rows, feed.epoch(generators(1)))[0])


def test_any_epoch_has_the_batches_of_one_in_memory():
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies

    @hypothesis.settings(max_examples=30, deadline=None, derandomize=True)
    @hypothesis.given(
        n=st.integers(50, 1500),
        batch_size=st.integers(2, 200),
        n_members=st.integers(1, 3),
        share=st.floats(0.01, 1.0),
        n_buffer_rows=st.integers(1, 20),
    )
    def check(n, batch_size, n_members, share, n_buffer_rows):
        n_own, seeds = max(1, int(share * n)), tuple(range(n_members))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sources, "_READ_BYTES", 100)
            patch.setattr(stream, "SHUFFLE_BUFFER", n_buffer_rows * (40 + 64 * n_members))
            rows, feed = feed_of(numbered(n), n_own, seeds, batch_size=batch_size)
            values, sizes = seen(rows, feed.epoch(generators(n_members)))
        assert values.shape == (n_members, n_own)
        assert all(len(np.unique(own)) == n_own for own in values)
        found = [size for part in sizes for size in batch_sizes(part, batch_size)]
        assert found == batch_sizes(n_own, batch_size)

    check()


@pytest.mark.usefixtures("small_buffer")
def test_a_batch_mixes_rows_of_the_whole_file():
    rows, feed = feed_of(numbered(10_000))
    values, _ = seen(rows, feed.epoch(generators(1)))
    batches = values[0][:9_984].reshape(-1, 32)
    # Of uniform draws, the mean and the deviation of a batch's rows are these.
    assert abs(batches.mean(1) - 5000).max() < 5 * 2887 / np.sqrt(32)
    assert batches.std(1).min() > 1500


@pytest.mark.usefixtures("small_buffer")
def test_members_have_rows_of_their_own_in_every_epoch():
    n, n_own = 8_001, 6_400
    rows, feed = feed_of(numbered(n), n_own, seeds=(3, 4))
    values, _ = seen(rows, feed.epoch(generators(2)))
    again, _ = seen(rows, feed.epoch(generators(2, seed=5)))
    assert values.shape == (2, n_own)
    np.testing.assert_array_equal(np.sort(values), np.sort(again))
    owns = feed._blocks.owns(torch.arange(n)).numpy()
    for own, mine in zip(owns, values, strict=True):
        np.testing.assert_array_equal(np.flatnonzero(own), np.sort(mine))
    assert 0.55 < (owns[0] & owns[1]).mean() < 0.75


@pytest.mark.usefixtures("small_buffer")
def test_held_out_blocks_are_not_trained_on():
    rows, feed = feed_of(numbered(8_000), early_stopping=True)
    train, _ = seen(rows, feed.epoch(generators(1)))
    held_out, _ = seen(rows, feed.held_out())
    assert not np.intersect1d(train, held_out).size
    assert train.shape[1] == feed.n_train
    assert train.shape[1] + held_out.shape[1] == 8_000
    assert 0.08 < held_out.shape[1] / 8_000 < 0.12


@pytest.mark.usefixtures("small_buffer")
def test_members_of_few_rows_find_these_and_may_hold_some_out():
    rows, feed = feed_of(numbered(8_000), 20, seeds=(1, 2), early_stopping=True)
    train, _ = seen(rows, feed.epoch(generators(2)))
    held_out, _ = seen(rows, feed.held_out())
    assert train.shape[1] + held_out.shape[1] == 20
    assert not np.intersect1d(train[0], held_out[0]).size
    one = stream.sample_rows(100_000, 5_000, 1, 0, 0)
    assert len(one) == 5_000
    with pytest.raises(ValueError, match="max_samples=1 rows were all held out"):
        feed_of(numbered(8_000), 1, seeds=(1,), early_stopping=True)


@pytest.mark.usefixtures("small_buffer")
def test_weights_come_with_their_rows():
    n = 6_000
    rows, feed = feed_of(numbered(n), weights=np.arange(1.0, n + 1))
    for order in feed.epoch(generators(1)):
        expected = (rows.values[order][..., 0] + 1) / ((n + 1) / 2)
        torch.testing.assert_close(rows.weights[order], expected)


@pytest.mark.usefixtures("small_buffer")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"early_stopping": True, "lr_schedule": "constant"},
        {"scaling": "robust"},
        {"scaling": StandardScaler()},
        {"dropout": 0.05, "normalization": "batch"},
    ],
    ids=str,
)
def test_streaming_rows_sorted_by_class_is_as_good_as_loading_them(tmp_path, by_class, options):
    source = mapped(tmp_path, by_class)
    model = AutoencoderTransformer(**SMALL | {"max_epochs": 12}, **options)
    expected, found = clone(model).fit(by_class), clone(model).fit(source)
    assert found._train_state["n_steps"] == pytest.approx(expected._train_state["n_steps"], abs=40)
    assert abs(found.score(by_class) - expected.score(by_class)) < 0.015
    assert abs(found.loss_curve_[-1] - expected.loss_curve_[-1]) < 0.01
    assert found.score(by_class) > 0.9


@pytest.mark.usefixtures("small_buffer")
@pytest.mark.parametrize("estimator", [AutoencoderTransformer, AutoencoderAnomalyDetector])
def test_a_streamed_fit_is_reproduced_to_the_bit(tmp_path, by_class, estimator):
    source = mapped(tmp_path, by_class)
    first, second = (estimator(**SMALL).fit(source) for _ in range(2))
    np.testing.assert_array_equal(weights_of(first), weights_of(second))
    # The scaling is fitted on all rows, in the chunks of an array.
    loaded = estimator(**SMALL | {"max_epochs": 1}).fit(by_class)
    np.testing.assert_array_equal(first._model.scaler.center, loaded._model.scaler.center)
    assert first.loss_curve_[-1] < first.loss_curve_[0]


@pytest.mark.usefixtures("small_buffer")
def test_streamed_missing_values_and_weights_count_as_in_memory(tmp_path, by_class):
    values = by_class.copy()
    values[::3, 4] = np.nan
    weights = np.where(np.arange(len(values)) % 4 == 0, 0.0, 1.0 + (values[:, 0] > 0))
    values[::4] = 1e6  # Of weight zero: left out.
    model = DenoisingAutoencoder(**SMALL | {"max_epochs": 15})
    expected = clone(model).fit(values, sample_weight=weights)
    found = clone(model).fit(mapped(tmp_path, values), sample_weight=weights)
    np.testing.assert_allclose(found._model.scaler.center, expected._model.scaler.center, 1e-6)
    kept = weights > 0
    scores = [model.score(values[kept], sample_weight=weights[kept]) for model in (expected, found)]
    assert abs(scores[1] - scores[0]) < 0.02
    assert abs(found.loss_curve_[-1] / expected.loss_curve_[-1] - 1.0) < 0.1


@pytest.mark.usefixtures("small_buffer")
def test_a_streamed_weight_of_two_is_close_to_a_row_given_twice(tmp_path, by_class):
    model = AutoencoderTransformer(**SMALL | {"max_epochs": 15})
    weights = 1 + (np.arange(len(by_class)) % 2)
    repeated = mapped(tmp_path, by_class.repeat(weights, axis=0), "repeated.npy")
    scores = [
        clone(model).fit(repeated).score(by_class),
        clone(model).fit(mapped(tmp_path, by_class), sample_weight=weights).score(by_class),
    ]
    assert abs(scores[0] - scores[1]) < 0.02


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
def test_a_mapped_file_that_is_cut_short_is_an_error(tmp_path, by_class):
    source = mapped(tmp_path, by_class)

    class Cutting(AutoencoderTransformer):
        def _fit_scaler(self, *args):
            scaler = super()._fit_scaler(*args)
            os.truncate(tmp_path / "rows.npy", 100_000)
            return scaler

    model = Cutting(**SMALL)
    with pytest.raises(ValueError, match="changed while it was read"):
        model.fit(source)
    assert not hasattr(model, "_model")
    with pytest.raises(ValueError, match="shorter than the 400200 bytes"):
        AutoencoderTransformer(**SMALL).fit(source)


@pytest.mark.usefixtures("small_buffer")
def test_infinite_values_in_a_stream_are_an_error(by_class):
    values = by_class.copy()
    values[-1, 3] = np.inf
    with pytest.raises(ValueError, match="contains infinity"):
        AutoencoderTransformer(**SMALL).fit(Slices(values))


def test_sources_of_a_wrong_kind_or_width_are_refused_as_arrays_are(by_class):
    model = AutoencoderTransformer(**SMALL).fit(by_class[:50])
    with pytest.raises(ValueError, match="X has 9 features, but AutoencoderTransformer is expect"):
        model.transform(Slices(by_class[:, :9]))
    with pytest.raises(ValueError, match="Complex data not supported"):
        model.fit(Slices(by_class.astype(complex)))
    with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\)"):
        model.fit(Slices(by_class[:0]))


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


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's /proc")
def test_a_fit_holds_two_buffers_and_little_else(tmp_path):
    rows = np.lib.format.open_memmap(
        tmp_path / "rows.npy", "w+", dtype=np.float32, shape=(400_000, 128)
    )
    rows[:] = np.random.default_rng(0).normal(size=(1, 128))
    rows[:, 0] = np.arange(len(rows)) % 7
    rows.flush()
    command = [sys.executable, "-c", _PEAK, str(tmp_path / "rows.npy")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 80 << 20, "the file has 195 MB, the buffers 32 MB"


def writable(tmp_path, store, shape, dtype):
    if store == "memmap":
        return np.lib.format.open_memmap(
            tmp_path / f"{shape[1]}.npy", "w+", dtype=dtype, shape=shape
        )
    if store == "hdf5":
        h5py = pytest.importorskip("h5py")
        return h5py.File(tmp_path / f"{shape[1]}.h5", "w").create_dataset("out", shape, dtype)
    return np.empty(shape, dtype)


@pytest.mark.parametrize("store", ["memmap", "hdf5", "array"])
def test_results_are_written_where_the_caller_wants_them(tmp_path, by_class, store):
    model = AutoencoderTransformer(**SMALL).fit(by_class)
    source = mapped(tmp_path, by_class)
    out = writable(tmp_path, store, (len(by_class), 4), np.float64)
    assert model.transform(source, out=out) is out
    np.testing.assert_array_equal(out[:], model.transform(by_class))
    out = writable(tmp_path, store, by_class.shape, np.float32)
    assert model.reconstruct(by_class, out=out) is out
    np.testing.assert_array_equal(out[:], model.reconstruct(by_class))


@pytest.mark.parametrize("options", [{}, {"patch_size": 6}], ids=str)
def test_images_are_written_where_the_caller_wants_them(tmp_path, options):
    images = load_digits().images[:30]
    model = DenoisingAutoencoder(**SMALL, **options).fit(images)
    out = writable(tmp_path, "memmap", images.shape, np.float32)
    assert model.denoise(images, out=out) is out
    np.testing.assert_array_equal(out, model.denoise(images))


@pytest.mark.parametrize(
    "out", [np.empty((5, 3)), np.empty((4, 4)), np.empty((5, 4), int), [0.0] * 5], ids=str
)
def test_an_out_that_does_not_fit_is_refused(by_class, out):
    model = AutoencoderTransformer(**SMALL).fit(by_class[:100])
    with pytest.raises(ValueError, match=r"out must be an array of floats of shape \(5, 4\)"):
        model.transform(by_class[:5], out=out)
