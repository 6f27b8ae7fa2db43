"""``twin monitor serve``: the monitor of a ward, with what it tells others."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from digital_twins.cli._options import ConfigFile, Json

if TYPE_CHECKING:
    from digital_twins.monitoring import Channel, Thresholds


Devices = Annotated[Path, typer.Option(help="YAML file: device name to password.")]
Staff = Annotated[Path, typer.Option(help="YAML file: token to name and role.")]
Folder = Annotated[Path, typer.Option(help="Folder of the monitor.")]
HttpPort = Annotated[int, typer.Option(help="HTTP port; 0 takes a free one.")]
MqttPort = Annotated[int, typer.Option(help="MQTT port of the embedded broker; 0: a free one.")]
Broker = Annotated[str | None, typer.Option(help="URL of an external broker instead.", show_default=False)]
Hl7Port = Annotated[
    int | None, typer.Option(help="MLLP port for ORU and ADT; default: none.", show_default=False)
]
Sdc = Annotated[
    Path | None, typer.Option(help="YAML file of IEEE 11073 SDC devices to follow.", show_default=False)
]
Capacity = Annotated[int, typer.Option(min=1, help="Patients at a time.")]
Rules = Annotated[
    Path | None, typer.Option(help="Alert rules instead of the bundled ones.", show_default=False)
]
NurseCall = Annotated[
    str | None, typer.Option(help="URL that gets every notice of the escalation.", show_default=False)
]
NurseCallHl7 = Annotated[
    str | None, typer.Option(help="mllps://HOST:PORT that gets them as ORU R40.", show_default=False)
]
NurseCallApprise = Annotated[
    Path | None, typer.Option(help="File of apprise URLs (e-mail), one a line.", show_default=False)
]
Fhir = Annotated[str | None, typer.Option(help="Base URL of a FHIR server for alerts.", show_default=False)]
FhirEvery = Annotated[
    float, typer.Option(min=0, help="Seconds between readings for the FHIR server; 0: none.")
]
Risk = Annotated[
    Path | None,
    typer.Option(help="Model of `twin monitor train`: risk of death each hour.", show_default=False),
]
Workers = Annotated[
    int, typer.Option(min=0, help="Worker processes that share the patients; 0: all in this one.")
]
Parts = Annotated[
    int | None, typer.Option(min=2, help="Parts of the ward; default: one a worker.", show_default=False)
]
Topic = Annotated[
    str | None,
    typer.Option(help="Topic of a part at an external broker, with {part}.", show_default=False),
]
Lease = Annotated[float, typer.Option(min=1, help="Seconds until a silent worker's parts go.")]
ExitAfter = Annotated[
    float | None, typer.Option(help="End after that many seconds; default: Ctrl-C.", show_default=False)
]


def register(monitor: typer.Typer) -> None:
    """Add the command to ``twin monitor``."""
    monitor.command("serve")(serve)


def serve(  # noqa: PLR0913  (options)
    *,
    devices: Devices,
    staff: Staff,
    data: Folder = Path("monitor-data"),
    http_port: HttpPort = 8043,
    mqtt_port: MqttPort = 1883,
    broker: Broker = None,
    hl7_port: Hl7Port = None,
    sdc: Sdc = None,
    capacity: Capacity = 1000,
    thresholds: Rules = None,
    risk: Risk = None,
    nurse_call: NurseCall = None,
    nurse_call_hl7: NurseCallHl7 = None,
    nurse_call_apprise: NurseCallApprise = None,
    fhir: Fhir = None,
    fhir_every: FhirEvery = 0.0,
    workers: Workers = 0,
    parts: Parts = None,
    topic: Topic = None,
    lease: Lease = 4.0,
    exit_after: ExitAfter = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Run the monitor on this machine until Ctrl-C: MQTT, HTTP, WebSocket and, if asked for, HL7 v2.

    Database and audit trail follow the setting `database`, encryption `encryption_at_rest`. ``--workers``
    divides the ward.
    """
    import asyncio
    import gc
    import os

    from digital_twins._logging import setup_logging
    from digital_twins.cli import _output
    from digital_twins.config import load_settings
    from digital_twins.monitoring import (
        MonitorPorts,
        WardSize,
        load_thresholds,
        read_sdc,
        run_monitor,
        run_ward,
    )
    from digital_twins.server import hl7_zone, monitor_key

    settings = load_settings(config_file=config_file, data_dir=data)
    setup_logging(settings.log_level)
    os.umask(0o077)

    def ready(ports: dict[str, int]) -> None:
        gc.freeze()  # what is loaded stays: looking through it again and again costs more than messages do
        if as_json:
            _output.write_json(ports)
        else:
            _output.write_lines(f"{name} port {port}" for name, port in ports.items())
            _output.write_lines([f"Central station: http://127.0.0.1:{ports['http']}/"])

    rules = load_thresholds(thresholds)
    common: dict[str, Any] = {
        "files": (devices, staff),
        "ports": MonitorPorts(
            *(http_port, mqtt_port, hl7_port, broker, settings.database, fhir_every),
            key=monitor_key(settings),
            sdc=None if sdc is None else read_sdc(sdc),
            zone=hl7_zone(settings),
            risk=risk,
        ),
        "channels": _channels((nurse_call, nurse_call_hl7, fhir), nurse_call_apprise, rules),
        "exit_after_s": exit_after,
        "ready": ready,
    }
    if workers or parts:
        size = WardSize(workers, parts, topic, lease, capacity, config_file)
        asyncio.run(run_ward(data, size=size, thresholds=thresholds, **common))
    else:
        asyncio.run(run_monitor(data, capacity=capacity, thresholds=rules, **common))


def _channels(
    urls: tuple[str | None, str | None, str | None], addresses: Path | None, rules: "Thresholds"
) -> "list[Channel]":
    """Return who is told: webhook, HL7 v2, FHIR server, apprise; secrets come from the environment."""
    import os

    from digital_twins.monitoring import AppriseCall, FhirWriteBack, Hl7Call, WebhookCall

    webhook, hl7, fhir = urls
    found: list[Channel] = []
    if webhook is not None:
        found.append(WebhookCall(webhook, token=os.environ.get("TWIN_NURSE_CALL_TOKEN", "")))
    if hl7 is not None:
        found.append(Hl7Call(hl7))
    if fhir is not None:
        token, system = (os.environ.get(f"TWIN_MONITOR_FHIR_{each}", "") for each in ("TOKEN", "SYSTEM"))
        found.append(FhirWriteBack(fhir, rules, token=token, system=system))
    if addresses is not None:
        found.append(AppriseCall.of_file(addresses))
    return found
