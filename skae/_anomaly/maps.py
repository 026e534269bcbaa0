"""Maps of anomalies, and boxes around what is unusual in them."""

import numpy as np
from scipy import ndimage

from skae._data.spec import shorter_side
from skae._runtime.tuning import MAP_SMOOTHING


def loss_maps(losses: np.ndarray, smoothing: float | None = None) -> np.ndarray:
    """Losses of pixels, smoothed, as maps whose means are those of the images.

    Parameters
    ----------
    losses : ndarray of shape (n, height, width[, channels])
        They add up to the mean loss of an image.
    smoothing : float, default=None
        Standard deviation of the Gaussian, in pixels; it keeps the mean. None is a 32nd of
        the shorter side.
    """
    maps = losses if losses.ndim == 3 else losses.sum(axis=3)
    if smoothing is None:
        smoothing = shorter_side(maps.shape[1:]) / MAP_SMOOTHING
    return smoothed(maps * (maps.shape[1] * maps.shape[2]), smoothing)


def smoothed(maps: np.ndarray, smoothing: float) -> np.ndarray:
    """Maps (n, height, width) smoothed by a Gaussian of this standard deviation, in pixels."""
    return ndimage.gaussian_filter(maps, (0, smoothing, smoothing), mode="reflect")


def boxes(anomaly_map: np.ndarray, threshold: float) -> np.ndarray:
    """Boxes (top, left, bottom, right, score) around the regions above a threshold, best first."""
    try:
        from skimage.measure import label, regionprops
    except ImportError as error:
        raise ImportError(
            'detect needs scikit-image. Install it with: pip install "skae[image]"'
        ) from error
    # Not rounded to the map's float32, by which its highest pixel could be lost.
    above = anomaly_map > np.float64(threshold)
    regions = regionprops(label(above), intensity_image=anomaly_map)
    found = [(*region.bbox, float(region.intensity_max)) for region in regions]
    return np.array(sorted(found, key=lambda box: -box[4]), dtype=float).reshape(-1, 5)
