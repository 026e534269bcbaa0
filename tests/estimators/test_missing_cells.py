"""Missing cells: left out of scaling and losses, filled in by reconstructions."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.preprocessing import StandardScaler

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


HOLES = np.where(np.random.default_rng(4).random(X.shape) < 0.2, np.nan, X)


@pytest.mark.parametrize("scaling", ["auto", "common", "minmax", "robust", None, StandardScaler()])
@pytest.mark.parametrize("sparse_rows", [False, True], ids=["dense", "sparse"])
def test_missing_cells_are_filled_and_left_out_of_the_score(scaling, sparse_rows):
    data = sparse.csr_matrix(HOLES) if sparse_rows else HOLES
    estimator = AutoencoderTransformer(**SMALL | {"max_epochs": 30}, scaling=scaling).fit(data)
    result, observed = estimator.reconstruct(data), ~np.isnan(HOLES)
    assert np.isfinite(result).all()
    center, scale = np.nanmean(HOLES, axis=0), np.nanstd(HOLES, axis=0)
    if scaling in ("auto", None):
        if scaling is None:
            scale = np.ones_like(scale)
        squares = np.where(observed, (result - HOLES) / scale, 0.0) ** 2
        losses = squares.sum(1) / observed.sum(1)
        np.testing.assert_allclose(-estimator.score_samples(data), losses, rtol=1e-3, atol=1e-5)
        total = (np.where(observed, (HOLES - center) / scale, 0.0) ** 2).sum()
        assert estimator.score(data) == pytest.approx(1 - squares.sum() / total, abs=1e-4)


def test_scaling_and_losses_ignore_what_is_missing():
    """Rows of nothing but missing cells add nothing: the fit's scaling is that without them."""
    padded = np.vstack([X, np.full((50, 8), np.nan)])
    settings = {**SMALL, "anomaly_score": "reconstruction"}
    detector = AutoencoderAnomalyDetector(**settings).fit(padded)
    alone = AutoencoderAnomalyDetector(**settings).fit(X)
    for name in ("center", "scale"):
        np.testing.assert_allclose(
            getattr(detector._model.scaler, name), getattr(alone._model.scaler, name), rtol=1e-12
        )
    assert_finite(detector, padded)
    scores = detector.score_samples(padded)
    np.testing.assert_allclose(scores[150:], np.median(scores[:150]), rtol=0.5)


def test_contributions_of_missing_cells_are_zero_and_rows_sum_to_the_score():
    detector = AutoencoderAnomalyDetector(**SMALL).fit(HOLES)
    contributions = detector.feature_contributions(HOLES)
    assert (contributions[np.isnan(HOLES)] == 0.0).all()
    assert (contributions >= 0.0).all()
    np.testing.assert_allclose(
        contributions.sum(1), -detector.score_samples(HOLES).clip(max=0.0), rtol=1e-5, atol=1e-7
    )


def test_a_column_of_nothing_but_missing_cells_works():
    data = X.copy()
    data[:, 2] = np.nan
    for cls in CLASSES:
        for scaling in ("auto", "common", "minmax", "robust", None):
            estimator = cls(**SMALL, scaling=scaling).fit(data)
            assert_finite(estimator, data)


@each_class
def test_a_table_of_nothing_but_missing_cells_is_refused(cls):
    assert_refused(cls(**SMALL), np.full((5, 3), np.nan), ["X", "NaN"])
    fitted = cls(**SMALL).fit(X)
    assert_finite(fitted, np.full((5, 8), np.nan))


def test_imputing_fills_missing_cells_alone_and_close_to_the_truth():
    rng = np.random.default_rng(1)
    low_rank = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 8))
    holes = np.where(rng.random(low_rank.shape) < 0.1, np.nan, low_rank)
    estimator = DenoisingAutoencoder(n_components=2, random_state=0, device="cpu").fit(holes)
    missing = np.isnan(holes)
    filled = estimator.impute(holes)
    np.testing.assert_array_equal(filled[~missing], holes[~missing])
    error = np.sqrt(np.mean((filled - low_rank)[missing] ** 2))
    assert error < 0.4 * low_rank.std()
    np.testing.assert_array_equal(estimator.inpaint(low_rank, missing), filled)
    np.testing.assert_array_equal(estimator.impute(low_rank), low_rank)


def test_inpaint_wants_a_mask_of_the_rows_shape():
    estimator = DenoisingAutoencoder(**SMALL).fit(X)
    for mask in (np.ones((2, 8), bool), np.ones(X.shape), np.ones(8, bool)):
        with pytest.raises(ValueError, match=r"mask must be boolean and of X's shape \(150, 8\)"):
            estimator.inpaint(X, mask)
