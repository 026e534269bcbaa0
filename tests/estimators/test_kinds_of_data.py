"""Number types, layouts and sizes of the data do not change the results."""

import numpy as np
import pytest
from scipy import sparse

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)

RNG = np.random.default_rng(0)

X = RNG.normal(size=(150, 8)) @ RNG.normal(size=(8, 8))

SMALL = {
    "n_components": 3,
    "hidden_layer_sizes": (16,),
    "batch_size": 64,
    "max_epochs": 3,
    "random_state": 0,
    "device": "cpu",
}

CLASSES = [
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
    AutoencoderAnomalyDetector,
]

each_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)


def outputs(estimator, X=X):
    names = ("transform", "reconstruct", "score_samples", "decision_function")
    return {name: getattr(estimator, name)(X) for name in names if hasattr(estimator, name)}


def assert_same_bits(results, expected):
    assert results.keys() == expected.keys()
    for name, result in results.items():
        np.testing.assert_array_equal(result, expected[name], err_msg=name)


def assert_close(results, expected, **tolerances):
    assert results.keys() == expected.keys()
    for name, result in results.items():
        np.testing.assert_allclose(result, expected[name], err_msg=name, **tolerances)


def assert_finite(estimator, X):
    for name, result in outputs(estimator, X).items():
        assert np.isfinite(result).all(), name
    assert np.isfinite(estimator.loss_curve_).all()


def _name(changes):
    return ",".join(f"{name}={value!r:.20}" for name, value in changes.items())


@pytest.mark.parametrize("shape", [(1, 8), (2, 8), (150, 1), (1, 1), (63, 8), (65, 8), (129, 8)])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"normalization": "batch"},
        {"normalization": "layer", "dropout": 0.3},
        {"loss": "log_loss"},
        {"n_nonzero_coefs": 2, "latent_l1": 0.1},
        {"hidden_layer_sizes": ()},
        {"hidden_layer_sizes": 4},
    ],
    ids=_name,
)
def test_any_number_of_rows_and_columns_works(shape, changes):
    data = X[: shape[0], : shape[1]]
    for cls in CLASSES:
        if cls is VariationalAutoencoder and "n_nonzero_coefs" in changes:
            continue  # It has no sparse latents, and says so.
        if cls is AutoencoderAnomalyDetector and len(data) == 1:
            continue  # Of one row, nothing is usual, and it says so.
        estimator = cls(**SMALL | changes).fit(data)
        assert_finite(estimator, data)
        assert_finite(estimator.partial_fit(data), data)
        scores = estimator.score_samples(data)
        assert scores.shape == (shape[0],)
        np.testing.assert_allclose(estimator.score_samples(data[-1:]), scores[-1:], rtol=1e-4)
        if cls is not AutoencoderAnomalyDetector:
            latents = estimator.transform(data)
            assert latents.shape == (shape[0], 3)
            rebuilt = estimator.reconstruct(data)
            assert rebuilt.shape == shape
            decoded = estimator.inverse_transform(latents)
            np.testing.assert_allclose(decoded, rebuilt, rtol=1e-4, atol=1e-4)
            assert estimator.score(data) <= 1.0


def _read_only(data, tmp_path):
    data = data.copy()
    data.setflags(write=False)
    return data


def _memory_mapped(data, tmp_path):
    np.save(tmp_path / "rows.npy", data)
    return np.load(tmp_path / "rows.npy", mmap_mode="r")


def _strided(data, tmp_path):
    wide = np.zeros((2 * len(data), 3 * data.shape[1]), dtype=data.dtype)
    wide[::2, ::3] = data
    return wide[::2, ::3]


LAYOUTS = {
    "Fortran order": lambda data, tmp_path: np.asfortranarray(data),
    "read-only": _read_only,
    "memory-mapped": _memory_mapped,
    "strided": _strided,
    "reversed strides": lambda data, tmp_path: data[::-1, ::-1].copy()[::-1, ::-1],
    "list": lambda data, tmp_path: data.astype(np.float64).tolist(),
    "objects": lambda data, tmp_path: data.astype(object),
    "other byte order": lambda data, tmp_path: data.astype(data.dtype.newbyteorder()),
    "csr": lambda data, tmp_path: sparse.csr_matrix(data),
    "csr array": lambda data, tmp_path: sparse.csr_array(data),
    "csc": lambda data, tmp_path: sparse.csc_matrix(data),
    "coo": lambda data, tmp_path: sparse.coo_matrix(data),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@each_class
def test_layout_of_the_data_does_not_change_the_bits(cls, layout, tmp_path):
    data = np.where(np.abs(X) < 1.5, 0.0, X)
    data[5] = 0.0
    other = LAYOUTS[layout](data, tmp_path)
    expected = cls(**SMALL).fit(data)
    estimator = cls(**SMALL).fit(other)
    assert estimator.loss_curve_ == expected.loss_curve_
    assert_same_bits(outputs(estimator, other), outputs(expected, data))
    if hasattr(expected, "score"):
        assert estimator.score(other) == expected.score(data)
    estimator.partial_fit(other)
    assert_same_bits(outputs(estimator, other), outputs(expected.partial_fit(data), data))


@each_class
def test_data_are_not_written_to(cls):
    data = np.where(X > 2, np.nan, X).astype(np.float32)
    before = data.tobytes()
    estimator = cls(**SMALL).fit(data)
    outputs(estimator, data)
    if hasattr(estimator, "impute"):
        estimator.impute(data)
        estimator.inpaint(data, np.isnan(data))
    assert data.tobytes() == before


INTEGERS = np.random.default_rng(3).integers(0, 100, size=(150, 8))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int64", "uint64", "float16", "bool"])
@each_class
def test_number_types_give_the_results_of_float64(cls, dtype):
    values = INTEGERS > 40 if dtype == "bool" else INTEGERS
    expected = cls(**SMALL).fit(values.astype(np.float64))
    estimator = cls(**SMALL).fit(values.astype(dtype))
    assert_close(
        outputs(estimator, values.astype(dtype)),
        outputs(expected, values.astype(np.float64)),
        rtol=2e-3,
        atol=2e-3,
    )


@each_class
def test_float32_is_close_to_float64(cls):
    expected = cls(**SMALL).fit(X)
    estimator = cls(**SMALL).fit(X.astype(np.float32))
    assert_close(outputs(estimator, X.astype(np.float32)), outputs(expected), rtol=1e-3, atol=1e-3)


def test_float64_precision_gives_float64():
    estimator = AutoencoderTransformer(**SMALL | {"precision": "float64"}).fit(X)
    single = AutoencoderTransformer(**SMALL).fit(X)
    assert estimator.transform(X).dtype == np.float64
    assert estimator.reconstruct(X).dtype == np.float64
    assert_close(outputs(estimator), outputs(single), rtol=1e-3, atol=1e-3)
