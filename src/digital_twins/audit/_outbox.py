"""Events that wait in the database of the write that they speak of."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from digital_twins.storage import Migration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import apsw

    from digital_twins.audit._event import AuditEvent
    from digital_twins.storage import Database

OUTBOX_MIGRATIONS = (
    Migration(
        "audit.0001.outbox",
        "CREATE TABLE audit_outbox("
        "seq INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE, body TEXT NOT NULL)",
    ),
)
"""The outbox table, for every database whose writes are audited."""
_INSERT = "INSERT INTO audit_outbox(event_id, body) VALUES (?, ?)"
_NOTED: ContextVar[list[str] | None] = ContextVar("noted", default=None)


def stage(cursor: apsw.Cursor, event: AuditEvent) -> None:
    """Put an event into the outbox, inside the transaction of the write that it speaks of.

    The event exists exactly if that write is committed: commits across two SQLite files are not atomic,
    one commit in one file is. `AuditTrail.drain` moves it on.
    """
    stage_rows(cursor, [(event.event_id, event.to_json())])


def stage_all(cursor: apsw.Cursor, events: Sequence[AuditEvent]) -> None:
    """Put several events into the outbox, in their order; see `stage`."""
    stage_rows(cursor, [(event.event_id, event.to_json()) for event in events])


def stage_rows(cursor: apsw.Cursor, rows: Sequence[tuple[str, str]]) -> None:
    """Put several events into the outbox by id and canonical form, as `plain_row` returns them."""
    noted = _NOTED.get()
    if noted is not None:
        noted.extend(event_id for event_id, _ in rows)
    cursor.executemany(_INSERT, rows)


@contextmanager
def noted_events() -> Iterator[list[str]]:
    """Gather the ids of the events that are staged inside of the block, also those of broken transactions."""
    noted: list[str] = []
    token = _NOTED.set(noted)
    try:
        yield noted
    finally:
        _NOTED.reset(token)


def any_waits(database: Database, event_ids: Sequence[str]) -> bool:
    """Tell whether one of these events is committed and has not been moved into the trail yet."""
    with database.read() as connection:
        return any(
            connection.execute("SELECT 1 FROM audit_outbox WHERE event_id = ?", (each,)).fetchall()
            for each in event_ids
        )


def waiting(database: Database, limit: int) -> list[tuple[int, str, str]]:
    """Return the oldest staged rows as (seq, event_id, body)."""
    with database.read() as connection:
        rows = connection.execute(
            "SELECT seq, event_id, body FROM audit_outbox ORDER BY seq LIMIT ?", (limit,)
        ).fetchall()
    return [(int(str(seq)), str(event_id), str(body)) for seq, event_id, body in rows]


def remove(database: Database, rows: list[tuple[int, str, str]]) -> None:
    """Delete rows that the trail holds durably."""

    def work(cursor: apsw.Cursor) -> None:
        cursor.executemany("DELETE FROM audit_outbox WHERE seq = ?", [(seq,) for seq, _, _ in rows])

    database.write(work)
