"""A dense network behind a fixed front: it learns from scattering, and rebuilds pixels.

The front maps an image to coordinates: those of the logarithms of its scattering coefficients in
their principal subspace, and those of its pixels in theirs. The dense network takes and rebuilds
the coordinates. It is trained on them as on any rows, so that the front runs once for each image
and not in each epoch; and what it rebuilds of the pixels' coordinates is an image again.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skae._networks import scattering
from skae._networks.dense import DenseSpec
from skae._networks.fronted import FrontedNetwork
from skae._networks.holes import fill_holes
from skae._networks.principal import PrincipalAxes, principal_axes
from skae._networks.scattering import Scattering
from skae._runtime.tuning import (
    PIXEL_AXES,
    PIXEL_SHARE,
    SCATTERING_ANGLES,
    SCATTERING_AXES,
    SCATTERING_FLOOR,
    SCATTERING_WHITENING,
)

# Pixels that are scattered at once: their maps stay in a core's cache.
_PIXELS = 1 << 15

# Numbers that the maps of an image hold, for each of its pixels.
_MAPS = 64


@dataclass(frozen=True)
class ScatteredSpec(DenseSpec):
    """The architecture of the dense network, whose features are coordinates of images.

    Attributes
    ----------
    input_shape : tuple of int
        (channels, height, width).
    """

    input_shape: tuple[int, ...] = (1, 1, 1)

    @property
    def n_pixels(self) -> int:
        return math.prod(self.input_shape)

    @property
    def n_paths(self) -> int:
        """Ways through the wavelets, of all channels."""
        channels, *size = self.input_shape
        return channels * scattering.n_paths(scattering.n_octaves(*size))

    @property
    def n_coefficients(self) -> int:
        return self.n_paths * math.prod(scattering.grid(*self.input_shape[1:]))


def scattered_spec(
    image_shape: tuple[int, ...] | None,
    input_shape: tuple[int, ...],
    layers: Callable[[int], tuple[int, ...]],
    **settings: Any,
) -> ScatteredSpec:
    """The architecture for images (height, width[, channels]).

    ``layers`` gives the hidden layers for a number of coordinates; ``settings`` are the other ones
    of a :class:`~skae._networks.dense.DenseSpec`.

    Raises
    ------
    ValueError
        If the rows are not images.
    """
    if image_shape is None:
        raise ValueError(
            "network='scattering' needs images, but X holds rows. Pass an array of shape "
            "(n_samples, height, width[, channels]), or the image_shape of the rows."
        )
    n = sum(n_axes(input_shape))
    return ScatteredSpec(n, layers(n), input_shape=input_shape, **settings)


def n_axes(input_shape: tuple[int, ...]) -> tuple[int, int]:
    """How many coordinates an image has of its scattering coefficients, and of its pixels."""
    spec = ScatteredSpec(1, (), (1,), input_shape=input_shape)
    return min(SCATTERING_AXES, spec.n_coefficients), min(PIXEL_AXES, spec.n_pixels)


def front_shapes(spec: ScatteredSpec) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays of a :class:`Front`."""
    n_own, n_pixels = n_axes(spec.input_shape)
    return {
        "floor": (spec.n_paths, 1, 1),
        "center": (spec.n_coefficients,),
        "axes": (n_own, spec.n_coefficients),
        "pixel_center": (spec.n_pixels,),
        "pixel_axes": (n_pixels, spec.n_pixels),
    }


class Front(nn.Module):
    """From scaled rows, flattened images with channels last, to coordinates.

    Attributes
    ----------
    floor : Tensor of shape (n_paths, 1, 1)
        Moduli far below it hardly count: a coefficient is ``log(1 + modulus / floor)``.
    center, axes : Tensor of shape (n_coefficients,) and (n_axes, n_coefficients)
        The mean coefficients, and the map from deviations to coordinates.
    pixel_center, pixel_axes : Tensor
        The same of the pixels.
    """

    floor: Tensor
    center: Tensor
    axes: Tensor
    pixel_center: Tensor
    pixel_axes: Tensor

    def __init__(self, spec: ScatteredSpec, dtype: torch.dtype, device: torch.device):
        super().__init__()
        self.shape = spec.input_shape
        self.length = max(1, _PIXELS // spec.n_pixels)
        self.scattering = Scattering(scattering.n_octaves(*self.shape[1:]), dtype, device)
        for name, size in front_shapes(spec).items():
            self.register_buffer(name, torch.zeros(size, dtype=dtype, device=device))

    def forward(self, rows: Tensor) -> Tensor:
        # Not in parts in a graph, which is for any number of rows.
        parts = (rows,) if torch.compiler.is_exporting() else rows.split(self.length)
        return torch.cat([self._coordinates(part) for part in parts])

    def _coordinates(self, rows: Tensor) -> Tensor:
        rows = self.filled(rows)
        own = (self.logarithms(self.paths(rows)) - self.center) @ self.axes.T
        return torch.cat([own, (rows - self.pixel_center) @ self.pixel_axes.T], 1)

    def images(self, rows: Tensor) -> Tensor:
        channels, height, width = self.shape
        return rows.reshape(-1, height, width, channels).permute(0, 3, 1, 2)

    def filled(self, rows: Tensor) -> Tensor:
        """Rows whose missing pixels are taken from their neighbors."""
        if not torch.compiler.is_exporting() and not bool(rows.sum().isnan()):
            return rows
        return fill_holes(self.images(rows))[0].permute(0, 2, 3, 1).flatten(1)

    def paths(self, rows: Tensor) -> Tensor:
        """Scattering coefficients (n, n_paths, *grid); those of no wavelet come first."""
        return self.scattering(self.images(rows)).flatten(1, 2)

    def logarithms(self, paths: Tensor) -> Tensor:
        """Rows (n, n_coefficients): averages as they are, logarithms of the others."""
        n_averages = self.shape[0]
        logarithms = (paths[:, n_averages:] / self.floor[n_averages:]).log1p()
        return torch.cat([paths[:, :n_averages], logarithms], 1).flatten(1)

    @property
    def flops(self) -> int:
        """Operations for one image, about: those of the wavelets, and of the projections."""
        channels, height, width = self.shape
        n_pixels, n_waves, flops = channels * height * width, self.scattering.waves.numel(), 0
        for octave in range(self.scattering.octaves):
            n_maps = 1 + octave * SCATTERING_ANGLES
            flops += 2 * n_maps * n_waves * n_pixels // 4**octave
        return flops + 2 * (self.axes.numel() + self.pixel_axes.numel())

    def fit(self, rows: Tensor, weights: Tensor | None, seed: int) -> None:
        """Learn floors and axes from scaled rows."""
        rows = torch.cat([self.filled(part) for part in rows.split(self.length)])
        paths = torch.cat([self.paths(part) for part in rows.split(self.length)])
        w = rows.new_ones(len(rows)) if weights is None else weights.to(rows)
        floor = SCATTERING_FLOOR * ((w / w.sum()) @ paths.abs().mean((2, 3)))
        # Moduli of images without texture are rounding.
        self.floor.copy_(floor.clamp(min=1e-6 * float(floor.max()) + 1e-30)[:, None, None])
        # Of coefficients, wide directions count for less than by their variance: else few would
        # outweigh all others. Those of the pixels are as wide as their errors are to count.
        found = principal_axes(self.logarithms(paths), weights, len(self.axes), seed)
        n_directions = len(found.axes)
        _set(self.center, self.axes, found, SCATTERING_WHITENING, n_directions)
        found = principal_axes(rows, weights, len(self.pixel_axes), seed)
        _set(self.pixel_center, self.pixel_axes, found, 0.0, PIXEL_SHARE * n_directions)


def _set(
    center: Tensor, axes: Tensor, found: PrincipalAxes, whitening: float, variance: float
) -> None:
    """Fill in a mean and a map to coordinates.

    These are divided by a power of their deviations, and scaled to a sum of their variances.
    """
    mean, directions, deviations = (part.to(axes) for part in found)
    scale = deviations**-whitening
    scale *= (variance / (deviations * scale).square().sum()).sqrt()
    center.copy_(mean)
    axes[: len(directions)] = directions * scale[:, None]


class Pixels(nn.Module):
    """From coordinates to scaled rows: what :class:`Front` does to pixels, undone."""

    axes: Tensor
    center: Tensor

    def __init__(self, front: Front):
        super().__init__()
        self.register_buffer("axes", front.pixel_axes)
        self.register_buffer("center", front.pixel_center)

    def forward(self, coordinates: Tensor) -> Tensor:
        lengths = self.axes.square().sum(1).clamp(min=1e-30)
        return coordinates[..., -len(self.axes) :] / lengths @ self.axes + self.center


class ScatteredNetwork(FrontedNetwork):
    """A dense autoencoder of coordinates, as one of images.

    Attributes
    ----------
    front : Front
    back : Pixels
    """

    spec: ScatteredSpec
    # Value of missing pixels in the network's input: the front fills them in.
    missing = math.nan

    def _ends(self) -> tuple[nn.Module, nn.Module]:
        front = Front(self.spec, self.parameters.dtype, self.parameters.device)
        return front, Pixels(front)

    @property
    def row_width(self) -> int:
        return max(super().row_width, _MAPS * self.spec.n_pixels)
