"""Reading beside the writers: without a `Database`, and tables that are larger than the memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    import apsw


def read_schema(url: str, schema: str) -> AbstractContextManager[apsw.Connection]:
    """Lend a read-only connection to a schema of a PostgreSQL server; what is read is one snapshot.

    Parameters
    ----------
    url, schema
        As `Database.location` returns them.

    Raises
    ------
    StorageError
        The server cannot be reached, or has no such schema.
    """
    from digital_twins.storage import _postgresql

    lent: Any = _postgresql.read_schema(url, schema)
    return lent


def stream(connection: apsw.Connection, sql: str, values: Sequence[Any] = ()) -> Iterator[Any]:
    """Give the rows of a statement one by one; on PostgreSQL they are fetched in portions."""
    lazily = getattr(connection, "stream", connection.execute)
    return iter(lazily(sql, tuple(values)))
