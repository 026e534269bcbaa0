"""Patches of images: random ones to train on, and tiles whose results are blended."""

import math
from collections.abc import Callable, Sequence

import numpy as np

# How often the patches of a training run cover the images.
_COVERS = 8

# Values that all patches may hold: half a gigabyte in float32.
_MOST_VALUES = 1 << 27


def draw_patches(
    images: np.ndarray, size: tuple[int, int], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Random patches, as many as cover the images eight times.

    Parameters
    ----------
    images : ndarray of shape (n, height, width[, channels])
        Read one at a time.
    size : tuple of int
        Height and width of a patch.
    seed : int

    Returns
    -------
    patches : ndarray of shape (m, *size[, channels])
        In the images' dtype.
    sources : ndarray of int, shape (m,)
        The image that each patch is from; none is without.
    """
    rng = np.random.default_rng(seed)
    n, height, width, *channels = images.shape
    each = max(1, _COVERS * height * width // math.prod(size))
    each = max(1, min(each, _MOST_VALUES // (n * math.prod(size) * math.prod(channels))))
    sources = np.repeat(np.arange(n), each)
    tops = rng.integers(height - size[0] + 1, size=len(sources))
    lefts = rng.integers(width - size[1] + 1, size=len(sources))
    patches = np.empty((len(sources), *size, *channels), dtype=images.dtype)
    for i, (source, top, left) in enumerate(zip(sources, tops, lefts, strict=True)):
        patches[i] = images[source, top : top + size[0], left : left + size[1]]
    return patches, sources


def blend_tiles(
    image: np.ndarray,
    size: Sequence[int],
    overlap: Sequence[int],
    restore: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Apply ``restore`` to overlapping tiles of an image, and blend what it returns.

    Parameters
    ----------
    image : ndarray of shape (height, width[, channels])
    size, overlap : tuple of int
        Of the tiles, down and across; no larger than the image.
    restore : callable
        From tiles (m, *size[, channels]) to as many tiles of as many pixels.

    Returns
    -------
    restored : ndarray of shape (height, width, ...), float
    """
    starts = [_starts(*lengths) for lengths in zip(image.shape, size, overlap, strict=False)]
    corners = [(top, left) for top in starts[0] for left in starts[1]]
    if len(corners) == 1:
        return restore(image[None])[0]
    parts = [np.s_[top : top + size[0], left : left + size[1]] for top, left in corners]
    tiles = restore(np.stack([image[part] for part in parts]))
    windows = [_window(*lengths) for lengths in zip(size, overlap, strict=True)]
    window = np.multiply.outer(*windows).reshape(*size, *(1 for _ in tiles.shape[3:]))
    total = np.zeros(image.shape[:2] + tiles.shape[3:])
    weight = np.zeros(image.shape[:2] + window.shape[2:])
    for part, tile in zip(parts, tiles, strict=True):
        total[part] += tile * window
        weight[part] += window
    return (total / weight).astype(tiles.dtype)


def _starts(length: int, size: int, overlap: int) -> list[int]:
    """Where tiles begin along one axis; the last one ends with the image."""
    return [*range(0, length - size, size - overlap), length - size]


def _window(size: int, overlap: int) -> np.ndarray:
    """Weights that fall linearly over the overlap to both ends, and stay positive."""
    ramp = np.minimum(np.arange(size), np.arange(size)[::-1]) + 1.0
    return np.minimum(ramp / (overlap + 1), 1.0)
