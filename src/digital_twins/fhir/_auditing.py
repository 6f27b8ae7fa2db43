"""One audit event for each interaction, in the same transaction as the write that it speaks of."""

from __future__ import annotations

import re
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from digital_twins._errors import StorageError
from digital_twins._logging import get_logger
from digital_twins.audit import plain_row, stage_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import apsw

    from digital_twins.storage import Database

_PATIENT = re.compile(r"(?:^|/)Patient/([A-Za-z0-9.\-]{1,64})(?:$|/_history/)")
_HOLDERS = ("subject", "patient", "beneficiary", "individual", "for")


def patient_of(resource: Mapping[str, Any]) -> str | None:
    """Return the id of the Patient that a resource speaks of, or None."""
    if resource.get("resourceType") == "Patient":
        name = resource.get("id")
        return name if isinstance(name, str) else None
    for holder in _HOLDERS:
        reference = resource.get(holder)
        if isinstance(reference, dict):
            match = _PATIENT.search(str(reference.get("reference", "")))
            if match:
                return match[1]
    return None


_Read = tuple[Literal["R", "E"], str, str, str | None, str | None, int]

READ_DELAY_S = 0.05
"""Longest time that the event of a read waits for company before it is written."""
_RETRY_S = 1.0
_MOST = 100_000
_INSERT = "INSERT OR IGNORE INTO audit_outbox(event_id, body) VALUES (?, ?)"
"""A write whose commit was not confirmed may have arrived all the same: then the event is there already."""


class Auditor:
    """Writes audit events; reads are gathered for 50 ms so that each does not cost a disk sync of its own.

    What cannot be written, as the disk is full, waits in memory (the newest 100,000) and is tried again.

    Parameters
    ----------
    database
        Where the outbox is.
    pseudonym
        Turns a Patient id into what the trail may hold; without it no patient is recorded.
    """

    def __init__(self, database: Database, pseudonym: Callable[[str], str] | None = None) -> None:
        self._database = database
        self._pseudonym = pseudonym
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._reads: list[_Read] = []
        self._unwritten: list[tuple[str, str]] = []
        self._timer: threading.Timer | None = None

    def changed(
        self,
        cursor: apsw.Cursor,
        action: Literal["C", "U", "D", "E"],
        kind: str,
        *,
        agent: str,
        entity: str,
        patient: str | None,
        detail: Mapping[str, str | int],
    ) -> None:
        """Put a successful event into the transaction of the write that it speaks of.

        E.g. ``changed(cursor, "C", "fhir.create", agent="dr.x", entity="Patient/1", ...)``.
        """
        row = self._row(action, kind, agent, entity, patient, time.time_ns() // 1000, detail)
        stage_rows(cursor, [row])

    def read(
        self, action: Literal["R", "E"], kind: str, *, agent: str, entity: str | None, patient: str | None
    ) -> None:
        """Take the event of a read: durable within about 50 ms, without making the reader wait.

        Its text is made when it is written, beside those of others.
        """
        with self._lock:
            self._reads.append((action, kind, agent, entity, patient, time.time_ns() // 1000))
            self._arm(READ_DELAY_S)

    def flush(self) -> None:
        """Write the waiting events of reads and return when they are durable."""
        with self._flushing:  # events that another thread is writing now are waited for too
            with self._lock:
                reads, self._reads = self._reads, []
                timer, self._timer = self._timer, None
            if timer is not None:
                timer.cancel()
            rows, again = [self._row(*each) for each in reads], self._unwritten
            if not rows and not again:
                return
            self._unwritten = [*again, *rows][-_MOST:]
            self._database.write(partial(_write, new=rows, again=again))
            self._unwritten = []

    def _arm(self, delay_s: float) -> None:
        if self._timer is None:
            self._timer = threading.Timer(delay_s, self._flush_late)
            self._timer.daemon = True
            self._timer.start()

    def _row(
        self,
        action: Literal["C", "R", "U", "D", "E"],
        kind: str,
        agent: str,
        entity: str | None,
        patient: str | None,
        at_us: int,
        detail: Mapping[str, str | int] | None = None,
    ) -> tuple[str, str]:
        shown = self._pseudonym(patient) if self._pseudonym and patient else None
        return plain_row(action, kind, agent, entity=entity, patient=shown, at_us=at_us, detail=detail)

    def _flush_late(self) -> None:
        try:
            self.flush()
        except StorageError as error:
            if self._database.closed:
                get_logger(__name__).exception("fhir.audit.lost", error=error)
                return
            get_logger(__name__).warning("fhir.audit.waits", what=error.what, count=len(self._unwritten))
            with self._lock:
                self._arm(_RETRY_S)


def _write(cursor: apsw.Cursor, new: Sequence[tuple[str, str]], again: Sequence[tuple[str, str]]) -> None:
    if again:
        cursor.executemany(_INSERT, again)
    stage_rows(cursor, new)
