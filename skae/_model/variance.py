"""The share of the variance that a model's reconstruction explains."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skae._model.model import Batch, Model
from skae._runtime.device import computing


def explained_variance(
    model: Model,
    X: Any,
    weights: np.ndarray | None = None,
    sizes: Sequence[int | None] = (None,),
) -> np.ndarray:
    """1 - SSE / SST over the observed cells of the scaled rows, by the first latents alone.

    One value for each number of latents of ``sizes``; None is all of them.
    """
    with computing(model.network.device, model.flops(X)):
        sse, count = np.zeros(len(sizes)), torch.zeros(model.n_features, dtype=torch.float64)
        total, squares = torch.zeros_like(count), torch.zeros_like(count)
        for batch in model.batches(X):
            values = batch.values.cpu().double()
            weight = _cell_weights(batch, weights)
            codes = model.codes_of(batch)
            for i, size in enumerate(sizes):
                error = (_rebuilt(model, codes, size) - batch.values).cpu().double()
                sse[i] += float((weight * error**2).sum())
            count += weight.expand_as(values).sum(0)
            total += (weight * values).sum(0)
            squares += (weight * values**2).sum(0)
        sst = float((squares - total**2 / count.clamp(min=1e-300)).sum())
        if sst <= 1e-14 * float(squares.sum()):
            return np.where(sse == 0.0, 1.0, 0.0)
        return 1.0 - sse / sst


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
