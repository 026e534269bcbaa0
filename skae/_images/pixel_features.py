"""Features of every pixel, from patches around it or from the stages of a network."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from skae._data.convert import check_not_infinite
from skae._data.spec import InputSpec, as_columns, shorter_side
from skae._images.tiles import by_tiles, with_channel_axis
from skae._model.model import Batch, Model
from skae._networks.conv import padded_size, stage_maps
from skae._networks.factory import has_stages, takes_any_size
from skae._networks.modules import ModuleNetwork
from skae._runtime.tuning import CURVATURE_WIDTHS, WINDOWS_OF_A_PATCH


def pixel_features(
    model: Model, images: np.ndarray, spec: InputSpec, scales: Sequence[int]
) -> Iterator[np.ndarray]:
    """Features of every pixel, (height, width, n_features), one image at a time.

    Images are rows, unless the model is one of patches.
    """
    if spec.is_patch and spec.is_signal:
        images = as_columns(np.asarray(images[:]))
    if spec.is_patch and not takes_any_size(model.network):
        whole = (np.asarray(images[i]) for i in range(images.shape[0]))
        return (_dense_features(model, image, spec, scales) for image in whole)
    if not has_stages(model.network):
        raise ValueError(
            "pixel_features needs patches or convolutions. Fit a DenoisingAutoencoder with a "
            "patch_size, or with network='conv' or 'unet'."
        )
    if spec.is_patch:
        return by_tiles(_stage_features, model, images, spec)
    return (_stage_features(model, image.reshape(1, -1))[0] for image in images)


def _stage_features(model: Model, X: np.ndarray) -> np.ndarray:
    """Every pixel's features, (n, height, width, n_features): the scaled image and all stages.

    Stages of lower resolution are interpolated.
    """
    network = model.network
    assert isinstance(network, ModuleNetwork)
    _, height, width = network.spec.input_shape
    size = padded_size(network.pair["encoder"], height, width)

    def features(batch: Batch) -> Tensor:
        network.train(False)
        images = network.shaped(batch.given(network.missing))
        maps = [network.shaped(batch.values)]
        for stage in stage_maps(network.pair["encoder"], images):
            wide = functional.interpolate(stage, size=size, mode="bilinear")
            maps.append(wide[..., :height, :width])
        return torch.cat(maps, 1).permute(0, 2, 3, 1)

    return model.map(X, features)


def _dense_features(
    model: Model, image: np.ndarray, spec: InputSpec, scales: Sequence[int]
) -> np.ndarray:
    """The pixel, and for each scale the features of the patch around it.

    These are the patch's latents, and their spreads around the pixel: a latent has either sign
    on an edge or a texture, and its spread shows that there is one. The other features are the
    rebuilt pixel and the curvatures of the rebuilt image: a line is curved in any direction.
    """
    n_channels, *size = spec.network_shape
    check_not_infinite(image)
    image = with_channel_axis(image, n_channels).astype(np.float32)
    features = [image]
    for scale in scales:
        latents, rebuilt = _of_patches(model, image, size, scale)
        spreads = _spreads(latents, scale * shorter_side((size[0], size[1])) / WINDOWS_OF_A_PATCH)
        curvatures = [_curvatures(rebuilt, scale * width) for width in CURVATURE_WIDTHS]
        features += [latents, spreads, rebuilt, *curvatures]
    return np.concatenate(features, axis=2)


def _of_patches(
    model: Model, image: np.ndarray, size: list[int], scale: int
) -> tuple[np.ndarray, np.ndarray]:
    """Latents (height, width, n_components) of the patches around all pixels, and rebuilt pixels.

    At scale s, a patch is s times as wide and takes every s-th pixel of the image, which is
    smoothed by s / 2 first. This is an image pyramid without loss of resolution.
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
