"""The client's part of a fit: rows are put on workers, all of which start, and are watched."""

import math
import time
import uuid
from typing import Any

from skae._distributed import rank
from skae._distributed.deposits import deposit
from skae._distributed.gloo import PeerError, Seat, raise_absent

# Seconds between two looks at the workers, and for the others to tell what went wrong.
_LOOK, _GRACE = 1.0, 3.0


def train(
    client: Any, estimator: Any, parts: list[Any], timeout: float, **how: Any
) -> tuple[Any, list[bytes]]:
    """Fit an estimator on the workers that hold the partitions.

    Parameters
    ----------
    client : distributed.Client
    estimator : estimator
        A plain one.
    parts : list of Delayed
        What :func:`~skae._distributed.deposits.partition` gives, for each partition.
    timeout : float
    **how
        As for the plain estimator's own fit.

    Returns
    -------
    estimator : estimator
        The fitted one.
    digests : list of bytes
        Of the weights, from each worker.
    """
    from dask.delayed import delayed

    name = f"skae-{uuid.uuid4().hex}"
    # No task of its own, to whose worker Dask would move rows; so it must be small.
    checking = type(estimator)(**estimator.get_params(deep=False))
    vars(checking).update(estimator._of_input())
    put = delayed(deposit, pure=False)
    numbered = enumerate(parts)
    held = client.compute([put(part, checking, i, name, how["resume"]) for i, part in numbered])
    try:
        found = client.gather(held)
        _check_shapes([shape for _, shape in found])
        names = tuple(sorted({address for address, (n_rows, _) in found if n_rows}))
        seats = [Seat(name, names, number, timeout) for number in range(len(names))]
        return _train(client, estimator, len(parts), seats, **how)
    finally:
        client.cancel(held)  # The traceback of an error would keep them.


def _train(
    client: Any, estimator: Any, n_partitions: int, seats: list[Seat], **how: Any
) -> tuple[Any, list[bytes]]:
    """Fit on rows that were deposited."""
    from distributed import Event, Variable

    name, names = seats[0].fit, seats[0].names
    begun = Event(name, client=client)
    tasks = [
        client.submit(
            rank.train,
            estimator,
            n_partitions,
            seat,
            **how,
            workers=[names[seat.rank]],
            allow_other_workers=False,
            retries=0,
            pure=False,
            key=f"{name}-{seat.rank}",
        )
        for seat in seats
    ]
    try:
        results = _results(client, tasks, seats[0], begun)
    finally:
        # Who still works on it learns that nobody wants it.
        client.cancel(tasks)
        if len(names) > 1:
            Variable(name, client=client).delete()
        begun.clear()
    return results[0][0], [digest for _, digest in results]


def _check_shapes(shapes: list[tuple[int, int]]) -> None:
    filled = [place for place, (n_rows, _) in enumerate(shapes) if n_rows]
    if not filled:
        raise ValueError("X has n_samples = 0 rows of positive weight. Pass at least one.")
    first, n_features = filled[0], shapes[filled[0]][1]
    for place in filled:
        if shapes[place][1] != n_features:
            raise ValueError(
                f"Partition {first} of X has {n_features} features, and partition {place} has "
                f"{shapes[place][1]}. Pass rows of the same columns."
            )


def _results(client: Any, tasks: list[Any], seat: Seat, begun: Any) -> list[Any]:
    """What the workers return; the error of the one that went wrong first."""
    from distributed import wait

    names, timeout = seat.names, seat.timeout
    pending, deadline = tasks, time.monotonic() + timeout
    while pending:
        try:
            wait(pending, timeout=_LOOK, return_when="FIRST_COMPLETED")
        except TimeoutError:
            _check_alive(client, names, timeout)
            if time.monotonic() > deadline:
                # Workers that have begun tell of others, but the first one may not have.
                if not begun.is_set():
                    raise_absent(seat, [0])
                deadline = math.inf
        if any(task.status in ("error", "cancelled") for task in tasks):
            raise _error(client, tasks, names, timeout)
        # A worker that is gone takes with it what it had finished.
        pending = [task for task in tasks if task.status != "finished"]
    return [task.result(timeout) for task in tasks]


def _error(client: Any, tasks: list[Any], names: tuple[str, ...], timeout: float) -> BaseException:
    """What tells most of what went wrong: a worker's own error, else that it is gone."""
    deadline = time.monotonic() + _GRACE
    while True:
        errors = [task.exception(timeout=_LOOK) for task in tasks if task.status == "error"]
        own = [error for error in errors if not isinstance(error, PeerError)]
        if own:
            return own[0]
        _check_alive(client, names, timeout)
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    told = "; ".join({str(error) for error in errors})
    return RuntimeError(
        f"The workers {', '.join(names)} lost each other during the fit ({told}). Look at their "
        f"logs, and check the network between them."
    )


def _check_alive(client: Any, names: tuple[str, ...], timeout: float) -> None:
    """Raise a RuntimeError if a worker of the fit is gone, or has been silent for too long."""
    # Not by client.scheduler_info, which the client itself replaces by one without workers now and
    # then, at any moment.
    workers = client.sync(client.scheduler.identity, n_workers=-1)["workers"]
    if gone := [name for name in names if name not in workers]:
        raise RuntimeError(
            f"{', '.join(gone)} left during the fit. Was the worker stopped, or killed because its "
            f"memory was full? Its log tells. Fit again: what it held is computed elsewhere."
        )
    latest = max(worker["last_seen"] for worker in workers.values())
    patience = min(timeout, 30.0)
    silent = [name for name in names if latest - workers[name]["last_seen"] > patience]
    if silent:
        raise RuntimeError(
            f"{', '.join(silent)} has been silent for {patience:g} seconds during the fit. Look "
            f"what the worker does, or restart it with client.restart_workers([...]). Fit again: "
            f"what it held is computed elsewhere."
        )
