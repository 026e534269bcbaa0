"""What the processes of one fit say to each other: four calls, that any library may stand behind.

A fit in several processes runs the same lines in each of them. Where something depends on the rows
of all, it asks its :class:`Communicator`; what is asked comes in the same order everywhere.
"""

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


class Communicator(Protocol):
    """One of ``size`` processes that take part in a fit.

    Attributes
    ----------
    rank : int
        Its number, from zero.
    size : int
    """

    rank: int
    size: int

    def all_reduce(self, values: Tensor, operation: str = "sum") -> None:
        """Replace the values by their sum over all processes, or by the largest one ("max")."""

    def broadcast(self, values: Tensor) -> None:
        """Replace the values by those of the first process."""


class Alone:
    """The only process of a fit."""

    rank = 0
    size = 1

    def all_reduce(self, values: Tensor, operation: str = "sum") -> None:
        """Values of one process are those of all."""

    def broadcast(self, values: Tensor) -> None:
        """Values of one process are those of the first."""


ALONE = Alone()


def total(communicator: Communicator, values: Any) -> np.ndarray:
    """The sum of an array over all processes."""
    summed = np.array(values)
    communicator.all_reduce(torch.from_numpy(summed.reshape(-1)))
    return summed


def largest(communicator: Communicator, values: Any) -> np.ndarray:
    """The largest of each number over all processes."""
    most = np.array(values)
    communicator.all_reduce(torch.from_numpy(most.reshape(-1)), "max")
    return most


def merged(communicator: Communicator, values: np.ndarray) -> None:
    """Fill in place an array of which each process has some values, and zeros for the others.

    As bytes, whose sums are exact whatever they stand for.
    """
    communicator.all_reduce(torch.from_numpy(values.reshape(-1).view(np.uint8)))


def gathered(communicator: Communicator, values: np.ndarray) -> np.ndarray:
    """An array of each process, one after another: (size, ...)."""
    everyone = np.zeros((communicator.size, *values.shape), dtype=values.dtype)
    everyone[communicator.rank] = values
    merged(communicator, everyone)
    return everyone
