"""Integers as bytes."""

import numpy as np
import pytest

from skae._coding.entropy import decode_columns, encode_columns, fit_table, pack, unpack

pytest.importorskip("constriction")

pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.int64, (7, 3), elements=st.integers(-(2**62), 2**62)),
    hnp.arrays(np.int64, (5, 3), elements=st.integers(-(2**62), 2**62)),
)
def test_integers_of_any_size_are_coded(train, values):
    tables = [fit_table(column) for column in train.T]
    assert all(table.frequencies.sum() == 2**24 for table in tables)
    for part in (values, values[:0], train):
        data = encode_columns(part, tables)
        np.testing.assert_array_equal(decode_columns(data, len(part), tables), part)


@pytest.mark.parametrize("far", [0, 2**62, -(2**62), 2**40])
def test_tables_of_far_integers_are_stored(far):
    table = fit_table(np.array([far, far + 1, far + 1]))
    (back,) = unpack(pack([table]))
    assert (back.low, back.n_low_bits) == (table.low, table.n_low_bits)
    np.testing.assert_array_equal(back.frequencies, table.frequencies)


@pytest.mark.parametrize(("low", "n_low_bits"), [(-(2**63), 0), (2**63 - 1, 0), (2**53, 20)])
def test_tables_of_values_that_are_no_int64_are_refused(low, n_low_bits):
    packed = pack([fit_table(np.array([0, 1]))])
    packed = packed._replace(low=np.array([low]), n_low_bits=np.array([n_low_bits]))
    with pytest.raises(ValueError, match="beyond all integers of 64 bits"):
        unpack(packed)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_bytes_that_no_coder_wrote_are_integers_or_refused(data):
    tables = [fit_table(np.array([0, 1, 1, 5])), fit_table(np.array([0, 10**6]))]
    try:
        found = decode_columns(data, 4, tables)
    except ValueError:
        return
    np.testing.assert_array_equal(decode_columns(encode_columns(found, tables), 4, tables), found)
