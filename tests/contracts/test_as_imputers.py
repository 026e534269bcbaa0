"""What users of KNNImputer and IterativeImputer expect of DenoisingAutoencoder."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_iris
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skae import AutoencoderImputer, AutoencoderTransformer, DenoisingAutoencoder

NAN = np.nan
TABLE = np.array([[NAN, 1, 5, NAN, 1], [2, NAN, 1, NAN, 2], [6, 3, NAN, NAN, 3], [1, 2, 9, 7, 4.0]])
IRIS, SPECIES = load_iris(return_X_y=True)


def _imputer(**options):
    return DenoisingAutoencoder(**{"random_state": 0, "device": "cpu", "max_epochs": 30} | options)


def _with_holes(rows, share, seed=0):
    holes = np.random.default_rng(seed).random(rows.shape) < share
    return np.where(holes, NAN, rows), holes


def _errors(rows, share, train, imputer=DenoisingAutoencoder):
    """Root mean squared errors on missing cells of the rows after ``train``: ours, and peers'."""
    table, holes = _with_holes(rows, share)
    holes = holes[train:]
    ours = imputer(random_state=0, device="cpu").fit(table[:train])
    fill = ours.impute if imputer is DenoisingAutoencoder else ours.transform
    peers = [peer.fit(table[:train]).transform for peer in (KNNImputer(), SimpleImputer())]
    filled = [fill(table[train:]) for fill in (fill, *peers)]
    return [np.sqrt(((f - rows[train:])[holes] ** 2).mean()) for f in filled]


def test_every_missing_cell_is_filled_and_no_other_is_touched():
    filled = _imputer().fit(TABLE).impute(TABLE)
    assert np.isfinite(filled).all()
    observed = ~np.isnan(TABLE)
    np.testing.assert_array_equal(filled[observed], TABLE[observed])
    assert filled.dtype == TABLE.dtype


def test_rows_without_missing_cells_come_back_to_the_bit():
    rows = np.random.default_rng(0).normal(size=(40, 5))
    np.testing.assert_array_equal(_imputer().fit(rows).impute(rows), rows)


def test_cells_may_be_missing_in_new_rows_alone():
    filled = _imputer().fit([[1.0], [2.0]]).impute([[3.0], [NAN]])
    assert filled[0, 0] == 3.0
    assert 1.0 <= filled[1, 0] <= 2.0


def test_a_row_with_no_value_gets_what_is_usual():
    filled = _imputer().fit(IRIS).impute(np.full((1, 4), NAN))
    assert (np.abs(filled[0] - IRIS.mean(0)) < IRIS.std(0)).all()


def test_columns_that_are_never_observed_are_kept_and_filled():
    # KNNImputer drops them, unless keep_empty_features says otherwise.
    table = np.column_stack([IRIS, np.full(150, NAN)])
    imputer = _imputer().fit(table)
    filled = imputer.impute(table)
    np.testing.assert_array_equal(filled[:, :4], IRIS)
    np.testing.assert_allclose(filled[:, 4], 0.0, atol=0.1)
    assert np.isfinite(imputer.transform(table)).all()


def test_a_table_with_no_value_at_all_is_refused():
    with pytest.raises(ValueError, match="no observed value"):
        _imputer().fit(np.full((4, 3), NAN))


def test_constant_columns_are_filled_by_their_value():
    table = np.column_stack([TABLE, [7.0, 7.0, NAN, 7.0]])
    assert _imputer().fit(table).impute(table)[2, 5] == pytest.approx(7.0, abs=0.05)


def test_lists_objects_and_none_are_read():
    rows = [[1.0, None], [2.0, 3.0], [3.0, 4.0]]
    as_nan = np.array(rows, dtype=float)
    expected = _imputer().fit(as_nan).impute(as_nan)
    objects = np.array(rows, dtype=object)
    for given in (objects, as_nan.tolist()):
        np.testing.assert_array_equal(_imputer().fit(given).impute(given), expected)


def test_missing_values_of_nullable_columns_are_missing():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(TABLE, columns=list("abcde"), index=list("wxyz")).astype("Int16")
    assert frame.isna().sum().sum() == 6
    filled = _imputer().fit(frame).impute(frame)
    assert list(filled.columns) == list("abcde")
    assert list(filled.index) == list("wxyz")
    assert list(filled.dtypes) == list(frame.dtypes)
    expected = np.rint(_imputer().fit(TABLE).impute(TABLE))
    np.testing.assert_array_equal(filled.to_numpy(dtype=float), expected)


def test_nulls_of_polars_are_missing():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(TABLE, schema=list("abcde"), orient="row").fill_nan(None)
    filled = _imputer().fit(frame).impute(frame)
    assert isinstance(filled, polars.DataFrame)
    # Columns of whole numbers stay so in a frame.
    expected = np.rint(_imputer().fit(TABLE).impute(TABLE))
    np.testing.assert_allclose(filled.to_numpy(), expected, atol=1e-6)


def test_sparse_rows_may_miss_cells():
    filled = _imputer().fit(TABLE).impute(sparse.csr_array(TABLE))
    np.testing.assert_array_equal(filled, _imputer().fit(TABLE).impute(TABLE))


def test_given_rows_are_not_changed():
    table = TABLE.copy()
    table.flags.writeable = False
    _imputer().fit(table).impute(table)
    np.testing.assert_array_equal(table, TABLE)


def test_imputing_is_repeatable_and_idempotent():
    imputer = _imputer().fit(TABLE)
    filled = imputer.impute(TABLE)
    np.testing.assert_array_equal(imputer.impute(TABLE), filled)
    np.testing.assert_array_equal(imputer.impute(filled), filled)
    np.testing.assert_array_equal(_imputer().fit(TABLE).impute(TABLE), filled)


def test_a_cell_does_not_depend_on_the_rows_beside_it():
    table, _ = _with_holes(IRIS, 0.2)
    imputer = _imputer(max_epochs=3).fit(table)
    whole = imputer.impute(table)
    parts = np.vstack([imputer.impute(table[i : i + 7]) for i in range(0, 150, 7)])
    np.testing.assert_array_equal(parts, whole)


def test_the_value_under_a_hole_plays_no_part():
    table, holes = _with_holes(IRIS, 0.2)
    imputer = _imputer(max_epochs=3).fit(table)
    for value in (0.0, 100.0):
        rows = np.where(holes, value, IRIS)
        rows[holes] = NAN
        np.testing.assert_array_equal(imputer.impute(rows), imputer.impute(table))


def test_infinities_are_refused():
    imputer = _imputer().fit(TABLE)
    with pytest.raises(ValueError, match="infinity"):
        imputer.impute([[np.inf, 1, 2, 3, NAN]])


def test_a_table_of_rank_one_is_recovered():
    # Half of the cells are missing, and 50 rows need more steps than denoisers take.
    rng = np.random.default_rng(0)
    rows = rng.random((80, 1)) @ rng.random((1, 10))
    ours, neighbors, mean = _errors(rows, 0.5, 50, AutoencoderImputer)
    assert ours < mean / 4
    assert ours < neighbors < mean


def test_sums_of_hidden_columns_are_recovered_on_new_rows():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(160, 3)) @ rng.normal(size=(3, 12))
    ours, neighbors, mean = _errors(rows, 0.25, 100)
    assert ours < neighbors < mean


def test_curved_tables_are_recovered_better_than_by_neighbors():
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, size=(400, 1))
    rows = np.cos(angle * [1, 1, 1, 2, 2, 2] - np.arange(6) * 0.7)
    ours, neighbors, mean = _errors(rows, 0.2, 300)
    assert ours < neighbors < mean


def test_latents_of_rows_with_holes_serve_a_classifier():
    table, _ = _with_holes(IRIS, 0.2)
    pipeline = make_pipeline(
        AutoencoderTransformer(random_state=0, device="cpu", max_epochs=10),
        LogisticRegression(max_iter=500),
    )
    search = GridSearchCV(pipeline, {"autoencodertransformer__n_components": [1, 3]}, cv=2)
    assert search.fit(table, SPECIES).best_score_ > 0.8


def test_a_fitted_imputer_is_a_step_by_a_function_transformer():
    table, _ = _with_holes(IRIS, 0.1)
    imputer = _imputer(max_epochs=3).fit(table)
    step = FunctionTransformer(imputer.impute, feature_names_out="one-to-one")
    np.testing.assert_array_equal(step.fit_transform(table), imputer.impute(table))


def test_a_column_may_be_missing_in_most_rows():
    rows = np.random.default_rng(0).normal(size=(100, 3))
    rows[:, 2] = rows[:, 0] - rows[:, 1]
    table = rows.copy()
    table[20:, 2] = NAN
    filled = _imputer(max_epochs=100).fit(table).impute(table)
    assert np.corrcoef(filled[20:, 2], rows[20:, 2])[0, 1] > 0.9
