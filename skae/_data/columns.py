"""Ranges and layout of the training data, which drawn and decoded rows follow."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from skae._data.convert import dense_chunks, library_of
from skae._data.margins import Margins


class Ranges(NamedTuple):
    """The range of values observed in each column.

    Attributes
    ----------
    low, high : ndarray of shape (n_features,), float64
        Zero where a column was never observed.
    whole : ndarray of shape (n_features,), bool
        Whether all observed values were whole numbers.
    margins : Margins or None
        What the columns of drawn rows hold; None if it is what was decoded.
    residuals : Margins or None
        What reconstructions lack, column by column; None if nothing is added to what was decoded.
    """

    low: np.ndarray
    high: np.ndarray
    whole: np.ndarray
    margins: Margins | None = None
    residuals: Margins | None = None

    @classmethod
    def of(cls, rows: Any, n_categorical: int = 0) -> "Ranges":
        """The ranges of an array or CSR matrix; NaN is left out.

        The last ``n_categorical`` columns are units of categories, whose outputs are
        probabilities, and no whole numbers.
        """
        low, high = np.full(rows.shape[1], np.inf), np.full(rows.shape[1], -np.inf)
        whole = np.ones(rows.shape[1], dtype=bool)
        for _, part in dense_chunks(rows):
            part = part.astype(np.float64)
            missing = np.isnan(part)
            low = np.minimum(low, np.where(missing, np.inf, part).min(axis=0))
            high = np.maximum(high, np.where(missing, -np.inf, part).max(axis=0))
            whole &= (missing | (part == np.rint(part))).all(axis=0)
        seen = low <= high
        whole[len(whole) - n_categorical :] = False
        return cls(np.where(seen, low, 0.0), np.where(seen, high, 0.0), whole)

    def united(self, other: "Ranges") -> "Ranges":
        """The ranges of these rows and others, with the margins of the others."""
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return other._replace(low=low, high=high, whole=self.whole & other.whole)

    def restored(self, values: np.ndarray) -> np.ndarray:
        """Values clipped to the ranges, and rounded in columns of whole numbers; float64."""
        values = np.clip(values.astype(np.float64), self.low, self.high)
        return np.where(self.whole, np.rint(values), values)

    def rounded(self, values: np.ndarray) -> np.ndarray:
        """Values clipped and rounded in columns of whole numbers alone."""
        if not self.whole.any():
            return values
        whole = np.rint(np.clip(values, self.low, self.high))
        return np.where(self.whole, whole, values).astype(values.dtype)


# No infinity, which safe files refuse.
_NO_BOUND = np.finfo(np.float64).max


def bounds_of(given: Any, n_columns: int) -> np.ndarray | None:
    """Lower and upper bounds of columns, (2, n_columns), from "nonnegative" or a pair.

    Raises
    ------
    ValueError
        If it is no pair of numbers, or one of each for each column, or the lower bound is higher.
    """
    if given is None:
        return None
    pair = (0.0, None) if isinstance(given, str) else tuple(given)
    try:
        low, high = (
            _NO_BOUND * sign if v is None else v for v, sign in zip(pair, (-1, 1), strict=True)
        )
        bounds = np.stack([np.broadcast_to(np.asarray(v, float), n_columns) for v in (low, high)])
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"output_bounds={given!r} must be 'nonnegative' or (low, high): each a number, one for "
            f"each of the {n_columns} columns, or None."
        ) from error
    bounds = bounds.clip(-_NO_BOUND, _NO_BOUND)
    if not (bounds[0] <= bounds[1]).all():
        raise ValueError(f"output_bounds={given!r} has a lower bound above the upper one.")
    return bounds


@dataclass(frozen=True)
class Layout:
    """What rows were before they became numbers: an array, images, a data frame.

    Attributes
    ----------
    kind : {"numpy", "pandas", "polars"}
    shape : tuple of int
        Shape of one sample.
    dtypes : tuple of str
        Names of the columns' dtypes, or one name for all.
    columns : tuple or None
        Names of a frame's columns.
    """

    kind: str
    shape: tuple[int, ...]
    dtypes: tuple[str, ...]
    columns: tuple[Any, ...] | None = None

    @property
    def is_integer(self) -> np.ndarray:
        """Which columns hold integers or booleans, or one entry for all."""
        return np.array([plain(name).kind in "iub" for name in self.dtypes])

    def restored(self, values: np.ndarray) -> Any:
        """Rows (n, n_features) in this layout; integers are rounded, and clipped to their dtype.

        An array gets the one dtype that holds all columns.
        """
        if self.columns is None:
            dtype = np.result_type(*{plain(name) for name in self.dtypes})
            return cast(values, dtype).reshape(-1, *self.shape)
        dtypes = self.dtypes * (len(self.columns) if len(self.dtypes) == 1 else 1)
        pairs = zip(self.columns, values.T, dtypes, strict=True)
        series = {name: cast(column, plain(dtype)) for name, column, dtype in pairs}
        if self.kind == "polars":
            import polars

            return polars.DataFrame(series)
        import pandas

        # The names of pandas' nullable dtypes begin with a capital letter, except for one.
        nullable = {
            name: "boolean" if dtype.lower() == "boolean" else dtype
            for name, dtype in zip(series, dtypes, strict=True)
            if dtype[0].isupper() or dtype == "boolean"
        }
        return pandas.DataFrame(series).astype(nullable)


def layout_of(X: Any, rows: Any) -> Layout:
    """The layout of an array, a sparse matrix or a data frame, given its rows of numbers."""
    kind = library_of(X)
    if kind in ("pandas", "polars"):
        return Layout(kind, (rows.shape[1],), dtypes_of(X, rows), tuple(X.columns))
    return Layout("numpy", np.shape(X)[1:], dtypes_of(X, rows))


def dtypes_of(X: Any, rows: Any) -> tuple[str, ...]:
    """Names of the dtypes of a frame's columns; for other data, the dtype of the rows."""
    dtypes = getattr(X, "dtypes", None)
    names = [str(rows.dtype)] if dtypes is None else [str(dtype) for dtype in dtypes]
    return tuple(name if is_numeric(name) else "float64" for name in names)


def plain(name: str) -> np.dtype:
    """NumPy's dtype for the name of a dtype of NumPy, pandas or polars."""
    return np.dtype({"boolean": "bool"}.get(name.lower(), name.lower()))


def is_numeric(name: str) -> bool:
    """Whether a dtype of that name holds numbers."""
    try:
        return plain(name).kind in "biuf"
    except TypeError:
        return False


def cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Numbers in a dtype: a flag is set above one half, integers are rounded and cut off."""
    if dtype.kind == "b":
        return values > 0.5
    if dtype.kind in "iu" and values.dtype.kind == "f":
        limits = np.iinfo(dtype)
        # float64 cannot hold the largest 64-bit integers; take the largest one that it can.
        most = float(limits.max) if limits.max < 2**53 else float(limits.max) * (1.0 - 2.0**-53)
        values = np.clip(np.rint(values.astype(np.float64)), float(limits.min), most)
    return values.astype(dtype)
