"""Networks of wide rows work in their principal subspace."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.metrics import roc_auc_score

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer, io
from skae._estimators.scaling import _shares_a_unit
from skae._networks.principal import axes_of_blocks, principal_axes
from skae._networks.subspace import SubspaceNetwork
from skae._runtime.tuning import SUBSPACE_AXES, WIDE_FEATURES

WIDTH = WIDE_FEATURES + 100
SMALL = {"n_components": 4, "max_epochs": 3, "random_state": 0}


def _low_rank(n, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    loadings = np.random.default_rng(9).normal(size=(6, WIDTH))
    return rng.normal(size=(n, 6)) @ loadings + noise * rng.normal(size=(n, WIDTH)) + 3.0


X, NEW = _low_rank(60), _low_rank(20, seed=1)


@pytest.fixture(scope="module")
def fitted():
    return AutoencoderTransformer(**SMALL).fit(X)


@pytest.mark.parametrize("weighted", [False, True])
def test_axes_of_blocks_are_those_of_all_rows(weighted):
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(300, 40)) * np.geomspace(5, 0.1, 40) + 2.0).float()
    w = torch.from_numpy(rng.uniform(0.5, 2, size=300)).float() if weighted else None

    def blocks():
        for part in (slice(0, 100), slice(100, 130), slice(130, 300)):
            yield x[part], None if w is None else w[part]

    found = axes_of_blocks(blocks, 4, 40, 0)
    expected = principal_axes(x.clone(), w, 4, 0)
    torch.testing.assert_close(found.mean, expected.mean.float(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        found.deviations.float(), expected.deviations.float(), rtol=1e-3, atol=1e-3
    )
    overlaps = (found.axes.float() @ expected.axes.float().T).abs().diagonal()
    assert overlaps.min() > 0.98


def test_wide_rows_are_rebuilt_as_pca_does_or_better(fitted):
    network = fitted._model.network
    assert isinstance(network, SubspaceNetwork)
    assert network.spec.widths[0] == len(X) < SUBSPACE_AXES  # More axes tell nothing more.
    pca = PCA(4, random_state=0).fit(X)
    best = ((pca.inverse_transform(pca.transform(NEW)) - NEW) ** 2).mean()
    assert ((fitted.reconstruct(NEW) - NEW) ** 2).mean() <= 1.02 * best
    assert fitted.n_features_in_ == WIDTH
    assert fitted.inverse_transform(fitted.transform(NEW)).shape == NEW.shape


def test_what_lies_outside_of_the_subspace_counts_in_scores(fitted):
    odd = NEW.copy()
    direction = np.random.default_rng(5).normal(size=WIDTH)
    odd[0] += 2.0 * direction
    usual, found = fitted.score_samples(NEW), fitted.score_samples(odd)
    np.testing.assert_array_equal(found[1:], usual[1:])
    assert found[0] < usual[0] - 0.1


def test_pickles_and_files_hold_the_subspace(fitted, tmp_path):
    expected = fitted.reconstruct(NEW)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).reconstruct(NEW), expected)
    io.save(fitted, tmp_path / "model")
    np.testing.assert_array_equal(io.load(tmp_path / "model").reconstruct(NEW), expected)


def test_sparse_rows_equal_dense_ones():
    counts = np.random.default_rng(0).poisson(0.02, size=(80, WIDTH)).astype(np.float64)
    one = AutoencoderTransformer(**SMALL).fit(counts)
    other = AutoencoderTransformer(**SMALL).fit(sparse.csr_array(counts))
    np.testing.assert_array_equal(one.transform(counts), other.transform(sparse.csr_array(counts)))
    assert one._model.scaler.name == "common"  # Nine tenths are zero.


def test_words_come_back_at_least_as_by_a_truncated_svd():
    rng = np.random.default_rng(0)
    topics = rng.dirichlet(np.full(WIDTH, 0.02), size=8)
    mixtures = rng.dirichlet(np.full(8, 0.2), size=260)
    words = np.sqrt(rng.poisson(60 * mixtures @ topics))
    words, held_out = sparse.csr_array(words[:200]), words[200:]

    def cosine(rebuilt):
        products = (rebuilt * held_out).sum(1)
        norms = np.linalg.norm(rebuilt, axis=1) * np.linalg.norm(held_out, axis=1)
        return (products / norms).mean()

    svd = TruncatedSVD(8, random_state=0).fit(words)
    own = AutoencoderTransformer(n_components=8, random_state=0).fit(words)
    assert cosine(own.reconstruct(held_out)) >= cosine(
        svd.inverse_transform(svd.transform(held_out))
    )


def test_training_goes_on_in_the_subspace_and_a_stream_begins_without_one(fitted):
    more = pickle.loads(pickle.dumps(fitted)).partial_fit(X)
    assert isinstance(more._model.network, SubspaceNetwork)
    assert len(more.loss_curve_) == 4
    stream = clone(fitted).partial_fit(X[:30]).partial_fit(X[30:])
    assert not isinstance(stream._model.network, SubspaceNetwork)


def test_ordered_latents_are_cut_off(fitted):
    ordered = AutoencoderTransformer(ordered=True, **SMALL).fit(X)
    smaller = ordered.truncate(2)
    np.testing.assert_array_equal(smaller.transform(NEW), ordered.transform(NEW)[:, :2])
    assert smaller.reconstruct(NEW).shape == NEW.shape


@pytest.mark.parametrize("changes", [{"loss": "huber"}, {"hidden_layer_sizes": (8,)}], ids=str)
def test_other_settings_learn(changes):
    model = AutoencoderTransformer(**SMALL | changes).fit(X)
    assert isinstance(model._model.network, SubspaceNetwork) == ("loss" not in changes)
    assert model.score(NEW) > 0.3


BROKEN = NEW + np.where(np.arange(WIDTH) % 100 == 0, 1.0, 0.0)  # One feature of a hundred is off.


def test_a_detector_of_wide_rows_sees_what_lies_outside_of_the_subspace():
    detector = AutoencoderAnomalyDetector(random_state=0).fit(X)
    network = detector._model.network
    assert isinstance(network, SubspaceNetwork)
    # Each member's axes are those of its own rows, so that the others are new to it.
    axes = network.front.axes
    assert axes.shape == (4, detector.max_samples_, WIDTH)
    assert not torch.equal(axes[0], axes[1])
    assert detector.score_samples(BROKEN).max() < detector.score_samples(NEW).min()
    assert (detector.predict(BROKEN) == -1).all()
    assert (detector.predict(NEW) == 1).mean() > 0.8
    # A row alone has the bits that it has among others.
    np.testing.assert_array_equal(
        detector.score_samples(NEW[3:4]), detector.score_samples(NEW)[3:4]
    )


@pytest.mark.parametrize(
    ("n_features", "narrows", "least"), [(256, False, 0.8), (257, True, 0.8), (400, True, 0.95)]
)
def test_a_detector_of_more_features_than_rows_sees_it_too(n_features, narrows, least):
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(5, n_features))
    usual = rng.normal(size=(350, 5)) @ mixing + 0.5 * rng.normal(size=(350, n_features))
    odd = usual[250:].copy()
    odd[:, ::40] += 2.0
    detector = AutoencoderAnomalyDetector(random_state=0).fit(usual[:250])
    assert isinstance(detector._model.network, SubspaceNetwork) == narrows
    scores = detector.score_samples(np.vstack([usual[250:], odd]))
    assert roc_auc_score(np.repeat([1, 0], 100), scores) > least


def test_files_and_pickles_hold_a_detector_of_wide_rows(tmp_path):
    detector = AutoencoderAnomalyDetector(max_epochs=2, random_state=0).fit(X)
    expected = detector.score_samples(NEW)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(detector)).score_samples(NEW), expected)
    io.save(detector, tmp_path / "detector")
    np.testing.assert_array_equal(io.load(tmp_path / "detector").score_samples(NEW), expected)
    network, rows = detector._model.network, torch.zeros(1, WIDTH)
    with torch.no_grad():
        encoder, decoder = network.modules(member=2)
        alone, all_of_them = decoder(encoder(rows)), network.decode(network.encode(rows))
    torch.testing.assert_close(alone, all_of_them[2], rtol=1e-4, atol=1e-4)


def test_members_with_rows_of_their_own_go_on_training_and_are_held_to_others():
    detector = AutoencoderAnomalyDetector(max_epochs=2, random_state=0).fit(X, X_val=NEW)
    assert len(detector.validation_loss_curve_) == 2
    more = detector.partial_fit(X)
    assert isinstance(more._model.network, SubspaceNetwork)
    assert np.isfinite(more.score_samples(NEW)).all()


def test_wide_images_have_maps_from_a_subspace():
    images = X.reshape(60, -1)[:, :4096].reshape(60, 64, 64)
    detector = AutoencoderAnomalyDetector(max_epochs=2, random_state=0).fit(images)
    assert isinstance(detector._model.network, SubspaceNetwork)
    odd = NEW[:1, :4096].reshape(1, 64, 64).copy()
    odd[0, 20:24, 30:34] += 30.0
    place = np.unravel_index(detector.anomaly_map(odd)[0].argmax(), (64, 64))
    assert 18 <= place[0] < 26
    assert 28 <= place[1] < 36


@pytest.mark.parametrize("order", [1, 2])
def test_mostly_empty_rows_of_one_norm_get_one_scale_whatever_holds_them(order):
    counts = np.random.default_rng(0).poisson(0.05, size=(80, 200)) * np.geomspace(1, 100, 200)
    counts[0] = 0.0  # An empty text.
    norms = np.linalg.norm(counts, order, axis=1, keepdims=True)
    words = np.divide(counts, norms, where=norms > 0, out=np.zeros_like(counts))
    small = AutoencoderTransformer(**SMALL)
    one, other = clone(small).fit(words), clone(small).fit(sparse.csr_array(words))
    assert one._model.scaler.name == "common"
    np.testing.assert_array_equal(one.transform(words), other.transform(words))
    # Counts of texts of any length, and flags, stay as they were.
    assert clone(small).fit(counts)._model.scaler.name != "common"
    flags = np.eye(200)[np.random.default_rng(1).integers(200, size=80)]
    assert not _shares_a_unit(flags, SimpleNamespace(block_length=None, seeds=(0,)), "pairs")
    assert AutoencoderAnomalyDetector(max_epochs=1).fit(words)._model.scaler.name == "mixed"


def test_missing_cells_of_wide_rows_count_as_the_mean():
    holes = np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)
    whole = AutoencoderTransformer(n_components=3, random_state=0).fit(X)
    autoencoder = AutoencoderTransformer(n_components=3, random_state=0).fit(holes)
    missing = np.isnan(holes)
    rebuilt, usual = autoencoder.reconstruct(holes), np.nanmean(holes, axis=0)
    assert np.square(rebuilt - X)[missing].mean() < 0.5 * np.square(usual - X)[missing].mean()
    np.testing.assert_allclose(autoencoder.score(X), whole.score(X), atol=0.05)
    detector = AutoencoderAnomalyDetector(random_state=0).fit(holes)
    assert detector.score_samples(10 * NEW).max() < detector.score_samples(NEW).min()


def test_detectors_of_more_features_than_rows_see_all_of_them_where_some_are_missing():
    holes = np.random.default_rng(0).normal(size=(100, 300))
    holes[3, 5] = np.nan
    network = AutoencoderAnomalyDetector(random_state=0).fit(holes)._model.network
    assert not isinstance(network, SubspaceNetwork)


@pytest.mark.parametrize("way", ["more rows", "rows with gaps", "warm start"])
def test_detectors_of_few_rows_go_on_in_the_subspace_with_any(way):
    rows = np.random.default_rng(0).normal(size=(400, 300))
    detector = AutoencoderAnomalyDetector(max_epochs=2, random_state=0).fit(rows[:100])
    if way == "warm start":
        detector.set_params(warm_start=True).fit(rows)
    else:
        more = rows if way == "more rows" else np.where(rows[:50] > 2.0, np.nan, rows[:50])
        detector.partial_fit(more)
    assert isinstance(detector._model.network, SubspaceNetwork)
    assert np.isfinite(detector.score_samples(rows)).all()
