"""Readings that come one by one, handed to the parts of a ward a few times a second."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from digital_twins._errors import DigitalTwinError
from digital_twins._logging import get_logger
from digital_twins.monitoring.ingest import Running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from types import TracebackType

    from digital_twins.monitoring.signals import Reading

_log = get_logger(__name__)
_EVERY_S, _RETRY_S = 0.2, 0.5
_MOST = 20_000


class ReadingMail(Running):
    """Collects readings and sends them on: ``async with ReadingMail(doors.take) as mail: mail.offer(...)``.

    Parameters
    ----------
    send
        Takes readings durably; False: there is no room now.

    Attributes
    ----------
    refused
        How many came while too many waited for room.
    """

    def __init__(self, send: Callable[[Sequence[Reading]], Awaitable[bool]]) -> None:
        self._send = send
        self._waiting: list[Reading] = []
        self._some = asyncio.Event()
        self.refused = 0

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        await self._hand_over()

    def offer(self, reading: Reading) -> bool:
        """Take a reading, in the event loop; False, counted and logged: too many wait."""
        if len(self._waiting) >= _MOST:
            if not self.refused:
                _log.error("ward.mail", what="Readings are lost.", why="No part of the ward takes them.")
            self.refused += 1
            return False
        self._waiting.append(reading)
        self._some.set()
        return True

    async def _run(self) -> None:
        while True:
            await self._some.wait()
            await asyncio.sleep(_EVERY_S if await self._hand_over() else _RETRY_S)

    async def _hand_over(self) -> bool:
        """Send what waits; what cannot be sent goes on waiting."""
        batch = self._waiting[:]
        if not batch:
            return True
        try:
            sent = await self._send(batch)
        except DigitalTwinError as error:
            _log.error("ward.mail", what=error.what, why=error.why)
            return False
        if sent:
            del self._waiting[: len(batch)]
            if not self._waiting:
                self._some.clear()
        return sent
