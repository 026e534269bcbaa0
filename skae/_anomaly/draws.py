"""Draws of reference rows."""

import torch
from torch import Tensor

from skae._runtime.randomness import SCORE_STREAM, generator


def random_order(rows: Tensor, seed: int) -> Tensor:
    """Indices of rows (n, d) along a random direction."""
    direction = torch.randn(
        rows.shape[1], dtype=rows.dtype, generator=generator(seed, SCORE_STREAM)
    )
    return (rows @ direction).argsort(stable=True)


def draw(order: Tensor, weights: Tensor, size: int) -> Tensor:
    """Indices (size,) of rows, in proportion to their weights: systematic sampling.

    In a random order: spread over the rows, and by content alone, so that a weight of
    two is a row given twice.
    """
    cumulated = weights[order].cumsum(0)
    marks = (torch.arange(size, dtype=cumulated.dtype) + 0.5) / size * cumulated[-1]
    return order[torch.searchsorted(cumulated, marks).clamp(max=len(order) - 1)]
