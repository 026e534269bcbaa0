"""Densities of latents."""

import numpy as np
import pytest
from sklearn.mixture import BayesianGaussianMixture
from sklearn.neighbors import KernelDensity

from skae._model.density import draw, fit_density

RNG = np.random.default_rng(0)

DENSITIES = {
    "gaussian": "gaussian",
    "gmm": "gmm",
    "kernels": KernelDensity(bandwidth=0.2),
    "bayesian mixture": BayesianGaussianMixture(max_iter=500),
}

each_density = pytest.mark.parametrize("density", DENSITIES)


@each_density
def test_density_has_the_moments_of_what_it_was_fitted_on(density):
    rng = np.random.default_rng(1)
    Z = rng.normal(size=(2000, 3)) @ rng.normal(size=(3, 3)) + [1.0, -2.0, 30.0]
    fitted = fit_density(DENSITIES[density], Z, None, 0)
    drawn = draw(fitted, 20_000, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.mean(axis=0), Z.mean(axis=0), atol=0.1)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(Z.T), rtol=0.1, atol=0.15)


def test_mixture_finds_clusters_that_a_gaussian_blurs():
    rng = np.random.default_rng(1)
    Z = np.concatenate([rng.normal(-10, 1, size=(500, 2)), rng.normal(10, 1, size=(500, 2))])
    between = {
        kind: np.mean(np.abs(draw(fit_density(kind, Z, None, 0), 1000, rng)[:, 0]) < 5)
        for kind in ("gaussian", "gmm")
    }
    assert between["gmm"] < 0.01 < 0.2 < between["gaussian"]


def test_density_heeds_weights_and_latents_that_do_not_vary():
    rng = np.random.default_rng(1)
    Z = np.concatenate([np.zeros((500, 2)), np.ones((500, 2))])
    for kind in ("gaussian", "gmm"):
        drawn = draw(fit_density(kind, Z, np.repeat([0.0, 1.0], 500), 0), 100, rng)
        np.testing.assert_allclose(drawn, 1.0, atol=0.1)


def test_latents_that_never_vary_are_drawn_as_they_are():
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(300, 8))
    Z[:, 2:] = rng.normal(size=6) * 3
    density = fit_density("gmm", Z, None, 0)
    drawn = density.draw(500, rng)
    assert len(density.weights) == 1
    np.testing.assert_allclose(drawn[:, 2:], np.tile(Z[0, 2:], (500, 1)), atol=0.1)
    np.testing.assert_allclose(drawn[:, :2].std(axis=0), 1.0, atol=0.1)
