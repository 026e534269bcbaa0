"""Fits on a cluster: what they cost, how they scale, and how much memory they take.

    python examples/benchmarks/distributed.py overhead
    python examples/benchmarks/distributed.py steps --latency 50e-6 --bandwidth 1.25e9
    python examples/benchmarks/distributed.py rows --millions 20 --epochs 1 --workers 4
    python examples/benchmarks/distributed.py scores --millions 50
    python examples/benchmarks/distributed.py scores --millions 1 --estimator \
        AutoencoderAnomalyDetector

All of it is on this machine, on worker processes of one thread: with more workers than cores they
take turns, which the model of a step counts in.

- ``overhead`` is the time of a small fit on 2 and 4 workers.
- ``steps`` measures steps and all-reduces on 1, 2 and 4 workers, says what the model makes of the
  measurements on one worker (the step) and two (the all-reduce), and predicts clusters of 8, 64 and
  1,024 workers from these and a network's latency (seconds) and bandwidth (bytes per second).
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
from dask.delayed import delayed  # noqa: E402
from distributed import Client, LocalCluster, wait  # noqa: E402

import skae.dask  # noqa: E402
from skae._distributed.gloo import SHORT, Seat, joined  # noqa: E402
from skae._distributed.rank import found_by_others  # noqa: E402

SEED = {"random_state": 0}
# Features, hidden layers and latents of the networks.
NETWORKS = {
    "small": (32, (64,), 8),
    "medium": (128, (256, 128), 32),
    "large": (784, (512,), 64),
}
BATCHES = (256, 2048)
EPOCH_STEPS = 8
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


def random_rows(seed: int, shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def on(client: Client, addresses: list[str], n_rows: int, n_features: int) -> da.Array:
    """Rows in the memory of these workers, in one partition each."""
    shape, blocks = (n_rows // len(addresses), n_features), []
    for number, address in enumerate(addresses):
        rows = da.from_delayed(delayed(random_rows)(number, shape), shape, np.float32)
        blocks.append(client.persist(rows, workers=[address]))
    wait(blocks)
    return da.concatenate(blocks)


def overhead() -> None:
    rows = random_rows(0, (2000, 8))
    autoencoder = skae.AutoencoderTransformer(n_components=2, max_epochs=1, **SEED).fit(rows)
    alone = np.median([seconds(lambda: autoencoder.fit(rows)) for _ in range(5)])
    print("| workers | fit of 2,000 rows, one epoch, ms: median | slowest of 20 |")
    print("|--:|--:|--:|")
    print(f"| none: the plain estimator | {1000 * alone:.0f} | |", flush=True)
    for n in (2, 4):
        with workers(n) as client:
            X = on(client, sorted(client.nthreads()), *rows.shape)
            distributed = skae.dask.AutoencoderTransformer(n_components=2, max_epochs=1, **SEED)
            times = [seconds(partial(distributed.fit, X)) for _ in range(22)][2:]
        print(f"| {n} | {1000 * np.median(times):.0f} | {1000 * max(times):.0f} |", flush=True)


def n_parameters(network: str) -> int:
    n_features, hidden, n_latents = NETWORKS[network]
    sizes = [n_features, *hidden, n_latents, *hidden[::-1], n_features]
    return sum((a + 1) * b for a, b in pairwise(sizes))


def step_seconds(
    client: Client, addresses: list[str], network: str, batch: int
) -> tuple[float, float]:
    """Of one step of a fit, without what a fit costs beside its steps; and of the CPU of a worker.

    Other work on the machine disturbs the one, and not so much the other.
    """
    n_features, hidden, n_latents = NETWORKS[network]
    X = on(client, addresses, EPOCH_STEPS * batch, n_features)

    def fit(n_epochs: int) -> np.ndarray:
        settings = {"hidden_layer_sizes": hidden, "batch_size": batch, "init": "random", **SEED}
        estimator = skae.dask.AutoencoderTransformer(
            n_components=n_latents, max_epochs=n_epochs, **settings
        )
        before = client.run(time.process_time, workers=addresses[:1])
        wall = seconds(lambda: estimator.fit(X))
        after = client.run(time.process_time, workers=addresses[:1])
        return np.array([wall, after[addresses[0]] - before[addresses[0]]])

    fit(1)
    few, n_epochs = np.min([fit(1) for _ in range(3)], 0), 1
    while (more := fit(1 + n_epochs) - few)[0] < 0.4:
        n_epochs *= 2 if more[0] > 0.1 else 4
    more = np.minimum(more, fit(1 + n_epochs) - few)
    wall, of_cpu = more / (EPOCH_STEPS * n_epochs)
    return float(wall), float(of_cpu)


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


def reduce_model(size: int, n: int, latency: float, bandwidth: float) -> float:
    """Seconds of an all-reduce of ``size`` numbers: messages round a ring, one after another."""
    n_bytes = 4 * size
    if n == 2 or n_bytes <= SHORT:
        return (n - 1) * (latency + n_bytes / bandwidth)
    return 2 * (n - 1) * (latency + n_bytes / n / bandwidth)


class Steps:
    """Measured steps and all-reduces, and what those of one and two workers say about more."""

    def __init__(self, n_rounds: int):
        with workers(4) as client:
            found = [self._round(client) for _ in range(n_rounds)]
        steps, self.reduces = (
            {key: np.median([one[key] for one in every], 0) for key in every[0]}
            for every in zip(*found, strict=True)
        )
        self.steps = {key: wall for key, (wall, _) in steps.items()}
        self.cpu = {key: of_cpu for key, (_, of_cpu) in steps.items()}
        sizes = [n_parameters(network) for network in NETWORKS]
        times = [self.reduces[network, 2] for network in NETWORKS]
        self.latency, slowness = line(4 * np.array(sizes), np.array(times))
        self.bandwidth = 1 / slowness

    @staticmethod
    def _round(client: Client) -> tuple[dict, dict]:
        """Steps by network, batch and number of workers; all-reduces by network and number."""
        workers = sorted(client.nthreads())
        shares = {(batch // n, 1) for batch in BATCHES for n in (1, 2, 4)}
        both = sorted(shares | {(batch, n) for batch in BATCHES for n in (2, 4)})
        steps = {
            (network, batch, n): step_seconds(client, workers[:n], network, batch)
            for network in NETWORKS
            for batch, n in both
        }
        found = {n: reduces(client, workers[:n]) for n in (2, 4)}
        return steps, {(network, n): found[n][network] for network in NETWORKS for n in found}

    def of_rows(self, network: str, n_rows: float, times: dict) -> float:
        """A step on one worker, in proportion to its rows but for what any step takes."""
        alone = [
            (rows, time) for (name, rows, n), time in times.items() if (name, n) == (network, 1)
        ]
        fixed, of_row = line(*np.array(alone).T)
        return fixed + of_row * n_rows

    def here(self, network: str, batch: int, n: int) -> float:
        """What the model says of n workers of this machine, which take turns at its cores."""
        step = self.of_rows(network, batch / n, self.steps)
        return turns(n) * (step + self.reduce_here(network, n))

    def reduce_here(self, network: str, n: int) -> float:
        return reduce_model(n_parameters(network), n, self.latency, self.bandwidth)


def line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The intercept and slope, none negative, that are nearest in relative errors."""
    from scipy.optimize import nnls

    (intercept, slope), _ = nnls(np.stack([np.ones(len(x)), x], 1) / y[:, None], np.ones(len(y)))
    return float(intercept), float(slope)


def turns(n: int) -> float:
    """How often n workers share a core of this machine."""
    return max(1.0, n / len(os.sched_getaffinity(0)))


def steps(n_rounds: int, latency: float, bandwidth: float) -> None:
    found = Steps(n_rounds)
    here = f"{1e6 * found.latency:.0f} us, {found.bandwidth / 1e9:.2f} GB/s"
    print(f"Medians of {n_rounds} rounds. A message between two workers here: {here}.\n")
    print("| network | parameters | all-reduce, ms: 2 workers | 4 workers | model of 4 |")
    print("|---|--:|--:|--:|--:|")
    for network in NETWORKS:
        cells = [found.reduces[network, n] for n in (2, 4)]
        cells.append(turns(4) * found.reduce_here(network, 4))
        print(f"| {network} | {n_parameters(network):,} | {milliseconds(cells)} |")
    print("\n| network | batch | step, ms: 1 worker | 2 workers | model | 4 workers | model |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for network in NETWORKS:
        for batch in BATCHES:
            cells = [found.steps[network, batch, 1]]
            for n in (2, 4):
                cells += [found.steps[network, batch, n], found.here(network, batch, n)]
            print(f"| {network} | {batch:,} | {milliseconds(cells)} |")
    print("\nStep on one worker, ms of its CPU, by rows:\n")
    for network in NETWORKS:
        times = {rows: t for (name, rows, n), t in found.cpu.items() if (name, n) == (network, 1)}
        cells = ", ".join(f"{rows:,}: {1000 * times[rows]:.2f}" for rows in sorted(times))
        print(f"- {network}: {cells}")
    predictions(found, latency, bandwidth)


def milliseconds(cells: list[float]) -> str:
    return " | ".join(f"{1000 * cell:.2f}" for cell in cells)


def predictions(found: Steps, latency: float, bandwidth: float) -> None:
    """Strong scaling: the batch stays; weak: each worker has as many rows of a batch."""
    print(f"\nA network of {1e6 * latency:.0f} us and {bandwidth / 1e9:.2f} GB/s:\n")
    print("| network | batch | scaling | rows/s: 1 worker | 8 | 64 | 1,024 |")
    print("|---|--:|---|--:|--:|--:|--:|")
    for network in NETWORKS:
        for batch in BATCHES:
            for scaling in ("strong", "weak"):
                rates = []
                for n in (1, 8, 64, 1024):
                    share = batch if scaling == "weak" else batch / n
                    step = found.of_rows(network, share, found.cpu)
                    if n > 1:
                        step += reduce_model(n_parameters(network), n, latency, bandwidth)
                    rates.append(share * n / step)
                gains = [f"{rate:,.0f} ({rate / rates[0]:.1f}x)" for rate in rates[1:]]
                first = f"| {network} | {batch:,} | {scaling} | {rates[0]:,.0f} |"
                print(f"{first} {' | '.join(gains)} |")


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


def scores(millions: float, n_workers: int, name: str) -> None:
    X = lazy_rows(millions)
    plain = getattr(skae, name)(**SEED).fit(block((0,))[:5000])
    with workers(n_workers, "1GB") as client, Peaks(client) as peaks:
        print("| estimator | rows | their memory | workers | s | rows/s | peak memory of each |")
        print("|---|--:|--:|--:|--:|--:|--:|")
        lazy = skae.dask.wrap(plain).score_samples(X)
        start = time.perf_counter()
        mean = float(lazy.mean().compute())
        spent = time.perf_counter() - start
        line, size = peaks.line(client), f"{X.nbytes / 1e9:.2f} GB"
        print(
            f"| {name} | {len(X):,} | {size} | {n_workers} of 1 GB | {spent:.0f} "
            f"| {len(X) / spent:,.0f} | {line} |\n\nMean score: {mean:.4f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["overhead", "steps", "rows", "scores"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--millions", type=float, default=20.0)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--estimator", default="AutoencoderTransformer")
    parser.add_argument("--latency", type=float, default=50e-6)
    parser.add_argument("--bandwidth", type=float, default=1.25e9)
    given = parser.parse_args()
    actions = {
        "overhead": overhead,
        "steps": lambda: steps(given.rounds, given.latency, given.bandwidth),
        "rows": lambda: rows(given.millions, given.epochs, given.workers),
        "scores": lambda: scores(given.millions, given.workers, given.estimator),
    }
    actions[given.what]()


if __name__ == "__main__":
    main()
