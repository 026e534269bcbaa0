"""VariationalAutoencoder: the bound, the prior, what is learned."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch import nn

from skae import VariationalAutoencoder
from skae._networks.latents import divergence
from skae._training.losses import LOSSES

RNG = np.random.default_rng(0)

X = RNG.normal(size=(400, 2)) @ RNG.normal(size=(2, 6)) + 0.1 * RNG.normal(size=(400, 6))

SMALL = {
    "n_components": 3,
    "hidden_layer_sizes": (16,),
    "batch_size": 64,
    "max_epochs": 40,
    "random_state": 0,
    "device": "cpu",
}


def wide_pair(input_shape, n_components):
    encoder = nn.Sequential(nn.Linear(input_shape[0], 16), nn.SiLU(), nn.Linear(16, 6))
    return encoder, nn.Sequential(nn.Linear(3, 16), nn.SiLU(), nn.Linear(16, input_shape[0]))


# What is learned.


@pytest.mark.slow
@pytest.mark.parametrize("network", ["mlp", wide_pair], ids=["dense", "modules"])
def test_posterior_is_near_the_prior_and_rows_are_rebuilt(network):
    estimator = VariationalAutoencoder(**SMALL | {"max_epochs": 150}, network=network).fit(X)
    assert estimator.score(X) > 0.9
    mean, log_variance = estimator._model.network.posterior(
        torch.from_numpy((X - X.mean(0)) / X.std(0)).float()
    )
    # Over all rows together the latents have about the variance of the prior.
    variance = mean[0].var(0) + log_variance[0].exp().mean(0)
    np.testing.assert_allclose(variance.detach(), 1.0, atol=0.5)


def test_more_beta_is_less_divergence_and_more_error():
    fits = [VariationalAutoencoder(**SMALL, beta=beta).fit(X) for beta in (0.0, 0.1, 1.0, 10.0)]
    spreads = [fit.transform(X).std(axis=0).sum() for fit in fits]
    assert spreads == sorted(spreads, reverse=True)
    scores = [fit.score(X) for fit in fits]
    assert scores == sorted(scores, reverse=True)
    # So much that the latents are given up.
    assert spreads[-1] < 0.5


def test_loss_curve_holds_the_divergence_that_training_minimizes():
    estimator = VariationalAutoencoder(**SMALL | {"max_epochs": 150}, kl_warm_up=0.0).fit(X)
    assert estimator.loss_curve_[-1] == pytest.approx(-estimator.score_samples(X).mean(), abs=0.1)
    estimator.beta_ = 0.0
    assert estimator.loss_curve_[-1] > -estimator.score_samples(X).mean() + 0.3


def test_noise_of_the_rows_and_their_likelihood_are_those_of_probabilistic_pca():
    """Without hidden layers the bound is at most the likelihood of Tipping and Bishop (1999)."""
    options = SMALL | {"n_components": 2, "hidden_layer_sizes": ()}
    options |= {"learning_rate": 2e-2, "max_epochs": 800}
    estimator = VariationalAutoencoder(**options, scaling=None).fit(X)
    pca = PCA(2).fit(X)
    variance = estimator._model.network.dispersion.item() / 2
    assert variance == pytest.approx(pca.noise_variance_, rel=0.1)
    likelihood = pca.score(X) / 6 + 0.5 * np.log(np.pi)
    assert estimator.score_samples(X).mean() == pytest.approx(likelihood, abs=0.02)


@pytest.mark.parametrize(("loss", "power"), [("absolute_error", 1), ("huber", 2)])
def test_dispersion_is_that_of_the_residuals(loss, power):
    estimator = VariationalAutoencoder(
        **SMALL | {"max_epochs": 150}, loss=loss, precision="float64"
    )
    network = estimator.fit(X)._model.network
    rows = torch.from_numpy((X - X.mean(0)) / X.std(0))
    mean, log_variance = network.posterior(rows)
    noise = torch.randn(100, *mean.shape[1:], dtype=torch.float64)
    outputs = network.decode(mean + (0.5 * log_variance).exp() * noise[0])
    expected = power * LOSSES[loss].value(outputs[0], rows).mean()
    assert network.dispersion.item() == pytest.approx(expected.item(), rel=0.15)


def test_cross_entropy_is_a_likelihood_by_itself():
    rows = (X - X.min(0)) / np.ptp(X, axis=0)
    options = SMALL | {"loss": "log_loss", "beta": 0.0, "precision": "float64"}
    estimator = VariationalAutoencoder(**options).fit(rows)
    assert estimator._model.network.dispersion.item() == 1.0
    assert estimator.loss_curve_[-1] == pytest.approx(
        -estimator.score_samples(rows).mean(), rel=0.02
    )


def test_warm_up_starts_without_the_divergence():
    """In the first epochs the latents spread as without beta."""
    spreads = {}
    for warm_up in (0.0, 1.0):
        options = SMALL | {"max_epochs": 40, "lr_schedule": "constant"}
        estimator = VariationalAutoencoder(**options, beta=3.0, kl_warm_up=warm_up)
        spreads[warm_up] = estimator.fit(X).transform(X).std(axis=0).max()
    assert spreads[1.0] > spreads[0.0]


def test_scores_are_the_bound_worked_out_by_hand():
    estimator = VariationalAutoencoder(**SMALL, beta=0.5, precision="float64").fit(X)
    encoder, decoder = estimator.encoder_, estimator.decoder_
    rows = torch.from_numpy((X - X.mean(0)) / X.std(0))
    mean, log_variance = (half[0] for half in estimator._model.network.posterior(rows))
    torch.testing.assert_close(encoder(rows).detach(), mean)
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(4000, *mean.shape, generator=rng, dtype=torch.float64)
    with torch.no_grad():
        errors = (decoder(mean + (0.5 * log_variance).exp() * noise) - rows) ** 2
    dispersion = estimator._model.network.dispersion.item()
    expected = errors.sum(-1).mean(0) / dispersion + 3 * np.log(dispersion)
    expected = expected + 0.5 * divergence(mean, log_variance)
    scores = estimator.score_samples(X)
    np.testing.assert_allclose(-scores.mean(), expected.mean() / 6, rtol=0.05)
    assert np.corrcoef(-scores, expected)[0, 1] > 0.95


def test_transform_and_scores_are_without_chance_and_outliers_score_low():
    rng = np.random.default_rng(1)
    estimator = VariationalAutoencoder(**SMALL).fit(X)
    for name in ("transform", "score_samples", "reconstruct"):
        np.testing.assert_array_equal(getattr(estimator, name)(X), getattr(estimator, name)(X))
    far = 8 * rng.normal(size=X.shape)
    assert np.median(estimator.score_samples(far)) < estimator.score_samples(X).min()


def test_samples_of_the_prior_are_distributed_as_the_rows():
    options = SMALL | {"max_epochs": 150, "latent_density": "prior"}
    estimator = VariationalAutoencoder(**options).fit(X)
    drawn = estimator.sample(4000, random_state=0)
    np.testing.assert_allclose(drawn.mean(axis=0), X.mean(axis=0), atol=0.2)
    np.testing.assert_allclose(np.corrcoef(drawn.T), np.corrcoef(X.T), atol=0.25)


def test_density_of_the_latents_in_place_of_the_prior():
    estimator = VariationalAutoencoder(**SMALL, latent_density="prior")
    with pytest.raises(ValueError, match="'prior' is not fitted"):
        clone(estimator).fit(X).fit_density(X)
    some = X[X[:, 0] > X[:, 0].mean()]
    estimator.fit(X).set_params(latent_density="gmm").fit_density(some)
    drawn = estimator.sample(1000, random_state=0)
    np.testing.assert_allclose(drawn.mean(axis=0), some.mean(axis=0), atol=0.3)


@pytest.mark.slow
def test_images_by_convolutions():
    images = load_digits().images
    estimator = VariationalAutoencoder(
        network="conv", n_components=8, max_epochs=10, random_state=0, device="cpu", beta=0.1
    ).fit(images)
    assert estimator.score(images) > 0.6
    decoded = estimator.inverse_transform(estimator.transform(images))
    np.testing.assert_allclose(decoded, estimator.reconstruct(images), atol=1e-3)
    drawn = estimator.sample(200, random_state=0)
    assert drawn.shape == (200, 8, 8)
    # As dark at the sides as digits are, and as bright in the middle.
    np.testing.assert_allclose(drawn.mean(axis=(0, 1)), images.mean(axis=(0, 1)), atol=1.5)


# What is refused.


@pytest.mark.parametrize("name", ["ordered", "n_nonzero_coefs"])
def test_latents_are_neither_ordered_nor_sparse(name):
    assert name not in VariationalAutoencoder().get_params()
    with pytest.raises(TypeError, match=name):
        VariationalAutoencoder(**{name: 2})
    for method in ("truncate", "with_n_nonzero_coefs"):
        assert not hasattr(VariationalAutoencoder, method)


def test_scores_count_with_the_beta_of_the_fit():
    estimator = VariationalAutoencoder(**SMALL, beta=0.5).fit(X)
    expected = estimator.score_samples(X)
    assert estimator.beta_ == 0.5
    np.testing.assert_array_equal(estimator.set_params(beta=3.0).score_samples(X), expected)
    assert estimator.fit(X).beta_ == 3.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("beta", -1.0),
        ("beta", None),
        ("beta", True),
        ("kl_warm_up", 1.5),
        ("network", "unet"),
        ("n_components", 0.9),
        ("init", "pca"),
    ],
)
def test_bad_parameters_are_refused(name, value):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of VariationalAutoencoder must"):
        VariationalAutoencoder(**SMALL | {name: value}).fit(X)


def test_encoder_of_ones_own_gives_two_numbers_a_latent():
    def narrow(input_shape, n_components):
        return nn.Linear(6, n_components), nn.Linear(n_components, 6)

    with pytest.raises(ValueError, match=r"2 \* n_components.*means and log variances"):
        VariationalAutoencoder(**SMALL, network=narrow).fit(X)
