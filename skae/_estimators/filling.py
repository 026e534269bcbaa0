"""Missing cells filled in by what a model makes of the observed ones, which are not touched."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

from skae._data.convert import as_rows, check_not_infinite, image_shape_of, library_of
from skae._data.frames import column_of, filled, is_frame, missing_in, with_columns
from skae._data.types import MatrixLike, Output
from skae._estimators.inputs import check_image_array
from skae._estimators.output import asked_for, like_input
from skae._images.tiles import restore_images

# Changes rebuilt rows before cells are taken from them.
Change = Callable[[np.ndarray], np.ndarray]


def impute(estimator: Any, X: MatrixLike, mask: Any = None, change: Change | None = None) -> Output:
    """X with its missing cells filled in, and with those under a boolean mask replaced."""
    values = values_of(estimator, X)
    if mask is not None:
        values = values.astype(np.result_type(values, np.float32))
        _mask(estimator, values, mask)
    as_frame = is_frame(X) and not estimator._input.is_tiled(X)
    if as_frame and asked_for(estimator) in ("default", library_of(X)):
        return _filled_frame(estimator, X, values, mask, change)
    return like_input(estimator, _filled(estimator, values, change), X)


def values_of(estimator: Any, X: MatrixLike) -> Any:
    """All values at once, dense, in the caller's shape; a ValueError if one is infinite."""
    rows = check_image_array(X) if estimator._input.is_tiled(X) else estimator._check_X(X)
    values = rows.toarray() if sparse.issparse(rows) else np.asarray(rows[:])
    check_not_infinite(values)
    shape = image_shape_of(X)
    return values if shape is None else values.reshape(-1, *shape)


def _mask(estimator: Any, values: np.ndarray, mask: np.ndarray) -> None:
    """Set the values under the mask to NaN."""
    by_unit = values.ndim == 2 and not estimator._input.is_tiled(values)
    shape = (len(values), estimator.n_features_in_) if by_unit else values.shape
    places = shape[: 2 if estimator._input.is_signal else 3]
    if mask.dtype != bool or mask.shape not in (shape, places):
        raise ValueError(
            f"mask must be boolean and of X's shape {shape}, got {mask.dtype} of shape "
            f"{mask.shape}."
        )
    values[estimator._table.by_unit(mask) if by_unit else mask] = np.nan


def _filled(estimator: Any, values: np.ndarray, change: Change | None) -> np.ndarray:
    if values.dtype.kind != "f" or not (missing := np.isnan(values)).any():
        return values.copy()
    return np.where(missing, _rebuilt(estimator, values, change), values).astype(values.dtype)


def _rebuilt(estimator: Any, values: np.ndarray, change: Change | None) -> Any:
    if estimator._input.is_tiled(values):
        return restore_images(estimator._model, values, estimator._input)
    rebuilt = estimator._model.reconstruct(as_rows(values)).reshape(values.shape)
    return rebuilt if change is None else change(rebuilt)


def _filled_frame(
    estimator: Any, X: Any, values: np.ndarray, mask: Any, change: Change | None
) -> Output:
    """A frame in its own dtypes; values that training did not know are observed, too."""
    rebuilt = like_input(estimator, _rebuilt(estimator, values, change), X)
    columns = []
    for i in range(X.shape[1]):
        column = column_of(X, i)
        missing = missing_in(column) if mask is None else missing_in(column) | mask[:, i]
        columns.append(filled(column, missing, column_of(rebuilt, i)) if missing.any() else column)
    return with_columns(X, columns)
