"""A grid over any parameter gives what GridSearchCV gives, in float64, by value."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits, load_wine
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)
from skae.model_selection import AutoencoderSearchCV

WINE, LABELS = load_wine(return_X_y=True)
IMAGES = load_digits().images[:60]
HOLES = np.where(np.random.default_rng(0).random(WINE.shape) < 0.1, np.nan, WINE)
SMALL = {
    "hidden_layer_sizes": (6,),
    "max_epochs": 3,
    "batch_size": 16,
    "precision": "float64",
    "random_state": 0,
}

# Two values of every parameter, such that each changes what is trained.
GRIDS = {
    "n_components": [1, 3],
    "hidden_layer_sizes": [(4,), (6, 4)],
    "activation": ["silu", "tanh"],
    "loss": ["squared_error", "huber", "log_loss"],
    "scaling": ["auto", "minmax", "robust", None],
    "output_bounds": [None, "nonnegative"],
    "normalization": ["auto", "batch", "layer"],
    "dropout": [0.0, 0.3],
    "weight_decay": [0.0, 0.1],
    "latent_l1": [0.0, 0.1],
    "init": ["auto", "random"],
    "ordered": [False, True],
    "n_nonzero_coefs": [None, 1],
    "optimizer": ["adam", "sgd"],
    "learning_rate": ["auto", 1e-2],
    "lr_schedule": ["one_cycle", "constant"],
    "batch_size": [16, 32],
    "max_epochs": [2, 4],
    "tol": [1e-4, 1.0],
    "n_iter_no_change": [None, 1],
    "early_stopping": [False, True],
    "validation_fraction": [0.1, 0.3],
    "warm_start": [False, True],
    "random_state": [0, 1],
    "device": ["auto", "cpu"],
    "precision": ["float64", "float32"],
    "verbose": [0],
    "sparse_output": [False, True],
    "latent_density": ["gaussian", "gmm"],
    "noise": ["masking", "gaussian", ("masking", "swap")],
    "noise_level": [0.1, 0.4],
    "patch_size": [None],
    "beta": [0.1, 1.0],
    "kl_warm_up": [0.0, 0.5],
    "contamination": ["auto", 0.1],
    "anomaly_score": ["auto", "reconstruction", "nearest"],
    "n_estimators": [1, 2],
    "max_samples": [0.5, 40],
    "network": ["mlp"],
    "image_shape": [None],
    "categorical_features": [None, [4]],
}
# Of the transformer every parameter, of the others by default what they have of their own.
OWN = set(AutoencoderTransformer().get_params())
CASES = [
    pytest.param(cls, name, marks=[pytest.mark.slow] * (name in OWN and cls is not classes[0]))
    for classes in [
        (
            AutoencoderTransformer,
            DenoisingAutoencoder,
            VariationalAutoencoder,
            AutoencoderAnomalyDetector,
        )
    ]
    for cls in classes
    for name in cls().get_params()
]


def _assert_equal_scores(estimator, grid, X, y=None, **settings):
    settings = {"cv": 2} | settings
    theirs = GridSearchCV(clone(estimator), grid, **settings).fit(X, y).cv_results_
    ours = AutoencoderSearchCV(estimator, grid, **settings).fit(X, y).cv_results_
    for name in theirs:
        if name.startswith("split"):
            assert np.isfinite(theirs[name]).all()
            # Float32 rounds by the place of a row in its product.
            tolerance = 1e-4 if "precision" in str(grid) else 1e-8
            np.testing.assert_allclose(ours[name], theirs[name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("cls", "name"), CASES)
def test_grid_over_a_parameter(cls, name):
    values = GRIDS[name]
    if cls is VariationalAutoencoder and name == "init":
        values = ["auto", "random"]
    estimator = cls(**SMALL)
    settings = {}
    if cls is AutoencoderAnomalyDetector:
        estimator.set_params(n_estimators=2)
        settings = {"scoring": "roc_auc"}
    labels = np.where(np.arange(len(WINE)) % 4 == 0, -1, 1)
    _assert_equal_scores(estimator, {name: values}, WINE, labels, **settings)


@pytest.mark.parametrize("name", ["dropout", "loss", "noise", "scaling", "ordered", "beta"])
def test_grid_over_a_parameter_with_missing_values(name):
    cls = {"noise": DenoisingAutoencoder, "beta": VariationalAutoencoder}
    _assert_equal_scores(cls.get(name, AutoencoderTransformer)(**SMALL), {name: GRIDS[name]}, HOLES)


@pytest.mark.parametrize("data", ["rows", "holes"])
def test_grid_over_classes(data):
    autoencoders = [
        AutoencoderTransformer(**SMALL),
        AutoencoderTransformer(**SMALL, dropout=0.2),
        DenoisingAutoencoder(**SMALL),
        VariationalAutoencoder(**SMALL),
    ]
    pipeline = Pipeline([("autoencoder", autoencoders[0])])
    X = WINE if data == "rows" else HOLES
    _assert_equal_scores(pipeline, {"autoencoder": autoencoders}, X)


def test_grid_over_networks_of_images():
    settings = {"n_components": 2, "max_epochs": 2, "precision": "float64", "random_state": 0}
    grid = {"network": ["mlp", "conv"], "loss": ["squared_error", "log_loss"]}
    estimator = AutoencoderTransformer(**settings)
    _assert_equal_scores(estimator, grid, IMAGES)


@pytest.mark.slow
def test_grid_over_several_parameters_at_once():
    grid = {
        "dropout": [0.0, 0.3],
        "loss": ["squared_error", "absolute_error"],
        "scaling": ["auto", "minmax"],
        "ordered": [False, True],
    }
    _assert_equal_scores(AutoencoderTransformer(**SMALL), grid, WINE)
