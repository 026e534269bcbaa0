"""PixelClassifier: every pixel labeled from a few labels."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, DenoisingAutoencoder
from skae.segmentation import PixelClassifier

RNG = np.random.default_rng(0)

Y, X = np.mgrid[:24, :32]

# Waves of varying phase, and the same with a spot on them.
NORMAL = np.sin(X / 3 + RNG.uniform(0, 6, size=(200, 1, 1))) + RNG.normal(0, 0.1, (200, 24, 32))

SPOTTED = NORMAL[:20].copy()
SPOTTED[:, 14:18, 5:9] += 2.0

CONV = {"network": "conv", "hidden_layer_sizes": (8, 8), "max_epochs": 3, "random_state": 0}


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
