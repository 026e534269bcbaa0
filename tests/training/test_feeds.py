"""What an epoch of a stream shows: every row once, mixed, in whole batches."""

import numpy as np
import pytest
import torch

from skae._data import sources, streamed
from skae._data.scale import fit_scaler
from skae._data.sources import Source
from skae._training.feeds import BlockFeed, batch_sizes
from skae._training.plan import TrainingPlan


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


def feed_of(values, n_own=None, seeds=(0,), weights=None, early_stopping=False, batch_size=32):
    source = Source(Slices(values))
    length = streamed.block_length(source, torch.float32, len(seeds))
    plan = TrainingPlan(
        *("squared_error", "adam", (1e-3,), (0.0,), "constant"), batch_size, 1, 0.0, None,
        early_stopping, 0.1, 0.0, seeds, torch.float32, max_samples=n_own, block_length=length,
    )  # fmt: skip
    scaler = fit_scaler(None, lambda: [(values, None)], False)
    rows = streamed.scaled_rows(
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


@pytest.mark.slow
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
            patch.setattr(streamed, "SHUFFLE_BUFFER", n_buffer_rows * (40 + 64 * n_members))
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
    one = streamed.sample_rows(100_000, 5_000, 1, 0, 0)
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
