"""Values as integers on a grid, coded as residuals of a prediction.

The decoded value is that of the grid, whatever the prediction was. But encoder and decoder
must predict the same integer on any two machines, although floats differ there in the last
bits. So the encoder chooses an offset for the rounding at which no prediction lies near a
border. Predictions are made in float64, and need to agree only up to ``_TOLERANCE``.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from skae._coding.entropy import Table, decode_columns, encode_columns, fit_table
from skae._data.columns import Layout, plain
from skae._data.convert import dense_chunks

# Offsets to choose from, in sixteenths, in the order in which they are tried.
_PARTS = 16
_OFFSETS = sorted(range(_PARTS), key=lambda k: abs(k - _PARTS // 2))

# By how much predictions on two machines may differ, in grid steps, and in parts of their size.
_TOLERANCE, _RELATIVE = 1e-7, 1e-12

# Integers up to here are exact in float64.
_MOST = 2**52

# A larger error is as good as none.
_MOST_ERROR = 1e300


@dataclass(frozen=True)
class Grid:
    """A step for each feature, and the tables of the residuals.

    Attributes
    ----------
    steps : ndarray of shape (n_features,), float64
    tables : list of Table
    """

    steps: np.ndarray
    tables: list[Table]

    def encode(self, rows: np.ndarray, predictions: np.ndarray) -> bytes:
        """Rows (n, n_features) as bytes."""
        return self.encode_points(integers_of(rows, self.steps), predictions)

    def encode_points(self, integers: np.ndarray, predictions: np.ndarray) -> bytes:
        """Points of the grid as bytes."""
        predictions = _scaled(predictions, self.steps)
        offset = _safe_offset(predictions)
        residuals = integers - _rounded(predictions, offset)
        return bytes([offset]) + encode_columns(residuals, self.tables)

    def decode(self, data: bytes, predictions: np.ndarray) -> np.ndarray:
        """The grid's values, (n, n_features), float64."""
        if not len(data) > 0 or data[0] >= _PARTS:
            raise ValueError("its residuals have no offset.")
        residuals = decode_columns(data[1:], len(predictions), self.tables)
        rounded = _rounded(_scaled(predictions, self.steps), data[0])
        return self.values(residuals + rounded)

    def values(self, integers: np.ndarray) -> np.ndarray:
        return integers * self.steps


def fit_grid(rows: np.ndarray, predictions: np.ndarray, steps: np.ndarray) -> Grid:
    """The grid of these steps, with tables of the residuals of training rows."""
    rounded = _rounded(_scaled(predictions, steps), _OFFSETS[0])
    residuals = integers_of(rows, steps) - rounded
    return Grid(steps, [fit_table(column) for column in residuals.T])


def grid_steps(
    max_error: Any, is_integer: np.ndarray, n_features: int, spacing: Any = 0.0
) -> np.ndarray:
    """The widest steps that keep the error: odd for integers, for floats about twice the error.

    Parameters
    ----------
    max_error : float or array-like of shape (n_features,)
    is_integer : ndarray of bool
        Which columns hold integers, or one entry for all.
    n_features : int
    spacing : float or array-like of shape (n_features,)
        How far rounding moves a float of the grid, at most.

    Raises
    ------
    ValueError
        If an error is negative, or zero where values are not integers, or there is not one for
        each feature.
    """
    error = np.asarray(max_error, dtype=np.float64)
    if error.shape not in ((), (1,), (n_features,)):
        raise ValueError(
            f"max_error={max_error!r} must be one number, or one for each of the {n_features} "
            f"features; got shape {error.shape}."
        )
    error = np.broadcast_to(error, (n_features,))
    if not (np.isfinite(error) & (error >= 0)).all():
        raise ValueError(f"max_error={max_error!r} must be finite, and at least 0.")
    if ((error == 0) & ~is_integer).any():
        raise ValueError(
            f"max_error={max_error!r} is 0, but the training data hold floats. Fit on integers to "
            f"keep them exactly, or pass a positive max_error."
        )
    error = np.minimum(error, _MOST_ERROR)
    # A third is always enough: where floats lie farther apart than 4/3 of the error, the one next
    # to the point of the grid is the value itself; where they do not, half of their distance and
    # a third of the error are less than the error.
    half = np.maximum(error - spacing, error / 3.0)
    steps = np.where(is_integer, 2.0 * np.floor(error) + 1.0, 2.0 * half)
    if not (steps >= np.finfo(np.float64).tiny).all():
        raise ValueError(f"max_error={max_error!r} is too small for float64. Pass a larger one.")
    return steps


def rounding_of(rows: Any, layout: Layout) -> np.ndarray:
    """How far a float of the grid is moved by rounding, at the largest value of each column."""
    largest = np.zeros(rows.shape[1])
    for _, part in dense_chunks(rows):
        largest = np.fmax(largest, np.fmax.reduce(np.abs(part.astype(np.float64)), axis=0))
    names = np.broadcast_to(np.array(layout.dtypes, dtype=object), largest.shape)
    in_dtype = [
        float(np.spacing(most.astype(plain(name)))) if plain(name).kind == "f" else 0.0
        for most, name in zip(largest, names, strict=True)
    ]
    # Twice in float64: by the quotient and by the product.
    return np.array(in_dtype) + 2.0 * np.spacing(largest)


def integers_of(rows: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The nearest points of the grid.

    Raises
    ------
    ValueError
        If a value is missing, or too large for such small steps.
    """
    with np.errstate(over="ignore"):
        scaled = rows.astype(np.float64) / steps
    if not (np.abs(scaled) < _MOST).all():
        raise ValueError(
            "X holds a value that is missing, or too large for max_error. Fill missing cells in, "
            "or pass a larger max_error, or None."
        )
    return np.rint(scaled).astype(np.int64)


def _scaled(predictions: np.ndarray, steps: np.ndarray) -> np.ndarray:
    # A prediction that overflows is useless, but must still become an integer.
    return np.nan_to_num(np.clip(predictions / steps, -_MOST, _MOST), nan=0.0)


def _rounded(predictions: np.ndarray, offset: int) -> np.ndarray:
    return np.floor(predictions + offset / _PARTS).astype(np.int64)


def _safe_offset(predictions: np.ndarray) -> int:
    """The first offset at which no prediction is near a border; if none, the best one."""
    fraction = predictions - np.floor(predictions)
    room = _TOLERANCE + _RELATIVE * np.abs(predictions)

    def clearance(offset: int) -> float:
        border = (fraction + offset / _PARTS) % 1.0
        return float((np.minimum(border, 1.0 - border) / room).min(initial=np.inf))

    best, most = _OFFSETS[0], -1.0
    for offset in _OFFSETS:
        if (found := clearance(offset)) > most:
            best, most = offset, found
        if most > 1.0:
            break
    return best
