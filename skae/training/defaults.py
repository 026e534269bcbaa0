"""What "auto" stands for, as plain rules of the data's size.

Chosen by ``examples/benchmarks/defaults.py``; the figures are in docs/defaults.md.
"""

import math

# Fewest optimizer steps, and fewest epochs, of a default fit.
_STEPS, _FEWEST_EPOCHS = 3000, 15

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


def batch_size(n_rows: int) -> int:
    """About 64 batches an epoch, of 32 to 256 rows: a power of two."""
    return min(256, max(32, 2 ** math.floor(math.log2(max(n_rows / 64, 1)))))


def max_epochs(n_rows: int, batch_size: int, most: int = 300) -> int:
    """As many as 3,000 steps take, at least 15 and at most 300; 10 for a detector."""
    return min(most, max(_FEWEST_EPOCHS, math.ceil(_STEPS * batch_size / n_rows)))


def early_stopping(n_rows: int, lr_schedule: str) -> bool:
    """From 10,000 rows on, at a constant rate.

    A schedule ends at a small rate after a fixed number of steps; measured, holding
    rows out then costs more than it saves.
    """
    return n_rows > _EARLY_STOPPING_ROWS and lr_schedule == "constant"
