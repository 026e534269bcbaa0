"""Maps of anomalies, boxes around them, features of pixels and what is classified by them."""

import builtins

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer, DenoisingAutoencoder
from skae._images.patches import blend_tiles, draw_patches
from skae._images.maps_tmp import _curvatures
from skae.segmentation import PixelClassifier

RNG = np.random.default_rng(0)
Y, X = np.mgrid[:24, :32]
# Waves of varying phase, and the same with a spot on them.
NORMAL = np.sin(X / 3 + RNG.uniform(0, 6, size=(200, 1, 1))) + RNG.normal(0, 0.1, (200, 24, 32))
SPOTTED = NORMAL[:20].copy()
SPOTTED[:, 14:18, 5:9] += 2.0
DETECTOR = AutoencoderAnomalyDetector(
    anomaly_score="reconstruction", n_components=4, max_epochs=30, random_state=0
)
CONV = {"network": "conv", "hidden_layer_sizes": (8, 8), "max_epochs": 3, "random_state": 0}


@pytest.fixture(scope="module")
def detector():
    return clone(DETECTOR).fit(NORMAL)


@pytest.mark.parametrize("smoothing", [None, 0.0, 2.0])
def test_mean_of_a_map_is_the_score(detector, smoothing):
    maps = detector.anomaly_map(NORMAL, smoothing=smoothing)
    assert maps.shape == NORMAL.shape
    np.testing.assert_allclose(maps.mean((1, 2)), -detector.score_samples(NORMAL), rtol=1e-3)


def test_maps_of_colour_images_add_the_channels_up():
    images = np.stack([NORMAL, -NORMAL, NORMAL * 2], axis=-1)
    detector = clone(DETECTOR).set_params(max_epochs=5).fit(images)
    maps = detector.anomaly_map(images, smoothing=0.0)
    contributions = detector.feature_contributions(images)
    np.testing.assert_allclose(maps, contributions.sum(-1) * 24 * 32, rtol=1e-5)


def test_maps_are_highest_at_the_defect(detector):
    maps = detector.anomaly_map(SPOTTED)
    peaks = [np.unravel_index(anomaly_map.argmax(), (24, 32)) for anomaly_map in maps]
    assert all(13 <= y <= 18 and 4 <= x <= 9 for y, x in peaks)


def test_detect_boxes_the_defect_and_leaves_normal_images_alone(detector):
    pytest.importorskip("skimage")
    found = detector.detect(np.concatenate([SPOTTED, NORMAL[20:]]))
    assert len(found) == 200
    assert np.mean([len(boxes) == 0 for boxes in found[20:]]) > 0.95
    for boxes in found[:20]:
        top, left, bottom, right, score = boxes[0]
        assert top <= 15
        assert bottom >= 17
        assert left <= 6
        assert right >= 8
        assert bottom - top < 12
        assert right - left < 12
        assert (boxes[:, 4] <= score).all()


def test_detect_at_a_threshold_of_the_user(detector):
    pytest.importorskip("skimage")
    maps = detector.anomaly_map(SPOTTED[:1])
    assert detector.detect(SPOTTED[:1], threshold=maps.max())[0].shape == (0, 5)
    everything = detector.detect(SPOTTED[:1], threshold=-1.0)[0]
    np.testing.assert_allclose(everything, [[0, 0, 24, 32, maps.max()]])


def test_detect_without_scikit_image_names_the_extra(detector, monkeypatch):
    original = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("skimage"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"skae\[image\]"):
        detector.detect(SPOTTED)


def test_maps_need_images(detector):
    with pytest.raises(ValueError, match="anomaly_map needs an array of images"):
        detector.anomaly_map(NORMAL.reshape(200, -1))


def test_pixel_features_start_with_the_scaled_image():
    autoencoder = AutoencoderTransformer(**CONV, n_components=4, scaling=None).fit(NORMAL)
    features = autoencoder.pixel_features(NORMAL[:3])
    assert features.shape == (3, 24, 32, 1 + 8 + 8)
    np.testing.assert_allclose(features[..., 0], NORMAL[:3], rtol=1e-6)
    assert features.std((0, 1, 2)).min() > 0
    one = autoencoder.pixel_features(NORMAL[1:2])[0]
    np.testing.assert_allclose(one, features[1], atol=1e-5)


def test_pixel_features_of_patches_are_those_of_the_whole_image():
    photo = gaussian_filter(RNG.normal(size=(300, 300)), 2)
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


def test_pixels_are_classified_from_a_few_labels():
    masks = np.zeros(SPOTTED.shape, dtype=int)
    spot = np.zeros(SPOTTED.shape, dtype=int) + 3
    spot[:, 14:18, 5:9] = 7
    masks[:4] = spot[:4]
    masks[:, :, ::2] = 0
    autoencoder = AutoencoderTransformer(**CONV, n_components=4)
    for linear in (None, make_pipeline(StandardScaler(), LogisticRegression())):
        model = PixelClassifier(autoencoder, linear, n_pixels=1000, random_state=0)
        model.fit(SPOTTED, masks)
        assert model.classes_.tolist() == [3, 7]
        labels = model.predict(SPOTTED[10:])
        assert np.mean(labels[:, 14:18, 5:9] == 7) > 0.7
        assert np.mean(labels == spot[10:]) > 0.97
        probabilities = model.predict_proba(SPOTTED[10:12])
        assert probabilities.shape == (2, 24, 32, 2)
        np.testing.assert_allclose(probabilities.sum(-1), 1.0)
        np.testing.assert_array_equal(model.classes_[probabilities.argmax(-1)], labels[:2])
        assert model.score(SPOTTED, masks) > 0.97
    assert not hasattr(autoencoder, "n_features_in_"), "it is cloned"


def test_a_fitted_autoencoder_can_be_kept():
    frozen = pytest.importorskip("sklearn.frozen")
    autoencoder = AutoencoderTransformer(**CONV, n_components=4).fit(NORMAL)
    masks = np.ones(NORMAL.shape, dtype=int)
    masks[:, 12:] = 2
    model = PixelClassifier(frozen.FrozenEstimator(autoencoder), n_pixels=200, random_state=0)
    model.fit(NORMAL, masks)
    assert model.autoencoder_.estimator is autoencoder


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        (np.ones((200, 24, 31), dtype=int), r"\(200, 24, 31\)"),
        (np.ones((200, 24, 32)), "integer label"),
        (np.zeros((200, 24, 32), dtype=int), "other numbers than 0"),
    ],
)
def test_unusable_masks_are_refused(masks, words):
    with pytest.raises(ValueError, match=words):
        PixelClassifier(AutoencoderTransformer(**CONV)).fit(NORMAL, masks)


@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 3), (9, 50), (9, 7)])
def test_blending_tiles_of_the_image_gives_the_image(shape):
    image = RNG.normal(size=shape)
    blended = blend_tiles(image, (9, 7), (4, 3), lambda tiles: tiles)
    np.testing.assert_allclose(blended, image, atol=1e-12)


def test_patches_are_parts_of_their_images_from_everywhere():
    images = np.arange(2 * 20 * 30).reshape(2, 20, 30)
    patches, sources = draw_patches(images, (4, 6), seed=0)
    assert len(patches) == 2 * (8 * 20 * 30 // 24)
    image, place = np.divmod(patches, 600)
    assert (image == sources[:, None, None]).all()
    assert (place - place[:, :1, :1] == (30 * np.arange(4)[:, None] + np.arange(6))).all()
    tops, lefts = np.divmod(place[:, 0, 0], 30)
    assert (tops.min(), tops.max(), lefts.min(), lefts.max()) == (0, 16, 0, 24)


def test_unusable_settings_of_maps_are_refused(detector):
    for smoothing in (-1.0, np.nan):
        with pytest.raises(ValueError, match="smoothing="):
            detector.anomaly_map(NORMAL[:2], smoothing=smoothing)
    with pytest.raises(ValueError, match="threshold=nan"):
        detector.detect(NORMAL[:2], threshold=np.nan)


@pytest.fixture(scope="module")
def classifier():
    autoencoder = DenoisingAutoencoder(patch_size=4, n_components=2, max_epochs=1, random_state=0)
    masks = 1 + (NORMAL[:3] > 0)
    return PixelClassifier(autoencoder, LogisticRegression()).fit(NORMAL[:3], masks)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([np.zeros((8, 9)), np.zeros((7, 9))], "different sizes"),
        (np.zeros((8, 9)), "must hold images"),
        (np.zeros((0, 8, 9)), "at least one"),
        (np.zeros((2, 8, 9, 1, 1)), "dim 5"),
        (np.zeros((2, 8, 9, 3)), "3 channels"),
    ],
)
def test_unusable_images_are_not_classified(classifier, images, words):
    with pytest.raises(ValueError, match=words):
        classifier.predict(images)
    with pytest.raises(ValueError, match=words):
        classifier.predict_proba(images)


def test_unusable_scales_and_weights_are_refused(classifier):
    for scales in ((0,), (1.5,), (-1,)):
        with pytest.raises(ValueError, match="scales="):
            classifier.autoencoder_.pixel_features(NORMAL[:1], scales=scales)
    with pytest.raises(ValueError, match="weight for each of the 3 images"):
        classifier.score(NORMAL[:3], np.ones((3, 24, 32), dtype=int), sample_weight=np.ones(2))
