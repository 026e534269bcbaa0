"""Columns of any kind as units, and units as columns again."""

import numpy as np
import pytest

from skae._data import table as table_module
from skae._data.categories import by_column, shares_of, with_categories
from skae._data.frames import columns_of
from skae._data.kinds import categorical_columns, check_kinds
from skae._data.scale import AffineScaler
from skae._data.sources import Source
from skae._data.table import MOST_VALUES, Category, Table

LIBRARIES = ["pandas", "polars"]


def _frame(name, columns):
    return pytest.importorskip(name).DataFrame(columns)


def _encoded(X, table):
    numbers = np.asarray(columns_of(X, table.numbers), dtype=np.float64)
    return np.asarray(table.encoded(X, numbers)[:])


@pytest.mark.parametrize("name", LIBRARIES)
def test_units_of_a_category_follow_the_numbers(name):
    frame = _frame(name, {"c": ["b", "a", None, "b"], "x": [1.0, np.nan, 3.0, 4.0]})
    table = Table.of(frame, categorical_columns(frame, "from_dtype"))
    nan = np.nan
    expected = [[1, 0, 1], [nan, 1, 0], [3, nan, nan], [4, 0, 1]]
    np.testing.assert_array_equal(_encoded(frame, table), expected)
    assert table.sizes == (2,)
    np.testing.assert_array_equal(table.order, [1, 0])


@pytest.mark.parametrize("name", LIBRARIES)
def test_units_become_the_columns_that_they_stood_for(name):
    columns = {"x": [1.5, 2.5, 3.5], "word": ["no", "yes", "no"], "flag": [True, False, True]}
    frame = _frame(name, columns)
    table = Table.of(frame, categorical_columns(frame, "from_dtype"))
    back = table.frame(_encoded(frame, table), name, frame.columns)
    assert back.equals(frame)
    assert list(back.dtypes) == list(frame.dtypes)


def test_value_is_that_of_the_largest_unit():
    frame = _frame("pandas", {"c": ["a", "b", "c", "a"]})
    table = Table.of(frame, [0])
    array = table.array(np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3], [np.nan] * 3]))
    assert array[:, 0].tolist() == ["b", "a", None]


def test_dtype_of_pandas_comes_back_with_values_that_no_row_has():
    pandas = pytest.importorskip("pandas")
    column = pandas.Categorical(["lo", "hi", None], ["lo", "mid", "hi"], ordered=True)
    frame = pandas.DataFrame({"c": column})
    table = Table.of(frame, categorical_columns(frame, "from_dtype"))
    assert table.sizes == (2,)
    back = table.frame(_encoded(frame, table), "pandas", frame.columns)
    pandas.testing.assert_frame_equal(back, frame)


def test_enum_of_polars_comes_back():
    polars = pytest.importorskip("polars")
    series = polars.Series(["hi", "lo", "hi"], dtype=polars.Enum(["lo", "mid", "hi"]))
    frame = polars.DataFrame({"c": series})
    table = Table.of(frame, categorical_columns(frame, "from_dtype"))
    assert table.frame(_encoded(frame, table), "polars", frame.columns).equals(frame)


def test_value_that_training_had_not_is_missing():
    frame = _frame("pandas", {"c": ["a", "b"]})
    other = _frame("pandas", {"c": ["b", "new", None]})
    table = Table.of(frame, [0])
    nan = np.nan
    np.testing.assert_array_equal(_encoded(other, table), [[0, 1], [nan, nan], [nan, nan]])


def test_rare_values_share_the_last_unit():
    values = [f"v{i:03d}" for i in range(300)]
    words = np.array(values + values[:200] + ["v299"], dtype=object)
    category = Category.of(0, words[:, None])
    assert category.n_units == MOST_VALUES
    units = dict(zip(category.values, category.units, strict=True))
    # 201 values are there twice, and 53 more have a unit of their own.
    assert units["v000"] == 0
    assert units["v299"] < MOST_VALUES - 1
    rare = [value for value, unit in units.items() if unit == MOST_VALUES - 1]
    assert rare == values[253:299]
    assert category.values[category.shown[-1]] == "v253"


def test_integers_of_an_array_are_categories_where_it_says_so():
    X = np.array([[3.0, 10.0], [7.0, np.nan], [np.nan, 30.0], [3.0, 40.0]])
    table = Table.of(X, categorical_columns(X, [0]))
    nan = np.nan
    expected = [[10, 1, 0], [nan, 0, 1], [30, nan, nan], [40, 1, 0]]
    rows = _encoded(X, table)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(table.array(rows), X)


@pytest.mark.parametrize(
    ("given", "expected"),
    [([True, False, True], [0, 2]), ([2, 0], [0, 2]), (["c"], [2]), (None, []), ([], [])],
    ids=str,
)
def test_categories_are_named_as_scikit_learn_names_them(given, expected):
    frame = _frame("pandas", {"a": [1, 2], "b": ["x", "y"], "c": [3, 4]})
    assert categorical_columns(frame, given) == expected


@pytest.mark.parametrize("given", [[3], [-1], ["z"], [True], [0.5]], ids=str)
def test_columns_that_are_not_there_are_refused(given):
    frame = _frame("pandas", {"a": [1, 2], "b": ["x", "y"], "c": [3, 4]})
    with pytest.raises(ValueError, match="categorical_features"):
        categorical_columns(frame, given)


def test_errors_name_the_column_the_value_and_the_remedy():
    pandas = pytest.importorskip("pandas")
    times = pandas.DataFrame({"t": pandas.to_datetime(["2020-01-01", "2020-01-02"])})
    with pytest.raises(ValueError, match=r"Column 't' .* dates or times.*numbers"):
        check_kinds(times, [])
    mixed = pandas.DataFrame({"m": np.array(["red", 3], dtype=object)})
    with pytest.raises(ValueError, match=r"Column 'm' .*text among other.*'red'.*astype"):
        check_kinds(mixed, [])
    array = np.array([["1.5", 2.0], ["red", 3.0]], dtype=object)
    with pytest.raises(ValueError, match=r"Column 0 of X holds text, such as '1.5'.*data frame"):
        check_kinds(array, [])
    check_kinds(array, [0])


def test_large_rows_are_made_when_they_are_read(monkeypatch):
    frame = _frame("pandas", {"c": list("abcab"), "x": np.arange(5.0)})
    table = Table.of(frame, [0])
    expected = _encoded(frame, table)
    monkeypatch.setattr(table_module, "_BYTES_AT_ONCE", 8)
    rows = table.encoded(frame, np.arange(5.0)[:, None])
    assert isinstance(rows, Source)
    np.testing.assert_array_equal(rows[1:4], expected[1:4])
    np.testing.assert_array_equal(rows[np.array([4, 0])], expected[[4, 0]])


def test_scaled_category_varies_as_one_number_does():
    rng = np.random.default_rng(0)
    p = np.array([0.7, 0.2, 0.1])
    units = rng.multinomial(1, p, size=4000).astype(float)
    units[:100] = np.nan
    numbers = AffineScaler(np.zeros(1), np.ones(1), "standard")
    X = np.hstack([rng.normal(size=(4000, 1)), units])
    shares = shares_of([(X[:2000], None), (X[2000:], None)], 3)
    np.testing.assert_allclose(shares, np.nanmean(units, axis=0))
    scaler = with_categories(numbers, shares, (3,), by_range=False)
    scaled = np.empty_like(X)
    scaler.transform(X, scaled)
    np.testing.assert_allclose(np.nanvar(scaled[:, 1:], axis=0).sum(), 1.0, rtol=1e-6)
    np.testing.assert_allclose(scaler.inverse_transform(scaled), X, atol=1e-12)
    rare = with_categories(numbers, np.array([0.999, 0.001, 0.0]), (3,), by_range=True)
    np.testing.assert_allclose(rare.scale[1:], 0.5**0.5)


def test_sums_by_column():
    values = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]])
    np.testing.assert_array_equal(by_column(values, (2, 2)), [[1.0, 5.0, 9.0]])
