"""LatentCodec(max_error=): what is decoded is that near to what was encoded, or encode raises."""

import io

import numpy as np
import pytest
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer
from skae._coding.residual import grid_steps

pytest.importorskip("constriction")

from skae.codec import LatentCodec

RNG = np.random.default_rng(0)
BASE = 10 * RNG.normal(size=(300, 2)) @ RNG.normal(size=(2, 4)) + RNG.normal(size=(300, 4))
ERRORS = [0.01, 1e-4, 0.03, 3.0, [0.01, 0.1, 1.0, 10.0]]


def _codec(X, max_error):
    # The covariance of constant columns may be negative by rounding.
    return LatentCodec(PCA(2, svd_solver="full"), max_error=max_error, max_epochs=0).fit(X)


def _most(decoded, X):
    """Largest errors of the columns, in a wider type than that of either."""
    return np.abs(decoded.astype(np.longdouble) - X.astype(np.longdouble)).max(axis=0)


def _refusal(codec, X):
    """Why rows are not encoded, or None if they are."""
    try:
        codec.encode(X)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("max_error", ERRORS, ids=str)
@pytest.mark.parametrize("offset", [0.0, 1e3, -1e6, 1e6, 1e9])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_of_the_fitted_dtype_are_kept(dtype, offset, max_error):
    X = (BASE + offset).astype(dtype)
    codec = _codec(X[:200], max_error)
    decoded = codec.decode(codec.encode(X))
    assert decoded.dtype == X.dtype
    assert (_most(decoded, X) <= np.asarray(max_error)).all()


@pytest.mark.parametrize("magnitudes", [(1.0, 1e6), (1e-3, 1e4), (1.0, 1e9)], ids=str)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_columns_of_small_and_large_values_are_kept(dtype, magnitudes):
    X = BASE * np.where(np.arange(300)[:, None] % 2 == 0, *magnitudes)
    X = X.clip(-6e4, 6e4).astype(dtype) if dtype == "float16" else X.astype(dtype)
    for max_error in (0.02, 0.5, 16.0):
        codec = _codec(X, max_error)
        assert (_most(codec.decode(codec.encode(X)), X) <= max_error).all()


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6, 1e9])
def test_wider_values_than_the_fitted_ones_are_kept_or_refused(offset):
    X, wide = (BASE + offset).astype("float32"), BASE + offset + 0.3
    half = np.spacing(np.float32(np.abs(wide).max())) / 2
    for max_error in (1e-5, 0.01, 0.5, 40.0):
        codec = _codec(X, max_error)
        refused = _refusal(codec, wide)
        if refused is None:
            assert (_most(codec.decode(codec.encode(wide)), wide) <= max_error).all()
        else:
            assert half > max_error / 3
            assert all(s in refused for s in (f"max_error={max_error!r}", "float32", "float64"))


def test_the_network_of_an_autoencoder_does_not_matter():
    X = (BASE + 1e6).astype("float32")
    autoencoder = AutoencoderTransformer(n_components=2, max_epochs=2, random_state=0)
    codec = LatentCodec(autoencoder, max_error=0.05, max_epochs=1, random_state=0).fit(X)
    assert (_most(codec.decode(codec.encode(X)), X) <= 0.05).all()
    batches = list(codec.decode_batches(io.BytesIO(codec.encode(X))))
    assert (_most(np.concatenate(batches), X) <= 0.05).all()


@pytest.mark.parametrize("max_error", [0, 1, 7, [0, 1, 2, 0], 1e300], ids=str)
@pytest.mark.parametrize("offset", [0, 10**6, -(10**9), 10**15])
def test_integers_are_kept(offset, max_error):
    X = np.rint(BASE).astype("int64") + offset
    codec = _codec(X, max_error)
    decoded = codec.decode(codec.encode(X))
    assert decoded.dtype == X.dtype
    assert (np.abs(decoded - X).max(axis=0) <= np.asarray(max_error)).all()


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_integers_that_floats_do_not_tell_apart_are_refused(dtype):
    small = np.rint(np.abs(BASE)).astype(dtype)
    codec = _codec(small, 1000)
    for large in (2**53 + 1, 2**60 + 1, 2**63 - 1):
        X = small.copy()
        X[3, 1] = large
        with pytest.raises(ValueError, match="too large"):
            codec.encode(X)


def test_fractions_between_integers_are_refused():
    codec = _codec(np.rint(BASE).astype(int), 1)
    near = np.rint(BASE)
    np.testing.assert_allclose(codec.decode(codec.encode(near)), near, atol=1, rtol=0)
    with pytest.raises(ValueError, match="cannot be kept"):
        codec.encode(np.rint(BASE) + 0.5 * (np.arange(300) % 3 == 0)[:, None] + 0.5)


def test_frames_keep_the_error_of_each_column():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "a": (BASE[:, 0] + 1e6).astype("float32"),
            "b": BASE[:, 1] + 1e9,
            "c": np.rint(BASE[:, 2]).astype("int64") + 10**9,
            "d": BASE[:, 3] > 0,
        }
    )
    max_error = [0.2, 1e-5, 0, 0]
    codec = _codec(frame, max_error)
    decoded = codec.decode(codec.encode(frame))
    assert (decoded.dtypes == frame.dtypes).all()
    for name, most in zip(frame, max_error, strict=True):
        wide = [one[name].to_numpy().astype(np.longdouble) for one in (decoded, frame)]
        assert np.abs(wide[0] - wide[1]).max() <= most


@pytest.mark.parametrize("max_error", [1e-30, 1e-300, 5e-324, [1.0, 1e-40, 1.0, 1.0]], ids=str)
def test_errors_that_are_too_small_are_refused(max_error):
    with pytest.raises(ValueError, match=r"max_error"):
        _codec(BASE + 1e6, max_error)


def test_steps_are_as_wide_as_the_error_allows():
    # Fewer bytes for the same guarantee: no more is given away than floats need.
    steps = grid_steps([0.5, 0.5, 3.7], np.array([False, False, True]), 3, [0.0, 1e-3, 1.0])
    np.testing.assert_allclose(steps, [1.0, 0.998, 7.0])
    np.testing.assert_allclose(grid_steps(0.3, np.array([False]), 2, 1.0), 0.2)


@pytest.mark.parametrize("max_error", [[1.0, 2.0], np.ones((4, 4)), -1, np.nan], ids=str)
def test_errors_of_another_shape_are_refused(max_error):
    with pytest.raises(ValueError, match="max_error"):
        _codec(BASE, max_error)


def test_a_fit_that_fails_leaves_the_codec_as_it_was():
    codec = _codec(BASE, 0.1)
    data, mark = codec.encode(BASE), codec.fingerprint_
    with pytest.raises(ValueError, match="max_error"):
        codec.set_params(max_error=1e-30).fit(BASE + 1e6)
    assert codec.fingerprint_ == mark
    np.testing.assert_allclose(codec.decode(data), BASE, atol=0.1, rtol=0)
