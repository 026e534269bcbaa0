"""From the caller's data to chunks of rows, and back to the caller's container."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import sparse

# Values converted at once, so that a chunk stays in a core's second-level cache.
_CHUNK_VALUES = 1 << 17


def chunk_length(n_values: int, most: int = 1 << 14) -> int:
    """How many rows of ``n_values`` numbers each one chunk holds."""
    return max(1, min(most, _CHUNK_VALUES // max(n_values, 1)))


class FlatImages:
    """Images as rows, for arrays that cannot be reshaped without a copy of all images.

    An example is a crop of a memory map. Images are flattened when they are sliced.
    """

    def __init__(self, images: np.ndarray):
        self._images = images
        self.shape = (len(images), math.prod(images.shape[1:]))
        self.dtype = images.dtype

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, part: Any) -> np.ndarray:
        images = self._images[part]
        n_axes = images.ndim - self._images.ndim + 1
        return images.reshape(*images.shape[:n_axes], self.shape[1])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)


def as_rows(images: np.ndarray) -> "np.ndarray | FlatImages":
    """Images (n, height, width[, channels]) as rows, without a copy."""
    if images[:1].flags.c_contiguous:
        return images.reshape(len(images), math.prod(images.shape[1:]))
    return FlatImages(images)


def image_shape_of(X: Any) -> tuple[int, ...] | None:
    """(height, width) or (height, width, channels) if ``X`` holds images, None if rows.

    Raises
    ------
    ValueError
        If the images differ in size, have no pixels, or have more than three axes.
    """
    if isinstance(X, (list, tuple)):
        shapes = {np.shape(image) for image in X if isinstance(image, np.ndarray)}
        if len(shapes) > 1 and max(map(len, shapes)) > 1:
            raise ValueError(
                f"X holds images of different sizes, such as {sorted(shapes)[:2]}. Crop, pad or "
                f"resize them to one size."
            )
    shape = X.shape if hasattr(X, "shape") else np.asarray(X).shape
    if len(shape) < 3:
        return None
    if len(shape) > 4 or 0 in shape[1:]:
        raise ValueError(
            f"X has shape {tuple(shape)} (dim {len(shape)}). Pass rows (n_samples, n_features), or "
            f"images (n_samples, height, width) or (n_samples, height, width, channels)."
        )
    return tuple(shape[1:])


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
    X: Any, weights: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Consecutive rows as dense arrays, with their weights."""
    for part, rows in dense_chunks(X):
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


def check_out(out: Any, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless results of a shape can be written into ``out``."""
    found = tuple(getattr(out, "shape", ())), getattr(out, "dtype", None)
    if found[0] != shape or np.dtype(found[1]).kind != "f":
        raise ValueError(
            f"out must be an array of floats of shape {shape}, or a memory map or dataset of a "
            f"file that is written by slices; got {type(out).__name__} of {found[1]} and shape "
            f"{found[0]}."
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
