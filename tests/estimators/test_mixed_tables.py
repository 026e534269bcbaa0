"""Tables of numbers, flags, counts and categories: one column outside, units inside."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)
from skae.io import load, save

RNG = np.random.default_rng(0)
Z = RNG.normal(size=400)
COLUMNS = {
    "job": np.array(["cook", "guard", "nurse", "pilot"])[np.digitize(Z, [-1, 0, 1])].tolist(),
    "age": (40 + 10 * Z + RNG.normal(size=400)).tolist(),
    "member": (Z > 0.5).tolist(),
    "visits": RNG.poisson(np.exp(Z)).tolist(),
    "city": RNG.choice(["north", "south"], size=400).tolist(),
}
HOLES = RNG.random((400, 5)) < 0.15

SMALL = {"n_components": 4, "max_epochs": 30, "random_state": 0, "device": "cpu"}

CLASSES = [
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
    AutoencoderAnomalyDetector,
]

each_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
each_library = pytest.mark.parametrize("name", ["pandas", "polars"])


def _frame(name, holes=False):
    """The table as people have it: in polars null is missing, in pandas NaN or NA."""
    library = pytest.importorskip(name)
    columns = {
        column: [None if hole and holes else v for v, hole in zip(values, own, strict=True)]
        for (column, values), own in zip(COLUMNS.items(), HOLES.T, strict=True)
    }
    frame = library.DataFrame(columns)
    if name == "polars":
        return frame
    return frame.astype({"member": "boolean", "visits": "Int64", "city": "category"})


def _share(a, b):
    return np.mean([x == y for x, y in zip(a, b, strict=True)])


@each_library
@each_class
def test_rows_are_rebuilt_as_they_were(cls, name):
    frame = _frame(name)
    estimator = cls(**SMALL).fit(frame)
    assert estimator.n_features_in_ == 5
    assert estimator.feature_names_in_.tolist() == list(COLUMNS)
    rebuilt = estimator.reconstruct(frame)
    floats = {"age"}
    for column in COLUMNS:
        if column not in floats:
            assert rebuilt[column].dtype == frame[column].dtype, column
    least = 0.75 if cls is AutoencoderAnomalyDetector else 0.9
    assert _share(rebuilt["job"], frame["job"]) > least
    assert _share(rebuilt["member"], frame["member"]) > least
    assert np.corrcoef(rebuilt["age"], frame["age"])[0, 1] > 0.95
    assert np.isfinite(estimator.score_samples(frame)).all()


@each_library
def test_missing_cells_are_filled_and_observed_ones_are_the_same_bits(name):
    frame, holes = _frame(name), _frame(name, holes=True)
    estimator = DenoisingAutoencoder(**SMALL).fit(holes)
    filled = estimator.impute(holes)
    assert list(filled.dtypes) == list(holes.dtypes)
    for column, missing in zip(COLUMNS, HOLES.T, strict=True):
        given, found = list(frame[column]), list(filled[column])
        assert [found[i] for i in np.flatnonzero(~missing)] == [
            given[i] for i in np.flatnonzero(~missing)
        ], column
        assert all(value is not None and value == value for value in found)
    right = _share(np.array(filled["job"])[HOLES[:, 0]], np.array(frame["job"])[HOLES[:, 0]])
    assert right > 0.7
    assert set(filled["member"]) == {True, False}
    assert min(filled["visits"]) >= 0
    masked = estimator.inpaint(frame, HOLES)
    rebuilt = estimator.impute(holes)
    assert [str(v) for v in masked["job"]] == [str(v) for v in rebuilt["job"]]


def test_each_column_counts_once():
    frame = _frame("pandas")
    estimator = AutoencoderTransformer(**SMALL).fit(frame)
    wide = frame.assign(city=[f"c{i % 100}" for i in range(400)])
    assert estimator._model.n_columns == 5
    assert AutoencoderTransformer(**SMALL).fit(wide)._model.n_columns == 5
    # Who knows shares and means alone explains nothing, and loses one a column; of a flag, whose
    # scale is the root of a half, twice its variance.
    blind = AutoencoderTransformer(**SMALL | {"max_epochs": 1, "learning_rate": 1e-12})
    blind = blind.set_params(init="random").fit(wide)
    assert blind.score(wide) == pytest.approx(0.0, abs=0.1)
    expected = (4 + 2 * wide["member"].astype(float).var()) / 5
    assert -blind.score_samples(wide).mean() == pytest.approx(expected, abs=0.02)


@each_class
def test_values_that_training_had_not_count_as_missing(cls):
    frame = _frame("pandas").astype({"city": object})
    estimator = cls(**SMALL).fit(frame)
    strange, without = frame.copy(), frame.copy()
    strange.loc[:5, "city"], without.loc[:5, "city"] = "elsewhere", None
    np.testing.assert_array_equal(
        estimator.score_samples(strange), estimator.score_samples(without)
    )
    if cls is DenoisingAutoencoder:
        assert set(estimator.impute(without)["city"]) == {"north", "south"}
        assert (estimator.impute(strange)["city"][:6] == "elsewhere").all()


def test_containers_do_not_matter():
    frame, other = _frame("pandas", holes=True), _frame("polars", holes=True)
    objects = np.empty((400, 5), dtype=object)
    for i, column in enumerate(COLUMNS):
        pairs = zip(COLUMNS[column], HOLES[:, i], strict=True)
        objects[:, i] = [None if hole else value for value, hole in pairs]
    expected = AutoencoderTransformer(**SMALL).fit(frame).transform(frame)
    polars = AutoencoderTransformer(**SMALL).fit(other)
    np.testing.assert_array_equal(polars.transform(other), expected)
    array = AutoencoderTransformer(**SMALL, categorical_features=[0, 4]).fit(objects)
    np.testing.assert_array_equal(array.transform(objects), expected)
    rebuilt = array.reconstruct(objects)
    assert rebuilt.shape == (400, 5)
    assert set(rebuilt[:, 4]) == {"north", "south"}


@each_class
def test_files_pickles_and_clones_give_the_same(cls, tmp_path):
    frame = _frame("pandas", holes=True)
    estimator = cls(**SMALL | {"max_epochs": 3}).fit(frame)
    save(estimator, tmp_path / "mixed.safetensors")
    for copy in (
        load(tmp_path / "mixed.safetensors"),
        pickle.loads(pickle.dumps(estimator)),
        clone(estimator).fit(frame),
    ):
        np.testing.assert_array_equal(copy.score_samples(frame), estimator.score_samples(frame))
        assert copy.reconstruct(frame).equals(estimator.reconstruct(frame))


def test_values_of_other_kinds_are_not_written_to_safe_files(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": Z, "bin": pandas.cut(Z, 3)})
    estimator = AutoencoderTransformer(**SMALL).fit(frame)
    assert estimator.reconstruct(frame)["bin"].dtype == frame["bin"].dtype
    with pytest.raises(ValueError, match="safe file cannot hold"):
        save(estimator, tmp_path / "bins.safetensors")


@each_class
def test_training_goes_on_with_the_columns_of_the_first_rows(cls):
    frame = _frame("pandas")
    estimator = cls(**SMALL).partial_fit(frame[:200])
    estimator.partial_fit(frame[200:].assign(job="unheard of"))
    assert set(estimator.reconstruct(frame)["job"]) <= set(COLUMNS["job"])


def test_drawn_rows_are_rows_like_those_of_the_fit():
    for name in ("pandas", "polars"):
        frame = _frame(name)
        estimator = AutoencoderTransformer(**SMALL, latent_density="gmm").fit(frame)
        drawn = estimator.sample(200, random_state=0)
        assert list(drawn.dtypes) == list(frame.dtypes)
        assert list(drawn.columns) == list(COLUMNS)
        assert set(drawn["job"]) == set(COLUMNS["job"])
        assert min(drawn["visits"]) >= 0
        assert max(drawn["age"]) <= max(COLUMNS["age"])
        assert estimator.interpolate(frame[:2], frame[2:4], 3).shape == (6, 5)


@each_library
def test_contributions_are_of_the_callers_columns(name):
    frame = _frame(name)
    detector = AutoencoderAnomalyDetector(**SMALL).fit(frame)
    parts = detector.feature_contributions(frame)
    assert list(parts.columns) == list(COLUMNS)
    np.testing.assert_allclose(
        parts.to_numpy().sum(1), -detector.score_samples(frame).clip(max=0.0), rtol=1e-5
    )
    odd = dict(zip(COLUMNS, [[v] for v in ("pilot", 25.0, False, 0, "north")], strict=True))
    row = frame[:1]
    row = (
        row.assign(**odd)
        if name == "pandas"
        else row.with_columns(**{k: type(frame[k])(k, v) for k, v in odd.items()})
    )
    if name == "pandas":
        row = row.astype(frame.dtypes)
    best = detector.feature_contributions(row).to_numpy()[0].argmax()
    assert list(COLUMNS)[best] == "job"
    pytest.importorskip("pandas")
    explanation = detector.explain(row)
    assert explanation.index[0] == "job"
    assert explanation["value"].iloc[0] == "pilot"
    assert explanation["expected"].iloc[0] in ("cook", "guard")


def test_steps_of_pipelines_take_mixed_tables():
    frame = _frame("pandas", holes=True)
    y = Z > 0
    features = AutoencoderTransformer(**SMALL)
    model = make_pipeline(features, LogisticRegression()).fit(frame, y)
    assert model.score(frame, y) > 0.9
    some = ColumnTransformer([("ae", clone(features), ["job", "age"])], remainder="drop")
    assert some.fit_transform(frame).shape == (400, 4)


@pytest.mark.parametrize("noise", ["masking", "swap", "salt_and_pepper", "gaussian"])
def test_noises_keep_categories_whole(noise):
    frame = _frame("pandas")
    estimator = DenoisingAutoencoder(**SMALL | {"max_epochs": 5}, noise=noise).fit(frame)
    assert np.isfinite(estimator.loss_curve_).all()


def test_text_without_a_frame_is_one_error():
    rows = [["red", 1.0], ["blue", 2.0]] * 10
    for X in (rows, np.array(rows, dtype=object)):
        with pytest.raises(ValueError, match=r"Column 0 of X holds text, such as 'red'"):
            AutoencoderTransformer(**SMALL).fit(X)


def test_what_needs_numbers_says_so():
    frame = _frame("pandas")
    estimator = AutoencoderTransformer(**SMALL).fit(frame)
    with pytest.raises(ValueError, match="out takes numbers"):
        estimator.reconstruct(frame, np.empty((400, 5)))
