"""Files of every released format load for ever, and predict what they did when they were written.

``python tests/files/test_formats.py`` writes those of today's format into the folder ``formats``.
Once a release has a format its files stay as they are.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderImputer,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
    io,
)
from skae.codec import LatentCodec

FORMATS = Path(__file__).parent / "formats"
FILES = sorted(FORMATS.glob("*/*.safetensors"))
X, KINDS = load_iris(return_X_y=True)
IMAGES = X[:144].reshape(36, 4, 4)
HOLES = np.where(np.arange(X.size).reshape(X.shape) % 7 == 0, np.nan, X)
SETTINGS = {"n_components": 2, "max_epochs": 3, "random_state": 0, "device": "cpu"}
DENSE = {**SETTINGS, "hidden_layer_sizes": (4,)}

# What is stored: an estimator, what it is fitted on, and a method whose results are kept.
STORED = {
    "transformer": (AutoencoderTransformer(**DENSE), X, "reconstruct"),
    "sparse": (AutoencoderTransformer(**DENSE, n_nonzero_coefs=1, init="random"), X, "transform"),
    "categories": (
        AutoencoderTransformer(**DENSE, categorical_features=[4]),
        np.column_stack([X, KINDS]),
        "reconstruct",
    ),
    "denoiser": (DenoisingAutoencoder(**DENSE), HOLES, "impute"),
    "unet": (
        DenoisingAutoencoder(
            **SETTINGS | {"n_components": "auto"}, network="unet", hidden_layer_sizes=(2,)
        ),
        IMAGES,
        "denoise",
    ),
    "imputer": (AutoencoderImputer(**DENSE, add_indicator=True), HOLES, "transform"),
    "variational": (VariationalAutoencoder(**DENSE), X, "score_samples"),
    "detector": (AutoencoderAnomalyDetector(**DENSE), X, "decision_function"),
    "image_detector": (AutoencoderAnomalyDetector(**DENSE), IMAGES, "score_samples"),
    "codec": (LatentCodec(AutoencoderTransformer(**DENSE), step=1.0, random_state=0), X, "coded"),
}


def result(estimator, rows, method):
    """What is kept of a stored estimator."""
    if method == "coded":
        return estimator.decode(estimator.encode(rows))
    return getattr(estimator, method)(rows)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_file_of_a_released_format_predicts_what_it_did(path):
    if path.stem == "codec":
        pytest.importorskip("constriction")
    _, rows, method = STORED[path.stem]
    then = json.loads((path.parent / "results.json").read_text(encoding="utf-8"))[path.stem]
    now = result(io.load(path), rows[:20], method)
    np.testing.assert_allclose(now, then, rtol=1e-4, atol=1e-4)


def test_every_estimator_is_stored_in_every_format():
    assert {path.parent.name for path in FILES} == {str(n + 1) for n in range(io.FORMAT)}
    for folder in FORMATS.iterdir():
        assert {path.stem for path in folder.glob("*.safetensors")} == set(STORED)


if __name__ == "__main__":
    folder, results = FORMATS / str(io.FORMAT), {}
    for name, (estimator, rows, method) in STORED.items():
        estimator.fit(rows)
        io.save(estimator, folder / f"{name}.safetensors", for_training=False)
        results[name] = np.asarray(result(estimator, rows[:20], method), float).round(6).tolist()
    (folder / "results.json").write_text(json.dumps(results) + "\n", encoding="utf-8")
