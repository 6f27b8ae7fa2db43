"""Events that have no write of their own to go with: they are queued, and outlast a full disk in memory."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING

from digital_twins._errors import StorageError
from digital_twins._logging import get_logger
from digital_twins.audit._outbox import stage

if TYPE_CHECKING:
    from digital_twins.audit._event import AuditEvent
    from digital_twins.storage import Database

RETRY_S = 1.0
_MOST = 100_000
_INSERT = "INSERT OR IGNORE INTO audit_outbox(event_id, body) VALUES (?, ?)"
"""A write whose commit was not confirmed may have arrived all the same: then the event is there already."""
_log = get_logger(__name__)


class LateEvents:
    """Writes events of reads and refusals; one that the database does not take now is written later.

    A node whose disk is full goes on reading, and what was read is owed to the trail. Such events wait in
    memory, the newest 100,000 of them, and are tried again once a second. They are lost, and the log says
    so, when the node ends before there is room.

    Parameters
    ----------
    database
        Where the outbox is.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._waiting: deque[AuditEvent] = deque(maxlen=_MOST)
        self._timer: threading.Timer | None = None

    @property
    def waiting(self) -> int:
        """How many events wait for room."""
        return len(self._waiting)

    def record(self, event: AuditEvent) -> Future[None]:
        """Queue an event; the future resolves once it is durable, or waits because nothing can be written.

        Raises
        ------
        StorageError
            The database is closed.
        """
        settled: Future[None] = Future()

        def done(written: Future[None]) -> None:
            error = written.exception()
            if isinstance(error, StorageError):
                self._keep([event])
                error = None
            if error is None:
                settled.set_result(None)
            else:
                settled.set_exception(error)

        self._database.submit(lambda cursor: stage(cursor, event)).add_done_callback(done)
        return settled

    def _keep(self, events: list[AuditEvent]) -> None:
        with self._lock:
            lost = max(0, len(self._waiting) + len(events) - _MOST)
            self._waiting.extend(events)
            if self._timer is None:
                self._timer = threading.Timer(RETRY_S, self._again)
                self._timer.daemon = True
                self._timer.start()
        if lost:
            _log.error("audit.lost", count=lost)

    def _again(self) -> None:
        with self._lock:
            events, self._timer = [*self._waiting], None
            self._waiting.clear()
        try:
            rows = [(event.event_id, event.to_json()) for event in events]
            self._database.write(lambda cursor: cursor.executemany(_INSERT, rows) and None)
        except StorageError as error:
            if self._database.closed:
                _log.error("audit.lost", count=len(events), what=error.what)
            else:
                self._keep(events)
