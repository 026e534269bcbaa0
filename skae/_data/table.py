"""The caller's columns, the units that stand for them in a row, and columns made of units again.

A number, a whole number or a flag is one unit; a category is one unit for each of its values,
behind all others (see ``categories``). A missing cell has NaN in all of its units.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from skae._data.categories import by_column, first_units, starts_of
from skae._data.convert import as_frame, library_of
from skae._data.frames import (
    column_of,
    dtype_of,
    factorized,
    frame_of,
    is_frame,
    pandas_series,
    picked,
    polars_series,
)
from skae._data.sources import Source

# Values of a category that have a unit of their own, but for the last one, which stands for all
# others if there are more.
MOST_VALUES = 255

# Dtypes of columns that an array holds as well.
_FLOATS = {
    "numpy": {"float16", "float32", "float64"},
    "pandas": {"float16", "float32", "float64"},
    "polars": {"Float32", "Float64"},
}

# Bytes of rows that are made at once; more are made when they are read.
_BYTES_AT_ONCE = 1 << 26


class Category(NamedTuple):
    """The values of a column.

    Attributes
    ----------
    column : int
        Number of the column.
    values : ndarray of shape (n_values,)
        In the caller's order.
    units : ndarray of shape (n_values,), int64
        The unit of each; -1 for a value that is known by the column's dtype alone. Rare values
        share the last unit.
    shown : ndarray of shape (n_units,), int64
        The value that a unit is decoded to: of several, the most frequent one.
    is_ordered : bool
        Whether the caller's dtype has them in an order.
    """

    column: int
    values: np.ndarray
    units: np.ndarray
    shown: np.ndarray
    is_ordered: bool

    @classmethod
    def of(cls, column: int, X: Any) -> "Category":
        """The values of a column of X, and those that its dtype knows."""
        codes, values, is_ordered = factorized(column_of(X, column))
        counts = np.bincount(codes[codes >= 0], minlength=len(values))
        observed = np.flatnonzero(counts)
        if len(observed) > MOST_VALUES:
            # The most frequent ones; of equally frequent ones the first.
            by_count = observed[np.argsort(-counts[observed], kind="stable")]
            observed = np.sort(by_count[: MOST_VALUES - 1])
            rare = by_count[MOST_VALUES - 1 :]
        else:
            rare = observed[:0]
        units = np.full(len(values), -1)
        units[observed], units[rare] = np.arange(len(observed)), len(observed)
        shown = np.concatenate([observed, rare[:1]])
        # A column without any value has one unit, which is always missing.
        shown = shown if len(shown) else np.array([-1])
        return cls(column, values, units, shown, is_ordered)

    @property
    def n_units(self) -> int:
        return len(self.shown)

    def codes(self, X: Any) -> np.ndarray:
        """The unit of each cell of the column; -1 where it is missing, or not a known value."""
        codes, values, _ = factorized(column_of(X, self.column))
        known = dict(zip(self.values.tolist(), self.units.tolist(), strict=True))
        units = np.array([*(known.get(value, -1) for value in values.tolist()), -1])
        return units[codes].astype(np.int16)


@dataclass(frozen=True)
class Table:
    """What the columns of the training data are.

    Attributes
    ----------
    library : str
        Of the data frame: "pandas" or "polars"; else "numpy".
    dtypes : ndarray of str
        Names of the columns' dtypes, or one name for all.
    n_columns : int
    categories : list of Category
    """

    library: str
    dtypes: np.ndarray
    n_columns: int
    categories: list[Category]

    @classmethod
    def of(cls, X: Any, categories: list[int]) -> "Table":
        """What the columns of X are, of which some are categories."""
        found = [Category.of(i, X) for i in categories]
        if not is_frame(X):
            n_columns = X.shape[1] if len(np.shape(X)) == 2 else 0
            return cls("numpy", np.array(["float64"], dtype=object), n_columns, found)
        names = []
        for i in range(X.shape[1]):
            column = column_of(X, i)
            names.append(str(column.dtype) if i in categories else dtype_of(column))
        return cls(library_of(X), np.array(names, dtype=object), len(names), found)

    def of_rows(self, rows: Any) -> "Table":
        """The same for what is no data frame, given its rows of numbers."""
        if self.library != "numpy" or self.categories:
            return self
        return Table("numpy", np.array([str(rows.dtype)], dtype=object), rows.shape[1], [])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Units of each category."""
        return tuple(category.n_units for category in self.categories)

    @property
    def numbers(self) -> list[int]:
        """The columns that are no categories."""
        others = {category.column for category in self.categories}
        return [i for i in range(self.n_columns) if i not in others]

    @property
    def width(self) -> int:
        """Units of a row."""
        return len(self.numbers) + sum(self.sizes)

    @property
    def order(self) -> np.ndarray:
        """Where each column stands among numbers and, after them, categories."""
        return np.argsort(self.numbers + [category.column for category in self.categories])

    @property
    def is_plain(self) -> bool:
        """Whether all columns are of floats, which an array holds as well."""
        return not self.categories and all(name in _FLOATS[self.library] for name in self.dtypes)

    def dtype(self, column: int) -> str:
        return str(self.dtypes[column if len(self.dtypes) > 1 else 0])

    def encoded(self, X: Any, numbers: np.ndarray) -> Any:
        """Rows of units, float64: an array, or a source if they are large.

        ``numbers`` are the columns of X that are no categories.
        """
        codes = np.column_stack([category.codes(X) for category in self.categories])
        rows = _Rows(numbers, codes, self.sizes)
        is_small = 8 * rows.shape[0] * rows.shape[1] <= _BYTES_AT_ONCE
        return rows[0 : len(numbers)] if is_small else Source(rows)

    def decoded(self, rows: np.ndarray) -> list[np.ndarray]:
        """The columns of rows of units: numbers, and of a category the places among its values.

        The largest unit tells the value; the place is -1 where it is missing.
        """
        n = len(self.numbers)
        found = dict(zip(self.numbers, rows[:, :n].T, strict=True))
        for category, start in zip(self.categories, starts_of(self.sizes), strict=True):
            units = rows[:, n + start : n + start + category.n_units]
            places = category.shown[units.argmax(axis=1)]
            found[category.column] = np.where(np.isnan(units[:, 0]), -1, places)
        return [found[i] for i in range(self.n_columns)]

    def by_column(self, values: np.ndarray) -> np.ndarray:
        """Sums over the units of each column, (n, n_columns), of (n, n_units)."""
        return by_column(values, self.sizes)[:, self.order] if self.categories else values

    def missing(self, rows: np.ndarray) -> np.ndarray:
        """Which cells of rows of units are missing, (n, n_columns)."""
        missing = np.isnan(rows) if rows.dtype.kind == "f" else np.zeros(rows.shape, dtype=bool)
        return missing[:, first_units(self.sizes, self.width)][:, self.order]

    def by_unit(self, values: np.ndarray) -> np.ndarray:
        """What stands for each column, (n, n_columns), for each of its units, (n, n_units)."""
        if not self.categories:
            return values
        sizes = [1] * len(self.numbers) + list(self.sizes)
        return np.repeat(values[:, np.argsort(self.order)], sizes, axis=1)

    def bounds_of_units(self, bounds: np.ndarray) -> np.ndarray:
        """Bounds (2, n_columns) as those of units; those of categories are probabilities."""
        if not self.categories:
            return bounds
        none = np.tile([[0.0], [1.0]], sum(self.sizes))
        return np.hstack([bounds[:, self.numbers], none])

    def array(self, rows: np.ndarray) -> np.ndarray:
        """Rows of units as an array of the columns, of objects where some are text."""
        columns = self.decoded(rows)
        for category in self.categories:
            columns[category.column] = picked(columns[category.column], category.values)
        return np.column_stack(columns)

    def frame(self, rows: np.ndarray, library: str, names: Any, index: Any = None) -> Any:
        """Rows of units as a data frame, in the dtypes of the training data; floats as they are."""
        if self.is_plain:
            return as_frame(rows, library, names, index)
        dtypes = [self.dtype(i) for i in range(self.n_columns)]
        make = polars_series if library == "polars" else pandas_series
        of = {category.column: category for category in self.categories}
        pairs = zip(self.decoded(rows), dtypes, strict=True)
        series = [make(values, dtype, of.get(i)) for i, (values, dtype) in enumerate(pairs)]
        return frame_of(series, library, names, index)


class _Rows:
    """Rows of units, made when they are read."""

    dtype = np.dtype(np.float64)

    def __init__(self, numbers: np.ndarray, codes: np.ndarray, sizes: tuple[int, ...]):
        self._numbers, self._codes, self._sizes = numbers, codes, sizes
        self.shape = (len(numbers), numbers.shape[1] + sum(sizes))

    def __getitem__(self, part: slice) -> np.ndarray:
        codes = self._codes[part]
        units = [
            np.where(code[:, None] < 0, np.nan, code[:, None] == np.arange(size))
            for code, size in zip(codes.T, self._sizes, strict=True)
        ]
        return np.concatenate([self._numbers[part], *units], axis=1, dtype=np.float64)
