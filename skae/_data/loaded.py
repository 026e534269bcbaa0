"""The scaled training rows, from which batches are gathered."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skae._data.categories import Categories, categories_of, first_units, n_columns_of, sizes_of
from skae._data.convert import dense_chunks, missing_mask
from skae._data.scale import Scaler
from skae._runtime.communicator import ALONE, Communicator, total
from skae._runtime.device import fits, pinned_for


@dataclass
class Rows:
    """Scaled training rows.

    Attributes
    ----------
    values : Tensor of shape (n, n_features)
        NaN where a value is missing. The values are on the device if they fit there,
        else batches are streamed to it through pinned memory.
    weights : Tensor of shape (n,) or None
        Sample weights, of mean one.
    keys : Tensor of shape (n,), int64, or None
        A hash of each row's content, which picks the row's noise.
    origin : Tensor of shape (n_features,)
        Zero, scaled: the value that counts as zero for noise that moves pixels.
    observed_share : float
        Share of the cells that are not missing; a category is one cell.
    device : torch.device
        Device of the batches.
    bounds : tuple of two Tensors (1 or K, 1, n_features), or None
        Smallest and largest value of each feature, if outputs are to stay within them.
    n_rows : int or None
        Rows of one member, if ``values`` holds the rows of several, one after another.
    categories : Categories or None
        Those at the end of the rows, if there are any.
    noisy : Rows or None
        The rows as a network gets them, if they are not those that it is to give.
    validation : Rows or None
        Rows of the caller's that are held out.
    """

    values: Tensor
    weights: Tensor | None
    keys: Tensor | None
    origin: Tensor
    observed_share: float
    device: torch.device
    bounds: tuple[Tensor, Tensor] | None = None
    n_rows: int | None = None
    categories: Categories | None = None
    noisy: "Rows | None" = None
    validation: "Rows | None" = None

    @property
    def n_columns(self) -> int:
        """Cells of a row; a category is one."""
        sizes = () if self.categories is None else self.categories.sizes
        return n_columns_of(sizes, self.values.shape[1])

    @property
    def has_missing(self) -> bool:
        return self.observed_share < 1.0

    def __len__(self) -> int:
        return len(self.values) if self.n_rows is None else self.n_rows

    def is_same(self, other: "Rows") -> bool:
        """Whether both hold the same bits, for the same device."""
        parts = [(rows.values, rows.weights, rows.keys, rows.origin) for rows in (self, other)]
        bounds = [rows.bounds or (None, None) for rows in (self, other)]
        pairs = zip((*parts[0], *bounds[0]), (*parts[1], *bounds[1]), strict=True)
        settings = [(rows.device, rows.n_rows, rows.observed_share) for rows in (self, other)]
        return settings[0] == settings[1] and all(_same_bits(*pair) for pair in pairs)

    def known_by(self) -> Tensor:
        """Values that distinguish these rows from other data."""
        return self.values

    def stay_with(self, parameters: Tensor) -> bool:
        """Whether all rows lie on the device of the parameters, at one place for a whole run."""
        noisy_too = self.noisy is None or self.noisy.stay_with(parameters)
        return self.values.device == parameters.device and noisy_too

    def take(self, index: Tensor, out: Tensor) -> None:
        """Gather rows into ``out`` of shape (len(index), n_features)."""
        if self.values.device == out.device:
            torch.index_select(self.values, 0, index, out=out)
        else:
            staged = self.values.index_select(0, index.to(self.values.device))
            out.copy_(pinned_for(staged, out.device), non_blocking=True)

    def some(self, index: Tensor) -> "Rows":
        """Some of the rows, copied."""
        values = self.values[index.to(self.values.device)]
        weights, keys = (
            None if part is None else part[index.to(part.device)]
            for part in (self.weights, self.keys)
        )
        return replace(self, values=values, weights=weights, keys=keys)

    def low_and_high(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest value of each feature, without missing values."""
        low = self.values.nan_to_num(torch.inf).amin(0).nan_to_num(posinf=0.0)
        high = self.values.nan_to_num(-torch.inf).amax(0).nan_to_num(neginf=0.0)
        return low.to(self.device), high.to(self.device)

    # What is said to the other processes of a fit; here there are none.

    def total(self, values: Tensor) -> Tensor:
        """The sum of values over the rows of all processes, from that over the rows here."""
        return values

    def joined(
        self, parts: list[tuple[Tensor, Tensor | int]], n_members: int
    ) -> list[tuple[Tensor, Tensor | int]]:
        """Means (n_members,) and their weights, of parts of the rows of all processes."""
        return parts

    def combine(self, gradients: Tensor, n_rows: int) -> None:
        """Make the gradients, a mean over ``n_rows`` here, those of the whole batch."""

    def align(self, parameters: Tensor) -> None:
        """Give all processes the same parameters."""


def load_rows(
    X: Any,
    weights: np.ndarray | None,
    scaler: Scaler,
    dtype: torch.dtype,
    device: torch.device,
    keyed: bool,
    communicator: Communicator = ALONE,
) -> Rows:
    """Scale ``X`` chunk by chunk into one tensor; without scaling, share its memory if possible.

    ``X`` is only read. What is known of all rows is known of those of all processes.
    """
    n, n_features = X.shape
    as_they_are = scaler.name == "none" and not scaler.fenced and _is_ready(X, dtype)
    values = torch.from_numpy(X) if as_they_are else torch.empty(n, n_features, dtype=dtype)
    keys = np.empty(n, dtype=np.int64) if keyed else None
    array, n_missing = values.numpy(), 0
    sizes = sizes_of(scaler)
    for part, rows in dense_chunks(X):
        if not as_they_are:
            scaler.transform(rows, array[part])
            scaler.limit(array[part])
        n_missing += n_missing_of(array[part], sizes)
        if keys is not None:
            keys[part] = content_keys(rows)
    on_device = fits(device, values.nbytes)
    if weights is not None:
        weight, count = total(communicator, [weights.sum(), float(n)])
        weights = weights / (weight / count)
    n_missing, n_cells = total(communicator, [n_missing, n * n_columns_of(sizes, n_features)])
    return Rows(
        values.to(device) if on_device else values,
        None if weights is None else torch.as_tensor(weights, dtype=dtype).to(device),
        None if keys is None else torch.from_numpy(keys).to(device),
        scaled_origin(scaler, n_features, dtype).to(device),
        observed_share(int(n_missing), int(n_cells)),
        device,
        scaled_bounds(scaler, dtype, device),
        categories=categories_of(scaler, dtype, device),
    )


def _same_bits(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    if a.dtype != b.dtype or a.shape != b.shape or a.device != b.device:
        return False
    # As integers, in which NaN equals itself.
    return a is b or torch.equal(*(t.contiguous().view(torch.uint8) for t in (a, b)))


def scaled_origin(scaler: Scaler, n_features: int, dtype: torch.dtype) -> Tensor:
    """``Rows.origin``."""
    origin = torch.empty(1, n_features, dtype=dtype)
    scaler.transform(np.zeros((1, n_features)), origin.numpy())
    return origin[0].nan_to_num(0.0)


def scaled_bounds(
    scaler: Scaler, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor] | None:
    """Lower and upper bounds of the outputs, (1, 1, n_features) each, if there are any."""
    if (bounds := scaler.bounds()) is None:
        return None
    low, high = torch.as_tensor(bounds, dtype=dtype).to(device)[:, None, None]
    return low, high


def within(outputs: Tensor, bounds: tuple[Tensor, Tensor] | None) -> Tensor:
    """Outputs clipped to their bounds, if there are any."""
    return outputs if bounds is None else outputs.clamp(*bounds)


def n_missing_of(rows: np.ndarray, sizes: tuple[int, ...] = ()) -> int:
    """Number of missing cells; each category at the end, of these sizes, is one."""
    missing = missing_mask(rows)
    if missing is None:
        return 0
    return int((missing[:, first_units(sizes, rows.shape[1])] if sizes else missing).sum())


def observed_share(n_missing: int, n_cells: int) -> float:
    """``Rows.observed_share``; an error if nothing was observed."""
    if n_missing == n_cells:
        raise ValueError(
            "X holds no observed value: every cell is NaN, which means missing. Pass rows with "
            "at least one value."
        )
    return 1.0 - n_missing / n_cells


def _is_ready(X: Any, dtype: torch.dtype) -> bool:
    """Whether torch can read the array in place (torch warns about read-only memory)."""
    return (
        isinstance(X, np.ndarray)
        and not isinstance(X, np.memmap)
        and X.flags.c_contiguous
        and X.flags.writeable
        and X.dtype == torch.empty(0, dtype=dtype).numpy().dtype
    )


def content_keys(rows: np.ndarray) -> np.ndarray:
    """A 64-bit hash of each row: its bits times odd constants, summed."""
    with np.errstate(over="ignore"):
        bits = np.ascontiguousarray(rows, dtype=np.float32).view(np.uint32).astype(np.uint64)
        return (bits * _odd_factors(rows.shape[1])).sum(axis=1).view(np.int64)


@lru_cache(maxsize=16)
def _odd_factors(n_columns: int) -> np.ndarray:
    columns = np.arange(1, n_columns + 1, dtype=np.uint64)
    return (columns * np.uint64(0x9E3779B97F4A7C15)) | np.uint64(1)
