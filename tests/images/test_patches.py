"""Random patches to train on."""

import numpy as np

from skae._images.patches import draw_patches


def test_patches_are_parts_of_their_images_from_everywhere():
    images = np.arange(2 * 20 * 30).reshape(2, 20, 30)
    patches, sources = draw_patches(images, (4, 6), seed=0)
    assert len(patches) == 2 * (8 * 20 * 30 // 24)
    image, place = np.divmod(patches, 600)
    assert (image == sources[:, None, None]).all()
    assert (place - place[:, :1, :1] == (30 * np.arange(4)[:, None] + np.arange(6))).all()
    tops, lefts = np.divmod(place[:, 0, 0], 30)
    assert (tops.min(), tops.max(), lefts.min(), lefts.max()) == (0, 16, 0, 24)
