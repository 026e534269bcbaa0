"""Rows that lie in partitions in several processes, of which each holds some.

What depends on all rows is a sum over the processes; a sample of rows is put together from what
each of them holds. Nothing depends on which process holds a partition, but for rounding.
"""

from collections.abc import Generator, Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from skae._data.loaded import Rows
from skae._data.sources import SlicedRows, Source, StoredRows, rows_per_read
from skae._runtime.communicator import ALONE, Communicator, merged

# Dtypes that rows may have.
_DTYPES = [np.dtype(code) for code in "?bBhHiIlLqQefdg"]


class Parts(SlicedRows):
    """Arrays of rows, one after another, without a copy of all."""

    def __init__(self, parts: Sequence[Any]):
        self._parts = parts
        self._bounds = np.cumsum([0, *(part.shape[0] for part in parts)])
        self.shape = (int(self._bounds[-1]), parts[0].shape[1])
        self.dtype = np.result_type(*{part.dtype for part in parts})

    def _slice(self, start: int, stop: int) -> np.ndarray:
        found = []
        for part, (first, last) in zip(self._parts, pairwise(self._bounds), strict=True):
            if first < stop and start < last:
                found.append(_dense(part[max(start, first) - first : min(stop, last) - first]))
        if not found:
            return np.empty((0, self.shape[1]), dtype=self.dtype)
        return found[0] if len(found) == 1 else np.vstack(found)

    def _taken(self, index: np.ndarray) -> np.ndarray:
        rows = np.empty((len(index), self.shape[1]), dtype=self.dtype)
        cuts = np.searchsorted(index, self._bounds)
        for part, first, (begin, end) in zip(
            self._parts, self._bounds, pairwise(cuts), strict=False
        ):
            if begin < end:
                rows[begin:end] = _dense(part[index[begin:end] - first])
        return rows


def _dense(rows: Any) -> np.ndarray:
    return rows.toarray() if sparse.issparse(rows) else np.asarray(rows)


class ShardedRows(SlicedRows):
    """The rows of all processes, in the order of the partitions.

    Who indexes it gets the rows wherever they are, and all processes must do so at the same time.

    Parameters
    ----------
    parts : dict of array, CSR matrix or StoredRows (n, n_features)
        The partitions that this process holds, by their number; none is empty.
    n_partitions : int
        Of all processes.
    communicator : Communicator
    free_bytes : int or None
        How much memory there is for what is made of the rows here; None means enough.
    folder : str or None
        Where files may lie, if there is not; None is the system's.

    Attributes
    ----------
    local : Parts or Source
        The rows that are here.
    places : list of int
        Numbers of their partitions.
    lengths : ndarray of shape (n_partitions,)
        Rows of each partition.
    """

    def __init__(
        self,
        parts: dict[int, Any],
        n_partitions: int,
        communicator: Communicator,
        free_bytes: int | None = None,
        folder: str | None = None,
    ):
        self.places, self.communicator = sorted(parts), communicator
        self.free_bytes, self.folder = free_bytes, folder
        own = [parts[place] for place in self.places]
        self.local: Any = Parts(own)
        if any(isinstance(part, StoredRows) for part in own):
            self.local = Source(self.local)
        told = np.zeros(n_partitions + len(_DTYPES), dtype=np.int64)
        told[self.places] = [parts[place].shape[0] for place in self.places]
        told[n_partitions + _DTYPES.index(self.local.dtype)] = 1
        communicator.all_reduce(torch.from_numpy(told))
        self.lengths, found = told[:n_partitions], told[n_partitions:]
        self.dtype = np.result_type(*(_DTYPES[i] for i in np.flatnonzero(found)))
        self.shape = (int(self.lengths.sum()), self.local.shape[1])

    @property
    def read_length(self) -> int:
        """Rows of a block, where so many rows are sampled block by block."""
        return rows_per_read(self.shape[1], self.dtype)

    def here(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of these rows are in this process, and their places in ``local``."""
        starts = np.cumsum(self.lengths) - self.lengths
        own = self.lengths[self.places]
        moved = np.full(len(self.lengths), -1)
        moved[self.places] = np.cumsum(own) - own
        partition = np.searchsorted(starts + self.lengths, index, side="right")
        is_here = moved[partition] >= 0
        partition = partition[is_here]
        return is_here, moved[partition] + index[is_here] - starts[partition]

    def _slice(self, start: int, stop: int) -> np.ndarray:
        return self._taken(np.arange(start, stop))

    def _taken(self, index: np.ndarray) -> np.ndarray:
        rows = np.zeros((len(index), self.shape[1]), dtype=self.dtype)
        is_here, places = self.here(index)
        rows[is_here] = self.local[places]
        merged(self.communicator, rows)
        return rows


class ShardedWeights:
    """The weights of :class:`ShardedRows`, indexed as they are."""

    def __init__(self, rows: ShardedRows, weights: dict[int, np.ndarray]):
        self._rows, self.local = rows, np.concatenate([weights[place] for place in rows.places])

    def __getitem__(self, part: Any) -> np.ndarray:
        index = np.arange(len(self._rows))[part]
        taken = np.zeros(len(index))
        is_here, places = self._rows.here(index)
        taken[is_here] = self.local[places]
        merged(self._rows.communicator, taken)
        return taken


def whole(X: Any) -> Any:
    """Sharded rows or weights put together in each process; anything else as it is."""
    return X[:] if isinstance(X, (ShardedRows, ShardedWeights)) else X


def local(X: Any) -> Any:
    """Of sharded rows or weights those that are here; anything else as it is."""
    return X.local if isinstance(X, (ShardedRows, ShardedWeights)) else X


def communicator_of(X: Any) -> Communicator:
    """The communicator of sharded rows; of others, that of a process alone."""
    return X.communicator if isinstance(X, ShardedRows) else ALONE


class ShardRows(Rows):
    """Scaled training rows of one process among several.

    Attributes
    ----------
    whole : ShardedRows
        The rows of all.
    """

    def __init__(self, rows: Rows, whole: ShardedRows):
        super().__init__(**vars(rows))
        self.whole = whole
        self._flat: Tensor | None = None

    @property
    def communicator(self) -> Communicator:
        return self.whole.communicator

    def window(self, index: Tensor) -> Tensor:
        """Make rows of these places (K, m) available; return their places among these."""
        return index

    def windows(self, dealt: Iterable[Sequence[Tensor]]) -> Generator[Tensor]:
        """Make the rows of one window after another available; yield their places among these.

        Parameters
        ----------
        dealt : iterable of sequences of Tensor
            Of each partition the places (K, m) of its rows in each window.
        """
        kept = [[index.int() for index in of_windows] for of_windows in dealt]
        for parts in zip(*kept, strict=True):
            yield self.window(torch.cat(parts, 1).long())

    @property
    def window_length(self) -> int:
        """How many rows may be available at a time."""
        return len(self.whole.local)

    def is_same(self, other: Rows) -> bool:
        return self is other

    def stay_with(self, parameters: Tensor) -> bool:
        return False

    def low_and_high(self) -> tuple[Tensor, Tensor]:
        low, high = self._low_and_high_here()
        both = torch.stack([-low, high])
        self.communicator.all_reduce(both, "max")
        low, high = (-both[0]).nan_to_num(posinf=0.0), both[1].nan_to_num(neginf=0.0)
        return low.to(self.device), high.to(self.device)

    def _low_and_high_here(self) -> tuple[Tensor, Tensor]:
        low = self.values.nan_to_num(torch.inf).amin(0)
        return low, self.values.nan_to_num(-torch.inf).amax(0)

    def total(self, values: Tensor) -> Tensor:
        summed = values.clone()
        self.communicator.all_reduce(summed)
        return summed

    def joined(
        self, parts: list[tuple[Tensor, Tensor | int]], n_members: int
    ) -> list[tuple[Tensor, Tensor | int]]:
        sums = self.values.new_zeros(2, n_members).to(self.device)
        for mean, weight in parts:
            weights = sums[1].new_zeros(n_members) + weight
            # No rows have no mean.
            sums += torch.stack([(mean * weights).where(weights > 0, 0.0), weights])
        sums = self.total(sums)
        return [(sums[0] / sums[1], sums[1])] if bool((sums[1] > 0).all()) else []

    def combine(self, gradients: Tensor, n_rows: int) -> None:
        # The mean over a batch is the sum over its rows, wherever they are, by their number. A
        # mean of means would be wrong where the processes have unequally many of them.
        if self._flat is None:
            self._flat = gradients.new_empty(len(gradients) + 1)
        sums, count = self._flat[:-1], self._flat[-1]
        torch.mul(gradients, n_rows, out=sums)
        count.fill_(n_rows)
        self.communicator.all_reduce(self._flat)
        torch.div(sums, count, out=gradients)

    def align(self, parameters: Tensor) -> None:
        # Processors of different kinds may round differently.
        self.communicator.broadcast(parameters)
