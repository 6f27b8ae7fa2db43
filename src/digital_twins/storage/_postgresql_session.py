"""PostgreSQL connections and cursors with the methods of apsw's that the rooms use."""

from __future__ import annotations

import os
import re
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from digital_twins._errors import InputError, MissingExtraError
from digital_twins.storage._dialect import statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import psycopg

    from digital_twins.storage._sealed_tables import SealedTables

_CONNECT_S = 10
PASSWORD_FILE = "TWIN_DATABASE_PASSWORD_FILE"  # noqa: S105  (the name of a variable)
"""Environment variable that names a file with the password, for servers that ask for one."""


class Cursor:
    """A cursor that takes the rooms' SQL."""

    __slots__ = ("_cursor", "connection")

    def __init__(self, connection: Connection, cursor: psycopg.Cursor[Any]) -> None:
        self.connection = connection
        self._cursor = cursor

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Cursor:
        """Run one statement and return this cursor, which then gives its rows."""
        self._cursor.execute(statement(sql), values)
        self.connection.changed = self._cursor.rowcount
        return self

    def executemany(self, sql: str, many: Iterable[Sequence[Any]]) -> Cursor:
        """Run one statement for each set of values, in one round trip."""
        self._cursor.executemany(statement(sql), many)
        self.connection.changed = self._cursor.rowcount
        return self

    def raw(self, sql: str) -> None:
        """Run PostgreSQL's own SQL, also several statements, without values."""
        self._cursor.execute(sql)

    def fetchone(self) -> Any:
        """Return the next row; None at the end, and for a statement without rows."""
        return None if self._cursor.description is None else self._cursor.fetchone()

    def fetchall(self) -> list[Any]:
        """Return the remaining rows."""
        return [] if self._cursor.description is None else self._cursor.fetchall()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        row = self.fetchone()
        if row is None:
            raise StopIteration
        return row

    def close(self, force: bool = False) -> None:
        """Forget the rows."""
        del force
        self._cursor.close()


class SealedCursor(Cursor):
    """A cursor over encrypted columns: it takes and gives values in clear."""

    __slots__ = ("_tables",)

    def __init__(self, connection: Connection, cursor: psycopg.Cursor[Any], tables: SealedTables) -> None:
        super().__init__(connection, cursor)
        self._tables = tables

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Cursor:
        """Run one statement and return this cursor, which then gives its rows."""
        plan = self._tables.plan(sql)
        if plan is None:
            return super().execute(sql, values)
        return super().execute(plan.sql, self._tables.bound(plan, values, self.connection.plain_cursor()))

    def executemany(self, sql: str, many: Iterable[Sequence[Any]]) -> Cursor:
        """Run one statement for each set of values, in one round trip."""
        plan = self._tables.plan(sql)
        if plan is None:
            return super().executemany(sql, many)
        beside = self.connection.plain_cursor()
        return super().executemany(plan.sql, [self._tables.bound(plan, each, beside) for each in many])

    def fetchone(self) -> Any:
        """Return the next row; None at the end, and for a statement without rows."""
        return self._tables.shown(super().fetchone())

    def fetchall(self) -> list[Any]:
        """Return the remaining rows."""
        return [self._tables.shown(row) for row in super().fetchall()]


class Connection:
    """A connection to one schema."""

    def __init__(self, connection: psycopg.Connection[Any], tables: SealedTables | None = None) -> None:
        self._connection = connection
        self._predicates: dict[str, Callable[..., bool]] = {}
        self._tables = tables
        self.row_keys = None if tables is None else tables.row_keys
        self.changed = 0

    def cursor(self) -> Cursor:
        """Return a new cursor."""
        if self._tables is not None:
            return SealedCursor(self, self._connection.cursor(), self._tables)
        return Cursor(self, self._connection.cursor())

    def plain_cursor(self) -> Cursor:
        """Return a cursor that takes and gives the values of encrypted columns as they lie there."""
        return Cursor(self, self._connection.cursor())

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Cursor:
        """Run one statement on a new cursor and return that."""
        for name in self._predicates:
            sql, values = self._resolved(name, sql, values)
        return self.cursor().execute(sql, values)

    def create_scalar_function(
        self, name: str, function: Callable[..., bool], arguments: int, *, deterministic: bool
    ) -> None:
        """Let ``name(?, alias.column)`` be asked in a condition: it is answered here, not on the server."""
        if arguments != 2 or not deterministic:
            raise ValueError("only a deterministic test of a value against a column can be asked")
        self._predicates[name] = function

    def _resolved(self, name: str, sql: str, values: Sequence[Any]) -> tuple[str, Sequence[Any]]:
        """Put the texts of the column that pass in place of each call."""
        changed = list(values)
        while (call := re.search(rf"\b{name}\(\?, (\w+)\.(\w+)\)", sql)) is not None:
            table = re.search(rf"\b(?:FROM|JOIN) (\w+) {call[1]}\b", sql)
            assert table is not None, "the alias of a column stands in the same statement"
            place = sql.count("?", 0, call.start())
            rows = self.cursor().execute(f"SELECT DISTINCT {call[2]} FROM {table[1]}")  # noqa: S608  (from our SQL)  # nosec B608
            test = self._predicates[name]
            changed[place] = [text for (text,) in rows if test(changed[place], text)]
            sql = f"{sql[: call.start()]}{call[1]}.{call[2]} = ANY(?){sql[call.end() :]}"
        return sql, changed

    def stream(self, sql: str, values: Sequence[Any] = ()) -> Iterator[Any]:
        """Give the rows of a statement without holding all of them in memory."""
        from psycopg import RawServerCursor

        tables = self._tables
        plan = None if tables is None else tables.plan(sql)
        if tables is not None and plan is not None:
            sql, values = plan.sql, tables.bound(plan, values, self.plain_cursor())
        with RawServerCursor(self._connection, "stream") as cursor:
            cursor.itersize = 4096
            rows = cursor.execute(statement(sql), values)
            yield from rows if tables is None else map(tables.shown, rows)

    def changes(self) -> int:
        """Return how many rows the last statement changed."""
        return max(self.changed, 0)

    def last_insert_rowid(self) -> int:
        """Return the number that the last insert gave to its row."""
        row = self._connection.execute("SELECT lastval()").fetchone()
        assert row is not None
        return int(row[0])

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, also one that failed."""
        from psycopg.pq import TransactionStatus as Status

        return self._connection.info.transaction_status in {Status.INTRANS, Status.INERROR, Status.ACTIVE}

    @property
    def lost(self) -> bool:
        """Whether the server can no longer be reached over it."""
        return bool(self._connection.closed)

    def begin(self, mode: str) -> None:
        """Begin a transaction: ``READ ONLY`` sees one snapshot, ``READ WRITE`` what is committed by then."""
        level = "REPEATABLE READ" if mode == "READ ONLY" else "READ COMMITTED"
        self._connection.execute(f"BEGIN ISOLATION LEVEL {level} {mode}")

    def commit(self) -> None:
        """Commit; raises when a failed statement left nothing to commit."""
        from psycopg.pq import TransactionStatus as Status

        if self._connection.info.transaction_status != Status.INTRANS:
            raise RuntimeError("the transaction was ended or broken by a unit of work")
        self._connection.execute("COMMIT")

    def rollback(self) -> None:
        """End a transaction if there is one and the server is there."""
        if not self.lost and self.in_transaction:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close it."""
        self._connection.close()


def connect(url: str, schema: str, busy_timeout_s: float, tables: SealedTables | None = None) -> Connection:
    """Open a connection whose names are looked up in one schema; ``tables`` knows its encrypted columns.

    Raises
    ------
    InputError
        The URL is not one of PostgreSQL or carries a password.
    MissingExtraError
        The driver is not installed.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"postgresql", "postgres"} or parts.password is not None:
        raise InputError(
            "The database cannot be opened.",
            "The setting is no postgresql:// URL, or it carries a password, which logs would show.",
            f"Write postgresql://user@host/name; the password goes to ~/.pgpass or a file: {PASSWORD_FILE}.",
        )
    try:
        import psycopg
    except ImportError as error:
        raise MissingExtraError("psycopg", "postgres") from error
    options: dict[str, Any] = {}
    if name := os.environ.get(PASSWORD_FILE):
        options["password"] = Path(name).read_text("utf-8").rstrip("\n")
    connection = psycopg.connect(
        url,
        autocommit=True,  # transactions are begun and ended in SQL
        cursor_factory=psycopg.RawCursor,
        connect_timeout=_CONNECT_S,
        application_name="digital-twins",
        **options,
    )
    _adapt(connection)
    wait_ms = int(busy_timeout_s * 1000)
    connection.execute(
        f"SET search_path TO \"{schema}\"; SET lock_timeout = {wait_ms}; SET client_encoding = 'UTF8';"
        "SET standard_conforming_strings = on; SET timezone = 'UTC';"
        "SELECT set_config('synchronous_commit', 'on', false)"
        " WHERE current_setting('synchronous_commit') IN ('off', 'local')"
    )
    return Connection(connection, tables)


def _adapt(connection: psycopg.Connection[Any]) -> None:
    """Send whole numbers and truth values as SQLite keeps them, and read sums of whole numbers as such."""
    from psycopg.adapt import Dumper, Loader
    from psycopg.postgres import types
    from psycopg.types.numeric import Int8Dumper

    def truth(_: object, value: bool) -> bytes:
        return b"1" if value else b"0"

    def whole(_: object, data: Any) -> int | float:
        value = Decimal(bytes(data).decode())
        return int(value) if value == value.to_integral_value() else float(value)

    truth_dumper: Any = type("TruthDumper", (Dumper,), {"oid": types["int8"].oid, "dump": truth})
    sum_loader: Any = type("SumLoader", (Loader,), {"load": whole})
    connection.adapters.register_dumper(int, Int8Dumper)
    connection.adapters.register_dumper(bool, truth_dumper)
    connection.adapters.register_loader("numeric", sum_loader)
