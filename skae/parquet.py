"""ParquetRows: the rows of Parquet files, sliced like an array."""

import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from skae._data.sources import SlicedRows

__all__ = ["ParquetRows"]


class ParquetRows(SlicedRows):
    """Rows of Parquet files, read row group by row group when they are sliced.

    A source for ``fit`` and for predictions of data larger than memory. A row group is
    taken apart as a whole, and the last one is kept, so that memory grows with the
    largest one; small row groups, of a few megabytes, are also shuffled fastest. Slices,
    integers in any order and masks give what they give of an array.

    Parameters
    ----------
    paths : str, path-like or sequence of these
        One file, or several with the same columns, one after another.
    columns : sequence of str, default=None
        The features, in this order. None takes all columns of the first file.

    Attributes
    ----------
    shape : tuple of int
        (n_samples, n_features).
    dtype : dtype
        Float32, or float64 where a column needs it. Nulls are NaN.
    column_names : list of str
        The features.

    Raises
    ------
    ImportError
        If pyarrow is not installed (``pip install "skae[parquet]"``).
    ValueError
        If a column does not hold numbers.

    Examples
    --------
    >>> import os, tempfile
    >>> import pyarrow, pyarrow.parquet
    >>> from skae.parquet import ParquetRows
    >>> path = os.path.join(tempfile.mkdtemp(), "rows.parquet")
    >>> table = pyarrow.table({"a": [1.0, None, 3.0], "b": [4, 5, 6]})
    >>> pyarrow.parquet.write_table(table, path, row_group_size=2)
    >>> ParquetRows(path)[1:]
    array([[nan,  5.],
           [ 3.,  6.]])
    """

    def __init__(self, paths: Any, columns: Sequence[str] | None = None):
        try:
            from pyarrow.parquet import ParquetFile
        except ImportError as error:
            raise ImportError(
                'ParquetRows needs pyarrow. Install it with: pip install "skae[parquet]"'
            ) from error
        single = isinstance(paths, (str, os.PathLike))
        files = [ParquetFile(path) for path in ([paths] if single else paths)]
        schema = files[0].schema_arrow
        self.column_names = list(schema.names if columns is None else columns)
        kinds = {name: schema.field(name).type.to_pandas_dtype() for name in self.column_names}
        others = [name for name, kind in kinds.items() if np.dtype(kind).kind not in "biuf"]
        if others:
            raise ValueError(
                f"columns={columns!r} includes columns that do not hold numbers: {others}. Pass "
                f"the names of those that do."
            )
        self.dtype = np.result_type(np.float32, *kinds.values())
        self._groups = [(file, i) for file in files for i in range(file.num_row_groups)]
        lengths = [file.metadata.row_group(i).num_rows for file, i in self._groups]
        self._starts = np.cumsum([0, *lengths])
        self.shape = (int(self._starts[-1]), len(self.column_names))
        self._kept: tuple[int, np.ndarray] | None = None
        self._lock = threading.Lock()

    def _slice(self, start: int, stop: int) -> np.ndarray:
        rows = np.empty((stop - start, self.shape[1]), dtype=self.dtype)
        for group in range(*self._groups_of(start, stop)):
            offset = self._starts[group]
            begin, end = max(start, offset), min(stop, self._starts[group + 1])
            rows[begin - start : end - start] = self._group(group)[begin - offset : end - offset]
        return rows

    def _taken(self, index: np.ndarray) -> np.ndarray:
        rows = np.empty((len(index), self.shape[1]), dtype=self.dtype)
        groups = np.searchsorted(self._starts, index, side="right") - 1
        for group in np.unique(groups):
            own = groups == group
            rows[own] = self._group(int(group))[index[own] - self._starts[group]]
        return rows

    def _groups_of(self, start: int, stop: int) -> tuple[int, int]:
        """The first group of some rows, and the one after their last."""
        if start == stop:
            return 0, 0
        first, last = np.searchsorted(self._starts, [start, stop - 1], side="right") - 1
        return int(first), int(last) + 1

    def _group(self, number: int) -> np.ndarray:
        # pyarrow's files are for one thread at a time.
        with self._lock:
            kept = self._kept
            if kept is None or kept[0] != number:
                kept = self._kept = None
                file, i = self._groups[number]
                table = file.read_row_group(i, columns=self.column_names)
                rows = np.empty((table.num_rows, self.shape[1]), dtype=self.dtype)
                for j, name in enumerate(self.column_names):
                    rows[:, j] = _numbers(table.column(name), self.dtype)
                kept = self._kept = number, rows
            return kept[1]


def _numbers(column: Any, dtype: np.dtype) -> np.ndarray:
    """A column of a table; null is NaN."""
    import pyarrow

    return column.cast(pyarrow.from_numpy_dtype(dtype), safe=False).to_numpy()
