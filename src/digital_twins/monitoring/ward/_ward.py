"""A divided ward on one machine: broker, front and worker processes, started and stopped together."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import ssl
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from digital_twins._errors import InputError
from digital_twins._logging import get_logger
from digital_twins.monitoring.alerts import Courier, parse_thresholds, thresholds_text
from digital_twins.monitoring.ingest import BrokerAddress, EmbeddedBroker, MqttSubscriber, SdcFeed
from digital_twins.monitoring.parts import LEASE_S, WardPlan, open_monitor_database, write_plan
from digital_twins.monitoring.prediction import bedside_risk
from digital_twins.monitoring.service import read_people, serving
from digital_twins.monitoring.station import People, doors_app
from digital_twins.monitoring.storage import AccessTrail, store_key, ward_auditor, writing_trail
from digital_twins.monitoring.ward._front import FrontDoors
from digital_twins.monitoring.ward._mail import ReadingMail
from digital_twins.monitoring.ward._switchboard import Switchboard
from digital_twins.monitoring.ward._worker import MAPPED, PLAIN, WardBroker, WardWorker, session_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from digital_twins.hl7v2 import Message
    from digital_twins.monitoring.alerts import Channel
    from digital_twins.monitoring.service import MonitorPorts

_log = get_logger(__name__)
BROKER_VARIABLE = "TWIN_MONITOR_BROKER"
"""Environment variable that gives a worker the broker's URL: a command line is no place for a password."""
SUPERVISED_VARIABLE = "TWIN_MONITOR_SUPERVISED"
_PAUSES_S = (0.5, 1.0, 5.0, 15.0)
_SETTLED_S, _GRACE_S = 60.0, 20.0
_PR_SET_PDEATHSIG = 1
_CROWDED_S = 0.5


@dataclass(frozen=True, slots=True)
class WardSize:
    """How a ward is divided.

    Attributes
    ----------
    workers
        Processes that the front starts and watches; 0: all workers are started elsewhere.
    parts
        Into how many parts the ward is divided, from its first start on; more parts than workers leave room
        to add workers. None: as many as workers, two at least.
    topic
        Of a part at an external broker, with ``{part}``; None: every part hears ``vitals/+`` and drops what
        is not its own.
    lease_s
        As for `Leases`.
    capacity
        Patients of the whole ward at a time.
    config
        Configuration file for the workers; they open the keys of an encrypted folder themselves.
    """

    workers: int
    parts: int | None = None
    topic: str | None = None
    lease_s: float = LEASE_S
    capacity: int = 1000
    config: Path | None = None

    @property
    def count(self) -> int:
        """Parts."""
        return max(2, self.workers if self.parts is None else self.parts)


async def run_ward(
    folder: Path,
    *,
    files: tuple[Path, Path],
    ports: MonitorPorts,
    size: WardSize,
    thresholds: Path | None = None,
    channels: Sequence[Channel] = (),
    exit_after_s: float | None = None,
    ready: Callable[[dict[str, int]], None] = lambda _: None,
) -> None:
    """Run a ward in parts until cancelled: broker, HTTP, MLLP, couriers and trail here, patients in workers.

    Parameters
    ----------
    folder
        Database, audit trail, history, broker.
    files
        YAML of devices and of staff, as for `run_monitor`.
    ports
        Where to listen.
    size
        How it is divided.
    channels, exit_after_s, ready
        As for `run_monitor`.
    thresholds
        File of alert rules; None: the bundled ones.

    Raises
    ------
    InputError
        A file cannot be used.
    ConflictError
        The ward was divided into another number of parts before.
    StorageError
        A port is occupied.
    """
    devices, staff = read_people(files)
    rules = thresholds_text(thresholds)
    async with contextlib.AsyncExitStack() as stack:
        database = open_monitor_database(folder, server=ports.database, parts=size.count, key=ports.key)
        stack.callback(database.close)
        outgoing = {each.name: tuple(sorted(each.steps)) for each in channels}
        followed = tuple(each.name for each in ports.followed)
        known = (*devices, *(each for each in followed if each not in devices))
        risk = await asyncio.to_thread(_shared_model, folder, ports.risk)
        write_plan(database, WardPlan(size.count, known, rules, size.capacity, outgoing, ports.chart_s, risk))
        await stack.enter_async_context(writing_trail(folder, database, server=ports.database))
        auditor = ward_auditor(folder)
        trail = AccessTrail(database, auditor)
        if channels:
            stack.enter_context(Courier(database, channels, auditor=auditor))
        board = await stack.enter_async_context(Switchboard(database))
        doors = FrontDoors(
            database,
            parts=size.count,
            board=board,
            devices=devices,
            followed=followed,
            people=People(staff),
            may_acknowledge=parse_thresholds(rules).may_acknowledge,
        )
        opened: dict[str, int] = {}
        url = await _broker(stack, folder, (devices, ports), size, opened)
        crew = Crew(
            _command(folder, size, MAPPED if ports.broker is None else size.topic),
            count=size.workers,
            environment=_environment(url, ports.database),
        )
        await stack.enter_async_context(crew)
        await _hl7(stack, doors, ports, opened)
        await _sdc(stack, doors, ports, trail)
        await stack.enter_async_context(_waveforms(doors, BrokerAddress.parse(url)))
        opened["http"], task = await stack.enter_async_context(serving(doors_app(doors, trail), ports.http))
        ready(opened)
        await asyncio.wait([task], timeout=exit_after_s)


def _shared_model(folder: Path, model: Path | None) -> str:
    """Copy the model into the folder that every worker reaches; return its name. Raises InputError."""
    if model is None:
        return ""
    bedside_risk(model)
    content = model.read_bytes()
    name = f"risk-{hashlib.sha256(content).hexdigest()[:16]}.zip"
    (folder / name).write_bytes(content)
    return name


async def _broker(
    stack: contextlib.AsyncExitStack,
    folder: Path,
    asked: tuple[dict[str, str], MonitorPorts],
    size: WardSize,
    opened: dict[str, int],
) -> str:
    """Start the embedded broker, with a session of each part, or look at the external one; return its URL."""
    devices, ports = asked
    if ports.broker is not None:
        BrokerAddress.parse(ports.broker)
        return ports.broker
    broker = EmbeddedBroker(
        folder / "broker",
        devices=devices,
        port=ports.mqtt,
        parts=size.count,
        key=store_key(ports.key, "broker"),
    )
    url = (await stack.enter_async_context(broker)).url
    await _open_sessions(broker.address, size.count)
    opened["mqtt"] = broker.port
    return url


async def run_worker(
    folder: Path, *, database: str, broker: str, size: WardSize, key: bytes | None = None
) -> None:
    """Work for a ward until its front ends, or until cancelled.

    Parameters
    ----------
    folder
        Shared by all workers of the ward.
    database
        ``postgresql://`` URL; empty: SQLite in the folder.
    broker
        URL of the broker.
    size
        Its topic and lease, and as ``workers`` how many start together.
    key
        Of an encrypted folder, as for `WardPart`.

    Raises
    ------
    InputError
        The broker's URL cannot be used.
    NotFoundError
        The ward has no front yet.
    """
    address = BrokerAddress.parse(broker)
    context = ssl.create_default_context() if address.tls else None
    opened = await asyncio.to_thread(open_monitor_database, folder, server=database, parts=None, key=key)
    ending = asyncio.Event()
    watch: asyncio.Task[None] | None = None
    try:
        worker = await asyncio.to_thread(
            WardWorker,
            folder,
            database=opened,
            key=key,
            broker=WardBroker(address, size.topic or PLAIN, context),
            expected=size.workers,
            lease_s=size.lease_s,
        )
        if os.environ.get(SUPERVISED_VARIABLE) == "1":
            watch = await _end_with_parent(ending)
        await worker.run(ending)
    finally:
        if watch is not None:
            watch.cancel()
        opened.close()


class Crew:
    """Keeps worker processes running: ``async with Crew(command, count=3, environment={...})``.

    Each has a pipe as standard input that nobody writes to: when this process ends, even by SIGKILL, it ends.

    Parameters
    ----------
    command
        Of one worker.
    count
        How many.
    environment
        Variables beside this process's own.
    """

    def __init__(self, command: Sequence[str], *, count: int, environment: Mapping[str, str]) -> None:
        self._command, self._count = tuple(command), count
        self._environment = {**os.environ, **environment}
        self._ending = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Crew:
        self._tasks = [asyncio.create_task(self._keep()) for _ in range(self._count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ending.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep(self) -> None:
        loop, failures = asyncio.get_running_loop(), 0
        while not self._ending.is_set():
            began_s = loop.time()
            process = await asyncio.create_subprocess_exec(
                *self._command, env=self._environment, stdin=asyncio.subprocess.PIPE, stdout=sys.stderr
            )
            ended, stop = (asyncio.create_task(each) for each in (process.wait(), self._ending.wait()))
            await asyncio.wait({ended, stop}, return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            if self._ending.is_set():
                await _dismiss(process)
                return
            failures = 0 if loop.time() - began_s > _SETTLED_S else failures + 1
            _log.error("worker.died", reason=f"exit code {process.returncode}")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PAUSES_S[min(failures, len(_PAUSES_S)) - 1]):
                    await self._ending.wait()


async def _dismiss(process: asyncio.subprocess.Process) -> None:
    """Let a worker give back its parts; kill one that does not end."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(_GRACE_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _end_with_parent(ending: asyncio.Event) -> asyncio.Task[None]:
    """Set the event when standard input is closed; on Linux the kernel ends this process with its parent."""
    import ctypes
    import signal

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group: the front decides
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def wait() -> None:
        await reader.read()
        ending.set()

    return loop.create_task(wait())


async def _open_sessions(address: BrokerAddress, parts: int) -> None:
    """Let the broker keep a session of each part from the first message on; nothing is taken here."""
    for part in range(parts):
        session = MqttSubscriber(
            address,
            topic=MAPPED.replace("{part}", str(part)),
            take=lambda *_: False,
            client_id=session_of(part),
        )
        async with session, asyncio.timeout(_GRACE_S):
            await session.connected.wait()


def _waveforms(doors: FrontDoors, address: BrokerAddress) -> MqttSubscriber:
    """Return what takes waveforms: they are shown by the front and belong to no part."""

    def take(topic: str, payload: bytes) -> bool:
        return doors.waves.take_message(topic, payload, received_s=doors.clock())

    return MqttSubscriber(
        address,
        topic="waveforms/+",
        take=take,
        client_id="digital-twins-waveforms",
        tls=ssl.create_default_context() if address.tls else None,
    )


async def _hl7(
    stack: contextlib.AsyncExitStack, doors: FrontDoors, ports: MonitorPorts, opened: dict[str, int]
) -> None:
    if ports.hl7 is None:
        return
    from digital_twins.hl7v2 import start_mllp
    from digital_twins.monitoring.ingest import oru_readings, placements

    async def take(message: Message) -> None:
        told = placements(message, await doors.placed(), zone=ports.zone)
        if told is not None:
            for entry in told:
                await doors.place(entry)
            return
        readings = oru_readings(message)
        if any(each.device not in doors.devices for each in readings):
            raise InputError(
                "The HL7 v2 message was not taken.",
                "Its device is not known.",
                "Add it to the file of devices.",
            )
        while readings and not await doors.take(readings):
            await asyncio.sleep(_CROWDED_S)

    mllp = await start_mllp(take, host="127.0.0.1", port=ports.hl7)
    stack.push_async_callback(mllp.close)
    opened["hl7"] = mllp.port


async def _sdc(
    stack: contextlib.AsyncExitStack, doors: FrontDoors, ports: MonitorPorts, trail: AccessTrail
) -> None:
    """Follow SDC devices here, once for the whole ward: their readings go to the parts as mail."""
    if ports.sdc is None:
        return
    mail = await stack.enter_async_context(ReadingMail(doors.take))
    await stack.enter_async_context(
        SdcFeed(
            ports.sdc.devices,
            take=mail.offer,
            wave=lambda name, piece: doors.waves.offer(name, piece, received_s=doors.clock()),
            tls=ports.sdc.tls,
            interface=ports.sdc.interface,
            trail=trail,
        )
    )


def _command(folder: Path, size: WardSize, topic: str | None) -> list[str]:
    words = ["--data", str(folder), "--together", str(size.workers), "--lease", str(size.lease_s)]
    if size.config is not None:
        words += ["--config", str(size.config)]
    if topic is not None:
        words += ["--topic", topic]
    return [sys.executable, "-m", "digital_twins.cli", "monitor", "worker", *words]


def _environment(url: str, database: str) -> dict[str, str]:
    return {BROKER_VARIABLE: url, "TWIN_DATABASE": database, SUPERVISED_VARIABLE: "1"}
