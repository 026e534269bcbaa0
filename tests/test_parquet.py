"""ParquetRows: slices of Parquet files, as sources."""

import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from skae import AutoencoderTransformer
from skae._data import streamed
from skae.parquet import ParquetRows

pyarrow = pytest.importorskip("pyarrow")
from pyarrow.parquet import write_table  # noqa: E402

SMALL = {"hidden_layer_sizes": (16,), "n_components": 4, "random_state": 0, "max_epochs": 5}


def written(path, values, row_group_size=100):
    columns = {f"pixel{i}": column for i, column in enumerate(values.T)}
    write_table(pyarrow.table(columns), path, row_group_size=row_group_size)
    return path


def test_slices_are_those_of_the_rows(tmp_path):
    values = np.random.default_rng(0).normal(size=(1000, 7)).astype(np.float32)
    paths = [written(tmp_path / "a", values[:620]), written(tmp_path / "b", values[620:], 73)]
    rows = ParquetRows(paths)
    assert (rows.shape, rows.dtype) == ((1000, 7), np.float32)
    for part in (np.s_[:], np.s_[:5], np.s_[95:305], np.s_[600:640], np.s_[999:], np.s_[7:7]):
        np.testing.assert_array_equal(rows[part], values[part])
    some = ParquetRows(paths, columns=["pixel4", "pixel1"])
    np.testing.assert_array_equal(some[50:150], values[50:150][:, [4, 1]])


def test_nulls_are_missing_and_wide_integers_stay_exact(tmp_path):
    table = pyarrow.table({"a": [1, None, 2**30 + 1], "b": [True, False, None], "c": ["x"] * 3})
    write_table(table, tmp_path / "rows")
    rows = ParquetRows(str(tmp_path / "rows"), columns=["a", "b"])
    assert rows.dtype == np.float64
    np.testing.assert_array_equal(rows[:], [[1, 1], [np.nan, 0], [2**30 + 1, np.nan]])
    with pytest.raises(ValueError, match=r"do not hold numbers: \['c'\]"):
        ParquetRows(tmp_path / "rows")


def test_a_fit_on_parquet_has_the_bits_of_one_on_an_array(tmp_path):
    values = load_digits().data[:500]
    rows = ParquetRows(written(tmp_path / "rows", values))
    expected = AutoencoderTransformer(**SMALL).fit(values)
    found = AutoencoderTransformer(**SMALL).fit(rows)
    np.testing.assert_array_equal(found.transform(rows), expected.transform(values))


@pytest.mark.slow
def test_a_streamed_fit_on_parquet_learns(tmp_path, monkeypatch):
    monkeypatch.setattr(streamed, "SHUFFLE_BUFFER", 1 << 17)
    values = load_digits().data
    rows = ParquetRows(written(tmp_path / "rows", values, 200))
    found = AutoencoderTransformer(**SMALL | {"max_epochs": 30}).fit(rows)
    expected = AutoencoderTransformer(**SMALL | {"max_epochs": 30}).fit(values)
    assert abs(found.score(values) - expected.score(values)) < 0.02


def test_without_pyarrow_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r'pip install "skae\[parquet\]"'):
        ParquetRows("rows.parquet")
