"""Parameters that change after the fit change no result of what was fitted."""

import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(120, 3)) @ RNG.normal(size=(3, 8)) + 0.1 * RNG.normal(size=(120, 8))
ROWS[::9, 3] = np.nan
IMAGES = RNG.random((70, 8, 8)).cumsum(axis=1)
MASK = np.zeros(ROWS.shape, dtype=bool)
MASK[:, 2] = True

SMALL = {
    "n_components": 3,
    "hidden_layer_sizes": (6,),
    "batch_size": 32,
    "max_epochs": 2,
    "random_state": 0,
    "device": "cpu",
}
CONV = SMALL | {"network": "conv"}
OF_LATENTS = ["transform", "inverse_transform", "reconstruct", "score_samples", "score", "sample",
              "interpolate", "get_feature_names_out"]  # fmt: skip
OF_DETECTORS = ["score_samples", "decision_function", "predict", "outlier_probability",
                "feature_contributions"]  # fmt: skip
CASES = {
    "transformer": (AutoencoderTransformer(**SMALL), ROWS, OF_LATENTS),
    "ordered": (AutoencoderTransformer(**SMALL, ordered=True), ROWS, [*OF_LATENTS, "truncate"]),
    "sparse latents": (AutoencoderTransformer(**SMALL, n_nonzero_coefs=2), ROWS,
                       [*OF_LATENTS, "with_n_nonzero_coefs"]),
    "convolutions": (AutoencoderTransformer(**CONV), IMAGES, [*OF_LATENTS, "pixel_features"]),
    "denoiser": (DenoisingAutoencoder(**SMALL), ROWS,
                 [*OF_LATENTS, "denoise", "impute", "inpaint"]),
    "patches": (DenoisingAutoencoder(**CONV, patch_size=4), IMAGES[:4],
                ["reconstruct", "denoise", "impute", "pixel_features"]),
    "variational": (VariationalAutoencoder(**SMALL, latent_density="gaussian"), ROWS, OF_LATENTS),
    "detector": (AutoencoderAnomalyDetector(**SMALL), ROWS, OF_DETECTORS),
    "loss of a detector": (AutoencoderAnomalyDetector(**SMALL, anomaly_score="reconstruction"),
                           ROWS, OF_DETECTORS),
    "detector of images": (AutoencoderAnomalyDetector(**SMALL), IMAGES,
                           [*OF_DETECTORS, "anomaly_map", "detect"]),
    "other detector of images": (AutoencoderAnomalyDetector(**SMALL, anomaly_score="nearest"),
                                 IMAGES, [*OF_DETECTORS, "anomaly_map", "detect"]),
}  # fmt: skip
# Of each parameter, the first that it is not already.
OTHERS = {
    "n_components": [5],
    "hidden_layer_sizes": [(4, 4)],
    "network": ["mlp"],
    "image_shape": [(2, 4)],
    "categorical_features": [[0]],
    "activation": ["tanh"],
    "loss": ["absolute_error"],
    "scaling": ["minmax"],
    "output_bounds": ["nonnegative"],
    "normalization": ["batch"],
    "dropout": [0.5],
    "weight_decay": [0.1],
    "latent_l1": [0.5],
    "init": ["random"],
    "ordered": [True, False],
    "n_nonzero_coefs": [1],
    "sparse_output": [True],
    "latent_density": ["gmm"],
    "optimizer": ["sgd"],
    "learning_rate": [0.1],
    "lr_schedule": ["cosine"],
    "batch_size": [7],
    "max_epochs": [9],
    "tol": [1.0],
    "n_iter_no_change": [1],
    "early_stopping": [True],
    "validation_fraction": [0.5],
    "warm_start": [True],
    "random_state": [7],
    "device": ["auto"],
    "precision": ["float64"],
    "verbose": [1],
    "noise": ["swap"],
    "noise_level": [0.7],
    "patch_size": [3],
    "beta": [9.0],
    "kl_warm_up": [1.0],
    "contamination": [0.3],
    "anomaly_score": ["isolation"],
    "n_estimators": [2],
    "max_samples": [0.5],
}
EACH = [
    (case, name) for case, (estimator, *_) in CASES.items() for name in estimator.get_params(False)
]


def result_of(estimator, rows, name):
    """What a method gives, as an array."""
    arguments = {
        "inverse_transform": lambda: (np.eye(estimator.n_components_),),
        "sample": lambda: (5, 3),
        "interpolate": lambda: (rows[:2], rows[3:5], 4),
        "get_feature_names_out": tuple,
        "inpaint": lambda: (rows, MASK),
        "truncate": lambda: (2,),
        "with_n_nonzero_coefs": lambda: (3,),
    }.get(name, lambda: (rows,))
    result = getattr(estimator, name)(*arguments())
    if name in ("truncate", "with_n_nonzero_coefs"):
        result = result.transform(rows)
    if name == "detect":
        result = np.concatenate([np.zeros((0, 5)), *result])
    return result.toarray() if sparse.issparse(result) else np.asarray(result)


@pytest.fixture(scope="module")
def fitted():
    """Pickles of each case, and its results."""
    known = {}

    def of(case):
        if case not in known:
            estimator, rows, names = CASES[case]
            if "detect" in names:
                pytest.importorskip("skimage")
            data = pickle.dumps(clone(estimator).fit(rows))
            estimator = pickle.loads(data)
            known[case] = data, {name: result_of(estimator, rows, name) for name in names}
        return known[case]

    return of


@pytest.mark.parametrize(("case", "name"), EACH)
def test_a_parameter_that_changes_after_the_fit_changes_no_result(fitted, case, name):
    data, expected = fitted(case)
    estimator = pickle.loads(data)
    other = next(value for value in OTHERS[name] if value != getattr(estimator, name))
    estimator.set_params(**{name: other})
    # It would be fine for another fit.
    estimator._validate_params()
    for method, result in expected.items():
        found = result_of(estimator, CASES[case][1], method)
        np.testing.assert_array_equal(found, result, err_msg=method)
        assert found.dtype == result.dtype


def test_sparse_output_changes_the_container_alone(fitted):
    estimator = pickle.loads(fitted("sparse latents")[0]).set_params(sparse_output=True)
    latents = estimator.transform(ROWS)
    assert sparse.issparse(latents)
    np.testing.assert_array_equal(latents.toarray(), fitted("sparse latents")[1]["transform"])
