"""One part's side of a divided ward: what it hears from the others goes to its intake, and the reverse."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from digital_twins._errors import ConflictError, DigitalTwinError
from digital_twins._logging import get_logger
from digital_twins.monitoring.parts import Ask, Exchange, Heard, Homes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from digital_twins.monitoring.service._service import MonitorService
    from digital_twins.monitoring.signals import Association

_log = get_logger(__name__)
SKEW_S = 5.0
"""By so much the clocks of a ward's machines may differ."""
_LOOK_S = 10.0
_MOST_MOMENTS = 16


class Division:
    """Makes a `MonitorService` one part of a ward; it is made before the service resumes.

    Parameters
    ----------
    service
        With its part, database, associations and intake.

    Attributes
    ----------
    respond
        Answers requests of the front, as status and body; None: they wait.
    """

    def __init__(self, service: MonitorService) -> None:
        self._service, self._number = service, service.part.number
        self.homes = Homes(service.part.count)
        self.exchange = Exchange(service.database, service.part)
        self.respond: Callable[[Ask], Awaitable[tuple[int, bytes]]] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._looked_s = 0.0
        self._recent_s: set[float] = set()
        self._look(self.exchange.news())
        service.intake.elsewhere, service.intake.forward = self._elsewhere, self.exchange.send

    async def listen(self) -> None:
        """Ask the database what is new, and use it; raises StorageError."""
        self.hear(await asyncio.to_thread(self.exchange.poll))

    def hear(self, heard: Heard) -> None:
        """Use what a poll found."""
        service = self._service
        if heard.associations or service.clock() - self._looked_s >= _LOOK_S:
            self._look(heard.associations)
        if heard.associations:
            service.intake.release()
            if self.exchange.sending:
                service.want_snapshot()  # the quarantine without them, in the same transaction
        for number, lines in heard.readings:
            taken = all(service.intake.offer(reading, received_s=at_s) for reading, at_s in lines)
            (self.exchange.used if taken else self.exchange.unused)(number)
        for number, ask in heard.asks:
            self._begin(number, ask)

    async def stop(self) -> None:
        """End what is being answered; further requests wait for the next worker."""
        self.respond = None
        for each in self._tasks:
            each.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _moments(self, entries: Iterable[Association], now_s: float) -> set[float]:
        """Return moments that tell who has readings on two ways: until the next look, and a while back."""
        since_s = now_s - 2 * _LOOK_S
        recent = {each for each in self._recent_s if each >= since_s}
        recent |= {each.since_s for each in entries if since_s <= each.since_s < now_s}
        self._recent_s = set(sorted(recent)[-_MOST_MOMENTS:])
        return {since_s, now_s - _LOOK_S, now_s, now_s + _LOOK_S, *self._recent_s}

    def _elsewhere(self, patient: str) -> int | None:
        home = self.homes.of(patient)
        return None if home == self._number else home

    def _look(self, entries: Sequence[Association]) -> None:
        """Take in associations, and see who has readings on two ways."""
        log, now_s = self._service.associations, self._service.clock()
        for entry in entries:
            with contextlib.suppress(
                ConflictError
            ):  # told at one moment by two; all parts leave out the same
                log.apply(entry)
                self.homes.note(entry, log)
        self._looked_s = now_s
        self._service.intake.spread = self.homes.spread(log, self._number, self._moments(entries, now_s))

    def _begin(self, number: int, ask: Ask) -> None:
        if time.time() > ask.until_s + SKEW_S:
            self.exchange.used(number)
        elif self.respond is None:
            self.exchange.unused(number)
        else:
            task = asyncio.get_running_loop().create_task(self._answer(number, ask, self.respond))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(
        self, number: int, ask: Ask, respond: Callable[[Ask], Awaitable[tuple[int, bytes]]]
    ) -> None:
        try:
            found = await respond(ask)
            await self._service.database.commit(
                lambda cursor: self.exchange.answer(cursor, number, ask, found)
            )
        except DigitalTwinError as error:
            _log.error("monitor.answer", what=error.what, why=error.why)
        finally:
            self.exchange.unused(number)
