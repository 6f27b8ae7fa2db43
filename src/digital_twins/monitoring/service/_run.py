"""Everything of a running monitor, started and stopped together; on 127.0.0.1 only."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError, StorageError
from digital_twins.monitoring.alerts import Courier
from digital_twins.monitoring.detection import AnomalyDetector
from digital_twins.monitoring.ingest import BrokerAddress, EmbeddedBroker, MqttSubscriber, SdcFeed
from digital_twins.monitoring.parts import WardPart
from digital_twins.monitoring.service._service import MonitorService
from digital_twins.monitoring.station import StaffMember, monitor_app
from digital_twins.monitoring.storage import AccessTrail, store_key, ward_auditor, writing_trail

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from digital_twins.monitoring.alerts import Channel, Thresholds
    from digital_twins.monitoring.engine import VirtualWard
    from digital_twins.monitoring.ingest import SdcDevice, SdcPlan

_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class MonitorPorts:
    """Where a monitor listens, and the servers that it uses.

    Attributes
    ----------
    http, mqtt
        Ports; 0 takes a free one.
    hl7
        MLLP port; None: none.
    broker
        URL of an external broker; then none is embedded. ``mqtts`` checks the certificate by the system's
        authorities.
    database
        ``postgresql://`` URL of the server for database and audit trail; empty: SQLite in the folder.
    chart_s
        Vital signs go to a FHIR server each so many seconds; 0: only what raised an alert.
    key
        Of 32 bytes, under which database, history and the messages in the embedded broker are encrypted;
        None: they are in clear.
    sdc
        IEEE 11073 SDC devices to follow.
    risk
        Model file of ``twin monitor train``; None: nobody asks for the risk of death.
    zone
        Time zone of HL7 v2 messages whose times name none.
    """

    http: int = 0
    mqtt: int = 0
    hl7: int | None = None
    broker: str | None = None
    database: str = ""
    chart_s: float = 0.0
    key: bytes | None = field(default=None, repr=False)
    sdc: SdcPlan | None = None
    zone: tzinfo = UTC
    risk: Path | None = None

    @property
    def followed(self) -> tuple[SdcDevice, ...]:
        """The devices that are followed by SDC."""
        return self.sdc.devices if self.sdc is not None else ()


async def run_monitor(
    folder: Path,
    *,
    files: tuple[Path, Path],
    ports: MonitorPorts,
    capacity: int = 1000,
    thresholds: Thresholds | None = None,
    channels: Sequence[Channel] = (),
    exit_after_s: float | None = None,
    ready: Callable[[dict[str, int]], None] = lambda _: None,
) -> None:
    """Run broker, subscriber, HTTP and MLLP around one `MonitorService` until cancelled.

    Every step of an alert and every access to a patient is an event of the folder's trail ``audit.sqlite``.

    Parameters
    ----------
    folder
        Database, audit trail, history, broker.
    files
        YAML of devices (name to password) and of staff (token to ``{name, role}``).
    ports
        Where to listen.
    capacity, thresholds
        As for `PatientMonitor`.
    channels
        Where steps of alerts go, as for `Courier`.
    exit_after_s
        End by itself.
    ready
        Called with the ports once all are open.

    Raises
    ------
    InputError
        A file cannot be used.
    StorageError
        A port is occupied.
    """
    devices, staff = read_people(files)
    detectors = (AnomalyDetector("isolation_forest"), AnomalyDetector("one_class_svm"))
    auditor = ward_auditor(folder)
    part = WardPart(
        server=ports.database,
        auditor=auditor,
        outgoing={each.name: each.steps for each in channels},
        chart_s=ports.chart_s,
        risk=ports.risk,
        key=ports.key,
    )
    async with contextlib.AsyncExitStack() as stack:
        service = await stack.enter_async_context(
            MonitorService(
                folder,
                capacity=capacity,
                thresholds=thresholds,
                detectors=detectors,
                devices=frozenset(devices).union(each.name for each in ports.followed),
                part=part,
            )
        )
        await stack.enter_async_context(writing_trail(folder, service.database, server=ports.database))
        if channels:
            stack.enter_context(Courier(service.database, channels, auditor=part.auditor))
        trail = AccessTrail(service.database, auditor)
        opened = await _open_doors(stack, service, folder, (devices, ports), trail)
        app = monitor_app(service, devices=devices, staff=staff, trail=trail)
        opened["http"], task = await stack.enter_async_context(serving(app, ports.http))
        ready(opened)
        await asyncio.wait([task], timeout=exit_after_s)


async def _open_doors(
    stack: contextlib.AsyncExitStack,
    service: MonitorService,
    folder: Path,
    asked: tuple[dict[str, str], MonitorPorts],
    trail: AccessTrail,
) -> dict[str, int]:
    """Open what readings come in by: broker, MLLP, SDC; return the ports."""
    devices, ports = asked
    opened: dict[str, int] = {}
    if ports.broker is None:
        broker = EmbeddedBroker(
            folder / "broker",
            devices=devices,
            host=_HOST,
            port=ports.mqtt,
            key=store_key(ports.key, "broker"),
        )
        address = (await stack.enter_async_context(broker)).address
        opened["mqtt"] = broker.port
    else:
        address = BrokerAddress.parse(ports.broker)
    context = ssl.create_default_context() if address.tls else None
    await stack.enter_async_context(
        MqttSubscriber(
            address, topic="vitals/+", take_many=service.take_messages, durable=service.durable, tls=context
        )
    )
    await stack.enter_async_context(
        MqttSubscriber(
            address,
            topic="waveforms/+",
            take=service.take_waveform,
            client_id="digital-twins-waveforms",
            tls=context,
        )
    )
    if ports.hl7 is not None:
        from digital_twins.hl7v2 import start_mllp

        service.zone = ports.zone
        mllp = await start_mllp(service.take_hl7, host=_HOST, port=ports.hl7)
        stack.push_async_callback(mllp.close)
        opened["hl7"] = mllp.port
    if ports.sdc is not None:
        await stack.enter_async_context(
            SdcFeed(
                ports.sdc.devices,
                take=lambda reading: service.intake.offer(reading, received_s=service.clock()),
                wave=lambda name, piece: service.waveforms.offer(name, piece, received_s=service.clock()),
                tls=ports.sdc.tls,
                interface=ports.sdc.interface,
                trail=trail,
            )
        )
    return opened


@contextlib.asynccontextmanager
async def open_ward(ward: VirtualWard, *, port: int = 0) -> AsyncIterator[str]:
    """Show a virtual ward on the central station; yields the address, which carries its one token.

    Parameters
    ----------
    ward
        Its steps must run in the same event loop.
    port
        On 127.0.0.1; 0 takes a free one.

    Raises
    ------
    StorageError
        The port is occupied.
    """
    token = secrets.token_urlsafe(24)
    app = monitor_app(ward, devices={}, staff={token: StaffMember("Demonstration", "nurse")})
    async with serving(app, port) as (opened, _):
        yield f"http://{_HOST}:{opened}/#token={token}"


@contextlib.asynccontextmanager
async def serving(app: Any, port: int) -> AsyncIterator[tuple[int, asyncio.Task[None]]]:
    """Serve an application on 127.0.0.1; yields the port and the task; raises StorageError."""
    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=_HOST,
            port=port,
            log_config=None,
            access_log=False,
            ws="websockets-sansio",
            timeout_graceful_shutdown=2,
        )
    )
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            if task.done():
                raise StorageError(
                    "The HTTP port could not be opened.", "Another program may use it.", "Choose another."
                )
            await asyncio.sleep(0.02)
        yield int(server.servers[0].sockets[0].getsockname()[1]), task
    finally:
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)


def read_people(files: tuple[Path, Path]) -> tuple[dict[str, str], dict[str, StaffMember]]:
    """Return the devices and the staff of their two YAML files; raises InputError."""
    devices = {str(name): str(password) for name, password in _yaml(files[0]).items()}
    return devices, _staff(_yaml(files[1]))


def _yaml(path: Path) -> dict[Any, Any]:
    import yaml

    try:
        data = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, yaml.YAMLError):
        data = None
    if not isinstance(data, dict):
        raise InputError(
            "A file of the monitor cannot be used.",
            "It is missing, or no YAML table.",
            "See docs/reference/monitor.md for the files of devices and staff.",
        )
    return data


def _staff(data: dict[Any, Any]) -> dict[str, StaffMember]:
    try:
        return {str(token): StaffMember(str(each["name"]), str(each["role"])) for token, each in data.items()}
    except (TypeError, KeyError):
        raise InputError(
            "The file of staff cannot be used.",
            "A token has no name or role.",
            "Write TOKEN: {name: ..., role: ...}.",
        ) from None
