"""A worker of a divided ward: takes parts, watches their patients, and gives parts back."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import secrets
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from digital_twins._errors import DigitalTwinError
from digital_twins._logging import get_logger
from digital_twins.monitoring.alerts import parse_thresholds
from digital_twins.monitoring.detection import AnomalyDetector
from digital_twins.monitoring.ingest import BrokerAddress, MqttSubscriber
from digital_twins.monitoring.parts import BEAT_S, LEASE_S, Leases, WardPart, device_part, read_plan
from digital_twins.monitoring.service import MonitorService
from digital_twins.monitoring.station import Doors, People, StaffMember, doors_app
from digital_twins.monitoring.storage import ward_auditor

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from starlette.requests import HTTPConnection

    from digital_twins.monitoring.ingest import Payloads
    from digital_twins.monitoring.parts import Ask
    from digital_twins.storage import Database

_log = get_logger(__name__)
MAPPED = "part/{part}/vitals/+"
"""Topic of a part at a broker that maps, as the embedded one does."""
PLAIN = "vitals/+"
"""Topic at a broker that does not: every part hears everything and drops what is not its own."""
_LEARN_AFTER_S = 30.0
_MEMBER, _ROLE = "ward-member", "ward-role"


def session_of(part: int) -> str:
    """Return the name of a part's session at the broker: whoever holds the part goes on with it."""
    return f"digital-twins-monitor-{part}"


@dataclass(frozen=True, slots=True)
class WardBroker:
    """Where a worker hears devices.

    Attributes
    ----------
    address
        Of the broker.
    topic
        `MAPPED`, `PLAIN`, or another with ``{part}``.
    tls
        Context for ``mqtts``.
    """

    address: BrokerAddress
    topic: str = MAPPED
    tls: ssl.SSLContext | None = None


class _Inner(People):
    """Who asks, as the front has made sure of it: these doors are open in this process only."""

    def member(self, request: HTTPConnection) -> StaffMember:
        return StaffMember(unquote(request.headers[_MEMBER]), unquote(request.headers[_ROLE]))


def responder(service: MonitorService) -> Callable[[Ask], Awaitable[tuple[int, bytes]]]:
    """Return what answers the front's requests by the HTTP doors of one part, without a port."""
    import httpx

    app = doors_app(Doors(service, {}, _Inner({})))
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://part")

    async def respond(ask: Ask) -> tuple[int, bytes]:
        who = {_MEMBER: quote(ask.member), _ROLE: quote(ask.role)}
        answer = await client.request(ask.method, ask.path, content=ask.body, headers=who)
        return answer.status_code, answer.content

    return respond


class _Held:
    """One part that this worker holds, from its claim on."""

    def __init__(self, worker: WardWorker, number: int, epoch: int) -> None:
        self.epoch, self._worker, self._number = epoch, worker, number
        self._service: MonitorService | None = None
        self._subscriber: MqttSubscriber | None = None
        self.ready = asyncio.Event()
        self.task = asyncio.create_task(self._open())

    @property
    def broken(self) -> bool:
        """Whether it could not be opened, or was lost."""
        return (self.task.done() and not self.ready.is_set()) or (
            self._service is not None and self._service.lost
        )

    async def _open(self) -> None:
        try:
            await self._watch()
        except Exception as error:  # noqa: BLE001  (the next round tries again; other parts go on)
            told = error if isinstance(error, DigitalTwinError) else None
            _log.error("worker.part", what=told.what if told else type(error).__name__)

    async def _watch(self) -> None:
        async with self._worker.opening:
            service = await asyncio.to_thread(self._worker.make, self._number, self.epoch)
        self._service = await service.__aenter__()
        self.detect(self._worker.detectors)
        if service.division is not None:
            service.division.respond = responder(service)
        broker, number, parts = self._worker.broker, self._number, service.part.count

        @functools.lru_cache(maxsize=100_000)
        def is_own(topic: bytes) -> bool:
            return device_part(topic.decode("utf-8", "replace").rpartition("/")[2], parts) == number

        async def take(payloads: Payloads) -> None:
            own = [row for row, topic in enumerate(payloads.topics) if is_own(topic)]
            if own:  # a broker that does not map sends everything to all
                await service.take_messages(payloads.rows(own))

        self._subscriber = MqttSubscriber(
            broker.address,
            topic=broker.topic.replace("{part}", str(number)),
            take_many=take,
            client_id=session_of(number),
            durable=service.durable,
            tls=broker.tls,
        )
        await self._subscriber.__aenter__()
        _log.info("worker.took", name=f"part {number}")
        self.ready.set()

    def detect(self, detectors: tuple[AnomalyDetector, ...]) -> None:
        """Let the monitor use anomaly detectors, if it is open."""
        if self._service is not None:
            self._service.monitor.detectors = detectors

    async def end(self, *, write: bool) -> None:
        """Stop; with `write` after everything was written, else as a kill would."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        if self._subscriber is not None:
            await self._subscriber.__aexit__(None, None, None)
        if self._service is None:
            return
        await self._service.stop()
        if write and not self._service.lost:
            await asyncio.to_thread(self._service.close)


class WardWorker:
    """Watches the parts that its leases give it: ``await WardWorker(...).run(ending)``.

    Parameters
    ----------
    folder
        With the history and the key of the pseudonyms; shared by all workers.
    database
        Of the ward; stays open.
    broker
        Where devices speak.
    expected
        Workers that start together, as for `Leases`.
    lease_s
        As for `Leases`.
    key
        Of an encrypted folder, as for `WardPart`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        database: Database,
        broker: WardBroker,
        expected: int = 1,
        lease_s: float = LEASE_S,
        key: bytes | None = None,
    ) -> None:
        self._key = key
        self._folder, self._database, self.broker = folder, database, broker
        self._plan = read_plan(database)
        self._thresholds = parse_thresholds(self._plan.thresholds)
        self.detectors: tuple[AnomalyDetector, ...] = ()
        self._auditor = ward_auditor(folder)
        owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._leases = Leases(
            database, parts=self._plan.parts, owner=owner, expected=expected, lease_s=lease_s
        )
        self._held: dict[int, _Held] = {}
        self.opening = asyncio.Lock()

    def make(self, number: int, epoch: int) -> MonitorService:
        """Return a part's monitor as its last worker left it."""
        plan = self._plan
        part = WardPart(
            number,
            plan.parts,
            database=self._database,
            auditor=self._auditor,
            outgoing={name: frozenset(steps) for name, steps in plan.outgoing.items()},
            chart_s=plan.chart_s,
            epoch=epoch,
            risk=self._folder / plan.risk if plan.risk else None,
            key=self._key,
        )
        return MonitorService(
            self._folder,
            capacity=plan.capacity_of_part,
            thresholds=self._thresholds,
            devices=frozenset(plan.devices),
            part=part,
        )

    async def run(self, ending: asyncio.Event) -> None:
        """Work until the event is set; then write everything and give all parts back."""
        await asyncio.to_thread(_load)
        learning = asyncio.create_task(self._learn())
        try:
            while not ending.is_set():
                with _logged("worker.round"):
                    await self._round()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(BEAT_S):
                        await ending.wait()
        finally:
            learning.cancel()
            for each in list(self._held.values()):
                with _logged("worker.end"):
                    await each.end(write=True)
            with _logged("worker.leave"):
                await asyncio.to_thread(self._leases.leave)

    async def _learn(self) -> None:
        """Make the anomaly detectors once the parts run: a ward that starts needs its cores to catch up."""
        await asyncio.sleep(_LEARN_AFTER_S)
        forest = await asyncio.to_thread(AnomalyDetector, "isolation_forest")
        self.detectors = (forest, await asyncio.to_thread(AnomalyDetector, "one_class_svm"))
        for held in self._held.values():
            held.detect(self.detectors)

    async def _round(self) -> None:
        holding = await asyncio.to_thread(self._leases.round)
        for number, each in list(self._held.items()):
            if holding.epochs.get(number) != each.epoch or each.broken:
                del self._held[number]
                await each.end(write=False)
        for number in holding.surplus:
            found = self._held.get(number)
            if found is not None and found.ready.is_set():
                del self._held[number]
                await found.end(write=True)
                await asyncio.to_thread(self._leases.release, number)
        for number, epoch in holding.epochs.items():
            if number not in self._held and number not in holding.surplus:
                self._held[number] = _Held(self, number, epoch)


def _load() -> None:
    """Load what a pass needs now and then: at its first use it would hold up every part."""
    import pyarrow.parquet  # noqa: F401


@contextlib.contextmanager
def _logged(event: str) -> Iterator[None]:
    """Let an error of ours end only what stands inside."""
    try:
        yield
    except DigitalTwinError as error:
        _log.error(event, what=error.what, why=error.why)
