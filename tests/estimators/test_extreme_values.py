"""Values of any size: constant, tiny, huge, far from the training rows."""

import numpy as np
import pytest

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)
from skae.exceptions import DivergenceError

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


def assert_close(results, expected, **tolerances):
    assert results.keys() == expected.keys()
    for name, result in results.items():
        np.testing.assert_allclose(result, expected[name], err_msg=name, **tolerances)


def assert_finite(estimator, X):
    for name, result in outputs(estimator, X).items():
        assert np.isfinite(result).all(), name
    assert np.isfinite(estimator.loss_curve_).all()


def assert_refused(estimator, X, words, method="fit", error=(ValueError, TypeError)):
    """The call fails, the message holds all the words, and the estimator is as it was."""
    before = dict(vars(estimator))
    with pytest.raises(error) as caught:
        getattr(estimator, method)(X)
    now = vars(estimator)
    assert now.keys() == before.keys()
    assert all(now[name] is before[name] for name in now)
    for word in words:
        assert word in str(caught.value), f"{word!r} is not in {caught.value}"


def test_huge_values_without_scaling_diverge_instead_of_giving_nan():
    estimator = AutoencoderTransformer(**SMALL, scaling=None)
    assert_refused(estimator, 1e30 * X, ["scaling='standard'"], error=DivergenceError)


POWERS = [2.0**-100, 2.0**-40, 2.0**40, 2.0**100]  # about 1e-30, 1e-12, 1e12, 1e30


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scaling", ["auto", "common", "minmax", "robust"])
@pytest.mark.parametrize("cls", [AutoencoderTransformer, AutoencoderAnomalyDetector])
def test_unit_of_the_data_changes_only_the_unit_of_the_results(cls, scaling, dtype, power):
    data = X.astype(dtype)
    small = cls(**SMALL, scaling=scaling).fit(data)
    large = cls(**SMALL, scaling=scaling).fit(data * dtype(power))
    results, expected = outputs(large, data * dtype(power)), outputs(small, data)
    if "reconstruct" in expected:
        results["reconstruct"] = results["reconstruct"] / np.float32(power)
    if hasattr(large, "score"):
        assert large.score(data * dtype(power)) == pytest.approx(small.score(data), rel=1e-6)
    assert_close(results, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scaling", ["standard", "minmax", "robust"])
def test_columns_of_any_magnitude_count_alike(scaling):
    powers = 2.0 ** np.array([-100, -60, -20, 0, 1, 20, 60, 100])
    plain = AutoencoderTransformer(**SMALL, scaling=scaling).fit(X)
    mixed = AutoencoderTransformer(**SMALL, scaling=scaling).fit(X * powers)
    np.testing.assert_allclose(
        mixed.transform(X * powers), plain.transform(X), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        mixed.reconstruct(X * powers) / powers, plain.reconstruct(X), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("value", [0.0, 7.0, -0.1, 1e30 / 3, -1e-30, 1e10 / 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scaling", ["auto", "common", "minmax", "robust"])
@pytest.mark.parametrize("cls", [AutoencoderTransformer, AutoencoderAnomalyDetector])
def test_constant_column_is_reconstructed_and_does_not_disturb_the_others(
    cls, scaling, dtype, value
):
    data = X.astype(dtype)
    data[:, 3] = value
    estimator = cls(**SMALL, scaling=scaling).fit(data)
    assert_finite(estimator, data)
    # The losses are of the order of a standardized table's.
    assert estimator.loss_curve_[0] < 10
    assert -estimator.score_samples(data).min() < 100
    if cls is not AutoencoderAnomalyDetector:
        np.testing.assert_allclose(
            estimator.reconstruct(data)[:, 3], dtype(value), rtol=1e-5, atol=4 * X.std()
        )


@pytest.mark.parametrize("value", [1e10 / 3, 1e30 / 3])
def test_constant_column_of_another_precision_does_not_disturb_the_row(value):
    data = X.copy()
    data[:, 3] = value
    for cls in CLASSES:
        estimator = cls(**SMALL).fit(data)
        single = data.astype(np.float32)
        scores = estimator.score_samples(data)
        np.testing.assert_allclose(estimator.score_samples(single), scores, rtol=1e-3, atol=1e-3)
    denoiser = DenoisingAutoencoder(**SMALL).fit(data)
    rows = data[:20].copy()
    rows[:, 3] = np.nan
    filled = denoiser.impute(rows)
    assert np.isfinite(filled).all()
    # One unit of the scaled column is at most the value itself.
    assert (np.abs(filled[:, 3] - value) < 2 * value).all()
    rows[:, 2] = np.nan
    assert np.abs(denoiser.impute(rows)[:, 2]).max() < 10 * X.std()


@each_class
def test_all_columns_constant(cls):
    for value in (0.0, 5.0, 1e30):
        data = np.full((40, 4), value)
        estimator = cls(**SMALL).fit(data)
        assert_finite(estimator, data)
        if cls is AutoencoderAnomalyDetector:
            assert (estimator.predict(data) == 1).all()


def test_half_precision_sums_do_not_overflow():
    data = (1000.0 + 100.0 * X / X.std()).astype(np.float16)
    estimator = AutoencoderTransformer(**SMALL).fit(data)
    expected = AutoencoderTransformer(**SMALL).fit(data.astype(np.float64))
    assert_close(outputs(estimator, data), outputs(expected, data), rtol=5e-3, atol=5e-3)
    data[3, 3] = np.nan
    assert np.isfinite(estimator.fit(data).reconstruct(data)).all()


def test_sums_of_huge_float32_do_not_overflow():
    data = np.where(X > 0, 1e37, 0.9e37).astype(np.float32)
    estimator = AutoencoderTransformer(**SMALL).fit(data)
    assert np.isfinite(estimator.transform(data)).all()
    assert np.isfinite(estimator.score_samples(data)).all()


# Whatever floats there are.


def test_any_finite_table_is_fitted_with_finite_results():
    hypothesis = pytest.importorskip("hypothesis")
    strategies = pytest.importorskip("hypothesis.strategies")
    arrays = pytest.importorskip("hypothesis.extra.numpy")
    cells = strategies.one_of(
        strategies.floats(-1e30, 1e30),
        strategies.sampled_from([0.0, -0.0, 1e-30, -1e30, 1e30, 1.0, np.nan, 5e-324]),
    )
    tables = arrays.arrays(
        np.float64,
        arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
        elements=cells,
    )
    options = {"max_epochs": 2, "hidden_layer_sizes": (4,), "random_state": 0, "device": "cpu"}

    @hypothesis.settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(
        tables,
        strategies.sampled_from([np.float32, np.float64]),
        strategies.sampled_from(["auto", "minmax", "common"]),
    )
    def check(table, dtype, scaling):
        with np.errstate(under="ignore"):
            table = table.astype(dtype)
        hypothesis.assume(not np.isnan(table).all())
        transformer = AutoencoderTransformer(scaling=scaling, **options).fit(table)
        assert_finite(transformer, table)
        assert transformer.score(table) <= 1.0
        if len(table) > 1:  # Of one row, nothing is usual.
            detector = AutoencoderAnomalyDetector(scaling=scaling, **options).fit(table)
            assert set(detector.predict(table)) <= {-1, 1}
        imputed = DenoisingAutoencoder(scaling=scaling, **options).fit(table).impute(table)
        observed = ~np.isnan(table)
        assert np.isfinite(imputed).all()
        assert (imputed[observed] == table[observed]).all()

    check()


@pytest.mark.parametrize("rare", [1.0, 1e19, 1e30])
@each_class
def test_robust_scaling_of_a_column_that_is_nearly_always_zero(cls, rare):
    data = X.copy()
    data[:, 3] = 0.0
    data[17, 3] = rare
    estimator = cls(**SMALL, scaling="robust").fit(data)
    assert_finite(estimator, data)


@each_class
def test_rows_far_from_the_training_data_give_no_nan(cls):
    estimator = cls(**SMALL).fit(X)
    rows = X[:4].copy()
    rows[:, 0] = [1e10, 1e20, 1e30, -1e30]
    rows[1:, 3] = np.nan
    for name, result in outputs(estimator, rows).items():
        assert not np.isnan(result).any(), name
    if cls is AutoencoderAnomalyDetector:
        assert (estimator.predict(rows) == -1).all()
        assert not np.isnan(estimator.feature_contributions(rows)).any()
    else:
        assert estimator.score(rows) < 1.0


@pytest.mark.parametrize("rows", [X[:4] * 1e40, X[:4] * 1e300, np.full((4, 8), 3e38, np.float32)])
@each_class
def test_rows_beyond_any_sense_give_finite_results(cls, rows):
    rows = np.where(np.eye(4, 8, 2), np.nan, rows)
    estimator = cls(**SMALL).fit(X)
    assert_finite(estimator, rows)
    expected = outputs(estimator, rows[:1])
    first = {name: result[:1] for name, result in outputs(estimator, rows).items()}
    assert_close(first, expected, rtol=0)


@pytest.mark.parametrize("scaling", ["auto", "minmax", "robust"])
def test_units_beyond_float32_are_given_back_in_float64(scaling):
    large = AutoencoderTransformer(**SMALL, scaling=scaling).fit(X * 1e60)
    small = AutoencoderTransformer(**SMALL, scaling=scaling).fit(X)
    rebuilt = large.reconstruct(X * 1e60)
    assert rebuilt.dtype == np.float64
    np.testing.assert_allclose(rebuilt / 1e60, small.reconstruct(X), rtol=1e-3, atol=1e-4)
    assert small.reconstruct(X).dtype == np.float32


@pytest.mark.parametrize("scaling", ["auto", "minmax", "robust"])
@each_class
def test_values_whose_squares_are_infinite_are_refused(cls, scaling):
    assert_refused(cls(**SMALL, scaling=scaling), X * 1e200, ["X", "1e150", "Divide"])


@each_class
def test_values_beyond_float32_without_scaling_diverge(cls):
    assert_refused(cls(**SMALL, scaling=None), X * 1e60, ["diverged", "scaling"])
