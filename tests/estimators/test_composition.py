"""In pipelines, searches and other meta-estimators, with routed weights."""

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
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)

IRIS, SPECIES = load_iris(return_X_y=True)

RNG = np.random.default_rng(0)

X = RNG.normal(size=(200, 6)) @ RNG.normal(size=(6, 6))

SMALL = {
    "n_components": 3,
    "hidden_layer_sizes": (16,),
    "batch_size": 64,
    "max_epochs": 5,
    "random_state": 0,
    "device": "cpu",
}

CLASSES = [
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
    AutoencoderAnomalyDetector,
]

TRANSFORMERS = CLASSES[:3]

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
    rng = np.random.default_rng(1)
    table = np.column_stack([X, rng.integers(0, 3, size=len(X))])
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
    rng = np.random.default_rng(1)
    words = rng.integers(0, 5, size=(100, 3))
    pipeline = make_pipeline(OneHotEncoder(), AutoencoderTransformer(**SMALL))
    assert sparse.issparse(pipeline[:1].fit_transform(words))
    dense = make_pipeline(OneHotEncoder(sparse_output=False), AutoencoderTransformer(**SMALL))
    np.testing.assert_array_equal(pipeline.fit_transform(words), dense.fit_transform(words))


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
    rng = np.random.default_rng(1)
    outliers = rng.uniform(-12, 12, size=(20, 6))
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
