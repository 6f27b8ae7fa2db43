"""Which event ids a trail holds: those of complete tiles in a table, the newest in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from digital_twins.audit._merkle import TILE
from digital_twins.storage import Migration

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apsw

IDS_MIGRATION = Migration(
    "audit.0004.ids",
    """
    CREATE TABLE audit_id(event_id TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE audit_event_4(
        seq INTEGER PRIMARY KEY,
        event_id TEXT NOT NULL,
        body TEXT NOT NULL,
        leaf BLOB NOT NULL,
        chain BLOB NOT NULL
    );
    INSERT INTO audit_event_4 SELECT seq, event_id, body, leaf, chain FROM audit_event ORDER BY seq;
    DROP TABLE audit_event;
    ALTER TABLE audit_event_4 RENAME TO audit_event;
    CREATE TRIGGER audit_event_no_update BEFORE UPDATE ON audit_event
        BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
    CREATE TRIGGER audit_event_no_delete BEFORE DELETE ON audit_event
        BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
    """,
)
"""An index over the ids would be a second page for each commit to write: it follows by the tile instead."""


class Known:
    """Ids of the rows behind the last complete tile, and the largest of those before them.

    New ids begin with the time, so that nearly all of them are beyond the largest: nothing is looked up then.
    """

    __slots__ = ("largest", "recent")

    def __init__(self, largest: str, recent: set[str]) -> None:
        self.largest = largest
        self.recent = recent

    def certainly_new(self, ids: Sequence[str]) -> bool:
        """Tell whether no row has one of these ids, and none is there twice; no means: look them up."""
        if len(ids) == 1:
            return ids[0] > self.largest and ids[0] not in self.recent
        return min(ids) > self.largest and self.recent.isdisjoint(ids) and len(set(ids)) == len(ids)

    def add(self, cursor: apsw.Cursor, event_id: str) -> bool:
        """Take an id up and tell whether it was new."""
        if event_id in self.recent:
            return False
        if event_id <= self.largest:
            found = cursor.execute("SELECT 1 FROM audit_id WHERE event_id = ?", (event_id,)).fetchone()
            if found is not None:
                return False
        self.recent.add(event_id)
        return True


def known_ids(cursor: apsw.Cursor, size: int) -> Known:
    """Return what a trail of `size` rows knows."""
    row = cursor.execute("SELECT max(event_id) FROM audit_id").fetchone()
    tail = cursor.execute("SELECT event_id FROM audit_event WHERE seq > ?", (size - size % TILE,)).fetchall()
    return Known("" if row is None or row[0] is None else str(row[0]), {str(each[0]) for each in tail})


def index_ids(cursor: apsw.Cursor, start: int, size: int) -> None:
    """Put the ids of the tiles into the table that the rows behind `start`, up to `size`, completed."""
    cursor.execute(
        "INSERT INTO audit_id SELECT event_id FROM audit_event WHERE seq > ? AND seq <= ? ORDER BY event_id",
        (start - start % TILE, size - size % TILE),
    )


def complete_ids(cursor: apsw.Cursor, size: int) -> None:
    """Fill the table for a trail of an older version."""
    row = cursor.execute("SELECT count(*) FROM audit_id").fetchone()
    complete = size - size % TILE
    if row is None or int(str(row[0])) != complete:
        cursor.execute(
            "INSERT OR IGNORE INTO audit_id SELECT event_id FROM audit_event WHERE seq <= ?", (complete,)
        )


def holds(connection: apsw.Connection, event_id: str) -> bool:
    """Tell whether a trail that is only read, perhaps one of an older version, has a row of this id."""
    tables = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'audit_id'").fetchall()
    sql, values = "SELECT 1 FROM audit_event WHERE event_id = ?", [event_id]
    if not tables:
        return bool(connection.execute(sql, values).fetchall())
    if connection.execute("SELECT 1 FROM audit_id WHERE event_id = ?", values).fetchall():
        return True
    row = connection.execute("SELECT max(seq) FROM audit_event").fetchall()[0]
    size = 0 if row[0] is None else int(str(row[0]))
    return bool(connection.execute(f"{sql} AND seq > ?", (event_id, size - size % TILE)).fetchall())
