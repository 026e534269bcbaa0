"""Fits in processes of a cluster: the same wherever rows are, and errors that say what to do."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import joblib
import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skae
import skae.dask
from skae._data.shards import ShardedRows, ShardRows
from skae._distributed import gang
from skae._distributed.collections import partitions
from skae._runtime.communicator import ALONE
from skae._training import loop
from skae._training.feeds import ShardFeed

pytestmark = pytest.mark.slow

da = pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")

rng = np.random.default_rng(0)
X = rng.normal(size=(600, 3)) @ rng.normal(size=(3, 6)) + 0.1 * rng.normal(size=(600, 6))
SIZES = (200, 7, 193, 110, 90)
FEW = {"n_components": 2, "max_epochs": 2, "batch_size": 32, "random_state": 0}
# Some minutes.
LONG = {**FEW, "max_epochs": 10**4, "init": "random"}


def array():
    # Of a name of its own: what has the name of earlier rows is where those are.
    return da.from_array(X, chunks=(SIZES, 6), name=False)


def on(client, workers):
    """The rows, in turn in the memory of these workers; of others, once these are gone."""
    rows = array()
    blocks = [rows.blocks[i] for i in range(len(SIZES))]
    for i, block in enumerate(blocks):
        worker = workers[i % len(workers)]
        blocks[i] = client.persist(block, workers=[worker], allow_other_workers=True)
    distributed.wait(blocks)
    return da.concatenate(blocks)


def addresses(client):
    return sorted(client.nthreads())


@pytest.fixture
def pair(processes):
    """A client of two workers that are ready."""
    processes.wait_for_workers(2, timeout=120)
    processes.run(lambda: __import__("skae.dask"))
    return processes


@contextlib.contextmanager
def soon():
    """No measurement: it tells what hangs until the default timeout from what does not."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 150


@contextlib.contextmanager
def while_training(client, action, n_tasks=2):
    """Do something two seconds after the tasks of a fit are with their workers."""

    def act():
        deadline = time.monotonic() + 30
        while len(training(client)) < n_tasks and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(2)
        action()

    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def training(client):
    """Workers that take part in a fit."""
    processing = client.processing().items()
    return [name for name, keys in processing if any("skae-" in str(key) for key in keys)]


class AllPartitions:
    """The batches of a fit on a cluster, for one that knows nothing of it."""

    def __init__(self, rows, plan):
        parts = dict(enumerate(np.split(X, np.cumsum(SIZES)[:-1])))
        self._feed = ShardFeed(ShardRows(rows, ShardedRows(parts, len(SIZES), ALONE)), plan)

    def __getattr__(self, name):
        return getattr(self._feed, name)


def parameters(estimator):
    return estimator._model.network.parameters


@pytest.mark.parametrize("name", ["AutoencoderTransformer", "DenoisingAutoencoder"])
def test_a_fit_is_that_of_one_process_wherever_the_rows_are(name, pair, monkeypatch):
    settings = {**FEW, "precision": "float64"}
    with monkeypatch.context() as patch:
        patch.setattr(loop, "make_feed", AllPartitions)
        # In one process, rows would be held back to prove that training helped.
        one = getattr(skae, name)(**settings, early_stopping=False).fit(X)
    first, second = addresses(pair)
    for workers in ([first], [second], [first, second]):
        found = getattr(skae.dask, name)(**settings, timeout=30).fit(on(pair, workers))
        torch.testing.assert_close(parameters(found), parameters(one), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found.loss_curve_, one.loss_curve_, rtol=1e-12)


@pytest.mark.parametrize("name", ["AutoencoderTransformer", "AutoencoderAnomalyDetector"])
def test_all_workers_end_with_the_same_bits(name, pair):
    plain = getattr(skae, name)(**FEW)
    rows = on(pair, addresses(pair))
    parts = partitions(rows, None)
    fitted, digests = gang.train(pair, plain, parts, 30, resume=False, one_pass=False)
    assert len(digests) == 2
    assert digests[0] == digests[1]
    again, others = gang.train(pair, plain, parts, 30, resume=False, one_pass=False)
    assert torch.equal(parameters(again), parameters(fitted))
    assert others == digests


def test_an_error_of_one_worker_is_raised_in_seconds(pair):
    broken = array().map_blocks(lambda block: np.where(len(block) == 7, np.inf, block))
    with soon(), pytest.raises(ValueError, match="infinity"):
        skae.dask.AutoencoderTransformer(**FEW).fit(broken)
    works(pair)


def works(client):
    """The next fit on the same cluster works."""
    client.wait_for_workers(2, timeout=120)
    with soon():
        found = skae.dask.AutoencoderTransformer(**FEW, timeout=60).fit(array())
    assert found.score(array()) > 0.5


def interrupted(client, action, error, match, timeout=5.0):
    """A fit during which something happens raises this, and leaves the estimator as it was."""
    estimator = skae.dask.AutoencoderTransformer(**FEW, timeout=60).fit(array())
    before = dict(vars(estimator.set_params(**LONG, timeout=timeout)))
    rows = on(client, addresses(client))
    with (
        soon(),
        pytest.raises(error, match=match),
        while_training(client, action),
    ):
        estimator.fit(rows)
    assert vars(estimator) == before


def pid_of(client, address):
    return client.run(os.getpid, workers=[address])[address]


def test_a_worker_that_is_killed(pair):
    victim = addresses(pair)[1]
    pid = pid_of(pair, victim)
    interrupted(pair, lambda: os.kill(pid, signal.SIGKILL), RuntimeError, f"{victim} left")
    works(pair)


def test_the_only_holder_that_is_killed(pair):
    victim = addresses(pair)[0]
    rows, pid = on(pair, [victim]), pid_of(pair, victim)
    estimator = skae.dask.AutoencoderTransformer(**LONG, timeout=5)
    with (
        soon(),
        pytest.raises(RuntimeError, match=f"{victim} left"),
        while_training(pair, lambda: os.kill(pid, signal.SIGKILL), n_tasks=1),
    ):
        estimator.fit(rows)
    pair.wait_for_workers(2, timeout=120)
    # Dask computes again what was lost.
    assert estimator.set_params(max_epochs=1, timeout=60).fit(rows).n_iter_ == 1


def test_a_worker_that_hangs(pair):
    victim = addresses(pair)[1]
    pid = pid_of(pair, victim)
    try:
        interrupted(pair, lambda: os.kill(pid, signal.SIGSTOP), RuntimeError, "silent")
    finally:
        os.kill(pid, signal.SIGCONT)
    works(pair)


@pytest.mark.parametrize("n_others", [0, 1], ids=["all", "one"])
def test_workers_that_are_busy(n_others, pair, monkeypatch):
    rows, (busy, *more) = on(pair, addresses(pair)), addresses(pair)[n_others:]
    estimator = skae.dask.AutoencoderTransformer(**FEW, timeout=3)
    seat, tasks = gang.Seat, []

    def then_busy(*given):
        if not tasks:
            for_long = partial(pair.submit, time.sleep, 15, pure=False)
            tasks.extend(for_long(workers=[worker]) for worker in (busy, *more))
            time.sleep(0.5)
        return seat(*given)

    # Its partitions are ready, and just when its part of the fit comes it has another task.
    monkeypatch.setattr(gang, "Seat", then_busy)
    with soon(), pytest.raises(TimeoutError, match=rf"no free thread on {busy}.*Dask does not"):
        estimator.fit(rows)
    distributed.wait(tasks)
    works(pair)


def test_ctrl_c_on_the_client(pair):
    # Commands that a shell starts in the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupted(pair, lambda: signal.raise_signal(signal.SIGINT), KeyboardInterrupt, None)
    idle(pair)
    works(pair)


def idle(client):
    """No task is left on any worker."""
    with soon():
        while any(client.processing().values()):
            time.sleep(0.1)


def test_workers_stop_when_the_client_is_gone(pair):
    other = distributed.Client(pair.scheduler.address, set_as_default=False)
    estimator = skae.dask.AutoencoderTransformer(**LONG, client=other, timeout=30)
    rows = on(other, addresses(other))
    thread = threading.Thread(target=lambda: swallowed(estimator.fit, rows))
    with while_training(pair, lambda: other.close(timeout=2)):
        thread.start()
        thread.join(30)
    idle(pair)
    works(pair)


def swallowed(function, *arguments):
    with contextlib.suppress(BaseException):
        function(*arguments)


def test_a_worker_that_joins_and_one_that_leaves(pair):
    estimator = skae.dask.AutoencoderTransformer(**{**FEW, "max_epochs": 400}, timeout=60)
    rows = on(pair, addresses(pair))
    with while_training(pair, lambda: pair.cluster.scale(3)):
        estimator.fit(rows)
    pair.wait_for_workers(3, timeout=120)
    victim = addresses(pair)[0]
    try:
        interrupted(pair, lambda: pair.retire_workers([victim]), RuntimeError, f"{victim} left")
    finally:
        pair.cluster.scale(2)
    works(pair)


def test_nothing_is_left_after_many_fits(pair):
    def counts():
        import gc

        gc.collect()
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    rows = on(pair, addresses(pair))
    estimator = skae.dask.AutoencoderTransformer(**{**FEW, "max_epochs": 1}, timeout=30)
    for _ in range(3):
        estimator.fit(rows)
    before = pair.run(counts)
    for _ in range(50):
        estimator.fit(rows)
    time.sleep(1)
    for address, (files, threads) in pair.run(counts).items():
        assert files <= before[address][0] + 4
        assert threads <= before[address][1] + 2


def searched(backend):
    """What a search under a backend of joblib finds."""
    grid = {"n_components": [1, 2], "learning_rate": [0.003, 0.01]}
    autoencoder = skae.AutoencoderTransformer(max_epochs=2, random_state=0)
    pipeline = make_pipeline(StandardScaler(), autoencoder)
    grid = {f"autoencodertransformer__{name}": values for name, values in grid.items()}
    search = GridSearchCV(pipeline, grid, cv=3)
    with joblib.parallel_config(backend=backend):
        search.fit(X)
    scores = [search.cv_results_[f"split{i}_test_score"] for i in range(3)]
    return search.best_params_, np.array(scores), search.transform(X)


def test_a_search_on_the_cluster_gives_the_bits_of_a_serial_one(pair):
    best, scores, latents = searched("sequential")
    with pair.as_current():
        on_cluster = searched("dask")
    assert on_cluster[0] == best
    np.testing.assert_array_equal(on_cluster[1], scores)
    np.testing.assert_array_equal(on_cluster[2], latents)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("length", [3, 20_000], ids=["short", "long"])
def test_a_process_ends_in_order_after_its_calls(size, length):
    code = f"""
import threading
import torch
from skae._distributed.gloo import Seat, connect, joined, open_store

store = open_store("127.0.0.1", 30)

def calls(rank):
    seat = Seat("one", ("a", "b", "c")[:{size}], rank, 30.0)
    own = connect("127.0.0.1", store.port, 30)
    with joined(seat, own, "127.0.0.1", lambda: True) as group:
        sums = torch.full(({length},), 1.0 + rank, dtype=torch.float64)
        most, bytes = sums.clone(), torch.full(({length},), 100 * rank, dtype=torch.uint8)
        group.all_reduce(sums)
        group.all_reduce(most, "max")
        group.all_reduce(bytes)
        group.broadcast(first := torch.full((3,), float(rank)))
        found = [sorted(set(values.tolist())) for values in (sums, most, bytes, first)]
        print(" ".join(map(str, found)) + "\\n", end="")

others = [threading.Thread(target=calls, args=(rank,)) for rank in range(1, {size})]
for other in others:
    other.start()
calls(0)
for other in others:
    other.join()
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")
    # Bytes wrap around.
    line = {2: "[3.0] [2.0] [100] [0.0]\n", 3: "[6.0] [3.0] [44] [0.0]\n"}[size]
    assert found.stdout == line * size
