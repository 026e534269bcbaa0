"""What users of PCA expect of AutoencoderTransformer."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer, DenoisingAutoencoder, VariationalAutoencoder

IRIS = load_iris().data
SMALL = {"random_state": 0, "device": "cpu", "max_epochs": 30}
CLASSES = [AutoencoderTransformer, DenoisingAutoencoder, VariationalAutoencoder]

each_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)


def _transformer(**options):
    return AutoencoderTransformer(**SMALL | options)


@pytest.fixture(scope="module")
def fitted():
    return _transformer(n_components=2).fit(IRIS)


def _plane(seed, n=120):
    """Rows on a plane in four dimensions."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) @ rng.normal(size=(2, 4)) + 5.0


@each_class
@pytest.mark.parametrize("n_components", [1, 3])
def test_fit_transform_is_fit_and_then_transform(cls, n_components):
    transformer = cls(**SMALL, n_components=n_components)
    latents = transformer.fit_transform(IRIS)
    assert latents.shape == (150, n_components)
    np.testing.assert_array_equal(latents, transformer.transform(IRIS))
    np.testing.assert_array_equal(latents, clone(transformer).fit(IRIS).transform(IRIS))


@pytest.mark.parametrize("seed", range(2))
def test_new_rows_on_the_plane_come_back(seed):
    rows = _plane(seed)
    transformer = AutoencoderTransformer(n_components=2, random_state=seed, device="cpu")
    transformer.fit(rows[:100])
    back = transformer.inverse_transform(transformer.transform(rows[100:]))
    assert np.sqrt(((back - rows[100:]) ** 2).mean()) < 0.02 * rows.std()


def test_inverse_transform_of_as_many_latents_as_features_is_the_identity():
    transformer = _transformer(n_components=4).fit(IRIS)
    back = transformer.inverse_transform(transformer.transform(IRIS))
    np.testing.assert_allclose(back, IRIS, atol=0.05)


def test_a_share_of_the_variance_chooses_the_number_of_latents():
    for share in (0.5, 0.9, 0.99):
        transformer = _transformer(n_components=share).fit(IRIS)
        assert transformer.explained_variance_ratio_.sum() >= share
        assert transformer.n_components_ <= PCA(share).fit(IRIS).n_components_ + 1


def test_explained_shares_fall_and_sum_to_at_most_one():
    shares = _transformer(n_components=4, ordered=True).fit(IRIS).explained_variance_ratio_
    assert (np.diff(shares) <= 0).all()
    assert shares.min() >= 0
    assert 0.99 < shares.sum() <= 1.0


def test_first_latents_are_those_of_a_smaller_fit():
    # Of PCA they are the same by definition; here truncate makes them so.
    transformer = _transformer(n_components=3, ordered=True).fit(IRIS)
    smaller = transformer.truncate(2)
    np.testing.assert_array_equal(smaller.transform(IRIS), transformer.transform(IRIS)[:, :2])
    shares = transformer.explained_variance_ratio_
    np.testing.assert_allclose(smaller.explained_variance_ratio_, shares[:2])


def test_more_latents_explain_more():
    scores = [_transformer(n_components=n).fit(IRIS).score(IRIS) for n in (1, 2, 4)]
    assert scores[0] < scores[1] < scores[2] <= 1.0


def test_fewer_latents_explain_more_of_a_curve_than_pca_does():
    angle = np.random.default_rng(0).uniform(0, 1.5 * np.pi, size=300)
    curve = np.column_stack([np.cos(angle), np.sin(angle), angle])
    transformer = AutoencoderTransformer(n_components=1, random_state=0, device="cpu").fit(curve)
    pca = PCA(1).fit((curve - curve.mean(0)) / curve.std(0))
    assert transformer.score(curve) > pca.explained_variance_ratio_.sum() + 0.1


def test_score_is_higher_for_rows_of_the_kind_of_the_training_rows(fitted):
    shuffled = np.random.default_rng(0).permuted(IRIS, axis=0)
    assert fitted.score(IRIS) > fitted.score(shuffled) + 0.1
    assert fitted.score_samples(IRIS).mean() > fitted.score_samples(shuffled).mean()


def test_score_samples_average_to_the_unexplained_share(fitted):
    # Standardized columns have a variance of one.
    assert fitted.score(IRIS) == pytest.approx(1 + fitted.score_samples(IRIS).mean(), abs=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint8])
def test_rows_of_any_dtype_give_the_same_latents(dtype):
    rows = np.rint(10 * IRIS).astype(dtype)
    latents = _transformer(n_components=2).fit_transform(rows)
    assert latents.dtype == np.float32
    expected = _transformer(n_components=2).fit_transform(rows.astype(np.float64))
    np.testing.assert_allclose(latents, expected, atol=1e-3)


def test_latents_are_float64_where_the_precision_is():
    assert _transformer(precision="float64").fit_transform(IRIS).dtype == np.float64


def test_lists_give_the_latents_of_arrays(fitted):
    np.testing.assert_array_equal(fitted.transform(IRIS.tolist()), fitted.transform(IRIS))


def test_rows_are_left_as_they_are(fitted):
    rows = IRIS.copy()
    clone(fitted).fit(rows).reconstruct(rows)
    np.testing.assert_array_equal(rows, IRIS)
    rows.flags.writeable = False
    np.testing.assert_array_equal(clone(fitted).fit_transform(rows), fitted.transform(IRIS))


@pytest.mark.parametrize("order", ["C", "F"])
def test_layout_of_memory_does_not_matter(fitted, order):
    rows = np.asarray(IRIS, order=order)
    np.testing.assert_array_equal(clone(fitted).fit_transform(rows), fitted.transform(IRIS))


def test_seeds_repeat_a_fit(fitted):
    np.testing.assert_array_equal(clone(fitted).fit_transform(IRIS), fitted.transform(IRIS))


@pytest.mark.parametrize("n_components", [0, -1, 1.0, 1.5, None, "mle", True])
def test_sizes_that_mean_nothing_are_refused(n_components):
    with pytest.raises(ValueError, match="n_components"):
        _transformer(n_components=n_components).fit(IRIS)


def test_there_may_be_more_latents_than_features_or_rows():
    # PCA refuses them; sparse and overcomplete codes need them.
    with pytest.raises(ValueError, match="n_components"):
        PCA(10).fit(IRIS)
    transformer = _transformer(n_components=10).fit(IRIS[:8])
    assert transformer.transform(IRIS).shape == (150, 10)
    assert transformer.score(IRIS[:8]) > 0.99


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_rows_are_rebuilt(n):
    transformer = _transformer(n_components=2).fit(IRIS[:n])
    np.testing.assert_allclose(transformer.reconstruct(IRIS[:n]), IRIS[:n], atol=0.1)


def test_constant_columns_come_back_as_they_are():
    rows = np.column_stack([IRIS, np.full(150, 7.0)])
    transformer = _transformer(n_components=4).fit(rows)
    np.testing.assert_allclose(transformer.reconstruct(rows)[:, 4], 7.0, atol=0.02)
    assert transformer.score(np.ones((5, 5)) * rows[:1]) <= 1.0


def test_wrong_number_of_latents_is_named(fitted):
    with pytest.raises(ValueError, match=r"4 columns.*n_components_=2"):
        fitted.inverse_transform(IRIS)


@each_class
def test_names_of_latents_are_those_of_the_class(cls):
    names = cls(**SMALL, n_components=2).fit(IRIS).get_feature_names_out()
    assert names.tolist() == [f"{cls.__name__.lower()}{i}" for i in range(2)]


def test_wide_tables_of_few_rows_are_rebuilt():
    digits = load_digits().data[:30]
    transformer = _transformer(n_components=20).fit(digits)
    assert transformer.score(digits) > 0.9


def test_sparse_rows_are_centered_without_becoming_dense():
    rows = sparse.random(200, 30, density=0.1, random_state=0, format="csr")
    transformer = _transformer(n_components=5)
    latents = transformer.fit_transform(rows)
    np.testing.assert_array_equal(latents, clone(transformer).fit_transform(rows.toarray()))
    assert sparse.issparse(rows)


@pytest.mark.parametrize("changes", [{"n_components": 3}, {"max_epochs": 1}, {"scaling": None}])
def test_set_params_after_a_fit_changes_the_next_fit_alone(changes):
    transformer = _transformer(n_components=2, early_stopping=False).fit(IRIS)
    before = transformer.transform(IRIS)
    transformer.set_params(**changes)
    np.testing.assert_array_equal(transformer.transform(IRIS), before)
    assert transformer.fit(IRIS).transform(IRIS).tolist() != before.tolist()
