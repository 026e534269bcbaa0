"""Data larger than memory: time, memory and quality of streamed fits and predictions.

    python examples/benchmarks/large_data.py --gigabytes 4 --epochs 3

Writes a file of float32 rows, 100 features, sorted by class, to a temporary folder, fits an
``AutoencoderTransformer`` on it in a process of its own for each way to read it, and removes
it. "loaded" is the same file read into an array first. Peak memory is ``RssAnon``, of the
whole process, with Python and torch in it (on Linux only); the score is the explained
variance of a sample of rows from the whole file. The file stays in the page cache if it fits there.

Prints Markdown.
"""

import argparse
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np

from skae import AutoencoderTransformer

N_FEATURES, N_CLASSES, N_INNER = 100, 10, 8


def write_rows(path: Path, n_rows: int) -> None:
    """Rows near curved manifolds of 8 dimensions, one a class, one class after another."""
    rng = np.random.default_rng(0)
    rows = np.lib.format.open_memmap(path, "w+", np.float32, (n_rows, N_FEATURES))
    bounds = np.linspace(0, n_rows, N_CLASSES + 1).astype(int)
    for first, last in pairwise(bounds):
        inner, outer = rng.normal(size=(N_INNER, 20)), rng.normal(size=(20, N_FEATURES))
        center = rng.normal(size=N_FEATURES)
        for start in range(first, last, 100_000):
            n = min(100_000, last - start)
            curved = np.tanh(rng.normal(size=(n, N_INNER)) @ inner / 2)
            noise = 0.2 * rng.standard_normal((n, N_FEATURES), dtype=np.float32)
            rows[start : start + n] = center + curved @ outer / 4 + noise


def to_hdf5(path: Path) -> Path:
    import h5py

    rows, copy = np.load(path, mmap_mode="r"), path.with_suffix(".h5")
    with h5py.File(copy, "w") as file:
        stored = file.create_dataset("rows", rows.shape, rows.dtype, chunks=(2000, N_FEATURES))
        for start in range(0, len(rows), 100_000):
            stored[start : start + 100_000] = rows[start : start + 100_000]
    return copy


def opened(path: Path, how: str):
    if how == "hdf5":
        import h5py

        return h5py.File(to_hdf5(path))["rows"]
    rows = np.load(path, mmap_mode="r")
    return np.array(rows) if how == "loaded" else rows


class Peak:
    """Watches the anonymous memory of this process."""

    def __enter__(self) -> "Peak":
        self.bytes, self._done = 0, False
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done = True
        self._thread.join()

    def _watch(self) -> None:
        while not self._done:
            with open("/proc/self/status") as file:
                lines = [line.split() for line in file]
            now = next(int(words[1]) << 10 for words in lines if words[0] == "RssAnon:")
            self.bytes = max(self.bytes, now)
            time.sleep(0.01)


def measured(path: Path, how: str, n_epochs: int) -> list[str]:
    """Table rows of one way to read the file."""
    X = opened(path, how)
    some = np.sort(np.random.default_rng(1).choice(len(X), 20_000, replace=False))
    sample = np.load(path, mmap_mode="r")[some]
    model = AutoencoderTransformer(n_components=16, max_epochs=n_epochs, random_state=0)
    latents = np.lib.format.open_memmap(path.with_suffix(".out"), "w+", np.float32, (len(X), 16))

    def line(what: str, action: Callable[[], object], n_passes: int) -> str:
        with Peak() as peak:
            start = time.perf_counter()
            action()
            seconds = time.perf_counter() - start
        rate = len(X) * n_passes / seconds
        score = f"{model.score(sample):.4f}" if what == "fit" else ""
        cells = (how, what, f"{seconds:.0f}", f"{rate:,.0f}", f"{peak.bytes / 1e6:.0f}", score)
        return f"| {' | '.join(cells)} |"

    return [
        line("fit", lambda: model.fit(X), n_epochs),
        line("transform, into a file", lambda: model.transform(X, out=latents), 1),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--ways", nargs="+", default=["memmap", "hdf5", "loaded"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        n_rows = round(arguments.gigabytes * 1e9 / (4 * N_FEATURES))
        write_rows(path, n_rows)
        print(f"{n_rows:,} rows, {path.stat().st_size / 1e9:.1f} GB, {arguments.epochs} epochs\n")
        print("| read from | what | s | rows/s | peak MB | score |\n|---|---|---|---|---|---|")
        for how in arguments.ways:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, context) as process:
                task = process.submit(measured, path, how, arguments.epochs)
                print(*task.result(), sep="\n", flush=True)


if __name__ == "__main__":
    main()
