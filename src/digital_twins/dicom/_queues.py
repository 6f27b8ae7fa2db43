"""The persistent queues of outgoing objects, one a destination."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digital_twins._errors import NotFoundError
from digital_twins.audit import AuditEvent, stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    import apsw

    from digital_twins.dicom._stored import Prepared
    from digital_twins.storage import Database

_WAITING, _DEAD = "waiting", "dead"
_COLUMNS = (
    "e.id, e.destination, e.study_uid, e.sop_uid, e.sop_class_uid, e.transfer_syntax, e.blob,"
    " e.dataset_offset, e.size_bytes, e.patient, e.deidentify, e.attempts, e.error"
)


@dataclass(frozen=True, slots=True)
class Backoff:
    """When a destination or an object is tried again.

    Attributes
    ----------
    first_s, longest_s
        Pause after the first failure; it doubles with each further one up to the longest.
    attempts
        Refusals after which an object is a dead letter. A destination that cannot be reached costs its
        objects no attempt: the queue waits.
    """

    first_s: float = 2.0
    longest_s: float = 300.0
    attempts: int = 10

    def pause_s(self, failures: int) -> float:
        """Return the pause after so many failures in a row, in seconds."""
        return float(min(self.first_s * 2.0 ** min(failures - 1, 60), self.longest_s))


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """One object on its way to one destination; its bytes are fixed when it is queued.

    Attributes
    ----------
    digest
        Names the Part 10 file in the blob store.
    patient
        Pseudonym for the audit trail.
    deidentify
        What must still be applied to it.
    error
        Why the last attempt failed.
    """

    id: int
    destination: str
    study_uid: str
    sop_uid: str
    sop_class_uid: str
    transfer_syntax: str
    digest: str
    dataset_offset: int
    size_bytes: int
    patient: str | None
    deidentify: str
    attempts: int
    error: str


@dataclass(frozen=True, slots=True)
class QueueState:
    """How a queue stands.

    Attributes
    ----------
    waiting, dead
        Objects that are to be sent, and dead letters.
    oldest_s
        Age of the oldest waiting object, in seconds; 0 when none waits.
    sent, failed
        Objects sent and attempts failed since the queue exists.
    next_attempt_s
        Seconds until an unreachable destination is tried again; 0: now.
    error
        Why the destination was not reached the last time; '' when it was.
    """

    destination: str
    paused: bool
    waiting: int
    dead: int
    oldest_s: float
    sent: int
    failed: int
    next_attempt_s: float
    error: str


class SendQueues:
    """The queues of outgoing objects in a database with `digital_twins.dicom.MIGRATIONS`.

    An object leaves its queue only after the destination has acknowledged it: it is sent at least once,
    always with the same bytes and SOP Instance UID, over crashes and restarts too.
    """

    def __init__(self, database: Database, backoff: Backoff | None = None) -> None:
        self._database = database
        self.backoff = backoff or Backoff()

    def put_in(
        self,
        cursor: apsw.Cursor,
        destination: str,
        prepared: Prepared,
        *,
        stable_at: float | None = None,
        deidentify: str = "",
        patient: str | None = None,
    ) -> None:
        """Queue a stored object inside the caller's transaction.

        Parameters
        ----------
        stable_at
            Seconds since 1970-01-01 UTC before which neither it nor what waits of its study is sent, unless
            more of the study arrives; None sends it at once.
        """
        header = prepared.header
        cursor.execute("INSERT OR IGNORE INTO dicom_queue (destination) VALUES (?)", (destination,))
        cursor.execute(
            "INSERT INTO dicom_queue_entry (destination, study_uid, sop_uid, sop_class_uid, transfer_syntax,"
            " blob, dataset_offset, size_bytes, patient, hold, deidentify, state, queued)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'waiting', ?)",
            (
                *(destination, header.study_uid, header.sop_uid, header.sop_class_uid),
                *(header.transfer_syntax, prepared.digest, prepared.dataset_offset, prepared.size_bytes),
                *(patient, int(stable_at is not None), deidentify, time.time()),
            ),
        )
        if stable_at is not None:
            cursor.execute(
                "INSERT INTO dicom_queue_study (destination, study_uid, due) VALUES (?, ?, ?)"
                " ON CONFLICT (destination, study_uid) DO UPDATE SET due = excluded.due",
                (destination, header.study_uid, stable_at),
            )

    def due(self, destination: str, *, limit: int = 64) -> list[QueueEntry]:
        """Return what is to be sent now, oldest first; nothing while the queue is paused or waits."""
        now = time.time()
        with self._database.read() as connection:
            rows: list[Any] = connection.execute(
                f"SELECT {_COLUMNS} FROM dicom_queue_entry e JOIN dicom_queue q USING (destination)"  # noqa: S608  (own names; values are bound)  # nosec B608
                " WHERE e.destination = ? AND e.state = 'waiting' AND e.not_before <= ?"
                " AND q.paused = 0 AND q.not_before <= ?"
                " AND NOT (e.hold = 1 AND EXISTS (SELECT 1 FROM dicom_queue_study s"
                "  WHERE s.destination = e.destination AND s.study_uid = e.study_uid AND s.due > ?))"
                " ORDER BY e.id LIMIT ?",
                (destination, now, now, now, limit),
            ).fetchall()
        return [QueueEntry(*row) for row in rows]

    def is_paused(self, destination: str) -> bool:
        """Whether an operator has paused the queue."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT paused FROM dicom_queue WHERE destination = ?", (destination,)
            ).fetchone()
        return row is not None and bool(row[0])

    def sent(self, entry: QueueEntry) -> Future[None]:
        """Take an acknowledged object out of its queue, with its audit event."""

        def work(cursor: apsw.Cursor) -> None:
            cursor.execute("DELETE FROM dicom_queue_entry WHERE id = ?", (entry.id,))
            cursor.execute(
                "UPDATE dicom_queue SET sent = sent + 1, failures = 0, not_before = 0, error = ''"
                " WHERE destination = ?",
                (entry.destination,),
            )
            stage(cursor, _event(entry, "success"))

        return self._database.submit(work)

    def refused(self, entry: QueueEntry, why: str) -> Future[None]:
        """Count a failed attempt: the object steps aside for its pause, or becomes a dead letter."""
        attempts = entry.attempts + 1
        dead = attempts >= self.backoff.attempts
        not_before = time.time() + self.backoff.pause_s(attempts)

        def work(cursor: apsw.Cursor) -> None:
            cursor.execute(
                "UPDATE dicom_queue_entry SET attempts = ?, not_before = ?, error = ?, state = ?"
                " WHERE id = ?",
                (attempts, not_before, why, _DEAD if dead else _WAITING, entry.id),
            )
            cursor.execute(
                "UPDATE dicom_queue SET failed = failed + 1 WHERE destination = ?", (entry.destination,)
            )
            if dead:
                stage(cursor, _event(entry, "failure", why=why))

        return self._database.submit(work)

    def unreachable(self, destination: str, why: str) -> Future[None]:
        """Let a whole queue wait because its destination does not answer."""

        def work(cursor: apsw.Cursor) -> None:
            row = cursor.execute(
                "UPDATE dicom_queue SET failures = failures + 1, error = ? WHERE destination = ?"
                " RETURNING failures",
                (why, destination),
            ).fetchone()
            pause_s = self.backoff.pause_s(int(str(row[0]))) if row else 0.0
            cursor.execute(
                "UPDATE dicom_queue SET not_before = ? WHERE destination = ?",
                (time.time() + pause_s, destination),
            )

        return self._database.submit(work)

    def fix_bytes(self, entry: QueueEntry) -> Future[None]:
        """Keep what an object has become by its de-identification, before it is sent the first time."""
        values = (entry.sop_uid, entry.sop_class_uid, entry.transfer_syntax, entry.digest)

        def work(cursor: apsw.Cursor) -> None:
            cursor.execute(
                "UPDATE dicom_queue_entry SET sop_uid = ?, sop_class_uid = ?, transfer_syntax = ?,"
                " blob = ?, dataset_offset = ?, size_bytes = ?, deidentify = '' WHERE id = ?",
                (*values, entry.dataset_offset, entry.size_bytes, entry.id),
            )

        return self._database.submit(work)

    def states(self) -> list[QueueState]:
        """Return how every queue stands, by destination."""
        now = time.time()
        with self._database.read() as connection:
            rows: list[Any] = connection.execute(
                "SELECT q.destination, q.paused,"
                " (SELECT count(*) FROM dicom_queue_entry e WHERE e.destination = q.destination"
                "  AND e.state = 'waiting'),"
                " (SELECT count(*) FROM dicom_queue_entry e WHERE e.destination = q.destination"
                "  AND e.state = 'dead'),"
                " (SELECT min(queued) FROM dicom_queue_entry e WHERE e.destination = q.destination"
                "  AND e.state = 'waiting'),"
                " q.sent, q.failed, q.not_before, q.error FROM dicom_queue q ORDER BY q.destination"
            ).fetchall()
        return [
            QueueState(
                row[0],
                bool(row[1]),
                row[2],
                row[3],
                max(now - row[4], 0.0) if row[4] is not None else 0.0,
                row[5],
                row[6],
                max(row[7] - now, 0.0),
                row[8],
            )
            for row in rows
        ]

    def state(self, destination: str) -> QueueState:
        """Return how one queue stands; raises NotFoundError."""
        for state in self.states():
            if state.destination == destination:
                return state
        raise _no_queue(destination)

    def dead_letters(self, destination: str, *, limit: int = 1000) -> list[QueueEntry]:
        """Return objects that were given up, oldest first; raises NotFoundError for an unknown queue."""
        self.state(destination)
        with self._database.read() as connection:
            rows: list[Any] = connection.execute(
                f"SELECT {_COLUMNS} FROM dicom_queue_entry e WHERE e.destination = ?"  # noqa: S608  (own names; values are bound)  # nosec B608
                " AND e.state = 'dead' ORDER BY e.id LIMIT ?",
                (destination, limit),
            ).fetchall()
        return [QueueEntry(*row) for row in rows]

    def pause(self, destination: str, *, agent: str = "operator") -> None:
        """Send nothing more to a destination until `resume`; raises NotFoundError for an unknown queue."""
        self._operate(destination, "pause", agent, lambda cursor: _set(cursor, destination, "paused = 1"))

    def resume(self, destination: str, *, agent: str = "operator") -> None:
        """End a pause, also that after failures; raises NotFoundError for an unknown queue."""
        self._operate(
            destination,
            "resume",
            agent,
            lambda cursor: _set(cursor, destination, "paused = 0, not_before = 0, failures = 0"),
        )

    def replay(self, destination: str, *, agent: str = "operator") -> int:
        """Put the dead letters of a destination back at their places and return how many.

        Raises
        ------
        NotFoundError
            No such queue.
        """

        def work(cursor: apsw.Cursor) -> int:
            rows = cursor.execute(
                "UPDATE dicom_queue_entry SET state = 'waiting', attempts = 0, not_before = 0"
                " WHERE destination = ? AND state = 'dead' RETURNING id",
                (destination,),
            ).fetchall()
            return len(rows)

        return self._operate(destination, "replay", agent, work)

    def _operate(self, destination: str, what: str, agent: str, work: Callable[[apsw.Cursor], int]) -> int:
        self.state(destination)

        def audited(cursor: apsw.Cursor) -> int:
            count = work(cursor)
            event = AuditEvent(
                action="U",
                kind=f"dicom.queue.{what}",
                outcome="success",
                agent=agent,
                entity=destination,
                detail={"objects": count},
            )
            stage(cursor, event)
            return count

        return self._database.write(audited)


def _set(cursor: apsw.Cursor, destination: str, assignments: str) -> int:
    cursor.execute(f"UPDATE dicom_queue SET {assignments} WHERE destination = ?", (destination,))  # noqa: S608  (own names; values are bound)  # nosec B608
    return 0


def _event(entry: QueueEntry, outcome: str, *, why: str = "") -> AuditEvent:
    return AuditEvent(
        action="R",
        kind="dicom.forward",
        outcome=outcome,  # type: ignore[arg-type]
        agent=entry.destination,
        entity=entry.sop_uid,
        patient=entry.patient,
        detail={"attempts": entry.attempts + 1, **({"why": why} if why else {})},
    )


def _no_queue(destination: str) -> NotFoundError:
    return NotFoundError(
        f"There is no queue for '{destination}'.",
        "No routing rule has sent anything there yet.",
        "List the queues with 'twin dicom queue list'.",
    )
