"""Threads that work on the objects that arrive."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Work = Callable[[], None]


class Keepers:
    """Threads that work on objects; handing work over costs a fraction of what an executor needs.

    The thread that was busy last is woken first: its memory is still in the caches. It sleeps in a read of a
    pipe, so that the write that wakes it lets go of the interpreter lock: it starts at once, where a lock or
    a queue would wake it only to wait for that lock.

    Parameters
    ----------
    count
        How many.
    name
        Of the threads, before their number.
    """

    def __init__(self, count: int, name: str) -> None:
        self._mutex = threading.Lock()
        self._waiting: deque[Work] = deque()
        self._closed = False
        self._threads = [_Keeper(self._next, f"{name}-{number}") for number in range(count)]
        self._idle = [*self._threads]
        for thread in self._threads:
            thread.start()

    def put(self, work: Work) -> None:
        """Queue a piece of work, which must not raise."""
        with self._mutex:
            if not self._idle:
                self._waiting.append(work)
                return
            thread = self._idle.pop()
        thread.wake(work)

    @property
    def idle(self) -> int:
        """Threads that have nothing to do."""
        return len(self._idle)

    def close(self) -> None:
        """Finish what is queued and end the threads."""
        with self._mutex:
            self._closed = True
            idle, self._idle = self._idle, []
        for thread in idle:
            thread.wake(None)
        for thread in self._threads:
            thread.join()

    def _next(self, thread: _Keeper) -> tuple[bool, Work | None]:
        """Return whether the thread goes on at once, and with what: nothing ends it."""
        with self._mutex:
            if self._waiting:
                return True, self._waiting.popleft()
            if self._closed:
                return True, None
            self._idle.append(thread)
        return False, None


class _Keeper(threading.Thread):
    def __init__(self, following: Callable[[_Keeper], tuple[bool, Work | None]], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._following = following
        self._work: Work | None = None
        self._sleep, self._wake = os.pipe()

    def wake(self, work: Work | None) -> None:
        """Start a sleeping thread on a piece of work; nothing ends it."""
        self._work = work
        os.write(self._wake, b"1")

    def run(self) -> None:
        """Work until there is nothing more to come."""
        try:
            work = self._slept()
            while work is not None:
                work()
                del work  # holds the bytes of the object
                at_once, work = self._following(self)
                if not at_once:
                    work = self._slept()
        finally:
            os.close(self._sleep)
            os.close(self._wake)

    def _slept(self) -> Work | None:
        os.read(self._sleep, 1)
        work, self._work = self._work, None
        return work
