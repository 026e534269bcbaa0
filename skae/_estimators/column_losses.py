"""Losses that differ by column, as the caller names them."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

from skae._data.table import Table
from skae._training.losses import LOSSES, Named


def losses_of_columns(
    given: dict[Any, Any], table: Table, names: Sequence[str]
) -> tuple[Named, ...]:
    """The loss of each number of a row; of columns that are not named the squared error.

    Parameters
    ----------
    given : dict
        From names or numbers of columns to losses.
    names : sequence of str
        Of the columns, where they have any.
    """
    losses = {_column(key, table, list(names)): loss for key, loss in given.items()}
    for column, loss in losses.items():
        if not callable(loss) and loss not in LOSSES:
            raise ValueError(
                f"loss holds {loss!r} for column {column}. Pass a function, or one of "
                f"{sorted(LOSSES)}."
            )
    return tuple(losses.get(column, "squared_error") for column in table.numbers)


def _column(key: Any, table: Table, names: list[str]) -> int:
    """The number of a column, which must hold numbers."""
    if key in names:
        column = names.index(key)
    elif isinstance(key, Integral) and 0 <= int(key) < table.n_columns:
        column = int(key)
    else:
        raise ValueError(
            f"loss names {key!r}, which is no column of X. Pass names of its columns, or numbers "
            f"below {table.n_columns}."
        )
    if column not in table.numbers:
        raise ValueError(
            f"loss names {key!r}, which is a category. Its loss is the cross-entropy; leave it out."
        )
    return column
