"""The client's part of a fit: who holds which partitions, starting all of them, watching them."""

import time
import uuid
from typing import Any

from skae._distributed import rank
from skae._distributed.gloo import PeerError, Seat

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
        What :func:`~skae._distributed.rank.partition` gives, for each partition.
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
    from distributed import Variable

    held = client.compute(parts)
    counts = client.gather(client.map(rank.n_rows, held, pure=False))
    if not any(counts):
        raise ValueError("X has n_samples = 0 rows of positive weight. Pass at least one.")
    not_empty = {place: held[place] for place in range(len(held)) if counts[place]}
    workers = _by_worker(client, not_empty)
    name, names = f"skae-{uuid.uuid4().hex}", tuple(workers)
    tasks = [
        client.submit(
            rank.train,
            estimator,
            own,
            len(parts),
            Seat(name, names, number, timeout),
            **how,
            workers=[address],
            allow_other_workers=False,
            retries=0,
            pure=False,
            key=f"{name}-{number}",
        )
        for number, (address, own) in enumerate(workers.items())
    ]
    try:
        results = _results(client, tasks, names, timeout)
    finally:
        # Who still works on it learns that nobody wants it.
        client.cancel(tasks)
        if len(names) > 1:
            Variable(name, client=client).delete()
    return results[0][0], [digest for _, digest in results]


def _by_worker(client: Any, held: dict[int, Any]) -> dict[str, list[tuple[int, Any]]]:
    """The partitions, with their numbers, of each worker that holds some."""
    where = client.who_has(list(held.values()))
    workers: dict[str, list[tuple[int, Any]]] = {}
    for place, future in held.items():
        # Of those that hold a copy, the one that has the fewest; any, if it was lost just now.
        found = where.get(future.key) or client.nthreads()
        address = min(sorted(found), key=lambda name: len(workers.get(name, ())))
        workers.setdefault(address, []).append((place, future))
    return workers


def _results(client: Any, tasks: list[Any], names: tuple[str, ...], timeout: float) -> list[Any]:
    """What the workers return; the error of the one that went wrong first."""
    from distributed import wait

    pending = set(tasks)
    while pending:
        try:
            done, pending = wait(list(pending), timeout=_LOOK, return_when="FIRST_COMPLETED")
            pending = set(pending)
            if any(task.status != "finished" for task in done):
                break
        except TimeoutError:
            _check_alive(client, names, timeout)
    else:
        return [task.result() for task in tasks]
    raise _error(client, tasks, names, timeout)


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
    workers = client.scheduler_info(n_workers=-1)["workers"]
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
