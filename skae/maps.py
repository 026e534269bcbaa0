"""From images to images: restored ones, by tiles."""

import numpy as np

from skae.data.patches import blend_tiles
from skae.data.spec import InputSpec
from skae.inference import Model
from skae.networks.build import takes_any_size

# Side of a tile of a network without a bottleneck, and what two tiles share: more than
# such a network sees around a pixel.
_TILE, _OVERLAP = 256, 48


def restore_images(model: Model, images: np.ndarray, patch: InputSpec) -> np.ndarray:
    """Reconstruct images of any size with a model of patches.

    Parameters
    ----------
    model : Model
    images : ndarray of shape (n, height, width[, channels])
    patch : InputSpec
        Of the patches that the model was trained on.

    Returns
    -------
    restored : ndarray of the images' shape
    """
    n_channels, *size = patch.network_shape
    if (*images.shape, 1)[3] != n_channels:
        raise ValueError(
            f"X holds images of shape {images.shape[1:]}, but the patches of the fit have "
            f"{n_channels} channels. Pass images with as many."
        )
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
        return model.reconstruct(tiles.reshape(len(tiles), -1)).reshape(tiles.shape)

    restored = [blend_tiles(np.asarray(image), size, overlap, restore) for image in images]
    return np.stack(restored)
