"""Units of work whose callers wait in an event loop."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any

from digital_twins.storage._groups import Failed

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Mailbox:
    """Takes outcomes from the writer thread into one event loop, which is woken once for all of a group.

    Waking a loop is a system call and a change of threads: for each unit it would cost more than its SQL.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._outcomes: deque[tuple[asyncio.Future[Any], Any]] = deque()
        self._ringing = False

    def put(self, future: asyncio.Future[Any], outcome: Any) -> None:
        """Hand an outcome over; nobody is told where the loop is closed."""
        self._outcomes.append((future, outcome))
        if not self._ringing:
            self._ringing = True
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._ringing = False  # first: what is put from now on rings again
        while self._outcomes:
            future, outcome = self._outcomes.popleft()
            if future.done():
                continue
            if isinstance(outcome, Failed):
                future.set_exception(outcome.error)
            else:
                future.set_result(outcome)


class Looped:
    """A unit whose caller awaits it."""

    __slots__ = ("_mailbox", "future", "work")

    def __init__(self, work: Callable[[Any], Any], mailbox: Mailbox) -> None:
        self.work = work
        self.future: asyncio.Future[Any] = mailbox.loop.create_future()
        self._mailbox = mailbox

    def start(self) -> bool:
        return not self.future.cancelled()

    def resolve(self, outcome: Any) -> None:
        self._mailbox.put(self.future, outcome)
