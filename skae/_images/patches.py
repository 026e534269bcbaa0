"""Random patches of images to train on."""

import math
from typing import Any

import numpy as np

from skae._data.spec import as_column, sizes_of
from skae._runtime.tuning import PATCH_COVERS

# Values that all patches may hold: half a gigabyte in float32.
_MOST_VALUES = 1 << 27


def patch_shape(
    patch_size: Any, image_shape: Any, shape: tuple[int, ...], is_signal: bool
) -> tuple[int, int]:
    """Height and width of a patch, checked against the shape of a sample.

    Raises
    ------
    ValueError
        If samples are rows or smaller, or have an ``image_shape`` beside.
    """
    if image_shape is not None or (len(shape) < 2 and not is_signal):
        raise ValueError(
            f"patch_size={patch_size!r} needs an array of images (n_samples, height, width[, "
            f"channels]), or signals and network='conv1d' or 'unet1d', and image_shape=None."
        )
    given = sizes_of("patch_size", patch_size)
    sides = as_column(shape)[:2] if is_signal else shape[:2]
    size = as_column(given[:1]) if is_signal else (given * 2)[:2]
    if size[0] > sides[0] or size[1] > sides[1]:
        raise ValueError(
            f"patch_size={patch_size!r} is larger than the images of {sides[0]} x {sides[1]} "
            f"pixels. Pass a smaller one."
        )
    return size[0], size[1]


def draw_patches(
    images: np.ndarray, size: tuple[int, int], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Random patches, as many as cover the images eight times.

    Parameters
    ----------
    images : ndarray of shape (n, height, width[, channels])
        Images are read one at a time.
    size : tuple of int
        Height and width of a patch.
    seed : int

    Returns
    -------
    patches : ndarray of shape (m, *size[, channels])
        In the images' dtype.
    sources : ndarray of int, shape (m,)
        The image that each patch is from; every image has a patch.
    """
    rng = np.random.default_rng(seed)
    n, height, width, *channels = images.shape
    each = max(1, PATCH_COVERS * height * width // math.prod(size))
    each = max(1, min(each, _MOST_VALUES // (n * math.prod(size) * math.prod(channels))))
    sources = np.repeat(np.arange(n), each)
    tops = rng.integers(height - size[0] + 1, size=len(sources))
    lefts = rng.integers(width - size[1] + 1, size=len(sources))
    patches = np.empty((len(sources), *size, *channels), dtype=images.dtype)
    for i, (source, top, left) in enumerate(zip(sources, tops, lefts, strict=True)):
        patches[i] = images[source, top : top + size[0], left : left + size[1]]
    return patches, sources
