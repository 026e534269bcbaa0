"""Features of every pixel."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.linear_model import LogisticRegression

from skae import AutoencoderTransformer, DenoisingAutoencoder
from skae._images.pixel_features import _curvatures
from skae.segmentation import PixelClassifier

RNG = np.random.default_rng(0)

Y, X = np.mgrid[:24, :32]

# Waves of varying phase, and the same with a spot on them.
NORMAL = np.sin(X / 3 + RNG.uniform(0, 6, size=(200, 1, 1))) + RNG.normal(0, 0.1, (200, 24, 32))

CONV = {"network": "conv", "hidden_layer_sizes": (8, 8), "max_epochs": 3, "random_state": 0}


def test_pixel_features_start_with_the_scaled_image():
    autoencoder = AutoencoderTransformer(**CONV, n_components=4, scaling=None).fit(NORMAL)
    features = autoencoder.pixel_features(NORMAL[:3])
    assert features.shape == (3, 24, 32, 1 + 8 + 8)
    np.testing.assert_allclose(features[..., 0], NORMAL[:3], rtol=1e-6)
    assert features.std((0, 1, 2)).min() > 0
    one = autoencoder.pixel_features(NORMAL[1:2])[0]
    np.testing.assert_allclose(one, features[1], atol=1e-5)


def test_pixel_features_of_patches_are_those_of_the_whole_image():
    rng = np.random.default_rng(1)
    photo = gaussian_filter(rng.normal(size=(300, 300)), 2)
    unet = DenoisingAutoencoder(
        **CONV | {"network": "unet"}, patch_size=16, noise="gaussian", scaling=None
    ).fit(photo[None, :60, :60])
    features = unet.pixel_features(photo[None])[0]
    assert features.shape == (300, 300, 1 + 8 + 8 + 8)
    # Two tiles of 256 pixels; far from their common edges they are one.
    np.testing.assert_allclose(features[..., 0], photo, atol=1e-6)
    corner = unet.pixel_features(photo[None, :200, :200])[0]
    np.testing.assert_allclose(corner[:40, :40], features[:40, :40], atol=1e-4)


def test_pixel_features_of_patches_are_their_latents_at_every_scale():
    autoencoder = DenoisingAutoencoder(patch_size=(4, 5), n_components=3, max_epochs=2)
    images = NORMAL[:5, :, :20].astype(np.float32)
    features = autoencoder.fit(images).pixel_features(images, scales=(1, 2))
    # Latents, their spreads, the rebuilt pixel and two pairs of curvatures.
    assert features.shape == (5, 24, 20, 1 + 2 * (3 + 3 + 1 + 2 * 2))
    np.testing.assert_array_equal(features[..., 0], images)
    # The patch around pixel (10, 7): rows 8 to 11, columns 5 to 9.
    patches = images[:, 8:12, 5:10]
    latents, rebuilt = autoencoder.transform(patches), autoencoder.reconstruct(patches)
    np.testing.assert_allclose(features[:, 10, 7, 1:4], latents, atol=1e-5)
    np.testing.assert_allclose(features[:, 10, 7, 7], rebuilt[:, 2, 2], atol=1e-5)
    # Around a pixel at the edge the image is reflected.
    corner = np.pad(images, ((0, 0), (2, 1), (2, 2)), mode="symmetric")[:, :4, :5]
    np.testing.assert_allclose(features[:, 0, 0, 1:4], autoencoder.transform(corner), atol=1e-5)
    # A plain image is the same at all scales.
    plain = autoencoder.pixel_features(np.full((1, 9, 11), 0.3, dtype=np.float32), scales=(1, 3))
    np.testing.assert_allclose(plain[..., 1:12], plain[..., 12:], atol=1e-2)
    # And it has no spread, up to the root of rounding, and no curvature.
    np.testing.assert_allclose(plain[..., [*range(4, 7), *range(8, 12)]], 0.0, atol=1e-2)


@pytest.mark.parametrize("angle", [0.0, 0.5, 2.0])
def test_a_line_is_curved_whatever_its_direction(angle):
    across = np.cos(angle) * (Y - 12) + np.sin(angle) * (X - 16)
    line = np.exp(-(across**2) / 8)[..., None]
    # The curvature of a Gaussian of variance 4, smoothed by one of variance 1.
    largest, smallest = _curvatures(line, 1.0)[12, 16]
    assert smallest == pytest.approx(-2 / 5**1.5, rel=0.02)
    assert largest == pytest.approx(0.0, abs=1e-3)


def test_pixel_features_tell_a_texture_whatever_its_phase():
    images = np.random.default_rng(0).normal(size=(4, 40, 40)).astype(np.float32)
    images[:, :, 20:] *= 3
    autoencoder = DenoisingAutoencoder(patch_size=4, n_components=3, max_epochs=2, random_state=0)
    features = autoencoder.fit(images).pixel_features(images, scales=(1,))
    latents = features[..., 1:4]
    expected = [latents[..., part, :].std(axis=(0, 1, 2)) for part in (np.s_[4:14], np.s_[26:36])]
    for i, part in enumerate((np.s_[4:14], np.s_[26:36])):
        found = features[..., part, 4:7].mean(axis=(0, 1, 2))
        np.testing.assert_allclose(found, expected[i], rtol=0.2)


def test_pixel_features_need_convolutions_and_images():
    autoencoder = AutoencoderTransformer(max_epochs=1).fit(NORMAL)
    with pytest.raises(ValueError, match="patch_size, or with network='conv'"):
        autoencoder.pixel_features(NORMAL)
    with pytest.raises(ValueError, match="needs an array of images"):
        autoencoder.pixel_features(NORMAL.reshape(200, -1))


@pytest.fixture(scope="module")
def classifier():
    autoencoder = DenoisingAutoencoder(patch_size=4, n_components=2, max_epochs=1, random_state=0)
    masks = 1 + (NORMAL[:3] > 0)
    return PixelClassifier(autoencoder, LogisticRegression()).fit(NORMAL[:3], masks)


def test_unusable_scales_and_weights_are_refused(classifier):
    for scales in ((0,), (1.5,), (-1,)):
        with pytest.raises(ValueError, match="scales="):
            classifier.autoencoder_.pixel_features(NORMAL[:1], scales=scales)
    with pytest.raises(ValueError, match="weight for each of the 3 images"):
        classifier.score(NORMAL[:3], np.ones((3, 24, 32), dtype=int), sample_weight=np.ones(2))
