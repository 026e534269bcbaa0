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
from skae._model.model import Known


class Seen(NamedTuple):
    """Which members were trained on which rows.

    Attributes
    ----------
    keys : ndarray of shape (n,), int64
        Hashes of the scaled rows, in order.
    trained : ndarray of shape (n, K), bool
    """

    keys: np.ndarray
    trained: np.ndarray

    @classmethod
    def of(cls, keys: np.ndarray, trained: Tensor) -> "Seen":
        """Of rows with these keys; ``trained`` is (K, n)."""
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], trained.T.numpy()[order])

    def among(self, values: Tensor) -> Known | None:
        """The rows of the fit among scaled rows (n, n_features); None where there are none."""
        keys = keys_of(values)
        places = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        known = self.keys[places] == keys
        if not known.any():
            return None
        trained = self.trained[places] & known[:, None]
        return Known(torch.from_numpy(known), torch.from_numpy(trained.T.copy()))


def keys_of(values: Tensor) -> np.ndarray:
    """The keys of scaled rows (n, n_features)."""
    return content_keys(values.cpu().numpy())
