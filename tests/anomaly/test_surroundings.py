"""What the pixels around a block tell of it."""

import numpy as np
import pytest
import torch

from skae._anomaly.octaves import octave_sizes
from skae._anomaly.surroundings import (
    _blocks,
    _in_ring,
    _ring_means,
    learned_surroundings,
    ring_energies,
    ringed_octaves,
)
from skae._runtime.tuning import BLOCK_SIDE, RING_SIDE

HEIGHT, WIDTH = torch.meshgrid(torch.arange(40.0), torch.arange(32.0), indexing="ij")


def _waves(n, seed):
    """Waves in all directions, with a little noise."""
    rng = torch.Generator().manual_seed(seed)
    angle, phase = 6.3 * torch.rand(2, n, 1, 1, generator=rng)
    waves = torch.sin(0.8 * (torch.cos(angle) * HEIGHT + torch.sin(angle) * WIDTH) + phase)
    return (waves + 0.05 * torch.randn(waves.shape, generator=rng))[:, None]


def test_blocks_lie_around_every_second_pixel_with_their_rings():
    image = torch.arange(12.0 * 9).view(1, 1, 12, 9)
    blocks = _blocks(image)
    assert blocks.shape == (6 * 5, RING_SIDE**2)
    inner = blocks[:, ~_in_ring(1)].view(6, 5, BLOCK_SIDE, BLOCK_SIDE)
    np.testing.assert_array_equal(inner[2, 2], image[0, 0, 3:7, 3:7])
    # Beyond the edge, pixels repeat.
    np.testing.assert_array_equal(inner[0, 0, :2, :2], image[0, 0, [0, 0]][:, [0, 0]])


def test_ring_means_are_those_of_each_channel():
    image = torch.stack([torch.full((8, 8), 2.0), torch.full((8, 8), 5.0)])[None]
    means = _ring_means(_blocks(image)[:, _in_ring(2)], 2)
    np.testing.assert_array_equal(means[0], [2.0] * BLOCK_SIDE**2 + [5.0] * BLOCK_SIDE**2)


def test_what_goes_on_is_expected_and_a_spot_is_not():
    surroundings = learned_surroundings(_waves(60, 0), seed=0)
    clean, spotted = _waves(20, 1), _waves(20, 1)
    spotted[:, :, 20:22, 10:12] += 2.0
    usual, unusual = (ring_energies(images, surroundings)[0] for images in (clean, spotted))
    usual, unusual = usual.view(20, 20, 16), unusual.view(20, 20, 16)
    assert float(usual.median()) == pytest.approx(1.0, abs=0.5)
    ratio = (unusual / usual)[:, 10, 5]
    assert float(ratio.median()) > 20.0
    np.testing.assert_array_equal(unusual[:, 15:], usual[:, 15:])


def test_energies_are_as_many_as_those_of_residuals_and_alike_in_any_batch():
    images = _waves(6, 0)
    surroundings = learned_surroundings(images, seed=0)
    assert len(surroundings) == len(ringed_octaves(images[:1])) == 2
    energies = ring_energies(images, surroundings)
    expected = [height * width for height, width in octave_sizes((40, 32))[:2]]
    assert [one.shape[1] for one in energies] == expected
    for all_of_them, alone in zip(energies, ring_energies(images[3:4], surroundings), strict=True):
        np.testing.assert_array_equal(all_of_them[3:4], alone)


def test_constant_images_are_as_expected():
    flat = torch.full((4, 3, 9, 8), 7.0)
    (energies,) = ring_energies(flat, learned_surroundings(flat, seed=0))
    assert torch.isfinite(energies).all()
    np.testing.assert_allclose(energies, 1.0, rtol=1e-3)


@pytest.mark.parametrize("value", [1e30, -1e30])
def test_extreme_pixels_are_finite_and_unusual(value):
    images = _waves(8, 0)
    surroundings = learned_surroundings(images, seed=0)
    images[0, 0, 20, 10] = value
    energies = ring_energies(images[:1], surroundings)[0]
    assert torch.isfinite(energies).all()
    assert float(energies.max()) > 1e6
