"""Noise that corrupts the input of a denoising autoencoder, on the scaled data.

Each kind is a function of the clean rows and of one random offset per row, so
that a row's noise does not depend on its place in the batch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from skae._data.categories import columns_of_units
from skae._data.spec import shorter_side
from skae._runtime.randomness import (
    NOISE_SALT,
    TABLE_STREAM,
    RandomTable,
    generator,
    table_offsets,
)

# corrupt(clean, offsets, out): all (K, n, n_features), offsets (K * n,)
Corrupt = Callable[[Tensor, Tensor, Tensor], object]


# The name of a kind, or the user's own function.
Noise = str | Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class RowSpace:
    """What a noise knows about the scaled rows.

    Attributes
    ----------
    low, high : Tensor of shape (n_features,)
        Smallest and largest value of each feature.
    origin : Tensor of shape (n_features,)
        Zero, scaled.
    missing : float
        Value of missing cells: zero, or NaN for a network that takes it.
    image_shape : tuple of int or None
        (height, width) or (height, width, channels), if rows are images.
    sizes : tuple of int
        Features of each category, which come last: they are corrupted together.
    """

    low: Tensor
    high: Tensor
    origin: Tensor
    missing: float = 0.0
    image_shape: tuple[int, ...] | None = None
    sizes: tuple[int, ...] = ()

    @property
    def columns(self) -> Tensor:
        """The column of each feature; all of a category's are of one."""
        return columns_of_units(self.sizes, len(self.origin)).to(self.origin.device)

    @property
    def pixels(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        assert self.image_shape is not None
        height, width, n_channels = (*self.image_shape, 1)[:3]
        return height, width, n_channels


def _table(values: Tensor, like: Tensor, width: int | None = None) -> RandomTable:
    """A table with the dtype, the device and by default the width of the row ``like``."""
    width = like.shape[-1] if width is None else width
    return RandomTable(values.to(like.dtype).to(like.device), width)


def _by_column(values: Tensor, space: RowSpace) -> Callable[[Tensor, Tensor], object]:
    """What writes random numbers for the rows of these offsets, one a column."""
    width = space.origin.shape[-1]
    if not space.sizes:
        table = _table(values, space.origin)
        return lambda offsets, out: table.rows(offsets, out.view(-1, width))
    columns = space.columns
    n_columns = int(columns[-1]) + 1
    few = _table(values, space.origin, n_columns)

    def fill(offsets: Tensor, out: Tensor) -> None:
        drawn = few.rows(offsets, out.new_empty(len(offsets), n_columns))
        torch.index_select(drawn, 1, columns, out=out.view(-1, width))

    return fill


def _uniform() -> Tensor:
    rng = generator(0, TABLE_STREAM)
    return torch.rand(RandomTable.SIZE, generator=rng, dtype=torch.float32)


def _gaussian(level: float, space: RowSpace) -> Corrupt:
    """Add normal noise of standard deviation ``level``."""
    rng = generator(0, TABLE_STREAM)
    normal = torch.randn(RandomTable.SIZE, generator=rng, dtype=torch.float32)
    table = _table(level * normal, space.low)

    def corrupt(clean: Tensor, offsets: Tensor, out: Tensor) -> None:
        table.rows(offsets, out.view(-1, out.shape[-1]))
        out.add_(clean)

    return corrupt


def _masking(level: float, space: RowSpace) -> Corrupt:
    """Make a share ``level`` of the cells missing (Vincent et al. 2010)."""
    fill = _by_column(torch.where(_uniform() >= level, 1.0, space.missing), space)

    def corrupt(clean: Tensor, offsets: Tensor, out: Tensor) -> None:
        fill(offsets, out)
        out.mul_(clean)

    return corrupt


def _salt_and_pepper(level: float, space: RowSpace) -> Corrupt:
    """Set a share ``level`` of the cells to the feature's smallest or largest value.

    A category has no such values: it is taken from another row of the batch.
    """
    uniform, low, high = _uniform(), space.low, space.high
    fill = _by_column(1.0 * (uniform < level / 2) - 1.0 * (uniform > 1 - level / 2), space)
    n = -sum(space.sizes)

    def corrupt(clean: Tensor, offsets: Tensor, out: Tensor) -> None:
        fill(offsets, out)
        categories = torch.where(out != 0, clean.roll(1, dims=1), clean)[..., n:] if n else None
        torch.where(out > 0, high, torch.where(out < 0, low, clean), out=out)
        if categories is not None:
            out[..., n:] = categories

    return corrupt


def _swap(level: float, space: RowSpace) -> Corrupt:
    """Take a share ``level`` of the cells from another row of the batch."""
    fill = _by_column(_uniform() < level, space)

    def corrupt(clean: Tensor, offsets: Tensor, out: Tensor) -> None:
        fill(offsets, out)
        torch.where(out > 0, clean.roll(1, dims=1), clean, out=out)

    return corrupt


NOISES: dict[str, Callable[[float, RowSpace], Corrupt]] = {
    "gaussian": _gaussian,
    "masking": _masking,
    "salt_and_pepper": _salt_and_pepper,
    "swap": _swap,
}


def _affine(level: float, space: RowSpace) -> Corrupt:
    """Rotate, scale and shift each image; its outermost pixels repeat beyond its edges.

    Rotations are up to ``level`` quarter turns, scales up to a factor of ``1 + level``,
    and shifts up to half of ``level`` of height and width.
    """
    origin, shape = space.origin, space.pixels
    table = _table(2 * _uniform() - 1, origin, 4)
    height, width, _ = shape
    # What is one pixel wide, such as a signal, is not turned.
    turn = 0.5 * math.pi * level if min(height, width) > 1 else 0.0
    ranges = origin.new_tensor([turn, math.log1p(level), level, level])
    # From pixel coordinates to those of affine_grid, in which both sides have length two.
    stretch = origin.new_tensor([[1.0, height / width], [width / height, 1.0]])

    def corrupt(clean: Tensor, offsets: Tensor, out: Tensor) -> None:
        drawn = table.rows(offsets, origin.new_empty(len(offsets), 4)) * ranges
        angle, factor = drawn[:, 0], drawn[:, 1].exp()
        cosine, sine = angle.cos() * factor, angle.sin() * factor
        turned = torch.stack([cosine, -sine, sine, cosine], 1).view(-1, 2, 2) * stretch
        matrices = torch.cat([turned, drawn[:, 2:, None]], 2)
        pixels = (clean - origin).view(-1, *shape).permute(0, 3, 1, 2)
        grid = functional.affine_grid(matrices, list(pixels.shape), align_corners=False)
        moved = functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
        out.view(-1, *shape).copy_(moved.permute(0, 2, 3, 1))
        out.add_(origin)

    return corrupt


def _block_masking(level: float, space: RowSpace, side: int | None = None) -> Corrupt:
    """Make a share ``level`` of the image missing, in square blocks.

    By default, a block's side is a quarter of the image's shorter side. The grid of
    blocks starts at a random place.
    """
    like, shape = space.origin, space.pixels
    height, width, _ = shape
    side = max(1, shorter_side(shape) // 4) if side is None else side
    n_down, n_across = -(-height // side) + 1, -(-width // side) + 1
    table = _table(_uniform(), like, n_down * n_across + 2)
    y = torch.arange(height, device=like.device)
    x = torch.arange(width, device=like.device)

    def corrupt(clean: Tensor, offsets: Tensor, out: Tensor) -> None:
        drawn = table.rows(offsets, like.new_empty(len(offsets), n_down * n_across + 2))
        start = (drawn[:, :2] * side).long()
        rows, columns = (y + start[:, :1]) // side, (x + start[:, 1:]) // side
        blocks = (rows[:, :, None] * n_across + columns[:, None, :]).flatten(1)
        factors = torch.where(drawn[:, 2:] >= level, 1.0, space.missing).to(clean.dtype)
        factors = factors.gather(1, blocks).view(-1, height, width, 1)
        torch.mul(clean.view(-1, *shape), factors, out=out.view(-1, *shape))

    return corrupt


# Kinds of noise that need to know where a pixel lies.
IMAGE_NOISES: dict[str, Callable[[float, RowSpace], Corrupt]] = {
    "affine": _affine,
    "block_masking": _block_masking,
}


def make_noise(
    kind: Noise | tuple[Noise, ...],
    level: float | tuple[float, ...],
    space: RowSpace,
    rng: torch.Generator,
) -> Corrupt:
    """The noise of one training run.

    Parameters
    ----------
    kind : str, callable or tuple of them
        A key of ``NOISES`` or ``IMAGE_NOISES``, or ``kind(clean, generator)``, which
        returns the noisy rows. The noises of a tuple act one after another.
    level : float or tuple of float
        Standard deviation, share of cells or strength; not used by a callable. One
        level for all kinds, or one for each.
    space : RowSpace
    rng : torch.Generator
        Passed to callables.
    """
    if isinstance(kind, tuple):
        levels = level if isinstance(level, tuple) else (level,) * len(kind)
        pairs = zip(kind, levels, strict=True)
        return _chain([_single(*pair, space, rng) for pair in pairs])
    assert not isinstance(level, tuple)
    return _single(kind, level, space, rng)


def calls_user(kind: Noise | tuple[Noise, ...] | None) -> bool:
    """Whether a noise, or one of a tuple, is the user's own function."""
    return any(callable(one) for one in (kind if isinstance(kind, tuple) else (kind,)))


def _single(kind: Noise, level: float, space: RowSpace, rng: torch.Generator) -> Corrupt:
    if callable(kind):
        return _from_callable(kind, rng)
    if kind == "masking" and space.image_shape is not None and space.pixels[2] > 1:
        # Where a pixel is missing, so are all of its channels.
        return _block_masking(level, space, side=1)
    return (NOISES | IMAGE_NOISES)[kind](level, space)


def _chain(noises: list[Corrupt]) -> Corrupt:
    """One noise after another, each with random numbers of its own."""

    def corrupt(clean: Tensor, offsets: Tensor, out: Tensor) -> None:
        noises[0](clean, offsets, out)
        for i, noise in enumerate(noises[1:], start=1):
            noise(out.clone(), table_offsets(offsets, NOISE_SALT + i), out)

    return corrupt


def _from_callable(
    kind: Callable[[Tensor, torch.Generator], Tensor], rng: torch.Generator
) -> Corrupt:
    def corrupt(clean: Tensor, offsets: Tensor, out: Tensor) -> None:
        # It is promised the rows of one member.
        for given, into in zip(clean.split(1), out.split(1), strict=True):
            noisy = kind(given.clone(), rng)
            if not isinstance(noisy, Tensor) or noisy.shape != given.shape:
                raise ValueError(
                    f"noise={kind!r} must return a tensor of the shape that it is given, "
                    f"{tuple(given.shape)}, got {getattr(noisy, 'shape', noisy)!r}."
                )
            into.copy_(noisy)

    return corrupt
