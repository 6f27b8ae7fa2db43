"""What twins were made from, and which of them are stale since their objects were withdrawn or moved."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from digital_twins.storage import Migration

if TYPE_CHECKING:
    from collections.abc import Iterable

    import apsw

    from digital_twins.server._models import StaleMark
    from digital_twins.storage import Database

MIGRATIONS = (
    Migration(
        "server.0002.stale",
        """
        CREATE TABLE server_twin_input(
            twin_id TEXT NOT NULL, version INTEGER NOT NULL, sop_uid TEXT NOT NULL,
            PRIMARY KEY(sop_uid, twin_id, version)
        );
        CREATE TABLE server_stale(
            twin_id TEXT NOT NULL, version INTEGER NOT NULL, kind TEXT NOT NULL, reason TEXT NOT NULL,
            reference TEXT NOT NULL, since REAL NOT NULL, PRIMARY KEY(twin_id, version, reference)
        );
        """,
    ),
)
"""Tables of dependencies and stale marks. Times are seconds since 1970-01-01 UTC."""

WITHDRAWN, MERGED = "withdrawn", "merged"


class StaleMarks:
    """Dependencies of twin versions, and the marks of those that are stale."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def depends_in(self, cursor: apsw.Cursor, twin: tuple[str, int], sop_uids: Iterable[str]) -> None:
        """Note inside a transaction from which objects a twin version was made."""
        for uid in sop_uids:
            cursor.execute(
                "INSERT INTO server_twin_input(twin_id, version, sop_uid) VALUES (?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                (*twin, uid),
            )

    def objects_in(self, cursor: apsw.Cursor) -> frozenset[str]:
        """Return every object that a twin was made from, and every document that the node wrote of one."""
        rows: Any = cursor.execute(
            "SELECT sop_uid FROM server_twin_input UNION SELECT reference FROM server_output"
        ).fetchall()
        return frozenset(str(row[0]) for row in rows)

    def withdrawn_in(self, cursor: apsw.Cursor, sop_uids: Iterable[str], *, reason: str, note: str) -> int:
        """Mark the twin versions that were made from withdrawn objects; return how many."""
        twins: set[tuple[str, int]] = set()
        for uid in sop_uids:
            rows: Any = cursor.execute(
                "SELECT twin_id, version FROM server_twin_input WHERE sop_uid = ?", (uid,)
            ).fetchall()
            twins |= {(str(twin), int(version)) for twin, version in rows}
        return self._mark(cursor, twins, kind=WITHDRAWN, reason=reason, reference=note)

    def merged_in(self, cursor: apsw.Cursor, patient_id: str, *, into: str, reference: str) -> int:
        """Mark every twin version of a patient who was merged; ``into`` is the key of the other."""
        rows: Any = cursor.execute(
            "SELECT t.twin_id, t.version FROM server_twin t JOIN server_patient p ON p.key = t.patient_key"
            " WHERE p.patient_id = ?",
            (patient_id,),
        ).fetchall()
        reason = f"The patient was merged into another: /patients/{into}"
        return self._mark(cursor, rows, kind=MERGED, reason=reason, reference=reference)

    def undo_in(self, cursor: apsw.Cursor, reference: str) -> None:
        """Take back the marks of a rejection note or a merge."""
        cursor.execute("DELETE FROM server_stale WHERE reference = ?", (reference,))

    def of(self, twin_id: str, version: int) -> list[StaleMark]:
        """Return the marks of a twin version."""
        from digital_twins.server._models import StaleMark  # pydantic: only who shows marks needs it

        with self._database.read() as connection:
            rows: Any = connection.execute(
                "SELECT kind, reason, reference, since FROM server_stale WHERE twin_id = ? AND version = ?"
                " ORDER BY since",
                (twin_id, version),
            ).fetchall()
        return [
            StaleMark(
                kind=kind, reason=reason, reference=reference, since_utc=datetime.fromtimestamp(since, tz=UTC)
            )
            for kind, reason, reference, since in rows
        ]

    def _mark(
        self,
        cursor: apsw.Cursor,
        twins: Iterable[tuple[str, int]],
        *,
        kind: str,
        reason: str,
        reference: str,
    ) -> int:
        count = 0
        for twin_id, version in twins:
            cursor.execute(
                "INSERT INTO server_stale(twin_id, version, kind, reason, reference, since)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (twin_id, version, kind, reason, reference, time.time()),
            )
            count += 1
        return count
