"""Fits, searches and predictions while other processes keep the cores busy: for ``speed.py``."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from contenders import Skae
from nets import NETS, load

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer
from skae.model_selection import AutoencoderSearchCV

# A figure is the mean of calls that took so long, in seconds.
SHORTEST = 0.3

# Fits of fewer rows and epochs than alone, since they may be slow.
ROWS, EPOCHS = {"small": 2_000, "large": 50_000, "mnist": 10_000}, {"small": 10}


@contextmanager
def burners(n: int) -> Iterator[None]:
    """So many processes that do nothing but count."""
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command) for _ in range(n)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def tasks(net: str, path: Path) -> dict[str, Callable[[], object]]:
    """What is timed with one net's layers."""
    spec = replace(NETS[net], epochs=EPOCHS.get(net, 1))
    X, _ = load(net, path)
    X = np.ascontiguousarray(X[: ROWS[net]])
    fitted = Skae(spec)
    fitted.fit(X, seed=0)
    model, some = fitted._model, X[:2_000]
    layers = {"hidden_layer_sizes": spec.hidden, "random_state": 0, "device": "cpu"}
    single = AutoencoderTransformer(max_epochs=2, batch_size=spec.batch_size, **layers)
    search = AutoencoderSearchCV(single, {"n_components": [2, 4, 8]}, cv=2)
    detector = AutoencoderAnomalyDetector(max_epochs=2, **layers)
    return {
        "fit": lambda: fitted.fit(X, seed=0),
        "transform": lambda: model.transform(X),
        "score_samples": lambda: model.score_samples(X),
        "transform of 2,000 rows": lambda: model.transform(some),
        "search, 3 sizes x 2 folds": lambda: search.fit(X[:10_000]),
        "fit of a detector": lambda: detector.fit(X[:10_000]),
    }


def seconds(task: Callable[[], object], threads: int, calls: int = 1) -> float:
    """Mean of some calls."""
    torch.set_num_threads(threads)
    start = time.perf_counter()
    for _ in range(calls):
        task()
    return (time.perf_counter() - start) / calls


def compare_busy(nets: list[str], n: int, rounds: int, path: Path) -> list[list[str]]:
    """Rows of a table: each task on one thread and on those that skae chooses, in turn."""
    threads, rows = torch.get_num_threads(), []
    for net in nets:
        for name, task in tasks(net, path).items():
            seconds(task, threads)
            calls = 1 + int(SHORTEST / seconds(task, threads))
            with burners(n):
                pairs = [
                    (seconds(task, 1, calls), seconds(task, threads, calls)) for _ in range(rounds)
                ]
            one, chosen = (statistics.median(times) for times in zip(*pairs, strict=True))
            ratio = statistics.median(b / a for a, b in pairs)
            rows.append([f"{net}: {name}", f"{one:.3f}", f"{chosen:.3f}", f"{ratio:.2f}"])
            print(rows[-1], file=sys.stderr, flush=True)
    return rows
