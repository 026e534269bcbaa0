"""Rows that a detector was fitted on, known again by their content.

A member knows the rows that it was trained on, and finds each of them among its references. So
a training row is scored by the members that have not seen it: its score is then one of the same
kind as those of new rows.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from skae._data.loaded import content_keys
from skae._model.model import Batch, Known
from skae._runtime.tuning import COPIES_SHARE

# Values that are hashed at once, in eight bytes each.
_VALUES_AT_ONCE = 1 << 14


class Seen(NamedTuple):
    """Which members were trained on which rows.

    Attributes
    ----------
    keys : ndarray of shape (n,), int64
        Hashes of the rows, in order.
    trained : ndarray of shape (n, K), bool
    """

    keys: np.ndarray
    trained: np.ndarray

    @classmethod
    def of(cls, keys: np.ndarray, trained: Tensor) -> "Seen":
        """Of rows with these keys; ``trained`` is (K, n)."""
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], trained.T.numpy()[order])

    def among(self, batch: Batch) -> Known | None:
        """The rows of the fit among those of a batch; None where there are none."""
        keys = keys_of(batch)
        places = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        known = self.keys[places] == keys
        if not known.any():
            return None
        trained = self.trained[places] & known[:, None]
        return Known(torch.from_numpy(known), torch.from_numpy(trained.T.copy()))


def evened(weights: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Weights of rows, in which copies of one row have at most a quarter of the whole.

    Half of the rows may be copies of one. Then the usual distance is none at all, and any other
    would be unusual.
    """
    _, place = np.unique(keys, return_inverse=True)
    totals = np.bincount(place, weights)
    common = totals > COPIES_SHARE * totals.sum()
    most = totals[~common].sum() * COPIES_SHARE / (1.0 - COPIES_SHARE)
    if most == 0.0 or not common.any():
        return weights
    return weights * np.where(common, most / np.maximum(totals, most), 1.0)[place]


def keys_of(batch: Batch) -> np.ndarray:
    """A key of each row: the same in any precision that float32 tells apart, and any container."""
    assert batch.originals is not None
    rows = batch.originals
    if batch.observed is not None:
        rows = np.where(batch.observed.cpu().numpy(), rows, np.nan)
    length = max(1, _VALUES_AT_ONCE // rows.shape[1])
    parts = (rows[i : i + length] for i in range(0, len(rows), length))
    with np.errstate(over="ignore"):
        # Zero has two signs.
        return np.concatenate([content_keys(part.astype(np.float32) + 0.0) for part in parts])
