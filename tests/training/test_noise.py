"""Noise: rates and values as documented, the same for equal rows."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from skae._runtime.randomness import RandomTable, generator
from skae._training.noise import RowSpace, make_noise

LOW, HIGH = torch.full((40,), -3.0), torch.full((40,), 5.0)
SPACE = RowSpace(LOW, HIGH, torch.zeros(40))


def _noisy(kind, level, seed=0, space=SPACE):
    clean = torch.randn(1, 500, 40, generator=torch.Generator().manual_seed(1)).clamp(-2.9, 2.9)
    offsets = torch.randint(RandomTable.SIZE, (500,), generator=torch.Generator().manual_seed(2))
    out = torch.empty_like(clean)
    make_noise(kind, level, space, generator(seed, 0))(clean, offsets, out)
    return clean, out


def test_gaussian_noise_has_the_given_deviation():
    clean, noisy = _noisy("gaussian", 0.5)
    difference = (noisy - clean).numpy()
    np.testing.assert_allclose(difference.std(), 0.5, rtol=0.03)
    np.testing.assert_allclose(difference.mean(), 0.0, atol=0.02)
    assert abs(np.corrcoef(difference[0, :, 0], difference[0, :, 1])[0, 1]) < 0.15


def test_masking_sets_a_share_of_the_cells_to_zero():
    clean, noisy = _noisy("masking", 0.3)
    changed = noisy != clean
    np.testing.assert_allclose(changed.double().mean(), 0.3, atol=0.02)
    assert bool((noisy[changed] == 0).all())


def test_masked_cells_are_missing_for_a_network_that_takes_nan():
    space = dataclasses.replace(SPACE, missing=math.nan, image_shape=(5, 8))
    for kind in ("masking", "block_masking"):
        clean, zeros = _noisy(kind, 0.3, space=dataclasses.replace(space, missing=0.0))
        _, noisy = _noisy(kind, 0.3, space=space)
        assert torch.equal(noisy.isnan(), zeros != clean)
        assert torch.equal(noisy.nan_to_num(0.0), zeros)


def test_salt_and_pepper_sets_half_of_the_cells_to_each_extreme():
    clean, noisy = _noisy("salt_and_pepper", 0.4)
    np.testing.assert_allclose((noisy == -3.0).double().mean(), 0.2, atol=0.02)
    np.testing.assert_allclose((noisy == 5.0).double().mean(), 0.2, atol=0.02)
    kept = (noisy > -3.0) & (noisy < 5.0)
    assert bool((noisy[kept] == clean[kept]).all())


def test_swap_takes_cells_of_the_same_feature_from_other_rows():
    clean, noisy = _noisy("swap", 0.25)
    changed = noisy != clean
    np.testing.assert_allclose(changed.double().mean(), 0.25, atol=0.02)
    assert bool((noisy[changed] == clean.roll(1, dims=1)[changed]).all())


def test_callable_gets_the_rows_and_a_generator():
    def jitter(rows, generator):
        return rows + torch.rand(rows.shape, generator=generator)

    _, first = _noisy(jitter, 0.0, seed=3)
    clean, second = _noisy(jitter, 0.0, seed=3)
    assert torch.equal(first, second)
    assert bool(((second - clean) >= 0).all())


def test_callable_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="must return a tensor of the shape"):
        _noisy(lambda rows, generator: rows[:, :3], 0.0)


IMAGES = torch.rand(1, 400, 240, generator=torch.Generator().manual_seed(1)) + 0.5
IMAGE_SHAPE = (12, 10, 2)


def _noisy_images(kind, level, clean=IMAGES):
    offsets = torch.randint(
        RandomTable.SIZE, (clean.shape[1],), generator=torch.Generator().manual_seed(2)
    )
    out = torch.empty_like(clean)
    low, high = torch.zeros(clean.shape[2]), torch.ones(clean.shape[2])
    space = RowSpace(low, high, low, image_shape=IMAGE_SHAPE)
    make_noise(kind, level, space, generator(0, 0))(clean, offsets, out)
    return out.view(-1, *IMAGE_SHAPE)


def test_affine_noise_of_level_zero_is_none():
    torch.testing.assert_close(_noisy_images("affine", 0.0).view_as(IMAGES), IMAGES)


def test_affine_noise_moves_channels_alike_and_keeps_plain_images():
    plain = torch.ones(1, 5, 12 * 10, 1) * torch.tensor([0.25, 0.75])
    moved = _noisy_images("affine", 0.3, plain.view(1, 5, 240))
    torch.testing.assert_close(moved.reshape(1, 5, 120, 2), plain)
    doubled = (IMAGES.view(1, 400, 120, 2)[..., :1] * torch.tensor([1.0, 2.0])).view_as(IMAGES)
    moved = _noisy_images("affine", 0.3, doubled)
    torch.testing.assert_close(moved[..., 1], 2 * moved[..., 0])


def test_affine_noise_shifts_turns_and_scales_as_far_as_it_says():
    """A blob's centre of mass, before and after: within the documented ranges."""
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(10.0), indexing="ij")
    blob = torch.exp(-((y - 5.5) ** 2 + (x - 4.5) ** 2) / 2)[..., None].expand(12, 10, 2)
    moved = _noisy_images("affine", 0.2, blob.reshape(1, 1, 240).expand(1, 300, 240))[..., 0]
    mass = moved.sum((1, 2))
    down = (moved.sum(2) * torch.arange(12.0)).sum(1) / mass - 5.5
    across = (moved.sum(1) * torch.arange(10.0)).sum(1) / mass - 4.5
    # Half of 0.2 of 12 and 10 pixels, with scale and rotation about the centre on top.
    for shift, most in ((down, 1.2), (across, 1.0)):
        assert most * 0.8 < float(shift.abs().max()) < most * 1.35
        assert abs(float(shift.mean())) < 0.1
    assert float(mass.max() / mass.min()) > 1.2**2


def test_affine_noise_stretches_signals_and_does_not_turn_them():
    """A turn would shorten a signal, an image of one column, by up to its cosine."""
    ramp = torch.arange(41.0).view(1, 1, 41).expand(1, 300, 41)
    zeros = torch.zeros(41)
    space = RowSpace(zeros, zeros, zeros, image_shape=(41, 1))
    out = torch.empty(ramp.shape)
    make_noise("affine", 0.9, space, 0)(ramp, torch.arange(300) * 977, out)
    slopes = out[0].diff(dim=1)[:, 15:26].median(1).values
    inside = slopes[slopes > 0]
    assert 1 / 1.9 - 0.01 < float(inside.min()) < 0.65
    assert 1.6 < float(inside.max()) < 1.91


def test_block_masking_sets_square_blocks_to_zero():
    masked = _noisy_images("block_masking", 0.3) == 0
    assert torch.equal(masked[..., 0], masked[..., 1])
    np.testing.assert_allclose(masked.double().mean(), 0.3, atol=0.02)
    kept = _noisy_images("block_masking", 0.3)[~masked]
    assert torch.equal(kept, IMAGES.view(-1, *IMAGE_SHAPE)[~masked])
    # Blocks of side 10 // 4 = 2: inside the image, a row's runs of masked pixels are even.
    row = masked[0, 5, 2:, 0].tolist()
    for image in masked[..., 0]:
        for row in image:
            edges = np.flatnonzero(np.diff(row.numpy().astype(int)))
            assert len(edges) < 2 or (np.diff(edges) % 2 == 0).all()


def test_noises_of_a_tuple_act_one_after_another():
    both = _noisy_images(("block_masking", "gaussian"), (0.3, 0.1))
    first = _noisy_images("block_masking", 0.3)
    np.testing.assert_allclose((both - first).std(), 0.1, rtol=0.05)
    twice = _noisy_images(("block_masking", "block_masking"), 0.3)
    np.testing.assert_allclose((twice == 0).double().mean(), 1 - 0.7**2, atol=0.03)


def test_masking_takes_all_channels_of_a_pixel():
    masked = _noisy_images("masking", 0.3) == 0
    assert torch.equal(masked[..., 0], masked[..., 1])
    np.testing.assert_allclose(masked.double().mean(), 0.3, atol=0.02)
    neighbors = masked[:, :, 1:, 0].double().flatten(), masked[:, :, :-1, 0].double().flatten()
    assert abs(np.corrcoef(*neighbors)[0, 1]) < 0.02
