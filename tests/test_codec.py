"""LatentCodec: values, guarantees, and streams that are not what was written."""

import copy
import io
import pickle
import sys

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV

from skae import AutoencoderTransformer
from skae._coding.entropy import fit_table
from skae._coding.quantizer import BIT_PRICE

pytest.importorskip("constriction")

pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skae.codec import LatentCodec

IMAGES = load_digits().images.astype(np.uint8)

TRAIN, TEST = IMAGES[:1200], IMAGES[1200:]


@pytest.fixture(scope="module")
def autoencoder():
    return AutoencoderTransformer(n_components=8, max_epochs=20, random_state=0).fit(TRAIN)


@pytest.fixture(scope="module")
def codec(autoencoder):
    return LatentCodec(FrozenEstimator(autoencoder), max_epochs=0).fit(TRAIN)


@pytest.fixture(scope="module")
def lossless(autoencoder):
    return LatentCodec(FrozenEstimator(autoencoder), max_error=0, max_epochs=0).fit(TRAIN)


@pytest.fixture(scope="module")
def stream(codec):
    return codec.encode(TEST[:20])


def _error(decoded, X):
    return float(np.mean((np.asarray(decoded, dtype=float) - X) ** 2))


def test_images_come_back_as_images_with_little_more_error_than_their_reconstruction(
    autoencoder, codec
):
    data = codec.encode(TEST)
    decoded = codec.decode(data)
    assert decoded.dtype == np.uint8
    assert decoded.shape == TEST.shape
    assert _error(decoded, TEST) < 1.35 * _error(autoencoder.reconstruct(TEST), TEST)
    assert len(data) < 6 * len(TEST)


def test_bytes_are_what_the_tables_say(codec):
    assert len(codec.encode(TRAIN)) == pytest.approx(codec.bytes_per_row_ * len(TRAIN), rel=0.02)


def test_rounding_adds_the_error_that_its_step_promises():
    X = np.random.default_rng(0).normal(size=(20_000, 4)) * [9.0, 7.0, 5.0, 3.0]
    step = 0.5
    codec = LatentCodec(PCA(), step=step).fit(X)
    # Rounding weighs bits, too: a little more than step ** 2 / 12 for each of four coordinates.
    expected = step**2 / 12
    assert expected < _error(codec.decode(codec.encode(X)), X) < 1.1 * expected
    # A Gaussian takes log2(sigma / step) + 2.047 bits.
    bits = np.log2(X.std(axis=0) / step) + 0.5 * np.log2(2 * np.pi * np.e)
    assert codec.bytes_per_row_ == pytest.approx(bits.sum() / 8, rel=0.01)


@pytest.mark.slow
def test_smaller_step_takes_more_bytes_for_less_error(autoencoder):
    found = []
    for step in (4.0, 2.0, 1.0):
        codec = LatentCodec(FrozenEstimator(autoencoder), step=step, max_epochs=0).fit(TRAIN)
        data = codec.encode(TEST)
        found.append((len(data), -_error(codec.decode(data), TEST)))
    assert found == sorted(found)


def test_without_training_on_rounding_saves_more_bits_than_its_error_costs():
    """A heavy tail beside rounding noise, rebuilt by a linear network."""
    rng = np.random.default_rng(0)
    X = 0.4 * rng.normal(size=(4000, 3)) * rng.exponential(size=(4000, 1))
    network = AutoencoderTransformer(
        n_components=3, hidden_layer_sizes=(), scaling=None, max_epochs=1, random_state=0
    ).fit(X)
    untrained = LatentCodec(FrozenEstimator(network), step=1.0, max_epochs=0).fit(X)
    integers = np.rint(X).astype(np.int64)
    bits = sum(fit_table(column).bits(column).mean() for column in integers.T)
    plain = 3 * _error(integers, X) / BIT_PRICE + bits
    data = untrained.encode(X)
    weighed = 3 * _error(untrained.decode(data), X) / BIT_PRICE + 8 * len(data) / len(X)
    assert weighed < 0.98 * plain


@pytest.mark.slow
def test_training_on_lowers_the_error_at_a_price_of_bits(autoencoder):
    step, frozen = 3.0, FrozenEstimator(autoencoder)
    before, after, again = (
        LatentCodec(frozen, step=step, max_epochs=epochs, random_state=0).fit(TRAIN)
        for epochs in (0, 60, 60)
    )
    scale = autoencoder._model.scaler.scale[0]
    costs = []
    for codec in (before, after):
        error = _error(codec.decode(codec.encode(TRAIN)), TRAIN) * 64 / scale**2
        costs.append(error / (np.log(2) / 6 * step**2) + 8 * codec.bytes_per_row_)
    assert costs[1] < 0.95 * costs[0]
    assert again.encode(TEST) == after.encode(TEST)


def test_estimator_is_left_as_it_was(autoencoder):
    before = pickle.dumps(autoencoder._model.__getstate__())
    LatentCodec(FrozenEstimator(autoencoder), max_epochs=1, random_state=0).fit(TRAIN)
    assert pickle.dumps(autoencoder._model.__getstate__()) == before


def test_convolutional_network_is_trained_on():
    autoencoder = AutoencoderTransformer(
        n_components=6, network="conv", hidden_layer_sizes=(8, 8), max_epochs=2, random_state=0
    ).fit(TRAIN[:300])
    codec = LatentCodec(FrozenEstimator(autoencoder), max_epochs=2, random_state=0).fit(TRAIN[:300])
    decoded = codec.decode(codec.encode(TEST))
    assert _error(decoded, TEST) < 1.35 * _error(codec.estimator_.reconstruct(TEST), TEST)
    assert codec.estimator_ is not autoencoder
    assert not np.array_equal(codec.estimator_.transform(TEST), autoencoder.transform(TEST))


def test_sparse_latents_of_sparse_rows_are_coded():
    X = sparse.random_array((200, 30), density=0.2, format="csr", rng=np.random.default_rng(0))
    autoencoder = AutoencoderTransformer(
        n_components=8, n_nonzero_coefs=3, sparse_output=True, max_epochs=10, random_state=0
    ).fit(X)
    codec = LatentCodec(
        FrozenEstimator(autoencoder), max_error=0.01, max_epochs=2, random_state=0
    ).fit(X)
    assert np.abs(codec.decode(codec.encode(X)) - X.toarray()).max() < 0.01 + 1e-6


def test_rows_decode_to_the_same_bits_in_any_batch(codec):
    whole = codec.decode(codec.encode(TEST))
    for part in (slice(0, 1), slice(3, 40), slice(100, 333)):
        np.testing.assert_array_equal(codec.decode(codec.encode(TEST[part])), whole[part])


def test_lossless_is_exact_and_smaller_than_pixels(lossless):
    data = lossless.encode(TEST)
    np.testing.assert_array_equal(lossless.decode(data), TEST)
    assert len(data) < 0.5 * TEST.nbytes


@settings(max_examples=20, deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(0, 5), st.just(8), st.just(8))))
def test_lossless_keeps_any_image(lossless, X):
    np.testing.assert_array_equal(lossless.decode(lossless.encode(X)), X)


@pytest.mark.parametrize("noise", [0.0, 3e-8])
def test_lossless_does_not_depend_on_the_last_bits_of_the_decoder(lossless, monkeypatch, noise):
    data = lossless.encode(TEST)
    predictions = LatentCodec._predictions

    def other_machine(self, integers):
        values = predictions(self, integers)
        return values + noise * np.random.default_rng(0).choice([-1.0, 1.0], values.shape)

    monkeypatch.setattr(LatentCodec, "_predictions", other_machine)
    np.testing.assert_array_equal(lossless.decode(data), TEST)


@pytest.mark.parametrize("max_error", [1, 2.5, 6])
def test_max_error_of_integers_holds(autoencoder, lossless, max_error):
    codec = LatentCodec(FrozenEstimator(autoencoder), max_error=max_error, max_epochs=0).fit(TRAIN)
    data = codec.encode(TEST)
    error = np.abs(codec.decode(data).astype(int) - TEST)
    assert error.max() == int(max_error)
    assert len(data) < len(lossless.encode(TEST))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_max_error_of_floats_holds(dtype):
    iris = load_iris().data
    X = (iris + np.random.default_rng(0).normal(size=iris.shape)).astype(dtype)
    autoencoder = AutoencoderTransformer(n_components=2, max_epochs=30, random_state=0).fit(X)
    error = np.array([0.01, 0.5, 0.1, 0.02])
    codec = LatentCodec(FrozenEstimator(autoencoder), max_error=error, max_epochs=0).fit(X)
    far = np.concatenate([X, X * 100])
    decoded = codec.decode(codec.encode(far))
    assert decoded.dtype == dtype
    assert (np.abs(decoded - far) <= error + 1e-6 * np.abs(far)).all()
    assert (np.abs(decoded[:150] - X).max(axis=0) > 0.9 * error).all()


def test_pandas_table_comes_back_with_columns_and_dtypes():
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    a = rng.normal(size=500)
    X = pandas.DataFrame(
        {
            "count": np.rint(1000 * a).astype(np.int64),
            "share": a.astype(np.float32) / 2,
            "flag": a > 0,
        }
    )
    autoencoder = AutoencoderTransformer(n_components=2, max_epochs=20, random_state=0).fit(X)
    lossy = LatentCodec(FrozenEstimator(autoencoder), max_epochs=0).fit(X)
    assert (lossy.decode(lossy.encode(X)).dtypes == X.dtypes).all()
    exact = LatentCodec(FrozenEstimator(autoencoder), max_error=[0, 0.001, 0], max_epochs=0).fit(X)
    decoded = exact.decode(exact.encode(X))
    pandas.testing.assert_frame_equal(decoded[["count", "flag"]], X[["count", "flag"]])
    assert np.abs(decoded["share"] - X["share"]).max() < 0.001001


def test_polars_table_comes_back():
    polars = pytest.importorskip("polars")
    X = polars.DataFrame({f"c{i}": column for i, column in enumerate(load_iris().data.T)})
    autoencoder = AutoencoderTransformer(n_components=2, max_epochs=20, random_state=0).fit(X)
    codec = LatentCodec(FrozenEstimator(autoencoder), max_error=0.05, max_epochs=0).fit(X)
    decoded = codec.decode(codec.encode(X))
    assert decoded.columns == X.columns
    assert np.abs(decoded.to_numpy() - X.to_numpy()).max() < 0.05 + 1e-6


def test_batches_stream(codec):
    pieces = codec.encode_batches(TEST[i : i + 100] for i in range(0, len(TEST), 100))
    file = io.BytesIO(b"".join(pieces) + b"what follows")
    parts = list(codec.decode_batches(file))
    assert len(parts) == 6
    np.testing.assert_array_equal(np.concatenate(parts), codec.decode(codec.encode(TEST)))
    assert file.read() == b"what follows"


@pytest.mark.parametrize("name", ["codec", "lossless"])
def test_no_rows_are_a_stream(request, name):
    codec = request.getfixturevalue(name)
    decoded = codec.decode(codec.encode(TEST[:0]))
    assert decoded.shape == (0, 8, 8)
    assert decoded.dtype == np.uint8
    assert list(codec.decode_batches(io.BytesIO(codec.encode(TEST[:0])))) == []


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_truncated_stream_is_refused(codec, stream, data):
    length = data.draw(st.integers(0, len(stream) - 1))
    with pytest.raises(ValueError, match="cut short"):
        codec.decode(stream[:length])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_altered_stream_is_refused(codec, stream, data):
    altered = bytearray(stream)
    position = data.draw(st.integers(0, len(stream) - 1))
    altered[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError, match="stream"):
        codec.decode(bytes(altered))


def test_stream_with_more_behind_it_is_refused(codec, stream):
    with pytest.raises(ValueError, match="goes on"):
        codec.decode(stream + b"\0")


def test_chunk_left_out_or_moved_is_refused(codec):
    pieces = list(codec.encode_batches([TEST[:5], TEST[5:9], TEST[9:20]]))
    for order in ([0, 1, 3, 4], [0, 2, 1, 3, 4]):
        with pytest.raises(ValueError, match="checksum"):
            codec.decode(b"".join(pieces[i] for i in order))


def test_another_model_is_refused_by_name(autoencoder, codec, stream):
    other = copy.deepcopy(autoencoder)
    other._model.network.parameters[7] += 1e-6
    other = LatentCodec(FrozenEstimator(other), max_epochs=0).fit(TRAIN)
    assert other.fingerprint_ != codec.fingerprint_
    with pytest.raises(ValueError, match=f"{codec.fingerprint_}.*{other.fingerprint_}"):
        other.decode(stream)


def test_pickled_codec_reads_the_stream(codec, stream):
    loaded = pickle.loads(pickle.dumps(codec))
    assert loaded.fingerprint_ == codec.fingerprint_
    np.testing.assert_array_equal(loaded.decode(stream), codec.decode(stream))
    assert loaded.encode(TEST[:20]) == stream


def test_other_format_is_refused(codec, stream):
    with pytest.raises(ValueError, match="format 2"):
        codec.decode(stream[:7] + b"\2" + stream[8:])


def test_missing_cells_are_filled_in_or_refused_where_they_cannot_be_kept():
    X = load_iris().data
    autoencoder = AutoencoderTransformer(n_components=2, max_epochs=20, random_state=0).fit(X)
    holes = X.copy()
    holes[3, 1] = np.nan
    holes[:, 2] = np.nan
    lossy = LatentCodec(FrozenEstimator(autoencoder), max_epochs=2, random_state=0).fit(holes)
    assert np.isfinite(lossy.decode(lossy.encode(holes))).all()
    exact = LatentCodec(FrozenEstimator(autoencoder), max_error=0.1, max_epochs=0).fit(X)
    with pytest.raises(ValueError, match="missing"):
        exact.encode(holes)


def test_max_error_that_cannot_be_kept_is_refused(lossless):
    with pytest.raises(ValueError, match="cannot be kept"):
        lossless.encode(TEST + 0.5)
    with pytest.raises(ValueError, match="cannot be kept"):
        lossless.encode(TEST.astype(int) + 1000)


def test_without_the_coder_the_extra_is_named(autoencoder, monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(ImportError, match=r"skae\[codec\]"):
        LatentCodec(FrozenEstimator(autoencoder)).fit(TRAIN)


@pytest.mark.parametrize(
    "parameters",
    [
        {"step": 0},
        {"step": "fine"},
        {"max_epochs": -1},
        {"max_epochs": True},
        {"max_error": -1},
        {"estimator": load_iris},
        {"random_state": "seed"},
    ],
)
def test_bad_parameters_are_named(autoencoder, parameters):
    message = f"The '{next(iter(parameters))}' parameter of LatentCodec must be"
    with pytest.raises(ValueError, match=message):
        LatentCodec(**({"estimator": FrozenEstimator(autoencoder)} | parameters)).fit(TRAIN)


def test_zero_error_of_floats_is_refused(autoencoder):
    with pytest.raises(ValueError, match="max_error=0"):
        LatentCodec(FrozenEstimator(autoencoder), max_error=0, max_epochs=0).fit(TRAIN / 3)


# As a meta-estimator.


def test_estimator_is_cloned_and_fitted_and_its_parameters_are_its_own():
    autoencoder = AutoencoderTransformer(
        n_components=4, hidden_layer_sizes=(16,), max_epochs=2, random_state=0
    )
    codec = LatentCodec(autoencoder, max_epochs=0).fit(TRAIN)
    assert not hasattr(autoencoder, "n_features_in_")
    alone = clone(autoencoder).fit(TRAIN)
    np.testing.assert_array_equal(codec.estimator_.transform(TEST), alone.transform(TEST))
    frozen = LatentCodec(FrozenEstimator(alone), max_epochs=0).fit(TRAIN)
    assert frozen.encode(TEST) == codec.encode(TEST)
    copied = clone(codec).set_params(estimator__n_components=2, step=3.0)
    assert (autoencoder.n_components, copied.estimator.n_components) == (4, 2)
    assert not hasattr(copied, "estimator_")
    assert copied.fit(TRAIN).estimator_.n_components_ == 2
    assert copied.step_ == 3.0


@pytest.mark.parametrize("max_epochs", [0, 1])
def test_frozen_estimator_keeps_its_bits(autoencoder, max_epochs):
    frozen = FrozenEstimator(autoencoder)
    before = pickle.dumps(autoencoder._model), autoencoder.transform(TEST)
    codec = LatentCodec(frozen, max_epochs=max_epochs, random_state=0).fit(TRAIN)
    assert codec.estimator is frozen
    assert frozen.estimator is autoencoder
    assert pickle.dumps(autoencoder._model) == before[0]
    np.testing.assert_array_equal(autoencoder.transform(TEST), before[1])
    same = np.array_equal(codec.estimator_.transform(TEST), before[1])
    assert same == (max_epochs == 0)


@pytest.mark.slow
def test_grid_search_weighs_bytes_against_errors():
    def cost(codec, X, y=None):
        data = codec.encode(X)
        return -len(data) / len(X) - 2.0 * _error(codec.decode(data), X)

    autoencoder = AutoencoderTransformer(hidden_layer_sizes=(16,), max_epochs=3, random_state=0)
    grid = {"estimator__n_components": [1, 8], "step": [0.5, 50.0]}
    search = GridSearchCV(LatentCodec(autoencoder, max_epochs=0), grid, scoring=cost, cv=2)
    search.fit(TRAIN[:400])
    assert search.best_params_ == {"estimator__n_components": 8, "step": 0.5}
    scores = search.cv_results_["mean_test_score"]
    assert search.best_score_ == scores.max() > scores.min() + 1.0
    best = LatentCodec(clone(autoencoder).set_params(n_components=8), step=0.5, max_epochs=0)
    assert search.best_estimator_.encode(TEST) == best.fit(TRAIN[:400]).encode(TEST)
