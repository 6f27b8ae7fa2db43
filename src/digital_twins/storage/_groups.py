"""Group commit: units of work that wait at one moment share one transaction, whatever the database."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

_BATCH_LIMIT = 512
"""Units of work in one transaction: bounds how long the first of them waits for its answer."""
_LONGEST_PATIENCE_S = 0.001
"""Most time that a group waits for callers that were there a moment ago."""


class Failed:
    """The outcome of a unit that raised."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class GroupsClosedError(Exception):
    """No further unit is taken."""


class Unit(Protocol):
    """A unit of work and the caller that waits for its outcome."""

    work: Callable[[Any], Any]

    def start(self) -> bool:
        """Tell whether the caller still wants it; from now on it cannot be cancelled."""
        ...

    def resolve(self, outcome: Any) -> None:
        """Hand the outcome to the caller: a value, or Failed."""
        ...


class _Promised:
    """A unit whose caller holds a future."""

    __slots__ = ("future", "work")

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.work = work
        self.future: Future[Any] = Future()

    def start(self) -> bool:
        return self.future.set_running_or_notify_cancel()

    def resolve(self, outcome: Any) -> None:
        if isinstance(outcome, Failed):
            self.future.set_exception(outcome.error)
        else:
            self.future.set_result(outcome)


class _Awaited:
    """A unit whose caller's thread sleeps until it is done: a bare lock costs a tenth of a future."""

    __slots__ = ("_done", "_outcome", "work")

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.work = work
        self._outcome: Any = None
        self._done = threading.Lock()
        self._done.acquire()

    def start(self) -> bool:
        return True

    def resolve(self, outcome: Any) -> None:
        self._outcome = outcome
        self._done.release()

    def result(self) -> Any:
        self._done.acquire()
        return self._outcome


class GroupCommit:
    """Runs units of work one group at a time; a group is one transaction.

    A caller that finds nobody else runs its unit in its own thread, which saves two thread switches. As soon
    as callers meet, one writer thread takes everything that waits; it then gives the callers of the last
    group a moment (at most half a commit) to come back, so that one flush of the disk answers them all.

    Parameters
    ----------
    run
        Runs the units in one transaction and gives each one its outcome; never raises.
    name
        Of the writer thread.
    """

    def __init__(self, run: Callable[[Sequence[Unit]], None], name: str) -> None:
        self._run = run
        self._mutex = threading.Lock()
        self._waiting: deque[Unit] = deque()
        self._closed = False
        self._leader: int | None = None  # thread that runs a group now
        self._alarm = 0  # the writer thread sleeps until so many units wait; 0: it is awake
        self._bell = threading.Lock()
        self._bell.acquire()
        self._recent = 1  # units in the last group
        self._run_s = 0.0  # running mean of the time that a group takes
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Any], T]) -> Future[T]:
        """Queue a unit and return its future; GroupsClosedError after `close`."""
        unit = _Promised(work)
        self.queue(unit)
        return unit.future

    def write(self, work: Callable[[Any], Any]) -> Any:
        """Run a unit and return its outcome, a value or Failed; GroupsClosedError after `close`."""
        me = threading.get_ident()
        if self._leader == me:
            raise RuntimeError("write() inside a unit of work would wait for itself: use the cursor you have")
        unit = _Awaited(work)
        if not self.lead():
            self.queue(unit)
            return unit.result()
        try:
            self._run([unit])
        finally:
            self.follow()
        return unit.result()

    def lead(self) -> bool:
        """Take the lead if nobody else is there: until `follow` no unit runs but what the caller runs."""
        with self._mutex:
            alone = (
                self._alarm == 1 and self._recent == 1 and self._leader is None and not self._closed
            ) and not self._waiting
            if alone:
                self._leader = threading.get_ident()
        return alone

    def follow(self) -> None:
        """Give the lead back."""
        with self._mutex:
            self._leader = None
            if self._waiting or self._closed:
                self._ring()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """Finish what waits and end the writer thread."""
        with self._mutex:
            self._closed = True
            self._ring()
        self._thread.join()

    def queue(self, unit: Unit) -> None:
        """Queue a unit that knows how to answer its caller; GroupsClosedError after `close`."""
        with self._mutex:
            if self._closed:
                raise GroupsClosedError
            self._waiting.append(unit)
            self._ring()

    def _ring(self) -> None:
        """Wake the writer thread when there is reason to; called with the mutex held."""
        if self._alarm and self._leader is None and (self._closed or len(self._waiting) >= self._alarm):
            self._alarm = 0
            self._bell.release()

    def _sleep_until(self, count: int, longest_s: float = -1) -> None:
        """Sleep until `count` units wait, nobody leads, or the time is over (-1: no limit)."""
        with self._mutex:
            if self._closed or len(self._waiting) >= count:
                return
            self._alarm = count
        rung = self._bell.acquire(timeout=longest_s)
        if not rung:
            with self._mutex:
                if self._alarm == 0:  # rung at the last moment
                    self._bell.acquire()
                self._alarm = 0

    def _serve(self) -> None:
        me = threading.get_ident()
        while True:
            self._sleep_until(1)
            if self._recent > 1:
                self._sleep_until(self._recent, min(self._run_s / 2, _LONGEST_PATIENCE_S))
            with self._mutex:
                units = [self._waiting.popleft() for _ in range(min(len(self._waiting), _BATCH_LIMIT))]
                if not units and self._closed:
                    return
                self._leader = me
            units = [unit for unit in units if unit.start()]
            if units:
                start = time.perf_counter()
                self._run(units)
                self._run_s += 0.1 * (time.perf_counter() - start - self._run_s)
                self._recent = len(units)
            with self._mutex:
                self._leader = None
