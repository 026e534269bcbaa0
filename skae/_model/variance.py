"""The share of the variance that a model's reconstruction explains."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from skae._model.model import Batch, Model


class VarianceSums(NamedTuple):
    """Sums over rows, of which those of several sets of rows can be added up.

    Attributes
    ----------
    errors : ndarray of shape (n_sizes,)
        Of squared errors.
    cells : ndarray of shape (3, n_features)
        Of weights, values and squares, in float64.
    """

    errors: np.ndarray
    cells: np.ndarray

    def plus(self, other: "VarianceSums") -> "VarianceSums":
        """The sums over both sets of rows."""
        return VarianceSums(self.errors + other.errors, self.cells + other.cells)

    def explained(self) -> np.ndarray:
        """1 - SSE / SST."""
        count, total, squares = self.cells
        sst = float((squares - total**2 / count.clip(min=1e-300)).sum())
        if sst <= 1e-14 * float(squares.sum()):
            return np.where(self.errors == 0.0, 1.0, 0.0)
        return 1.0 - self.errors / sst


def explained_variance(
    model: Model,
    X: Any,
    weights: np.ndarray | None = None,
    sizes: Sequence[int | None] = (None,),
) -> np.ndarray:
    """1 - SSE / SST over the observed cells of the scaled rows, by the first latents alone.

    One value for each number of latents of ``sizes``; None is all of them.
    """
    return variance_sums(model, X, weights, sizes).explained()


def variance_sums(
    model: Model,
    X: Any,
    weights: np.ndarray | None = None,
    sizes: Sequence[int | None] = (None,),
) -> VarianceSums:
    """What :func:`explained_variance` is computed from."""
    with model.computing(X) as pace:
        errors, cells = np.zeros(len(sizes)), torch.zeros(3, model.n_features, dtype=torch.float64)
        for batch in model.batches(X):
            values = batch.values.cpu().double()
            weight = _cell_weights(batch, weights)
            codes = model.codes_of(batch)
            for i, size in enumerate(sizes):
                error = (_rebuilt(model, codes, size) - batch.values).cpu().double()
                errors[i] += float((weight * error**2).sum(0).sum())
            cells[0] += weight.expand_as(values).sum(0)
            cells[1] += (weight * values).sum(0)
            cells[2] += (weight * values**2).sum(0)
            pace.lap()
    return VarianceSums(errors, cells.numpy())


def _cell_weights(batch: Batch, weights: np.ndarray | None) -> Tensor:
    """(n, 1), or (n, n_features) where cells are missing."""
    weight = torch.ones(len(batch.values), 1, dtype=torch.float64)
    if weights is not None:
        weight *= torch.as_tensor(weights[batch.part], dtype=torch.float64)[:, None]
    return weight if batch.observed is None else weight * batch.observed.cpu()


def _rebuilt(model: Model, codes: Tensor, n_latents: int | None) -> Tensor:
    """Rows, in the scaled space, of the first latents alone."""
    if n_latents is not None:
        codes = codes.clone()
        codes[..., n_latents:] = 0.0
    return model.rows_of(codes)[0]
