"""What users of TruncatedSVD expect of AutoencoderTransformer: sparse rows."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

from skae import AutoencoderTransformer

RNG = np.random.default_rng(0)
# Counts of 60 words of three topics, in 200 texts.
TOPICS = RNG.dirichlet(np.full(60, 0.1), size=3)
COUNTS = sparse.csr_array(
    np.array([RNG.multinomial(40, TOPICS[i % 3]) for i in range(200)]).astype(np.int64)
)
FORMATS = ["csr", "csc", "coo", "lil", "dok", "bsr"]
SMALL = {"n_components": 3, "random_state": 0, "device": "cpu", "max_epochs": 20}


@pytest.fixture(scope="module")
def fitted():
    return AutoencoderTransformer(**SMALL).fit(COUNTS)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kind", ["array", "matrix"])
def test_every_sparse_format_gives_the_latents_of_dense_rows(fitted, name, kind):
    rows = getattr(sparse, f"{name}_{kind}")(COUNTS)
    np.testing.assert_array_equal(fitted.transform(rows), fitted.transform(COUNTS.toarray()))


@pytest.mark.parametrize("name", ["csc", "coo"])
def test_fits_of_every_format_are_one_fit(fitted, name):
    rows = getattr(sparse, f"{name}_array")(COUNTS)
    np.testing.assert_array_equal(clone(fitted).fit_transform(rows), fitted.transform(COUNTS))


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
def test_whole_numbers_are_numbers(fitted, dtype):
    rows = COUNTS.astype(dtype)
    np.testing.assert_allclose(
        clone(fitted).fit_transform(rows), fitted.transform(COUNTS), atol=1e-3
    )


def test_unsorted_and_explicit_zeros_change_nothing(fitted):
    rows = sparse.csr_array(COUNTS.astype(np.float64))
    for i in range(rows.shape[0]):
        part = slice(rows.indptr[i], rows.indptr[i + 1])
        rows.indices[part] = rows.indices[part][::-1].copy()
        rows.data[part] = rows.data[part][::-1].copy()
    rows.has_sorted_indices = False
    zeros = sparse.coo_array(
        (
            np.r_[COUNTS.tocoo().data, 0],
            (np.r_[COUNTS.tocoo().row, 0], np.r_[COUNTS.tocoo().col, 0]),
        )
    )
    expected = fitted.transform(COUNTS)
    np.testing.assert_array_equal(fitted.transform(rows), expected)
    np.testing.assert_array_equal(fitted.transform(zeros), expected)


def test_sparse_rows_are_not_written_to(fitted):
    rows = COUNTS.copy()
    rows.data.flags.writeable = False
    clone(fitted).fit(rows).transform(rows)
    np.testing.assert_array_equal(rows.toarray(), COUNTS.toarray())


def test_inverse_transform_gives_dense_rows_near_the_given_ones():
    transformer = AutoencoderTransformer(
        n_components=3, scaling="common", random_state=0, device="cpu"
    )
    rows = transformer.fit(COUNTS).inverse_transform(transformer.transform(COUNTS))
    assert isinstance(rows, np.ndarray)
    svd = TruncatedSVD(4, random_state=0).fit(COUNTS)
    dense = COUNTS.toarray()
    error = ((rows - dense) ** 2).mean()
    assert error < ((svd.inverse_transform(svd.transform(COUNTS)) - dense) ** 2).mean()


def test_topics_are_told_apart_by_latents(fitted):
    latents = fitted.transform(COUNTS)
    centers = np.array([latents[i::3].mean(0) for i in range(3)])
    nearest = ((latents[:, None] - centers) ** 2).sum(-1).argmin(1)
    assert (nearest == np.arange(200) % 3).mean() > 0.98


def test_latents_of_sparse_rows_may_be_sparse():
    transformer = AutoencoderTransformer(
        **SMALL | {"n_components": 8}, n_nonzero_coefs=2, sparse_output=True
    )
    latents = transformer.fit_transform(COUNTS)
    assert sparse.issparse(latents)
    assert (np.diff(latents.indptr) <= 2).all()
    dense = clone(transformer).set_params(sparse_output=False).fit_transform(COUNTS)
    np.testing.assert_array_equal(latents.toarray(), dense)


def test_texts_become_latents_in_a_pipeline():
    texts = ["the cat sat", "the dog sat", "a dog ran", "stocks fell", "stocks rose", "bonds fell"]
    pipeline = make_pipeline(TfidfVectorizer(), AutoencoderTransformer(**SMALL))
    latents = pipeline.fit_transform(texts)
    assert latents.shape == (6, 3)
    np.testing.assert_array_equal(pipeline.transform(texts[::-1]), latents[::-1])


def test_infinities_in_sparse_rows_are_refused(fitted):
    rows = COUNTS.astype(np.float64)
    rows.data[3] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        fitted.transform(rows)


def test_columns_that_are_zero_throughout_stay_zero():
    rows = sparse.hstack([COUNTS, sparse.csr_array((200, 2))], format="csr")
    transformer = AutoencoderTransformer(**SMALL).fit(rows)
    assert np.abs(transformer.reconstruct(rows)[:, 60:]).max() < 0.05
