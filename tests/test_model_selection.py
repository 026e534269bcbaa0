"""AutoencoderSearchCV against scikit-learn's GridSearchCV."""

import threading

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.datasets import load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
)
from skae._estimators import shared_fits
from skae.model_selection import AutoencoderSearchCV

X, y = load_wine(return_X_y=True)

SETTINGS = {
    "hidden_layer_sizes": (6,),
    "max_epochs": 4,
    "batch_size": 16,
    "precision": "float64",
    "random_state": 0,
}


def _transformer(**settings):
    return AutoencoderTransformer(**(SETTINGS | settings))


def _pipeline(**settings):
    return make_pipeline(_transformer(**settings), LogisticRegression(max_iter=2000))


def _both(estimator, grid, X=X, y=y, fit_params=None, **settings):
    settings = {"cv": 3} | settings
    grid_search = GridSearchCV(clone(estimator), grid, **settings).fit(X, y, **(fit_params or {}))
    search = AutoencoderSearchCV(estimator, grid, **settings).fit(X, y, **(fit_params or {}))
    return search, grid_search


def _assert_equal(search, grid_search):
    ours, theirs = search.cv_results_, grid_search.cv_results_
    assert list(ours) == list(theirs)
    assert ours["params"] == theirs["params"]
    for name in ours:
        if "score" in name and "time" not in name and "rank" not in name:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-8, atol=1e-10)
    assert search.best_params_ == grid_search.best_params_
    assert search.n_splits_ == grid_search.n_splits_


@pytest.fixture
def passes(monkeypatch):
    """Sizes of the passes that are trained."""
    sizes = []

    def counted(jobs):
        sizes.append(len(jobs))
        return trained(jobs)

    trained = shared_fits.trained
    monkeypatch.setattr(shared_fits, "trained", counted)
    return sizes


def _names(grid):
    return {f"autoencodertransformer__{name}": values for name, values in grid.items()}


STACKED = {
    "n_components": [1, 3],
    "learning_rate": [1e-3, 1e-2],
    "weight_decay": [0.0, 0.1],
    "random_state": [0, 7],
}


def test_equals_grid_search_in_one_pass_a_fold_size(passes):
    search, grid_search = _both(_pipeline(), _names(STACKED))
    _assert_equal(search, grid_search)
    # 178 rows in 3 stratified folds: the folds differ by one row.
    assert sum(passes) == 48
    assert len(passes) == 2
    np.testing.assert_array_equal(search.predict(X), grid_search.predict(X))
    assert search.best_estimator_.memory is None
    assert search.estimator.memory is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "grid"),
    [
        ({"early_stopping": True, "n_iter_no_change": 1}, {"learning_rate": [1e-4, 3e-2]}),
        (
            {"lr_schedule": "constant", "tol": 1e-2, "n_iter_no_change": 2, "max_epochs": 20},
            {"n_components": [1, 4]},
        ),
        ({"optimizer": "sgd", "normalization": "batch"}, {"learning_rate": [0.01, 0.1]}),
        (
            {"dropout": 0.2, "latent_l1": 0.1},
            {"n_components": [2, 5], "n_nonzero_coefs": [None, 1]},
        ),
        ({}, {"hidden_layer_sizes": [(4,), (8, 4)], "batch_size": [8, 32]}),
        ({"scaling": StandardScaler()}, {"scaling": [StandardScaler(), None, "minmax"]}),
        ({"random_state": np.random.RandomState(3)}, {"n_components": [1, 2]}),
    ],
)
def test_equals_grid_search_for_other_settings(settings, grid):
    _assert_equal(*_both(_transformer(**settings), grid, return_train_score=True))


@pytest.mark.slow
def test_other_estimators_and_scorings():
    grid = {"n_components": [1, 2], "random_state": [0, 1]}
    detector = AutoencoderAnomalyDetector(**SETTINGS | {"n_estimators": 2})
    labels = np.where(np.arange(len(X)) % 4 == 0, -1, 1)
    _assert_equal(*_both(detector, grid, y=labels, scoring="roc_auc"))
    denoiser = DenoisingAutoencoder(**SETTINGS)
    _assert_equal(*_both(denoiser, grid | {"noise_level": [0.1, 0.4]}))
    scoring = {"accuracy": "accuracy", "loss": "neg_log_loss"}
    _assert_equal(*_both(_pipeline(), _names(grid), scoring=scoring, refit="loss"))


@pytest.mark.slow
def test_missing_values_weights_and_groups(passes):
    rng = np.random.default_rng(0)
    holes = np.where(rng.random(X.shape) < 0.1, np.nan, X)
    _assert_equal(*_both(_transformer(), {"n_components": [1, 3]}, X=holes))
    assert max(passes) == 2  # Missing cells are counted over all rows of a pass.
    weights = {"sample_weight": rng.integers(0, 3, len(X)).astype(float)}
    _assert_equal(*_both(_transformer(), {"n_components": [1, 3]}, fit_params=weights))
    pipeline_weights = {"autoencodertransformer__sample_weight": weights["sample_weight"]}
    _assert_equal(
        *_both(_pipeline(), _names({"n_components": [1, 3]}), fit_params=pipeline_weights)
    )
    groups = {"groups": np.arange(len(X)) % 7}
    grid = {"n_components": [1, 3]}
    _assert_equal(*_both(_transformer(), grid, cv=GroupKFold(3), fit_params=groups))


def test_random_splits_are_drawn_once():
    splitter = ShuffleSplit(2, random_state=np.random.RandomState(0))
    grid = {"n_components": [1, 2]}
    search = AutoencoderSearchCV(_transformer(), grid, cv=splitter).fit(X)
    splitter = ShuffleSplit(2, random_state=np.random.RandomState(0))
    alone = GridSearchCV(_transformer(), grid, cv=splitter).fit(X)
    _assert_equal(search, alone)


def test_a_candidate_that_fails_does_not_disturb_the_others():
    grid = {"learning_rate": [1e-2, 1e12], "optimizer": ["sgd"]}
    with pytest.warns() as warned:
        search = AutoencoderSearchCV(_transformer(), grid, cv=3).fit(X)
    alone = GridSearchCV(_transformer(optimizer="sgd"), {"learning_rate": [1e-2]}, cv=3).fit(X)
    assert "diverged" in str(warned[0].message)
    scores = search.cv_results_["mean_test_score"]
    np.testing.assert_allclose(scores, [alone.best_score_, np.nan], rtol=1e-9)
    assert search.best_params_["learning_rate"] == 1e-2
    with pytest.raises(ValueError, match="diverged"):
        AutoencoderSearchCV(_transformer(), grid, cv=3, error_score="raise").fit(X)
    with pytest.raises(ValueError, match="n_components"):
        AutoencoderSearchCV(_transformer(), {"n_components": [0]}, error_score="raise").fit(X)
    assert not shared_fits._serving


class CountingScaler(TransformerMixin, BaseEstimator):
    fits = 0

    def __init__(self, factor=1.0):
        self.factor = factor

    def fit(self, X, y=None):
        type(self).fits += 1
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return X * self.factor


def test_steps_ahead_are_fitted_once_a_fold():
    CountingScaler.fits = 0
    pipeline = make_pipeline(CountingScaler(), *(step for _, step in _pipeline().steps))
    search = AutoencoderSearchCV(pipeline, _names({"n_components": [1, 2, 3]}), cv=4).fit(X, y)
    assert CountingScaler.fits == 4 + 1
    grid = GridSearchCV(pipeline, _names({"n_components": [1, 2, 3]}), cv=4).fit(X, y)
    _assert_equal(search, grid)


def test_what_cannot_share_a_pass_is_fitted_alone(passes):
    def pair(input_shape, n_components):
        return torch.nn.Linear(input_shape[0], n_components), torch.nn.Linear(
            n_components, input_shape[0]
        )

    grid = _names({"n_components": [1, 2], "network": [pair, "mlp"]})
    _assert_equal(*_both(_pipeline(), grid))
    assert 1 not in passes  # A local function has no pickle: its fits are not noted at all.
    verbose = [{"autoencodertransformer": [PCA(2), _transformer(n_components=2)]}]
    _assert_equal(*_both(_pipeline(), verbose))


def test_threads_leave_each_other_alone():
    alone = _transformer().fit(X).transform(X)
    results = []

    def fit_here():
        results.append(_transformer().fit(X).transform(X))

    class Hook(BaseEstimator):
        """A step that fits elsewhere while the search collects."""

        def fit(self, X, y=None):
            thread = threading.Thread(target=fit_here)
            thread.start()
            thread.join()
            self.fitted_ = True
            return self

        def transform(self, X):
            return X

    pipeline = make_pipeline(Hook(), *(step for _, step in _pipeline().steps))
    AutoencoderSearchCV(pipeline, _names({"n_components": [2]}), cv=2, n_jobs=2).fit(X, y)
    for result in results:
        np.testing.assert_array_equal(result, alone)
    assert len(results) >= 3


def test_scorers_see_estimators_as_fit_leaves_them():
    seen = []

    def scoring(estimator, X, y=None):
        seen.append(vars(estimator))
        return 0.0

    _both(_transformer(), {"n_components": [2]}, y=None, scoring=scoring, refit=False, cv=2)
    for mine, theirs in zip(seen[2:], seen[:2], strict=True):
        assert mine.keys() == theirs.keys()
        np.testing.assert_allclose(mine["loss_curve_"], theirs["loss_curve_"], rtol=1e-9)
        assert mine["_input"] == theirs["_input"]


def test_fit_times_include_the_pass():
    search = AutoencoderSearchCV(_transformer(max_epochs=50), {"n_components": [1, 2]}, cv=2).fit(X)
    assert (search.cv_results_["mean_fit_time"] > search.cv_results_["mean_score_time"]).all()


def test_frames_go_in_and_names_are_kept():
    pytest.importorskip("pandas")
    frame = load_iris(as_frame=True).data.sample(frac=1.0, random_state=0)
    search = AutoencoderSearchCV(_transformer(), {"n_components": [1, 2]}, cv=2).fit(frame)
    assert list(search.best_estimator_.feature_names_in_) == list(frame.columns)
    assert search.n_features_in_ == 4


EXPECTED_FAILURES = {
    "check_estimators_nan_inf": "a search passes rows on unseen, so that steps may take NaN",
}


# What is said of fits that are meant to fail.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
@pytest.mark.slow
@parametrize_with_checks(
    [AutoencoderSearchCV(_pipeline(precision="float32"), _names({"n_components": [1, 2]}), cv=2)],
    expected_failed_checks=lambda _: EXPECTED_FAILURES,
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)
