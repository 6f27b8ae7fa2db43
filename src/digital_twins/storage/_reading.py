"""Reading beside the writers: without a `Database`, and tables that are larger than the memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
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

    lent: AbstractContextManager[Any] = _postgresql.read_schema(url, schema)
    return lent


def rows_sealed(url: str, schema: str) -> bool:
    """Whether the protected columns of a schema are encrypted; one that is not there yet has none in clear.

    Parameters
    ----------
    url, schema
        As `Database.location` returns them.

    Raises
    ------
    StorageError
        The server cannot be reached.
    """
    from digital_twins.storage._sealed_tables import is_sealed

    with read_schema(url, schema) as connection:
        known = connection.execute("SELECT to_regclass('migration')").fetchall()
        return known == [(None,)] or is_sealed(connection)


def stream(connection: apsw.Connection, sql: str, values: Sequence[Any] = ()) -> Iterator[Any]:
    """Give the rows of a statement one by one; on PostgreSQL they are fetched in portions."""
    lazily: Callable[..., Iterator[Any]] = getattr(connection, "stream", connection.execute)
    return iter(lazily(sql, tuple(values)))


@dataclass(frozen=True, slots=True)
class ServerState:
    """What a PostgreSQL server says of itself.

    `unsafe` lists settings with which it may lose acknowledged writes, `commit_ms` is the time of a
    transaction that writes, milliseconds, median of 20.
    """

    version: str
    unsafe: tuple[str, ...]
    commit_ms: float


def server_state(url: str) -> ServerState:
    """Connect to a PostgreSQL server and ask for its state.

    Raises
    ------
    StorageError
        It cannot be reached, or its user may not write.
    InputError
        The URL is none of PostgreSQL, or carries a password.
    MissingExtraError
        The extra ``postgres`` is not installed.
    """
    from digital_twins.storage import _postgresql

    return ServerState(*_postgresql.server_state(url))
