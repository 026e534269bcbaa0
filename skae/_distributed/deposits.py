"""Rows that wait on their worker for a fit: in its memory, or in a file where that gets short.

Each partition is deposited where Dask computes it. A fit takes what its worker has.
"""

import copy
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np

from skae._data.sources import RowFile
from skae._estimators.sklearn_private import check_sample_weight

# Shares of a worker's memory: beyond the first, rows that come go to a file; up to the second, a
# fit takes what is free. Dask pauses a worker at 0.8.
_FULL, _OURS = 0.5, 0.65

# Bytes that training takes beside its rows, about, and the fewest that it gets for these.
_TRAINING, _LEAST = 1 << 27, 1 << 25


@dataclass
class Deposit:
    """What one fit has on one worker.

    Attributes
    ----------
    rows : dict of array or CSR matrix
        By the number of the partition.
    weights : dict of ndarray
    checked : dict
        Attributes of an estimator that has seen the columns of the rows.
    keys : set
        Of Dask's tasks that deposited them.
    file : RowFile or None
    """

    rows: dict[int, Any] = field(default_factory=dict)
    weights: dict[int, np.ndarray] = field(default_factory=dict)
    checked: dict[str, Any] = field(default_factory=dict)
    keys: set[Any] = field(default_factory=set)
    file: RowFile | None = None


# By the name of the fit and the address of the worker; workers may be threads of one process.
_deposits: dict[tuple[str, str], Deposit] = {}
_lock = Lock()


def partition(X: Any, sample_weight: Any) -> tuple[Any, np.ndarray | None]:
    """The rows of one partition that have a positive weight, with their weights."""
    if sample_weight is None:
        return X, None
    weights = np.asarray(sample_weight)
    if weights.any():  # Of all zeros a check tells that they are, which here is no error.
        weights = check_sample_weight(weights, X, dtype=np.float64, ensure_non_negative=True)
    positive = weights > 0
    return X[positive], weights[positive]


def deposit(
    part: tuple[Any, np.ndarray | None], estimator: Any, place: int, fit: str, resume: bool
) -> tuple[str, tuple[int, int]]:
    """Check the rows of a partition and keep them on this worker.

    Parameters
    ----------
    part : tuple
        What :func:`partition` gives.
    estimator : estimator
        A plain one by which rows are checked, fitted or not.
    place : int
        Number of the partition.
    fit : str
        Name of the fit.
    resume : bool
        Whether the estimator knows the columns already.

    Returns
    -------
    address : str
        Of this worker.
    shape : tuple of int
        Of the rows, (0, 0) if there are none.
    """
    from distributed import get_worker

    worker = get_worker()
    _forget_unwanted(worker)
    rows, weights = part
    if rows.shape[0] == 0:
        return worker.address, (0, 0)
    checked = copy.copy(estimator)
    rows = checked._check_X(rows, reset=not resume)
    with _lock:
        own = _deposits.setdefault((fit, worker.address), Deposit())
        if _is_short(worker, rows):
            own.file = own.file or RowFile(worker.local_directory)
            rows = own.file.add(rows)
        if place <= min(own.rows, default=place):
            own.checked = checked._of_input()
        own.rows[place] = rows
        own.keys.add(worker.get_current_task())
        if weights is not None:
            own.weights[place] = weights
    return worker.address, rows.shape


def take(fit: str, address: str) -> Deposit:
    """What a fit has on a worker; it is kept no longer.

    Raises
    ------
    RuntimeError
        If there is nothing.
    """
    with _lock:
        own = _deposits.pop((fit, address), None)
    if own is None:
        raise RuntimeError(f"{address} was restarted, and its rows are gone. Fit again.")
    return own


def _forget_unwanted(worker: Any) -> None:
    """Drop what fits have left here that went wrong before they began."""
    with _lock:
        for fit, address in list(_deposits):
            if address == worker.address:
                keys = _deposits[fit, address].keys
                if keys.isdisjoint(worker.state.tasks):
                    del _deposits[fit, address]


def _is_short(worker: Any, rows: Any) -> bool:
    room = _room(worker, _FULL)
    return isinstance(rows, np.ndarray) and room is not None and rows.nbytes > room


def free_bytes(worker: Any) -> int | None:
    """Bytes that a fit may take for rows on a worker; None if its memory has no limit."""
    room = _room(worker, _OURS)
    return None if room is None else max(room - _TRAINING, _LEAST)


def _room(worker: Any, share: float) -> int | None:
    """Bytes until a share of the worker's memory is taken."""
    limit = worker.memory_manager.memory_limit
    return int(share * limit) - worker.monitor.get_process_memory() if limit else None
