"""What a row of the data is: a record of a table, a flattened image or a signal."""

import math
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np


@dataclass(frozen=True)
class InputSpec:
    """Shape of the input.

    Attributes
    ----------
    n_features : int
        Length of a row.
    image_shape : tuple of int or None
        (height, width) or (height, width, channels) of the image that a row
        holds, channels last; None for a table. A signal is an image of one column.
    as_rows : bool
        Whether the images were given as rows.
    is_patch : bool
        Whether a row is a patch of a larger image.
    is_signal : bool
        Whether a row is a signal.
    """

    n_features: int
    image_shape: tuple[int, ...] | None = None
    as_rows: bool = True
    is_patch: bool = False
    is_signal: bool = False

    def __post_init__(self) -> None:
        if self.image_shape is None:
            return
        if len(self.image_shape) not in (2, 3):
            raise ValueError(
                f"image_shape={self.image_shape} must be (height, width) or "
                f"(height, width, channels)."
            )
        if math.prod(self.image_shape) != self.n_features:
            axes = "(length[, channels])" if self.is_signal else "(height, width[, channels])"
            raise ValueError(
                f"image_shape={self.sample_shape} holds {math.prod(self.image_shape)} values, but "
                f"X has {self.n_features} features. Pass the {axes} of the {self.kind}s whose rows "
                f"X holds, or image_shape=None."
            )

    @property
    def kind(self) -> str:
        """What a sample is called."""
        return "signal" if self.is_signal else "image"

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of an image, or of a signal without its one column."""
        assert self.image_shape is not None
        return without_column(self.image_shape) if self.is_signal else self.image_shape

    def is_tiled(self, X: Any) -> bool:
        """Whether X holds images or signals of any size, to be restored in tiles."""
        return self.is_patch and (self.is_signal or len(X.shape) > 2)

    @property
    def network_shape(self) -> tuple[int, ...]:
        """Shape that torch modules expect, channels first."""
        if self.image_shape is None:
            return (self.n_features,)
        height, width, *channels = self.image_shape
        return (channels[0] if channels else 1, height, width)

    @property
    def caller_shape(self) -> tuple[int, ...]:
        """Shape of one sample in the training data."""
        if self.as_rows or self.image_shape is None:
            return (self.n_features,)
        return self.sample_shape


def as_column(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a signal, (length,) or (length, channels), as an image of one column."""
    return (shape[0], 1, *shape[1:])


def as_columns(signals: np.ndarray) -> np.ndarray:
    """Signals (n, length[, channels]) as images of one column."""
    return signals.reshape(len(signals), *as_column(signals.shape[1:]))


def without_column(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Undoes :func:`as_column`; also of the maps of such an image."""
    return (shape[0], *shape[2:])


def shorter_side(shape: tuple[int, ...]) -> int:
    """Of height and width of images; of signals, images of one column, the length."""
    return min((side for side in shape[:2] if side > 1), default=1)


def with_channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape if len(shape) == 3 else (*shape, 1)


def sizes_of(name: str, value: Any) -> tuple[int, ...]:
    """A tuple of positive integers from a parameter; a single integer becomes a tuple of one."""
    sizes = (value,) if isinstance(value, Integral) else tuple(value)
    for size in sizes:
        if not isinstance(size, Integral) or isinstance(size, (bool, np.bool_)) or size < 1:
            raise ValueError(f"{name}={value!r} must hold positive integers, got {size!r}.")
    return tuple(int(size) for size in sizes)
