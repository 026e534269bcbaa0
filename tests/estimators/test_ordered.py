"""Ordered latents: nested dropout, truncation, explained variance; and sparse output."""

import pickle

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits

from skae import AutoencoderTransformer, DenoisingAutoencoder, io
from skae._networks.dense import DenseSpec
from skae._networks.factory import initialize, make_step
from skae._runtime.randomness import RandomTable

X = load_digits().data[:400]
SETTINGS = {"n_components": 6, "max_epochs": 8, "random_state": 0, "ordered": True}


@pytest.fixture(scope="module")
def ordered():
    return AutoencoderTransformer(**SETTINGS | {"max_epochs": 40}).fit(X)


def _share(estimator, X):
    """Explained variance by definition, in the scaled space (one scale for all pixels)."""
    error = ((estimator.reconstruct(X) - X) ** 2).sum()
    return 1 - error / ((X - X.mean(0)) ** 2).sum()


def test_truncated_features_are_the_first_ones(ordered):
    small = ordered.truncate(2)
    np.testing.assert_allclose(
        small.transform(X), ordered.transform(X)[:, :2], rtol=1e-4, atol=1e-5
    )
    latents = ordered.transform(X)
    latents[:, 2:] = 0
    rebuilt = ordered.inverse_transform(latents)
    np.testing.assert_allclose(small.reconstruct(X), rebuilt, rtol=1e-5, atol=1e-5)
    assert (small.n_components_, small.n_components, ordered.n_components_) == (2, 2, 6)
    assert small.get_feature_names_out().tolist() == [
        "autoencodertransformer0",
        "autoencodertransformer1",
    ]


def test_explained_variance_counts_what_each_latent_adds(ordered):
    shares = [_share(ordered.truncate(k), X) for k in range(1, 7)]
    np.testing.assert_allclose(np.cumsum(ordered.explained_variance_ratio_), shares, atol=1e-5)
    assert ordered.score(X) == pytest.approx(shares[-1], abs=1e-5)
    np.testing.assert_array_equal(
        ordered.truncate(3).explained_variance_ratio_, ordered.explained_variance_ratio_[:3]
    )


def test_first_latents_are_better_than_those_of_a_plain_fit(ordered):
    plain = AutoencoderTransformer(**SETTINGS | {"max_epochs": 40, "ordered": False}).fit(X)
    latents = plain.transform(X)
    latents[:, 2:] = 0
    cut = ((plain.inverse_transform(latents) - X) ** 2).sum()
    assert ((ordered.truncate(2).reconstruct(X) - X) ** 2).sum() < 0.8 * cut


def test_a_share_chooses_the_size():
    shared = AutoencoderTransformer(**SETTINGS | {"n_components": 0.5, "max_epochs": 40}).fit(X)
    explained = np.cumsum(shared.explained_variance_ratio_)
    assert shared.n_components_ == len(explained)
    assert explained[-1] >= 0.5
    assert len(explained) == 1 or explained[-2] < 0.5
    assert shared.n_components == 0.5


def test_a_share_that_is_not_reached_warns_and_keeps_all_latents():
    rows = np.random.default_rng(0).normal(size=(300, 100))
    everything = AutoencoderTransformer(n_components=0.95, max_epochs=2, random_state=0)
    with pytest.warns(UserWarning, match=r"n_components=0.95 .* but 64 explain"):
        everything.fit(rows)
    assert everything.n_components_ == 64


def test_training_goes_on_after_truncation(ordered):
    small = ordered.truncate(3)
    before = _share(small, X)
    moments = small._train_state["moments"]["first"]
    assert len(moments) == len(small._model.network.parameters)
    for _ in range(3):
        small.partial_fit(X)
    assert small.n_components_ == 3
    assert _share(small, X) > before - 0.05
    with pytest.raises(ValueError, match="truncate"):
        AutoencoderTransformer(n_components=0.5).partial_fit(X)


def test_pickle_clone_and_file(ordered, tmp_path):
    small = ordered.truncate(4)
    expected = small.transform(X)
    io.save(small, tmp_path / "small.safetensors")
    loaded = io.load(tmp_path / "small.safetensors")
    for copy in (pickle.loads(pickle.dumps(small)), loaded):
        np.testing.assert_array_equal(copy.transform(X), expected)
        np.testing.assert_array_equal(
            copy.truncate(1).explained_variance_ratio_, ordered.explained_variance_ratio_[:1]
        )
    assert clone(small).n_components == 4


def test_weights_are_repetitions_and_members_equal_those_alone():
    weights = np.where(np.arange(len(X)) < 200, 2.0, 1.0)
    settings = SETTINGS | {"batch_size": 600, "max_epochs": 3, "precision": "float64"}
    settings["early_stopping"] = False  # Rows held back would be others.
    repeated = np.concatenate([X, X[:200]])
    one = AutoencoderTransformer(**settings).fit(repeated)
    other = AutoencoderTransformer(**settings).fit(X, sample_weight=weights)
    ratios = one.explained_variance_ratio_, other.explained_variance_ratio_
    np.testing.assert_allclose(*ratios, rtol=1e-6)


def test_refitting_without_order_forgets_it(ordered):
    again = clone(ordered).set_params(max_epochs=2).fit(X)
    again.set_params(ordered=False).fit(X)
    assert not hasattr(again, "explained_variance_ratio_")
    with pytest.raises(ValueError, match="ordered=True"):
        again.truncate(2)


@pytest.mark.parametrize("size", [0, 7, 2.5, "two"])
def test_truncate_says_what_it_takes(ordered, size):
    with pytest.raises(ValueError, match="from 1 to n_components_=6"):
        ordered.truncate(size)


@pytest.mark.parametrize(
    "settings",
    [{"n_nonzero_coefs": 2}, {"network": "conv", "image_shape": (8, 8)}, {"n_components": 1.0}],
)
def test_what_cannot_be_ordered_is_refused(settings):
    with pytest.raises(ValueError, match=r"ordered|n_components"):
        AutoencoderTransformer(**SETTINGS | settings).fit(X)


def test_rows_keep_every_number_of_latents_as_often():
    spec = DenseSpec(3, (), (4, 2), ordered=True)
    network = initialize(spec, (0, 1), torch.float64, torch.device("cpu"))
    for layer in network.layers:
        layer.weight.fill_(1.0)
    n = 4000
    step = make_step(network, torch.zeros_like(network.parameters), n, torch.float64)
    step.input.fill_(1.0)
    step.offsets.copy_(torch.arange(2 * n) * 7919 % RandomTable.SIZE)
    step.forward()
    kept = (step.latents != 0).sum(2)
    counts = [(torch.bincount(member, minlength=5) / n).tolist() for member in kept]
    np.testing.assert_allclose(counts[0], [0, 0.25, 0.25, 0.25, 0.25], atol=0.03)
    np.testing.assert_allclose(counts[1], [0, 0.5, 0.5, 0, 0], atol=0.03)
    assert bool(((step.latents != 0).int().diff(dim=2) <= 0).all())  # A prefix.


def test_sparse_output_holds_the_same_values():
    settings = {"n_components": 40, "n_nonzero_coefs": 5, "max_epochs": 3, "random_state": 0}
    dense = AutoencoderTransformer(**settings).fit(X).transform(X)
    autoencoder = DenoisingAutoencoder(**settings, noise_level=0.0, sparse_output=True)
    latents = autoencoder.fit(X).transform(X)
    assert sparse.issparse(latents)
    assert latents.format == "csr"
    assert latents.nnz <= 5 * len(X)
    np.testing.assert_allclose(latents.toarray(), dense, rtol=1e-4, atol=1e-5)
    rebuilt = autoencoder.reconstruct(X)
    np.testing.assert_allclose(autoencoder.inverse_transform(latents.toarray()), rebuilt, rtol=1e-5)


def test_sparsity_is_annealed_so_that_no_latent_stays_dead():
    settings = {
        "n_components": 60,
        "hidden_layer_sizes": (),
        "n_nonzero_coefs": 3,
        "random_state": 0,
    }
    latents = AutoencoderTransformer(**settings, max_epochs=30).fit(X).transform(X)
    assert ((latents != 0).sum(1) <= 3).all()
    assert (latents != 0).any(0).mean() > 0.95


@pytest.mark.parametrize(
    "changes", [{}, {"network": "conv", "image_shape": (8, 8), "hidden_layer_sizes": (4,)}], ids=str
)
def test_more_latents_may_be_kept_than_in_training(changes):
    settings = {"n_components": 40, "n_nonzero_coefs": 5, "max_epochs": 3, "random_state": 0}
    few = AutoencoderTransformer(**settings | changes).fit(X)
    many = few.with_n_nonzero_coefs(15)
    before, after = few.transform(X), many.transform(X)
    assert many.n_nonzero_coefs == 15
    assert few.n_nonzero_coefs == 5
    assert ((after != 0).sum(1) == 15).all()
    # The five that were kept, and ten that are smaller.
    np.testing.assert_array_equal(after[before != 0], before[before != 0])
    smallest = np.where(before != 0, before, np.inf).min(1, keepdims=True)
    added = np.where(before != 0, -np.inf, after)
    assert (added.max(1, keepdims=True) <= smallest).all()
    np.testing.assert_array_equal(few.sample(5, random_state=0), many.sample(5, random_state=0))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(many)).transform(X), after)
    np.testing.assert_array_equal(few.transform(X), before)


def test_with_n_nonzero_coefs_says_what_it_needs(ordered):
    with pytest.raises(ValueError, match="n_nonzero_coefs=k"):
        ordered.with_n_nonzero_coefs(2)
    sparse_one = AutoencoderTransformer(n_components=4, n_nonzero_coefs=2, max_epochs=1).fit(X)
    for wrong in (0, 5, 1.5):
        with pytest.raises(
            ValueError, match=f"n_nonzero_coefs={wrong}.* from 1 to n_components_=4"
        ):
            sparse_one.with_n_nonzero_coefs(wrong)
