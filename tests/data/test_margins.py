"""What columns hold by themselves: rows get the margins of others, and keep what hangs together."""

import numpy as np
import pytest

from skae._data.margins import LEVELS, Margins

RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(0.7, size=3000) * RNG.integers(1, 3, size=3000)
SKEWED = np.where(RNG.random(3000) < 0.4, 0.0, np.exp(2.0 * RNG.normal(size=3000)))
RARE = (RNG.random(3000) < 0.01).astype(float)
SEEN = Margins.of(np.column_stack([COUNTS, SKEWED, RARE]), 0)


def moved(rows, to=SEEN, sizes=()):
    own = Margins.of(rows, sum(sizes))
    return own.moved(rows, to, sizes, np.random.default_rng(1))


def test_rows_get_the_margins_and_keep_their_ranks():
    rows = RNG.normal(size=(4000, 3))
    found = moved(rows)
    for value in (0, 1, 2):
        share = (np.rint(found[:, 0]) == value).mean()
        assert share == pytest.approx((value == COUNTS).mean(), abs=0.015)
    assert (found[:, 1] == 0.0).mean() == pytest.approx((SKEWED == 0.0).mean(), abs=0.015)
    assert np.median(found[:, 1]) == pytest.approx(np.median(SKEWED), rel=0.1)
    assert found[:, 1].max() <= SKEWED.max()
    assert np.rint(found[:, 2]).mean() == pytest.approx(RARE.mean(), abs=0.005)
    assert (np.diff(found[np.argsort(rows[:, 1]), 1]) >= 0.0).all()


def test_equal_numbers_are_spread_over_their_ranks():
    rows = np.zeros((4000, 3))
    rows[:1000, 1] = RNG.random(1000)
    found = moved(rows)
    assert np.rint(found[:, 0]).mean() == pytest.approx(COUNTS.mean(), abs=0.05)
    # The smallest three quarters of what was seen are of the rows that are equal.
    assert found[1000:, 1].max() <= np.quantile(SKEWED, 0.76) <= found[:1000, 1].max()


def test_values_of_categories_are_drawn_in_their_shares():
    likely = RNG.dirichlet([4.0, 2.0, 1.0], size=20_000)
    codes = np.array([0] * 5 + [1] * 3 + [2] * 2)
    to = Margins.of(np.eye(3)[codes], 3)
    np.testing.assert_allclose(to.shares, [0.5, 0.3, 0.2])
    found = moved(likely, to, (3,))
    assert set(np.unique(found)) == {0.0, 1.0}
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    np.testing.assert_allclose(found.mean(axis=0), to.shares, atol=0.02)
    # A row that is sure of its value has it.
    assert moved(np.eye(3)[codes], to, (3,)).argmax(axis=1).tolist() == codes.tolist()


def test_missing_cells_do_not_count():
    rows = np.array(
        [[1.0, np.nan, np.nan, np.nan], [np.nan, np.nan, 0.0, 1.0], [3.0, np.nan, 1, 0]]
    )
    margins = Margins.of(rows, 2)
    np.testing.assert_array_equal(margins.quantiles[[0, -1]], [[1.0, 0.0], [3.0, 0.0]])
    np.testing.assert_array_equal(margins.shares, [0.5, 0.5])


def test_quantiles_are_those_of_numpy():
    rows = RNG.normal(size=(501, 2)).astype(np.float32)
    expected = np.quantile(rows.astype(float), LEVELS, axis=0)
    np.testing.assert_allclose(Margins.of(rows, 0).quantiles, expected, rtol=1e-12)
    rows[::3, 1] = np.nan
    expected = np.nanquantile(rows[:, 1].astype(float), LEVELS)
    np.testing.assert_allclose(Margins.of(rows, 0).quantiles[:, 1], expected, rtol=1e-12)
