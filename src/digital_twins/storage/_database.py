"""One SQLite file: a writer thread with group commit, and read-only connections beside it."""

from __future__ import annotations

import os
import queue
import threading
import time
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import Context, copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import apsw

from digital_twins._errors import InputError, StorageError
from digital_twins.storage._failures import from_os_error, from_sqlite
from digital_twins.storage._migrations import Migration, apply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

T = TypeVar("T")

_BATCH_LIMIT = 512
"""Units of work in one transaction: bounds how long the first of them waits for its answer."""


@dataclass(frozen=True, slots=True)
class WriteCounts:
    """How many units of work succeeded or failed so far, and how many transactions carried them."""

    units: int
    commits: int


@dataclass(slots=True)
class _Unit(Generic[T]):
    work: Callable[[apsw.Cursor], T]
    future: Future[T]
    context: Context


@dataclass(frozen=True, slots=True)
class _Failed:
    error: BaseException


class Database:
    """A SQLite database (WAL, synchronous=FULL) that many threads and processes share.

    Writes are units of work: functions that get a cursor. One thread runs them; all units that wait at one
    moment go into one transaction, each in a savepoint of its own, and every caller is answered after the
    commit that made its unit durable. A unit that raises is rolled back alone and its caller gets the
    exception. Other processes may open the same file: the write lock is waited for.

    Parameters
    ----------
    path
        The database file; its folder is made when missing.
    migrations
        Schema steps of every room that keeps tables here, applied once each, by name.
    busy_timeout_s
        How long a write waits for another process before it fails with StorageError.

    Raises
    ------
    StorageError
        The file or its folder cannot be written, or is not a database of this software.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        migrations: Sequence[Migration] = (),
        busy_timeout_s: float = 30.0,
    ) -> None:
        self.path = Path(path)
        self._what = f"The database '{self.path.name}' could not be written."
        self._busy_timeout_s = busy_timeout_s
        self._process = os.getpid()
        self._idle: queue.LifoQueue[apsw.Connection] = queue.LifoQueue()
        self._waiting: queue.SimpleQueue[_Unit[Any] | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._units = 0
        self._commits = 0
        self._writer = self._open_writer(migrations)
        self._thread = threading.Thread(target=self._run, name=f"write {self.path.name}", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[apsw.Cursor], T]) -> Future[T]:
        """Queue a unit of work and return its future, which resolves after the commit.

        Parameters
        ----------
        work
            Gets a cursor inside a transaction; its return value is the future's result. It must do nothing
            but use the cursor, and may be called a second time (when another unit of the same transaction
            broke it, e.g. by filling the disk). It must not commit or roll back.

        Raises
        ------
        StorageError
            The database is closed, or was opened before this process was forked off. The future raises it
            for a full disk, a read-only volume, an input/output error or a lock held too long; ConflictError
            for a broken constraint; and whatever `work` itself raised.
        """
        self._check_usable()
        unit = _Unit(work, Future(), copy_context())  # who acts goes with the work
        with self._closing:
            if self._closed:
                raise self._closed_error()
            self._waiting.put(unit)
        return unit.future

    def write(self, work: Callable[[apsw.Cursor], T]) -> T:
        """Run a unit of work and return its result once it is durable; see `submit`."""
        if threading.current_thread() is self._thread:
            raise RuntimeError("write() inside a unit of work would wait for itself: use the cursor you have")
        return self.submit(work).result()

    @contextmanager
    def read(self) -> Iterator[apsw.Connection]:
        """Lend a read-only connection; everything read inside the block is one snapshot.

        Keep the block short: the write-ahead log cannot shrink below the oldest snapshot in use.
        """
        self._check_usable()
        if self._closed:
            raise self._closed_error()
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = self._open_reader()
        try:
            connection.execute("BEGIN")
            yield connection
        except apsw.Error as error:
            raise from_sqlite(error, f"The database '{self.path.name}' could not be read.") from error
        finally:
            self._give_back(connection)

    @property
    def counts(self) -> WriteCounts:
        """Units of work and transactions since the database was opened."""
        return WriteCounts(self._units, self._commits)

    def close(self) -> None:
        """Finish the writes that wait, then close every connection; further calls do nothing."""
        with self._closing:
            if self._closed or os.getpid() != self._process:
                return
            self._closed = True
            self._waiting.put(None)
        self._thread.join()
        while not self._idle.empty():
            self._idle.get_nowait().close()
        self._writer.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_writer(self, migrations: Sequence[Migration]) -> apsw.Connection:
        names = [migration.name for migration in migrations]
        if len(set(names)) != len(names):
            raise InputError(
                "The database cannot be opened.",
                "Two schema steps carry the same name.",
                "Give each migration a name of its own.",
            )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = apsw.Connection(str(self.path))
        except OSError as error:
            raise from_os_error(error, self._what) from error
        except apsw.Error as error:
            raise from_sqlite(error, self._what) from error
        try:
            self._configure(connection)
            apply(connection, migrations)
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
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA journal_size_limit = 67108864")

    def _open_reader(self) -> apsw.Connection:
        try:
            connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READONLY)
            connection.set_busy_timeout(int(self._busy_timeout_s * 1000))
            connection.execute("PRAGMA query_only = ON")
        except apsw.Error as error:
            raise from_sqlite(error, f"The database '{self.path.name}' could not be read.") from error
        return connection

    def _give_back(self, connection: apsw.Connection) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        # A cursor that somebody still holds half read keeps the snapshot open: nobody else may get that.
        stale = connection.txn_state() != apsw.SQLITE_TXN_NONE
        with self._closing:
            if not self._closed and not stale:
                self._idle.put(connection)
                return
        connection.close(force=True)

    def _check_usable(self) -> None:
        if os.getpid() != self._process:
            raise StorageError(
                f"The database '{self.path.name}' cannot be used here.",
                "It was opened before this process was forked off, which SQLite connections do not survive.",
                "Open the database again in the new process.",
            )

    def _closed_error(self) -> StorageError:
        return StorageError(
            f"The database '{self.path.name}' is closed.",
            "The node is shutting down.",
            "Send the request again after the restart.",
        )

    def _run(self) -> None:
        last = False
        while not last:
            units: list[_Unit[Any]] = []
            first = self._waiting.get()
            while True:
                if first is None:
                    last = True
                    break
                if first.future.set_running_or_notify_cancel():
                    units.append(first)
                if len(units) >= _BATCH_LIMIT or self._waiting.empty():
                    break
                first = self._waiting.get()
            if units:
                self._process_units(units)

    def _process_units(self, units: Sequence[_Unit[Any]]) -> None:
        try:
            outcomes = self._transaction(units)
        except BaseException as error:  # noqa: BLE001  (edge of the writer thread: every caller gets an answer)
            if len(units) > 1:
                # One unit may have broken the whole transaction; alone, each gets the answer it deserves.
                for unit in units:
                    self._process_units([unit])
                return
            outcomes = [_Failed(error)]
        self._units += len(units)
        for unit, outcome in zip(units, outcomes, strict=True):
            if isinstance(outcome, _Failed):
                answer = from_sqlite(outcome.error, self._what)
                if answer is not outcome.error:
                    answer.__cause__ = outcome.error
                unit.future.set_exception(answer)
            else:
                unit.future.set_result(outcome)

    def _transaction(self, units: Sequence[_Unit[Any]]) -> list[Any]:
        connection = self._writer
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        try:
            outcomes = [self._run_unit(unit) for unit in units]
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._commits += 1
        return outcomes

    def _run_unit(self, unit: _Unit[Any]) -> Any:
        connection = self._writer
        connection.execute("SAVEPOINT unit")
        cursor = connection.cursor()
        try:
            result = unit.context.run(unit.work, cursor)
            cursor.close()
            connection.execute("RELEASE unit")
        except BaseException as error:
            cursor.close(force=True)
            if not connection.in_transaction:
                # A full disk or a failing device makes SQLite roll back everything, other units included.
                raise
            connection.execute("ROLLBACK TO unit")
            connection.execute("RELEASE unit")
            return _Failed(error)
        return result


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
