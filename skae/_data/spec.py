"""What a row of the data is: a record of a table, or a flattened image."""

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
        holds, channels last; None for a table.
    as_rows : bool
        Whether the images were given as rows.
    is_patch : bool
        Whether a row is a patch of a larger image.
    """

    n_features: int
    image_shape: tuple[int, ...] | None = None
    as_rows: bool = True
    is_patch: bool = False

    def __post_init__(self) -> None:
        if self.image_shape is None:
            return
        if len(self.image_shape) not in (2, 3):
            raise ValueError(
                f"image_shape={self.image_shape} must be (height, width) or "
                f"(height, width, channels)."
            )
        if math.prod(self.image_shape) != self.n_features:
            raise ValueError(
                f"image_shape={self.image_shape} holds {math.prod(self.image_shape)} values, but X "
                f"has {self.n_features} features. Pass the (height, width[, channels]) of the "
                f"images whose rows X holds, or image_shape=None."
            )

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
        return self.image_shape


def with_channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape if len(shape) == 3 else (*shape, 1)


def sizes_of(name: str, value: Any) -> tuple[int, ...]:
    """A tuple of positive integers from a parameter; a single integer becomes a tuple of one."""
    sizes = (value,) if isinstance(value, Integral) else tuple(value)
    for size in sizes:
        if not isinstance(size, Integral) or isinstance(size, (bool, np.bool_)) or size < 1:
            raise ValueError(f"{name}={value!r} must hold positive integers, got {size!r}.")
    return tuple(int(size) for size in sizes)
