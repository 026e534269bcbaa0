"""What rows were before they became numbers: an array, images, a data frame; and its dtypes."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Layout:
    """The kind and the dtypes of the training data.

    Attributes
    ----------
    kind : {"numpy", "pandas", "polars"}
    shape : tuple of int
        Of one sample.
    dtypes : tuple of str
        NumPy's name of each column's dtype; of an array, one for all.
    columns : tuple of str or None
    """

    kind: str
    shape: tuple[int, ...]
    dtypes: tuple[str, ...]
    columns: tuple[Any, ...] | None = None

    @property
    def is_integer(self) -> np.ndarray:
        """Which columns hold integers or booleans; an array of one entry for all."""
        return np.array([np.dtype(name).kind in "iub" for name in self.dtypes])

    def restored(self, values: np.ndarray) -> Any:
        """Rows (n, n_features) as the training data were; integers rounded, and kept in range."""
        if self.columns is None:
            return _cast(values, self.dtypes[0]).reshape(-1, *self.shape)
        pairs = zip(self.columns, values.T, self.dtypes, strict=True)
        series = {name: _cast(column, dtype) for name, column, dtype in pairs}
        if self.kind == "polars":
            import polars

            return polars.DataFrame(series)
        import pandas

        return pandas.DataFrame(series)


def layout_of(X: Any) -> Layout:
    """The layout of an array, a sparse matrix or a data frame of numbers."""
    kind = type(X).__module__.split(".")[0]
    if kind in ("pandas", "polars"):
        series = [X[name].to_numpy() for name in X.columns]
        names = tuple(
            column.dtype.name if column.dtype.kind in "iubf" else "float64" for column in series
        )
        return Layout(kind, (len(names),), names, tuple(X.columns))
    array = X if hasattr(X, "dtype") else np.asarray(X)
    dtype = array.dtype.name if array.dtype.kind in "iubf" else "float64"
    return Layout("numpy", tuple(array.shape[1:]), (dtype,))


def _cast(values: np.ndarray, name: str) -> np.ndarray:
    dtype = np.dtype(name)
    if dtype.kind == "b":
        return values > 0.5
    if dtype.kind in "iu" and values.dtype.kind == "f":
        limits = np.iinfo(dtype)
        # The largest integers have no float64; those below them do.
        most = float(limits.max) if limits.max < 2**53 else float(limits.max) * (1.0 - 2.0**-53)
        values = np.clip(np.rint(values.astype(np.float64)), float(limits.min), most)
    return values.astype(dtype)
