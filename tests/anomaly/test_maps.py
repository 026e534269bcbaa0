"""Maps of losses, and boxes around what is anomalous."""

import builtins

import numpy as np
import pytest
from sklearn.base import clone

from skae import AutoencoderAnomalyDetector

RNG = np.random.default_rng(0)

Y, X = np.mgrid[:24, :32]

# Waves of varying phase, and the same with a spot on them.
NORMAL = np.sin(X / 3 + RNG.uniform(0, 6, size=(200, 1, 1))) + RNG.normal(0, 0.1, (200, 24, 32))

SPOTTED = NORMAL[:20].copy()
SPOTTED[:, 14:18, 5:9] += 2.0

DETECTOR = AutoencoderAnomalyDetector(
    anomaly_score="reconstruction",
    n_components=4,
    hidden_layer_sizes=(64,),
    max_epochs=20,
    random_state=0,
)


@pytest.fixture(scope="module")
def detector():
    return clone(DETECTOR).fit(NORMAL)


@pytest.mark.parametrize("smoothing", [None, 0.0, 2.0])
def test_mean_of_a_map_is_the_score(detector, smoothing):
    maps = detector.anomaly_map(NORMAL, smoothing=smoothing)
    assert maps.shape == NORMAL.shape
    np.testing.assert_allclose(maps.mean((1, 2)), -detector.score_samples(NORMAL), rtol=1e-3)


def test_maps_of_color_images_add_the_channels_up():
    images = np.stack([NORMAL, -NORMAL, NORMAL * 2], axis=-1)
    detector = clone(DETECTOR).set_params(max_epochs=2).fit(images)
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


def test_unusable_settings_of_maps_are_refused(detector):
    for smoothing in (-1.0, np.nan):
        with pytest.raises(ValueError, match="smoothing="):
            detector.anomaly_map(NORMAL[:2], smoothing=smoothing)
    with pytest.raises(ValueError, match="threshold=nan"):
        detector.detect(NORMAL[:2], threshold=np.nan)
