"""From arrays to what the caller gets: a DataFrame, images, an array."""

from typing import Any

import numpy as np

from skae._data.columns import Layout, Ranges
from skae._data.convert import as_frame, image_shape_of, library_of, like_caller
from skae._data.types import MatrixLike, Output
from skae._estimators.sklearn_private import output_library


def feature_names(estimator: Any) -> list[str]:
    """Names of the training columns, numbered where they have none."""
    numbered = [f"x{i}" for i in range(estimator.n_features_in_)]
    return list(getattr(estimator, "feature_names_in_", numbered))


def like_input(estimator: Any, values: np.ndarray, X: MatrixLike) -> Output:
    """Rows of the training columns in the container that ``set_output`` asks for, else in X's."""
    library = output_library(estimator)
    if library == "default" or values.ndim > 2 or image_shape_of(X) is not None:
        return like_caller(values, X, getattr(estimator, "feature_names_in_", None))
    index = X.index if library_of(X) == "pandas" else None
    return as_frame(values, library, feature_names(estimator), index)


def like_training_rows(estimator: Any, ranges: Ranges, dtypes: Any, values: np.ndarray) -> Output:
    """Rows with the dtypes and ranges of the training columns, as ``set_output`` asks for."""
    library, shape, columns = output_library(estimator), estimator._input.caller_shape, None
    if library != "default" and len(shape) == 1:
        columns = tuple(feature_names(estimator))
    return Layout(library, shape, tuple(dtypes), columns).restored(ranges.restored(values))
