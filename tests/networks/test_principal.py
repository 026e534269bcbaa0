"""Networks that start as PCA."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer
from skae._networks.principal import principal_axes

CANCER = StandardScaler().fit_transform(load_breast_cancer().data)
DIGITS = load_digits().data

# So small a rate leaves the weights where they start, and nothing is taken back.
START = {
    "max_epochs": 1,
    "learning_rate": 1e-30,
    "scaling": None,
    "early_stopping": False,
    "random_state": 0,
}


def _start(**settings):
    return AutoencoderTransformer(**START | settings)


def _path_alone(autoencoder):
    """Silence what stands beside the linear path."""
    layers = autoencoder._model.network.layers
    with torch.no_grad():
        for i in (len(layers) // 2 - 1, -1):
            layers[i].weight.zero_()
    return autoencoder


@pytest.mark.parametrize("settings", [{}, {"activation": "tanh"}, {"normalization": "batch"}])
@pytest.mark.parametrize("hidden", [(), (4,), (40, 30), (20, 30, 26)])
def test_starts_as_pca_does(settings, hidden):
    X = CANCER + 5.0  # The mean is part of it.
    autoencoder = _start(hidden_layer_sizes=hidden, n_components=10, **settings)
    autoencoder.fit(X)
    pca = PCA(10).fit(X)
    expected = pca.inverse_transform(pca.transform(X))
    assert ((autoencoder.reconstruct(X) - expected) ** 2).mean() < 0.05  # of a variance of 1
    np.testing.assert_allclose(_path_alone(autoencoder).reconstruct(X), expected, atol=2e-4)
    latents = autoencoder.transform(X)
    # Scores over the root of their standard deviation; either way round.
    scores = pca.transform(X) / pca.explained_variance_**0.25
    np.testing.assert_allclose(np.abs(latents), np.abs(scores), rtol=5e-3, atol=5e-3)


def test_wide_rows_start_at_the_leading_axes():
    X = np.random.default_rng(0).normal(size=(500, 6)) @ np.random.default_rng(1).normal(
        size=(6, 300)
    )
    X += 0.01 * np.random.default_rng(2).normal(size=X.shape)
    autoencoder = _start(n_components=4).fit(X)
    pca = PCA(4).fit(X)
    error = ((autoencoder.reconstruct(X) - X) ** 2).mean()
    best = ((pca.inverse_transform(pca.transform(X)) - X) ** 2).mean()
    assert error == pytest.approx(best, abs=0.01 * X.var())


def test_as_many_latents_as_columns_give_the_rows_back():
    rebuilt = _path_alone(_start(n_components=30, hidden_layer_sizes=(7,)).fit(CANCER))
    np.testing.assert_allclose(rebuilt.reconstruct(CANCER), CANCER, atol=1e-4)


def test_constant_columns_and_few_rows():
    X = np.ones((5, 8))
    X[:, 0] = np.arange(5)
    autoencoder = _path_alone(_start(n_components=4).fit(X))
    np.testing.assert_allclose(autoencoder.reconstruct(X), X, atol=1e-4)
    constant = np.full((5, 3), 2.0)
    rebuilt = _path_alone(_start().fit(constant)).reconstruct(constant)
    np.testing.assert_allclose(rebuilt, constant, atol=1e-4)


def test_weights_count_as_repetitions_and_missing_cells_as_the_center():
    weights = 1.0 + (np.arange(len(CANCER)) % 3 == 0)
    repeated = np.repeat(CANCER, weights.astype(int), axis=0)
    settings = {"n_components": 5, "hidden_layer_sizes": (12,)}
    one = _start(**settings).fit(repeated).reconstruct(CANCER)
    other = _start(**settings).fit(CANCER, sample_weight=weights).reconstruct(CANCER)
    np.testing.assert_allclose(one, other, atol=1e-4)
    holes = np.where(np.random.default_rng(0).random(CANCER.shape) < 0.1, np.nan, CANCER)
    assert np.isfinite(_start(**settings).fit(holes).reconstruct(holes)).all()


def test_axes_are_orthonormal_and_ordered():
    x = torch.from_numpy(CANCER)
    mean, axes, deviations = principal_axes(x, None, 8, 0)
    np.testing.assert_allclose(axes @ axes.T, np.eye(8), atol=1e-10)
    np.testing.assert_allclose(
        deviations**2 * len(x) / (len(x) - 1), PCA(8).fit(CANCER).explained_variance_
    )
    np.testing.assert_allclose(mean, CANCER.mean(0), atol=1e-12)


def test_training_from_pca_beats_pca_and_a_random_start():
    settings = {"n_components": 16, "max_epochs": 15, "random_state": 0}
    pca = PCA(16).fit(DIGITS)
    error = {
        "pca": ((pca.inverse_transform(pca.transform(DIGITS)) - DIGITS) ** 2).mean(),
        **{
            init: ((a.fit(DIGITS).reconstruct(DIGITS) - DIGITS) ** 2).mean()
            for init in ("auto", "random")
            for a in [AutoencoderTransformer(init=init, **settings)]
        },
    }
    assert error["auto"] < 0.8 * min(error["pca"], error["random"])


@pytest.mark.parametrize(
    "settings",
    [
        {"n_nonzero_coefs": 2},
        {"loss": "log_loss", "scaling": "minmax"},
    ],
)
def test_where_it_is_impossible_auto_is_random(settings):
    common = {"n_components": 3, "max_epochs": 1, "random_state": 0}
    auto = AutoencoderTransformer(**common, **settings).fit_transform(CANCER)
    drawn = AutoencoderTransformer(init="random", **common, **settings).fit_transform(CANCER)
    np.testing.assert_array_equal(auto, drawn)
    with pytest.raises(ValueError, match="init='auto'"):
        AutoencoderTransformer(init="pca", **common, **settings).fit(CANCER)


def test_a_detector_starts_at_random_unless_told():
    settings = {"max_epochs": 1, "random_state": 0}
    auto = AutoencoderAnomalyDetector(**settings).fit(CANCER).score_samples(CANCER)
    drawn = AutoencoderAnomalyDetector(init="random", **settings).fit(CANCER).score_samples(CANCER)
    told = AutoencoderAnomalyDetector(init="pca", **settings).fit(CANCER).score_samples(CANCER)
    np.testing.assert_array_equal(auto, drawn)
    assert np.abs(told - auto).max() > 1e-3
