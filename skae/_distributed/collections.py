"""Dask's arrays and frames: their partitions, and what a method makes of each of them."""

import copy
from collections.abc import Sequence
from numbers import Number
from typing import Any

import numpy as np
from sklearn import config_context

from skae._data.convert import is_dask
from skae._distributed.deposits import partition


def is_frame(X: Any) -> bool:
    """Whether a Dask collection is a frame or a series."""
    return _has(X, "map_partitions") and _has(X, "_meta_nonempty")


def _has(X: Any, name: str) -> bool:
    """Whether such things have an attribute; a delayed value has any."""
    return hasattr(type(X), name)


def check_collection(X: Any, name: str = "X") -> Any:
    """A Dask array, of whole rows, or a Dask frame.

    Raises
    ------
    TypeError
        If it is anything else.
    ValueError
        If it has no columns.
    """
    is_array = is_dask(X) and _has(X, "chunks")
    if not is_array and not (is_dask(X) and is_frame(X)):
        raise TypeError(
            f"{name} is of type {type(X).__module__}.{type(X).__qualname__}. Pass a Dask array or "
            f"a Dask DataFrame: {_remedy(X, name)}."
        )
    if X.ndim < 2:
        raise ValueError(
            f"{name} has {X.ndim} dimension, expected (n_samples, n_features). Pass {name}[:, None]"
            f", or a frame of one column, if it is one feature."
        )
    return X.rechunk(dict.fromkeys(range(1, X.ndim), -1)) if is_array and _cut(X) else X


def _remedy(X: Any, name: str) -> str:
    if is_dask(X):
        return f"dask.array.from_delayed({name}, shape, dtype) or {name}.to_dataframe(), say"
    return (
        f"dask.array.from_array({name}, chunks=...), say. For data in memory there is the "
        f"estimator of the same name in skae"
    )


def _cut(X: Any) -> bool:
    return any(n > 1 for n in X.numblocks[1:])


def partitions(X: Any, sample_weight: Any) -> list[Any]:
    """Delayed partitions of rows and weights, as a fit takes them."""
    from dask.delayed import delayed

    X = check_collection(X)
    blocks = _blocks(X)
    weights = _weights(X, sample_weight, len(blocks))
    part = delayed(partition, pure=False)
    return [part(rows, own) for rows, own in zip(blocks, weights, strict=True)]


def _blocks(X: Any) -> list[Any]:
    blocks = X.to_delayed()
    return blocks if isinstance(blocks, list) else list(blocks.flat)


def _weights(X: Any, sample_weight: Any, n_blocks: int) -> Sequence[Any]:
    if sample_weight is None or isinstance(sample_weight, Number):
        return [None] * n_blocks  # equal weights are none
    if not is_dask(sample_weight):
        sample_weight = _like_array(X, sample_weight)
    elif not is_frame(X) and not is_frame(sample_weight) and _known(X) and _known(sample_weight):
        _check_length(X, sample_weight)
        sample_weight = sample_weight.rechunk((X.chunks[0],))
    blocks = _blocks(sample_weight)
    if len(blocks) != n_blocks:
        raise ValueError(
            f"sample_weight has {len(blocks)} partitions, and X has {n_blocks}. Pass weights in "
            f"the partitions of X: a column of the same frame, say."
        )
    return blocks


def _known(X: Any) -> bool:
    return not np.isnan(X.shape[0])


def _check_length(X: Any, sample_weight: Any) -> None:
    if sample_weight.shape != X.shape[:1]:
        raise ValueError(
            f"sample_weight.shape == {sample_weight.shape}, expected {X.shape[:1]}: one weight for "
            f"each row of X."
        )


def _like_array(X: Any, sample_weight: Any) -> Any:
    import dask.array

    sample_weight = np.asarray(sample_weight)
    if is_frame(X) or not _known(X):
        raise TypeError(
            "sample_weight is in memory, and the partitions of X have unknown lengths. Pass a Dask "
            "array or series in the partitions of X."
        )
    _check_length(X, sample_weight)
    return dask.array.from_array(sample_weight, chunks=(X.chunks[0],))


def mapped(estimator: Any, method: str, X: Any, **arguments: Any) -> Any:
    """A lazy collection of what a method of a plain fitted estimator gives for each partition."""
    import dask.array
    from dask.delayed import delayed

    X = check_collection(X)
    if not is_frame(X):  # Blocks of an array are arrays, whatever set_output asks for.
        estimator = copy.copy(estimator)
        vars(estimator).pop("_sklearn_output_config", None)
    with config_context(transform_output="default"):  # as on the workers
        example = _call(_example(X), estimator, method, arguments)
    # One node of the graph, whatever the number of partitions.
    estimator = delayed(estimator, pure=False)
    if is_frame(X):
        return X.map_partitions(_call, estimator, method, arguments, meta=example[:0])
    return dask.array.map_blocks(
        _call,
        X,
        estimator=estimator,
        method=method,
        arguments=arguments,
        dtype=example.dtype,
        drop_axis=list(range(1, X.ndim)),
        new_axis=list(range(1, example.ndim)),
        chunks=(X.chunks[0], *((n,) for n in example.shape[1:])),
        meta=example[:0],
    )


def _example(X: Any) -> Any:
    """One row as those of a collection, by which results are known before they are computed."""
    if is_frame(X):
        return X._meta_nonempty[:1]
    return np.zeros((1, *X.shape[1:]), dtype=X.dtype)


def _call(X: Any, estimator: Any, method: str, arguments: dict[str, Any]) -> Any:
    if X.shape[0] == 0:
        one = _call(_row_like(X), estimator, method, arguments)
        return one[:0]
    return getattr(estimator, method)(X, **arguments)


def _row_like(X: Any) -> Any:
    """A row of zeros, where there is none."""
    if hasattr(X, "reindex"):
        return X.reindex([0]).fillna(0).astype(X.dtypes)
    return np.zeros((1, *X.shape[1:]), dtype=X.dtype)
