"""Segmentation and displays of whatever holds images, and of sparse latents."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from skae import AutoencoderTransformer, DenoisingAutoencoder, VariationalAutoencoder
from skae.segmentation import PixelClassifier

IMAGES = load_digits().images[:12]
MASKS = np.where(IMAGES > 8, 2, 1)
FEW = {"max_epochs": 1, "random_state": 0, "n_components": 3, "hidden_layer_sizes": (8,)}
KINDS = {
    "lists": lambda a: a.tolist(),
    "list of arrays": list,
    "tuple of lists of rows": lambda a: tuple([*map(list, image)] for image in a),
    "tensor": lambda a: torch.tensor(a),
    "list of tensors": lambda a: [torch.tensor(image) for image in a],
}


def _mapped(folder, array):
    np.save(folder / "images.npy", array)
    return np.load(folder / "images.npy", mmap_mode="r")


@pytest.fixture(scope="module")
def expected():
    model = PixelClassifier(DenoisingAutoencoder(patch_size=4, **FEW), random_state=0)
    return model.fit(IMAGES, MASKS)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[pytest.mark.slow] * (kind != "lists"))
        for kind in (*KINDS, "memory map")
    ],
)
def test_pixels_of_images_of_any_kind_are_classified(tmp_path, expected, kind):
    if kind == "memory map":
        images, masks = _mapped(tmp_path, IMAGES), MASKS
    else:
        images, masks = KINDS[kind](IMAGES), KINDS[kind](MASKS)
    model = PixelClassifier(DenoisingAutoencoder(patch_size=4, **FEW), random_state=0)
    model.fit(images, masks)
    np.testing.assert_array_equal(model.predict(images), expected.predict(IMAGES))
    np.testing.assert_array_equal(model.predict_proba(images), expected.predict_proba(IMAGES))
    weights = np.arange(12.0)
    for given in (weights, weights.tolist(), torch.tensor(weights)):
        found = model.score(images, masks, sample_weight=given)
        assert found == expected.score(IMAGES, MASKS, sample_weight=weights)


@pytest.mark.parametrize(
    "images", [IMAGES[0].tolist(), [1.0, 2.0], [], IMAGES[:0], 3.0], ids=lambda x: str(np.shape(x))
)
def test_what_is_no_images_is_refused(expected, images):
    for call in (expected.predict, expected.predict_proba):
        with pytest.raises(ValueError, match="X must hold images"):
            call(images)
    for call in (expected.fit, expected.score):
        with pytest.raises(ValueError, match="X must hold images"):
            call(images, MASKS)


@pytest.mark.parametrize("output", ["default", "pandas"])
@pytest.mark.parametrize(
    "model",
    [
        AutoencoderTransformer(sparse_output=True, n_nonzero_coefs=2, **FEW),
        AutoencoderTransformer(sparse_output=True, **FEW),
        DenoisingAutoencoder(sparse_output=True, **FEW),
        VariationalAutoencoder(sparse_output=True, **FEW),
    ],
    ids=["sparse", "plain", "denoiser", "variational"],
)
def test_walks_of_sparse_latents(model, output):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    from skae.inspection import LatentWalkDisplay

    rows = IMAGES.reshape(12, -1)
    dense = AutoencoderTransformer.set_params(model, sparse_output=False).fit(rows)
    expected = LatentWalkDisplay.from_estimator(dense, rows)
    if output == "pandas":
        pytest.importorskip("pandas")
        display = LatentWalkDisplay.from_estimator(dense.set_output(transform=output), rows)
        dense.set_output(transform="default")
    else:
        display = LatentWalkDisplay.from_estimator(dense.set_params(sparse_output=True), rows)
    np.testing.assert_array_equal(display.walks, expected.walks)
    np.testing.assert_array_equal(display.latents, expected.latents)
    pyplot.close("all")
