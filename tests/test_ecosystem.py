"""Beside scikit-learn's own parts, in their places, and with frames in and out."""

import sys
import threading
import warnings

import joblib
import numpy as np
import pytest
import sklearn
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.utils.validation import _get_feature_names

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer, DenoisingAutoencoder

IRIS, SPECIES = load_iris(return_X_y=True)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 6)) @ RNG.normal(size=(6, 6))
NAMES = [f"size {i}" for i in range(6)]
SMALL = {
    "n_components": 3,
    "hidden_layer_sizes": (16,),
    "batch_size": 64,
    "max_epochs": 5,
    "random_state": 0,
    "device": "cpu",
}
CLASSES = [AutoencoderTransformer, DenoisingAutoencoder, AutoencoderAnomalyDetector]
each_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
TRANSFORMERS = CLASSES[:2]
each_transformer = pytest.mark.parametrize("cls", TRANSFORMERS, ids=lambda cls: cls.__name__)


# Composition.


def test_pipeline_stands_where_pca_stands():
    digits, labels = load_digits(return_X_y=True)
    train, test = slice(0, 1200), slice(1200, None)
    transformer = AutoencoderTransformer(
        n_components=8, max_epochs=30, random_state=0, device="cpu"
    )
    pipeline = Pipeline([("reduce", PCA(8)), ("classify", KNeighborsClassifier())])
    pca = pipeline.fit(digits[train], labels[train]).score(digits[test], labels[test])
    pipeline.set_params(reduce=transformer).fit(digits[train], labels[train])
    assert pipeline.score(digits[test], labels[test]) > pca - 0.02
    codes = clone(transformer).fit(digits[train]).transform(digits[test])
    np.testing.assert_array_equal(pipeline[:-1].transform(digits[test]), codes)
    np.testing.assert_array_equal(
        pipeline[:-1].inverse_transform(codes), pipeline["reduce"].inverse_transform(codes)
    )


@each_transformer
def test_fit_transform_is_fit_and_transform(cls):
    np.testing.assert_array_equal(cls(**SMALL).fit_transform(X), cls(**SMALL).fit(X).transform(X))


def test_detector_fit_predict_is_fit_and_predict():
    detector = AutoencoderAnomalyDetector(**SMALL, contamination=0.1)
    labels = detector.fit_predict(X)
    np.testing.assert_array_equal(labels, clone(detector).fit(X).predict(X))
    assert (labels == -1).sum() == 20
    pipeline = make_pipeline(StandardScaler(), clone(detector)).fit(X)
    np.testing.assert_allclose(pipeline.score_samples(X), detector.score_samples(X), rtol=1e-2)


def test_column_transformer_gives_each_its_columns():
    table = np.column_stack([X, RNG.integers(0, 3, size=len(X))])
    columns = ColumnTransformer(
        [
            ("left", AutoencoderTransformer(**SMALL | {"n_components": 2}), [0, 1, 2]),
            ("right", DenoisingAutoencoder(**SMALL), slice(3, 6)),
            ("kind", OneHotEncoder(sparse_output=False), [6]),
        ]
    ).fit(table)
    result = columns.transform(table)
    left = AutoencoderTransformer(**SMALL | {"n_components": 2}).fit_transform(X[:, :3])
    right = DenoisingAutoencoder(**SMALL).fit_transform(X[:, 3:])
    np.testing.assert_array_equal(result[:, :5], np.column_stack([left, right]))
    assert columns.get_feature_names_out().tolist() == [
        "left__autoencodertransformer0",
        "left__autoencodertransformer1",
        "right__denoisingautoencoder0",
        "right__denoisingautoencoder1",
        "right__denoisingautoencoder2",
        "kind__x6_0.0",
        "kind__x6_1.0",
        "kind__x6_2.0",
    ]


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_feature_union_puts_latents_beside_each_other(n_jobs):
    union = FeatureUnion(
        [("pca", PCA(2)), ("latents", AutoencoderTransformer(**SMALL))], n_jobs=n_jobs
    )
    with joblib.parallel_backend("threading"):
        result = union.fit(X).transform(X)
    np.testing.assert_array_equal(
        result[:, 2:].astype(np.float32), AutoencoderTransformer(**SMALL).fit_transform(X)
    )
    assert union.get_feature_names_out()[-1] == "latents__autoencodertransformer2"


def test_one_hot_rows_come_as_sparse_rows():
    words = RNG.integers(0, 5, size=(100, 3))
    pipeline = make_pipeline(OneHotEncoder(), AutoencoderTransformer(**SMALL))
    assert sparse.issparse(pipeline[:1].fit_transform(words))
    dense = make_pipeline(OneHotEncoder(sparse_output=False), AutoencoderTransformer(**SMALL))
    np.testing.assert_array_equal(pipeline.fit_transform(words), dense.fit_transform(words))


# Searches.

GRID = {"n_components": [1, 2, 4], "activation": ["relu", "tanh"]}


def _search(cls=GridSearchCV, **options):
    estimator = AutoencoderTransformer(**SMALL | {"max_epochs": 40})
    return cls(estimator, options.pop("grid", GRID), cv=3, **options)


def test_grid_search_needs_neither_y_nor_scoring():
    search = _search().fit(X)
    assert search.best_params_["n_components"] == 4
    assert search.best_score_ == search.cv_results_["mean_test_score"].max()
    assert 0.3 < search.best_score_ <= 1.0
    assert search.score(X) == search.best_estimator_.score(X)


@pytest.mark.parametrize("backend", [pytest.param("loky", marks=pytest.mark.slow), "threading"])
def test_parallel_grid_search_gives_the_results_of_a_sequential_one(backend):
    sequential = _search().fit(X)
    with joblib.parallel_backend(backend):
        search = _search(n_jobs=2).fit(X)
    for name in ("mean_test_score", "std_test_score", "rank_test_score"):
        np.testing.assert_array_equal(search.cv_results_[name], sequential.cv_results_[name])
    np.testing.assert_array_equal(search.transform(X), sequential.transform(X))


def test_randomized_search_draws_the_same_candidates():
    searches = [_search(RandomizedSearchCV, n_iter=3, random_state=0).fit(X) for _ in range(2)]
    np.testing.assert_array_equal(
        searches[0].cv_results_["mean_test_score"], searches[1].cv_results_["mean_test_score"]
    )
    assert searches[0].best_params_ == searches[1].best_params_


@pytest.mark.parametrize("resource", ["n_samples", "max_epochs"])
def test_halving_search_grows_its_resource(resource):
    options = {"resource": resource, "random_state": 0, "factor": 3}
    if resource == "max_epochs":
        options |= {"max_resources": 9, "min_resources": 3}
    search = _search(HalvingGridSearchCV, grid={"n_components": [1, 2, 4]}, **options)
    search.fit(X, np.zeros(len(X)))
    first, second = search.n_resources_
    assert second == 3 * first
    assert search.n_candidates_ == [3, 1]
    scores = search.cv_results_["mean_test_score"]
    assert search.best_score_ == scores[search.best_index_] > scores.min()


def test_grid_search_over_a_step_of_a_pipeline():
    pipeline = Pipeline(
        [("latents", AutoencoderTransformer(**SMALL)), ("knn", KNeighborsClassifier())]
    )
    grid = {"latents": [PCA(), AutoencoderTransformer(**SMALL)], "latents__n_components": [1, 3]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(IRIS, SPECIES)
    assert len(search.cv_results_["params"]) == 4
    assert search.cv_results_["mean_test_score"].min() > 0.6
    assert search.best_score_ > 0.9


def test_detector_in_cross_validation_by_area_under_the_curve():
    outliers = RNG.uniform(-12, 12, size=(20, 6))
    table, is_inlier = np.vstack([X, outliers]), np.r_[np.ones(200), np.zeros(20)]
    detector = AutoencoderAnomalyDetector(**SMALL | {"max_epochs": 30})

    def area(estimator, X, y):
        return sklearn.metrics.roc_auc_score(y, estimator.decision_function(X))

    folds = StratifiedKFold(4, shuffle=True, random_state=0)
    scores = cross_val_score(detector, table, is_inlier, scoring=area, cv=folds)
    assert scores.mean() > 0.8


def test_score_without_y_is_the_explained_variance():
    estimator = AutoencoderTransformer(**SMALL | {"max_epochs": 40}).fit(X)
    mean, deviation = X.mean(0), X.std(0)
    error = ((estimator.reconstruct(X) - X) / deviation) ** 2
    total = ((X - mean) / deviation) ** 2
    assert estimator.score(X) == pytest.approx(1 - error.sum() / total.sum(), abs=1e-5)
    assert estimator.score(X) == estimator.score(X, np.zeros(len(X)))
    weights = np.r_[np.zeros(100), np.ones(100)]
    assert estimator.score(X, sample_weight=weights) == pytest.approx(
        estimator.score(X[100:]), abs=1e-9
    )


# Frames.


def _frame(library, values, names=NAMES):
    if library.__name__ == "polars":
        return library.DataFrame(values, schema=names)
    index = [f"row {i}" for i in range(len(values))]
    return library.DataFrame(values, columns=names, index=index)


@pytest.fixture(params=["pandas", "polars"])
def library(request):
    library = pytest.importorskip(request.param)
    if _get_feature_names(_frame(library, X)) is None:
        pytest.skip(f"scikit-learn {sklearn.__version__} reads no names of {request.param} frames")
    return library


@each_transformer
def test_set_output_names_the_latents(cls, library):
    if library.__name__ == "polars":
        pytest.importorskip("pyarrow")
    frame = _frame(library, X)
    estimator = cls(**SMALL).set_output(transform=library.__name__)
    latents = estimator.fit_transform(frame)
    names = [f"{cls.__name__.lower()}{i}" for i in range(3)]
    assert isinstance(latents, library.DataFrame)
    assert list(latents.columns) == names
    assert estimator.get_feature_names_out().tolist() == names
    plain = cls(**SMALL).fit(X).transform(X)
    np.testing.assert_array_equal(latents.to_numpy(), plain)
    assert latents.to_numpy().dtype == np.float32
    if library.__name__ == "pandas":
        assert list(latents.index) == list(frame.index)
        assert set(latents.dtypes) == {np.dtype("float32")}
    pipeline = make_pipeline(StandardScaler(), clone(estimator)).set_output(
        transform=library.__name__
    )
    assert list(pipeline.fit_transform(frame).columns) == names


@each_class
def test_frames_give_the_bits_of_arrays(cls, library):
    frame = _frame(library, X)
    estimator, expected = cls(**SMALL).fit(frame), cls(**SMALL).fit(X)
    assert estimator.feature_names_in_.tolist() == NAMES
    assert estimator.loss_curve_ == expected.loss_curve_
    np.testing.assert_array_equal(estimator.score_samples(frame), expected.score_samples(X))


@each_transformer
def test_reconstructions_are_frames_with_the_callers_columns_and_index(cls, library):
    holes = np.where(RNG.random(X.shape) < 0.1, np.nan, X)
    frame = _frame(library, holes)
    estimator, expected = cls(**SMALL).fit(frame), cls(**SMALL).fit(holes)
    latents = estimator.set_output(transform=library.__name__).transform(frame)
    results = {
        "reconstruct": (estimator.reconstruct(frame), expected.reconstruct(holes)),
        "inverse_transform": (
            estimator.inverse_transform(latents),
            expected.inverse_transform(expected.transform(holes)),
        ),
    }
    if cls is DenoisingAutoencoder:
        results["impute"] = (estimator.impute(frame), expected.impute(holes))
        results["denoise"] = (estimator.denoise(frame), expected.denoise(holes))
    for name, (result, values) in results.items():
        assert isinstance(result, library.DataFrame), name
        assert list(result.columns) == NAMES, name
        np.testing.assert_array_equal(result.to_numpy(), values, err_msg=name)
        if library.__name__ == "pandas":
            assert list(result.index) == list(frame.index), name


def test_contributions_are_a_frame_with_the_callers_columns_and_index(library):
    frame = _frame(library, X)
    detector = AutoencoderAnomalyDetector(**SMALL).fit(frame)
    contributions = detector.feature_contributions(frame)
    assert isinstance(contributions, library.DataFrame)
    assert list(contributions.columns) == NAMES
    np.testing.assert_allclose(
        contributions.to_numpy().sum(1), -detector.score_samples(frame).clip(max=0.0), rtol=1e-5
    )


def test_frame_with_other_columns_is_refused(library):
    estimator = AutoencoderTransformer(**SMALL).fit(_frame(library, X))
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.transform(_frame(library, X, NAMES[::-1]))


def test_frame_of_mixed_and_nullable_types():
    pandas = pytest.importorskip("pandas")
    values = np.round(10 * X)
    frame = pandas.DataFrame(values, columns=NAMES)
    frame = frame.astype({"size 0": "int64", "size 1": "float32", "size 2": "Int64"})
    frame["size 3"] = frame["size 3"].astype("Float64")
    frame.loc[3, "size 2"] = pandas.NA
    values[3, 2] = np.nan
    estimator, expected = (AutoencoderTransformer(**SMALL).fit(rows) for rows in (frame, values))
    np.testing.assert_array_equal(estimator.transform(frame), expected.transform(values))
    assert np.isfinite(estimator.reconstruct(frame).to_numpy()).all()


def test_null_of_a_polars_frame_is_a_missing_cell():
    polars = pytest.importorskip("polars")
    values = np.round(10 * X)
    values[[3, 50], [2, 4]] = np.nan
    columns = {
        name: [None if np.isnan(v) else int(v) for v in column]
        for name, column in zip(NAMES, values.T, strict=True)
    }
    frame = polars.DataFrame(columns)
    estimator, expected = (AutoencoderTransformer(**SMALL).fit(rows) for rows in (frame, values))
    np.testing.assert_array_equal(estimator.transform(frame), expected.transform(values))
    assert np.isfinite(estimator.reconstruct(frame).to_numpy()).all()


def test_frame_of_words_is_refused(library):
    frame = _frame(library, X[:, :2], ["a", "b"])
    words = ["red"] * len(X)
    if library.__name__ == "pandas":
        frame = frame.assign(c=words)
    else:
        frame = frame.with_columns(library.Series("c", words))
    with pytest.raises(ValueError, match="red"):
        AutoencoderTransformer(**SMALL).fit(frame)


# Weights and routing.


@each_class
@pytest.mark.parametrize("changes", [{}, {"normalization": "layer"}, {"loss": "huber"}], ids=str)
def test_sample_weight_equals_repeated_rows(cls, changes):
    data, weights = X[:80], np.random.default_rng(1).integers(0, 4, size=80)
    options = SMALL | {"batch_size": 512, "max_epochs": 30} | changes
    if cls is AutoencoderAnomalyDetector:
        options["max_samples"] = 1.0
    weighted = cls(**options).fit(data, sample_weight=weights)
    repeated = cls(**options).fit(np.repeat(data, weights, axis=0))
    np.testing.assert_allclose(weighted.loss_curve_, repeated.loss_curve_, rtol=1e-6)
    np.testing.assert_allclose(
        weighted.score_samples(X), repeated.score_samples(X), rtol=1e-4, atol=1e-5
    )
    if cls is AutoencoderAnomalyDetector:
        assert weighted.offset_ == pytest.approx(repeated.offset_, rel=1e-4)


def test_weights_are_relative():
    once = AutoencoderTransformer(**SMALL).fit(X, sample_weight=np.full(200, 1.0))
    thrice = AutoencoderTransformer(**SMALL).fit(X, sample_weight=np.full(200, 3.0))
    plain = AutoencoderTransformer(**SMALL).fit(X)
    for weighted in (once, thrice):
        np.testing.assert_allclose(weighted.transform(X), plain.transform(X), rtol=1e-3, atol=1e-4)


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.usefixtures("routing")
@each_transformer
def test_sample_weight_is_routed_through_a_pipeline(cls):
    weights = np.random.default_rng(2).uniform(0.1, 5.0, size=len(X))
    step = cls(**SMALL).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    pipeline = Pipeline([("same", FunctionTransformer()), ("latents", step)])
    pipeline.fit(X, sample_weight=weights)
    alone = cls(**SMALL).fit(X, sample_weight=weights)
    unweighted = cls(**SMALL).fit(X)
    np.testing.assert_array_equal(pipeline.transform(X), alone.transform(X))
    assert not np.array_equal(alone.transform(X), unweighted.transform(X))
    assert pipeline.score(X, sample_weight=weights) == alone.score(X, sample_weight=weights)


@pytest.mark.usefixtures("routing")
def test_sample_weight_that_nobody_asked_for_is_refused():
    pipeline = make_pipeline(FunctionTransformer(), AutoencoderTransformer(**SMALL))
    with pytest.raises(ValueError, match="sample_weight"):
        pipeline.fit(X, sample_weight=np.ones(len(X)))


@pytest.mark.usefixtures("routing")
def test_sample_weight_is_routed_through_a_search():
    weights = np.r_[np.full(100, 1e-6), np.ones(100)]
    step = AutoencoderTransformer(**SMALL, init="random")
    step.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    search = GridSearchCV(step, {"max_epochs": [1, 40]}, cv=2).fit(X, sample_weight=weights)
    assert search.best_params_ == {"max_epochs": 40}
    expected = clone(step).set_params(max_epochs=40).fit(X, sample_weight=weights)
    np.testing.assert_array_equal(search.transform(X), expected.transform(X))


# Looks.


@each_class
def test_html_and_text_show_the_changed_parameters(cls):
    estimator = cls(n_components=7, activation="tanh")
    assert repr(estimator) == f"{cls.__name__}(activation='tanh', n_components=7)"
    for shown in (estimator, clone(estimator).set_params(**SMALL).fit(X)):
        html = shown._repr_html_()
        assert cls.__name__ in html
        assert "n_components" in html
    assert cls.__name__ in make_pipeline(StandardScaler(), estimator)._repr_html_()


@each_class
def test_verbose_zero_prints_nothing(cls, capfd):
    estimator = cls(**SMALL).fit(X)
    estimator.partial_fit(X).score_samples(X)
    assert tuple(capfd.readouterr()) == ("", "")


@each_class
@pytest.mark.parametrize("early_stopping", [False, True])
def test_verbose_shows_a_bar_with_the_losses(cls, early_stopping, capfd):
    pytest.importorskip("tqdm")
    estimator = cls(**SMALL, verbose=1, early_stopping=early_stopping).fit(X)
    shown = capfd.readouterr().err
    assert cls.__name__ in shown
    assert "5/5" in shown
    assert f"loss={estimator.loss_curve_[-1]:.4g}" in shown
    if early_stopping:
        assert f"validation_loss={estimator.validation_loss_curve_[-1]:.4g}" in shown


@each_class
@pytest.mark.parametrize("early_stopping", [False, True])
def test_verbose_without_tqdm_prints_a_line_an_epoch(cls, early_stopping, capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    estimator = cls(**SMALL, verbose=True, early_stopping=early_stopping).fit(X)
    out, err = capfd.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert len(lines) == 5
    for epoch, line in enumerate(lines):
        assert line.startswith(f"{cls.__name__}: epoch {epoch + 1}/5, loss ")
        assert f"loss {estimator.loss_curve_[epoch]:.4g}" in line
        assert line.endswith(" s left")
    assert ("validation_loss" in out) == early_stopping


def test_failed_fit_closes_the_bar(capfd, monkeypatch):
    tqdm = pytest.importorskip("tqdm.auto").tqdm
    from skae.exceptions import DivergenceError

    estimator = AutoencoderTransformer(
        **SMALL | {"max_epochs": 50}, optimizer="sgd", learning_rate=1e9, verbose=1
    )
    n_bars = len(tqdm._instances)
    with pytest.raises(DivergenceError):
        estimator.fit(X)
    assert len(tqdm._instances) == n_bars


# scikit-learn's callbacks, from 1.9 on.


@pytest.fixture
def callback():
    return pytest.importorskip("sklearn.callback")


class Recorder:
    """Records its hooks; asks to stop after some epochs."""

    max_propagation_depth = None

    def __init__(self, stop_after=None, raise_after=None):
        self.events, self.tasks, self.scores, self.fitted = [], [], [], []
        self.stop_after, self.raise_after = stop_after, raise_after

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        self.events.append(f"begin {context.task_name}")
        self.given = X, y, metadata

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        self.events.append(f"end {context.task_name}")
        if context.task_name != "epoch":
            return False
        self.tasks.append(context.task_id)
        self.n_tasks = context.parent.max_subtasks
        self.scores.append(fitted_estimator.score_samples(X))
        self.fitted.append(fitted_estimator)
        if len(self.tasks) == self.raise_after:
            raise KeyboardInterrupt
        return len(self.tasks) == self.stop_after


def _scored_while_training(cls):
    """A detector calibrates its scores when it is trained; before, they are the errors."""
    if cls is AutoencoderAnomalyDetector:
        return SMALL | {"anomaly_score": "reconstruction"}
    return SMALL


@each_class
@pytest.mark.usefixtures("callback")
def test_an_epoch_is_a_task(cls):
    recorder, weights = Recorder(), np.ones(len(X))
    settings = _scored_while_training(cls) | {"init": "random"}
    estimator = cls(**settings).set_callbacks(recorder).fit(X, sample_weight=weights)
    epochs = ["begin epoch", "end epoch"] * 5
    assert recorder.events == ["setup", "begin fit", *epochs, "end fit", "teardown"]
    assert recorder.tasks == [0, 1, 2, 3, 4]
    assert recorder.n_tasks == 5
    assert recorder.given[0] is X
    assert recorder.given[1] is None
    assert recorder.given[2]["sample_weight"] is weights
    np.testing.assert_array_equal(estimator.score_samples(X), recorder.scores[-1])
    assert recorder.scores[0].mean() < recorder.scores[-1].mean()
    plain = cls(**settings).fit(X, sample_weight=weights)
    np.testing.assert_array_equal(estimator.score_samples(X), plain.score_samples(X))


@pytest.mark.usefixtures("callback")
def test_estimator_of_an_epoch_keeps_that_epochs_weights():
    recorder = Recorder()
    AutoencoderTransformer(**SMALL).set_callbacks(recorder).fit(X)
    for fitted, scores in zip(recorder.fitted, recorder.scores, strict=True):
        np.testing.assert_array_equal(fitted.score_samples(X), scores)
        assert fitted.transform(X).shape == (200, 3)


@pytest.mark.usefixtures("callback")
def test_partial_fit_is_one_epoch():
    recorder = Recorder()
    AutoencoderTransformer(**SMALL).set_callbacks(recorder).partial_fit(X)
    assert recorder.events == [
        "setup", "begin fit", "begin epoch", "end epoch", "end fit", "teardown",
    ]  # fmt: skip


@each_class
@pytest.mark.usefixtures("callback")
def test_a_callback_that_asks_to_stop_is_honoured(cls):
    recorder = Recorder(stop_after=2)
    estimator = cls(**_scored_while_training(cls)).set_callbacks(recorder).fit(X)
    assert estimator.n_iter_ == 2
    assert recorder.events[-4:] == ["begin epoch", "end epoch", "end fit", "teardown"]
    assert recorder.events.count("begin epoch") == 2
    np.testing.assert_array_equal(estimator.score_samples(X), recorder.scores[-1])


@pytest.mark.usefixtures("callback")
@pytest.mark.parametrize("changes", [{"early_stopping": True}, {"lr_schedule": "constant"}])
def test_every_task_that_begins_also_ends_when_training_stops_early(changes):
    recorder = Recorder()
    estimator = AutoencoderTransformer(
        **SMALL | {"max_epochs": 50}, **changes, n_iter_no_change=2, tol=100.0
    ).set_callbacks(recorder)
    estimator.fit(X)
    assert 1 < estimator.n_iter_ < 50
    assert recorder.events.count("begin epoch") == estimator.n_iter_
    assert recorder.events.count("end epoch") == estimator.n_iter_
    assert recorder.events[-2:] == ["end fit", "teardown"]


@pytest.mark.usefixtures("callback")
def test_interrupted_fit_tears_the_callbacks_down_and_leaves_no_trace():
    recorder = Recorder(raise_after=2)
    estimator = AutoencoderTransformer(**SMALL).set_callbacks(recorder)
    before = dict(vars(estimator))
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X)
    assert vars(estimator) == before
    assert recorder.events[-1] == "teardown"


@pytest.mark.usefixtures("callback")
def test_fitted_estimator_keeps_no_callback_context():
    estimator = AutoencoderTransformer(**SMALL).set_callbacks(Recorder()).fit(X)
    assert [name for name in vars(estimator) if "callback" in name] == ["_skl_callbacks"]
    estimator.set_callbacks().fit(X)
    assert not [name for name in vars(estimator) if "callback" in name]


@pytest.mark.usefixtures("callback")
def test_pipeline_propagates_its_callbacks():
    recorder = Recorder()
    pipeline = Pipeline([("same", PCA(4)), ("latents", AutoencoderTransformer(**SMALL))])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not support callbacks")
        pipeline.set_callbacks(recorder).fit(X)
    assert recorder.tasks == [0, 1, 2, 3, 4]
    assert recorder.events.count("setup") == recorder.events.count("teardown") == 1
    assert not hasattr(pipeline["latents"], "_skl_callbacks")
    assert not hasattr(pipeline["latents"], "_parent_callback_ctx")


@pytest.mark.usefixtures("callback")
def test_grid_search_propagates_its_callbacks():
    recorder = Recorder()
    estimator = AutoencoderTransformer(**SMALL | {"max_epochs": 2})
    search = GridSearchCV(estimator, {"n_components": [1, 2]}, cv=2).set_callbacks(recorder)
    search.fit(X)
    # Two candidates on two folds, and the refit, of two epochs each.
    assert recorder.tasks == [0, 1] * 5
    assert recorder.events.count("setup") == recorder.events.count("teardown") == 1
    plain = GridSearchCV(estimator, {"n_components": [1, 2]}, cv=2).fit(X)
    assert search.best_score_ == plain.best_score_


def test_scoring_monitor_logs_a_score_an_epoch(callback):
    scoring = {"score": lambda estimator, X, y: estimator.score(X)}
    monitor = callback.ScoringMonitor(scoring=scoring)
    estimator = AutoencoderTransformer(**SMALL, init="random").set_callbacks(monitor)
    estimator.fit(X, np.zeros(len(X)))
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert [row["task_id"] for row in rows] == [0, 1, 2, 3, 4]
    scores = [row["score"] for row in rows]
    assert scores[-1] == pytest.approx(estimator.score(X), rel=1e-6)
    assert scores[0] < scores[-1]


def test_progress_bar_of_scikit_learn_shows_the_epochs(callback, capfd, monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "200")
    estimator = AutoencoderTransformer(**SMALL).set_callbacks(callback.ProgressBar())
    estimator.fit(X)
    out = capfd.readouterr().out
    assert "AutoencoderTransformer" in out
    assert "100%" in out
    # scikit-learn itself leaves threads that listen for other processes.
    alive = [type(thread).__name__ for thread in threading.enumerate()]
    assert "RichProgressMonitor" not in alive
