"""Noise that corrupts the input of a denoising autoencoder, on the scaled data.

Each kind is a function of the clean rows and of one random offset a row, so
that a row's noise does not depend on its place in the batch.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from skae.randomness import NOISE_STREAM, TABLE_STREAM, RandomTable, generator

# corrupt(clean, offsets, out): all (K, n, n_features), offsets (K * n,)
Corrupt = Callable[[Tensor, Tensor, Tensor], object]


def _table(values: Tensor, like: Tensor) -> RandomTable:
    return RandomTable(values.to(like.dtype).to(like.device), like.shape[-1])


def _uniform() -> Tensor:
    rng = generator(0, TABLE_STREAM)
    return torch.rand(RandomTable.SIZE, generator=rng, dtype=torch.float32)


def _gaussian(level: float, low: Tensor, high: Tensor) -> Corrupt:
    """Add normal noise of standard deviation ``level``."""
    rng = generator(0, TABLE_STREAM)
    table = _table(level * torch.randn(RandomTable.SIZE, generator=rng, dtype=torch.float32), low)

    def corrupt(clean: Tensor, offsets: Tensor, out: Tensor) -> None:
        table.rows(offsets, out.view(-1, out.shape[-1]))
        out.add_(clean)

    return corrupt


def _masking(level: float, low: Tensor, high: Tensor) -> Corrupt:
    """Set a share ``level`` of the cells to the feature's centre (Vincent et al. 2010)."""
    table = _table(_uniform() >= level, low)

    def corrupt(clean: Tensor, offsets: Tensor, out: Tensor) -> None:
        table.rows(offsets, out.view(-1, out.shape[-1]))
        out.mul_(clean)

    return corrupt


def _salt_and_pepper(level: float, low: Tensor, high: Tensor) -> Corrupt:
    """Set a share ``level`` of the cells to the feature's smallest or largest value."""
    uniform = _uniform()
    table = _table(1.0 * (uniform < level / 2) - 1.0 * (uniform > 1 - level / 2), low)

    def corrupt(clean: Tensor, offsets: Tensor, out: Tensor) -> None:
        table.rows(offsets, out.view(-1, out.shape[-1]))
        torch.where(out > 0, high, torch.where(out < 0, low, clean), out=out)

    return corrupt


def _swap(level: float, low: Tensor, high: Tensor) -> Corrupt:
    """Take a share ``level`` of the cells from another row of the batch."""
    table = _table(_uniform() < level, low)

    def corrupt(clean: Tensor, offsets: Tensor, out: Tensor) -> None:
        table.rows(offsets, out.view(-1, out.shape[-1]))
        torch.where(out > 0, clean.roll(1, dims=1), clean, out=out)

    return corrupt


NOISES: dict[str, Callable[[float, Tensor, Tensor], Corrupt]] = {
    "gaussian": _gaussian,
    "masking": _masking,
    "salt_and_pepper": _salt_and_pepper,
    "swap": _swap,
}


def make_noise(
    kind: str | Callable[[Tensor, torch.Generator], Tensor],
    level: float,
    low: Tensor,
    high: Tensor,
    seed: int,
) -> Corrupt:
    """The noise of one training run.

    Parameters
    ----------
    kind : str or callable
        A key of ``NOISES``, or ``kind(clean, generator)``, which returns the noisy rows.
    level : float
        Standard deviation, or share of cells; not used by a callable.
    low, high : Tensor of shape (n_features,)
        Smallest and largest value of each feature.
    seed : int
        Seed of the generator that a callable is given.
    """
    if not callable(kind):
        return NOISES[kind](level, low, high)
    rng = generator(seed, NOISE_STREAM)

    def corrupt(clean: Tensor, offsets: Tensor, out: Tensor) -> None:
        noisy = kind(clean.clone(), rng)
        if not isinstance(noisy, Tensor) or noisy.shape != clean.shape:
            raise ValueError(
                f"noise={kind!r} must return a tensor of the shape that it is given, "
                f"{tuple(clean.shape)}, got {getattr(noisy, 'shape', noisy)!r}."
            )
        out.copy_(noisy)

    return corrupt
