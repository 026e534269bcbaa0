"""What one worker does in a fit."""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from skae._data.shards import ShardedRows, ShardedWeights
from skae._distributed.deposits import free_bytes, take
from skae._distributed.gloo import (
    LOOK,
    PeerError,
    Seat,
    check_wanted,
    connect,
    joined,
    open_store,
    raise_absent,
)
from skae._distributed.refused import check_parts_from_anywhere


def train(estimator: Any, n_partitions: int, seat: Seat, **how: Any) -> tuple[Any, bytes]:
    """Train on the rows that were deposited here; all workers of a fit do so at the same time.

    Parameters
    ----------
    estimator : estimator
        A plain one, fitted if training goes on.
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
    address, own = worker.address, take(seat.fit, worker.address)
    for name in estimator._of_input():
        delattr(estimator, name)
    vars(estimator).update(own.checked)
    check_parts_from_anywhere(estimator)
    host = "127.0.0.1" if address.startswith("inproc") else get_address_host(address)
    with (
        found_by_others(seat, host, is_wanted) as store,
        joined(seat, store, host, is_wanted) as group,
    ):
        room = free_bytes(worker), worker.local_directory
        X, weights = ShardedRows(own.rows, n_partitions, group, *room), None
        if own.weights:
            weights = ShardedWeights(X, own.weights)
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
def found_by_others(seat: Seat, host: str, is_wanted: Callable[[], bool]) -> Iterator[Any]:
    """Where the workers of a fit find each other: the first one opens it."""
    from distributed import Event, Variable

    place, opened = Variable(seat.fit), Event(seat.fit)
    if len(seat.names) == 1:
        opened.set()
        yield None
        return
    if seat.rank == 0:
        store = open_store(host, seat.timeout)
        place.set((host, store.port))
        opened.set()
        yield store
        return
    deadline = time.monotonic() + seat.timeout
    while not opened.wait(LOOK):
        check_wanted(is_wanted)
        if time.monotonic() > deadline:
            raise_absent(seat, [0])
    address = place.get(timeout=seat.timeout)
    try:
        store = connect(address[0], address[1], seat.timeout)
    except RuntimeError as error:
        raise PeerError(str(error)) from None
    yield store


def _digest(estimator: Any) -> bytes:
    values = estimator._model.network.parameters.cpu().numpy()
    return hashlib.sha256(values.tobytes()).digest()
