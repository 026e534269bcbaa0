"""Scalings against scikit-learn's, missing cells and weights included."""

import numpy as np
import pytest
from sklearn.preprocessing import MinMaxScaler, QuantileTransformer, RobustScaler, StandardScaler

from skae._data.scale import fit_scaler

X = np.random.default_rng(0).normal(size=(50, 4)) * [1.0, 100.0, 1e-3, 1.0] + [0.0, 1e3, 5.0, 0.0]
X[:, 3] = 7.0


def _fit(scaling, X, weights=None, bounded=False):
    def chunks():
        for start in range(0, len(X), 20):
            part = slice(start, start + 20)
            yield X[part], None if weights is None else weights[part]

    return fit_scaler(scaling, chunks, bounded)


def _scaled(scaler, X):
    out = np.empty(X.shape)
    scaler.transform(X, out)
    return out


@pytest.mark.parametrize(
    ("scaling", "reference"),
    [("standard", StandardScaler()), ("minmax", MinMaxScaler()), ("robust", RobustScaler())],
)
def test_named_scalings_equal_scikit_learns(scaling, reference):
    holes = X.copy()
    holes[3, 0] = holes[40, 1] = np.nan
    for rows in (X, holes):
        expected = reference.fit_transform(rows)
        scaler = _fit(scaling, rows)
        np.testing.assert_allclose(_scaled(scaler, rows), expected, rtol=1e-9, atol=1e-12)
        back = scaler.inverse_transform(_scaled(scaler, rows))
        np.testing.assert_allclose(back, rows, rtol=1e-12)


def test_weights_count_as_repetitions():
    weights = np.arange(50) % 3 + 1.0
    weighted = _fit("standard", X, weights)
    repeated = _fit("standard", X.repeat(weights.astype(int), axis=0))
    np.testing.assert_allclose(weighted.center, repeated.center, rtol=1e-12)
    np.testing.assert_allclose(weighted.scale, repeated.scale, rtol=1e-9)


def test_flags_are_only_centered():
    rng = np.random.default_rng(0)
    flags = (rng.random((500, 3)) < [0.5, 0.01, 0.9]) * 1.0
    flags[:40] = 1.0  # A first chunk may hold one of the values alone.
    others = np.column_stack([2 * flags[:, 0], rng.normal(size=500), rng.random(500)])
    others[:2, 2] = 0.0, 1.0
    rows = np.column_stack([flags, others])
    rows[50, 0] = np.nan
    scaler = _fit("flags", rows, weights=rng.random(500) + 0.1)
    standard = _fit("standard", rows[:, 3:])
    np.testing.assert_array_equal(scaler.scale[:3], 1.0)
    np.testing.assert_allclose(_fit("flags", rows).scale[3:], standard.scale)
    assert not scaler.is_of_flags


def test_flags_in_pairs_vary_as_much_as_one_number():
    rng = np.random.default_rng(0)
    category = (rng.permutation(500) < 250) * 1.0
    pair = np.column_stack([category, 1.0 - category])
    scaler = _fit("pairs", np.column_stack([pair, rng.normal(size=500)]))
    scaled = np.empty(pair.shape + np.array([0, 1]))
    scaler.transform(np.column_stack([pair, np.zeros(500)]), scaled)
    np.testing.assert_allclose(scaled[:, :2].var(0).sum(), 1.0)
    assert scaler.is_of_flags
    numbers = rng.normal(size=(500, 2))
    assert not _fit("pairs", np.column_stack([pair, numbers])).is_of_flags


def test_common_scale_is_the_root_of_the_mean_variance():
    scaler = _fit("common", X)
    np.testing.assert_allclose(scaler.center, X.mean(axis=0))
    np.testing.assert_allclose(scaler.scale, np.sqrt(X.var(axis=0).mean()))


def test_auto_tells_pixels_from_tables():
    from sklearn.datasets import load_breast_cancer, load_digits

    assert _fit("auto", load_digits().data).name == "common"
    assert _fit("auto", load_breast_cancer().data).name == "standard"
    assert _fit("auto", load_digits().data, bounded=True).name == "minmax"


@pytest.mark.parametrize("magnitude", [1e-30, 1.0, 1e30])
def test_any_magnitude_is_scaled_to_one(magnitude):
    scaled = np.empty((50, 2), dtype=np.float32)
    _fit("standard", X[:, :2] * magnitude).transform(X[:, :2] * magnitude, scaled)
    np.testing.assert_allclose(scaled.std(axis=0), 1.0, rtol=1e-5)


def test_small_integers_keep_their_values():
    pixels = np.random.default_rng(1).integers(0, 256, size=(50, 6), dtype=np.uint8)
    scaled = np.empty(pixels.shape, dtype=np.float32)
    scaler = _fit("standard", pixels)
    scaler.transform(pixels, scaled)
    expected = (pixels - pixels.mean(axis=0)) / pixels.std(axis=0)
    np.testing.assert_allclose(scaled, expected, rtol=1e-5, atol=1e-6)


def test_transformer_of_scikit_learn_is_cloned_and_used():
    transformer = QuantileTransformer(n_quantiles=20)
    scaler = _fit(transformer, X[:, :3])
    assert not hasattr(transformer, "quantiles_")
    expected = QuantileTransformer(n_quantiles=20).fit_transform(X[:, :3])
    np.testing.assert_allclose(_scaled(scaler, X[:, :3]), expected)


def test_mixed_puts_features_of_few_values_on_their_range():
    rng = np.random.default_rng(1)
    rare = (np.arange(5000) % 1000 == 0).astype(float)
    grades = rng.integers(0, 32, 5000) * 2.0
    many = rng.integers(0, 33, 5000) * 2.0
    rows = np.column_stack([rare, grades, many, rng.normal(size=5000)])
    rows[17] = np.nan
    scaler = _fit("mixed", rows)
    expected = [0.5, 31.0, np.nanstd(many[np.arange(5000) != 17]), np.nanstd(rows[:, 3])]
    np.testing.assert_allclose(scaler.scale, expected, rtol=1e-9)
    np.testing.assert_allclose(scaler.center, np.nanmean(rows, axis=0), rtol=1e-9)
    in_one_chunk = fit_scaler("mixed", lambda: iter([(rows, None)]), False)
    np.testing.assert_allclose(in_one_chunk.scale, scaler.scale, rtol=1e-9)


def test_mixed_keeps_constant_and_missing_features():
    rows = np.column_stack([np.full(9, 3.0), np.full(9, np.nan)])
    scaler = _fit("mixed", rows)
    np.testing.assert_array_equal(scaler.scale, [1.0, 1.0])


def test_limits_are_kept_of_pixels_alone():
    from sklearn.datasets import load_digits

    pixels = load_digits().data
    scaler = fit_scaler("auto", lambda: [(pixels, None)], False, limited=True)
    assert scaler.limits == (0.0, 16.0)
    np.testing.assert_allclose(
        scaler.bounds() * scaler.scale + scaler.center, [[0.0] * 64, [16.0] * 64], atol=1e-12
    )
    assert scaler.widened([(pixels - 1.0, None), (pixels, None)]).limits == (-1.0, 16.0)
    assert _fit("auto", pixels).bounds() is None
    assert fit_scaler("auto", lambda: [(X, None)], False, limited=True).bounds() is None
