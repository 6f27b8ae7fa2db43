"""The trail itself: an append-only table whose rows are chained by SHA-256."""

from __future__ import annotations

import contextlib
import threading
from hashlib import sha256
from itertools import chain as chained
from pathlib import Path
from typing import TYPE_CHECKING

from digital_twins._errors import ConflictError
from digital_twins.audit import _outbox
from digital_twins.audit._head import START, Head, HeadFile
from digital_twins.audit._known import IDS_MIGRATION, complete_ids, index_ids, known_ids
from digital_twins.audit._merkle import TILE
from digital_twins.audit._place import settle
from digital_twins.audit._reading import AuditRow, last_rows
from digital_twins.audit._shared import SharedAppend
from digital_twins.audit._signer import Signer
from digital_twins.audit._tree import TREE_MIGRATION, grow
from digital_twins.audit._verify import VerifyReport, verify_trail
from digital_twins.storage import Database, Migration

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    import apsw

    from digital_twins.audit._event import AuditEvent
    from digital_twins.audit._known import Known
    from digital_twins.audit._shared import Row

_DRAIN_ROWS = 1000
_HEAD_INTERVAL_S = 0.05
"""Least time between two checkpoints, so that a busy trail does not sync twice for each commit."""

_LOG_BYTES = 4 * 1024 * 1024
_MOST_AT_ONCE = 64
"""Rows in one statement; SQLite would take 6,500 of them."""
_INSERT = "INSERT INTO audit_event(seq, event_id, body, leaf, chain) VALUES "
_ROW = "(?, ?, ?, ?, ?)"
_STATEMENTS = [_INSERT + ", ".join([_ROW] * count) for count in range(_MOST_AT_ONCE + 1)]

_MIGRATIONS = (
    Migration(
        "audit.0002.trail",
        """
        CREATE TABLE audit_event(
            seq INTEGER PRIMARY KEY,
            event_id TEXT NOT NULL UNIQUE,
            body TEXT NOT NULL,
            leaf BLOB NOT NULL,
            chain BLOB NOT NULL
        );
        CREATE TRIGGER audit_event_no_update BEFORE UPDATE ON audit_event
            BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
        CREATE TRIGGER audit_event_no_delete BEFORE DELETE ON audit_event
            BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
        """,
    ),
    TREE_MIGRATION,
    IDS_MIGRATION,
)


class AuditTrail:
    """Append-only events in a SQLite file, or a PostgreSQL schema, of their own.

    Row n holds ``leaf = SHA-256(0x00 || body)`` (the leaf hash of RFC 6962 section 2.1) and
    ``chain = SHA-256(chain of row n-1 || leaf)``. Triggers abort UPDATE and DELETE. Beside the file stands
    ``<name>.head``, which a thread of its own rewrites and syncs within a twentieth of a second.

    The leaves are those of a Merkle tree (RFC 6962), whose nodes above every 256 leaves are stored in the
    transaction of the rows. At the start, once a minute while events come, and at the end its root is signed:
    ``<name>.checkpoints`` holds the checkpoints, ``<name>.key`` the Ed25519 key (made at first use) and
    ``<name>.vkey`` its public half. A trail of an older version gets its tree when it is opened. On
    PostgreSQL the rows are in the schema that the path's stem names, these files stay where they are, and
    ``<name>.server`` tells readers where the rows are.

    What this finds and what it cannot find is said at `verify_trail`.

    Parameters
    ----------
    path
        The trail's file, e.g. ``audit.db``; the chain's head is then ``audit.head``.
    anchor
        A second file that gets every checkpoint: on another disk or machine, out of reach of whoever can
        write the trail's folder.
    server
        ``postgresql://`` URL of the server that keeps the rows; empty: SQLite.
    schema
        Where the rows are on the server, so that two trails can share it; empty: the stem of the path.

    Raises
    ------
    StorageError
        The file or its folder cannot be written, the signing key cannot be used, or the trail's rows are on
        the other kind of database.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        anchor: str | os.PathLike[str] | None = None,
        server: str = "",
        schema: str = "",
    ) -> None:
        self.path = Path(path)
        existed = self.path.exists()
        rows = self.path.with_stem(schema) if server and schema else self.path
        self._database = Database(
            rows, migrations=_MIGRATIONS, server=server, log_bytes=_LOG_BYTES, writes_in_turn=True
        )
        try:
            settle(self.path, self._database.location, existed=existed)
        except BaseException:
            self._database.close()
            raise
        self._head_file = HeadFile(self.path.with_suffix(".head"))
        self._end = Head(0, START)  # after the last row that this process wrote or saw
        self._wanted: Head | None = None
        self._written: Head | None = None
        self._changed = threading.Condition()
        self._resting = False
        self._closing = False
        self._shared = SharedAppend(self._record)
        self._resume()
        self._signer = Signer(self.path, self._database, None if anchor is None else Path(anchor))
        self._signer.start()
        self._thread = threading.Thread(target=self._follow, name="audit head", daemon=True)
        self._thread.start()

    def append(self, events: Iterable[AuditEvent]) -> int:
        """Record events durably, in order, and return how many were new; known event ids are left out.

        Raises
        ------
        StorageError
            Disk full, read-only volume, device error or closed trail; none of the events was recorded.
        """
        return self._shared.append([(event.event_id, event.to_json()) for event in events])

    def drain(self, database: Database) -> int:
        """Move staged events from the outbox of `database` into the trail and return how many were moved.

        They are recorded in the order of their commits, each exactly once: a row leaves the outbox after it
        is durable here, and one that a crash left behind is known by its event id.
        """
        moved = 0
        while rows := _outbox.waiting(database, _DRAIN_ROWS):
            moved += self._shared.append([(event_id, body) for _, event_id, body in rows])
            _outbox.remove(database, rows)
        return moved

    def verify(self) -> VerifyReport:
        """Recompute every hash; see `verify_trail`."""
        return verify_trail(self.path, anchor=self._signer.anchor_file)

    def tail(self, n: int = 20) -> tuple[AuditRow, ...]:
        """Return the last `n` events, oldest first."""
        with self._database.read() as connection:
            return last_rows(connection, n)

    def close(self) -> None:
        """Write the last checkpoint and close the file."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        self._signer.sign()
        self._database.close()

    def __enter__(self) -> AuditTrail:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _record(self, batches: Sequence[Sequence[Row]]) -> list[int]:
        """Record rows in one transaction and return how many of each batch were new."""
        rows = batches[0] if len(batches) == 1 else list(chained.from_iterable(batches))
        if self._added(rows):
            counts = [len(each) for each in batches]
        else:
            self._end, self._known, counts = self._database.write(lambda cursor: _extend(cursor, batches))
        self._wanted = self._end
        if not self._resting:  # who rests looks again; waking it each time would cost more than the SQL
            with self._changed:
                self._changed.notify()
        return counts

    def _added(self, rows: Sequence[Row]) -> bool:
        """Add new rows with one statement, unless one may be known, they complete a tile, or others wrote."""
        start = self._end
        count = len(rows)
        if not 0 < count <= _MOST_AT_ONCE or start.size % TILE + count >= TILE:
            return False
        ids = [row[0] for row in rows]
        if not self._known.certainly_new(ids):
            return False
        values, head = _chained(rows, start)
        try:
            self._database.execute(_STATEMENTS[count], values)
        except ConflictError:  # ``start`` is not the end any more
            return False
        self._end = head
        self._known.recent.update(ids)
        return True

    def _resume(self) -> None:
        """Complete tree and ids of an older trail; keep a head that contradicts the rows as evidence."""
        self._known = self._database.write(_completed)
        with self._database.read() as connection:
            present = _last(connection.cursor())
            known = self._head_file.read()
            size = 0 if known is None else known.size
            agrees = _chain_at(connection.cursor(), size) == (START if known is None else known.chain)
        if not agrees or (known is None and present.size > 0):
            self._head_file.set_aside()
        self._end = present
        self._head_file.advance(present)

    def _follow(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closing or self._wanted is not self._written, self._signer.due_in_s()
                )
                head, closing = self._wanted, self._closing
            if head is not None and head is not self._written:
                self._written = head
                self._signer.behind = True
                with contextlib.suppress(OSError):  # a failing disk delays the checkpoint to the next commit
                    self._head_file.advance(head)
                with self._changed:
                    self._resting = True
                    self._changed.wait_for(lambda: self._closing, timeout=_HEAD_INTERVAL_S)
                    self._resting = False
            elif closing:
                return
            if self._signer.due_in_s() == 0:
                self._signer.sign()


def _last(cursor: apsw.Cursor) -> Head:
    row = cursor.execute("SELECT seq, chain FROM audit_event ORDER BY seq DESC LIMIT 1").fetchone()
    return Head(0, START) if row is None else Head(row[0], row[1])


def _chain_at(cursor: apsw.Cursor, seq: int) -> bytes | None:
    if seq == 0:
        return START
    row = cursor.execute("SELECT chain FROM audit_event WHERE seq = ?", (seq,)).fetchone()
    return None if row is None else row[0]


def _chained(rows: Sequence[Row], start: Head) -> tuple[list[int | str | bytes], Head]:
    """Return the values of the rows behind an end, one row after the other, and the new end."""
    size, chain = start.size, start.chain
    values: list[int | str | bytes] = []
    for event_id, body in rows:
        leaf = sha256(b"\0" + body.encode()).digest()
        chain = sha256(chain + leaf).digest()
        size += 1
        values += size, event_id, body, leaf, chain
    return values, Head(size, chain)


def _completed(cursor: apsw.Cursor) -> Known:
    size = _last(cursor).size
    grow(cursor, size)
    complete_ids(cursor, size)
    return known_ids(cursor, size)


def _extend(cursor: apsw.Cursor, batches: Sequence[Sequence[Row]]) -> tuple[Head, Known, list[int]]:
    """Add the rows that are new; return the end, the ids known there, and how many of each batch were new."""
    start = _last(cursor)
    known = known_ids(cursor, start.size)
    new: list[Row] = []
    counts = []
    for rows in batches:
        before = len(new)
        new.extend(row for row in rows if known.add(cursor, row[0]))
        counts.append(len(new) - before)
    values, head = _chained(new, start)
    width = _MOST_AT_ONCE * _ROW.count("?")
    for first in range(0, len(values), width):
        part = values[first : first + width]
        cursor.execute(_STATEMENTS[len(part) // _ROW.count("?")], part)
    if head.size // TILE > start.size // TILE:
        grow(cursor, head.size)
        index_ids(cursor, start.size, head.size)
        known = known_ids(cursor, head.size)
    return head, known, counts
