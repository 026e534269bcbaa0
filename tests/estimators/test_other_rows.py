"""Fits that take more rows than X: some to hold out, and rows without noise."""

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)
from skae.model_selection import AutoencoderSearchCV

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(400, 3)) @ RNG.normal(size=(3, 12)) + 0.1 * RNG.normal(size=(400, 12))
HUM = np.sin(np.arange(12))
T = np.linspace(0, 3, 12)
CLEAN = np.stack([np.sin(f * T + p) for f, p in RNG.uniform(0.5, 3, size=(500, 2))])
NOISY = CLEAN + HUM * RNG.uniform(0.5, 1.5, (500, 1)) + 0.1 * RNG.normal(size=CLEAN.shape)


def _rmse(a, b):
    return float(np.sqrt(np.mean((np.asarray(a) - b) ** 2)))


@pytest.mark.parametrize(
    "make", [AutoencoderTransformer, AutoencoderAnomalyDetector, VariationalAutoencoder]
)
def test_the_weights_that_are_kept_are_those_of_the_best_epoch_on_ones_own_rows(make):
    own = 0.8 * RNG.permuted(ROWS, axis=0)[:100]
    model = make(max_epochs=12, random_state=0).fit(ROWS, X_val=own)
    curve = model.validation_loss_curve_
    assert len(curve) == model.n_iter_
    assert model.best_loss_ == min(curve)
    if make is AutoencoderTransformer:
        assert -model.score_samples(own).mean() == pytest.approx(min(curve), rel=1e-4)


def test_rows_of_ones_own_stop_the_training_and_take_none_away():
    X = np.ones((60, 4)) * RNG.normal(size=(60, 1))
    settings = {"max_epochs": 200, "n_iter_no_change": 3, "random_state": 0}
    model = AutoencoderTransformer(n_components=2, **settings).fit(
        X, X_val=RNG.normal(size=(50, 4))
    )
    assert model.n_iter_ < 200
    plain = AutoencoderTransformer(
        n_components=2, max_epochs=1, random_state=0, early_stopping=False
    ).fit(X)
    held = AutoencoderTransformer(n_components=2, max_epochs=1, random_state=0).fit(X, X_val=X)
    np.testing.assert_array_equal(held.transform(X), plain.transform(X))


def test_rows_of_ones_own_are_checked():
    with pytest.raises(ValueError, match="early_stopping=False"):
        AutoencoderTransformer(early_stopping=False).fit(ROWS, X_val=ROWS)
    with pytest.raises(ValueError, match="12 features"):
        AutoencoderTransformer().fit(ROWS, X_val=ROWS[:, :5])


def test_clean_rows_are_given_by_name_or_as_y():
    fits = [DenoisingAutoencoder(max_epochs=2, random_state=0) for _ in range(2)]
    fits[0].fit(NOISY[:400], CLEAN[:400])
    fits[1].fit(NOISY[:400], X_clean=CLEAN[:400])
    np.testing.assert_array_equal(fits[0].denoise(NOISY), fits[1].denoise(NOISY))


def test_a_denoiser_learns_from_pairs():
    denoiser = DenoisingAutoencoder(random_state=0).fit(NOISY[:400], X_clean=CLEAN[:400])
    found, given = _rmse(denoiser.denoise(NOISY[400:]), CLEAN[400:]), _rmse(NOISY, CLEAN)
    assert found < 0.25 * given


def test_pairs_may_miss_cells_and_hold_out_some():
    noisy, clean = NOISY.copy(), CLEAN.copy()
    noisy[::3, 2], clean[::5, 4] = np.nan, np.nan
    denoiser = DenoisingAutoencoder(early_stopping=True, random_state=0)
    denoiser.fit(noisy[:400], X_clean=clean[:400])
    assert denoiser.validation_loss_curve_[-1] < 0.2
    assert _rmse(denoiser.denoise(noisy[400:]), CLEAN[400:]) < 0.4 * _rmse(NOISY[400:], CLEAN[400:])
    before = denoiser.loss_curve_[-1]
    denoiser.partial_fit(NOISY[:400], CLEAN[:400])
    assert denoiser.loss_curve_[-1] < 2 * before


def test_pairs_of_patches_come_from_the_same_places():
    images = RNG.uniform(size=(12, 20, 20)).repeat(2, axis=1)
    model = DenoisingAutoencoder(patch_size=8, max_epochs=3, random_state=0)
    model.fit(1.0 - images, X_clean=images)
    assert _rmse(model.denoise(1.0 - images[:2]), images[:2]) < _rmse(1.0 - images[:2], images[:2])
    with pytest.raises(ValueError, match="Pass an integer"):
        model.set_params(random_state=None).fit(images, X_clean=images)


def test_pairs_are_checked():
    with pytest.raises(ValueError, match="X_clean has shape"):
        DenoisingAutoencoder().fit(NOISY, X_clean=CLEAN[:10])
    with pytest.raises(ValueError, match="X_val has no clean rows"):
        DenoisingAutoencoder().fit(NOISY, X_clean=CLEAN, X_val=NOISY)


def test_a_search_trains_pairs():
    grid = {"n_components": [2, 4]}
    model = DenoisingAutoencoder(max_epochs=3, random_state=0)
    ours = AutoencoderSearchCV(model, grid, cv=2).fit(NOISY, CLEAN)
    scikits = GridSearchCV(model, grid, cv=2).fit(NOISY, CLEAN)
    key = "mean_test_score"
    np.testing.assert_allclose(ours.cv_results_[key], scikits.cv_results_[key], rtol=1e-5)


def test_targets_that_are_not_used_are_said_to_be():
    with pytest.warns(UserWarning, match="DenoisingAutoencoder"):
        AutoencoderTransformer(max_epochs=1).fit(ROWS, 2 * ROWS)
    AutoencoderTransformer(max_epochs=1).fit(ROWS, ROWS)
    AutoencoderTransformer(max_epochs=1).fit(ROWS, ROWS[:, :3])
