"""A schema of a PostgreSQL server behind `Database`."""

from __future__ import annotations

import hashlib
import statistics
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from digital_twins._errors import StorageError
from digital_twins.storage import _migrations
from digital_twins.storage._dialect import catalogue_sql
from digital_twins.storage._groups import Failed, Unit
from digital_twins.storage._postgresql_failures import from_postgresql
from digital_twins.storage._postgresql_session import Connection, connect
from digital_twins.storage._sealed_tables import SealedTables, is_sealed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from digital_twins.storage._migrations import Migration
    from digital_twins.storage._postgresql_session import Cursor
    from digital_twins.storage._row_keys import RowKeys

_MOST_IDLE = 16
"""Readers that are kept open between reads."""


class PostgresEngine:
    """A schema of its own on a server; see `Database` for the parameters.

    One transaction at a time writes to a schema, over all processes, as in SQLite: each begins with an
    advisory lock. So the numbers that identity columns give out appear in the order of the commits.
    """

    def __init__(
        self,
        url: str,
        schema: str,
        *,
        migrations: Sequence[Migration],
        busy_timeout_s: float,
        row_keys: RowKeys | None = None,
    ) -> None:
        self.name = schema
        self._tables = None if row_keys is None else SealedTables(row_keys, migrations)
        self.location: tuple[str, str] | None = (url, schema)
        self._url = url
        self._what = f"The database '{schema}' could not be written."
        self._busy_timeout_s = busy_timeout_s
        self._lock = lock_number(schema)
        self._idle: list[Connection] = []
        self._closed = False
        try:
            self._writer: Connection = connect(url, schema, busy_timeout_s, self._tables)
            try:
                self._prepare(migrations)
            except BaseException:
                self._writer.close()
                raise
        except BaseException as error:
            raise from_postgresql(error, f"The database '{schema}' cannot be opened.") from error

    def run(self, units: Sequence[Unit]) -> list[Any]:
        """Run units in one transaction, each in a savepoint unless it is alone."""
        connection = self._begin()
        try:
            if len(units) > 1:
                outcomes = [_in_savepoint(connection, unit) for unit in units]
            else:
                outcomes = [units[0].work(connection.cursor())]
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        return outcomes

    def execute(self, sql: str, values: Sequence[Any]) -> None:
        """Run one statement as a transaction of its own."""
        connection = self._begin()
        try:
            connection.cursor().execute(sql, values)
            connection.commit()
        except BaseException:
            connection.rollback()
            raise

    def may_repeat(self, error: BaseException) -> bool:
        """Not after a lost connection: the COMMIT may have arrived."""
        del error
        return not self._writer.lost

    def explain(self, error: BaseException, what: str) -> BaseException:
        """Return the error to raise for one of PostgreSQL's."""
        return from_postgresql(error, what)

    @contextmanager
    def reading(self, *, one_statement: bool = False) -> Iterator[Connection]:
        """Lend a read-only connection; a transaction around one statement costs nothing more here."""
        del one_statement
        try:
            connection = self._reader()
            try:
                yield connection
            finally:
                self._give_back(connection)
        except BaseException as error:
            answer = from_postgresql(error, f"The database '{self.name}' could not be read.")
            if answer is error:
                raise
            raise answer from error

    def close(self) -> None:
        """Close every connection."""
        self._closed = True
        self._close_idle()
        self._writer.close()

    def _begin(self) -> Connection:
        if self._writer.lost:
            self._writer.close()
            self._writer = connect(self._url, self.name, self._busy_timeout_s, self._tables)
        connection = self._writer
        connection.rollback()
        connection.begin("READ WRITE")
        connection.cursor().raw(f"SELECT pg_advisory_xact_lock({self._lock})")
        return connection

    def _prepare(self, migrations: Sequence[Migration]) -> None:
        connection = self._writer
        connection.begin("READ WRITE")
        try:
            cursor = connection.plain_cursor()
            cursor.raw(f"SELECT pg_advisory_xact_lock({self._lock})")
            cursor.raw(f'CREATE SCHEMA IF NOT EXISTS "{self.name}"')
            cursor.raw(catalogue_sql(self.name))
            fresh = not cursor.execute("SELECT 1 FROM sqlite_master WHERE name = 'migration'").fetchall()
            _migrations.apply_in(cursor, migrations, postgresql=True)
            self._check_rows(cursor, fresh=fresh)
            connection.commit()
        except BaseException:
            connection.rollback()
            raise

    def _check_rows(self, cursor: Cursor, *, fresh: bool) -> None:
        if self._tables is not None:
            self._tables.load(cursor, self.name)
            self._tables.begin(cursor, fresh=fresh)
        elif is_sealed(cursor):
            raise StorageError(
                f"The database '{self.name}' is not opened.",
                "Its rows are encrypted, and encryption_at_rest is off.",
                "Set encryption_at_rest = true and encryption_keys as they were.",
            )

    def _reader(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.lost:
                connection.begin("READ ONLY")
                return connection
            connection.close()
        connection = connect(self._url, self.name, self._busy_timeout_s, self._tables)
        connection.begin("READ ONLY")
        return connection

    def _give_back(self, connection: Connection) -> None:
        connection.rollback()
        if connection.lost or len(self._idle) >= _MOST_IDLE:
            connection.close()
            return
        self._idle.append(connection)
        if self._closed:
            self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()


@contextmanager
def read_schema(url: str, schema: str) -> Iterator[Connection]:
    """Lend a read-only connection to a schema without opening it as a `Database`; one snapshot.

    Raises
    ------
    StorageError
        The server cannot be reached, or has no such schema.
    """
    try:
        connection = connect(url, schema, 30.0)
        try:
            connection.begin("READ ONLY")
            yield connection
        finally:
            connection.close()
    except Exception as error:
        answer = from_postgresql(error, f"The database '{schema}' could not be read.")
        if answer is error:
            raise
        raise answer from error


def server_state(url: str) -> tuple[str, tuple[str, ...], float]:
    """Return version, unsafe settings and the milliseconds of a commit; see `ServerState`."""
    with read_schema(url, "pg_catalog") as connection:
        rows = connection.execute(
            "SELECT name, setting FROM pg_settings WHERE name IN"
            " ('server_version', 'fsync', 'full_page_writes') ORDER BY name"
        ).fetchall()
        settings = dict(rows)
        connection.rollback()
        times_ms = []
        for _ in range(20):
            start = time.perf_counter()
            connection.begin("READ WRITE")
            connection.cursor().raw(
                "SELECT pg_current_xact_id()"
            )  # makes the COMMIT write and flush its record
            connection.commit()
            times_ms.append((time.perf_counter() - start) * 1000)
    unsafe = tuple(f"{name}=off" for name in ("fsync", "full_page_writes") if settings[name] == "off")
    return settings["server_version"].split()[0], unsafe, statistics.median(times_ms)


def lock_number(schema: str) -> int:
    """Return the number of the advisory lock of a schema's writers."""
    return int.from_bytes(hashlib.sha256(f"digital-twins {schema}".encode()).digest()[:8], "big", signed=True)


def _in_savepoint(connection: Connection, unit: Unit) -> Any:
    connection.cursor().raw("SAVEPOINT unit")
    try:
        result = unit.work(connection.cursor())
        connection.cursor().raw("RELEASE unit")
    except BaseException as error:
        if connection.lost or not connection.in_transaction:
            raise
        connection.cursor().raw("ROLLBACK TO unit; RELEASE unit")
        return Failed(error)
    return result
