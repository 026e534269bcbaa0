"""From what the caller passes to checked rows, weights and latents."""

import dataclasses
import math
import warnings
from numbers import Number
from typing import Any

import numpy as np
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from skae._data.convert import as_rows, dense_chunks, from_caller, image_shape_of
from skae._data.frames import columns_of
from skae._data.kinds import AS_NUMBERS, categorical_columns, check_kinds
from skae._data.sources import source_of
from skae._data.spec import InputSpec, as_column
from skae._data.table import Table
from skae._data.types import FloatArray, MatrixLike
from skae._estimators.sklearn_private import check_sample_weight

# How arrays of numbers are checked.
_NUMBERS: dict[str, Any] = {"dtype": "numeric", "ensure_all_finite": False}


def check_rows(estimator: Any, X: MatrixLike, reset: bool = False) -> Any:
    """Rows as an array of numbers, a source or a CSR matrix, in the caller's dtype.

    With ``reset`` their shape and names are those of the fit, else they are compared with these.
    """
    X = from_caller(X)
    if (source := source_of(X)) is None:
        rows = _check_array(estimator, X, reset)
    else:
        _check_of_numbers(estimator)
        _check_array(estimator, np.asarray(X[:1]), reset)  # scikit-learn would read all of it.
        rows = source
    if reset:
        estimator._table = estimator._table.of_rows(rows)
    return rows


def _check_of_numbers(estimator: Any) -> None:
    """Refuse categories in what is read by slices: they are not known before all is read."""
    given = estimator.categorical_features
    if given is not None and not isinstance(given, str):
        raise ValueError(
            f"categorical_features={given!r} needs rows in memory, but X is a file. Pass "
            f"np.asarray(X), or one column for each value."
        )


def _check_array(estimator: Any, X: MatrixLike, reset: bool) -> Any:
    if not reset:
        _check_not_single(estimator._input, X)
    shape = image_shape_of(X)
    if reset:
        estimator._table = _table_of(X, estimator.categorical_features)
    if shape is not None:
        return _check_images(estimator, X, shape, reset)
    if not reset:
        if _is_as_fitted(estimator, X):
            return X
        fitted = [category.column for category in estimator._table.categories]
        check_kinds(X, fitted, remedy=f"{AS_NUMBERS}, as in the fit")
    if estimator._table.categories:
        rows = _check_mixed(estimator, X, reset)
    else:
        options: dict[str, Any] = {"accept_sparse": "csr", **_NUMBERS}
        rows = validate_data(estimator, X, reset=reset, **options)
    if reset:
        estimator._input = _input_of_rows(estimator, rows.shape[1])
    # scikit-learn converts objects, but not those of a polars frame with text in it.
    return rows.astype(np.float64) if rows.dtype.kind == "O" else rows


def _input_of_rows(estimator: Any, n_features: int) -> InputSpec:
    is_signal, shape = estimator._takes_signals(), estimator._given_shape()
    if is_signal and estimator._table.categories:
        raise ValueError(
            f"network={estimator.network!r} takes signals, but X has categories. Pass numbers, or "
            f"network='auto'."
        )
    if is_signal and shape is None:
        shape = as_column((n_features,))
    return InputSpec(n_features, shape, is_signal=is_signal)


def _table_of(X: MatrixLike, categorical_features: Any) -> Table:
    """What the columns are, by their dtypes and by what the caller says."""
    columns = categorical_columns(X, categorical_features)
    check_kinds(X, columns)
    return Table.of(X, columns)


def _check_mixed(estimator: Any, X: MatrixLike, reset: bool) -> Any:
    """Rows of a table with categories."""
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    table = estimator._table
    numbers = check_array(columns_of(X, table.numbers), ensure_min_features=0, **_NUMBERS)
    return table.encoded(X, numbers.astype(np.float64))


def _is_as_fitted(estimator: Any, X: MatrixLike) -> bool:
    """Whether ``X`` is an array in which scikit-learn would find nothing to convert or refuse.

    It would take as long over one row as the network does.
    """
    return (
        type(X) is np.ndarray
        and X.dtype.kind in "biuf"
        and X.ndim == 2
        and X.shape[0] > 0
        and X.shape[1] == estimator.n_features_in_
        and not hasattr(estimator, "feature_names_in_")
        and not estimator._table.categories
    )


def _check_not_single(given: InputSpec, X: MatrixLike) -> None:
    """Refuse one image without its axis of samples, unless it could be a row."""
    shape = np.shape(X) if isinstance(X, (list, tuple)) else getattr(X, "shape", None)
    if not given.as_rows and shape == given.caller_shape and shape[1:] != (given.n_features,):
        raise ValueError(f"X is one {given.kind}, of shape {shape}. Pass X[None], a batch of one.")


def _check_images(estimator: Any, X: MatrixLike, shape: tuple[int, ...], reset: bool) -> Any:
    """Images (n, height, width[, channels]) or signals (n, length, channels) as rows."""
    found = expected = _input_of_images(estimator, shape, reset)
    if not reset:
        expected = estimator._input
    elif (given := estimator._given_shape()) is not None:
        expected = dataclasses.replace(found, n_features=math.prod(given), image_shape=given)
    if found.network_shape != expected.network_shape:
        wanted = f"rows of {expected.n_features} features"
        if expected.image_shape is not None:
            wanted = str(expected.sample_shape)
        raise ValueError(
            f"X holds {found.kind}s of shape {found.sample_shape}, but {type(estimator).__name__} "
            f"expects {wanted}. Pass such data, or fit on {found.kind}s of this shape, with "
            f"image_shape=None."
        )
    if reset:
        _warn_of_channels_first(expected)
        estimator._input = expected
        estimator.n_features_in_ = expected.n_features
        if hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_
    return as_rows(check_image_array(X))


def _input_of_images(estimator: Any, shape: tuple[int, ...], reset: bool) -> InputSpec:
    is_signal = estimator._takes_signals() if reset else estimator._input.is_signal
    if is_signal and len(shape) > 2:
        raise ValueError(
            f"X has {len(shape) + 1} axes, but network={estimator.network!r} takes signals. Pass "
            f"rows (n_samples, length), or an array (n_samples, length, channels)."
        )
    image_shape = as_column(shape) if is_signal else shape
    return InputSpec(math.prod(shape), image_shape, as_rows=False, is_signal=is_signal)


def _warn_of_channels_first(given: InputSpec) -> None:
    """Warn where the first axis of samples looks like their channels, and the last one does not."""
    first, *_, last = shape = given.sample_shape
    if given.is_signal:
        looks_so = last >= 8 * first
    else:
        looks_so = len(shape) == 3 and first in (1, 3, 4) and min(shape[1:]) > 4
    if looks_so:
        axes, order = "(length, channels)", "(0, 2, 1)"
        if not given.is_signal:
            axes, order = "(height, width, channels)", "(0, 2, 3, 1)"
        warnings.warn(
            f"X holds {given.kind}s of shape {shape}, which is read as {axes}. If the channels "
            f"come first, pass X.transpose{order}.",
            UserWarning,
            stacklevel=2,
        )


def check_image_array(X: MatrixLike) -> Any:
    """Images as an array of numbers, or the file that holds them."""
    X = from_caller(X)
    some = X if source_of(X) is None else np.asarray(X[:1])
    # Frames say of what kind their columns are below.
    if getattr(some, "dtype", np.dtype(float)).kind not in "biufc":
        check_kinds(some.reshape(len(some), -1), [], remedy=AS_NUMBERS)
    checked = check_array(some, dtype="numeric", allow_nd=True, ensure_all_finite=False)
    return checked if some is X else X


def check_pixels(images: Any) -> None:
    """Raise ValueError if a pixel is infinite: not all of them may be in a patch."""
    source = source_of(images)
    for _ in dense_chunks(as_rows(images) if source is None else source):
        pass


def check_noises(noises: set[str], network: Any, given: InputSpec) -> None:
    """Raise ValueError if there are noises that move or mask pixels, and they have no image."""
    if noises and network == "scattering":
        raise ValueError(
            f"noise={min(noises)!r} changes images, but network='scattering' learns from "
            f"coordinates that are computed once. Pass noise='gaussian', which is added to these, "
            f"or network='conv'."
        )
    if noises and given.image_shape is None:
        raise ValueError(
            f"noise={min(noises)!r} needs images, but X holds rows. Pass an array of shape "
            f"(n_samples, height, width[, channels]), or the image_shape of the rows."
        )


def check_latents(estimator: Any, Z: MatrixLike) -> FloatArray:
    """Latents as an array; a ValueError if they are not as many as those of the fit."""
    check_is_fitted(estimator)
    Z = from_caller(Z, "Z")
    check_kinds(Z, [], "Z", AS_NUMBERS)
    Z = check_array(Z, dtype=[np.float32, np.float64])
    if Z.shape[1] != estimator.n_components_:
        raise ValueError(
            f"Z has {Z.shape[1]} columns, but {type(estimator).__name__} was fitted with "
            f"n_components_={estimator.n_components_}. Pass what transform returned."
        )
    return Z


def weighted_rows(X: Any, sample_weight: Any) -> tuple[Any, FloatArray | None]:
    """The rows that have a positive weight, with their weights."""
    if sample_weight is None:
        return X, None
    if not isinstance(sample_weight, Number):
        sample_weight = from_caller(sample_weight, "sample_weight")
    weights = check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    positive = weights > 0
    if not positive.any():
        raise ValueError("Sample weights must contain at least one non-zero number; all are zero.")
    return (X, weights) if positive.all() else (X[positive], weights[positive])
