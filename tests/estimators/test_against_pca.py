"""A fit is never worse than PCA of its size on rows that it did not see."""

from itertools import pairwise

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_sample_images, load_wine
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer
from skae.model_selection import AutoencoderSearchCV


def _split(X, n_train):
    X = X[np.random.default_rng(0).permutation(len(X))]
    return X[:n_train], X[n_train:]


def _patches(side, n_train=900):
    pytest.importorskip("PIL", reason="reads the photograph")
    rng = np.random.default_rng(0)
    image = load_sample_images().images[0]
    corners = rng.integers(0, np.array(image.shape[:2]) - side, size=(n_train + 300, 2))
    rows = [image[i : i + side, j : j + side].reshape(-1) for i, j in corners]
    return np.array(rows[:n_train]) / 255, np.array(rows[n_train:]) / 255


def _low_rank(n, p, rank, noise):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n + 200, rank)) @ rng.normal(size=(rank, p))
    X += noise * rng.normal(size=X.shape)
    return X[:n], X[n:]


def _words():
    rng = np.random.default_rng(0)
    topics = rng.dirichlet(np.full(300, 0.05), size=10)
    return _split(
        np.sqrt(rng.poisson(60 * rng.dirichlet(np.full(10, 0.2), size=700) @ topics)), 500
    )


KINDS = {
    "wine": lambda: _split(StandardScaler().fit_transform(load_wine().data), 120),
    "cancer": lambda: _split(StandardScaler().fit_transform(load_breast_cancer().data), 400),
    "digits": lambda: _split(load_digits().data / 16, 1200),
    "colors": lambda: _patches(6),
    "low rank": lambda: _low_rank(800, 40, 5, 0.5),
    "wide": lambda: _low_rank(60, 300, 8, 1.0),
    "words": _words,
}
SIZES = {
    "wine": (1, 4, 13),
    "cancer": (3, 30),
    "digits": (8, 64),
    "colors": (8, 108),
    "low rank": (3, 20, 40),
    "wide": (1, 8, 40),
    "words": (3, 30),
}


def _error(model, X, held_out):
    rebuilt = model.inverse_transform(model.fit(X).transform(held_out))
    return ((rebuilt - held_out) ** 2).mean()


def _pair(name, size, **settings):
    """Errors of the autoencoder and of PCA, and what rounding leaves."""
    X, held_out = KINDS[name]()
    own = AutoencoderTransformer(n_components=size, scaling=None, random_state=0, **settings)
    pca = PCA(size, random_state=0)
    return _error(own, X, held_out), _error(pca, X, held_out), 1e-9 * held_out.var()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [(k, n) for k, sizes in SIZES.items() for n in sizes])
def test_no_worse_than_pca_of_its_size_on_new_rows(name, size):
    own, pca, rounding = _pair(name, size)
    assert own <= 1.02 * pca + rounding


@pytest.mark.parametrize(
    "settings",
    [{"hidden_layer_sizes": (3,)}, {"activation": "tanh"}, {"learning_rate": 0.02}],
    ids=["narrow", "tanh", "fast"],
)
def test_no_setting_of_the_layers_stands_in_the_way(settings):
    own, pca, rounding = _pair("low rank", 20, **settings)
    assert own <= 1.02 * pca + rounding


def test_where_rows_are_curved_it_is_better():
    own, pca, _ = _pair("digits", 8)
    assert own < 0.65 * pca


def test_more_latents_are_never_worse():
    X, held_out = KINDS["cancer"]()
    sizes = (1, 4, 16, 30)
    errors = [
        _error(AutoencoderTransformer(n_components=n, random_state=0), X, held_out) for n in sizes
    ]
    assert all(more <= 1.02 * fewer for fewer, more in pairwise(errors))
    assert errors[-1] < 1e-9


def test_a_search_takes_back_as_much_as_single_fits():
    X, held_out = KINDS["wide"]()
    base = AutoencoderTransformer(scaling=None, random_state=0, precision="float64")
    search = AutoencoderSearchCV(base, {"n_components": [2, 8]}, cv=2).fit(X)
    alone = base.set_params(**search.best_params_).fit(X)
    np.testing.assert_allclose(
        search.best_estimator_.reconstruct(held_out), alone.reconstruct(held_out), rtol=1e-9
    )


def test_without_early_stopping_nothing_is_taken_back():
    X, held_out = KINDS["wide"]()
    settings = {"n_components": 8, "scaling": None, "random_state": 0}
    kept = AutoencoderTransformer(early_stopping=False, **settings)
    # The training rows are fitted closely, new ones badly.
    assert _error(kept, X, held_out) > 1.05 * _error(PCA(8), X, held_out)


def test_folds_that_hold_back_numbers_of_rows_of_their_own_are_searched():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 6))
    X[:20] = X[0]  # The first fold has fewer different rows.
    base = AutoencoderTransformer(scaling=None, random_state=0)
    search = AutoencoderSearchCV(base, {"n_components": [1, 2]}, cv=2, refit=False).fit(X)
    for size, score in zip((1, 2), search.cv_results_["split0_test_score"], strict=True):
        alone = base.set_params(n_components=size).fit(X[45:])
        assert score == pytest.approx(alone.score(X[:45]), abs=1e-5)


def test_few_latents_of_one_hot_columns_tell_what_components_tell():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(600, 4))
    of_values = hidden[:, :3, None] * 2 + rng.normal(size=(600, 3, 5))
    one_hot = (of_values.argmax(2)[..., None] == np.arange(5)).reshape(600, 15) * 1.0
    X = np.column_stack([hidden @ rng.normal(size=(4, 4)), one_hot])

    def found(latents, kept):
        """Share of the variance of PCA's components that is linear in the latents."""
        given = np.column_stack([np.ones(len(latents)), latents])
        missed = kept - given @ np.linalg.lstsq(given, kept)[0]
        return 1.0 - missed.var(0) / kept.var(0)

    scaled = (X - X.mean(0)) / np.where(np.arange(19) < 4, X.std(0), 0.5**0.5)
    components = PCA(4).fit_transform(scaled)
    shares = {
        scaling: found(
            AutoencoderTransformer(
                n_components=4, scaling=scaling, early_stopping=False, random_state=0
            ).fit_transform(X),
            components,
        )
        for scaling in ("auto", "standard")
    }
    assert shares["auto"].min() > 0.99
    assert shares["standard"].min() < 0.9
