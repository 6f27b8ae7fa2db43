"""The audit trail of a ward: events of alerts leave the database's outbox for the hash chain."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from digital_twins._errors import DigitalTwinError
from digital_twins._logging import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from digital_twins.audit import Auditor, AuditTrail
    from digital_twins.storage import Database

_log = get_logger(__name__)
_DRAIN_S, _RETRY_S = 0.5, 5.0
SCHEMA = "monitor_audit"
"""Of the trail's rows on a server, where a node may have a trail of its own."""


def ward_auditor(folder: Path) -> Auditor:
    """Return the auditor of the ward in a folder; the key of its pseudonyms is made at first use."""
    from digital_twins.audit import Auditor, load_pseudonym_key

    folder.mkdir(parents=True, exist_ok=True)
    return Auditor("MONITOR", load_pseudonym_key(folder / "pseudonym.key"), agent="monitor")


@contextlib.asynccontextmanager
async def writing_trail(folder: Path, database: Database, *, server: str = "") -> AsyncIterator[None]:
    """Move staged events into the trail ``audit.sqlite`` of a folder, twice a second and at the end.

    Parameters
    ----------
    folder
        Of the monitor.
    database
        With the outbox.
    server
        ``postgresql://`` URL that keeps the trail's rows; empty: SQLite.

    Raises
    ------
    StorageError
        The trail cannot be opened.
    """
    from digital_twins.audit import AuditTrail

    trail = await asyncio.to_thread(AuditTrail, folder / "audit.sqlite", server=server, schema=SCHEMA)
    ended = asyncio.Event()

    async def drain() -> None:
        while not ended.is_set():
            wait_s = _DRAIN_S
            try:
                await asyncio.to_thread(trail.drain, database)
            except DigitalTwinError as error:
                _log.error("audit.drain.failed", what=error.what, why=error.why)
                wait_s = _RETRY_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), wait_s)

    task = asyncio.create_task(drain())
    try:
        yield
    finally:
        ended.set()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(_finish, trail, database)


def _finish(trail: AuditTrail, database: Database) -> None:
    try:
        trail.drain(database)
    except DigitalTwinError as error:  # the outbox keeps them for the next start
        _log.error("audit.drain.failed", what=error.what, why=error.why)
    finally:
        trail.close()
