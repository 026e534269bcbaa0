"""Images that lack what images have: texture, a signal, the units of the fit."""

import numpy as np
import pytest
from sklearn.base import clone

from skae import AutoencoderAnomalyDetector

RNG = np.random.default_rng(0)
DETECTOR = AutoencoderAnomalyDetector(
    n_components=6, hidden_layer_sizes=(32,), max_epochs=5, random_state=0
)


def _textured(n, channels=()):
    """Bright and dark images of a moving wave with noise, 0 to 255."""
    level = RNG.uniform(40, 200, size=(n, 1, 1, *channels))
    phase = RNG.uniform(0, 6, size=(n, 1, 1, *channels))
    wave = 20 * np.sin(np.arange(32).reshape(1, 1, 32, *(1 for _ in channels)) / 3 + phase)
    noise = RNG.normal(scale=8, size=(n, 32, 32, *channels))
    return (level + wave + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module", params=[(), (3,)], ids=["gray", "color"])
def fitted(request):
    images = _textured(150, request.param)
    return clone(DETECTOR).fit(images), images, _textured(60, request.param)


@pytest.mark.parametrize("level", [0, 1, 64, 128, 255])
def test_constant_images_are_unusual(fitted, level):
    detector, images, _ = fitted
    assert detector.predict(np.full_like(images[:3], level)).tolist() == [-1, -1, -1]


def test_nearly_constant_images_are_unusual(fitted):
    detector, images, _ = fitted
    noise = RNG.integers(0, 2, size=images[:3].shape).astype(np.uint8)
    with pytest.warns(UserWarning, match="values of X span 1"):
        assert detector.predict(100 + noise).tolist() == [-1, -1, -1]


def test_blurred_images_are_unusual(fitted):
    detector, _, new = fitted
    flat = new.astype(float)
    for axis in (1, 2):
        flat = (flat + np.roll(flat, 1, axis) + np.roll(flat, -1, axis)) / 3
    for axis in (1, 2):
        flat = (flat + np.roll(flat, 1, axis) + np.roll(flat, -1, axis)) / 3
    assert (detector.predict(flat) == -1).mean() > 0.9


def test_usual_images_are_normal(fitted):
    detector, _, new = fitted
    assert (detector.predict(new) == -1).mean() < 0.15


@pytest.mark.parametrize("factor", [1 / 255, 100.0])
def test_images_in_other_units_are_unusual_and_warn(fitted, factor):
    detector, _, new = fitted
    with pytest.warns(UserWarning, match="values of X span .*units of the fit"):
        labels = detector.predict(new * factor)
    assert (labels == -1).all()


def test_other_brightness_does_not_warn(fitted):
    detector, _, new = fitted
    detector.predict(new * 0.5)
    detector.predict(np.zeros_like(new))
