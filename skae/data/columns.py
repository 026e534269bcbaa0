"""What the columns of the training rows were like, so that drawn rows can be like them."""

from typing import Any, NamedTuple

import numpy as np

from skae.data.validate import dense_chunks


class Ranges(NamedTuple):
    """The values that each column was seen to take.

    Attributes
    ----------
    low, high : ndarray of shape (n_features,), float64
        Zero where a column was never observed.
    whole : ndarray of shape (n_features,), bool
        Whether all of them were whole numbers.
    """

    low: np.ndarray
    high: np.ndarray
    whole: np.ndarray

    @classmethod
    def of(cls, rows: Any) -> "Ranges":
        """Of an array or CSR matrix; NaN is left out."""
        low, high = np.full(rows.shape[1], np.inf), np.full(rows.shape[1], -np.inf)
        whole = np.ones(rows.shape[1], dtype=bool)
        for _, part in dense_chunks(rows):
            part = part.astype(np.float64)
            missing = np.isnan(part)
            low = np.minimum(low, np.where(missing, np.inf, part).min(axis=0))
            high = np.maximum(high, np.where(missing, -np.inf, part).max(axis=0))
            whole &= (missing | (part == np.rint(part))).all(axis=0)
        seen = low <= high
        return cls(np.where(seen, low, 0.0), np.where(seen, high, 0.0), whole)

    def restored(self, values: np.ndarray) -> np.ndarray:
        """Values within the ranges, and whole where those of the column are; float64."""
        values = np.clip(values.astype(np.float64), self.low, self.high)
        return np.where(self.whole, np.rint(values), values)


def dtypes_of(X: Any, rows: Any) -> np.ndarray:
    """Names of the dtypes of a frame's columns; for all else the one of its rows."""
    dtypes = getattr(X, "dtypes", None)
    names = [str(rows.dtype)] if dtypes is None else [str(dtype) for dtype in dtypes]
    return np.array([name if is_numeric(name) else "float64" for name in names], dtype=object)


def as_array(values: np.ndarray, dtypes: np.ndarray) -> np.ndarray:
    """Values in the one dtype that holds them all."""
    return values.astype(np.result_type(*{_plain(name) for name in dtypes}))


def as_frame(values: np.ndarray, dtypes: np.ndarray, names: Any, library: str) -> Any:
    """Values as a frame of pandas or polars, each column in its dtype."""
    if len(dtypes) == 1:
        dtypes = np.repeat(dtypes, values.shape[1])
    columns = {
        str(name): column.astype(_plain(dtype))
        for name, column, dtype in zip(names, values.T, dtypes, strict=True)
    }
    if library == "polars":
        import polars

        return polars.DataFrame(columns)
    import pandas

    # A capital letter begins the dtypes that know missing values, but for one.
    nullable = {
        name: "boolean" if dtype.lower() == "boolean" else dtype
        for name, dtype in zip(columns, dtypes, strict=True)
        if dtype[0].isupper() or dtype == "boolean"
    }
    return pandas.DataFrame(columns).astype(nullable)


def _plain(name: str) -> np.dtype:
    """NumPy's dtype of that name, or of that of a nullable or polars column."""
    return np.dtype({"boolean": "bool"}.get(name.lower(), name.lower()))


def is_numeric(name: str) -> bool:
    """Whether a dtype of that name holds numbers."""
    try:
        return _plain(name).kind in "biuf"
    except TypeError:
        return False
