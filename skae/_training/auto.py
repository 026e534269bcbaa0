"""The values of "auto", as plain rules of the data's size.

They were chosen by ``examples/benchmarks/defaults.py``; the figures are in docs/defaults.md.
"""

import math

from skae._runtime import tuning


def n_components(n_features: int) -> int:
    """Half of the features, at most 32."""
    return min(tuning.MOST_LATENTS, math.ceil(n_features / 2))


def image_detector_components(n_features: int) -> int:
    """As for tables, but up to 64 for images of many values: turned objects take many to rebuild.

    As many as the square root of the number of values, if that is more.
    """
    many = min(tuning.MOST_LATENTS_OF_IMAGE_DETECTOR, math.isqrt(n_features))
    return max(n_components(n_features), many)


def most_components(n_features: int) -> int:
    """Latents to choose from if a share to explain is given: one per feature, at most 64."""
    return min(tuning.MOST_LATENTS_OF_A_SHARE, n_features)


def hidden_layer_sizes(n_features: int) -> tuple[int, int]:
    """Two layers, the second half as wide: 128 and 64 for tables, 512 and 256 for 784 pixels."""
    near = 2 ** round(math.log2(n_features))
    first = min(tuning.MOST_UNITS, max(tuning.FEWEST_UNITS, near))
    return first, first // 2


def detector_layers(n_features: int) -> tuple[int, int]:
    """Narrow layers: a network that reconstructs everything well finds no outliers."""
    return tuning.DETECTOR_LAYERS


def image_detector_rate(n_features: int) -> float:
    """Learning rate of a detector, smaller in proportion for large images.

    A step of Adam changes a layer's output in proportion to the number of its inputs.
    """
    return tuning.LEARNING_RATE * min(1.0, tuning.FEATURES_AT_FULL_RATE / n_features)


def batch_size(n_rows: int) -> int:
    """A power of two from 32 to 256 rows, for about 64 batches per epoch."""
    near = 2 ** math.floor(math.log2(max(n_rows / tuning.BATCHES, 1)))
    return min(tuning.LARGEST_BATCH, max(tuning.SMALLEST_BATCH, near))


def max_epochs(n_rows: int, batch_size: int, draws: bool, most: int = tuning.MOST_EPOCHS) -> int:
    """Epochs for 3,000 steps, or 6,000 where rows are changed at random; at least 15."""
    steps = tuning.STEPS_OF_CHANGED_ROWS if draws else tuning.STEPS
    return min(most, max(tuning.FEWEST_EPOCHS, math.ceil(steps * batch_size / n_rows)))


def early_stopping(n_rows: int, lr_schedule: str) -> bool:
    """Whether to stop early: beyond 10,000 rows, at a constant rate.

    A schedule ends at a small rate after a fixed number of steps. In benchmarks,
    holding rows out then costs more than it saves.
    """
    return n_rows > tuning.EARLY_STOPPING_ROWS and lr_schedule == "constant"
