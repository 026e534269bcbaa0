"""How far off filled-in cells are, and cells drawn from where they may lie."""

from typing import NamedTuple

import numpy as np

from skae._data.categories import draw_values
from skae._data.convert import dense_chunks
from skae._data.table import Table
from skae._model.model import Model

# Quantiles of the errors that are kept.
N_QUANTILES = 101
_LEVELS = np.linspace(0.0, 1.0, N_QUANTILES)


class Spread(NamedTuple):
    """Errors of numbers that were masked in rows which training has not seen.

    Attributes
    ----------
    errors : ndarray of shape (101, n_numbers)
        Their quantiles, in the units of the training data.
    """

    errors: np.ndarray

    @classmethod
    def of(cls, model: Model, rows: np.ndarray, table: Table, share: float, seed: int) -> "Spread":
        """Of rows in which each cell is masked once, about a ``share`` of them at a time."""
        n_parts, rng = max(2, round(1.0 / share)), np.random.default_rng(seed)
        part = rng.integers(n_parts, size=(len(rows), table.n_columns))
        n_numbers = len(table.numbers)
        errors = np.full((len(rows), n_numbers), np.nan)
        for i in range(n_parts):
            masked = table.by_unit(part == i)
            rebuilt = model.reconstruct(np.where(masked, np.nan, rows))
            own = masked[:, :n_numbers]
            errors[own] = (rows - rebuilt)[:, :n_numbers][own]
        # A column without any value has no errors.
        errors[:, np.isnan(errors).all(axis=0)] = 0.0
        return cls(np.nanquantile(errors, _LEVELS, axis=0))

    def drawn(self, rows: np.ndarray, table: Table, seed: int) -> np.ndarray:
        """Of rebuilt rows, numbers with an error added, and a value drawn of each category."""
        rng, n_numbers = np.random.default_rng(seed), len(table.numbers)
        found = rows.astype(np.float64)
        for j, errors in enumerate(self.errors.T):
            found[:, j] += np.interp(rng.random(len(rows)), _LEVELS, errors)
        draw_values(found[:, n_numbers:], table.sizes, rng)
        return found


def observed_cells(X: object, table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Which columns of encoded rows have any value, and which have a gap, (n_columns,) each."""
    some, gaps = (np.zeros(table.n_columns, dtype=bool) for _ in range(2))
    for _, rows in dense_chunks(X):
        missing = table.missing(rows)
        some |= ~missing.all(axis=0)
        gaps |= missing.any(axis=0)
    return some, gaps
