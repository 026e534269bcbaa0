"""Noise: rates and values as documented, the same for equal rows."""

import numpy as np
import pytest
import torch

from skae.noise import make_noise
from skae.randomness import RandomTable

LOW, HIGH = torch.full((40,), -3.0), torch.full((40,), 5.0)


def _noisy(kind, level, clean=None, seed=0):
    clean = torch.randn(1, 500, 40, generator=torch.Generator().manual_seed(1)).clamp(-2.9, 2.9)
    offsets = torch.randint(RandomTable.SIZE, (500,), generator=torch.Generator().manual_seed(2))
    out = torch.empty_like(clean)
    make_noise(kind, level, LOW, HIGH, seed)(clean, offsets, out)
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
