"""Frames of pandas and polars go in and come out."""

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import _get_feature_names

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)

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

CLASSES = [
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
    AutoencoderAnomalyDetector,
]

each_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)

TRANSFORMERS = CLASSES[:3]

each_transformer = pytest.mark.parametrize("cls", TRANSFORMERS, ids=lambda cls: cls.__name__)


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
    rng = np.random.default_rng(1)
    holes = np.where(rng.random(X.shape) < 0.1, np.nan, X)
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
    rebuilt = estimator.reconstruct(frame)
    assert list(rebuilt.dtypes) == ["int64", "float32", "Int64", "Float64", "float32", "float32"]
    assert np.isfinite(rebuilt.to_numpy(dtype=float)).all()


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


ROW_METHODS = ["reconstruct", "denoise", "impute", "inpaint", "inverse_transform"]


def _rows_of(estimator, name, rows, mask):
    """What one of these methods gives."""
    if name == "inverse_transform":
        return estimator.inverse_transform(estimator.transform(rows))
    return getattr(estimator, name)(*((rows, mask) if name == "inpaint" else (rows,)))


@pytest.fixture(scope="module")
def holes():
    rng = np.random.default_rng(5)
    return np.where(rng.random(X.shape) < 0.1, np.nan, X)


@pytest.mark.parametrize("name", ROW_METHODS)
@pytest.mark.parametrize("named", [False, True], ids=["numbered", "named"])
@pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")
def test_set_output_makes_frames_of_rows_from_arrays(library, holes, name, named):
    mask = np.zeros(X.shape, dtype=bool)
    mask[:, 1] = True
    estimator = DenoisingAutoencoder(**SMALL).fit(_frame(library, holes) if named else holes)
    expected = DenoisingAutoencoder(**SMALL).fit(holes)
    values = _rows_of(expected, name, holes, mask)
    assert isinstance(values, np.ndarray)
    result = _rows_of(estimator.set_output(transform=library.__name__), name, holes, mask)
    assert isinstance(result, library.DataFrame)
    assert list(result.columns) == (NAMES if named else [f"x{i}" for i in range(6)])
    np.testing.assert_array_equal(result.to_numpy(), values)
    assert result.to_numpy().dtype == values.dtype
    if library.__name__ == "pandas":
        assert list(result.index) == list(range(len(X)))
    estimator.set_output(transform="default")
    np.testing.assert_array_equal(_rows_of(estimator, name, holes, mask), values)
    assert isinstance(_rows_of(estimator, name, holes, mask), np.ndarray)


@pytest.mark.parametrize("name", ROW_METHODS)
def test_set_output_of_another_library_wins_over_that_of_the_rows(holes, name):
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    mask = np.zeros(X.shape, dtype=bool)
    mask[:, 1] = True
    frame = _frame(pandas, holes)
    estimator = DenoisingAutoencoder(**SMALL).fit(frame)
    own = _rows_of(estimator, name, frame, mask)
    other = _rows_of(estimator.set_output(transform="polars"), name, frame, mask)
    assert isinstance(other, polars.DataFrame)
    assert other.columns == NAMES
    np.testing.assert_array_equal(other.to_numpy(), np.asarray(own))
    kept = _rows_of(estimator.set_output(transform="pandas"), name, frame, mask)
    assert list(kept.columns) == NAMES
    np.testing.assert_array_equal(kept.to_numpy(), other.to_numpy())
    if name != "inverse_transform":
        assert list(kept.index) == list(frame.index)


def test_set_output_leaves_images_images():
    pytest.importorskip("pandas")
    images = X[:, :4].reshape(-1, 2, 2)
    estimator = DenoisingAutoencoder(**SMALL).fit(images)
    expected = estimator.reconstruct(images)
    np.testing.assert_array_equal(
        estimator.set_output(transform="pandas").reconstruct(images), expected
    )
