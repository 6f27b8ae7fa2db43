"""One database, on SQLite or PostgreSQL: writes with group commit, and read-only connections beside them."""

from __future__ import annotations

import asyncio
import os
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from digital_twins._errors import InputError, StorageError
from digital_twins.storage._groups import Failed, GroupCommit, GroupsClosedError, Unit
from digital_twins.storage._loops import Looped, Mailbox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from contextlib import AbstractContextManager
    from types import TracebackType

    import apsw

    from digital_twins.storage._engine import Engine
    from digital_twins.storage._migrations import Migration
    from digital_twins.storage._row_keys import RowKeySource

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WriteCounts:
    """How many units of work succeeded or failed so far, and how many transactions carried them."""

    units: int
    commits: int


class Database:
    """A database that many threads and processes share: a SQLite file, or a schema of a PostgreSQL server.

    Writes are units of work: functions that get a cursor. All units that wait at one moment go into one
    transaction, and every caller is answered after the commit that made its unit durable. A unit that raises
    is rolled back alone and its caller gets the exception: the group runs again, each unit in a savepoint of
    its own. Other processes may open the same database: one writes at a time, the others wait.

    SQLite runs with a write-ahead log and ``synchronous=FULL``. On PostgreSQL the cursors and connections
    have the methods of apsw's that the rooms use, and the SQL is translated; transactions take an advisory
    lock, so that they follow each other there too.

    Parameters
    ----------
    path
        The database file; its folder is made when missing. On PostgreSQL its stem names the schema, which
        is made when missing, and no file is written.
    migrations
        Schema steps of every room that keeps tables here, applied once each, by name.
    busy_timeout_s
        How long a write waits for another process before it fails with StorageError.
    server
        ``postgresql://`` URL without a password; empty: SQLite.
    key
        Key of 32 bytes that encrypts every page of the SQLite file and of its log; none: they are in clear.
        On a server the key is of no use: see `keys`.
    log_bytes
        Size at which SQLite's log is kept from the start, for a database of many small commits: overwriting
        halves what a commit waits for the disk. 0: it grows to 16 MB first.
    keys
        Of an encrypted store: what units of work seal (`seal_for`) lies under the key of its owner, and is
        opened when it is read. On a server the columns that migrations name as protected are encrypted too.
    writes_in_turn
        The caller promises that no two of its threads write at one time, so that `execute` needs no queue.

    Raises
    ------
    StorageError
        The file or its folder cannot be written, or is not a database of this software; the server cannot
        be reached.
    InputError
        Two migrations carry one name, or the URL is none.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        migrations: Sequence[Migration] = (),
        busy_timeout_s: float = 30.0,
        server: str = "",
        key: bytes | None = None,
        log_bytes: int = 0,
        keys: RowKeySource | None = None,
        writes_in_turn: bool = False,
    ) -> None:
        names = [migration.name for migration in migrations]
        if len(set(names)) != len(names):
            raise InputError(
                "The database cannot be opened.",
                "Two schema steps carry the same name.",
                "Give each migration a name of its own.",
            )
        self.path = Path(path)
        self.server = server
        self._writes_in_turn = writes_in_turn
        self._process = os.getpid()
        self._units = 0
        self._commits = 0
        self._mailbox: Mailbox | None = None  # of the event loop that asked last
        self._engine = _open_engine(
            self.path, server, migrations, busy_timeout_s, key=key, log_bytes=log_bytes, keys=keys
        )
        self._groups = GroupCommit(self._process_units, f"write {self.path.name}")

    def submit(self, work: Callable[[apsw.Cursor], T]) -> Future[T]:
        """Queue a unit of work and return its future, which resolves after the commit.

        Parameters
        ----------
        work
            Gets a cursor inside a transaction; its return value is the future's result. It must do nothing
            but use the cursor, and may be called again (when another unit of the same transaction raised, or
            broke it, e.g. by filling the disk). It must not commit or roll back.

        Raises
        ------
        StorageError
            The database is closed, or was opened before this process was forked off. The future raises it
            for a full disk, a read-only volume, an input/output error, a lost server or a lock held too
            long; ConflictError for a broken constraint; and whatever `work` itself raised.
        """
        self._check_usable()
        try:
            return self._groups.submit(_carried(work))
        except GroupsClosedError:
            raise self._closed_error() from None

    def write(self, work: Callable[[apsw.Cursor], T]) -> T:
        """Run a unit of work and return its result once it is durable; see `submit`."""
        self._check_usable()
        try:
            outcome = self._groups.write(_carried(work))
        except GroupsClosedError:
            raise self._closed_error() from None
        if isinstance(outcome, Failed):
            raise outcome.error
        return cast("T", outcome)

    def execute(self, sql: str, values: Sequence[object]) -> None:
        """Run one statement that changes rows as a transaction of its own; return once it is durable.

        For a caller that gathers its rows itself: a third of the work of `write`.

        Raises
        ------
        StorageError, ConflictError
            As `submit` says.
        """
        if os.getpid() != self._process or not (self._writes_in_turn or self._groups.lead()):
            self.write(lambda cursor: cursor.execute(sql, values))
            return
        try:
            self._engine.execute(sql, values)
            self._units += 1
            self._commits += 1
        except Exception as error:
            if self._groups.closed:
                raise self._closed_error() from None
            answer = self._engine.explain(error, f"The database '{self._engine.name}' could not be written.")
            if answer is error:
                raise
            raise answer from error
        finally:
            if not self._writes_in_turn:
                self._groups.follow()

    async def commit(self, work: Callable[[apsw.Cursor], T]) -> T:
        """Run a unit of work and return its result once it is durable, for coroutines; see `submit`.

        Cheaper than awaiting the future of `submit`: the callers of one group are woken together.
        """
        self._check_usable()
        loop = asyncio.get_running_loop()
        mailbox = self._mailbox
        if mailbox is None or mailbox.loop is not loop:
            self._mailbox = mailbox = Mailbox(loop)
        unit = Looped(_carried(work), mailbox)
        try:
            self._groups.queue(unit)
        except GroupsClosedError:
            raise self._closed_error() from None
        return cast("T", await unit.future)

    def read(self, *, one_statement: bool = False) -> AbstractContextManager[apsw.Connection]:
        """Lend a read-only connection; everything read inside the block is one snapshot.

        Keep the block short: old row versions cannot be cleared away below the oldest snapshot in use.

        Parameters
        ----------
        one_statement
            The answer comes from a single statement, which is a snapshot by itself: SQLite is then spared the
            two that begin and end a transaction.
        """
        self._check_usable()
        if self._groups.closed:
            raise self._closed_error()
        return self._engine.reading(one_statement=one_statement)

    @property
    def location(self) -> tuple[str, str] | None:
        """URL and schema on a PostgreSQL server; None when the database is the file at `path`."""
        return self._engine.location

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._groups.closed

    @property
    def counts(self) -> WriteCounts:
        """Units of work and transactions since the database was opened."""
        return WriteCounts(self._units, self._commits)

    def close(self) -> None:
        """Finish the writes that wait, then close every connection; further calls do nothing."""
        if self._groups.closed or os.getpid() != self._process:
            return
        self._groups.close()
        self._engine.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_usable(self) -> None:
        if os.getpid() != self._process:
            raise StorageError(
                f"The database '{self._engine.name}' cannot be used here.",
                "It was opened before this process was forked off, which its connections do not survive.",
                "Open the database again in the new process.",
            )

    def _closed_error(self) -> StorageError:
        return StorageError(
            f"The database '{self._engine.name}' is closed.",
            "The node is shutting down.",
            "Send the request again after the restart.",
        )

    def _process_units(self, units: Sequence[Unit]) -> None:
        try:
            outcomes = self._engine.run(units)
            self._commits += 1
        except BaseException as error:  # noqa: BLE001  (edge of the writer thread: every caller gets an answer)
            if len(units) > 1 and self._engine.may_repeat(error):
                # One unit may have broken the whole transaction; alone, each gets the answer it deserves.
                for unit in units:
                    self._process_units([unit])
                return
            outcomes = [Failed(error)] * len(units)
        self._units += len(units)
        for unit, outcome in zip(units, outcomes, strict=True):
            unit.resolve(self._explained(outcome) if isinstance(outcome, Failed) else outcome)

    def _explained(self, outcome: Failed) -> Failed:
        answer = self._engine.explain(
            outcome.error, f"The database '{self._engine.name}' could not be written."
        )
        if answer is not outcome.error:
            answer.__cause__ = outcome.error
        return Failed(answer)


def _carried(work: Callable[[apsw.Cursor], T]) -> Callable[[apsw.Cursor], T]:
    """Return the unit of work with the context variables of its caller: who acts goes with the work."""
    context = copy_context()
    return lambda cursor: context.run(work, cursor)


def _open_engine(
    path: Path,
    server: str,
    migrations: Sequence[Migration],
    busy_timeout_s: float,
    *,
    key: bytes | None,
    log_bytes: int,
    keys: RowKeySource | None,
) -> Engine:
    row_keys = None
    if keys is not None:
        from digital_twins.storage._row_keys import RowKeys

        row_keys = RowKeys(keys)
    if server:
        from digital_twins.storage._postgresql import PostgresEngine

        return PostgresEngine(
            server, path.stem, migrations=migrations, busy_timeout_s=busy_timeout_s, row_keys=row_keys
        )
    from digital_twins.storage._sqlite import SqliteEngine

    return SqliteEngine(
        path,
        migrations=migrations,
        busy_timeout_s=busy_timeout_s,
        key=key,
        log_bytes=log_bytes,
        row_keys=row_keys,
    )
