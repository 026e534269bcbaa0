"""Which columns are categories, and errors about those that have no kind."""

from typing import Any

import numpy as np
from scipy import sparse

from skae._data.frames import column_of, is_frame, kind_of, name_of

_REMEDIES = {
    "text": "Pass a data frame, in which columns of text are categories, or name the column in "
    "categorical_features",
    "category": "Name it in categorical_features, or pass categorical_features='from_dtype'",
    "dates or times": "Turn them into numbers, such as seconds since a day that matters, name the "
    "column in categorical_features, or leave it out",
    "text among other values": "Convert the column to one kind: .astype('string') for a category, "
    "pandas.to_numeric for numbers",
}
_OF_OTHERS = "Turn it into numbers or text, or leave it out"

# Where nothing but numbers will do.
AS_NUMBERS = "Convert it to numbers, by .astype(float) or pandas.to_numeric"


def categorical_columns(X: Any, given: Any) -> list[int]:
    """The numbers of the columns that are categories.

    Parameters
    ----------
    X : rows in any container
    given : "from_dtype", None, or a mask, indices or names of columns

    Raises
    ------
    ValueError
        If there are no such columns.
    """
    if given is None or (isinstance(given, str) and not is_frame(X)):
        return []
    n_columns = np.shape(X)[1] if len(np.shape(X)) == 2 else 0
    if isinstance(given, str):
        return [i for i in range(n_columns) if kind_of(column_of(X, i)) == "category"]
    chosen = np.asarray(given)
    if chosen.size == 0:
        return []
    if chosen.dtype.kind in "OU":
        return _named(X, [str(name) for name in chosen.ravel()])
    if chosen.dtype.kind == "b" and chosen.shape == (n_columns,):
        return np.flatnonzero(chosen).tolist()
    inside = chosen.dtype.kind in "iu" and ((chosen >= 0) & (chosen < n_columns)).all()
    if chosen.ndim != 1 or not inside:
        raise ValueError(
            f"categorical_features={given!r} must be a mask, indices or names of the {n_columns} "
            f"columns of X."
        )
    return sorted(set(chosen.tolist()))


def _named(X: Any, names: list[str]) -> list[int]:
    known = list(X.columns) if is_frame(X) else []
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"categorical_features names {unknown[0]!r}, which is no column of X. Its columns are "
            f"{known[:10]}; pass indices for an array."
        )
    return sorted({known.index(name) for name in names})


def check_kinds(X: Any, categories: list[int], name: str = "X", remedy: str | None = None) -> None:
    """Raise ValueError if a column that is no category holds no numbers.

    Text is none, also where all of it is digits. By default the remedy is one for a fit.
    """
    if sparse.issparse(X) or len(np.shape(X)) != 2 or _holds_numbers_alone(X):
        return
    for i in range(np.shape(X)[1]):
        if i not in categories and (kind := kind_of(column_of(X, i))) != "number":
            held = ("text" if kind == "category" else kind) + _example(column_of(X, i))
            remedy = remedy or _REMEDIES.get(kind, _OF_OTHERS)
            raise ValueError(f"Column {name_of(X, i)!r} of {name} holds {held}. {remedy}.")


def _holds_numbers_alone(X: Any) -> bool:
    """Whether the dtypes alone say so; where they do not, the cells are looked at."""
    dtypes = X.dtypes if is_frame(X) else [getattr(X, "dtype", None)]
    return all(getattr(dtype, "kind", "O") in "biufc" for dtype in dtypes)


def _example(column: Any) -> str:
    """A value that is no number, in words."""
    values = column.tolist() if hasattr(column, "tolist") else column.to_list()
    odd = (v for v in values if isinstance(v, (str, bytes)) or not isinstance(v, (int, float)))
    found = next((v for v in odd if v is not None and v == v), None)
    return "" if found is None else f", such as {str(found)[:40]!r}"
