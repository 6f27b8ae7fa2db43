"""Group commit for the trail: callers that come while a commit is under way share the next one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Row = tuple[str, str]
"""Event id and canonical form."""


class _Call:
    """The rows of one caller and what became of them."""

    __slots__ = ("count", "error", "rows")

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.count = 0
        self.error: BaseException | None = None


class _Group:
    """Callers of one commit: the first commits when it is their `turn`, the others wait for `done`."""

    __slots__ = ("calls", "done", "turn")

    def __init__(self) -> None:
        self.calls: list[_Call] = []
        self.turn, self.done = threading.Lock(), threading.Lock()
        self.turn.acquire()
        self.done.acquire()


class SharedAppend:
    """Appends rows for many threads with one commit for all who wait at one moment.

    No thread of its own: who finds nobody at work commits at once in its own thread. Who comes meanwhile
    waits; the first of them then commits for all. So while the disk flushes one group, the callers of the
    one before prepare their next events, and a lone caller pays for no change of threads. The callers of a
    group wake each other in turn: woken all at once, they would fight for the interpreter.

    Parameters
    ----------
    record
        Records the rows of each caller, in their order, in one transaction and returns for each caller how
        many of them were new; raises when none was recorded. A group that fails is recorded again caller by
        caller, so that nobody pays for another's rows.
    """

    def __init__(self, record: Callable[[Sequence[Sequence[Row]]], Sequence[int]]) -> None:
        self._record = record
        self._mutex = threading.Lock()
        self._next: _Group | None = None
        self._busy = False

    def append(self, rows: Sequence[Row]) -> int:
        """Record rows and return, once they are durable, how many were new; raises what `record` raises."""
        with self._mutex:
            group = self._next
            if not self._busy:
                self._busy = True
                call = None
            else:
                if group is None:
                    group = self._next = _Group()
                call = _Call(rows)
                group.calls.append(call)
        if call is None or group is None:
            try:
                return self._record([rows])[0]
            finally:
                self._pass_on()
        if group.calls[0] is call:
            self._lead(group)
        else:
            with group.done:  # who gets it lets the next one have it, and so on
                pass
        if call.error is not None:
            raise call.error
        return call.count

    def _lead(self, group: _Group) -> None:
        interrupt = _patiently(group.turn)
        with self._mutex:
            self._next = None
        try:
            self._run(group.calls)
        finally:
            self._pass_on()
            group.done.release()
        if interrupt is not None:
            raise interrupt

    def _run(self, calls: Sequence[_Call]) -> None:
        try:
            counts = self._record([call.rows for call in calls])
        except BaseException as error:  # noqa: BLE001  (raised in the threads that it concerns)
            self._one_by_one(calls, failure=error)
            return
        for call, count in zip(calls, counts, strict=True):
            call.count = count

    def _one_by_one(self, calls: Sequence[_Call], *, failure: BaseException) -> None:
        """Record every caller's rows alone; an interrupt of this thread, the first's, is its own alone."""
        for call in calls:
            if len(calls) == 1 or (call is calls[0] and not isinstance(failure, Exception)):
                call.error = failure
                continue
            try:
                (call.count,) = self._record([call.rows])
            except BaseException as error:  # noqa: BLE001  (raised in the thread of its caller)
                call.error = error

    def _pass_on(self) -> None:
        with self._mutex:
            if self._next is None:
                self._busy = False
            else:
                self._next.turn.release()


def _patiently(lock: threading.Lock) -> BaseException | None:
    """Acquire a lock whatever signal handlers raise; return that: others wait for this thread."""
    interrupt: BaseException | None = None
    while True:
        try:
            lock.acquire()
        except BaseException as error:  # noqa: BLE001  (raised once the others have their answers)
            interrupt = error
        else:
            return interrupt
