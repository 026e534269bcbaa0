"""How many threads compute: all of them, or one where others use the cores too.

Threads wait for each other after every operation. Where other processes have work for the cores,
one of the threads often waits for its turn, and all others for it: two threads have been fifty
times slower than one. So work is timed lap by lap, and goes on with the number that is faster. Work
whose bits depend on the number, which is tried before it changes, goes on with all of them.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# Laps are judged together until they took this long, in seconds: several turns of a scheduler.
_WINDOW = 0.02

# With less of its time on a core, the calling thread waits for cores that others use. While it
# does so on one thread, all of them are not tried, for so many seconds.
_SHARE, _PUT_OFF = 0.8, 0.1

# All threads are tried again when that has cost at most this part of the time, but at least
# every so many seconds.
_TRIALS, _LONGEST = 0.02, 10.0

# Kinds of work that are remembered.
_KINDS = 256


class Work(Hashable, Protocol):
    """A kind of work: equal for laps of equal work.

    Called, it gives what may have other bits on another number of threads.
    """

    def __call__(self) -> list[Tensor]: ...


@dataclass
class _Kind:
    """Laps of equal work: those that are not judged yet, and seconds of the last ones judged.

    ``one`` is known only where all threads were in doubt, ``steady``, whether bits are the same,
    where the number was to change.
    """

    one: float | None = None
    all: float | None = None
    steady: bool | None = None
    laps: int = 0
    seconds: float = 0.0
    on_core: float = 0.0

    def add(self, seconds: float, on_core: float) -> None:
        self.laps += 1
        self.seconds += seconds
        self.on_core += on_core

    @property
    def is_waiting(self) -> bool:
        """Whether the calling thread waited for much of the time."""
        return self.on_core < _SHARE * self.seconds

    def forget(self) -> None:
        """Begin a new window."""
        self.laps, self.seconds, self.on_core = 0, 0.0, 0.0


class Cores:
    """What all work of the process has told about the cores.

    Parameters
    ----------
    clock, own_clock : callable
        Seconds, and seconds that the calling thread was on a core.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        own_clock: Callable[[], float] = time.thread_time,
    ):
        self.clock, self.own_clock = clock, own_clock
        self._crowded_until = -float("inf")
        self._kinds: dict[Hashable, _Kind] = defaultdict(_Kind)

    def are_free(self) -> bool:
        """Whether to use all threads now."""
        return self.clock() >= self._crowded_until

    def kind(self, work: Hashable) -> _Kind:
        """What is known about some work."""
        if len(self._kinds) > _KINDS:
            self._kinds.clear()
        return self._kinds[work]

    def judge(self, kind: _Kind, all_threads: bool) -> None:
        """Take a window of laps into account, if it is over."""
        if kind.seconds >= _WINDOW:
            (self._judge_all if all_threads else self._judge_one)(kind)
            kind.forget()

    def _judge_all(self, kind: _Kind) -> None:
        kind.all = kind.seconds / kind.laps
        if kind.one is None:
            lost = kind.seconds - kind.on_core if kind.is_waiting else 0.0
        else:
            lost = kind.seconds - kind.laps * kind.one
        if lost > 0.0:
            self._crowded_until = self.clock() + min(lost / _TRIALS, _LONGEST)
        elif not kind.is_waiting:
            kind.one = None

    def _judge_one(self, kind: _Kind) -> None:
        kind.one = kind.seconds / kind.laps
        if kind.all is not None and kind.all < kind.one:
            self._crowded_until = self.clock()
        elif kind.is_waiting:
            self._crowded_until = max(self._crowded_until, self.clock() + _PUT_OFF)


CORES = Cores()


class Pace:
    """The pace of work whose number of threads does not change.

    Attributes
    ----------
    threads : int
        How many work now.
    """

    def __init__(self, threads: int):
        self.threads = threads

    def start(self) -> None:
        """Begin a lap here: what was done since the last one does not count."""

    def lap(self) -> None:
        """End a lap, and begin the next one."""

    def close(self) -> None:
        """End the work, which is one lap if none has ended."""


class Laps(Pace):
    """The pace of work that chooses its threads, lap by lap.

    Parameters
    ----------
    work : Work
    most : int
        Number of all threads; so many are set.
    set_threads : callable
        Sets the number for the calling thread.
    """

    def __init__(
        self,
        work: Work,
        most: int,
        set_threads: Callable[[int], object],
        cores: Cores | None = None,
    ):
        super().__init__(most)
        self._work, self._most, self._set_threads = work, most, set_threads
        self._cores, self._has_lapped = CORES if cores is None else cores, False
        self._kind = self._cores.kind((work, most))
        self._choose()
        self.start()

    def start(self) -> None:
        self._began = self._cores.clock(), self._cores.own_clock()

    def lap(self) -> None:
        (began, own_began), self._has_lapped = self._began, True
        self.start()
        self._kind.add(self._began[0] - began, self._began[1] - own_began)
        self._cores.judge(self._kind, self.threads > 1)
        self._choose()

    def close(self) -> None:
        if not self._has_lapped:
            self.lap()

    def _choose(self) -> None:
        threads = self._most if self._cores.are_free() else 1
        if threads != self.threads and self._is_steady():
            self.threads = threads
            self._kind.forget()
            self._set_threads(threads)
            self.start()

    def _is_steady(self) -> bool:
        """Whether one thread gives the bits of all."""
        if self._kind.steady is None:
            results = []
            for threads in (self._most, 1):
                self._set_threads(threads)
                results.append(self._work())
            self._set_threads(self.threads)
            self._kind.steady = all(map(torch.equal, *results))
        return self._kind.steady
