"""What each column holds by itself: rows that were drawn get the margins of rows that were seen."""

from typing import NamedTuple

import numpy as np

from skae._data.categories import draw_values

# Quantiles that are kept: every hundredth, and closer ones at both ends, where tails are long.
_TAIL = np.array([0.0005, 0.001, 0.002, 0.005])
LEVELS = np.concatenate([[0.0], _TAIL, np.arange(1, 100) / 100, 1.0 - _TAIL[::-1], [1.0]])

# What has no share is not divided by.
_LEAST_SHARE = 1e-9


class Margins(NamedTuple):
    """The distribution of each column of rows.

    Attributes
    ----------
    quantiles : ndarray of shape (109, n_numbers)
        Of the numbers, in the caller's units.
    shares : ndarray of shape (n_units,)
        Of each value in the cells of its category.
    """

    quantiles: np.ndarray
    shares: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, n_units: int) -> "Margins":
        """The margins of rows, of which the last are units of categories; NaN is left out."""
        n_numbers = rows.shape[1] - n_units
        quantiles = _quantiles(rows[:, :n_numbers])
        units = rows[:, n_numbers:].astype(np.float64)
        observed = ~np.isnan(units)
        totals = np.where(observed, units, 0.0).sum(axis=0)
        return cls(quantiles, totals / np.maximum(observed.sum(axis=0), 1))

    def drawn(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Numbers (n, n_numbers), each of a row by itself."""
        ranks = rng.random((n, self.quantiles.shape[1]))
        columns = [np.interp(u, LEVELS, q) for u, q in zip(ranks.T, self.quantiles.T, strict=True)]
        return np.column_stack(columns) if columns else ranks

    def moved(
        self, rows: np.ndarray, to: "Margins", sizes: tuple[int, ...], rng: np.random.Generator
    ) -> np.ndarray:
        """Rows with these margins as rows with others; ranks, and what hangs together, stay.

        A number is replaced by that of its rank, at random where several ranks have one number. Of
        a category a value is drawn, as likely as its unit says.
        """
        n_numbers = self.quantiles.shape[1]
        moved = rows.astype(np.float64)
        for j, (own, other) in enumerate(zip(self.quantiles.T, to.quantiles.T, strict=True)):
            moved[:, j] = np.interp(_ranks(moved[:, j], own, rng), LEVELS, other)
        units = moved[:, n_numbers:]
        units *= to.shares / np.maximum(self.shares, _LEAST_SHARE)
        units.clip(_LEAST_SHARE, None, out=units)
        draw_values(units, sizes, rng)
        return moved


def _quantiles(rows: np.ndarray) -> np.ndarray:
    """Of each column, (109, n_columns), float64; zeros where nothing was observed."""
    columns = np.sort(rows.T, axis=1)  # NaN comes last.
    last = np.maximum((~np.isnan(columns)).sum(axis=1) - 1, 0)
    place = LEVELS[:, None] * last
    low = place.astype(np.int64)
    high = np.minimum(low + 1, last)
    column = np.arange(len(columns))
    below, above = (columns[column, i].astype(np.float64) for i in (low, high))
    return np.nan_to_num(below + (place - low) * (above - below), nan=0.0)


def _ranks(values: np.ndarray, quantiles: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Where values lie among quantiles, in [0, 1]."""
    high = np.interp(values, quantiles, LEVELS)
    low = 1.0 - np.interp(-values, -quantiles[::-1], 1.0 - LEVELS[::-1])
    return low + (high - low) * rng.random(len(values))
