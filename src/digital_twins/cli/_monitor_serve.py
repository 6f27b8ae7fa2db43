"""``twin monitor serve``: the monitor of a ward, with what it tells others."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from digital_twins.cli._options import ConfigFile, Json

if TYPE_CHECKING:
    from digital_twins.monitoring import Channel, SdcPlan, Thresholds


def register(monitor: typer.Typer) -> None:
    """Add the command to ``twin monitor``."""
    monitor.command("serve")(serve)


def serve(  # noqa: PLR0913  (options)
    *,
    devices: Annotated[Path, typer.Option(help="YAML file: device name to password.")],
    staff: Annotated[Path, typer.Option(help="YAML file: token to name and role.")],
    data: Annotated[Path, typer.Option(help="Folder of the monitor.")] = Path("monitor-data"),
    http_port: Annotated[int, typer.Option(help="HTTP port; 0 takes a free one.")] = 8043,
    mqtt_port: Annotated[int, typer.Option(help="MQTT port of the embedded broker; 0: a free one.")] = 1883,
    broker: Annotated[
        str | None, typer.Option(help="URL of an external broker instead.", show_default=False)
    ] = None,
    hl7_port: Annotated[
        int | None, typer.Option(help="MLLP port for ORU; default: none.", show_default=False)
    ] = None,
    sdc: Annotated[
        Path | None, typer.Option(help="YAML file of IEEE 11073 SDC devices to follow.", show_default=False)
    ] = None,
    capacity: Annotated[int, typer.Option(min=1, help="Patients at a time.")] = 1000,
    thresholds: Annotated[
        Path | None, typer.Option(help="Alert rules instead of the bundled ones.", show_default=False)
    ] = None,
    nurse_call: Annotated[
        str | None, typer.Option(help="URL that gets every notice of the escalation.", show_default=False)
    ] = None,
    nurse_call_hl7: Annotated[
        str | None, typer.Option(help="mllps://HOST:PORT that gets them as ORU R40.", show_default=False)
    ] = None,
    nurse_call_apprise: Annotated[
        Path | None, typer.Option(help="File of apprise URLs (e-mail), one a line.", show_default=False)
    ] = None,
    fhir: Annotated[
        str | None, typer.Option(help="Base URL of a FHIR server for alerts.", show_default=False)
    ] = None,
    fhir_every: Annotated[
        float, typer.Option(min=0, help="Seconds between readings for the FHIR server; 0: none.")
    ] = 0.0,
    workers: Annotated[
        int, typer.Option(min=0, help="Worker processes that share the patients; 0: all in this one.")
    ] = 0,
    parts: Annotated[
        int | None,
        typer.Option(min=2, help="Parts of the ward; default: one a worker.", show_default=False),
    ] = None,
    topic: Annotated[
        str | None,
        typer.Option(help="Topic of a part at an external broker, with {part}.", show_default=False),
    ] = None,
    lease: Annotated[float, typer.Option(min=1, help="Seconds until a silent worker's parts go.")] = 4.0,
    exit_after: Annotated[
        float | None,
        typer.Option(help="End after that many seconds; default: Ctrl-C.", show_default=False),
    ] = None,
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
    from digital_twins.monitoring import MonitorPorts, WardSize, load_thresholds, run_monitor, run_ward
    from digital_twins.server import monitor_key

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
            sdc=_sdc_plan(sdc, divided=bool(workers or parts)),
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


def _sdc_plan(file: Path | None, *, divided: bool) -> "SdcPlan | None":
    from digital_twins._errors import InputError
    from digital_twins.monitoring import read_sdc

    if file is not None and divided:
        raise InputError(
            "The monitor was not started.",
            "A ward in parts cannot follow SDC devices.",
            "Leave out --sdc, or --workers and --parts.",
        )
    return None if file is None else read_sdc(file)


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
