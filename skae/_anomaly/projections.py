"""Random projections of wide rows, in which distances stay about what they are."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from skae._anomaly.distances import even
from skae._networks.products import by_blocks
from skae._runtime.randomness import SCORE_STREAM, generator
from skae._runtime.tuning import VIEW_DIMENSIONS, WIDE_FEATURES


def joint_width(n_columns: int) -> int:
    """Columns that latents and residuals have once they are projected."""
    return min(n_columns, VIEW_DIMENSIONS)


class Buckets(NamedTuple):
    """A random projection whose cost is that of a sum: each column counts in one dimension.

    By signs and places at random (Charikar et al., "Finding frequent items in data streams", 2002).

    Attributes
    ----------
    order : Tensor of shape (width,)
    signs : Tensor of shape (width,), float64
    """

    order: Tensor
    signs: Tensor

    def of(self, rows: Tensor) -> Tensor:
        """Rows (K, n, width) in ``VIEW_DIMENSIONS`` columns."""
        return torch.stack([self._of_member(own) for own in rows])

    def _of_member(self, rows: Tensor) -> Tensor:
        mixed = rows.index_select(1, self.order).double().mul_(self.signs)
        mixed = functional.pad(mixed, (0, -mixed.shape[1] % VIEW_DIMENSIONS))
        return mixed.unflatten(1, (-1, VIEW_DIMENSIONS)).sum(1)


# What maps wide rows to few columns: directions (width, ``VIEW_DIMENSIONS``), or buckets.
Projection = Tensor | Buckets


def projection(width: int, seed: int) -> Projection | None:
    """A random projection of wide rows, else None.

    Directions have one more, of zeros, if the width is odd. Random projections keep distances
    (Johnson and Lindenstrauss 1984).
    """
    if width <= VIEW_DIMENSIONS:
        return None
    rng = generator(seed, SCORE_STREAM)
    if width >= WIDE_FEATURES:
        signs = 2.0 * torch.randint(2, (width,), generator=rng) - 1.0
        return Buckets(torch.randperm(width, generator=rng), signs.double())
    directions = torch.randn(width, VIEW_DIMENSIONS, dtype=torch.float64, generator=rng)
    return functional.pad(directions / VIEW_DIMENSIONS**0.5, (0, 0, 0, width % 2))


def projected(rows: Tensor, directions: Projection | None) -> Tensor:
    """Rows (K, n, d) in at most ``VIEW_DIMENSIONS`` columns, in float64."""
    if isinstance(directions, Buckets):
        return directions.of(rows)
    rows = even(rows.double())
    return rows if directions is None else by_blocks(rows, directions.expand(len(rows), -1, -1))
