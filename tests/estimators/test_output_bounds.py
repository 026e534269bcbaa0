"""Bounds of rows that are given back, and whole numbers where they are asked for."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderImputer,
    AutoencoderTransformer,
    DenoisingAutoencoder,
)
from skae.io import load, save

RNG = np.random.default_rng(0)
X = RNG.exponential(size=(200, 4)) * [1.0, 10.0, 0.1, 1.0]
SMALL = {"n_components": 2, "max_epochs": 5, "random_state": 0, "device": "cpu"}


def test_quantities_are_not_negative():
    plain = AutoencoderTransformer(**SMALL).fit(X)
    bounded = AutoencoderTransformer(**SMALL, output_bounds="nonnegative").fit(X)
    far = np.full((1, 2), -5.0)
    assert plain.reconstruct(X).min() < 0
    np.testing.assert_array_equal(bounded.reconstruct(X), plain.reconstruct(X).clip(0))
    np.testing.assert_array_equal(
        bounded.inverse_transform(far), plain.inverse_transform(far).clip(0)
    )
    np.testing.assert_array_equal(bounded.transform(X), plain.transform(X))
    np.testing.assert_array_equal(bounded.score_samples(X), plain.score_samples(X))


@pytest.mark.parametrize(
    ("given", "low", "high"),
    [
        ((0, 2), 0, 2),
        (([0, 1, 0, 0.5], None), [0, 1, 0, 0.5], np.inf),
        ([None, [1, 20, 0.2, 1]], -np.inf, [1, 20, 0.2, 1]),
    ],
    ids=["numbers", "one a column", "above alone"],
)
def test_each_column_may_have_bounds(given, low, high, tmp_path):
    plain = AutoencoderTransformer(**SMALL).fit(X).reconstruct(X)
    estimator = AutoencoderTransformer(**SMALL, output_bounds=given).fit(X)
    expected = plain.clip(np.float32(low), np.float32(high))
    np.testing.assert_array_equal(estimator.reconstruct(X), expected)
    estimator.partial_fit(X)
    assert (estimator.reconstruct(X) >= np.float32(low)).all()
    estimator.set_params(output_bounds=None)
    assert (estimator.reconstruct(X) >= np.float32(low)).all()
    save(estimator, tmp_path / "bounded.safetensors")
    np.testing.assert_array_equal(
        load(tmp_path / "bounded.safetensors").reconstruct(X), estimator.reconstruct(X)
    )


def test_filled_in_cells_keep_to_bounds_and_observed_ones_are_not_touched():
    holes = np.where(RNG.random(X.shape) < 0.2, np.nan, X)
    for cls in (DenoisingAutoencoder, AutoencoderImputer):
        estimator = cls(**SMALL, output_bounds=(0.05, None)).fit(holes)
        fill = estimator.impute if cls is DenoisingAutoencoder else estimator.transform
        filled = fill(holes)
        assert filled[np.isnan(holes)].min() >= np.float32(0.05)
        np.testing.assert_array_equal(filled[~np.isnan(holes)], holes[~np.isnan(holes)])
    detector = AutoencoderAnomalyDetector(**SMALL, output_bounds="nonnegative").fit(X)
    assert detector.reconstruct(X).min() >= 0


def test_columns_of_a_mixed_table_have_bounds_in_their_order():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"c": np.where(X[:, 0] > 1, "a", "b"), "x": X[:, 0], "y": X[:, 1]})
    bounds = ([-np.inf, 0.5, 5.0], None)
    rebuilt = AutoencoderTransformer(**SMALL, output_bounds=bounds).fit(frame).reconstruct(frame)
    assert rebuilt["x"].min() == np.float32(0.5)
    assert rebuilt["y"].min() == np.float32(5.0)
    assert set(rebuilt["c"]) == {"a", "b"}


@pytest.mark.parametrize("given", [(1, 0), (0,), ([0, 0], None), ("a", "b")], ids=str)
def test_bad_bounds_are_refused(given):
    with pytest.raises(ValueError, match="output_bounds"):
        AutoencoderTransformer(**SMALL, output_bounds=given).fit(X)


def test_images_come_back_as_bytes_where_asked():
    images = (load_digits().images[:60] * 16).clip(0, 255).astype(np.uint8)
    estimator = AutoencoderTransformer(**SMALL | {"n_components": 8}).fit(images)
    floats = estimator.reconstruct(images)
    out = np.empty(images.shape, dtype=np.uint8)
    assert estimator.reconstruct(images, out) is out
    np.testing.assert_array_equal(out, np.rint(floats.clip(0, 255)).astype(np.uint8))
