"""An image has boxes if, and only if, it is flagged."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from torch import nn

from skae import AutoencoderAnomalyDetector
from skae._model.model import Model

IMAGES = load_digits().images[:300]


@pytest.mark.parametrize("contamination", ["auto", 0, 0.1, 0.5])
@pytest.mark.parametrize("score", ["auto", "nearest", "reconstruction"])
def test_boxes_agree_with_labels(score, contamination):
    pytest.importorskip("skimage")
    detector = AutoencoderAnomalyDetector(
        anomaly_score=score, contamination=contamination, max_epochs=2, random_state=0
    ).fit(IMAGES[:200])
    found, labels = detector.detect(IMAGES), detector.predict(IMAGES)
    np.testing.assert_array_equal([len(boxes) > 0 for boxes in found], labels == -1)
    if contamination == 0.5:
        assert (labels == -1).sum() > 100


def _linear(input_shape, n_components):
    n_pixels = int(np.prod(input_shape))
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(n_pixels, n_components))
    return encoder, nn.Sequential(nn.Linear(n_components, n_pixels), nn.Unflatten(1, input_shape))


def test_convolutions_are_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"network='conv' finds no outliers: .* network='auto'"):
        AutoencoderAnomalyDetector(network="conv").fit(IMAGES[:200])


def test_boxes_agree_with_labels_of_a_network_of_ones_own():
    pytest.importorskip("skimage")
    detector = AutoencoderAnomalyDetector(
        network=_linear, contamination=0.3, max_epochs=2, random_state=0
    ).fit(IMAGES[:200])
    found, labels = detector.detect(IMAGES), detector.predict(IMAGES)
    np.testing.assert_array_equal([len(boxes) > 0 for boxes in found], labels == -1)


@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_boxes_hold_the_highest_pixel(smoothing):
    pytest.importorskip("skimage")
    detector = AutoencoderAnomalyDetector(contamination=0.2, max_epochs=2, random_state=0)
    detector.fit(IMAGES[:200])
    maps = detector.anomaly_map(IMAGES, smoothing=smoothing)
    for anomaly_map, boxes in zip(maps, detector.detect(IMAGES, smoothing=smoothing), strict=True):
        if len(boxes):
            assert boxes[0, 4] == pytest.approx(anomaly_map.max())
            y, x = np.unravel_index(anomaly_map.argmax(), (8, 8))
            assert boxes[0, 0] <= y < boxes[0, 2]
            assert boxes[0, 1] <= x < boxes[0, 3]


@pytest.mark.parametrize("kind", ["auto", "nearest", "reconstruction"])
def test_boxes_take_one_pass_through_the_networks(kind, monkeypatch):
    pytest.importorskip("skimage")
    images = np.random.default_rng(0).random((40, 8, 8))
    detector = AutoencoderAnomalyDetector(
        anomaly_score=kind, contamination=0.2, max_epochs=1, random_state=0
    ).fit(images)
    passes, original = [], Model.codes_of
    monkeypatch.setattr(
        Model, "codes_of", lambda self, batch: passes.append(batch) or original(self, batch)
    )
    found = detector.detect(images)
    assert len(passes) == 1
    flagged = detector.predict(images) == -1
    np.testing.assert_array_equal([len(boxes) > 0 for boxes in found], flagged)
