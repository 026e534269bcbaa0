"""Where values lie: fences around all but a few of them, and how far a network is taken.

A *range* holds the smallest and the largest value of each feature, (2, n_features), NaN where
a feature was never observed.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import numpy as np

from skae._runtime.communicator import ALONE, Communicator, largest
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


def at_least(known: np.ndarray, usual: float) -> np.ndarray:
    """The range, which holds all that is up to ``usual`` from zero, too."""
    wider = united(known, np.full_like(known, [[-usual], [usual]]))
    return np.where(np.isnan(known), known, wider)


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


class Ranged:
    """What scalings know of the range of the training rows; not for use by itself."""

    limits: tuple[float, float] | None
    seen: np.ndarray | None
    fenced: bool
    margin: float
    output_bounds: np.ndarray | None

    def transform(self, rows: np.ndarray, out: np.ndarray) -> None:
        raise NotImplementedError

    def scaled(self, rows: np.ndarray) -> np.ndarray:
        """The scaled rows, in float64."""
        out = np.empty(rows.shape)
        self.transform(rows, out)
        return out

    @property
    def unseen(self) -> np.ndarray | None:
        """Features that were never observed: whatever they are, they count as missing."""
        unseen = None if self.seen is None else np.isnan(self.seen[0])
        return unseen if unseen is not None and unseen.any() else None

    def reach(self) -> np.ndarray | None:
        """How far a network is taken, (2, n_features), if the range is known."""
        return None if self.seen is None else reach_of(self.seen, self.margin)

    def _leave_out(self, scaled: np.ndarray) -> None:
        if self.unseen is not None:
            scaled[:, self.unseen] = np.nan

    def _given_back(self, rows: np.ndarray) -> np.ndarray:
        """Zero where nothing was ever observed, and within the bounds that the caller asks for."""
        if self.unseen is not None:
            rows = np.where(self.unseen, rows.dtype.type(0), rows)
        if self.output_bounds is not None:
            with np.errstate(over="ignore"):
                rows = np.clip(rows, *self.output_bounds.astype(rows.dtype))
        return rows

    def limit(self, scaled: np.ndarray) -> None:
        """Cut off training rows in place, if that is asked for."""
        if self.fenced and (reach := self.reach()) is not None:
            with np.errstate(over="ignore"):
                np.clip(scaled, *reach.astype(scaled.dtype), out=scaled)

    def widened(
        self, chunks: Iterable[tuple[np.ndarray, Any]], communicator: Communicator = ALONE
    ) -> Self:
        """A scaler whose limits and range, if it has any, include these rows, too."""
        limits, seen = self.limits, self.seen
        for rows, _ in chunks:
            if limits is not None:
                low, high = (ufunc.reduce(rows, axis=None) for ufunc in (np.fmin, np.fmax))
                limits = np.fmin(limits[0], low), np.fmax(limits[1], high)
            if seen is not None:
                scaled = self.scaled(rows)
                self.limit(scaled)
                seen = united(seen, range_of(scaled))
        wider = copy.copy(self)
        if limits is not None:
            low, high = (-1.0, 1.0) * largest(communicator, [-limits[0], limits[1]])
            wider.limits = float(low), float(high)
        wider.seen = None if seen is None else joined(seen, communicator)
        return wider
