"""Everything of a running monitor, started and stopped together; on 127.0.0.1 only."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError, StorageError
from digital_twins.monitoring._anomaly import AnomalyDetector
from digital_twins.monitoring._broker import EmbeddedBroker
from digital_twins.monitoring._http import StaffMember, monitor_app
from digital_twins.monitoring._mqtt import BrokerAddress, MqttSubscriber
from digital_twins.monitoring._service import MonitorService

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from digital_twins.monitoring._thresholds import Thresholds

_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class MonitorPorts:
    """Where a monitor listens.

    Attributes
    ----------
    http, mqtt
        Ports; 0 takes a free one.
    hl7
        MLLP port; None: none.
    broker
        URL of an external broker; then none is embedded. ``mqtts`` checks the certificate by the system's
        authorities.
    """

    http: int = 0
    mqtt: int = 0
    hl7: int | None = None
    broker: str | None = None


async def run_monitor(
    folder: Path,
    *,
    files: tuple[Path, Path],
    ports: MonitorPorts,
    capacity: int = 1000,
    thresholds: Thresholds | None = None,
    exit_after_s: float | None = None,
    ready: Callable[[dict[str, int]], None] = lambda _: None,
) -> None:
    """Run broker, subscriber, HTTP and MLLP around one `MonitorService` until cancelled.

    Parameters
    ----------
    folder
        Database, history, broker.
    files
        YAML of devices (name to password) and of staff (token to ``{name, role}``).
    ports
        Where to listen.
    capacity, thresholds
        As for `PatientMonitor`.
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
    devices = {str(name): str(password) for name, password in _yaml(files[0]).items()}
    staff = _staff(_yaml(files[1]))
    detectors = (AnomalyDetector("isolation_forest"), AnomalyDetector("one_class_svm"))
    async with contextlib.AsyncExitStack() as stack:
        service = await stack.enter_async_context(
            MonitorService(
                folder,
                capacity=capacity,
                thresholds=thresholds,
                detectors=detectors,
                devices=frozenset(devices),
            )
        )
        opened: dict[str, int] = {}
        address = None
        if ports.broker is None:
            broker = EmbeddedBroker(folder / "broker", devices=devices, host=_HOST, port=ports.mqtt)
            address = (await stack.enter_async_context(broker)).address
            opened["mqtt"] = broker.port
        else:
            address = BrokerAddress.parse(ports.broker)
        context = ssl.create_default_context() if address.tls else None
        await stack.enter_async_context(
            MqttSubscriber(address, topic="vitals/+", take=service.take_message, tls=context)
        )
        if ports.hl7 is not None:
            from digital_twins.hl7v2 import start_mllp

            mllp = await start_mllp(service.take_hl7, host=_HOST, port=ports.hl7)
            stack.push_async_callback(mllp.close)
            opened["hl7"] = mllp.port
        server = _server(monitor_app(service, devices=devices, staff=staff), ports.http)
        task = asyncio.create_task(server.serve())
        stack.push_async_callback(_stop, server, task)
        while not server.started:
            if task.done():
                raise StorageError(
                    "The HTTP port could not be opened.", "Another program may use it.", "Choose another."
                )
            await asyncio.sleep(0.02)
        opened["http"] = int(server.servers[0].sockets[0].getsockname()[1])
        ready(opened)
        await asyncio.wait([task], timeout=exit_after_s)


async def _stop(server: Any, task: asyncio.Task[None]) -> None:
    server.should_exit = True
    await asyncio.gather(task, return_exceptions=True)


def _server(app: Any, port: int) -> Any:
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(app, host=_HOST, port=port, log_config=None, access_log=False, ws="websockets-sansio")
    )


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
