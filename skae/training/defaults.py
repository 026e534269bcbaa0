"""What "auto" stands for, as plain rules of the data's size.

Chosen by ``examples/benchmarks/defaults.py``; the figures are in docs/defaults.md.
"""

import math

# Fewest optimizer steps of a default fit, where rows stay as they are and where they are
# changed at random, and fewest epochs.
_STEPS, _RANDOM_STEPS, _FEWEST_EPOCHS = 3000, 6000, 15

# Most epochs where training starts as PCA and always sees the same rows: more would lower the
# error further, and the accuracy of classifiers on the latents too.
EPOCHS_FROM_PCA = 20

# Rows from which a part is held out, as in HistGradientBoosting.
_EARLY_STOPPING_ROWS = 10_000


def n_components(n_features: int) -> int:
    """Half of the features, at most 32."""
    return min(32, math.ceil(n_features / 2))


def most_components(n_features: int) -> int:
    """Latents from which those are chosen that explain a given share: one a feature, at most 64."""
    return min(64, n_features)


def hidden_layer_sizes(n_features: int) -> tuple[int, int]:
    """Two layers, the second half as wide: 128 and 64 for tables, 512 and 256 for 784 pixels."""
    first = min(512, max(128, 2 ** round(math.log2(n_features))))
    return first, first // 2


def detector_layers(n_features: int) -> tuple[int, int]:
    """Narrow ones: what reconstructs everything well knows no outliers."""
    return 64, 32


def batch_size(n_rows: int) -> int:
    """About 64 batches an epoch, of 32 to 256 rows: a power of two."""
    return min(256, max(32, 2 ** math.floor(math.log2(max(n_rows / 64, 1)))))


def max_epochs(n_rows: int, batch_size: int, draws: bool, most: int = 300) -> int:
    """As many as 3,000 steps take, 6,000 where rows are changed at random; at least 15."""
    steps = _RANDOM_STEPS if draws else _STEPS
    return min(most, max(_FEWEST_EPOCHS, math.ceil(steps * batch_size / n_rows)))


def early_stopping(n_rows: int, lr_schedule: str) -> bool:
    """From 10,000 rows on, at a constant rate.

    A schedule ends at a small rate after a fixed number of steps; measured, holding
    rows out then costs more than it saves.
    """
    return n_rows > _EARLY_STOPPING_ROWS and lr_schedule == "constant"
