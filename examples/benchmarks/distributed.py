"""Fits on a cluster: what they cost, how they scale, and how much memory they take.

    python examples/benchmarks/distributed.py overhead
    python examples/benchmarks/distributed.py steps
    python examples/benchmarks/distributed.py model --latency 50e-6 --bandwidth 1.25e9
    python examples/benchmarks/distributed.py rows --millions 20 --epochs 1 --workers 4
    python examples/benchmarks/distributed.py scores --millions 50

All of it is on this machine, on worker processes of one thread: with more workers than cores they
take turns, which the model of a step counts in.

- ``overhead`` is the time of a small fit on 2 and 4 workers.
- ``steps`` measures steps and all-reduces on 1, 2 and 4 workers, and says what the model makes of
  the measurements on one worker (the step) and two (the all-reduce).
- ``model`` predicts clusters of 8, 64 and 1,024 workers from the same measurements and from a
  network's latency (seconds) and bandwidth (bytes per second).
- ``rows`` fits rows that are more than the workers' memory, which Dask makes when they are asked
  for; ``scores`` scores such rows. Memory is the whole process, with Python and torch in it.

Prints Markdown.
"""

import argparse
import contextlib
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import torch

# Files of this folder have the names of libraries.
sys.path = [path for path in sys.path if Path(path).resolve() != Path(__file__).resolve().parent]

import dask.array as da  # noqa: E402
from distributed import Client, LocalCluster, wait  # noqa: E402

import skae.dask  # noqa: E402
from skae._distributed.gloo import Seat, joined  # noqa: E402
from skae._distributed.rank import found_by_others  # noqa: E402

SEED = {"random_state": 0}
# Features, hidden layers and latents of the networks.
NETWORKS = {
    "small": (32, (64,), 8),
    "medium": (128, (256, 128), 32),
    "large": (784, (512,), 64),
}
BATCHES = (512, 4096)
N_FEATURES, BLOCK_ROWS = 32, 100_000


@contextlib.contextmanager
def workers(n: int, memory_limit: str = "4GB") -> Iterator[Client]:
    settings = {"threads_per_worker": 1, "dashboard_address": ":0", "memory_limit": memory_limit}
    with LocalCluster(n_workers=n, **settings) as cluster, Client(cluster) as client:
        client.run(lambda: (__import__("skae.dask"), torch.set_num_threads(1))[1])
        yield client


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def on(client: Client, addresses: list[str], rows: np.ndarray) -> da.Array:
    """Rows in the memory of these workers, in one partition each."""
    blocks = []
    for address, part in zip(addresses, np.array_split(rows, len(addresses)), strict=True):
        own = da.from_array(part, chunks=part.shape)
        blocks.append(client.persist(own, workers=[address]))
    wait(blocks)
    return da.concatenate(blocks)


def overhead() -> None:
    rows = np.random.default_rng(0).normal(size=(2000, 8))
    autoencoder = skae.AutoencoderTransformer(n_components=2, max_epochs=1, **SEED).fit(rows)
    alone = np.median([seconds(lambda: autoencoder.fit(rows)) for _ in range(5)])
    print("| workers | fit of 2,000 rows, one epoch, ms: median | slowest of 20 |")
    print("|--:|--:|--:|")
    print(f"| none: the plain estimator | {1000 * alone:.0f} | |", flush=True)
    for n in (2, 4):
        with workers(n) as client:
            X = on(client, sorted(client.nthreads()), rows)
            distributed = skae.dask.AutoencoderTransformer(n_components=2, max_epochs=1, **SEED)
            times = [seconds(partial(distributed.fit, X)) for _ in range(22)][2:]
        print(f"| {n} | {1000 * np.median(times):.0f} | {1000 * max(times):.0f} |", flush=True)


def n_parameters(network: str) -> int:
    n_features, hidden, n_latents = NETWORKS[network]
    sizes = [n_features, *hidden, n_latents, *hidden[::-1], n_features]
    return sum((a + 1) * b for a, b in pairwise(sizes))


def step_seconds(client: Client, addresses: list[str], network: str, batch: int) -> float:
    """Of one step of a fit, without what a fit costs beside its steps."""
    n_features, hidden, n_latents = NETWORKS[network]
    rows = np.random.default_rng(0).normal(size=(4 * batch, n_features)).astype(np.float32)
    X = on(client, addresses, rows)

    def fit(n_epochs: int) -> float:
        settings = {"hidden_layer_sizes": hidden, "batch_size": batch, "init": "random", **SEED}
        estimator = skae.dask.AutoencoderTransformer(
            n_components=n_latents, max_epochs=n_epochs, **settings
        )
        return seconds(lambda: estimator.fit(X))

    fit(1)
    few = min(fit(1) for _ in range(2))
    n_epochs = 2
    while (more := fit(1 + n_epochs) - few) < 1.0:
        n_epochs *= 2 if more > 0.5 else 4
    return more / (4 * n_epochs)


def reduce_seconds(fit: str, names: tuple[str, ...], rank: int, sizes: list[int]) -> list[float]:
    """Of all-reduces of vectors; runs on all workers at once."""
    seat, times = Seat(fit, names, rank, 60.0), []
    with (
        found_by_others(seat, "127.0.0.1", lambda: True) as store,
        joined(seat, store, "127.0.0.1", lambda: True) as group,
    ):
        for size in sizes:
            values = torch.zeros(size)
            times.append(
                np.median([seconds(lambda v=values: group.all_reduce(v)) for _ in range(30)])
            )
    return times


def reduces(client: Client, addresses: list[str]) -> dict[str, float]:
    name, names = uuid.uuid4().hex, tuple(addresses)
    sizes = [n_parameters(network) for network in NETWORKS]
    tasks = [
        client.submit(reduce_seconds, name, names, i, sizes, workers=[address], pure=False)
        for i, address in enumerate(addresses)
    ]
    return dict(zip(NETWORKS, np.median(client.gather(tasks), 0), strict=True))


def ring(size: int, n: int, latency: float, bandwidth: float) -> float:
    """Seconds of an all-reduce round a ring: 2 (n - 1) messages, each of an n-th of the vector."""
    return 2 * (n - 1) * (latency + 4 * size / n / bandwidth)


def fitted_ring(found: dict[str, float]) -> tuple[float, float]:
    """Latency and bandwidth between two workers, from all-reduces of vectors of several sizes."""
    sizes = np.array([n_parameters(network) for network in found])
    terms = (
        np.stack([np.full(len(sizes), 2.0), 4.0 * sizes], 1) / np.array([*found.values()])[:, None]
    )
    latency, slowness = np.linalg.lstsq(terms, np.ones(len(sizes)))[0]
    return max(latency, 1e-6), 1 / slowness


class Steps:
    """Measured steps of one worker and all-reduces, and what follows for more workers."""

    def __init__(self, client: Client):
        self.all = sorted(client.nthreads())
        self.alone = {
            (network, share): step_seconds(client, self.all[:1], network, share)
            for network in NETWORKS
            for share in sorted({batch // n for batch in BATCHES for n in (1, 2, 4)})
        }
        self.reduces = {n: reduces(client, self.all[:n]) for n in (2, 4)}
        self.latency, self.bandwidth = fitted_ring(self.reduces[2])

    def of_rows(self, network: str, n_rows: float) -> float:
        """A step on one worker: measured between the sizes measured, else in proportion."""
        shares = sorted(share for name, share in self.alone if name == network)
        times = [self.alone[network, share] for share in shares]
        if n_rows > shares[-1]:
            return times[-1] * n_rows / shares[-1]
        return float(np.interp(n_rows, shares, times))

    def here(self, network: str, batch: int, n: int) -> float:
        """What the model says of n workers of this machine, which take turns at its cores."""
        turns = max(1.0, n / len(os.sched_getaffinity(0)))
        reduced = ring(n_parameters(network), n, self.latency, self.bandwidth)
        return turns * (self.of_rows(network, batch / n) + reduced)


def steps() -> None:
    with workers(4) as client:
        found = Steps(client)
        latency, bandwidth = 1e6 * found.latency, found.bandwidth / 1e9
        print(f"Two workers: {latency:.0f} us, {bandwidth:.2f} GB/s a message\n")
        print("| network | parameters | all-reduce, ms: 2 workers | 4 workers | model of 4 |")
        print("|---|--:|--:|--:|--:|")
        for network in NETWORKS:
            size = n_parameters(network)
            turns = max(1.0, 4 / len(os.sched_getaffinity(0)))
            model = turns * ring(size, 4, found.latency, found.bandwidth)
            cells = [found.reduces[2][network], found.reduces[4][network], model]
            numbers = " | ".join(f"{1000 * cell:.2f}" for cell in cells)
            print(f"| {network} | {size:,} | {numbers} |")
        print("\n| network | batch | step, ms: 1 worker | 2 workers | model | 4 workers | model |")
        print("|---|--:|--:|--:|--:|--:|--:|", flush=True)
        for network in NETWORKS:
            for batch in BATCHES:
                cells = [found.alone[network, batch]]
                for n in (2, 4):
                    cells.append(step_seconds(client, found.all[:n], network, batch))
                    cells.append(found.here(network, batch, n))
                numbers = " | ".join(f"{1000 * cell:.2f}" for cell in cells)
                print(f"| {network} | {batch:,} | {numbers} |", flush=True)


def model(latency: float, bandwidth: float) -> None:
    """Strong scaling: the batch stays; weak: each worker has as many rows of a batch."""
    with workers(4) as client:
        found = Steps(client)
    print(f"A network of {1e6 * latency:.0f} us and {bandwidth / 1e9:.2f} GB/s.\n")
    print("| network | batch | scaling | rows/s: 1 worker | 8 | 64 | 1,024 |")
    print("|---|--:|---|--:|--:|--:|--:|")
    for network in NETWORKS:
        size = n_parameters(network)
        for batch in BATCHES:
            for scaling in ("strong", "weak"):
                rates = []
                for n in (1, 8, 64, 1024):
                    share = batch if scaling == "weak" else batch / n
                    time_of_step = found.of_rows(network, share) + ring(size, n, latency, bandwidth)
                    rates.append(share * n / time_of_step)
                gains = [f"{rate:,.0f} ({rate / rates[0]:.1f}x)" for rate in rates[1:]]
                print(
                    f"| {network} | {batch:,} | {scaling} | {rates[0]:,.0f} | {' | '.join(gains)} |"
                )


def block(block_id: tuple[int, ...]) -> np.ndarray:
    """Rows of one block: curves of five causes, with noise."""
    rng = np.random.default_rng(block_id[0])
    mixing = np.random.default_rng(0).normal(size=(5, N_FEATURES)).astype(np.float32)
    causes = rng.standard_normal((BLOCK_ROWS, 5), dtype=np.float32)
    rows = np.tanh(causes @ mixing)
    rows += 0.1 * rng.standard_normal(rows.shape, dtype=np.float32)
    return rows


def lazy_rows(millions: float) -> da.Array:
    n_blocks = round(millions * 1e6 / BLOCK_ROWS)
    chunks = ((BLOCK_ROWS,) * n_blocks, N_FEATURES)
    return da.map_blocks(block, chunks=chunks, dtype=np.float32, meta=np.empty((0, 0), np.float32))


class Peaks:
    """Watches the memory of processes."""

    def __init__(self, client: Client):
        self.pids = client.run(os.getpid)
        self.bytes = dict.fromkeys(self.pids.values(), 0)

    def __enter__(self) -> "Peaks":
        self._done = False
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done = True
        self._thread.join()

    def _watch(self) -> None:
        processes = [psutil.Process(pid) for pid in self.bytes]
        while not self._done:
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    now = process.memory_info().rss
                    self.bytes[process.pid] = max(self.bytes[process.pid], now)
            time.sleep(0.05)

    def line(self, client: Client) -> str:
        same = "none restarted" if client.run(os.getpid) == self.pids else "some were restarted"
        peaks = ", ".join(f"{peak / 1e6:,.0f} MB" for peak in self.bytes.values())
        return f"{peaks} ({same})"


def rows(millions: float, n_epochs: int, n_workers: int) -> None:
    X = lazy_rows(millions)
    settings = {"max_epochs": n_epochs, "batch_size": 16_384, **SEED}
    with workers(n_workers, "1GB") as client, Peaks(client) as peaks:
        print("| rows | memory of the rows | workers | fit, s | peak memory of each | score |")
        print("|--:|--:|--:|--:|--:|--:|")
        estimator = skae.dask.AutoencoderTransformer(n_components=8, **settings)
        time_of_fit = seconds(lambda: estimator.fit(X))
        line, score = peaks.line(client), estimator.score(X[: 4 * BLOCK_ROWS])
        size = f"{X.nbytes / 1e9:.2f} GB"
        print(
            f"| {len(X):,} | {size} | {n_workers} of 1 GB | {time_of_fit:.0f} | {line} "
            f"| {score:.4f} |"
        )


def scores(millions: float, n_workers: int) -> None:
    X = lazy_rows(millions)
    detector = skae.AutoencoderAnomalyDetector(**SEED).fit(block((0,))[:5000])
    with workers(n_workers, "1GB") as client, Peaks(client) as peaks:
        print("| rows | memory of the rows | workers | scores, s | rows/s | peak memory of each |")
        print("|--:|--:|--:|--:|--:|--:|")
        lazy = skae.dask.wrap(detector).predict(X)
        start = time.perf_counter()
        n_outliers = int((lazy == -1).sum().compute())
        spent = time.perf_counter() - start
        line, size = peaks.line(client), f"{X.nbytes / 1e9:.2f} GB"
        print(
            f"| {len(X):,} | {size} | {n_workers} of 1 GB | {spent:.0f} | {len(X) / spent:,.0f} "
            f"| {line} |"
        )
        print(f"\n{n_outliers:,} outliers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["overhead", "steps", "model", "rows", "scores"])
    parser.add_argument("--millions", type=float, default=20.0)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--latency", type=float, default=50e-6)
    parser.add_argument("--bandwidth", type=float, default=1.25e9)
    given = parser.parse_args()
    actions = {
        "overhead": overhead,
        "steps": steps,
        "model": lambda: model(given.latency, given.bandwidth),
        "rows": lambda: rows(given.millions, given.epochs, given.workers),
        "scores": lambda: scores(given.millions, given.workers),
    }
    actions[given.what]()


if __name__ == "__main__":
    main()
