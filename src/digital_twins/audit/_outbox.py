"""Events that wait in the database of the write that they speak of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from digital_twins.storage import Migration

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def stage(cursor: apsw.Cursor, event: AuditEvent) -> None:
    """Put an event into the outbox, inside the transaction of the write that it speaks of.

    The event exists exactly if that write is committed: commits across two SQLite files are not atomic,
    one commit in one file is. `AuditTrail.drain` moves it on.
    """
    cursor.execute(_INSERT, (event.event_id, event.to_json()))


def stage_all(cursor: apsw.Cursor, events: Sequence[AuditEvent]) -> None:
    """Put several events into the outbox, in their order; see `stage`."""
    stage_rows(cursor, [(event.event_id, event.to_json()) for event in events])


def stage_rows(cursor: apsw.Cursor, rows: Sequence[tuple[str, str]]) -> None:
    """Put several events into the outbox by id and canonical form, as `plain_row` returns them."""
    cursor.executemany(_INSERT, rows)


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
