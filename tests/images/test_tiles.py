"""Overlapping tiles of images, blended."""

import numpy as np
import pytest

from skae._images.tiles import blend_tiles

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 3), (9, 50), (9, 7)])
def test_blending_tiles_of_the_image_gives_the_image(shape):
    rng = np.random.default_rng(1)
    image = rng.normal(size=shape)
    blended = blend_tiles(image, (9, 7), (4, 3), lambda tiles: tiles)
    np.testing.assert_allclose(blended, image, atol=1e-12)
