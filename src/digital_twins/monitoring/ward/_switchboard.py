"""How the front of a divided ward asks its parts: a request as mail, the answer as a row in the database."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from typing import TYPE_CHECKING

from digital_twins._errors import DigitalTwinError, StorageError
from digital_twins._logging import get_logger
from digital_twins.monitoring.ingest import Running
from digital_twins.monitoring.parts import Ask, send_asks

if TYPE_CHECKING:
    from digital_twins.monitoring.station import StaffMember
    from digital_twins.storage import Database

    Answer = tuple[int, bytes]

_log = get_logger(__name__)
_POLL_S, _RETRY_S = 0.03, 0.5
ANSWER_S = 9.0
"""So long the front waits for a part: longer than a part is without a worker."""


class PartAwayError(StorageError):
    """No worker holds the part at this moment."""

    http_status = 503


def part_away() -> PartAwayError:
    """Return the answer for a part that is being taken over."""
    return PartAwayError(
        "The part of the ward does not answer.",
        "Its worker has ended, or is busy; another takes it over.",
        "Try again in a few seconds.",
    )


class Switchboard(Running):
    """Asks parts and waits for their answers: ``async with Switchboard(database)``.

    Parameters
    ----------
    database
        Of the ward.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open: dict[str, asyncio.Future[Answer]] = {}
        self._some = asyncio.Event()

    async def ask(
        self,
        part: int,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        member: StaffMember,
        answer_s: float = ANSWER_S,
    ) -> Answer:
        """Return status and body of a part's answer, for which it has `answer_s` seconds.

        Raises
        ------
        PartAwayError
            It did not answer in time. Whether it will still do what was asked is not known.
        StorageError
            The request could not be written.
        """
        name = secrets.token_hex(12)
        asked = Ask(name, method, path, body, member.name, member.role, time.time() + answer_s)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._open[name] = future
        try:
            await self._database.commit(lambda cursor: send_asks(cursor, [(part, asked)]))
            self._some.set()
            async with asyncio.timeout(answer_s):
                return await future
        except TimeoutError:
            raise part_away() from None
        finally:
            del self._open[name]

    async def _run(self) -> None:
        while True:
            if not self._open:
                self._some.clear()
                await self._some.wait()
            wait_s = _POLL_S
            try:
                found = await asyncio.to_thread(self._answers, list(self._open))
            except DigitalTwinError as error:
                _log.error("monitor.switchboard", what=error.what, why=error.why)
                found, wait_s = [], _RETRY_S
            for name, answer in found:
                with contextlib.suppress(KeyError, asyncio.InvalidStateError):
                    self._open[name].set_result(answer)
            await asyncio.sleep(wait_s)

    def _answers(self, names: list[str]) -> list[tuple[str, Answer]]:
        marks = ", ".join("?" * len(names[:500]))
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT name, status, data FROM monitor_answer WHERE name IN ({marks})",  # noqa: S608  (marks only)  # nosec B608
                tuple(names[:500]),
            ).fetchall()
        return [(str(name), (int(str(status)), bytes(data))) for name, status, data in rows]  # type: ignore[arg-type]
