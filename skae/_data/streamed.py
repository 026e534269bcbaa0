"""Rows that do not fit into memory: a buffer holds some blocks while the next ones are read."""

from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from skae._data.categories import categories_of, n_columns_of, sizes_of
from skae._data.convert import chunk_length, dense_chunks, dense_rows
from skae._data.loaded import (
    Rows,
    content_keys,
    load_rows,
    n_missing_of,
    observed_share,
    scaled_bounds,
    scaled_origin,
)
from skae._data.scale import Scaler
from skae._data.shards import ShardedRows, ShardedWeights, ShardRows, local, whole
from skae._data.sources import ChosenRows, RowFile, Source, StoredRows
from skae._runtime.communicator import ALONE, Communicator, total
from skae._runtime.device import fits
from skae._runtime.randomness import RECENT_STREAM, SCALING_STREAM, generator, mix, subsamples
from skae._runtime.tuning import FEWEST_RECENT, RECENT_ROWS

# Bytes of scaled rows in a buffer. There are two buffers: one is trained on while the other is
# filled. Data that fit into both are loaded as a whole.
SHUFFLE_BUFFER = 1 << 28

# Fewest blocks that a buffer can hold. It is twice the number of blocks to mix, because the
# last buffer of an epoch may be only half full.
_BLOCKS = 128

# Bytes of indices, weights and losses that training needs per row and member.
_ROW_BYTES = 64

# Fewest blocks from which a sample of rows is taken.
_SAMPLED_BLOCKS = 256

# Values in the rows of a stream that are kept.
_RECENT_VALUES = 1 << 20

# Values in the sample on which quartiles, or a transformer of scikit-learn, are fitted.
_SCALING_VALUES = 1 << 22


def block_length(X: Any, dtype: torch.dtype, n_members: int) -> int | None:
    """Rows per block, for a source that is too large to be loaded; None for other data."""
    if not isinstance(X, (Source, ShardedRows)):
        return None
    capacity = _capacity(X.shape[1], dtype, n_members)
    return None if len(X) <= 2 * capacity else max(1, min(X.read_length, capacity // _BLOCKS))


def sample_rows(n_rows: int, size: int, length: int | None, seed: int, stream: int) -> Tensor:
    """Sorted indices of ``size`` random rows; with a ``length``, about as many from some blocks."""
    if length is None or size >= n_rows:
        return subsamples(n_rows, size, (seed,), stream)[0]
    rng = generator(seed, stream)
    n_blocks = max(_SAMPLED_BLOCKS, -(-size // length))
    starts = torch.randperm(-(-n_rows // length), generator=rng)[:n_blocks] * length
    each = min(length, -(-size // len(starts)))
    within = torch.stack([torch.randperm(length, generator=rng)[:each] for _ in starts])
    index = (starts[:, None] + within).flatten().sort().values
    return index[index < n_rows]


def sampled(
    X: Any, weights: np.ndarray | None, size: int, length: int | None, seed: int, stream: int
) -> tuple[Any, np.ndarray | None]:
    """The rows of :func:`sample_rows` with their weights; all rows unchanged if there are few."""
    some = sample_rows(X.shape[0], size, length, seed, stream).numpy()
    if len(some) == X.shape[0]:
        return whole(X), whole(weights)
    rows = ChosenRows(X, some) if type(X) is np.ndarray else X[some]
    return rows, None if weights is None else weights[some]


def scaling_sample(
    X: Any, weights: np.ndarray | None, length: int | None, seed: int
) -> tuple[Any, np.ndarray | None]:
    """Rows and weights for a scaling that holds all rows at once; a sample if they are too many."""
    if length is None:
        return whole(X), whole(weights)
    size = max(_SAMPLED_BLOCKS, _SCALING_VALUES // X.shape[1])
    return sampled(X, weights, size, length, seed, SCALING_STREAM)


def recent_rows(X: Any, earlier: np.ndarray | None, length: int | None, seed: int) -> np.ndarray:
    """Rows to learn from while a stream goes on: the last ones of earlier ones and these.

    Where there are no earlier ones, a random sample.
    """
    n_rows, n_features = X.shape
    most = max(FEWEST_RECENT, min(RECENT_ROWS, _RECENT_VALUES // n_features))
    index = np.arange(max(0, n_rows - most), n_rows)
    if earlier is None:
        index = sample_rows(n_rows, min(most, n_rows), length, seed, RECENT_STREAM).numpy()
    rows = X[index]
    rows = rows.toarray() if sparse.issparse(rows) else np.array(rows)
    return rows if earlier is None else np.vstack([earlier, rows])[-most:]


def _capacity(n_features: int, dtype: torch.dtype, n_members: int) -> int:
    """How many rows a buffer holds."""
    return max(1, SHUFFLE_BUFFER // (n_features * dtype.itemsize + n_members * _ROW_BYTES))


@dataclass(frozen=True)
class Blocks:
    """Blocks of consecutive rows, and which rows are each member's own.

    In every block, a member leaves out a run of rows at a random place.
    """

    n_rows: int
    length: int
    n_own: int
    places: tuple[tuple[int, float], ...]

    def __len__(self) -> int:
        return -(-self.n_rows // self.length)

    def bounds(self, blocks: Tensor) -> tuple[Tensor, Tensor]:
        """The first row of each block, and the one after its last."""
        starts = blocks * self.length
        return starts, (starts + self.length).clamp(max=self.n_rows)

    def counts(self, blocks: Tensor) -> Tensor:
        """How many rows of each block are a member's own."""
        starts, stops = self.bounds(blocks)
        return stops * self.n_own // self.n_rows - starts * self.n_own // self.n_rows

    def own(self, blocks: Tensor) -> Tensor:
        """Each member's own rows (K, m), as places among the rows of these blocks."""
        starts, stops = self.bounds(blocks)
        lengths, counts = stops - starts, self.counts(blocks)
        block = torch.arange(len(blocks)).repeat_interleave(counts)
        rank = torch.arange(len(block)) - (counts.cumsum(0) - counts)[block]
        places = (self._shifts(blocks)[:, block] + rank).remainder_(lengths[block])
        return places.add_((lengths.cumsum(0) - lengths)[block])

    def owns(self, rows: Tensor) -> Tensor:
        """Whether the rows are each member's own, (K, len(rows))."""
        blocks = rows // self.length
        starts, stops = self.bounds(blocks)
        places = (rows - starts - self._shifts(blocks)).remainder_(stops - starts)
        return places < self.counts(blocks)

    def _shifts(self, blocks: Tensor) -> Tensor:
        starts, stops = self.bounds(blocks)
        lengths = stops - starts
        moved = [mix(blocks, seed) + (share * lengths).long() for seed, share in self.places]
        return torch.stack(moved).remainder_(lengths)


class StreamedRows(Rows):
    """Scaled training rows, of which one window at a time is in memory.

    Rows carried over from the previous window come first in the window.
    """

    def __init__(
        self,
        X: Source,
        weights: np.ndarray | None,
        scaler: Scaler,
        dtype: torch.dtype,
        device: torch.device,
        keyed: bool,
        length: int,
        n_members: int,
        batch_size: int,
    ):
        super().__init__(**vars(_unread(X, scaler, dtype, device, ALONE)))
        n_features = X.shape[1]
        self._X, self._scaler, self._length = X, scaler, length
        self._weights = None if weights is None else weights / weights.mean()
        self._n_blocks = max(1, _capacity(n_features, dtype, n_members) // length)
        # Rows carried over have a place of their own: up to a batch and a row for each member.
        self.n_carried = n_members * (batch_size + 1)
        size = self.n_carried + self._n_blocks * length
        self._buffers: list[dict[str, Tensor]] = []
        for _ in range(2):
            buffer = {"values": torch.empty(size, n_features, dtype=dtype)}
            if weights is not None:
                buffer["weights"] = torch.empty(size, dtype=dtype)
            if keyed:
                buffer["keys"] = torch.empty(size, dtype=torch.int64)
            self._buffers.append(buffer)
        self._on_device = fits(device, 2 * self._buffers[0]["values"].nbytes)
        self._carried: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self._X)

    def is_same(self, other: Rows) -> bool:
        return self is other

    def known_by(self) -> Tensor:
        """Values of some rows only, because reading all takes as long as an epoch."""
        some, _ = scaling_sample(self._X, None, self._length, 0)
        return torch.from_numpy(np.asarray(some[:], dtype=np.float64))

    def low_and_high(self) -> tuple[Tensor, Tensor]:
        low, high = _low_and_high(self._X, self._scaler, self.values.numpy().dtype)
        # A feature that is always missing has no range; it gets zeros.
        low, high = low.nan_to_num(posinf=0.0), high.nan_to_num(neginf=0.0)
        return low.to(self.device), high.to(self.device)

    def stay_with(self, parameters: Tensor) -> bool:
        return False

    def windows(self, blocks: Tensor) -> Generator[Tensor]:
        """Show the rows of these blocks window by window, and yield the blocks in each window.

        Their rows start at place ``n_carried``, in the order of the file.
        """
        n_windows = -(-len(blocks) // self._n_blocks)
        parts = [part.sort().values for part in blocks.tensor_split(n_windows)]
        self._carried = {}
        with ThreadPoolExecutor(1) as reader:
            filled = reader.submit(self._fill, self._buffers[0], parts[0])
            for i, part in enumerate(parts):
                filled.result()
                if i + 1 < len(parts):
                    filled = reader.submit(self._fill, self._buffers[(i + 1) % 2], parts[i + 1])
                self._show(self._buffers[i % 2])
                yield part

    def carry(self, index: Tensor) -> None:
        """Carry rows of this window over to the start of the next one."""
        parts = {name: getattr(self, name) for name in self._buffers[0]}
        self._carried = {name: part[index.to(part.device)] for name, part in parts.items()}

    def _show(self, buffer: dict[str, Tensor]) -> None:
        for name, part in buffer.items():
            if self._on_device or name != "values":
                part = part.to(self.device)
            if name in self._carried:
                part[: len(self._carried[name])] = self._carried[name]
            setattr(self, name, part)

    def _fill(self, buffer: dict[str, Tensor], blocks: Tensor) -> None:
        arrays = {name: part.numpy() for name, part in buffer.items()}
        begin = self.n_carried
        for start in (blocks * self._length).tolist():
            part = slice(start, min(start + self._length, len(self)))
            rows = dense_rows(self._X, part)
            into = slice(begin, begin + len(rows))
            self._scaler.transform(rows, arrays["values"][into])
            self._scaler.limit(arrays["values"][into])
            if self._weights is not None:
                arrays["weights"][into] = self._weights[part]
            if "keys" in arrays:
                arrays["keys"][into] = content_keys(rows)
            begin = into.stop


class ShardWindows(ShardRows):
    """Scaled training rows of one process among several, of which some at a time are in memory.

    Which ones, the feed tells.
    """

    def __init__(
        self,
        X: ShardedRows,
        weights: ShardedWeights | None,
        scaler: Scaler,
        dtype: torch.dtype,
        device: torch.device,
        keyed: bool,
        length: int,
    ):
        own: Tensor | None = None
        # All processes are asked in the order of `load_rows`: some may load their rows.
        if weights is not None:
            weight, count = total(X.communicator, [weights.local.sum(), float(len(X.local))])
            own = torch.as_tensor(weights.local / (weight / count), dtype=dtype)
        super().__init__(_unread(X.local, scaler, dtype, device, X.communicator), X)
        self._scaler, self._keyed, self._length, self._weights = scaler, keyed, length, own

    def __len__(self) -> int:
        return len(self.whole.local)

    @property
    def window_length(self) -> int:
        return self._length

    def window(self, index: Tensor) -> Tensor:
        some, places = index.unique(return_inverse=True)
        pieces = some.split(chunk_length(self.values.shape[1]))
        self._show(len(some), (dense_rows(self.whole.local, piece.numpy()) for piece in pieces))
        if self._weights is not None:
            self.weights = self._weights[some].to(self.device)
        return places

    def windows(self, dealt: Iterable[Sequence[Tensor]]) -> Generator[Tensor]:
        if not isinstance(self.whole.local, Source):
            yield from super().windows(dealt)
            return
        # A window has rows of all partitions. Each of these is read once, and its rows are written
        # in the order of the windows, so that an epoch reads twice and writes once.
        file = RowFile(self.whole.folder)
        bounds = np.cumsum([0, *self.whole.lengths[self.whole.places]]).tolist()
        partitions = zip(pairwise(bounds), dealt, strict=True)
        written = [self._written(file, slice(*part), parts) for part, parts in partitions]
        for parts in zip(*written, strict=True):
            yield self._read_again(parts)

    def _written(
        self, file: RowFile, partition: slice, windows: Sequence[Tensor]
    ) -> list[tuple[StoredRows, StoredRows | None]]:
        """The rows of a partition in each window, (K, m, n_features), with their weights (K, m)."""
        rows = dense_rows(self.whole.local, partition)
        weights = None if self._weights is None else self._weights.numpy()
        return [
            (
                file.add(rows[index.numpy() - partition.start]),
                None if weights is None else file.add(weights[index.numpy()]),
            )
            for index in windows
        ]

    def _read_again(self, parts: Sequence[tuple[StoredRows, StoredRows | None]]) -> Tensor:
        """Make rows that were written available; their places."""
        sizes = [rows.shape[:2] for rows, _ in parts]
        ends = np.cumsum([n * m for n, m in sizes]).tolist()
        self._show(ends[-1], (rows[:].reshape(-1, self.whole.shape[1]) for rows, _ in parts))
        if self._weights is not None:
            weights = [own[:].reshape(-1) for _, own in parts if own is not None]
            self.weights = torch.from_numpy(np.concatenate(weights)).to(self.device)
        pieces = zip(ends, sizes, strict=True)
        return torch.cat([torch.arange(end - n * m, end).view(n, m) for end, (n, m) in pieces], 1)

    def _show(self, n_rows: int, pieces: Iterable[np.ndarray]) -> None:
        """Scale rows, given piece by piece, in the place of the last ones."""
        self.values = self.values[:0].clone()  # Free the last ones before.
        values = torch.empty(n_rows, self.values.shape[1], dtype=self.values.dtype)
        keys = torch.empty(n_rows, dtype=torch.int64) if self._keyed else None
        begin = 0
        for rows in pieces:
            here = slice(begin, begin + len(rows))
            self._scaler.transform(rows, values[here].numpy())
            self._scaler.limit(values[here].numpy())
            if keys is not None:
                keys[here] = torch.from_numpy(content_keys(rows))
            begin = here.stop
        self.values = values.to(self.device) if fits(self.device, values.nbytes) else values
        self.keys = None if keys is None else keys.to(self.device)

    def _low_and_high_here(self) -> tuple[Tensor, Tensor]:
        return _low_and_high(self.whole.local, self._scaler, self.values.numpy().dtype)


def _unread(
    X: Any, scaler: Scaler, dtype: torch.dtype, device: torch.device, communicator: Communicator
) -> Rows:
    """What is known of all rows while none is in memory."""
    n, n_features = X.shape
    n_missing, sizes = 0, sizes_of(scaler)
    if scaler.unseen is not None:
        scaled = (scaler.scaled(rows) for _, rows in dense_chunks(X))
        n_missing = sum(n_missing_of(rows, sizes) for rows in scaled)
    elif X.dtype.kind == "f":
        n_missing = sum(n_missing_of(rows, sizes) for _, rows in dense_chunks(X))
    n_missing, n_cells = total(communicator, [n_missing, n * n_columns_of(sizes, n_features)])
    return Rows(
        torch.empty(0, n_features, dtype=dtype),
        None,
        None,
        scaled_origin(scaler, n_features, dtype).to(device),
        observed_share(int(n_missing), int(n_cells)),
        device,
        scaled_bounds(scaler, dtype, device),
        categories=categories_of(scaler, dtype, device),
    )


def _low_and_high(X: Any, scaler: Scaler, dtype: np.dtype) -> tuple[Tensor, Tensor]:
    """Smallest and largest scaled value of each feature; infinite where there is none."""
    low, high = np.full((2, X.shape[1]), [[np.inf], [-np.inf]], dtype=dtype)
    for _, rows in dense_chunks(X):
        scaled = np.empty(rows.shape, dtype=dtype)
        scaler.transform(rows, scaled)
        low, high = np.fmin(low, np.fmin.reduce(scaled)), np.fmax(high, np.fmax.reduce(scaled))
    return torch.from_numpy(low), torch.from_numpy(high)


def _loaded_shard(
    X: ShardedRows,
    weights: ShardedWeights | None,
    scaler: Scaler,
    dtype: torch.dtype,
    device: torch.device,
    keyed: bool,
    n_members: int,
) -> ShardRows:
    """The rows that are here, all at once if there is memory for them."""
    n_bytes = n_members * (X.shape[1] * dtype.itemsize + _ROW_BYTES)
    n, free = len(X.local), X.free_bytes
    if free is None or n * n_bytes <= free:
        given = X.local, local(weights), scaler, dtype, device, keyed, X.communicator
        return ShardRows(load_rows(*given), X)
    return ShardWindows(X, weights, scaler, dtype, device, keyed, free // n_bytes)


def scaled_rows(
    X: Any,
    weights: Any,
    scaler: Scaler,
    dtype: torch.dtype,
    device: torch.device,
    keyed: bool,
    length: int | None,
    n_members: int,
    batch_size: int,
) -> Rows:
    """The rows to train on: loaded, or in blocks if a ``length`` is given."""
    if isinstance(X, ShardedRows):
        return _loaded_shard(X, weights, scaler, dtype, device, keyed, n_members)
    if length is None:
        return load_rows(X, weights, scaler, dtype, device, keyed)
    return StreamedRows(X, weights, scaler, dtype, device, keyed, length, n_members, batch_size)
