"""Missing pixels, filled from those around them."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from skae._networks.holes import fill_holes

_RNG = np.random.default_rng(0)
SMOOTH = torch.from_numpy(gaussian_filter(_RNG.normal(size=(2, 3, 41, 64)), (0, 0, 4, 4)))


def test_observed_pixels_stay_as_they_are():
    rng = np.random.default_rng(1)
    holes = SMOOTH.masked_fill(torch.from_numpy(rng.random(SMOOTH.shape) < 0.4), torch.nan)
    filled, observed = fill_holes(holes)
    assert torch.equal(observed, ~holes.isnan())
    assert torch.equal(filled[observed], holes[observed])
    whole, observed = fill_holes(SMOOTH)
    assert torch.equal(whole, SMOOTH)
    assert bool(observed.all())


def test_scattered_pixels_of_a_smooth_image_are_found():
    rng = np.random.default_rng(1)
    missing = torch.from_numpy(rng.random(SMOOTH.shape) < 0.5)
    filled, _ = fill_holes(SMOOTH.masked_fill(missing, torch.nan))
    error = (filled - SMOOTH)[missing].square().mean() / SMOOTH.var()
    assert float(error) < 3e-3


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (5, 1), (33, 18)])
def test_plain_images_are_filled_plain_whatever_the_hole(shape):
    plain = torch.full((1, 2, *shape), 3.0)
    holes = plain.clone()
    holes[..., 1:, :] = torch.nan
    holes[..., 1:] = torch.nan
    torch.testing.assert_close(fill_holes(holes)[0], plain)


def test_large_holes_stay_between_the_values_around_them():
    image = torch.linspace(0.0, 1.0, 100)[:, None].expand(1, 1, 100, 80).clone()
    holes = image.clone()
    holes[..., 10:90, 10:70] = torch.nan
    filled = fill_holes(holes)[0]
    assert -0.01 < float(filled.min()) < float(filled.max()) < 1.01
    assert float((filled - image).abs().max()) < 0.3


def test_a_channel_that_is_missing_becomes_zero():
    image = SMOOTH.clone()
    image[0, 1] = torch.nan
    filled, _ = fill_holes(image)
    assert bool((filled[0, 1] == 0).all())
    assert torch.equal(filled[1], SMOOTH[1])
