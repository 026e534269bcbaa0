"""Fences around all but a few values, and how far a network is taken."""

import numpy as np

from skae._data.reach import fences_of, range_of, reach_of, united

RNG = np.random.default_rng(0)


def test_range_leaves_missing_cells_out_and_tells_what_was_never_observed():
    rows = np.array([[1.0, np.nan, np.nan], [3.0, 5.0, np.nan]])
    np.testing.assert_array_equal(range_of(rows), [[1.0, 5.0, np.nan], [3.0, 5.0, np.nan]])


def test_united_ranges_are_the_range_of_all_rows():
    a, b = RNG.normal(size=(2, 20, 3))
    a[:, 2] = np.nan
    np.testing.assert_array_equal(united(range_of(a), range_of(b)), range_of(np.vstack([a, b])))


def test_reach_is_longer_than_the_range_by_the_margin_at_both_ends():
    seen = np.array([[0.0, -1.0, np.nan], [10.0, -1.0, np.nan]])
    np.testing.assert_allclose(reach_of(seen, 0.1), [[-1, -1, -np.inf], [11, -1, np.inf]])


def test_fences_stand_two_spans_outside_of_all_but_one_percent_at_each_end():
    column = RNG.permutation(np.arange(1001.0))
    np.testing.assert_allclose(fences_of(column[:, None])[:, 0], [10 - 1960, 990 + 1960])


def test_no_few_glitches_move_fences():
    rows = RNG.normal(50, 5, size=(300, 4))
    glitches = rows.copy()
    glitches[:3, 0], glitches[5:8, 1], glitches[9, 2] = 1e12, -1e4, np.nan
    low, high = fences_of(glitches)
    assert (low > -60).all()
    assert (high < 160).all()
    np.testing.assert_array_equal(fences_of(glitches)[:, 3], fences_of(rows)[:, 3])


def test_there_are_no_fences_around_rare_flags_and_what_was_never_observed():
    rows = np.zeros((500, 2))
    rows[7, 0], rows[:, 1] = 1.0, np.nan
    low, high = fences_of(rows)
    assert low[0] == -np.inf
    assert high[0] == np.inf
    np.testing.assert_array_equal(np.isfinite(low[1]), False)
