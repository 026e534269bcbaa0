"""Copies share the density that is pending, and nobody fits it unasked."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.mixture import BayesianGaussianMixture

from skae import AutoencoderTransformer, DenoisingAutoencoder, VariationalAutoencoder
from skae._estimators import sampling
from skae.io import load, save

X = load_iris().data
FEW = {
    "max_epochs": 1,
    "random_state": 0,
    "n_components": 3,
    "hidden_layer_sizes": (8,),
    "latent_density": "gmm",
}
COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "copy of a copy": lambda model: copy.copy(copy.deepcopy(model)),
}


@pytest.fixture
def n_fits(monkeypatch):
    """How many densities were fitted."""
    fits, fit_density = [], sampling.fit_density

    def counted(*arguments):
        fits.append(arguments[0])
        return fit_density(*arguments)

    monkeypatch.setattr(sampling, "fit_density", counted)
    return lambda: len(fits)


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize(
    "kind", [AutoencoderTransformer, DenoisingAutoencoder, VariationalAutoencoder]
)
def test_a_copy_fits_no_density_and_shares_it(n_fits, kind, name):
    model = kind(**FEW).fit(X)
    copied = COPIES[name](model)
    clone(model), clone(FrozenEstimator(model)), copied.transform(X), repr(copied)
    assert n_fits() == 0
    drawn = copied.sample(5, random_state=0)
    assert n_fits() == 1
    np.testing.assert_array_equal(model.sample(5, random_state=0), drawn)
    np.testing.assert_array_equal(COPIES[name](model).sample(5, random_state=0), drawn)
    assert n_fits() == 1


def test_a_copy_is_a_fitted_estimator_of_its_own():
    model = AutoencoderTransformer(**FEW).fit(X)
    for make in COPIES.values():
        copied = make(model).set_params(n_components=2)
        assert model.n_components == 3
        assert type(copied) is type(model)
        np.testing.assert_array_equal(copied.transform(X), model.transform(X))
        before = model.transform(X)
        copied.set_params(n_components=3).partial_fit(X[:50])
        np.testing.assert_array_equal(model.transform(X), before)
        copied.fit_density(X[:50])
        assert (model.sample(5, random_state=0) != copied.sample(5, random_state=0)).any()


def test_fewer_latents_and_other_sparsity_fit_no_density(n_fits):
    sparse = AutoencoderTransformer(n_nonzero_coefs=2, **FEW).fit(X)
    changed = sparse.with_n_nonzero_coefs(3)
    ordered = AutoencoderTransformer(ordered=True, **FEW).fit(X)
    shorter = ordered.truncate(2).truncate(1)
    assert n_fits() == 0
    assert (changed.sample(4, random_state=0) == sparse.sample(4, random_state=0)).all()
    assert n_fits() == 1
    assert shorter.sample(4, random_state=0).shape == (4, 4)
    ordered.sample(4)
    assert n_fits() == 2
    # The marginal of the whole density, as when it is fitted before.
    again = ordered.truncate(1)
    np.testing.assert_array_equal(
        again.sample(4, random_state=0), shorter.sample(4, random_state=0)
    )


def test_a_density_of_ones_own_cannot_be_cut(n_fits):
    options = FEW | {"latent_density": BayesianGaussianMixture(n_components=2, random_state=0)}
    ordered = AutoencoderTransformer(ordered=True, **options).fit(X)
    shorter = ordered.truncate(2)
    assert n_fits() == 0
    with pytest.raises(ValueError, match="no density"):
        shorter.sample()
    assert ordered.sample(3).shape == (3, 4)


def test_a_codec_fits_no_density(n_fits):
    pytest.importorskip("constriction")
    from skae.codec import LatentCodec

    LatentCodec(AutoencoderTransformer(**FEW), max_epochs=1, random_state=0).fit(X)
    LatentCodec(FrozenEstimator(AutoencoderTransformer(**FEW).fit(X)), max_epochs=1).fit(X)
    assert n_fits() == 0


def test_pickles_and_files_hold_the_density(n_fits, tmp_path):
    model = AutoencoderTransformer(**FEW).fit(X)
    copied = copy.copy(model)
    normal = FEW | {"latent_density": "gaussian"}
    few, many = (AutoencoderTransformer(**normal).fit(np.tile(X, (n, 1))) for n in (2, 40))
    # Both hold the same number of recent rows.
    assert len(pickle.dumps(many)) < 1.01 * len(pickle.dumps(few)), "no more rows"
    before = n_fits()
    loaded = pickle.loads(pickle.dumps(model))
    save(copied, tmp_path / "model.safetensors")
    assert n_fits() == before + 1
    drawn = model.sample(5, random_state=0)
    np.testing.assert_array_equal(loaded.sample(5, random_state=0), drawn)
    of_file = load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(of_file.sample(5, random_state=0), drawn)
    assert n_fits() == before + 1
    short = AutoencoderTransformer(ordered=True, **FEW).fit(X).truncate(1)
    save(short, tmp_path / "short.safetensors")
    of_file = load(tmp_path / "short.safetensors")
    np.testing.assert_array_equal(
        of_file.sample(5, random_state=0), short.sample(5, random_state=0)
    )
    pickle.loads(pickle.dumps(short)).sample(2)
