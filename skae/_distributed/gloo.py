"""Processes of a fit that talk by torch's gloo.

Each fit has a group of its own. torch's global one is left alone: a group that some processes
failed to join would be in the way of every later fit.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from threading import Thread
from typing import Any

import torch
from torch import Tensor

# Seconds after which whoever waits looks whether the fit is still wanted.
LOOK = 0.5

# Bytes that take about as long as a message without any, over a network of 10 Gbit/s.
SHORT = 1 << 16


class PeerError(RuntimeError):
    """Another process of the fit is gone; that process knows why."""


class UnwantedError(RuntimeError):
    """Nobody waits for this fit any more."""


@dataclass(frozen=True)
class Seat:
    """The place of one process in a fit.

    Attributes
    ----------
    fit : str
        A name that no other fit has.
    names : tuple of str
        What the processes are called in errors, by rank.
    rank : int
    timeout : float
        Seconds to wait for others: until they are there, and in each call.
    """

    fit: str
    names: tuple[str, ...]
    rank: int
    timeout: float


class Group:
    """A :class:`~skae._runtime.communicator.Communicator` by gloo.

    Parameters
    ----------
    seat : Seat
    group : ProcessGroupGloo or None
        None for the only process.
    is_wanted : callable
        Whether somebody still waits for the fit.
    """

    def __init__(self, seat: Seat, group: Any, is_wanted: Callable[[], bool]):
        self.rank, self.size = seat.rank, len(seat.names)
        self._timeout, self._group, self._is_wanted = seat.timeout, group, is_wanted
        self._waits = False

    def all_reduce(self, values: Tensor, operation: str = "sum") -> None:
        from torch.distributed import AllreduceOptions, ReduceOp

        # A ring passes on n-ths of the sums in 2 (n - 1) messages, one after another; it passes on
        # short vectors as they are in half as many.
        if self.size == 2 or (self.size > 2 and values.nbytes <= SHORT):
            parts = self._gathered(values)
            values.copy_(reduce(torch.maximum if operation == "max" else torch.add, parts))
            return
        options = AllreduceOptions()
        options.reduceOp = ReduceOp(ReduceOp.MAX if operation == "max" else ReduceOp.SUM)
        self._do(lambda here: self._group.allreduce([here], options), values)

    def broadcast(self, values: Tensor) -> None:
        from torch.distributed import BroadcastOptions

        options = BroadcastOptions()
        options.rootRank = options.rootTensor = 0
        self._do(lambda here: self._group.broadcast([here], options), values)

    def _gathered(self, values: Tensor) -> list[Tensor]:
        """The values of all processes, by rank."""
        parts = [torch.empty_like(values, device="cpu") for _ in range(self.size)]
        self._do(lambda here: self._group.allgather([parts], [here]), values)
        return parts

    def _do(self, start: Callable[[Tensor], Any], values: Tensor) -> None:
        check_wanted(self._is_wanted)
        if self._group is None:
            return
        here = values.cpu()
        self._waits = True
        _finish(start, here, self._timeout, self._is_wanted)
        self._waits = False
        if here is not values:
            values.copy_(here)

    def close(self) -> None:
        """Close the connections; whoever waits for this process then learns of it."""
        groups, self._group = [self._group], None
        if self._waits:
            # A group ends when its last call does, which may be when its time is over.
            Thread(target=groups.clear, daemon=True).start()


def check_wanted(is_wanted: Callable[[], bool]) -> None:
    if not is_wanted():
        raise UnwantedError("Nobody waits for this fit any more.")


def _finish(
    start: Callable[[Tensor], Any], values: Tensor, timeout: float, is_wanted: Callable[[], bool]
) -> None:
    """Start a call and wait for its end, as long as the fit is wanted."""
    deadline, work = time.monotonic() + timeout, None
    try:
        work = _started(start, values)
        while not _ended(work):
            check_wanted(is_wanted)
            if time.monotonic() > deadline:
                raise PeerError(f"No answer from another process for timeout={timeout:g} seconds.")
    finally:
        del work  # An error would keep it, and with it the connections.


def _started(start: Callable[[Tensor], Any], values: Tensor) -> Any:
    try:
        return start(values)
    except RuntimeError as error:
        raise PeerError(str(error)) from None


def _ended(work: Any) -> bool:
    """Wait for a moment; tell whether a call has ended."""
    try:
        work.wait(timedelta(seconds=LOOK))
    except RuntimeError as error:
        if work.is_completed() and work.exception() is not None:
            raise PeerError(str(error)) from None
        return bool(work.is_completed())
    return True


def open_store(host: str, timeout: float) -> Any:
    """A server, at a free port, by which the processes find each other."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    patience = timedelta(seconds=timeout)
    return TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=patience)


def connect(host: str, port: int, timeout: float) -> Any:
    """The server that another process has opened."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    patience = timedelta(seconds=timeout)
    return TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=patience)


@contextmanager
def joined(seat: Seat, store: Any, host: str, is_wanted: Callable[[], bool]) -> Iterator[Group]:
    """The group of a fit, once all of its processes are there.

    Parameters
    ----------
    seat : Seat
    store : torch.distributed.Store or None
        By which the processes find each other; None for the only process.
    host : str
        Address at which this process listens to the others.
    is_wanted : callable

    Raises
    ------
    TimeoutError
        If not all are there in time.
    """
    group = Group(seat, None if store is None else _group(seat, store, host, is_wanted), is_wanted)
    try:
        yield group
    finally:
        group.close()


def _group(seat: Seat, store: Any, host: str, is_wanted: Callable[[], bool]) -> Any:
    from torch.distributed.distributed_c10d import PrefixStore, ProcessGroupGloo

    try:
        own = PrefixStore(seat.fit, store)
        _wait_for_all(seat, own, is_wanted)
        options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
        options._devices = [ProcessGroupGloo.create_device(hostname=host)]
        options._timeout = timedelta(seconds=seat.timeout)
        options._threads = 1
        return ProcessGroupGloo(own, seat.rank, len(seat.names), options)
    except (PeerError, UnwantedError):
        raise
    except RuntimeError as error:
        raise PeerError(str(error)) from None


def _wait_for_all(seat: Seat, store: Any, is_wanted: Callable[[], bool]) -> None:
    deadline, pause = time.monotonic() + seat.timeout, 0.002
    store.set(str(seat.rank), "here")
    waiting = [str(rank) for rank in range(len(seat.names))]
    while waiting := [rank for rank in waiting if not store.check([rank])]:
        check_wanted(is_wanted)
        if time.monotonic() > deadline:
            raise_absent(seat, [int(rank) for rank in waiting])
        time.sleep(pause)
        pause = min(2 * pause, 0.1)


def raise_absent(seat: Seat, ranks: list[int]) -> None:
    """Raise a TimeoutError that names the processes that did not come."""
    names = ", ".join(seat.names[rank] for rank in ranks)
    raise TimeoutError(
        f"The fit did not start within timeout={seat.timeout:g} seconds: no free thread on "
        f"{names}. All workers that hold rows must take part at the same time, and Dask does not "
        f"start tasks together: wait until their other tasks are done, or pass a larger timeout."
    )
