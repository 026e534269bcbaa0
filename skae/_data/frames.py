"""Columns of data frames and arrays: what they hold, and series made of numbers and values again.

Everything here that differs between pandas, polars and NumPy.
"""

from typing import Any

import numpy as np

from skae._data.columns import cast, is_numeric, plain
from skae._data.convert import library_of

# Kinds of columns: "number", "category", or, in words, what has no kind by itself.
_DATES = "dates or times"
_MIXED = "text among other values"

# What pandas finds in a column of objects; all else is mixed.
_OBJECTS = {
    **dict.fromkeys(["boolean", "integer", "floating", "mixed-integer-float"], "number"),
    **dict.fromkeys(["decimal", "complex", "empty"], "number"),
    "string": "category",
    **dict.fromkeys(["datetime64", "datetime", "date", "time", "period"], _DATES),
    **dict.fromkeys(["timedelta64", "timedelta"], _DATES),
}


def is_frame(X: Any) -> bool:
    """Whether X is a data frame of pandas or polars."""
    return library_of(X) in ("pandas", "polars") and hasattr(X, "columns")


def column_of(X: Any, i: int) -> Any:
    """One column: a series, or an array."""
    if not is_frame(X):
        return X[:, i]
    return X.iloc[:, i] if library_of(X) == "pandas" else X[:, i]


def columns_of(X: Any, numbers: list[int]) -> Any:
    """Some columns of numbers: in X's container, or of an array as floats."""
    if not numbers:
        return np.empty((X.shape[0], 0))
    if not is_frame(X):
        return np.asarray(X)[:, numbers].astype(np.float64)
    return X.iloc[:, numbers] if library_of(X) == "pandas" else X[:, numbers]


def name_of(X: Any, i: int) -> Any:
    """A column's name, or its number."""
    return list(X.columns)[i] if is_frame(X) else i


def kind_of(column: Any) -> str:
    """ "number", "category", or what the column holds that is neither, in words."""
    library = library_of(column)
    return _KINDS[library if library in _KINDS else "numpy"](column)


def _kind_in_pandas(column: Any) -> str:
    import pandas
    from pandas.api import types

    dtype = column.dtype
    if isinstance(dtype, pandas.CategoricalDtype):
        return "category"
    if types.is_bool_dtype(dtype) or types.is_numeric_dtype(dtype):
        return "number"
    if dtype.kind == "O" and dtype.name == "object":
        return _OBJECTS.get(types.infer_dtype(column, skipna=True), _MIXED)
    if types.is_string_dtype(dtype):
        return "category"
    if types.is_datetime64_any_dtype(dtype) or types.is_timedelta64_dtype(dtype):
        return _DATES
    return f"values of dtype {dtype}"


def _kind_in_polars(column: Any) -> str:
    import polars

    dtype = column.dtype
    if dtype.is_numeric() or dtype in (polars.Boolean, polars.Null):
        return "number"
    if dtype in (polars.String, polars.Categorical, polars.Enum):
        return "category"
    return _DATES if dtype.is_temporal() else f"values of dtype {dtype}"


def _kind_in_numpy(column: np.ndarray) -> str:
    if column.dtype.kind in "Mm":
        return _DATES
    if column.dtype.kind in "OUST":
        has_text = any(isinstance(value, (str, bytes)) for value in column)
        return "text" if has_text else "number"
    return "number"


_KINDS = {"pandas": _kind_in_pandas, "polars": _kind_in_polars, "numpy": _kind_in_numpy}


def dtype_of(column: Any) -> str:
    """The name of the dtype that a column of numbers is given back in."""
    name = str(column.dtype)
    if name == "object" and library_of(column) == "pandas":
        from pandas.api import types

        inferred = types.infer_dtype(column, skipna=True)
        return {"boolean": "boolean", "integer": "Int64"}.get(inferred, "float64")
    return name if is_numeric(name) else "float64"


def factorized(column: Any) -> tuple[np.ndarray, np.ndarray, bool]:
    """Codes of the cells, -1 where they are missing; the values in order; whether it means much."""
    library = library_of(column)
    if library == "pandas":
        return _factorized_in_pandas(column)
    if library == "polars":
        return _factorized_in_polars(column)
    return *_factorized_array(np.asarray(column)), False


def _factorized_in_pandas(column: Any) -> tuple[np.ndarray, np.ndarray, bool]:
    import pandas

    if isinstance(column.dtype, pandas.CategoricalDtype):
        values = np.asarray(column.cat.categories)
        return column.cat.codes.to_numpy().astype(np.int64), values, bool(column.cat.ordered)
    codes, values = pandas.factorize(column, sort=True)
    return codes, np.asarray(values), False


def _factorized_in_polars(column: Any) -> tuple[np.ndarray, np.ndarray, bool]:
    import polars

    is_enum = column.dtype == polars.Enum
    if column.dtype not in (polars.String, polars.Categorical, polars.Enum):
        return *_factorized_array(column.to_numpy()), False
    text = column.cast(polars.String)
    values = column.dtype.categories if is_enum else text.drop_nulls().unique().sort()
    values = polars.Series(values, dtype=polars.String)
    places = polars.int_range(len(values), eager=True)
    codes = text.replace_strict(values, places, default=-1, return_dtype=polars.Int64)
    return codes.fill_null(-1).to_numpy(), np.array(values.to_list(), dtype=object), is_enum


def _factorized_array(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    missing = missing_in(column)
    if column.dtype.kind != "O":
        values, codes = np.unique(column[~missing], return_inverse=True)
        is_text = values.dtype.kind in "UT"
        return _spread(codes, missing), values.astype(object) if is_text else values
    given = column[~missing].tolist()
    ordered = sorted(set(given), key=lambda value: (str(type(value)), value))
    places = {value: i for i, value in enumerate(ordered)}
    values = np.empty(len(ordered), dtype=object)
    values[:] = ordered
    return _spread(np.array([places[value] for value in given], dtype=np.int64), missing), values


def _spread(codes: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Codes of the observed cells, and -1 for the others."""
    spread = np.full(len(missing), -1, dtype=np.int64)
    spread[~missing] = codes
    return spread


def pandas_series(values: np.ndarray, dtype: str, category: Any) -> Any:
    """Numbers, or places among the values of a category, as what pandas makes a column of."""
    import pandas

    if category is None:
        values = _numbers(values, dtype)
        return pandas.array(values, dtype=_nullable(dtype)) if _is_nullable(dtype) else values
    if dtype == "category" or dtype.startswith(("Categorical", "Enum")):
        return pandas.Categorical.from_codes(values, category.values, category.is_ordered)
    cells = picked(values, category.values)
    known = is_numeric(dtype) or dtype in ("object", "str") or dtype.startswith("string")
    if is_numeric(dtype) and (values < 0).any():
        return cells
    return pandas.Series(cells, dtype=_nullable(dtype) if known else object).array


def polars_series(values: np.ndarray, dtype: str, category: Any) -> Any:
    """The same for polars."""
    import polars

    if category is None:
        return polars.Series(_numbers(values, dtype))
    cells = polars.Series(picked(values, category.values).tolist(), strict=False)
    if dtype == "category" or dtype.startswith("Categorical"):
        return cells.cast(polars.Categorical)
    if dtype.startswith("Enum"):
        return cells.cast(polars.Enum(category.values.tolist()))
    return cells


def frame_of(series: list[Any], library: str, names: Any, index: Any = None) -> Any:
    """Columns as a data frame; names of any kind, in pandas also an index with several levels."""
    if library == "polars":
        import polars

        pairs = zip(names, series, strict=True)
        return polars.DataFrame([polars.Series(str(name), column) for name, column in pairs])
    import pandas

    frame = pandas.DataFrame(dict(enumerate(series)), index=index)
    frame.columns = names
    return frame


def with_columns(X: Any, columns: list[Any]) -> Any:
    """A frame with X's names, index and axes, and other columns."""
    if library_of(X) == "polars":
        return frame_of(columns, "polars", X.columns)
    frame = frame_of([getattr(c, "array", c) for c in columns], "pandas", X.columns, X.index)
    frame.attrs = dict(X.attrs)
    return frame


def arranged(X: Any, kept: np.ndarray, more: np.ndarray, names: list[str]) -> Any:
    """Some columns of a frame or an array, and more columns of flags with these names."""
    if not is_frame(X):
        return np.hstack([X[:, kept], more])
    part = X.iloc[:, kept] if library_of(X) == "pandas" else X[:, kept.tolist()]
    if not names:
        return part
    if library_of(X) == "polars":
        return part.hstack(frame_of(list(more.T), "polars", names))
    import pandas

    return pandas.concat([part, pandas.DataFrame(more, index=X.index, columns=names)], axis=1)


def missing_in(column: Any) -> np.ndarray:
    """Where cells are missing."""
    library = library_of(column)
    if library == "pandas":
        return np.asarray(column.isna())
    if library == "polars":
        missing = column.is_null()
        if column.dtype.is_float():
            missing |= column.is_nan().fill_null(True)
        return np.asarray(missing)
    if column.dtype.kind == "O":
        return np.array([value is None or value != value for value in column], dtype=bool)
    return np.asarray(np.isnan(column) if column.dtype.kind == "f" else np.zeros(len(column), bool))


def filled(column: Any, missing: np.ndarray, values: Any) -> Any:
    """A column with other values where it is missing; the observed ones are not touched."""
    if library_of(column) == "polars":
        import polars

        return values.cast(column.dtype).zip_with(polars.Series(missing), column)
    if getattr(column.dtype, "kind", "O") == "f" and isinstance(column.dtype, np.dtype):
        return np.where(missing, values.to_numpy(dtype=column.dtype), column.to_numpy())
    together = column.astype(object).where(~missing, values.astype(object))
    is_known = not hasattr(column, "cat") or together.isin(column.cat.categories).all()
    return together.astype(column.dtype if is_known else values.dtype).array


def _numbers(values: np.ndarray, dtype: str) -> np.ndarray:
    """Numbers in a dtype; results in float32 stay what they are where it is one of floats."""
    is_result = plain(dtype).kind == "f" and values.dtype != np.float64
    return values if is_result else cast(values, plain(dtype))


def picked(places: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values at their places; None, or NaN among numbers, for a negative place."""
    if values.dtype.kind in "biuf" and not (places < 0).any():
        return values[places]
    if values.dtype.kind in "biuf":
        return np.append(values.astype(np.float64), np.nan)[places]
    return np.array([*values.tolist(), None], dtype=object)[places]


def _is_nullable(dtype: str) -> bool:
    """Whether it is one of pandas' nullable dtypes: they begin with a capital, but for one."""
    return dtype[0].isupper() or dtype == "boolean"


def _nullable(dtype: str) -> str:
    return "boolean" if dtype.lower() == "boolean" else dtype
