"""What a row of the data is: a record of a table, or a flattened image."""

from dataclasses import dataclass


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
    """

    n_features: int
    image_shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.image_shape is None:
            return
        if len(self.image_shape) not in (2, 3):
            raise ValueError(
                f"image_shape={self.image_shape} must be (height, width) or "
                f"(height, width, channels)."
            )
        size = 1
        for length in self.image_shape:
            size *= length
        if size != self.n_features:
            raise ValueError(
                f"image_shape={self.image_shape} holds {size} values, but X has "
                f"{self.n_features} features. Pass the (height, width[, channels]) of the "
                f"images whose rows X holds, or image_shape=None."
            )

    @property
    def network_shape(self) -> tuple[int, ...]:
        """Shape that torch modules expect, channels first."""
        if self.image_shape is None:
            return (self.n_features,)
        height, width, *channels = self.image_shape
        return (channels[0] if channels else 1, height, width)
