"""Sends a trail's rows and checkpoints to a syslog receiver, at least once each and in their order."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from digital_twins._errors import StorageError
from digital_twins._logging import get_logger
from digital_twins.audit._checkpoint import CheckpointFile
from digital_twins.audit._event import AuditEvent
from digital_twins.audit._reading import export_trail
from digital_twins.audit._syslog import SyslogConnection, checkpoint_message, event_message

if TYPE_CHECKING:
    from pathlib import Path

    from digital_twins.audit._syslog import SyslogTarget

_BATCH = 200
_REPEAT_S = 5.0
"""After a break, rows that were acknowledged in these last seconds are sent again."""
_POLL_S = 0.5
_RETRY_S = 5.0
_log = get_logger(__name__)


class SyslogForwarder:
    """Follows a trail and sends what is new; ``<trail>.syslog`` remembers how far that got.

    A receiver may get rows twice, after a break or a restart; ``meta sequenceId`` and the event id tell.

    Parameters
    ----------
    trail
        The trail's file.
    target
        Who gets it.
    """

    def __init__(self, trail: Path, target: SyslogTarget) -> None:
        self._trail = trail
        self._target = target
        self._state = trail.with_suffix(".syslog")
        self._sent, self._signed = self._read()
        self._recent: deque[tuple[float, int]] = deque()
        self._connection: SyslogConnection | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def send_new(self) -> int:
        """Send everything that is new and return the number of rows.

        Raises
        ------
        StorageError
            The receiver cannot be reached, or the trail cannot be read; the next call goes on.
        """
        count = 0
        try:
            while batch := self._next():
                self._deliver([event_message(event, sequence=row) for row, event in batch])
                self._sent = batch[-1][0]
                self._recent.append((time.monotonic(), self._sent))
                count += len(batch)
            self._send_checkpoint()
        except StorageError:
            self._rewind()
            raise
        finally:
            self._remember()
        return count

    def start(self) -> None:
        """Follow the trail in a thread until `close`; failures are logged and tried again."""
        self._thread = threading.Thread(target=self._follow, name="audit syslog", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send what is new once more, if the receiver is there, and end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            with contextlib.suppress(StorageError):
                self.send_new()
        self._drop()

    def _follow(self) -> None:
        while not self._stop.is_set():
            wait_s = _POLL_S
            try:
                self.send_new()
            except StorageError as error:
                _log.error("audit.syslog.failed", what=error.what, why=error.why)
                wait_s = _RETRY_S
            self._stop.wait(wait_s)

    def _next(self) -> list[tuple[int, AuditEvent]]:
        found = []
        for line in export_trail(self._trail, after=self._sent):
            row = json.loads(line)
            found.append((row["seq"], AuditEvent(**row["event"])))
            if len(found) == _BATCH:
                break
        return found

    def _send_checkpoint(self) -> None:
        newest = CheckpointFile(self._trail.with_suffix(".checkpoints")).newest()
        if newest is None or newest.size <= self._signed or newest.size > self._sent:
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        node = newest.origin.rpartition("/")[2]
        self._deliver([checkpoint_message(newest.note, at_utc=now, node=node)])
        self._signed = newest.size

    def _deliver(self, messages: list[bytes]) -> None:
        if self._connection is None:
            self._connection = SyslogConnection(self._target)
        self._connection.send(messages)

    def _rewind(self) -> None:
        self._drop()
        self._sent = self._safe()
        self._recent.clear()

    def _safe(self) -> int:
        """Return the last row that was acknowledged long enough ago; what came later is sent again."""
        limit = time.monotonic() - _REPEAT_S
        while len(self._recent) > 1 and self._recent[1][0] < limit:
            self._recent.popleft()
        known = self._read()[0]
        if self._recent and self._recent[0][0] < limit:
            return max(known, self._recent[0][1])
        return known

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _read(self) -> tuple[int, int]:
        try:
            state = json.loads(self._state.read_text("utf-8"))
            return int(state["row"]), int(state["checkpoint"])
        except (OSError, ValueError, KeyError):
            return 0, 0

    def _remember(self) -> None:
        known = self._safe(), self._signed
        if known == self._read():
            return
        fresh = self._state.with_name(f"{self._state.name}.{os.getpid()}")
        with contextlib.suppress(OSError):  # a full disk: rows are sent twice, none is lost
            fresh.write_text(json.dumps(dict(zip(("row", "checkpoint"), known, strict=True))), "utf-8")
            fresh.replace(self._state)
