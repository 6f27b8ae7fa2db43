"""A SQLite file behind `Database`: one writer connection, and read-only connections beside it."""

from __future__ import annotations

import contextlib
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import apsw

from digital_twins._errors import StorageError
from digital_twins.storage._failures import from_os_error, from_sqlite
from digital_twins.storage._groups import Failed, Unit
from digital_twins.storage._log_room import reserve
from digital_twins.storage._migrations import Migration, apply
from digital_twins.storage._pages import unlock, wrong_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import TracebackType

_CAREFUL_GROUPS = 16


class SqliteEngine:
    """A SQLite database with a write-ahead log and synchronous=FULL; see `Database` for the parameters."""

    def __init__(
        self,
        path: Path,
        *,
        migrations: Sequence[Migration],
        busy_timeout_s: float,
        key: bytes | None = None,
        log_bytes: int = 0,
    ) -> None:
        self.path = path
        self._key = key
        self._log_bytes = log_bytes
        self.name = path.name
        self.location: tuple[str, str] | None = None
        self._what = f"The database '{path.name}' could not be written."
        self._busy_timeout_s = busy_timeout_s
        self._idle: list[apsw.Connection] = []
        self._closed = False
        self._careful = 0  # groups to come that are run with savepoints from the start
        self._writer = self._open_writer(migrations)
        self._cursor = self._writer.cursor()

    def run(self, units: Sequence[Unit]) -> list[Any]:
        """Run units in one transaction; where one of several raises, again with a savepoint for each.

        A savepoint is two more statements for each unit. For some groups after a failure they are used at
        once, so that callers whose units fail again and again do not double the work of the others.
        """
        if len(units) == 1 or self._careful == 0:
            try:
                with self._transaction() as connection:
                    return [_plainly(connection, unit) for unit in units]
            except Exception:
                if len(units) == 1:
                    raise
                self._careful = _CAREFUL_GROUPS
        self._careful -= 1
        with self._transaction() as connection:
            return [_in_savepoint(connection, unit) for unit in units]

    def execute(self, sql: str, values: Sequence[Any]) -> None:
        """Run one statement as a transaction of its own, which spares BEGIN and COMMIT."""
        connection = self._writer
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        self._cursor.execute(sql, values)  # one for all: making one costs a tenth of the statement

    def may_repeat(self, error: BaseException) -> bool:
        """SQLite leaves nothing of a transaction that failed, also when its COMMIT did."""
        del error
        return True

    def explain(self, error: BaseException, what: str) -> BaseException:
        """Return the error to raise for one of SQLite's."""
        return from_sqlite(error, what)

    def reading(self, *, one_statement: bool = False) -> AbstractContextManager[apsw.Connection]:
        """Lend a read-only connection."""
        return _Reading(self, one_statement)

    def lend(self, *, one_statement: bool) -> apsw.Connection:
        """Return a reader that is free, or a new one, within a transaction unless it is for one statement."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._open_reader()
        if one_statement:  # SQLite gives it a snapshot of its own
            return connection
        try:
            connection.execute("BEGIN")
        except BaseException:
            self.give_back(connection)
            raise
        return connection

    def close(self) -> None:
        """Close every connection."""
        self._closed = True
        self._close_idle()
        self._writer.close()

    def _close_idle(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _open_writer(self, migrations: Sequence[Migration]) -> apsw.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = apsw.Connection(str(self.path))
            unlock(connection, self._key)
        except OSError as error:
            raise from_os_error(error, self._what) from error
        except apsw.NotADBError as error:
            raise wrong_key(self.name) from error
        except apsw.Error as error:
            raise from_sqlite(error, self._what) from error
        try:
            self._configure(connection)
            apply(connection, migrations)
            if self._log_bytes:
                reserve(connection, self.path, log_bytes=self._log_bytes)
            _sync_folder(self.path.parent)
        except (apsw.Error, OSError, StorageError) as error:
            connection.close()
            if isinstance(error, OSError):
                raise from_os_error(error, self._what) from error
            raise from_sqlite(error, self._what) from error
        return connection

    def _configure(self, connection: apsw.Connection) -> None:
        connection.set_busy_timeout(int(self._busy_timeout_s * 1000))
        deadline = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                break
            except apsw.BusyError:
                # Two processes that switch a new file to WAL at once: SQLite answers BUSY without waiting.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        _keep_plans(connection)
        _keep_pages(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        # Savepoints copy the pages that they touch; beyond 64 KiB those would go to a temporary file.
        connection.execute("PRAGMA temp_store = MEMORY")
        # 16 MB of log between two checkpoints: a page that many commits change is copied and synced once.
        connection.execute("PRAGMA wal_autocheckpoint = 4000")

    def _open_reader(self) -> apsw.Connection:
        try:
            connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READONLY)
            unlock(connection, self._key)
            connection.set_busy_timeout(int(self._busy_timeout_s * 1000))
            _keep_plans(connection)
            _keep_pages(connection)
            connection.execute("PRAGMA query_only = ON")
            # What a sort cannot hold would go to a file beside the database, which nobody encrypts.
            connection.execute("PRAGMA temp_store = MEMORY")
        except apsw.Error as error:
            raise from_sqlite(error, f"The database '{self.name}' could not be read.") from error
        return connection

    def give_back(self, connection: apsw.Connection) -> None:
        """Take a reader back; its snapshot ends."""
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        # A cursor that somebody still holds half read keeps the snapshot open: nobody else may get that.
        stale = connection.txn_state() != apsw.SQLITE_TXN_NONE
        if stale:
            connection.close(force=True)
            return
        self._idle.append(connection)
        if self._closed:
            self._close_idle()

    @contextmanager
    def _transaction(self) -> Iterator[apsw.Connection]:
        connection = self._writer
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


class _Reading:
    """A reader on loan; a generator in its place would cost each read more than its SQL."""

    __slots__ = ("_connection", "_engine", "_one_statement")

    def __init__(self, engine: SqliteEngine, one_statement: bool) -> None:
        self._engine = engine
        self._one_statement = one_statement

    def __enter__(self) -> apsw.Connection:
        try:
            self._connection = self._engine.lend(one_statement=self._one_statement)
        except apsw.Error as error:
            raise self._explained(error) from error
        return self._connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.give_back(self._connection)
        if isinstance(error, apsw.Error):
            raise self._explained(error) from error

    def _explained(self, error: apsw.Error) -> BaseException:
        return from_sqlite(error, f"The database '{self._engine.name}' could not be read.")


def _plainly(connection: apsw.Connection, unit: Unit) -> Any:
    cursor = connection.cursor()
    try:
        result = unit.work(cursor)
    finally:
        cursor.close(force=True)
    if not connection.in_transaction:
        # The unit passed over an error with which SQLite rolls back everything: nothing may follow it.
        raise apsw.SQLError("the transaction ended inside of a unit")
    return result


def _in_savepoint(connection: apsw.Connection, unit: Unit) -> Any:
    connection.execute("SAVEPOINT unit")
    cursor = connection.cursor()
    try:
        result = unit.work(cursor)
        cursor.close()
        connection.execute("RELEASE unit")
    except BaseException as error:
        cursor.close(force=True)
        if not connection.in_transaction:
            # A full disk or a failing device makes SQLite roll back everything, other units included.
            raise
        connection.execute("ROLLBACK TO unit")
        connection.execute("RELEASE unit")
        return Failed(error)
    return result


def _keep_plans(connection: apsw.Connection) -> None:
    """Let a prepared statement keep its plan whatever values are bound (SQLite's stability guarantee).

    Otherwise SQLite prepares a statement with a join, an order or EXISTS anew for each set of values. That is
    more work than most of our searches are, and there are no statistics that could change the plan.
    """
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)


def _keep_pages(connection: apsw.Connection) -> None:
    """Keep up to 8 MB of pages in memory, decrypted; SQLite's 2 MB are less than a busy hour's working set.

    What does not fit is dropped oldest first, so a working set a little too large misses at every page:
    a search for a patient and a code then costs twice as much.
    """
    connection.execute("PRAGMA cache_size = -8192")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
