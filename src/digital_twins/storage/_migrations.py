"""Schema steps, each applied once, by name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from digital_twins._errors import StorageError
from digital_twins.storage._dialect import schema_sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apsw


@dataclass(frozen=True, slots=True)
class Migration:
    """One schema step of a room.

    Parameters
    ----------
    name
        Unique over all rooms and never reused, e.g. ``"storage.0001.job"``.
    sql
        One or more plain SQL statements, without BEGIN or COMMIT. Once released it is never edited: a change
        is a further migration.
    protected
        Columns of these tables, ``"table.column"``, whose values tell of a patient: in an encrypted store on
        a server each is encrypted by itself.
    """

    name: str
    sql: str
    protected: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of the SQL text, to find an edited migration."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def apply(connection: apsw.Connection, migrations: Sequence[Migration]) -> None:
    """Apply what is missing, in order, in one transaction.

    The transaction takes the write lock before it looks, so of two processes that start at once the second
    waits and then finds everything done. A failing step leaves the database as it was.

    Raises
    ------
    StorageError
        A migration's text differs from the text that was applied under its name.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        apply_in(connection.cursor(), migrations)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def apply_in(cursor: Any, migrations: Sequence[Migration], *, postgresql: bool = False) -> None:
    """Apply what is missing inside the caller's transaction, which holds the write lock; see `apply`."""
    table = (
        "CREATE TABLE IF NOT EXISTS migration("
        "name TEXT PRIMARY KEY, digest TEXT NOT NULL, applied_utc TEXT NOT NULL)"
    )
    run = cursor.raw if postgresql else cursor.execute
    run(schema_sql(table) if postgresql else table)
    rows = cursor.execute("SELECT name, digest FROM migration").fetchall()
    applied = {str(name): str(digest) for name, digest in rows}
    for migration in migrations:
        if migration.name not in applied:
            run(schema_sql(migration.sql) if postgresql else migration.sql)
            cursor.execute(
                "INSERT INTO migration(name, digest, applied_utc) VALUES (?, ?, ?)",
                (migration.name, migration.digest, datetime.now(tz=UTC).isoformat()),
            )
        elif applied[migration.name] != migration.digest:
            raise StorageError(
                f"The database cannot be opened: its schema step '{migration.name}' is another one.",
                "The text of a migration was changed after this database had applied it.",
                "Use the version of digital-twins that wrote this data folder, or start with a new data_dir.",
            )
