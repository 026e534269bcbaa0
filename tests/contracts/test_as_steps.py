"""What users of Pipeline, ColumnTransformer, FeatureUnion and searches expect of our steps."""

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectKBest
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    cross_val_predict,
    cross_validate,
    learning_curve,
    validation_curve,
)
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer, DenoisingAutoencoder

IRIS, SPECIES = load_iris(return_X_y=True)
SMALL = {
    "n_components": 2,
    "hidden_layer_sizes": (8,),
    "max_epochs": 5,
    "random_state": 0,
    "device": "cpu",
}
LATENTS = AutoencoderTransformer(**SMALL)
DETECTOR = AutoencoderAnomalyDetector(**SMALL)
NAMES = ["sepal length", "sepal width", "petal length", "petal width"]
EXPECTED = clone(LATENTS).fit_transform(IRIS)


def _frame():
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(IRIS, columns=NAMES, index=[f"flower {i}" for i in range(150)])


# Pipeline.


def test_methods_of_a_pipeline_are_those_of_its_last_step():
    transforms, detects = make_pipeline(PCA(3), LATENTS), make_pipeline(PCA(3), DETECTOR)
    for name in ("transform", "inverse_transform", "fit_transform", "score_samples", "score"):
        assert hasattr(transforms, name)
    assert not hasattr(transforms, "predict")
    for name in ("predict", "fit_predict", "decision_function", "score_samples"):
        assert hasattr(detects, name)
    assert not hasattr(detects, "transform")


def test_fit_predict_of_a_pipeline_flags_the_rows_of_the_fit():
    pipeline = make_pipeline(StandardScaler(), clone(DETECTOR).set_params(contamination=0.1))
    labels = pipeline.fit_predict(IRIS)
    assert (labels == -1).sum() == 15
    np.testing.assert_array_equal(pipeline.predict(IRIS), labels)


def test_steps_are_sliced_named_replaced_and_passed_through():
    pipeline = Pipeline([("scale", StandardScaler()), ("latents", clone(LATENTS))]).fit(IRIS)
    scaled = pipeline[:-1].transform(IRIS)
    np.testing.assert_array_equal(pipeline["latents"].transform(scaled), pipeline.transform(IRIS))
    assert pipeline.named_steps.latents is pipeline[-1]
    pipeline.set_params(scale="passthrough").fit(IRIS)
    np.testing.assert_array_equal(pipeline.transform(IRIS), EXPECTED)
    pipeline.set_params(latents=PCA(2)).fit(IRIS)
    np.testing.assert_allclose(pipeline.transform(IRIS), PCA(2).fit_transform(IRIS))


def test_parameters_of_a_step_are_set_and_checked_by_name():
    pipeline = make_pipeline(StandardScaler(), clone(LATENTS))
    pipeline.set_params(autoencodertransformer__n_components=3)
    assert pipeline.fit_transform(IRIS).shape == (150, 3)
    with pytest.raises(ValueError, match="Invalid parameter 'latents'"):
        pipeline.set_params(autoencodertransformer__latents=3)


def test_inverse_transform_goes_back_through_all_steps():
    pipeline = make_pipeline(StandardScaler(), clone(LATENTS).set_params(n_components=4))
    pipeline.set_params(autoencodertransformer__max_epochs=30)
    back = pipeline.inverse_transform(pipeline.fit_transform(IRIS))
    assert np.abs(back - IRIS).mean() < 0.1


def test_weights_reach_a_step_by_its_name():
    weights = np.repeat([1.0, 0.0], [100, 50])
    pipeline = make_pipeline(StandardScaler(with_mean=False, with_std=False), clone(LATENTS))
    pipeline.fit(IRIS, autoencodertransformer__sample_weight=weights)
    np.testing.assert_array_equal(
        pipeline.transform(IRIS), clone(LATENTS).fit(IRIS[:100]).transform(IRIS)
    )


def test_weights_are_routed_to_the_steps_that_ask_for_them():
    weights = np.repeat([1.0, 0.0], [100, 50])
    with sklearn.config_context(enable_metadata_routing=True):
        step = clone(LATENTS).set_fit_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), step)
        pipeline.fit(IRIS, sample_weight=weights)
        scaled = StandardScaler().fit_transform(IRIS)
        np.testing.assert_array_equal(
            pipeline.transform(IRIS), clone(LATENTS).fit(scaled[:100]).transform(scaled)
        )


def test_a_cached_step_is_fitted_once(tmp_path):
    memory = joblib.Memory(tmp_path, verbose=0)
    pipelines = [
        make_pipeline(clone(LATENTS), LogisticRegression(C=c, max_iter=500), memory=memory)
        for c in (1.0, 10.0)
    ]
    for pipeline in pipelines:
        pipeline.fit(IRIS, SPECIES)
        np.testing.assert_array_equal(pipeline[:-1].transform(IRIS), EXPECTED)
    stored = list(tmp_path.rglob("output.pkl"))
    assert len(stored) == 1


def test_a_pipeline_knows_whether_it_is_fitted():
    pipeline = make_pipeline(StandardScaler(), clone(LATENTS))
    assert not pipeline.__sklearn_is_fitted__()
    with pytest.raises(NotFittedError):
        pipeline[-1].transform(IRIS)
    assert pipeline.fit(IRIS).__sklearn_is_fitted__()


def test_names_of_columns_pass_through_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), clone(LATENTS)).fit(_frame())
    assert pipeline.feature_names_in_.tolist() == NAMES
    assert pipeline.get_feature_names_out().tolist() == [
        "autoencodertransformer0",
        "autoencodertransformer1",
    ]
    assert pipeline.n_features_in_ == 4


def test_frames_pass_through_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), clone(LATENTS), SelectKBest(k=1))
    pipeline.set_output(transform="pandas")
    frame = _frame()
    result = pipeline.fit_transform(frame, SPECIES)
    assert list(result.index) == list(frame.index)
    assert set(result.columns) < {"autoencodertransformer0", "autoencodertransformer1"}


def test_a_pipeline_is_shown_as_a_diagram():
    pipeline = make_pipeline(StandardScaler(), clone(LATENTS))
    for shown in (pipeline, pipeline.fit(IRIS)):
        assert "AutoencoderTransformer" in shown._repr_html_()


# ColumnTransformer.


def test_columns_are_chosen_by_name_number_mask_and_kind():
    frame = _frame()
    expected = clone(LATENTS).fit_transform(IRIS[:, 2:])
    mask = [False, False, True, True]
    for columns in (NAMES[2:], [2, 3], [-2, -1], slice(2, None), mask, lambda X: NAMES[2:]):
        result = ColumnTransformer([("petals", clone(LATENTS), columns)]).fit_transform(frame)
        np.testing.assert_array_equal(result, expected)
    kinds = make_column_selector(pattern="petal")
    result = ColumnTransformer([("petals", clone(LATENTS), kinds)]).fit_transform(frame)
    np.testing.assert_array_equal(result, expected)


def test_the_remainder_may_be_an_autoencoder():
    kind = SPECIES.astype(float)[:, None]
    columns = ColumnTransformer(
        [("species", OneHotEncoder(), [4])], remainder=clone(LATENTS), sparse_threshold=1.0
    )
    result = columns.fit_transform(np.hstack([IRIS, kind]))
    dense = result if isinstance(result, np.ndarray) else result.toarray()
    np.testing.assert_array_equal(dense[:, :3], np.eye(3)[SPECIES])
    np.testing.assert_array_equal(dense[:, 3:], EXPECTED)
    assert columns.get_feature_names_out()[-1] == "remainder__autoencodertransformer1"


def test_names_without_prefix_and_frames_out():
    columns = ColumnTransformer(
        [("petals", clone(LATENTS), NAMES[2:]), ("sepals", "passthrough", NAMES[:2])],
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    result = columns.fit_transform(_frame())
    assert list(result.columns) == [
        "autoencodertransformer0",
        "autoencodertransformer1",
        *NAMES[:2],
    ]
    # The estimator inside was fitted on names, and checks them.
    with pytest.raises(ValueError, match="feature names"):
        columns.named_transformers_["petals"].transform(_frame()[NAMES[:2]])


def test_a_step_of_no_columns_is_left_out():
    columns = ColumnTransformer([("none", clone(LATENTS), []), ("all", clone(LATENTS), [0, 1])])
    assert columns.fit_transform(IRIS).shape == (150, 2)


def test_columns_of_a_memory_map_are_read_by_workers(tmp_path):
    joblib.dump(IRIS, tmp_path / "iris.pkl")
    rows = joblib.load(tmp_path / "iris.pkl", mmap_mode="r")
    columns = ColumnTransformer(
        [("left", clone(LATENTS), [0, 1]), ("right", clone(LATENTS), [2, 3])], n_jobs=2
    )
    with joblib.parallel_backend("threading"):
        result = columns.fit_transform(rows)
    parts = [clone(LATENTS).fit_transform(IRIS[:, i : i + 2]) for i in (0, 2)]
    np.testing.assert_array_equal(result, np.hstack(parts))


# FeatureUnion.


def test_weights_of_a_union_multiply_the_latents():
    union = FeatureUnion(
        [("pca", PCA(1)), ("latents", clone(LATENTS))], transformer_weights={"latents": 10}
    )
    np.testing.assert_allclose(union.fit_transform(IRIS)[:, 1:], 10 * EXPECTED, rtol=1e-6)


def test_parts_of_a_union_are_dropped_and_passed_through():
    union = FeatureUnion([("same", "passthrough"), ("latents", clone(LATENTS)), ("pca", "drop")])
    result = union.fit_transform(IRIS)
    np.testing.assert_array_equal(result[:, :4], IRIS)
    np.testing.assert_array_equal(result[:, 4:].astype(np.float32), EXPECTED)
    union.set_params(latents="drop")
    np.testing.assert_array_equal(union.fit_transform(IRIS), IRIS)


def test_a_union_gives_frames_and_names():
    union = FeatureUnion([("a", clone(LATENTS)), ("b", DenoisingAutoencoder(**SMALL))])
    result = union.set_output(transform="pandas").fit_transform(_frame())
    assert result.columns.tolist() == union.get_feature_names_out().tolist()
    assert result.columns[2] == "b__denoisingautoencoder0"


# Searches and cross-validation.


def test_a_search_scores_folds_that_it_did_not_train_on():
    search = GridSearchCV(clone(LATENTS), {"n_components": [1, 3]}, cv=KFold(3), refit=True)
    search.fit(IRIS)
    for i, size in enumerate((1, 3)):
        for j, (train, test) in enumerate(KFold(3).split(IRIS)):
            estimator = clone(LATENTS).set_params(n_components=size).fit(IRIS[train])
            score = search.cv_results_[f"split{j}_test_score"][i]
            assert score == pytest.approx(estimator.score(IRIS[test]))
    np.testing.assert_array_equal(
        search.transform(IRIS),
        clone(LATENTS).set_params(n_components=3).fit(IRIS).transform(IRIS),
    )


def test_parameters_that_fail_are_scored_as_asked():
    grid = {"n_components": [2, -1]}
    with pytest.warns(sklearn.exceptions.FitFailedWarning):
        search = GridSearchCV(clone(LATENTS), grid, cv=2, error_score=-7.0).fit(IRIS)
    assert search.cv_results_["mean_test_score"][1] == -7.0
    with pytest.raises(ValueError, match="n_components"):
        GridSearchCV(clone(LATENTS), grid, cv=2, error_score="raise").fit(IRIS)


@pytest.mark.parametrize("method", ["predict", "decision_function"])
def test_cross_val_predict_scores_each_row_by_a_fit_without_it(method):
    found = cross_val_predict(clone(DETECTOR), IRIS, cv=KFold(3), method=method)
    for train, test in KFold(3).split(IRIS):
        expected = getattr(clone(DETECTOR).fit(IRIS[train]), method)(IRIS[test])
        np.testing.assert_array_equal(found[test], expected)


def test_cross_validate_returns_fitted_estimators_and_takes_several_scores():
    def error(estimator, X, y=None):
        return -float(((estimator.reconstruct(X) - X) ** 2).mean())

    found = cross_validate(
        clone(LATENTS), IRIS, cv=2, return_estimator=True, scoring={"error": error}
    )
    _, test = next(iter(KFold(2).split(IRIS)))
    assert found["test_error"][0] == error(found["estimator"][0], IRIS[test])
    assert len(found["estimator"]) == 2


def test_curves_of_training_size_and_of_a_parameter():
    sizes, train, test = learning_curve(clone(LATENTS), IRIS, None, train_sizes=[0.5, 1.0], cv=2)
    assert sizes.tolist() == [37, 75]
    assert np.isfinite([train, test]).all()
    # From PCA, few epochs are enough.
    latents = clone(LATENTS).set_params(init="random")
    _, test = validation_curve(
        latents, IRIS, None, param_name="max_epochs", param_range=[1, 30], cv=3
    )
    assert test[1].mean() > test[0].mean()


def test_importance_of_columns_by_permutation():
    rows = np.column_stack([IRIS, np.random.default_rng(0).normal(scale=1e-6, size=150)])
    estimator = clone(LATENTS).set_params(scaling=None, max_epochs=30).fit(rows)
    found = permutation_importance(estimator, rows, np.zeros(150), n_repeats=2, random_state=0)
    assert found.importances_mean[:4].max() > 0.1
    assert abs(found.importances_mean[4]) < 1e-3


def test_latents_under_a_regressor_of_a_transformed_target():
    pipeline = make_pipeline(clone(LATENTS).set_params(n_components=3, max_epochs=30), Ridge())
    model = TransformedTargetRegressor(pipeline, func=np.log1p, inverse_func=np.expm1)
    assert model.fit(IRIS[:, :3], IRIS[:, 3]).score(IRIS[:, :3], IRIS[:, 3]) > 0.85
