"""The key that the database gives to a new row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import apsw

if TYPE_CHECKING:
    from collections.abc import Sequence


def insert_row(cursor: Any, sql: str, values: Sequence[Any], *, key: str) -> int:
    """Run an INSERT of one row, within a unit of work, and return the key that the database gave it.

    SQLite is asked for the last key: its RETURNING goes through a table of its own and costs a quarter of
    the insert. PostgreSQL returns the key in the same round trip.

    Parameters
    ----------
    cursor
        As a unit of work gets it.
    sql
        An INSERT with a place for each value and without RETURNING.
    values
        What is bound.
    key
        Name of the key column, an INTEGER PRIMARY KEY.
    """
    if isinstance(cursor, apsw.Cursor):
        cursor.execute(sql, tuple(values))
        return cursor.connection.last_insert_rowid()
    return int(cursor.execute(f"{sql} RETURNING {key}", values).fetchone()[0])
