"""AutoencoderImputer: a step of a pipeline that fills in cells."""

import pickle

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from skae import AutoencoderImputer, DenoisingAutoencoder
from skae.io import load, save

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(600, 2))
X = np.column_stack([Z @ RNG.normal(size=(2, 4)) + 0.1 * RNG.normal(size=(600, 4)), Z[:, 0] > 0])
HOLES = np.where(RNG.random(X.shape) < 0.2, np.nan, X)

SMALL = {"n_components": 3, "max_epochs": 20, "random_state": 0, "device": "cpu"}


def test_it_fills_in_what_the_denoiser_does():
    # By default they scale flags otherwise.
    settings = SMALL | {"noise_level": 0.2, "dropout": 0.2, "scaling": "standard"}
    imputer, denoiser = (
        cls(**settings).fit(HOLES) for cls in (AutoencoderImputer, DenoisingAutoencoder)
    )
    np.testing.assert_array_equal(imputer.transform(HOLES), denoiser.impute(HOLES))
    np.testing.assert_array_equal(imputer.fit_transform(HOLES), imputer.transform(HOLES))


def test_it_is_a_step_of_a_pipeline():
    rows, y = load_diabetes(return_X_y=True)
    holes = np.where(np.random.default_rng(0).random(rows.shape) < 0.15, np.nan, rows)
    pipeline = make_pipeline(AutoencoderImputer(**SMALL), LinearRegression())
    assert cross_val_score(pipeline, holes, y, cv=3).mean() > 0.35
    some = ColumnTransformer([("fill", AutoencoderImputer(**SMALL), [0, 1, 2])], remainder="drop")
    assert some.fit_transform(holes).shape == (442, 3)
    assert some.get_feature_names_out().tolist() == ["fill__x0", "fill__x1", "fill__x2"]


def test_flags_tell_what_was_missing():
    holes = HOLES.copy()
    holes[:, 1] = X[:, 1]
    imputer = AutoencoderImputer(**SMALL, add_indicator=True).fit(holes)
    filled = imputer.transform(holes)
    expected = np.isnan(holes)[:, [0, 2, 3, 4]]
    np.testing.assert_array_equal(filled[:, 5:], expected)
    assert imputer.get_feature_names_out().tolist() == [
        *(f"x{i}" for i in range(5)),
        *(f"missingindicator_x{i}" for i in (0, 2, 3, 4)),
    ]
    # What was complete in the fit has no flag, as in scikit-learn.
    assert imputer.transform(HOLES).shape == (600, 9)


def test_columns_without_any_value_are_dropped_or_kept():
    holes = HOLES.copy()
    holes[:, 2] = np.nan
    dropped = AutoencoderImputer(**SMALL).fit(holes)
    assert dropped.transform(holes).shape == (600, 4)
    assert dropped.get_feature_names_out().tolist() == ["x0", "x1", "x3", "x4"]
    kept = AutoencoderImputer(**SMALL, keep_empty_features=True).fit(holes)
    np.testing.assert_array_equal(kept.transform(holes)[:, 2], 0.0)


@pytest.mark.parametrize("name", ["pandas", "polars"])
def test_frames_keep_names_and_dtypes(name):
    library = pytest.importorskip(name)
    words = np.where(Z[:, 1] > 0, "up", "down")
    columns = {"a": X[:, 0].tolist(), "b": words.tolist(), "c": (Z[:, 0] > 0).tolist()}
    gone = RNG.random(600) < 0.2
    columns["b"] = [None if g else w for g, w in zip(gone, columns["b"], strict=True)]
    frame = library.DataFrame(columns)
    imputer = AutoencoderImputer(**SMALL, add_indicator=True).fit(frame)
    filled = imputer.transform(frame)
    assert isinstance(filled, library.DataFrame)
    assert list(filled.columns) == ["a", "b", "c", "missingindicator_b"]
    assert list(filled.dtypes)[:3] == list(frame.dtypes)
    assert set(filled["b"]) == {"up", "down"}
    np.testing.assert_array_equal(filled["missingindicator_b"].to_numpy(), gone)
    as_frames = imputer.set_output(transform=name).transform(frame)
    assert as_frames.equals(filled)


def test_draws_spread_as_the_errors_do():
    imputer = AutoencoderImputer(**SMALL | {"max_epochs": 60}, sample_posterior=True).fit(HOLES)
    new = np.random.default_rng(1)
    z = new.normal(size=(2000, 2))
    rows = np.column_stack([z @ np.linalg.lstsq(Z, X[:, :4], rcond=None)[0], z[:, 0] > 0])
    rows[:, :4] += 0.1 * new.normal(size=(2000, 4))
    missing = new.random(rows.shape) < 0.2
    holes = np.where(missing, np.nan, rows)
    draws = np.array([imputer.set_params(random_state=i).transform(holes) for i in range(20)])
    assert (draws[:, ~missing] == holes[~missing]).all()
    low, high = np.quantile(draws, [0.1, 0.9], axis=0)
    for j in range(4):
        cells = missing[:, j]
        inside = (low[cells, j] <= rows[cells, j]) & (rows[cells, j] <= high[cells, j])
        # 20 draws leave out a little more than the quantiles of a distribution do.
        assert 0.65 < inside.mean() < 0.9
    np.testing.assert_array_equal(draws[3], imputer.set_params(random_state=3).transform(holes))


def test_categories_are_drawn_by_their_probabilities():
    pandas = pytest.importorskip("pandas")
    words = RNG.choice(["a", "b", "c"], p=[0.6, 0.3, 0.1], size=1000)
    frame = pandas.DataFrame({"x": RNG.normal(size=1000), "c": words})
    settings = SMALL | {"n_components": 1, "max_epochs": 5}
    imputer = AutoencoderImputer(**settings, sample_posterior=True).fit(frame)
    drawn = imputer.transform(frame.assign(c=None).astype({"c": frame["c"].dtype}))["c"]
    shares = drawn.value_counts(normalize=True)
    np.testing.assert_allclose([shares["a"], shares["b"], shares["c"]], [0.6, 0.3, 0.1], atol=0.08)


@pytest.mark.parametrize("draws", [False, True], ids=["likeliest", "drawn"])
def test_files_and_pickles_fill_in_the_same(draws, tmp_path):
    imputer = AutoencoderImputer(**SMALL, sample_posterior=draws, add_indicator=True).fit(HOLES)
    expected = imputer.transform(HOLES)
    save(imputer, tmp_path / "imputer.safetensors")
    for copy in (load(tmp_path / "imputer.safetensors"), pickle.loads(pickle.dumps(imputer))):
        np.testing.assert_array_equal(copy.transform(HOLES), expected)
    imputer.partial_fit(HOLES[:100])
    assert imputer.transform(HOLES).shape == expected.shape


def test_images_are_referred_to_the_denoiser():
    with pytest.raises(ValueError, match="DenoisingAutoencoder"):
        AutoencoderImputer(**SMALL).fit(X.reshape(-1, 5, 1))


def test_too_few_rows_to_measure_errors_on_are_refused():
    with pytest.raises(ValueError, match="n_samples = 4"):
        AutoencoderImputer(**SMALL, sample_posterior=True).fit(HOLES[:4])
