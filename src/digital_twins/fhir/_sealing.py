"""Puts resources that lie in clear under the keys of their patients, once the store is encrypted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins.fhir._owner import owner_of
from digital_twins.storage import SEALED, seal_for

if TYPE_CHECKING:
    import apsw

    from digital_twins.storage import Database

_AT_ONCE = 500
_CURRENT = (
    "SELECT rid, 0, type, id, body FROM fhir_resource"  # noqa: S608  (a number of ours)  # nosec B608
    f" WHERE deleted = 0 AND substr(body, 1, {len(SEALED)}) <> ? ORDER BY rid LIMIT ?"
)
_OLDER = (
    "SELECT v.rid, v.version, r.type, r.id, v.body FROM fhir_version v JOIN fhir_resource r ON r.rid = v.rid"  # noqa: S608  (as above)  # nosec B608
    f" WHERE v.deleted = 0 AND substr(v.body, 1, {len(SEALED)}) <> ? ORDER BY v.rid, v.version LIMIT ?"
)


def seal_resources(database: Database) -> int:
    """Seal every resource, and every older version, that is in clear; return how many.

    Parameters
    ----------
    database
        Opened with keys. Broken off, the next call goes on.

    Raises
    ------
    StorageError
        The disk is full or failing.
    """
    return _sealed(database, _CURRENT) + _sealed(database, _OLDER)


def _sealed(database: Database, sql: str) -> int:
    def work(cursor: apsw.Cursor) -> int:
        rows: Any = cursor.execute(sql, (SEALED, _AT_ONCE)).fetchall()
        for rid, version, kind, name, body in rows:
            stored = seal_for(cursor, bytes(body), lambda k=kind, n=name, b=body: owner_of(k, n, bytes(b)))  # type: ignore[misc]
            if version:
                cursor.execute(
                    "UPDATE fhir_version SET body = ? WHERE rid = ? AND version = ?", (stored, rid, version)
                )
            else:
                cursor.execute("UPDATE fhir_resource SET body = ? WHERE rid = ?", (stored, rid))
        return len(rows)

    done = 0
    while found := database.write(work):
        done += found
    return done
