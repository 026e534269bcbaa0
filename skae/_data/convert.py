"""From the caller's data to chunks of rows, and back to the caller's container."""

import math
from collections.abc import Iterator, Mapping
from os import PathLike
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from skae._data.sources import SlicedRows, is_source

# Values converted at once, so that a chunk stays in a core's second-level cache.
_CHUNK_VALUES = 1 << 17


def chunk_length(n_values: int, most: int = 1 << 14) -> int:
    """How many rows of ``n_values`` numbers each one chunk holds."""
    return max(1, min(most, _CHUNK_VALUES // max(n_values, 1)))


class FlatImages(SlicedRows):
    """Images as rows, for arrays that cannot be reshaped without a copy of all images.

    An example is a crop of a memory map. Images are flattened when they are sliced.
    """

    def __init__(self, images: np.ndarray):
        self._images = images
        self.shape = (len(images), math.prod(images.shape[1:]))
        self.dtype = images.dtype

    def _slice(self, start: int, stop: int) -> np.ndarray:
        return self._images[start:stop].reshape(stop - start, self.shape[1])

    def _taken(self, index: np.ndarray) -> np.ndarray:
        return self._images[index].reshape(len(index), self.shape[1])


def as_rows(images: np.ndarray) -> "np.ndarray | FlatImages":
    """Images (n, height, width[, channels]) as rows, without a copy."""
    if images[:1].flags.c_contiguous:
        return images.reshape(len(images), math.prod(images.shape[1:]))
    return FlatImages(images)


def from_caller(X: Any, name: str = "X") -> Any:
    """What the caller passed, converted once: lists, tensors and the like become arrays.

    Arrays, data frames, sparse matrices and files stay what they are.

    Raises
    ------
    TypeError
        If it holds no rows, but what gives them in another way.
    ValueError
        If rows or images differ in size.
    """
    if isinstance(X, np.ndarray) or sparse.issparse(X):
        return X
    if isinstance(X, Tensor):
        return _array_of(X, name)
    if is_dask(X):
        raise TypeError(
            f"{name} is a Dask collection, which this would pull into the memory of one process. "
            f"Pass it to the estimator of the same name in skae.dask, if there is one (to score it "
            f"with a fitted one, skae.dask.wrap), or pass {name}.compute()."
        )
    if isinstance(X, (list, tuple)):
        return _array_of_list(X, name)
    is_array = hasattr(X, "__array__") or hasattr(X, "__array_interface__")
    if is_source(X) or (is_array and library_of(X) in ("pandas", "polars")):
        return X
    if hasattr(X, "__dataframe__") or (is_array and hasattr(type(X), "columns")):
        return X
    if (remedy := _remedy(X)) is None:
        array = np.asarray(X)
        if array.ndim or array.dtype.kind != "O":
            return array
        remedy = "Pass an array, a data frame or a sparse matrix"
    kind = type(X)
    raise TypeError(
        f"{name} is of type {kind.__module__}.{kind.__qualname__}, which holds no rows. {remedy}."
    )


def is_dask(X: Any) -> bool:
    """Whether something is a collection of Dask: an array, a frame, a series."""
    return not isinstance(X, type) and hasattr(X, "__dask_graph__")


def _remedy(X: Any) -> str | None:
    """What to pass instead of what only leads to rows; None if it may hold rows."""
    if isinstance(X, DataLoader):
        return "Pass the rows of its dataset, or call partial_fit on its batches one by one"
    if isinstance(X, Dataset):
        return "Pass its rows as an array or a tensor: dataset.tensors[0] of a TensorDataset, say"
    if hasattr(X, "collect"):
        return "Pass what its collect() returns"
    if isinstance(X, (str, bytes, PathLike)):
        return "Pass what the file holds: np.load(path, mmap_mode='r'), pandas.read_csv(path), say"
    if isinstance(X, Mapping):
        return "Pass a data frame, or an array of its columns"
    if hasattr(X, "__iter__") and not (hasattr(X, "__len__") or hasattr(X, "__array__")):
        return "Pass np.asarray(list(X)), or call partial_fit on its batches one by one"
    return None


def _array_of(tensor: Tensor, name: str) -> np.ndarray:
    """The values of a tensor, on any device; dtypes that NumPy lacks become float32."""
    if tensor.layout != torch.strided:
        raise TypeError(
            f"{name} is a tensor of layout {tensor.layout}. Pass its to_dense(), or a sparse "
            f"matrix of SciPy."
        )
    try:
        values = tensor.detach().cpu().resolve_conj().resolve_neg()
        known = (torch.float16, torch.float32, torch.float64)
        if values.is_floating_point() and values.dtype not in known:
            values = values.float()
        return values.numpy()
    except (TypeError, RuntimeError, NotImplementedError) as error:
        raise TypeError(
            f"{name} is a tensor of {tensor.dtype} on {tensor.device}, which cannot be read: "
            f"{error}. Pass a tensor of floats or integers that holds values."
        ) from error


def _array_of_list(X: "list[Any] | tuple[Any, ...]", name: str) -> np.ndarray:
    try:
        return np.asarray(_without_tensors(X, name))
    except ValueError:
        shapes = {tuple(image.shape) for image in X if hasattr(image, "shape")}
        if len(shapes) < 2 or max(map(len, shapes)) < 2:
            raise
        raise ValueError(
            f"{name} holds images of different sizes, such as {sorted(shapes)[:2]}. Crop, pad or "
            f"resize them to one size."
        ) from None


def _without_tensors(X: Any, name: str) -> Any:
    first = X
    while isinstance(first, (list, tuple)) and first:
        first = first[0]
    if not isinstance(first, Tensor):
        return X
    if isinstance(X, Tensor):
        return _array_of(X, name)
    return [_without_tensors(x, name) for x in X] if isinstance(X, (list, tuple)) else X


def image_shape_of(X: Any) -> tuple[int, ...] | None:
    """(height, width) or (height, width, channels) if ``X`` holds images, None if rows.

    Raises
    ------
    ValueError
        If the images have no pixels, or more than three axes.
    """
    shape = _shape_of(X)
    if len(shape) < 3:
        return None
    if len(shape) > 4 or 0 in shape[1:]:
        raise ValueError(
            f"X has shape {tuple(shape)} (dim {len(shape)}). Pass rows (n_samples, n_features), or "
            f"images (n_samples, height, width) or (n_samples, height, width, channels)."
        )
    return tuple(shape[1:])


def _shape_of(X: Any) -> tuple[int, ...]:
    """The shape of an array, or of lists by their first items."""
    if hasattr(X, "shape"):
        return tuple(X.shape)
    if isinstance(X, (list, tuple)):
        return (len(X), *(_shape_of(X[0]) if X else ()))
    return () if isinstance(X, (str, bytes)) else np.shape(from_caller(X))


def dense_chunks(X: Any, length: int | None = None) -> Iterator[tuple[slice, np.ndarray]]:
    """Consecutive rows of an array, source or CSR matrix as dense arrays.

    Raises
    ------
    ValueError
        If a value is infinite. NaN is let through: it means missing.
    """
    length = chunk_length(X.shape[1]) if length is None else length
    for start in range(0, X.shape[0], length):
        part = slice(start, min(start + length, X.shape[0]))
        yield part, dense_rows(X, part)


def weighted_chunks(
    X: Any, weights: np.ndarray | None, length: int | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Consecutive rows as dense arrays, with their weights."""
    for part, rows in dense_chunks(X, length):
        yield rows, None if weights is None else weights[part]


def dense_rows(X: Any, part: slice) -> np.ndarray:
    """Some rows as a dense array; raise ValueError if a value is infinite."""
    rows = X[part].toarray() if sparse.issparse(X) else np.asarray(X[part])
    check_not_infinite(rows)
    return rows


def check_not_infinite(rows: np.ndarray) -> None:
    """Raise ValueError if a value is infinite."""
    if rows.dtype.kind != "f":
        return
    with np.errstate(all="ignore"):
        # One pass in the common case; a sum of finite values may still overflow.
        if np.isfinite(rows.sum()) or not np.isinf(rows).any():
            return
    raise ValueError(
        "Input X contains infinity or a value too large for its dtype. Replace infinite values, "
        "by NaN where they mean that the value is missing (NaN cells are left out of the loss)."
    )


def missing_mask(rows: np.ndarray) -> np.ndarray | None:
    """A mask of the values that are NaN, or None if there are none."""
    if rows.dtype.kind != "f":
        return None
    with np.errstate(all="ignore"):
        if not np.isnan(rows.sum()):
            return None
    mask = np.isnan(rows)
    return mask if mask.any() else None


def check_out(out: Any, shape: tuple[int, ...], kinds: str = "f") -> None:
    """Raise ValueError unless results of a shape can be written into ``out``.

    ``kinds`` are those of the dtypes that it may have: "f" of floats, "u" of unsigned integers.
    """
    wanted = (
        f"out must be an array of floats of shape {shape}, or a memory map or dataset of a file "
        f"that is written by slices"
    )
    kind = f"{type(out).__module__}.{type(out).__qualname__}"
    if isinstance(out, Tensor):
        raise ValueError(f"{wanted}; got a tensor. Pass out.numpy(), which shares its memory.")
    is_array = hasattr(out, "shape") and hasattr(out, "dtype") and hasattr(out, "__setitem__")
    if not is_array or sparse.issparse(out):
        raise ValueError(f"{wanted}; got {kind}.")
    dtype = out.dtype
    fits = isinstance(dtype, np.dtype) and dtype.kind in kinds
    if tuple(out.shape) != shape or not fits:
        raise ValueError(f"{wanted}; got {kind} of {dtype} and shape {tuple(out.shape)}.")
    flags, file = getattr(out, "flags", None), getattr(out, "file", None)
    is_fixed = not getattr(flags, "writeable", True) or getattr(file, "mode", None) == "r"
    if is_fixed or getattr(out, "read_only", False) is True:
        raise ValueError(
            f"{wanted}; got {kind} that is read-only. Open the file for writing (mode='r+'), or "
            f"pass a copy."
        )


def like_caller(values: np.ndarray, X: Any, columns: Any = None) -> Any:
    """``values`` in the same kind of container as ``X``: pandas, polars, images or NumPy."""
    if (shape := image_shape_of(X)) is not None:
        return values.reshape(-1, *shape)
    names = getattr(X, "columns", columns) if hasattr(X, "columns") else None
    if names is None:
        return values
    if columns is not None and len(columns) == values.shape[1]:
        names = columns
    if len(names) != values.shape[1]:
        return values
    return as_frame(values, library_of(X), names, getattr(X, "index", None))


def library_of(X: Any) -> str:
    """Name of the package that defines the type of ``X``."""
    return type(X).__module__.split(".")[0]


def as_frame(values: np.ndarray, library: str, names: Any, index: Any = None) -> Any:
    """A DataFrame of pandas or polars; the array itself for any other library."""
    if library == "pandas":
        import pandas

        return pandas.DataFrame(values, index=index, columns=list(names))
    if library == "polars":
        import polars

        return polars.DataFrame(values, schema=[str(name) for name in names])
    return values
