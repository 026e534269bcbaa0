"""A fit in several processes: as one in a single process, wherever the partitions are."""

import dataclasses
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import sparse

import skae
from skae._data import sources
from skae._data.convert import weighted_chunks
from skae._data.loaded import load_rows
from skae._data.scale import fit_scaler
from skae._data.shards import ShardedRows, ShardedWeights, ShardRows, whole
from skae._data.sources import RowFile
from skae._data.streamed import sampled
from skae._runtime.communicator import ALONE, gathered, largest, total
from skae._runtime.randomness import EPOCH_STREAM, generator
from skae._training import loop
from skae._training.feeds import ShardFeed, trained_on

rng = np.random.default_rng(0)
X = rng.normal(size=(610, 3)) @ rng.normal(size=(3, 7)) + 0.1 * rng.normal(size=(610, 7))
X[:, 5] = np.round(X[:, 5])  # few values
WEIGHTS = rng.uniform(0.2, 2.0, size=len(X))
BOUNDS = [0, 200, 207, 207, 430, 500, 610]  # one partition is empty
PARTS = {i: slice(a, b) for i, (a, b) in enumerate(pairwise(BOUNDS)) if a < b}
PLACEMENTS = [[[0, 1, 3, 4, 5]], [[0, 1, 3], [4, 5]], [[3], [5, 0], [4], [1]]]
FEW = {"max_epochs": 2, "batch_size": 32, "random_state": 0, "precision": "float64"}


class Threads:
    """Threads of this process as the processes of a fit."""

    def __init__(self, size):
        self.size, self._barrier = size, threading.Barrier(size)
        self._values = [None] * size

    def rank(self, number):
        return Seat(self, number)

    def exchange(self, number, values):
        self._values[number] = values.clone()
        self._barrier.wait(timeout=30)
        found = list(self._values)
        self._barrier.wait(timeout=30)
        return found

    def abort(self):
        self._barrier.abort()


class Seat:
    def __init__(self, everyone, rank):
        self._everyone, self.rank, self.size = everyone, rank, everyone.size

    def all_reduce(self, values, operation="sum"):
        stacked = torch.stack(self._everyone.exchange(self.rank, values))
        values.copy_(stacked.amax(0) if operation == "max" else stacked.sum(0, dtype=values.dtype))

    def broadcast(self, values):
        values.copy_(self._everyone.exchange(self.rank, values)[0])


def in_threads(size, function):
    """What a function of a communicator returns in each of ``size`` threads."""
    everyone = Threads(size)

    def guarded(rank):
        try:
            return function(everyone.rank(rank))
        except BaseException:
            everyone.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(guarded, rank) for rank in range(size)]
        errors = [e for e in (f.exception() for f in futures) if e is not None]
        own = [e for e in errors if not isinstance(e, threading.BrokenBarrierError)]
        if errors:
            raise (own or errors)[0]
        return [f.result() for f in futures]


def copied(estimator):
    return pickle.loads(pickle.dumps(estimator))


def unproven(estimator):
    """A copy that is fitted once: several processes do not hold rows back."""
    held_out = estimator.early_stopping is True
    return copied(estimator).set_params(early_stopping=held_out)


def fitted(estimator, placement, weights=None, folder=None, free_bytes=None, **how):
    """Copies of the estimator, fitted in one process each on the partitions of it.

    With a ``folder``, rows are in files there.
    """

    def fit(communicator):
        own, places = copied(estimator), placement[communicator.rank]
        resume = own._is_fitted()
        parts = {place: own._check_X(X[PARTS[place]], reset=not resume) for place in places}
        if folder is not None:
            file = RowFile(folder)
            parts = {place: file.add(part) for place, part in parts.items()}
        rows, given = ShardedRows(parts, 6, communicator, free_bytes), None
        if weights is not None:
            given = ShardedWeights(rows, {place: weights[PARTS[place]] for place in places})
        own._fit(rows, None, given, resume=resume, **how)
        return own

    return in_threads(len(placement), fit)


def plan_of(estimator):
    estimator = copied(estimator)
    estimator._check_X(X, reset=True)
    return estimator._plan(len(X), torch.float64, False, False)


def feed_of(placement, communicator, plan):
    places = placement[communicator.rank]
    rows = ShardedRows({place: X[PARTS[place]] for place in places}, 6, communicator)
    scaler = fit_scaler(None, lambda: weighted_chunks(X, None), False)
    loaded = load_rows(rows.local, None, scaler, torch.float64, torch.device("cpu"), False)
    return ShardFeed(ShardRows(loaded, rows), plan)


def batches_of(placement, plan, epoch=0):
    """The batches of an epoch, put together from all processes, as sets of values."""

    def own(communicator):
        feed = feed_of(placement, communicator, plan)
        generators = [generator(seed, EPOCH_STREAM + epoch) for seed in plan.seeds]
        (order,) = feed.epoch(generators)
        values = feed._rows.values[:, 0][order]
        held_out = [feed._rows.values[:, 0][part] for part in feed.held_out()]
        return values.split(feed.sizes(order.shape[1]), 1), held_out

    found = in_threads(len(placement), own)
    steps = zip(*(own for own, _ in found), strict=True)
    steps = [torch.cat(parts, 1).sort(1).values for parts in steps]
    held_out = [part for _, parts in found for part in parts]
    return steps, torch.cat(held_out, 1).sort(1).values if held_out else None


def parameters(estimator):
    return estimator._model.network.parameters


class AllPartitions:
    """The batches of a fit in several processes, for one that knows nothing of them."""

    def __init__(self, rows, plan):
        everything = ShardedRows({place: X[part] for place, part in PARTS.items()}, 6, ALONE)
        self._feed = ShardFeed(ShardRows(rows, everything), plan)

    def __getattr__(self, name):
        return getattr(self._feed, name)


T, D = skae.AutoencoderTransformer, skae.AutoencoderAnomalyDetector
CASES = {
    "plain": T(n_components=2, **FEW),
    "random": T(n_components=2, init="random", activation="tanh", **FEW),
    "ordered": T(n_components=4, ordered=True, **FEW),
    "sparse": T(n_components=4, n_nonzero_coefs=2, **FEW),
    "held out": T(n_components=2, early_stopping=True, lr_schedule="constant",
                  optimizer="sgd", learning_rate=0.1, **FEW),
    "options": T(n_components=2, loss="huber", scaling="minmax", normalization="layer",
                 dropout=0.1, weight_decay=1e-3, latent_l1=1e-3, optimizer="adamw", **FEW),
    "robust": T(n_components=2, scaling="robust", **FEW),
    "noise": skae.DenoisingAutoencoder(n_components=2, noise="salt_and_pepper", **FEW),
    "few": D(n_components=2, **FEW),
    "clean": D(n_components=2, contamination=0, **FEW),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("name", CASES)
def test_any_placement_is_as_one_process(name, weighted, monkeypatch):
    weights = WEIGHTS if weighted else None
    if isinstance(CASES[name], D):
        one = fitted(CASES[name], PLACEMENTS[0], weights)[0]
    else:
        with monkeypatch.context() as patch:
            patch.setattr(loop, "make_feed", AllPartitions)
            one = unproven(CASES[name]).fit(X, sample_weight=weights)
    for placement in PLACEMENTS:
        ranks = fitted(CASES[name], placement, weights)
        for rank in ranks:
            assert torch.equal(parameters(rank), parameters(ranks[0]))
        torch.testing.assert_close(parameters(rank), parameters(one), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(rank.loss_curve_, one.loss_curve_, rtol=1e-12)
        # Scores of a detector pass through float32.
        close = {"rtol": 1e-5} if isinstance(one, D) else {"rtol": 1e-12, "atol": 1e-12}
        np.testing.assert_allclose(rank.score_samples(X), one.score_samples(X), **close)
        if isinstance(one, D):
            np.testing.assert_allclose(rank.offset_, one.offset_, **close)


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("name", CASES)
def test_rows_in_files_give_the_bits_of_rows_in_memory(name, weighted, tmp_path):
    weights = WEIGHTS if weighted else None
    estimator, placement = CASES[name], PLACEMENTS[1]
    in_memory = fitted(estimator, placement, weights)[0]
    # Of about 300 rows of each process, some 50 are in memory at a time.
    in_files = fitted(estimator, placement, weights, tmp_path, 25_000)[0]
    assert torch.equal(parameters(in_files), parameters(in_memory))
    np.testing.assert_allclose(in_files.loss_curve_, in_memory.loss_curve_, rtol=1e-12)
    np.testing.assert_array_equal(in_files.score_samples(X), in_memory.score_samples(X))


def test_an_epoch_reads_each_row_as_often_however_few_are_in_memory(tmp_path, monkeypatch):
    estimator, read, n_read = CASES["random"], RowFile.read, 0

    def counted(file, position, rows):
        nonlocal n_read
        n_read += rows.size // 7
        read(file, position, rows)

    monkeypatch.setattr(RowFile, "read", counted)
    monkeypatch.setattr(sources, "_READ_BYTES", 1 << 10)
    found = []
    for free_bytes in (40_000, 8_000):  # 5 and 20 windows
        for n_epochs in (1, 3):
            n_read = 0
            one = copied(estimator).set_params(max_epochs=n_epochs)
            fitted(one, PLACEMENTS[0], None, tmp_path, free_bytes)
            found.append(n_read)
    assert found[1] - found[0] == found[3] - found[2]
    # Once in the order of the file, and once as they were written for the epoch.
    assert found[1] - found[0] == 2 * 2 * len(X)


def test_files_of_rows_are_read_as_what_was_written(tmp_path):
    file = RowFile(tmp_path)
    arrays = [X, (10 * X).astype("i2"), np.asfortranarray(X.astype("f4")), X[:, :1] > 0]
    for rows, stored in [(rows, file.add(rows)) for rows in arrays]:
        assert (stored.shape, stored.dtype) == (rows.shape, rows.dtype)
        np.testing.assert_array_equal(stored[3:5], rows[3:5])
        np.testing.assert_array_equal(stored[0:610], rows)
    assert not list(tmp_path.iterdir())


def test_missing_cells_are_counted_over_all_processes(monkeypatch):
    holes = np.where(np.random.default_rng(1).random(X.shape) < 0.2, np.nan, X)
    holes[PARTS[1]] = np.nan  # all of a partition
    monkeypatch.setitem(globals(), "X", holes)
    found = [fitted(CASES["plain"], placement)[0] for placement in PLACEMENTS]
    for other in found[1:]:
        torch.testing.assert_close(parameters(other), parameters(found[0]), rtol=1e-12, atol=1e-12)


def test_training_goes_on_as_in_one_process():
    one = fitted(CASES["plain"], PLACEMENTS[0])[0]
    one = fitted(one, PLACEMENTS[0], one_pass=True)[0]
    other = fitted(CASES["plain"], PLACEMENTS[2])[0]
    other = fitted(other, PLACEMENTS[1], one_pass=True)[1]
    assert len(other.loss_curve_) == FEW["max_epochs"] + 1
    torch.testing.assert_close(parameters(other), parameters(one), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["plain", "held out", "few"])
def test_batches_do_not_depend_on_where_partitions_are(name):
    plan = plan_of(CASES[name])
    steps, held_out = batches_of(PLACEMENTS[0], plan)
    for placement in PLACEMENTS[1:]:
        others, others_held_out = batches_of(placement, plan)
        assert all(torch.equal(a, b) for a, b in zip(steps, others, strict=True))
        assert held_out is None or torch.equal(held_out, others_held_out)


def test_an_epoch_has_every_row_once_in_equal_batches_in_new_order():
    plan = plan_of(CASES["plain"])
    steps, _ = batches_of(PLACEMENTS[1], plan)
    assert {step.shape[1] for step in steps} == {30, 31}  # 610 rows in 20 batches
    everything = torch.cat(steps, 1).sort(1).values
    assert torch.equal(everything[0], torch.from_numpy(np.sort(X[:, 0])))
    later, _ = batches_of(PLACEMENTS[1], plan, epoch=1)
    assert not torch.equal(steps[0][0, :30], later[0][0, :30])


def test_held_out_rows_are_not_trained_on_and_come_from_all_partitions():
    steps, held_out = batches_of(PLACEMENTS[2], plan_of(CASES["held out"]))
    assert held_out.shape == (1, 61)
    assert not np.isin(torch.cat(steps, 1), held_out).any()
    for part in (0, 3, 4, 5):
        assert np.isin(X[PARTS[part], 0], held_out[0]).any()


def test_members_leave_out_rows_of_all_partitions_and_every_row_is_left_out():
    plan = dataclasses.replace(plan_of(CASES["few"]), max_samples=400)

    def owners(communicator):
        feed = feed_of(PLACEMENTS[2], communicator, plan)
        return trained_on(feed._rows, plan, len(X), torch.arange(len(X)))

    first, *others = in_threads(4, owners)
    assert all(torch.equal(first, other) for other in others)
    assert first.shape == (4, len(X))
    assert first.sum(1).tolist() == [400] * 4
    assert all(first[:, part].any(1).all() for part in PARTS.values())
    assert not first.all(0).any()


def test_every_partition_is_trained_on_however_few_rows_are_asked_for():
    steps, _ = batches_of(PLACEMENTS[2], dataclasses.replace(plan_of(CASES["few"]), max_samples=3))
    assert torch.cat(steps, 1).shape == (4, 5)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u1", "?"])
def test_samples_have_the_bits_of_the_rows(dtype):
    values = (X * 100).astype(dtype)
    values[:5] = np.iinfo("i8").max if dtype == "i8" else values[:5]

    def sample(communicator):
        places = PLACEMENTS[1][communicator.rank]
        rows = ShardedRows({p: values[PARTS[p]] for p in places}, 6, communicator)
        weights = ShardedWeights(rows, {p: WEIGHTS[PARTS[p]] for p in places})
        return (*sampled(rows, weights, 50, None, 0, 1), whole(rows), rows[[7, 3]], rows.dtype)

    expected, expected_weights = sampled(values, WEIGHTS, 50, None, 0, 1)
    for some, weights, everything, picked, kind in in_threads(2, sample):
        assert kind == np.dtype(dtype)
        assert some[:].tobytes() == expected[:].tobytes()
        assert weights.tobytes() == expected_weights.tobytes()
        assert everything.tobytes() == values.tobytes()
        assert picked.tobytes() == values[[7, 3]].tobytes()


def test_sparse_partitions_and_dtypes_that_differ():
    def sample(communicator):
        own = [{0: X[:300]}, {1: sparse.csr_matrix(X[300:].astype("f4"))}][communicator.rank]
        return ShardedRows(own, 2, communicator)[295:305]

    for rows in in_threads(2, sample):
        np.testing.assert_array_equal(rows[:5], X[295:300])
        np.testing.assert_array_equal(rows[5:], X[300:305].astype("f4"))


@pytest.mark.parametrize("scaling", ["standard", "common", "minmax", "mixed", "auto"])
@pytest.mark.parametrize("name", ["table", "pixels", "constant", "missing"])
def test_scalings_are_those_of_all_rows(name, scaling):
    values = {
        "table": X + 1e6,
        "pixels": np.random.default_rng(0).integers(0, 256, X.shape).astype(np.uint8),
        "constant": np.full(X.shape, 1e9 + 0.1),
        "missing": np.where(np.arange(len(X))[:, None] < 300, np.nan, X),
    }[name]

    def scaler(communicator):
        own = slice(0, 210) if communicator.rank == 0 else slice(210, None)
        chunks = lambda: weighted_chunks(values[own], WEIGHTS[own])  # noqa: E731
        return fit_scaler(scaling, chunks, False, "mixed", True, communicator)

    one = fit_scaler(scaling, lambda: weighted_chunks(values, WEIGHTS), False, "mixed", True)
    for found in in_threads(2, scaler):
        assert (found.name, found.limits) == (one.name, one.limits)
        np.testing.assert_allclose(found.center, one.center, rtol=1e-14)
        np.testing.assert_allclose(found.scale, one.scale, rtol=1e-9)


def test_what_processes_say_to_each_other():
    def said(communicator):
        rank = communicator.rank
        return (
            total(communicator, [rank, 1.0]),
            largest(communicator, [[-rank, rank]]),
            gathered(communicator, np.array([rank, np.nan])),
        )

    for sums, most, everyone in in_threads(3, said):
        np.testing.assert_array_equal(sums, [3.0, 3.0])
        np.testing.assert_array_equal(most, [[0, 2]])
        np.testing.assert_array_equal(everyone, [[0, np.nan], [1, np.nan], [2, np.nan]])


def test_an_error_of_one_process_is_that_of_the_fit():
    def fail(communicator):
        if communicator.rank == 1:
            raise ValueError("of one")
        total(communicator, [1.0])

    with pytest.raises(ValueError, match="of one"):
        in_threads(3, fail)
