"""Room in SQLite's write-ahead log, written out before it is needed."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import apsw

_FRAME_HEADER_BYTES = 24
_LOG_HEADER_BYTES = 32


def reserve(connection: apsw.Connection, path: Path, *, log_bytes: int) -> None:
    """Fill the log with zeros up to a size, sync it, and start it again from its beginning at that size.

    SQLite overwrites its log after each checkpoint. A commit that overwrites blocks which are there leaves
    the file's size and extents alone, so that its flush waits for the data and not for the journal of the
    file system as well. A reader takes zeros for the end of the log, as their salts are none of its own
    (https://www.sqlite.org/fileformat2.html#the_write_ahead_log, section 4.2).

    Where there is no room on the disk the log grows as it is needed.

    Parameters
    ----------
    connection
        The writer's, in WAL mode and outside of a transaction.
    path
        Of the database.
    log_bytes
        Size of the log.

    Raises
    ------
    apsw.Error
        Another process held the write lock for too long.
    """
    page_bytes = int(str(connection.execute("PRAGMA page_size").fetchall()[0][0]))
    frames = (log_bytes - _LOG_HEADER_BYTES) // (page_bytes + _FRAME_HEADER_BYTES)
    # An eighth is left for the commit that reaches the limit, which may have many pages.
    connection.execute(f"PRAGMA wal_autocheckpoint = {max(1, frames * 7 // 8)}")
    connection.execute("BEGIN IMMEDIATE")  # nobody appends to the log meanwhile
    try:
        with contextlib.suppress(OSError):
            _extend(path.with_name(f"{path.name}-wal"), log_bytes)
    finally:
        connection.execute("ROLLBACK")


def _extend(log: Path, size: int) -> None:
    descriptor = os.open(log, os.O_RDWR)
    try:
        present = os.fstat(descriptor).st_size
        if present >= size:
            return
        try:
            written = os.pwrite(descriptor, bytes(size - present), present)
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, present)
            raise
        if written < size - present:  # the disk filled up: what little there is belongs to the commits
            os.ftruncate(descriptor, present)
    finally:
        os.close(descriptor)
