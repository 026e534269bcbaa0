"""Fills missing pixels from their neighbors, as a first guess for networks that repair images."""

import torch
from torch import Tensor
from torch.nn import functional

from skae._runtime.tuning import HOLE_MOMENTUM, HOLE_STEP, HOLE_STEPS


def fill_holes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Images (n, channels, height, width) without NaN, and a mask of what was observed.

    A missing pixel becomes the weighted mean of the observed pixels next to it (normalized
    convolution, Knutsson and Westin 1993). If there are none, the mean comes from an image of
    half the size, and so on (Gortler et al., "The Lumigraph", 1996). A channel without any
    observed pixel becomes zero. A few steps then lead towards the smoothest such image, the
    one with the least squared Laplacian (biharmonic inpainting, Damelin and Hoang 2018).
    """
    observed = ~x.isnan()
    values, weights = torch.where(observed, x, 0.0), observed.to(x.dtype)
    filled = torch.where(observed, x, _spread(_smooth(values), _smooth(weights)))
    # A step below 2 / 7.1 is stable without momentum.
    step = torch.zeros_like(filled)
    for _ in range(HOLE_STEPS):
        slope = _laplacian(_laplacian(filled))
        step = torch.where(observed, 0.0, HOLE_MOMENTUM * step - HOLE_STEP * slope)
        filled = filled + step
    return filled, observed


def _laplacian(x: Tensor) -> Tensor:
    """A third of the sum of the differences to the four neighbors, in few operations."""
    across, down = (
        functional.avg_pool2d(x, size, 1, (size[0] // 2, size[1] // 2), count_include_pad=False)
        for size in ((1, 3), (3, 1))
    )
    return across + down - 2.0 * x


def _smooth(x: Tensor) -> Tensor:
    """Smooth with weights 1, 2, 1 in both directions, and zeros beyond the edges."""
    wider = functional.avg_pool2d(x, 2, stride=1, padding=1)
    return functional.avg_pool2d(wider, 2, stride=1)


def _spread(sums: Tensor, weights: Tensor) -> Tensor:
    """Means of weighted sums; where the weight is zero, the mean of a coarser image."""
    means, (height, width) = sums / weights.clamp(min=1e-30), sums.shape[-2:]
    if height == width == 1:
        return means
    # Pixels beyond an edge have no weight, like those in a hole.
    halves = (functional.avg_pool2d(_even(t), 2) for t in (sums, weights))
    wide = functional.interpolate(_spread(*halves), scale_factor=2.0, mode="bilinear")
    return torch.where(weights > 0, means, wide[..., :height, :width])


def _even(x: Tensor) -> Tensor:
    """Pad with zeros below and to the right, up to even lengths."""
    return functional.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2))
