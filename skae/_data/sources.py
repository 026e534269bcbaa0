"""Rows that are read only when needed: mapped files, and objects that slice like them."""

import math
import mmap
import os
import tempfile
import weakref
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral
from threading import Lock
from typing import Any

import numpy as np
from scipy import sparse

# Bytes of rows to read at once.
_READ_BYTES = 1 << 20


class SlicedRows:
    """Rows that are read by consecutive slices, indexed as those of an array.

    A slice, an integer, integers in any order or a mask give what NumPy gives; slices and an
    integer of the columns may follow. Who inherits reads consecutive rows in ``_slice``, and rows
    of ascending numbers in ``_taken``.
    """

    shape: tuple[int, int]
    dtype: Any

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: Any) -> Any:
        if isinstance(part, tuple) and part:
            return self._in_columns(*part)
        if part is ...:
            part = slice(None)
        if isinstance(part, slice):
            start, stop, step = part.indices(len(self))
            if step == 1:
                return self._slice(start, max(start, stop))
            return self._in_any_order(np.arange(start, stop, step))
        index = np.asarray(part)
        if index.dtype == bool and index.shape == (len(self),):
            return self._masked(np.flatnonzero(index))
        if isinstance(part, list) and not part:
            index = index.astype(np.intp)
        if index.dtype.kind not in "iu" or index.ndim > 1:
            raise IndexError(
                f"Rows are indexed by a slice, an integer, integers or a mask of {len(self)} "
                f"booleans, got {part!r}."
            )
        index = index.astype(np.intp)
        beyond = (index < -len(self)) | (index >= len(self))
        if beyond.any():
            raise IndexError(f"X has {len(self)} rows, and none of the number {index[beyond][0]}.")
        rows = self._in_any_order(np.atleast_1d(np.where(index < 0, index + len(self), index)))
        return rows if index.ndim else rows[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        rows = self[:]
        return rows if dtype is None else rows.astype(dtype, copy=False)

    def _in_columns(self, part: Any, *columns: Any) -> Any:
        if not all(isinstance(column, (slice, Integral, type(...))) for column in columns):
            raise IndexError(f"Columns are indexed by a slice or an integer, got {columns!r}.")
        rows = self[part]
        if all(column in (..., slice(None)) for column in columns):
            return rows
        rows = np.asarray(rows)
        return rows[(*(slice(None),) * (rows.ndim - 1), *columns)]

    def _in_any_order(self, index: np.ndarray) -> np.ndarray:
        if (np.diff(index) >= 0).all():
            return self._taken(index)
        order = np.argsort(index, kind="stable")
        rows = np.empty((len(index), self.shape[1]), dtype=self.dtype)
        rows[order] = self._taken(index[order])
        return rows

    def _masked(self, index: np.ndarray) -> Any:
        return self._taken(index)

    def _slice(self, start: int, stop: int) -> np.ndarray:
        raise NotImplementedError

    def _taken(self, index: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class ChosenRows(SlicedRows):
    """Some rows of an array, copied only where they are sliced.

    Parameters
    ----------
    rows : ndarray of shape (n, n_features)
    chosen : ndarray of shape (m,)
        Their numbers.
    """

    def __init__(self, rows: np.ndarray, chosen: np.ndarray):
        self._rows, self._chosen = rows, chosen
        self.shape, self.dtype = (len(chosen), rows.shape[1]), rows.dtype

    def _slice(self, start: int, stop: int) -> np.ndarray:
        return self._rows[self._chosen[start:stop]]

    def _taken(self, index: np.ndarray) -> np.ndarray:
        return self._rows[self._chosen[index]]


class Source(SlicedRows):
    """Rows of a file or store, read slice by slice; images are flattened.

    Reads are whole blocks of ``read_length`` rows, and the last block is kept. So a store of
    compressed chunks decompresses each chunk once. A mask gives a source that reads its rows
    later.

    Parameters
    ----------
    data : object
        Has ``shape``, ``dtype`` and slices of consecutive rows.

    Attributes
    ----------
    shape : tuple of int
        (n, n_features).
    dtype : dtype
    read_length : int
        About a megabyte of rows, and whole chunks of the store.
    """

    def __init__(self, data: Any):
        n, *sizes = data.shape
        self.shape = (int(n), math.prod(map(int, sizes)))
        self.dtype = data.dtype
        self._data = _Mapped.of(data)
        length = rows_per_read(self.shape[1], self.dtype)
        chunk = _chunk_length(data)
        self.read_length = -(-length // chunk) * chunk
        self._kept: tuple[int, np.ndarray] | None = None

    def _slice(self, start: int, stop: int) -> np.ndarray:
        first = start // self.read_length * self.read_length
        if start < stop <= first + self.read_length:
            return self._block(first)[start - first : stop - first]
        rows = np.empty((stop - start, self.shape[1]), dtype=self.dtype)
        for block in range(first, stop, self.read_length):
            begin, end = max(start, block), min(stop, block + self.read_length)
            rows[begin - start : end - start] = self._block(block)[begin - block : end - block]
        return rows

    def _taken(self, index: np.ndarray) -> np.ndarray:
        rows = np.empty((len(index), self.shape[1]), dtype=self.dtype)
        blocks = index // self.read_length
        bounds = np.flatnonzero(np.diff(blocks, prepend=-1, append=-1))
        for begin, end in pairwise(bounds):
            first = int(blocks[begin]) * self.read_length
            rows[begin:end] = self._block(first)[index[begin:end] - first]
        return rows

    def _masked(self, index: np.ndarray) -> "Source":
        return _Subset(self, index)

    def _block(self, first: int) -> np.ndarray:
        # Another thread may put its block in the place of this one at any moment.
        kept = self._kept
        if kept is None or kept[0] != first:
            # Free the old block before the next one is read.
            kept = self._kept = None
            rows = self._read(first, min(first + self.read_length, len(self)))
            kept = self._kept = first, rows
        return kept[1]

    def _read(self, start: int, stop: int) -> np.ndarray:
        try:
            rows = np.asarray(self._data[start:stop])
        except Exception as error:
            error.add_note(f"This was when rows {start} to {stop} of X were read.")
            raise
        if len(rows) != stop - start or rows.size != (stop - start) * self.shape[1]:
            raise ValueError(
                f"X had {len(self)} rows at first, but gives shape {rows.shape} for rows {start} "
                f"to {stop}: it changed while it was read. Pass X again once nothing writes to it."
            )
        return rows.reshape(stop - start, self.shape[1])


class _Subset(Source):
    """Some rows of a source, by sorted indices."""

    def __init__(self, source: Source, index: np.ndarray):
        self._source, self._index = source, index
        self.shape = (len(index), source.shape[1])
        self.dtype, self.read_length, self._kept = source.dtype, source.read_length, None

    def _read(self, start: int, stop: int) -> np.ndarray:
        return self._source[self._index[start:stop]]


class _Mapped:
    """The file behind a memory map, read by position.

    Such reads take whole blocks without page faults, and if the file was cut short, they raise
    an error instead of ending the process.
    """

    def __init__(self, array: np.memmap, position: int):
        self._shape, self._dtype, self._position = array.shape[1:], array.dtype, position
        self._n_bytes = math.prod(self._shape) * array.dtype.itemsize
        self._file = os.open(array.filename, os.O_RDONLY)  # type: ignore[arg-type]
        weakref.finalize(self, os.close, self._file)

    @classmethod
    def of(cls, data: Any) -> Any:
        """The file behind ``data`` if it can be read, else ``data`` itself."""
        position = _position(data)
        if position is None:
            return data
        try:
            mapped = cls(data, position)
        except OSError:
            return data
        if os.fstat(mapped._file).st_size < position + data.nbytes:
            raise ValueError(
                f"The file {data.filename} is shorter than the {data.nbytes} bytes of X: it was "
                f"cut after it was mapped. Map it again."
            )
        # By now, another file may have this name.
        ends = [slice(0, 1), slice(len(data) - 1, len(data))]
        same = all(mapped[end].tobytes() == np.asarray(data[end]).tobytes() for end in ends)
        return mapped if same else data

    def __getitem__(self, part: slice) -> np.ndarray:
        rows = np.empty((part.stop - part.start, *self._shape), dtype=self._dtype)
        buffer = _bytes_of(rows)
        done, begin = 0, self._position + part.start * self._n_bytes
        while done < len(buffer):
            n_read = os.preadv(self._file, [buffer[done:]], begin + done)
            if n_read == 0:
                return rows[: done // self._n_bytes]
            done += n_read
        return rows


class RowFile:
    """A file without a name, to which arrays of rows are written and read again.

    Parameters
    ----------
    folder : str or None
        Where it lies, until nobody needs it; None is the system's folder for such files.
    """

    def __init__(self, folder: str | None):
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._lock = Lock()

    def add(self, rows: np.ndarray) -> "StoredRows":
        left = _bytes_of(np.ascontiguousarray(rows))
        with self._lock:
            position = self._file.seek(0, os.SEEK_END)
            while left:
                left = left[self._file.write(left) :]
        return StoredRows(self, position, rows.shape, rows.dtype)

    def read(self, position: int, rows: np.ndarray) -> None:
        left = _bytes_of(rows)
        with self._lock:
            self._file.seek(position)
            while left:
                left = left[self._file.readinto(left) :]


@dataclass(frozen=True)
class StoredRows:
    """An array of a :class:`RowFile`, sliced by rows."""

    file: RowFile
    position: int
    shape: tuple[int, ...]
    dtype: np.dtype

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, _ = part.indices(self.shape[0])
        rows = np.empty((stop - start, *self.shape[1:]), dtype=self.dtype)
        n_bytes = self.dtype.itemsize * math.prod(self.shape[1:])
        self.file.read(self.position + start * n_bytes, rows)
        return rows


def _bytes_of(rows: np.ndarray) -> memoryview:
    return memoryview(rows.reshape(-1).view(np.uint8))  # type: ignore[arg-type]


def rows_per_read(n_values: int, dtype: np.dtype) -> int:
    """How many rows of ``n_values`` numbers are about a megabyte."""
    return max(1, _READ_BYTES // max(1, n_values * dtype.itemsize))


def is_source(X: Any) -> bool:
    """Whether ``X`` can be sliced by rows but is not in memory.

    Such an ``X`` is a memory map, or an object that has ``shape``, a NumPy ``dtype`` and slices
    but is not an array, sparse matrix or frame.
    """
    if isinstance(X, np.ndarray):
        is_sliced = isinstance(X, np.memmap)
    else:
        is_sliced = hasattr(X, "__getitem__") and hasattr(X, "shape") and not sparse.issparse(X)
    dtype = getattr(X, "dtype", None)
    return is_sliced and isinstance(dtype, np.dtype) and dtype.kind != "O" and len(X.shape) > 1


def source_of(X: Any) -> Source | None:
    """A source of what :func:`is_source` tells, else None."""
    return Source(X) if is_source(X) else None


def _chunk_length(data: Any) -> int:
    """Rows per chunk of a store; one if it has no chunks."""
    chunks = getattr(data, "chunks", None) or (1,)
    rows = max(chunks[0]) if isinstance(chunks[0], tuple) else chunks[0]
    return max(1, min(int(rows), data.shape[0]))


def _position(data: Any) -> int | None:
    """Where in its file a memory map begins; None if reads could give other values."""
    if not isinstance(data, np.memmap) or data.filename is None or data.mode == "c":
        return None
    base: Any = data
    while isinstance(base, np.ndarray):
        base = base.base
    if not isinstance(base, mmap.mmap) or not data.flags.c_contiguous or not hasattr(os, "preadv"):
        return None
    # The offset is that of the whole map, even if `data` is only a part of it.
    first = data.offset - data.offset % mmap.ALLOCATIONGRANULARITY
    start = np.frombuffer(base, dtype=np.uint8).__array_interface__["data"][0]
    return first + data.__array_interface__["data"][0] - start
