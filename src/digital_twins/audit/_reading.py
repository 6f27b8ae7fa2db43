"""Read a trail without changing anything, also while a node writes to it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import apsw

from digital_twins._errors import NotFoundError, StorageError
from digital_twins.audit._event import AuditEvent
from digital_twins.audit._known import holds
from digital_twins.audit._period import period_bounds
from digital_twins.audit._place import place
from digital_twins.storage import read_schema, stream

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

_ROWS = "SELECT seq, leaf, chain, body FROM audit_event WHERE seq > ?"
_BETWEEN = "AND body ->> '$.at_utc' >= ? AND body ->> '$.at_utc' < ?"


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


def any_recorded(path: str | os.PathLike[str], event_ids: Sequence[str]) -> bool:
    """Tell whether a trail holds one of these events.

    Raises
    ------
    NotFoundError
        There is no trail at `path`.
    StorageError
        The file cannot be read as a trail.
    """
    with reading(Path(path)) as connection:
        return any(holds(connection, each) for each in event_ids)


def export_trail(path: str | os.PathLike[str], *, period: str | None = None, after: int = 0) -> Iterator[str]:
    """Give the rows of a trail as JSON lines (NDJSON), oldest first, with a newline each.

    A line holds ``seq``, ``leaf`` and ``chain`` (hex) and, as ``event``, the canonical bytes of the row: leaf
    is SHA-256 of 0x00 and exactly these bytes, chain SHA-256 of the row before and leaf. So a full export can
    be verified, and its Merkle root recomputed, without this software.

    Parameters
    ----------
    path
        The trail's file.
    period
        As for `period_bounds`; compared with the event's own time. None gives all rows.
    after
        Only rows behind this one.

    Raises
    ------
    NotFoundError
        There is no trail at `path`.
    StorageError
        The file cannot be read as a trail.
    InputError
        The period was not understood.
    """
    with reading(Path(path)) as connection:
        if period is None:
            rows = stream(connection, f"{_ROWS} ORDER BY seq", (after,))
        else:
            start, end = (f"{day:%Y-%m-%dT%H:%M:%S}" for day in period_bounds(period))
            rows = stream(connection, f"{_ROWS} {_BETWEEN} ORDER BY seq", (after, start, end))
        for seq, leaf, chain, body in rows:
            yield f'{{"seq":{seq},"leaf":"{leaf.hex()}","chain":"{chain.hex()}","event":{body}}}\n'


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
    server = place(file)
    if server is not None:
        with read_schema(*server) as connection:
            yield connection
        return
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
