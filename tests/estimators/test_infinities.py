"""An infinite value is an error, in every method and wherever it is."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_digits

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)

X = load_digits().data[:40]
FEW = {"max_epochs": 1, "random_state": 0, "n_components": 3, "hidden_layer_sizes": (8,)}
METHODS = ["transform", "reconstruct", "denoise", "impute", "score_samples", "score",
           "fit_density", "predict", "decision_function", "outlier_probability",
           "feature_contributions", "calibrate", "anomaly_map", "detect", "fit",
           "partial_fit", "fit_transform", "fit_predict"]  # fmt: skip
WHERE = {
    "a row": lambda bad: bad,
    "beside a missing cell": lambda bad: _with(bad, np.nan, 0, 5),
    "beside a row with a missing cell": lambda bad: _with(bad, np.nan, 2, 5),
    "in the last row": lambda bad: bad[::-1].copy(),
    "both signs": lambda bad: _with(bad, -np.inf, 0, 6),
}


def _with(values, value, row, cell):
    values = values.copy()
    values.reshape(len(values), -1)[row, cell] = value
    return values


BAD = _with(X, np.inf, 0, 3)


def _calls(model):
    return {name: getattr(model, name) for name in METHODS if hasattr(model, name)}


def _refuses(call, *arguments):
    with pytest.raises(ValueError, match="infinity"):
        call(*arguments)


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("images", [False, True], ids=["rows", "images"])
@pytest.mark.parametrize(
    "kind",
    [
        AutoencoderTransformer,
        DenoisingAutoencoder,
        VariationalAutoencoder,
        AutoencoderAnomalyDetector,
    ],
)
def test_every_method_refuses_infinities(kind, images, where):
    shape = (-1, 8, 8) if images else (-1, 64)
    bad = WHERE[where](BAD).reshape(shape)
    model = kind(**FEW).fit(X.reshape(shape))
    for name, call in _calls(model).items():
        if name in ("anomaly_map", "detect") and not images:
            continue
        if name == "detect":
            pytest.importorskip("skimage")
        _refuses(call, bad)
    if hasattr(model, "interpolate"):
        _refuses(model.interpolate, bad, bad)
        _refuses(model.interpolate, X.reshape(shape), bad)


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize(
    "convert", [np.float32, np.float16, sparse.csr_array, list], ids=lambda c: c.__name__
)
def test_missing_cells_are_not_filled_in_beside_infinities(where, convert):
    bad = WHERE[where](BAD)
    bad = bad.astype(convert) if convert in (np.float32, np.float16) else convert(bad)
    model = DenoisingAutoencoder(**FEW).fit(X)
    mask = np.zeros(X.shape, dtype=bool)
    for covered in (False, True):
        mask[:, 3] = covered
        _refuses(model.inpaint, bad, mask)
    _refuses(model.impute, bad)


@pytest.mark.parametrize("network", ["mlp", "unet"])
@pytest.mark.parametrize("where", WHERE)
def test_a_model_of_patches_refuses_infinities(network, where):
    options = FEW | {"patch_size": 4, "network": network}
    if network == "unet":
        options |= {"n_components": "auto", "image_shape": None}
    images = X.reshape(-1, 8, 8)
    bad = WHERE[where](BAD).reshape(images.shape)
    model = DenoisingAutoencoder(**options).fit(images)
    mask = np.zeros(images.shape, dtype=bool)
    for name in ("reconstruct", "denoise", "impute", "fit", "partial_fit"):
        _refuses(getattr(model, name), bad)
    _refuses(model.inpaint, bad, mask)
    _refuses(model.pixel_features, bad, (1, 2))
    _refuses(model.pixel_features, bad, (2,))


def test_a_pixel_that_no_patch_covers_is_seen(tmp_path):
    images = np.random.default_rng(0).normal(size=(1, 40, 40))
    np.save(tmp_path / "images.npy", images)
    for row, column in ((0, 0), (39, 39), (20, 20)):
        bad = images.copy()
        bad[0, row, column] = np.inf
        np.save(tmp_path / "bad.npy", bad)
        options = FEW | {"patch_size": 39}
        _refuses(DenoisingAutoencoder(**options).fit, bad)
        _refuses(DenoisingAutoencoder(**options).fit, np.load(tmp_path / "bad.npy", mmap_mode="r"))


@pytest.mark.parametrize("level", [np.inf, np.nan, -1.0, (0.1, np.inf)], ids=str)
def test_levels_of_noise_are_finite(level):
    noise = ("gaussian", "gaussian") if isinstance(level, tuple) else "gaussian"
    with pytest.raises(ValueError, match="noise_level"):
        DenoisingAutoencoder(noise=noise, noise_level=level, **FEW).fit(X)
