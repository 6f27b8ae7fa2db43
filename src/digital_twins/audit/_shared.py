"""Group commit for the trail: callers that come while a commit is under way share the next one."""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Row = tuple[str, str]
"""Event id and canonical form."""


class _Call:
    """The rows of one caller and what became of them."""

    __slots__ = ("bell", "count", "error", "gone", "leads", "next", "rows", "rung")

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.count = 0
        self.error: BaseException | None = None
        self.leads = False
        self.next: _Call | None = None  # who is woken after this one
        self.rung = self.gone = False
        self.bell = threading.Lock()
        self.bell.acquire()


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
        self._waiting: list[_Call] = []
        self._busy = False

    def append(self, rows: Sequence[Row]) -> int:
        """Record rows and return, once they are durable, how many were new; raises what `record` raises."""
        with self._mutex:
            call = _Call(rows) if self._busy else None
            if call is None:
                self._busy = True
            else:
                self._waiting.append(call)
        if call is None:
            return self._alone(rows)
        try:
            call.bell.acquire()
            if not call.leads:
                self._ring(call.next)
        except BaseException:  # a signal handler raised: nobody waits for this call any more
            self._leave(call)
            raise
        if call.leads:
            self._lead(call)
        if call.error is not None:
            raise call.error
        return call.count

    def _alone(self, rows: Sequence[Row]) -> int:
        try:
            return self._record([rows])[0]
        finally:
            self._pass_on()

    def _lead(self, own: _Call) -> None:
        with self._mutex:
            group, self._waiting = self._waiting, []
        try:
            self._run(group, own)
        finally:
            others = [call for call in group if call is not own]
            for call, follower in pairwise(others):
                call.next = follower
            self._pass_on()
            self._ring(others[0] if others else None)

    def _run(self, group: Sequence[_Call], own: _Call) -> None:
        try:
            counts = self._record([call.rows for call in group])
        except BaseException as error:  # noqa: BLE001  (raised in the threads that it concerns)
            self._one_by_one(group, own, failure=error)
            return
        for call, count in zip(group, counts, strict=True):
            call.count = count

    def _one_by_one(self, group: Sequence[_Call], own: _Call, *, failure: BaseException) -> None:
        """Record every caller's rows alone; an interrupt of this thread is its own caller's alone."""
        for call in group:
            if len(group) == 1 or (call is own and not isinstance(failure, Exception)):
                call.error = failure
                continue
            try:
                (call.count,) = self._record([call.rows])
            except BaseException as error:  # noqa: BLE001  (raised in the thread of its caller)
                call.error = error

    def _pass_on(self) -> None:
        with self._mutex:
            if not self._waiting:
                self._busy = False
                return
            self._waiting[0].leads = True
            self._waiting[0].bell.release()

    def _ring(self, call: _Call | None) -> None:
        """Wake a caller, or the first behind it that is still there."""
        with self._mutex:
            while call is not None and call.gone:
                call.rung = True
                call = call.next
            if call is not None and not call.rung:
                call.rung = True
                call.bell.release()

    def _leave(self, call: _Call) -> None:
        with self._mutex:
            waits = call in self._waiting
            if waits:
                self._waiting.remove(call)
            call.gone = True
            rung = call.rung
        if waits and call.leads:
            self._pass_on()
        elif rung:
            self._ring(call.next)
