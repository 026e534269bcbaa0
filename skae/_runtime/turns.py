"""Few rows at a time, from many threads: one thread at a time computes, for those that wait too.

torch lets another thread run Python in each of its operations. Threads of a server that each
compute a row would change places a hundred times a row, at a quarter of their speed. So they take
turns, and rows that wait for the same are computed in one pass, which takes hardly longer (Hendler
et al., "Flat combining and the synchronization-parallelism tradeoff", 2010).
"""

import os
import sys
from collections.abc import Callable, Hashable
from threading import Condition, RLock, get_ident

import numpy as np

# Whether Python runs one thread at a time.
_ONE_AT_A_TIME = getattr(sys, "_is_gil_enabled", lambda: True)()

# Seconds that a thread waits for its turn, at most, so that nothing can hang.
_PATIENCE = 1.0

# Seconds that a turn waits for callers of the last one, at most: about what a pass takes.
_COMPANY = 1e-3

# What makes an array of rows, of each row by itself.
OfRows = Callable[[np.ndarray], np.ndarray]


class _Call:
    """Rows of one caller, and what was made of them."""

    def __init__(self, rows: np.ndarray, kind: Hashable):
        self.rows, self.kind = rows, kind
        self.result: np.ndarray | None = None


class Turns:
    """Turns of threads that each compute a few rows.

    Parameters
    ----------
    most : int
        Rows that are computed in one pass, at most.
    """

    def __init__(self, most: int):
        self._most = most
        self._begin()
        if hasattr(os, "register_at_fork"):  # There is no other thread in the child.
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._lock = RLock()
        self._over, self._came = Condition(self._lock), Condition(self._lock)
        self._leader: int | None = None
        self._waiting, self._last = list[_Call](), 1

    def compute(self, function: OfRows, rows: np.ndarray, kind: Hashable = None) -> np.ndarray:
        """What ``function`` makes of some rows, in a turn of this thread or of another one.

        Calls of one ``kind`` are computed together: their rows are alike, their functions do the
        same, and no row's result depends on the others. None stands for a call by itself.
        """
        me = get_ident()
        if not _ONE_AT_A_TIME or self._leader == me:
            return function(rows)
        call, calls = None, []
        try:
            with self._lock:
                if self._leader is None and self._last == 1 and not self._waiting:
                    self._leader = me  # A thread alone waits for nobody.
                else:
                    call = _Call(rows, kind)
                    calls = self._joined(me, call)
            if len(calls) > 1:
                _compute(function, calls)
            return function(rows) if call is None or call.result is None else call.result
        finally:
            if self._leader == me:
                with self._lock:
                    self._leader = None
                    if self._waiting:
                        self._waiting = [each for each in self._waiting if each.result is None]
                        self._over.notify_all()

    def _joined(self, me: int, call: _Call) -> list[_Call]:
        """Wait for a result or for the turn, but not for ever; calls to compute in the turn."""
        self._waiting.append(call)
        self._came.notify()
        try:
            self._over.wait_for(lambda: call.result is not None or self._leader is None, _PATIENCE)
        finally:
            if call in self._waiting:
                self._waiting.remove(call)
        if call.result is not None or self._leader is not None:
            return []
        self._leader = me
        return self._together(call)

    def _together(self, call: _Call) -> list[_Call]:
        """The call and those of its kind that wait, as many as are computed in one pass."""
        if call.kind is None:
            self._last = 1
            return [call]
        # Those that were answered together last time may be about to ask again.
        self._came.wait_for(lambda: len(self._waiting) + 1 >= self._last, _COMPANY)
        calls, n_rows = [call], len(call.rows)
        for other in self._waiting:
            if other.kind == call.kind and n_rows + len(other.rows) <= self._most:
                n_rows += len(other.rows)
                calls.append(other)
        self._last = len(calls)
        return calls


def _compute(function: OfRows, calls: list[_Call]) -> None:
    """Give the calls their results, computed in one pass; after an error, each is to try alone."""
    try:
        result = function(np.concatenate([call.rows for call in calls]))
    except Exception:
        for call in calls:
            call.kind = None
        return
    start = 0
    for call in calls:
        stop = start + len(call.rows)
        # A part of its own: callers may write into it.
        call.result, start = result[start:stop].copy(), stop
