"""What the pixels around a place tell of it: blocks of pixels, foretold from the ring around them.

A network of whole images rebuilds what is always at one place. Of an object that lies turned, or
of a texture at a random phase, it knows little; but edges go on and threads repeat, so that the
pixels around a block tell what is in it, wherever it is. A block's pixels are foretold by a ridge
regression on random features of its ring (Rahimi and Recht, "Weighted sums of random kitchen
sinks", 2008), which is learned from blocks of all places, turned and mirrored. Another
one foretells how well that succeeds: edges are harder than flat ground. The squared error over what
is expected is an energy, as those of the residuals in ``images.py`` are, and is calibrated as they
are. So it goes in each
octave of the image itself.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from skae._anomaly.octaves import blurred, halved, octave_sizes
from skae._runtime.device import computing
from skae._runtime.randomness import RING_STREAM, generator
from skae._runtime.tuning import (
    BLOCK_SIDE,
    RING_AXES,
    RING_BLOCKS,
    RING_FEATURES,
    RING_RIDGE,
    RING_SIDE,
    SMALLEST_RINGED_OCTAVE,
)

# Blocks lie as far apart as the energies of an octave do.
_STRIDE = 2

# Values beyond this have squares that float32 does not hold.
_FARTHEST = 1e15


class Surroundings(NamedTuple):
    """What rings tell of the blocks in them, in one octave; r random features of k axes.

    Attributes
    ----------
    center : ndarray of shape (n_ring,)
        Mean of the pixels of rings.
    axes : ndarray of shape (n_ring, k)
        From rings to their scores on principal axes.
    directions, shifts : ndarray of shape (k, r) and (r,)
        From scores to random features.
    pixels : ndarray of shape (r + k + 1, n_block)
        From features, scores and one to the block's pixels less the mean of the ring.
    unit : float
        The median squared error.
    errors : ndarray of shape (r + k + 1,)
        From features, scores and one to the logarithm of the squared error in this unit.
    """

    center: np.ndarray
    axes: np.ndarray
    directions: np.ndarray
    shifts: np.ndarray
    pixels: np.ndarray
    unit: float
    errors: np.ndarray

    def energies(self, images: Tensor) -> Tensor:
        """Squared errors over what is expected, (n, 1, h, w), of images (n, channels, ., .)."""
        blocks, ring = _blocks(images), _in_ring(images.shape[1])
        given = self._features(blocks[:, ring])
        expected = _ring_means(blocks[:, ring], images.shape[1])
        errors = blocks[:, ~ring] - expected - given @ torch.from_numpy(self.pixels)
        usual = (given @ torch.from_numpy(self.errors)).exp()
        height, width = (-(-length // _STRIDE) for length in images.shape[2:])
        return (self._in_units(errors) / usual).view(-1, 1, height, width)

    def _features(self, rings: Tensor) -> Tensor:
        scores = (rings - torch.from_numpy(self.center)) @ torch.from_numpy(self.axes)
        hidden = scores @ torch.from_numpy(self.directions) + torch.from_numpy(self.shifts)
        return torch.cat([hidden.tanh(), scores, scores.new_ones(scores.shape[0], 1)], 1)

    def _in_units(self, errors: Tensor) -> Tensor:
        # A perfect forecast is not infinitely good.
        return errors.square().sum(1) / self.unit + 0.01

    @classmethod
    def of(cls, blocks: Tensor, n_channels: int, rng: torch.Generator) -> "Surroundings":
        """What is usual in blocks with their rings, (n, n_channels * side * side)."""
        ring = _in_ring(n_channels)
        rings = blocks[:, ring]
        center = rings.mean(0)
        variances, axes = torch.linalg.eigh((rings - center).T @ (rings - center) / len(rings))
        variances, axes = variances.flip(0)[:RING_AXES], axes.flip(1)[:, :RING_AXES]
        # Between scores as they are and whitened ones: of the coarse the most, of noise little.
        axes = axes / variances.clamp(min=1e-6 * float(variances[0]) + 1e-12) ** 0.25
        axes = axes / float(((rings - center) @ axes).square().sum(1).mean().sqrt() + 1e-9)
        directions = 2.0 * torch.randn(axes.shape[1], RING_FEATURES, generator=rng)
        shifts = torch.randn(RING_FEATURES, generator=rng)
        found = cls(
            center.numpy(),
            axes.contiguous().numpy(),
            directions.numpy(),
            shifts.numpy(),
            pixels=np.zeros(0, dtype=np.float32),
            unit=1.0,
            errors=np.zeros(0, dtype=np.float32),
        )
        given = found._features(rings)
        targets = blocks[:, ~ring] - _ring_means(rings, n_channels)
        pixels = _ridge(given, targets)
        errors = targets - given @ pixels
        squares = errors.square().sum(1)
        unit = float(squares.median()) or float(squares.mean()) or 1.0
        found = found._replace(pixels=pixels.numpy(), unit=unit)
        return found._replace(errors=_ridge(given, found._in_units(errors).log()).numpy())


def learned_surroundings(images: Tensor, seed: int) -> list[Surroundings]:
    """What rings tell in each octave of images (n, channels, height, width), fine to coarse."""
    rng, found = generator(seed, RING_STREAM), []
    n_of_image = -(-RING_BLOCKS // len(images))
    # On one thread: the bits of solutions may depend on how many there are.
    with computing(images.device, flops=0.0):
        octaves = [ringed_octaves(image[None]) for image in images]
        for octave in zip(*octaves, strict=True):
            some = []
            for level in octave:
                blocks = _blocks(level)
                some.append(blocks[torch.randperm(len(blocks), generator=rng)[:n_of_image]])
            n_channels = images.shape[1]
            found.append(Surroundings.of(_turned(torch.cat(some), n_channels), n_channels, rng))
    return found


def ring_energies(images: Tensor, surroundings: list[Surroundings]) -> list[Tensor]:
    """Energies (n, h * w) of images (n, channels, height, width), octave by octave."""
    # One image at a time: the bits of products may depend on how many rows there are. A graph
    # is for any number.
    parts = (images,) if torch.compiler.is_exporting() else images.split(1)
    with computing(images.device, flops=0.0):
        by_image = [
            [
                blurred(one.energies(level)).flatten(1)
                for one, level in zip(surroundings, ringed_octaves(part), strict=True)
            ]
            for part in parts
        ]
    return [torch.cat(octave).clamp(max=1e30) for octave in zip(*by_image, strict=True)]


def ringed_octaves(images: Tensor) -> list[Tensor]:
    """The images and their halves that are large enough for rings, the first in any case."""
    levels = [images.clamp(-_FARTHEST, _FARTHEST)]
    while min(levels[-1].shape[2:]) >= 2 * SMALLEST_RINGED_OCTAVE:
        levels.append(halved(blurred(levels[-1])))
    return levels


def ringed_sizes(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Height and width of the energies of each of these octaves."""
    sizes, n = octave_sizes(shape), 1
    levels = [(shape[0], shape[1]), *sizes]
    while min(levels[n - 1]) >= 2 * SMALLEST_RINGED_OCTAVE:
        n += 1
    return sizes[:n]


def _blocks(images: Tensor) -> Tensor:
    """Blocks with their rings, (n_blocks, channels * side * side), one for every 2 x 2 pixels."""
    height, width = images.shape[2:]
    before = (RING_SIDE - _STRIDE) // 2
    padding = (before, before + width % _STRIDE, before, before + height % _STRIDE)
    wide = functional.pad(images, padding, mode="replicate")
    return functional.unfold(wide, RING_SIDE, stride=_STRIDE).transpose(1, 2).flatten(0, 1)


def _in_ring(n_channels: int) -> Tensor:
    """Which pixels of a block with its ring, (channels * side * side,), are in the ring."""
    ring, width = torch.ones(RING_SIDE, RING_SIDE, dtype=torch.bool), (RING_SIDE - BLOCK_SIDE) // 2
    ring[width:-width, width:-width] = False
    return ring.flatten().repeat(n_channels)


def _ring_means(rings: Tensor, n_channels: int) -> Tensor:
    """The mean of each channel of a ring, for each pixel of its block."""
    means = rings.unflatten(1, (n_channels, -1)).mean(2)
    return means.repeat_interleave(BLOCK_SIDE**2, 1)


def _turned(blocks: Tensor, n_channels: int) -> Tensor:
    """Blocks, each turned and mirrored in one of eight ways."""
    square = blocks.unflatten(1, (n_channels, RING_SIDE, RING_SIDE))
    ways = [square[way::8].rot90(way % 4, (2, 3)) for way in range(8)]
    return torch.cat([*ways[:4], *(way.flip(3) for way in ways[4:])]).flatten(1)


def _ridge(given: Tensor, targets: Tensor) -> Tensor:
    gram = given.T @ given / len(given)
    ridge = RING_RIDGE * float(gram.diagonal().mean()) * torch.eye(len(gram))
    # Contiguous, so that a copy of it gives the same bits.
    return torch.linalg.solve(gram + ridge, given.T @ targets / len(given)).contiguous()
