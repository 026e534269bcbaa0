"""skae.dask: the plain estimators' verbs over Dask collections."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skae
import skae.dask
from skae.exceptions import DivergenceError

pd = pytest.importorskip("pandas")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")

rng = np.random.default_rng(0)
X = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 6)) + 0.1 * rng.normal(size=(500, 6))
FRAME = pd.DataFrame(X, columns=list("abcdef"), index=np.arange(500) + 7)
WEIGHTS = rng.integers(0, 3, size=500).astype(float)
FEW = {"n_components": 2, "max_epochs": 2, "random_state": 0, "timeout": 60}
NAMES = ["AutoencoderTransformer", "DenoisingAutoencoder", "AutoencoderAnomalyDetector"]
SIZES = (200, 7, 183, 110)


def array(values=X):
    return da.from_array(values, chunks=(SIZES, *values.shape[1:]))


def frame(values=FRAME, npartitions=4):
    return dd.from_pandas(values, npartitions=npartitions)


def unknown(values=X):
    """An array whose chunks have unknown sizes, one of them none."""
    blocks = array(values)
    return blocks[blocks[:, 0] > -1e9]


@pytest.fixture(scope="module")
def fitted(client):
    return {name: getattr(skae.dask, name)(**FEW).fit(array()) for name in NAMES}


@pytest.fixture(scope="module")
def fitted_frames(client):
    return {name: getattr(skae.dask, name)(**FEW).fit(frame()) for name in NAMES}


METHODS = [
    ("AutoencoderTransformer", "transform"),
    ("AutoencoderTransformer", "reconstruct"),
    ("AutoencoderTransformer", "score_samples"),
    ("DenoisingAutoencoder", "denoise"),
    ("DenoisingAutoencoder", "impute"),
    ("AutoencoderAnomalyDetector", "score_samples"),
    ("AutoencoderAnomalyDetector", "decision_function"),
    ("AutoencoderAnomalyDetector", "predict"),
    ("AutoencoderAnomalyDetector", "outlier_probability"),
    ("AutoencoderAnomalyDetector", "feature_contributions"),
    ("AutoencoderAnomalyDetector", "reconstruct"),
]


@pytest.mark.parametrize(("name", "method"), METHODS)
def test_predictions_are_lazy_and_those_of_the_plain_estimator(name, method, fitted):
    lazy = getattr(fitted[name], method)(array())
    plain = getattr(fitted[name].to_local(), method)(X)
    assert isinstance(lazy, da.Array)
    assert lazy.chunks == (SIZES, *((n,) for n in plain.shape[1:]))
    assert lazy.dtype == plain.dtype
    assert type(lazy._meta) is np.ndarray
    assert lazy._meta.ndim == plain.ndim
    np.testing.assert_array_equal(lazy.compute(), plain)
    assert lazy.compute().dtype == lazy.dtype


@pytest.mark.parametrize(("name", "method"), METHODS)
def test_predictions_of_frames(name, method, fitted_frames):
    lazy = getattr(fitted_frames[name], method)(frame())
    plain = getattr(fitted_frames[name].to_local(), method)(FRAME)
    if isinstance(plain, pd.DataFrame):
        assert lazy.dtypes.equals(plain.dtypes)
        assert lazy.divisions == frame().divisions
        pd.testing.assert_frame_equal(lazy.compute(), plain)
    else:
        assert isinstance(lazy, da.Array)
        assert lazy.dtype == plain.dtype
        np.testing.assert_array_equal(lazy.compute(), plain)


def exact(rows, **parameters):
    """A fit of which nothing but the last bits depend on where partitions are."""
    estimator = skae.dask.AutoencoderTransformer(**{**FEW, "precision": "float64", **parameters})
    return estimator.fit(rows)


@pytest.mark.parametrize("make", [unknown, lambda: array().rechunk({1: 2})], ids=["unknown", "cut"])
def test_chunks_may_be_unknown_and_columns_cut(make, client):
    one, again = exact(array()), exact(make())
    np.testing.assert_allclose(again.loss_curve_, one.loss_curve_, rtol=1e-12)
    Z = again.transform(make())
    np.testing.assert_allclose(Z.compute(), one.transform(array()).compute(), rtol=1e-9, atol=1e-9)
    assert Z.numblocks == (4, 1)


def test_empty_partitions(fitted):
    one, empty = fitted["AutoencoderTransformer"], array()[:0]
    X_and_empty = da.concatenate([empty, array(), empty])
    again = clone(one).fit(X_and_empty)
    np.testing.assert_allclose(again.loss_curve_, one.loss_curve_, rtol=1e-5)
    assert again.transform(X_and_empty).compute().shape == (500, 2)
    few = frame(FRAME.assign(a=np.arange(500.0)))
    few = few[few.a < 193]
    assert again.fit(few).transform(few).compute().shape == (193, 2)


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_zero_leave_rows_out(name, client):
    estimator = getattr(skae.dask, name)(**FEW, precision="float64")
    by_weight = clone(estimator).fit(array(), sample_weight=da.from_array(WEIGHTS > 0, chunks=100))
    kept = array()[da.from_array(WEIGHTS > 0, chunks=(SIZES,))]
    without = clone(estimator).fit(kept)
    np.testing.assert_allclose(by_weight.loss_curve_, without.loss_curve_, rtol=1e-10)


@pytest.mark.parametrize(
    "given",
    [
        lambda: (array(), WEIGHTS),
        lambda: (array(), da.from_array(WEIGHTS, chunks=77)),
        lambda: (unknown(), array(np.c_[X, WEIGHTS])[:, -1]),
        lambda: (frame(), frame(FRAME.assign(w=WEIGHTS)).w),
        lambda: (frame(), frame(FRAME.assign(w=WEIGHTS)).w.to_dask_array()),
    ],
    ids=["memory", "rechunked", "unknown", "series", "frame and array"],
)
def test_weights_come_in_any_container(given, client):
    rows, weights = given()
    found = skae.dask.AutoencoderTransformer(**FEW).fit(rows, sample_weight=weights)
    expected = skae.AutoencoderTransformer(n_components=2, max_epochs=2, random_state=0)
    expected.fit(X, sample_weight=WEIGHTS)
    assert found.score(rows, sample_weight=weights) == pytest.approx(
        found.to_local().score(rows.compute(), sample_weight=WEIGHTS)
    )
    np.testing.assert_allclose(found._model.scaler.center, expected._model.scaler.center)
    np.testing.assert_allclose(found._model.scaler.scale, expected._model.scaler.scale)


@pytest.mark.parametrize(
    ("rows", "weights", "error"),
    [
        (array(), np.ones(3), "one weight for each row"),
        (array(), -WEIGHTS - 1, "non-negative|Negative"),
        (array(), 0 * WEIGHTS, "n_samples = 0"),
        (frame(), da.from_array(WEIGHTS, chunks=100), "partitions"),
    ],
)
def test_weights_that_are_of_no_use(rows, weights, error, client):
    with pytest.raises(ValueError, match=error):
        skae.dask.AutoencoderTransformer(**FEW).fit(rows, sample_weight=weights)


def test_weights_in_memory_need_known_chunks(client):
    with pytest.raises(TypeError, match="unknown lengths"):
        skae.dask.AutoencoderTransformer(**FEW).fit(frame(), sample_weight=WEIGHTS)


def test_images(client):
    images = rng.normal(size=(120, 6, 5)).astype("f4")
    lazy = da.from_array(images, chunks=(50, 3, 5))
    estimator = skae.dask.AutoencoderTransformer(**FEW).fit(lazy)
    rebuilt, latents = estimator.reconstruct(lazy), estimator.transform(lazy)
    assert rebuilt.chunks == ((50, 50, 20), (6,), (5,))
    assert latents.chunks == ((50, 50, 20), (2,))
    np.testing.assert_array_equal(rebuilt.compute(), estimator.to_local().reconstruct(images))
    np.testing.assert_array_equal(
        estimator.inverse_transform(latents).compute(),
        estimator.to_local().inverse_transform(latents.compute()),
    )


def test_missing_cells_and_integers(client):
    holes = np.where(rng.random(X.shape) < 0.1, np.nan, X)
    filled = skae.dask.DenoisingAutoencoder(**FEW).fit(array(holes)).impute(array(holes)).compute()
    np.testing.assert_array_equal(filled[~np.isnan(holes)], holes[~np.isnan(holes)])
    assert not np.isnan(filled).any()
    whole = (10 * X).astype("i2")
    assert skae.dask.AutoencoderTransformer(**FEW).fit(array(whole)).score(array(whole)) > 0.5


def test_score_is_that_of_the_plain_estimator(fitted):
    one = fitted["AutoencoderTransformer"]
    assert type(one.score(array())) is float
    assert one.score(array()) == pytest.approx(one.to_local().score(X), rel=1e-12)
    assert one.score(X) == one.to_local().score(X)


def test_set_output_makes_frames_of_frames(client):
    estimator = skae.dask.AutoencoderTransformer(**FEW).set_output(transform="pandas")
    latents = estimator.fit_transform(frame())
    assert list(latents.columns) == ["autoencodertransformer0", "autoencodertransformer1"]
    found = latents.compute()
    assert found.index.equals(FRAME.index)
    assert isinstance(estimator.fit(array()).transform(array()), da.Array)


def test_to_local_and_wrap_share_what_was_fitted(fitted):
    for name, estimator in fitted.items():
        local = estimator.to_local()
        assert type(local) is getattr(skae, name)
        assert local.n_features_in_ == 6
        again = skae.dask.wrap(local)
        assert type(again) is type(estimator)
        assert again.n_components == 2
        np.testing.assert_array_equal(
            again.score_samples(array()).compute(), local.score_samples(X)
        )


@pytest.mark.parametrize(
    "name", ["VariationalAutoencoder", "AutoencoderFeatures", "AutoencoderImputer"]
)
def test_wrap_refuses_what_it_cannot_wrap(name):
    with pytest.raises(TypeError, match=rf"{name}.*X\.map_blocks\(estimator\.transform"):
        skae.dask.wrap(getattr(skae, name)())


def test_wrap_refuses_what_is_not_fitted():
    with pytest.raises(NotFittedError):
        skae.dask.wrap(skae.AutoencoderTransformer())


def test_an_estimator_that_is_not_here_predicts_block_by_block(client):
    features = skae.AutoencoderFeatures(n_components=4, max_epochs=1, random_state=0).fit(X)
    n = features.transform(X[:1]).shape[1]
    lazy = array().map_blocks(features.transform, dtype="f4", chunks=(SIZES, n))
    np.testing.assert_array_equal(lazy.compute(), features.transform(X))


def test_the_client_is_neither_cloned_nor_pickled(client):
    estimator = skae.dask.AutoencoderTransformer(client=client, timeout=7).fit(array())
    assert clone(estimator).client is client
    assert copy.deepcopy(estimator).client is client
    assert copy.copy(estimator).client is client
    again = pickle.loads(pickle.dumps(estimator))
    assert (again.client, again.timeout) == (None, 7)
    np.testing.assert_array_equal(again.transform(X), estimator.transform(X))


def test_parameters_are_those_of_the_plain_estimator():
    for name in NAMES:
        ours, theirs = getattr(skae.dask, name)(), getattr(skae, name)()
        assert ours.get_params() == {**theirs.get_params(), "client": None, "timeout": 300}
        with pytest.raises(ValueError, match="timeout"):
            ours.set_params(timeout=0).fit(array())
        with pytest.raises(TypeError, match="n_latents"):
            getattr(skae.dask, name)(n_latents=3)


def test_data_in_memory_are_for_the_plain_estimator(fitted):
    with pytest.raises(TypeError, match="the estimator of the same name in skae"):
        skae.dask.AutoencoderTransformer().fit(X)
    one = fitted["AutoencoderTransformer"]
    np.testing.assert_array_equal(one.transform(X), one.to_local().transform(X))


@pytest.mark.parametrize("rows", [array(), frame(), frame().a], ids=["array", "frame", "series"])
def test_plain_estimators_refuse_dask_collections(rows, fitted):
    plain = fitted["AutoencoderTransformer"].to_local()
    for action in (plain.fit, plain.partial_fit, plain.transform, plain.score_samples, plain.score):
        with pytest.raises(TypeError, match=r"skae\.dask"):
            action(rows)
    with pytest.raises(TypeError, match=r"skae\.dask"):
        skae.AutoencoderTransformer(max_epochs=1).fit(X, sample_weight=array()[:, 0])
    with pytest.raises(TypeError, match=r"skae\.dask"):
        skae.AutoencoderAnomalyDetector().fit(rows)


def test_other_columns_are_refused_before_anything_is_computed(fitted, fitted_frames):
    with pytest.raises(ValueError, match="5 features"):
        fitted["AutoencoderTransformer"].transform(array()[:, :5])
    with pytest.raises(ValueError, match="feature names"):
        fitted_frames["AutoencoderTransformer"].transform(frame()[["a", "b"]])
    with pytest.raises(NotFittedError):
        skae.dask.AutoencoderTransformer().transform(array())
    with pytest.raises(NotFittedError):
        skae.dask.AutoencoderTransformer().to_local()


@pytest.mark.parametrize(
    ("name", "parameters", "error"),
    [
        ("AutoencoderTransformer", {"normalization": "batch"}, "normalization='layer'"),
        ("DenoisingAutoencoder", {"noise": "swap"}, "noise='swap'"),
        ("DenoisingAutoencoder", {"noise": (lambda x, g: x,)}, "other rows of a batch"),
        ("AutoencoderTransformer", {"n_components": 0}, "n_components"),
        ("AutoencoderTransformer", {"loss": "log_loss", "scaling": None}, "log_loss"),
        ("AutoencoderTransformer", {"hidden_layer_sizes": (0,)}, "hidden_layer_sizes"),
    ],
)
def test_what_cannot_be_fitted_is_said(name, parameters, error, client):
    with pytest.raises(ValueError, match=error):
        getattr(skae.dask, name)(**{**FEW, **parameters}).fit(array())


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"network": "unet"}, "BatchNorm2d"),
        ({"network": "unet", "normalization": None}, None),
        ({"network": "conv", "patch_size": 4}, "patch_size=4"),
        ({"network": "conv", "dropout": 0.2}, "Dropout"),
    ],
)
def test_networks_of_images(parameters, error, client):
    images = da.from_array(rng.random(size=(60, 8, 8)), chunks=(20, 8, 8))
    n_components = "auto" if parameters["network"] == "unet" else 2
    estimator = skae.dask.DenoisingAutoencoder(
        **{**FEW, "max_epochs": 1, "n_components": n_components, **parameters}
    )
    if error is None:
        assert estimator.fit(images).denoise(images).compute().shape == images.shape
    else:
        with pytest.raises(ValueError, match=error):
            estimator.fit(images)


def test_an_error_on_a_worker_leaves_the_estimator_as_it_was(fitted):
    one = copy.copy(fitted["AutoencoderTransformer"])
    before, infinite = dict(vars(one)), X.copy()
    infinite[450, 2] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        one.fit(array(infinite))
    assert vars(one) == before
    with pytest.raises(DivergenceError):
        one.set_params(learning_rate=1e9, optimizer="sgd").fit(array())
    assert vars(one) == {**before, "learning_rate": 1e9, "optimizer": "sgd"}
    assert one.set_params(learning_rate="auto", optimizer="adam").fit(array()).n_iter_ == 2


def test_an_error_of_a_partition_is_raised_as_it_is(client):
    def broken(block):
        raise KeyError("of the partition")

    rows = array().map_blocks(broken, meta=X[:0])
    with pytest.raises(KeyError, match="of the partition"):
        skae.dask.AutoencoderTransformer(**FEW).fit(rows)


def test_training_goes_on(client):
    estimator = skae.dask.AutoencoderTransformer(**FEW)
    estimator.partial_fit(array()).partial_fit(array())
    assert len(estimator.loss_curve_) == 2
    assert estimator.loss_curve_[1] < estimator.loss_curve_[0]
    estimator.set_params(warm_start=True).fit(array())
    assert estimator._train_state["n_epochs"] == 4
    local = estimator.to_local().partial_fit(X)
    assert len(local.loss_curve_) == 3


def test_without_a_client_one_is_asked_for(monkeypatch):
    def none():
        raise ValueError("No clients found")

    monkeypatch.setattr("distributed.get_client", none)
    with pytest.raises(ValueError, match=r"distributed\.Client\(\)"):
        skae.dask.AutoencoderTransformer().fit(array())


def test_random_states_that_are_no_integers(client):
    state = np.random.RandomState(3)
    one = skae.dask.AutoencoderTransformer(**{**FEW, "random_state": state}).fit(array())
    again = skae.dask.AutoencoderTransformer(**{**FEW, "random_state": np.random.RandomState(3)})
    np.testing.assert_allclose(again.fit(array()).loss_curve_, one.loss_curve_, rtol=1e-4)
    assert one.random_state is state
    assert (
        skae.dask.AutoencoderTransformer(**{**FEW, "random_state": None}).fit(array()).n_iter_ == 2
    )


def test_steps_of_a_pipeline_take_dask_collections(client):
    pipeline = make_pipeline(FunctionTransformer(lambda X: X / 2), exact(array()))
    latents = pipeline.fit(array()).transform(array())
    np.testing.assert_array_equal(latents.compute(), pipeline[-1].transform(X / 2))
