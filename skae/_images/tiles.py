"""Apply a model of patches to images of any size: blend the results of overlapping tiles."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from skae._data.columns import cast
from skae._data.scale import AffineScaler
from skae._data.spec import InputSpec, as_columns
from skae._model.model import Model
from skae._networks.factory import resized, takes_any_size
from skae._networks.holes import fill_holes
from skae._runtime.tuning import TILE_OVERLAP, TILE_SIDE


def restore_images(
    model: Model, images: np.ndarray, spec: InputSpec, out: Any = None
) -> np.ndarray:
    """Reconstruct images (n, height, width[, channels]) of any size with a model of patches.

    Or signals (n, length[, channels]) of any length.
    """
    shape = images.shape
    if spec.is_signal:
        images = as_columns(np.asarray(images[:]))
    restored = by_tiles(Model.reconstruct, model, images, spec)
    if out is None:
        return np.stack(list(restored)).reshape(shape)
    for i, image in enumerate(restored):
        out[i] = cast(image.reshape(shape[1:]), out.dtype)
    return out


def by_tiles(
    method: Callable[[Model, np.ndarray], np.ndarray],
    model: Model,
    images: np.ndarray,
    spec: InputSpec,
) -> Iterator[np.ndarray]:
    """Apply a function of model and rows to overlapping tiles of each image; blend the results.

    Tiles have the size of the patches that the model was trained on, or are larger
    if the network allows it.
    """
    n_channels, *size = spec.network_shape
    with_channel_axis(images[0], n_channels)
    height, width = images.shape[1:3]
    if takes_any_size(model.network):
        size = [min(height, TILE_SIDE), min(width, TILE_SIDE)]
        model = _resized(model, (size[0], size[1]), n_channels)
    elif height < size[0] or width < size[1]:
        raise ValueError(
            f"X holds images of {height} x {width} pixels, smaller than the patches of the fit, "
            f"{size[0]} x {size[1]}. Pad them, or fit with a smaller patch_size."
        )
    # Wider than what such a network sees around a pixel.
    overlap = [min(length // 2, TILE_OVERLAP) for length in size]

    def restore(tiles: np.ndarray) -> np.ndarray:
        made = method(model, tiles.reshape(len(tiles), -1))
        return made.reshape(tiles.shape) if made.ndim == 2 else made

    for i in range(images.shape[0]):
        yield blend_tiles(_bridged(np.asarray(images[i])), size, overlap, restore)


def _resized(model: Model, image_shape: tuple[int, int], n_channels: int) -> Model:
    """The model for images of another height and width."""
    whole = model.scaler
    assert isinstance(whole, AffineScaler)
    n_pixels = image_shape[0] * image_shape[1]
    scaler = dataclasses.replace(
        whole,
        center=whole.center[:n_channels],
        scale=whole.scale[:n_channels],
        seen=None if whole.seen is None else whole.seen[:, :n_channels],
    )
    network = resized(model.network, (n_channels, *image_shape))
    return Model(network, scaler.repeated(n_pixels), model.loss, n_pixels * n_channels)


def _bridged(image: np.ndarray) -> np.ndarray:
    """The image with the middle of large holes filled in, so that no tile is entirely missing."""
    missing = np.isnan(image).reshape(*image.shape[:2], -1)
    missing &= ~missing.all(axis=(0, 1))
    if not missing.any():
        return image
    distances = (ndimage.distance_transform_cdt(missing[..., c]) for c in range(missing.shape[2]))
    deep = np.stack([distance >= TILE_SIDE // 2 for distance in distances], axis=2)
    if not deep.any():
        return image
    channels = torch.from_numpy(image.reshape(missing.shape).transpose(2, 0, 1).astype(np.float64))
    filled = fill_holes(channels[None])[0][0].numpy().transpose(1, 2, 0)
    return np.where(deep, filled, image.reshape(missing.shape)).reshape(image.shape)


def with_channel_axis(image: np.ndarray, n_channels: int) -> np.ndarray:
    """The image as (height, width, channels)."""
    image = image.reshape(*image.shape[:2], -1)
    if image.shape[2] != n_channels:
        raise ValueError(
            f"X holds images of {image.shape[2]} channels, but the patches of the fit have "
            f"{n_channels} channels. Pass images with as many."
        )
    return image


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
        Size and overlap of the tiles, down and across; no larger than the image.
    restore : callable
        Maps tiles (m, *size[, channels]) to as many tiles with as many pixels.

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
