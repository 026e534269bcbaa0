"""Categories in the rows that a network sees: one unit for each value, at the end of a row.

A unit is one for the value that a cell has, zero for the others, and NaN where the cell is
missing. Scaled, the units of a category are centered one by one and divided by one scale, that of
their common variance: so a category varies as much as one scaled number does.
"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from skae._data.scale import AffineScaler


class Categories(NamedTuple):
    """The categories of scaled rows.

    Attributes
    ----------
    sizes : tuple of int
        Units of each.
    center, scale : Tensor of shape (n_units,)
        The share of each value in the training rows, and what its unit was divided by.
    """

    sizes: tuple[int, ...]
    center: Tensor
    scale: Tensor

    @property
    def owners(self) -> Tensor:
        """The number of each unit's category, (n_units,)."""
        sizes = torch.tensor(self.sizes, device=self.center.device)
        return torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes)

    @property
    def members(self) -> Tensor:
        """Ones where a unit is of a category, else zeros, (n_units, n_categories)."""
        numbers = torch.arange(len(self.sizes), device=self.center.device)
        return (self.owners[:, None] == numbers).to(self.center)

    @property
    def weights(self) -> Tensor:
        """What a category's cross-entropy is multiplied by, for each of its units, (n_units,).

        It makes the loss of who knows the shares alone the variance of the scaled units, as the
        squared error of who knows the mean of a number alone is its variance.
        """
        p, members = self.center.double(), self.members.double()
        variance = ((p * (1.0 - p) / self.scale.double() ** 2) @ members) @ members.T
        entropy = -torch.special.xlogy(p, p) @ members @ members.T
        return torch.where(entropy > 0, variance / entropy, 0.0).to(self.center)


def categories_of(
    scaler: object, dtype: torch.dtype, device: torch.device | str
) -> Categories | None:
    """The categories at the end of the rows of a scaler, if there are any."""
    sizes = sizes_of(scaler)
    if not sizes:
        return None
    assert isinstance(scaler, AffineScaler)
    values = (torch.as_tensor(v[-sum(sizes) :], dtype=dtype) for v in (scaler.center, scaler.scale))
    return Categories(sizes, *(value.to(device) for value in values))


def sizes_of(scaler: object) -> tuple[int, ...]:
    """Units of each category at the end of a scaler's rows."""
    return getattr(scaler, "sizes", ())


def with_categories(
    numbers: AffineScaler | None, shares: np.ndarray, sizes: tuple[int, ...], by_range: bool
) -> AffineScaler:
    """A scaler of rows of numbers, and of categories after them.

    Parameters
    ----------
    numbers : AffineScaler or None
        Of the numbers, if there are any.
    shares : ndarray of shape (n_units,)
        Of each value in the training rows.
    sizes : tuple of int
    by_range : bool
        Whether a category varies no more than one of two values that are equally frequent does
        when each is divided by half of its range: a value that hardly occurs is then not blown up.
    """
    scales = []
    for start, size in zip(starts_of(sizes), sizes, strict=True):
        p = shares[start : start + size]
        variance = float((p * (1.0 - p)).sum())
        scales += [np.sqrt(max(variance, 0.5) if by_range else variance) or 1.0] * size
    empty = np.zeros(0)
    center, scale = (empty, empty) if numbers is None else (numbers.center, numbers.scale)
    name = "none" if numbers is None else numbers.name
    # What is not scaled is passed on as it is, which categories are not.
    name = "categories" if name == "none" else name
    center, scale = np.concatenate([center, shares]), np.concatenate([scale, scales])
    of_units = np.stack([-shares, 1.0 - shares]) / scales
    if numbers is None or numbers.seen is None:
        return AffineScaler(center, scale, name, sizes=sizes, seen=of_units)
    seen = np.hstack([numbers.seen, of_units])
    return replace(numbers, center=center, scale=scale, name=name, sizes=sizes, seen=seen)


def shares_of(chunks: Iterable[tuple[np.ndarray, np.ndarray | None]], n_units: int) -> np.ndarray:
    """The share of each unit in the observed cells of its category, (n_units,)."""
    counts, totals = np.zeros(n_units), np.zeros(n_units)
    for rows, weights in chunks:
        units = rows[:, -n_units:].astype(np.float64)
        weight = np.ones((len(rows), 1)) if weights is None else weights[:, None]
        observed = ~np.isnan(units)
        totals += (weight * observed).sum(axis=0)
        counts += (weight * np.where(observed, units, 0.0)).sum(axis=0)
    return np.divide(counts, totals, out=np.zeros(n_units), where=totals > 0)


def starts_of(sizes: tuple[int, ...]) -> list[int]:
    """The first unit of each category, counted from the first unit of all."""
    return list(accumulate(sizes, initial=0))[:-1]


def columns_of_units(sizes: tuple[int, ...], width: int) -> Tensor:
    """The column of each unit of a row, (width,)."""
    lengths = torch.tensor([1] * (width - sum(sizes)) + list(sizes))
    return torch.arange(len(lengths)).repeat_interleave(lengths)


def first_units(sizes: tuple[int, ...], width: int) -> np.ndarray:
    """The units of all numbers, and the first one of each category: one a column."""
    n_numbers = width - sum(sizes)
    starts = [n_numbers + start for start in starts_of(sizes)]
    return np.array([*range(n_numbers), *starts], dtype=np.intp)


def n_columns_of(sizes: tuple[int, ...], width: int) -> int:
    """Columns that stand behind the units of a row."""
    return width - sum(sizes) + len(sizes)


def by_column(values: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Sums over the units of each column, numbers first, of (n, n_units)."""
    if not sizes:
        return values
    return np.add.reduceat(values, first_units(sizes, values.shape[1]), axis=1)


def draw_values(units: np.ndarray, sizes: tuple[int, ...], rng: np.random.Generator) -> None:
    """Of each category of rows of units draw a value, in proportion to its units, and make it one.

    The others become zeros.
    """
    for start, size in zip(starts_of(sizes), sizes, strict=True):
        own = units[:, start : start + size]
        bounds = own.cumsum(axis=1) / own.sum(axis=1, keepdims=True)
        value = (rng.random((len(own), 1)) > bounds).sum(axis=1)
        own[:] = value.clip(max=size - 1)[:, None] == np.arange(size)
