"""What one worker does in a fit."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from skae._data.shards import ShardedRows, ShardedWeights
from skae._distributed.gloo import (
    PeerError,
    Seat,
    connect,
    joined,
    open_store,
    raise_absent,
)
from skae._distributed.refused import check_parts_from_anywhere
from skae._estimators.sklearn_private import check_sample_weight


def partition(X: Any, sample_weight: Any) -> tuple[Any, np.ndarray | None]:
    """The rows of one partition that have a positive weight, with their weights."""
    if sample_weight is None:
        return X, None
    weights = np.asarray(sample_weight)
    if weights.any():  # Of all zeros a check tells that they are, which here is no error.
        weights = check_sample_weight(weights, X, dtype=np.float64, ensure_non_negative=True)
    positive = weights > 0
    return X[positive], weights[positive]


def n_rows(part: tuple[Any, Any]) -> int:
    """Rows of what :func:`partition` gives."""
    return int(part[0].shape[0])


def train(
    estimator: Any,
    parts: list[tuple[int, tuple[Any, Any]]],
    n_partitions: int,
    seat: Seat,
    **how: Any,
) -> tuple[Any, bytes]:
    """Train on the partitions that are here; all workers of a fit do so at the same time.

    Parameters
    ----------
    estimator : estimator
        A plain one, fitted if training goes on.
    parts : list of tuple
        Number of each partition, and what :func:`partition` gives.
    n_partitions : int
        Of all workers.
    seat : Seat
    **how
        As for the plain estimator's own fit.

    Returns
    -------
    estimator : estimator or None
        The fitted one, from the first worker alone.
    weights : bytes
        A digest of the trained weights, the same on all workers.
    """
    from distributed import get_worker, secede
    from distributed.comm.addressing import get_address_host

    worker = get_worker()
    is_wanted = _watch(worker)
    # Others may use the thread: whoever waits here for another fit would wait for ever.
    secede()
    rows = {place: part[0] for place, part in parts}
    for place in rows:
        rows[place] = estimator._check_X(rows[place], reset=not how["resume"])
    check_parts_from_anywhere(estimator)
    address = worker.address
    host = "127.0.0.1" if address.startswith("inproc") else get_address_host(address)
    with _store(seat, host) as store, joined(seat, store, host, is_wanted) as group:
        X, weights = ShardedRows(rows, n_partitions, group), None
        if parts[0][1][1] is not None:
            weights = ShardedWeights(X, {place: part[1] for place, part in parts})
        estimator._fit(X, None, weights, **how)
    return (estimator if seat.rank == 0 else None), _digest(estimator)


def _watch(worker: Any) -> Callable[[], bool]:
    """Tells whether anybody still wants the result of the task that runs here."""
    key, tasks = worker.get_current_task(), worker.state.tasks

    def is_wanted() -> bool:
        task = tasks.get(key)
        return task is not None and task.state != "cancelled"

    return is_wanted


@contextlib.contextmanager
def _store(seat: Seat, host: str) -> Iterator[Any]:
    """Where the workers of a fit find each other: the first one opens it."""
    from distributed import Variable

    if len(seat.names) == 1:
        yield None
        return
    place = Variable(seat.fit)
    if seat.rank == 0:
        store = open_store(host, seat.timeout)
        place.set((host, store.port))
        yield store
        return
    try:
        address = place.get(timeout=seat.timeout)
    except TimeoutError:
        raise_absent(seat, [0])
    try:
        store = connect(address[0], address[1], seat.timeout)
    except RuntimeError as error:
        raise PeerError(str(error)) from None
    yield store


def _digest(estimator: Any) -> bytes:
    values = estimator._model.network.parameters.cpu().numpy()
    return hashlib.sha256(values.tobytes()).digest()
