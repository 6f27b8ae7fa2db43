"""Read a trail without changing anything, also while a node writes to it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import apsw

from digital_twins._errors import NotFoundError, StorageError
from digital_twins.audit._event import AuditEvent

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class AuditRow:
    """An event with its place in the trail (from 1) and the chain hash up to it, in hex."""

    seq: int
    chain: str
    event: AuditEvent


def tail_trail(path: str | os.PathLike[str], n: int = 20) -> tuple[AuditRow, ...]:
    """Return the last `n` events of a trail, oldest first.

    Raises
    ------
    NotFoundError
        There is no trail at `path`.
    StorageError
        The file cannot be read as a trail.
    """
    with reading(Path(path)) as connection:
        return last_rows(connection, n)


def last_rows(connection: apsw.Connection, n: int) -> tuple[AuditRow, ...]:
    """Return the last `n` rows, oldest first."""
    rows = connection.execute(
        "SELECT seq, chain, body FROM audit_event ORDER BY seq DESC LIMIT ?", (n,)
    ).fetchall()
    return tuple(
        AuditRow(int(str(seq)), bytes(chain).hex(), AuditEvent.from_json(str(body)))
        for seq, chain, body in reversed(rows)
    )


@contextmanager
def reading(file: Path) -> Iterator[apsw.Connection]:
    """Lend a read-only connection and turn what SQLite reports into words."""
    if not file.is_file():
        raise NotFoundError(
            f"There is no audit trail '{file.name}' here.",
            "The data folder has not been used by a node yet, or it is another one.",
            "Name the data folder of the node with --data.",
        )
    try:
        connection = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            connection.set_busy_timeout(30_000)
            yield connection
        finally:
            connection.close(force=True)
    except (apsw.Error, OSError) as error:
        raise StorageError(
            f"The audit trail '{file.name}' cannot be read.",
            f"It is damaged or not readable ({type(error).__name__}).",
            "Keep a copy as evidence, then restore the trail and its head file from the backup.",
        ) from error
