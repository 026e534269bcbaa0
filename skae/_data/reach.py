"""Where values lie: fences around all but a few of them, and how far a network is taken.

A *range* holds the smallest and the largest value of each feature, (2, n_features), NaN where
a feature was never observed.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from skae._runtime.communicator import Communicator, largest
from skae._runtime.tuning import FENCE_SPANS, FEW_ROWS, FEW_ROWS_SHARE

# Rows as a scaling is fitted on them: each call gives them and their weights in chunks.
Chunks = Callable[[], Iterable[tuple[np.ndarray, np.ndarray | None]]]


def range_of(rows: np.ndarray) -> np.ndarray:
    """The range of some rows, in float64."""
    rows = np.asarray(rows, dtype=np.float64)
    return np.stack([np.fmin.reduce(rows), np.fmax.reduce(rows)])


def united(known: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The range of what two ranges are of."""
    return np.stack([np.fmin(known[0], other[0]), np.fmax(known[1], other[1])])


def joined(known: np.ndarray, communicator: Communicator) -> np.ndarray:
    """The range of the rows of all processes."""
    ends = np.nan_to_num(np.concatenate([-known[0], known[1]]), nan=-np.inf)
    low, high = largest(communicator, ends).reshape(2, -1)
    return np.where(low > -np.inf, np.stack([-low, high]), np.nan)


def reach_of(known: np.ndarray, margin: float) -> np.ndarray:
    """The range, longer by a margin at both ends; without end where there is none."""
    beyond = margin * (known[1] - known[0])
    low, high = known[0] - beyond, known[1] + beyond
    return np.stack([np.nan_to_num(low, nan=-np.inf), np.nan_to_num(high, nan=np.inf)])


def fences_of(rows: np.ndarray) -> np.ndarray:
    """Bounds (2, n_features) beyond which a few values lie so far that they are no guide.

    A few are 1 % of the values at each end, and three where that is less; the others span one
    range, and a fence stands two such ranges outside of it. There is none around a feature of
    which all others are equal.
    """
    ordered = np.sort(np.asarray(rows, dtype=np.float64), axis=0)  # NaN comes last.
    n = np.isfinite(ordered).sum(axis=0)
    few = np.maximum(n * FEW_ROWS_SHARE, np.minimum(FEW_ROWS, n // 10)).astype(int)
    ends = np.stack([few, np.maximum(n - 1 - few, 0)])
    low, high = np.take_along_axis(ordered, ends, axis=0)
    span = high - low
    span = np.where(span > 0, FENCE_SPANS * span, np.inf)
    return np.stack([low - span, high + span])


def within_fences(chunks: Chunks, fences: np.ndarray) -> Chunks:
    """Chunks of rows whose values are cut off at the fences."""

    def cut() -> Iterator[tuple[np.ndarray, Any]]:
        for rows, weights in chunks():
            yield np.clip(rows, *fences), weights

    return cut
