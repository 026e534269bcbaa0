"""From images to images: restored ones, maps of anomalies and their boxes, features of pixels."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from skae.data.patches import blend_tiles
from skae.data.spec import InputSpec
from skae.inference import Model
from skae.networks.build import has_stages, takes_any_size
from skae.networks.holes import fill_holes

# Side of a tile of a network without a bottleneck, and what two tiles share: more than
# such a network sees around a pixel.
_TILE, _OVERLAP = 256, 48

# What part of the patch's side is the standard deviation of a window for spreads.
_SPREAD = 4

# Over how many pixels derivatives are taken.
_CURVATURES = (1, 2)


def restore_images(
    model: Model, images: np.ndarray, spec: InputSpec, out: Any = None
) -> np.ndarray:
    """Reconstruct images (n, height, width[, channels]) of any size by a model of patches."""
    restored = _by_tiles(Model.reconstruct, model, images, spec)
    if out is None:
        return np.stack(list(restored))
    for i, image in enumerate(restored):
        out[i] = image
    return out


def pixel_features(
    model: Model, images: np.ndarray, spec: InputSpec, scales: Sequence[int]
) -> Iterator[np.ndarray]:
    """Features of every pixel, (height, width, n_features), an image at a time."""
    if spec.is_patch and not takes_any_size(model.network):
        whole = (np.asarray(images[i]) for i in range(images.shape[0]))
        return (_dense_features(model, image, spec, scales) for image in whole)
    if not has_stages(model.network):
        raise ValueError(
            "pixel_features needs patches or convolutions. Fit a DenoisingAutoencoder with a "
            "patch_size, or with network='conv' or 'unet'."
        )
    if spec.is_patch:
        return _by_tiles(Model.pixel_features, model, images, spec)
    return (model.pixel_features(image.reshape(1, -1))[0] for image in images)


def _dense_features(
    model: Model, image: np.ndarray, spec: InputSpec, scales: Sequence[int]
) -> np.ndarray:
    """The pixel, and for each scale what the patch around it is there.

    That is its latents, and their spreads around the pixel: a latent has either sign on an
    edge or a texture, and its spread tells that there is one. And the pixel as it is
    rebuilt, with the curvatures of the rebuilt image: a line is curved whatever its direction.
    """
    n_channels, *size = spec.network_shape
    image = _of_channels(image, n_channels).astype(np.float32)
    features = [image]
    for scale in scales:
        latents, rebuilt = _of_patches(model, image, size, scale)
        spreads = _spreads(latents, scale * min(size) / _SPREAD)
        curvatures = [_curvatures(rebuilt, scale * width) for width in _CURVATURES]
        features += [latents, spreads, rebuilt, *curvatures]
    return np.concatenate(features, axis=2)


def _of_patches(
    model: Model, image: np.ndarray, size: list[int], scale: int
) -> tuple[np.ndarray, np.ndarray]:
    """Latents (height, width, n_components) of the patches around all pixels, and rebuilt pixels.

    At scale s a patch is s times as wide, and every s-th pixel of the image, smoothed
    by half of that, is taken: an image pyramid without loss of resolution.
    """
    height, width, n_channels = image.shape
    smooth = image
    if scale > 1:
        smooth = ndimage.gaussian_filter(image, (scale / 2, scale / 2, 0), mode="reflect")
    spans = [(length - 1) * scale + 1 for length in size]
    margins = [(span // 2, span - 1 - span // 2) for span in spans]
    padded = np.pad(smooth, (*margins, (0, 0)), mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=(0, 1))
    windows = windows[..., ::scale, ::scale].transpose(0, 1, 3, 4, 2)
    middle = (size[0] // 2 * size[1] + size[1] // 2) * n_channels
    latents, rebuilt = [], []
    for row in windows[:height]:
        latents.append(model.encode(row.reshape(width, -1)))
        rebuilt.append(model.decode(latents[-1])[:, middle : middle + n_channels])
    return np.stack(latents), np.stack(rebuilt)


def _spreads(maps: np.ndarray, width: float) -> np.ndarray:
    """Standard deviations of maps (height, width, n) in Gaussian windows, pixel by pixel."""
    window = (width, width, 0)
    means, squares = (ndimage.gaussian_filter(m, window, mode="reflect") for m in (maps, maps**2))
    return np.sqrt(np.maximum(squares - means**2, 0.0))


def _curvatures(maps: np.ndarray, width: float) -> np.ndarray:
    """Largest and smallest second derivative of maps (height, width, n), over all directions."""
    window, orders = (width, width, 0), ((2, 0, 0), (1, 1, 0), (0, 2, 0))
    down, mixed, across = (
        ndimage.gaussian_filter(maps, window, order, mode="reflect") for order in orders
    )
    mean, spread = (down + across) / 2, np.hypot((down - across) / 2, mixed)
    return np.concatenate([mean + spread, mean - spread], axis=2)


def _of_channels(image: np.ndarray, n_channels: int) -> np.ndarray:
    """The image as (height, width, channels)."""
    image = image.reshape(*image.shape[:2], -1)
    if image.shape[2] != n_channels:
        raise ValueError(
            f"X holds images of {image.shape[2]} channels, but the patches of the fit have "
            f"{n_channels} channels. Pass images with as many."
        )
    return image


def _by_tiles(
    method: Callable[[Model, np.ndarray], np.ndarray],
    model: Model,
    images: np.ndarray,
    spec: InputSpec,
) -> Iterator[np.ndarray]:
    """Apply a method of the model to overlapping tiles of each image, and blend the results.

    Tiles have the size of the patches that the model was trained on, or a larger one
    where the network takes it.
    """
    n_channels, *size = spec.network_shape
    _of_channels(images[0], n_channels)
    height, width = images.shape[1:3]
    if takes_any_size(model.network):
        size = [min(height, _TILE), min(width, _TILE)]
        model = model.resized((size[0], size[1]), n_channels)
    elif height < size[0] or width < size[1]:
        raise ValueError(
            f"X holds images of {height} x {width} pixels, smaller than the patches of the fit, "
            f"{size[0]} x {size[1]}. Pad them, or fit with a smaller patch_size."
        )
    overlap = [min(length // 2, _OVERLAP) for length in size]

    def restore(tiles: np.ndarray) -> np.ndarray:
        made = method(model, tiles.reshape(len(tiles), -1))
        return made.reshape(tiles.shape) if made.ndim == 2 else made

    for i in range(images.shape[0]):
        yield blend_tiles(_bridged(np.asarray(images[i])), size, overlap, restore)


def _bridged(image: np.ndarray) -> np.ndarray:
    """The image with the middle of holes filled in, lest a tile sees nothing of the image."""
    missing = np.isnan(image).reshape(*image.shape[:2], -1)
    missing &= ~missing.all(axis=(0, 1))
    if not missing.any():
        return image
    distances = (ndimage.distance_transform_cdt(missing[..., c]) for c in range(missing.shape[2]))
    deep = np.stack([distance >= _TILE // 2 for distance in distances], axis=2)
    if not deep.any():
        return image
    channels = torch.from_numpy(image.reshape(missing.shape).transpose(2, 0, 1).astype(np.float64))
    filled = fill_holes(channels[None])[0][0].numpy().transpose(1, 2, 0)
    return np.where(deep, filled, image.reshape(missing.shape)).reshape(image.shape)


def anomaly_maps(losses: np.ndarray, smoothing: float) -> np.ndarray:
    """Losses of pixels, smoothed, as maps whose means are those of the images.

    Parameters
    ----------
    losses : ndarray of shape (n, height, width[, channels])
        They add up to the mean loss of an image.
    smoothing : float
        Standard deviation of the Gaussian, in pixels. It keeps the mean.
    """
    maps = losses if losses.ndim == 3 else losses.sum(axis=3)
    return smoothed(maps * (maps.shape[1] * maps.shape[2]), smoothing)


def smoothed(maps: np.ndarray, smoothing: float) -> np.ndarray:
    """Maps (n, height, width) through a Gaussian of so many pixels."""
    return ndimage.gaussian_filter(maps, (0, smoothing, smoothing), mode="reflect")


def boxes(anomaly_map: np.ndarray, threshold: float) -> np.ndarray:
    """Boxes (top, left, bottom, right, score) around the regions above a threshold, best first."""
    try:
        from skimage.measure import label, regionprops
    except ImportError as error:
        raise ImportError(
            'detect needs scikit-image. Install it with: pip install "skae[image]"'
        ) from error
    regions = regionprops(label(anomaly_map > threshold), intensity_image=anomaly_map)
    found = [(*region.bbox, float(region.intensity_max)) for region in regions]
    return np.array(sorted(found, key=lambda box: -box[4]), dtype=float).reshape(-1, 5)
