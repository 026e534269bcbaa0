"""From rows of numbers to what the caller gets: a DataFrame, images, an array."""

from typing import Any

import numpy as np

from skae._data.columns import Layout, Ranges
from skae._data.convert import as_frame, image_shape_of, library_of, like_caller
from skae._data.frames import is_frame
from skae._data.types import MatrixLike, Output
from skae._estimators.sklearn_private import output_library


def feature_names(estimator: Any) -> list[str]:
    """Names of the training columns, numbered where they have none."""
    numbered = [f"x{i}" for i in range(estimator.n_features_in_)]
    return list(getattr(estimator, "feature_names_in_", numbered))


def like_input(estimator: Any, values: np.ndarray, X: MatrixLike) -> Output:
    """Rows of the training columns in the container that ``set_output`` asks for, else in X's.

    Data frames get the dtypes of the training data, and whole numbers where these were whole.
    """
    if values.ndim > 2 or image_shape_of(X) is not None:
        return like_caller(values, X)
    if estimator._input.is_tiled(values):  # Signals of other lengths have other columns.
        return values
    library, table = asked_for(estimator), estimator._table
    if library == "default":
        library = library_of(X) if is_frame(X) else library_by_itself(estimator)
    names = _names(estimator, X, library)
    if names is None and not table.categories:
        return values
    values = _whole(estimator, values)
    if names is None:
        return table.array(values)
    index = X.index if library_of(X) == "pandas" and is_frame(X) else None
    return table.frame(values, library, names, index)


def like_training_rows(estimator: Any, ranges: Ranges, values: np.ndarray) -> Output:
    """Rows with the dtypes and ranges of the training columns, as ``set_output`` asks for."""
    table, shape, values = estimator._table, estimator._input.caller_shape, ranges.restored(values)
    library = asked_for(estimator)
    if library == "default":
        library = library_by_itself(estimator)
    if library == "numpy" or len(shape) > 1:
        if table.categories:
            return table.array(values)
        return Layout("numpy", shape, tuple(table.dtypes)).restored(values)
    return table.frame(values, library, feature_names(estimator))


def asked_for(estimator: Any) -> str:
    """What ``set_output`` asks for, where there is one: "default", "pandas", "polars"."""
    return output_library(estimator) if hasattr(estimator, "set_output") else "default"


def library_by_itself(estimator: Any) -> str:
    """What rows are given in where nothing asks for a container: text is in frames, if it was."""
    table = estimator._table
    return table.library if table.categories else "numpy"


def contributions_like_input(estimator: Any, values: np.ndarray, X: MatrixLike) -> Output:
    """A number for each of the training columns, in X's container; (n, units) are added up."""
    values = estimator._table.by_column(values)
    names = _names(estimator, X, library_of(X)) if is_frame(X) else None
    if names is None:
        return like_caller(values, X)
    return as_frame(values, library_of(X), names, getattr(X, "index", None))


def _names(estimator: Any, X: MatrixLike, library: str) -> Any:
    """Names of the columns of a frame: X's own, in which axes may have names; None for arrays."""
    if library not in ("pandas", "polars"):
        return None
    known = getattr(estimator, "feature_names_in_", None)
    if not is_frame(X):
        return feature_names(estimator)
    fits = len(X.columns) == estimator.n_features_in_
    if fits and library_of(X) == library and (known is None or list(X.columns) == list(known)):
        return X.columns
    # The frame may hold latents.
    is_nameless = known is None and not fits and asked_for(estimator) == "default"
    return None if is_nameless else feature_names(estimator)


def _whole(estimator: Any, values: np.ndarray) -> np.ndarray:
    """Values rounded, within their range, where the training columns were of whole numbers."""
    ranges = getattr(estimator, "_ranges", None)
    return values if ranges is None else ranges.rounded(values)
