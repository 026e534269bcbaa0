"""Rows of coordinates, computed from the caller's rows when they are sliced."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skae._data.convert import dense_rows
from skae._data.scale import Scaler
from skae._data.sources import SlicedRows
from skae._runtime.device import computing


class ProjectedRows(SlicedRows):
    """Rows as a network sees them that is trained on coordinates of the scaled rows.

    Parameters
    ----------
    X : array, source or CSR matrix of shape (n, n_features)
    scaler : Scaler
    project : callable
        From scaled rows (m, n_features) to their coordinates (m, n_coordinates).
    n_coordinates : int
    like : Tensor
        Has the dtype and the device of the scaled rows.
    flops : float
        Operations of ``project`` for each row.
    """

    def __init__(
        self,
        X: Any,
        scaler: Scaler,
        project: Callable[[Tensor], Tensor],
        n_coordinates: int,
        like: Tensor,
        flops: float,
    ):
        self._X, self._scaler, self._project = X, scaler, project
        self._like, self._flops = like, flops
        self.shape = (X.shape[0], n_coordinates)
        self.dtype = like[:0].cpu().numpy().dtype

    def _slice(self, start: int, stop: int) -> np.ndarray:
        return self._taken(slice(start, stop))

    def _taken(self, index: Any) -> np.ndarray:
        rows = dense_rows(self._X, index)
        scaled = torch.empty(rows.shape, dtype=self._like.dtype)
        self._scaler.transform(rows, scaled.numpy())
        with computing(self._like.device, self._flops * len(rows)):
            return self._project(scaled.to(self._like.device)).cpu().numpy()
