"""`twin dicom`: talk to DICOM peers."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from digital_twins.cli import _dicom_operations, _dicom_queue
from digital_twins.cli._options import ConfigFile, Json

if TYPE_CHECKING:
    from digital_twins.dicom import Remote, Transfer  # named in quotes below: typer reads the annotations

PeerName = Annotated[
    str,
    typer.Argument(help="AE@HOST:PORT, HOST:PORT, or an AE title of the peers table.", show_default=False),
]
Keys = Annotated[
    list[str] | None,
    typer.Option(
        "-k", "--key", help="KEYWORD=VALUE to match, KEYWORD to ask for; repeat it.", show_default=False
    ),
]
Level = Annotated[str, typer.Option(help="PATIENT, STUDY, SERIES or IMAGE.")]
Model = Annotated[str, typer.Option(help="Information model: study or patient.")]
User = Annotated[
    str,
    typer.Option(help="User for the peer; the passcode comes from TWIN_DICOM_PASSCODE.", show_default=False),
]
Tls = Annotated[bool, typer.Option("--tls", help="Call over TLS 1.3 with the node's certificate.")]
Calling = Annotated[str | None, typer.Option("--calling", help="Our AE title.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="Talk to DICOM peers: echo, store, find, move, get, worklist.", no_args_is_help=True
    )
    for command in (echo, store, find, move, get, worklist, user, conformance):
        group.command(command.__name__)(command)
    _dicom_queue.register(group)
    _dicom_operations.register(group)
    app.add_typer(group, name="dicom")


def echo(
    peer: PeerName,
    *,
    calling: Calling = None,
    tls: Tls = False,
    user: User = "",
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Ask a peer whether it is there (C-ECHO)."""
    from time import perf_counter

    from digital_twins import dicom
    from digital_twins.cli import _output

    remote = _remote(peer, calling, tls=tls, user=user, config_file=config_file)
    start = perf_counter()
    dicom.echo(remote)
    took_ms = (perf_counter() - start) * 1000
    if as_json:
        _output.write_json({"peer": remote.called_ae, "milliseconds": round(took_ms, 1)})
    else:
        _output.write_lines([f"{remote.called_ae} at {remote.host}:{remote.port} answers ({took_ms:.0f} ms)"])


def store(
    peer: PeerName,
    files: Annotated[list[Path], typer.Argument(help="DICOM files or folders of them.", show_default=False)],
    *,
    calling: Calling = None,
    tls: Tls = False,
    user: User = "",
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Send DICOM files (C-STORE), each as it is; stops at the first refusal."""
    from digital_twins import dicom
    from digital_twins.cli import _output

    found = sorted(
        each for path in files for each in (path.rglob("*") if path.is_dir() else [path]) if each.is_file()
    )
    given = [each for each in found if each in files or _is_dicom(each)]
    sent = dicom.send(_remote(peer, calling, tls=tls, user=user, config_file=config_file), given)
    if as_json:
        _output.write_json({"sent": sent})
    else:
        _output.write_lines([f"{sent} objects acknowledged"])


def find(  # noqa: PLR0913  (each parameter is an option)
    peer: PeerName,
    *,
    keys: Keys = None,
    level: Level = "STUDY",
    model: Model = "study",
    limit: Annotated[int, typer.Option(min=1, help="Cancel after so many matches.")] = 1000,
    fuzzy: Annotated[bool, typer.Option("--fuzzy", help="Ask for fuzzy matching of names.")] = False,
    calling: Calling = None,
    tls: Tls = False,
    user: User = "",
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Query a peer (C-FIND); without keys it asks for what identifies a study."""
    from digital_twins import dicom

    asked = _keys(keys) or {
        "PatientID": "",
        "PatientName": "",
        "StudyDate": "",
        "ModalitiesInStudy": "",
        "StudyDescription": "",
        "StudyInstanceUID": "",
    }
    remote = _remote(peer, calling, tls=tls, user=user, config_file=config_file)
    found = dicom.find(remote, asked, level=level, model=model, limit=limit, fuzzy_names=fuzzy)
    _show(found, list(asked), as_json=as_json)


def move(  # noqa: PLR0913  (each parameter is an option)
    peer: PeerName,
    destination: Annotated[str, typer.Argument(help="AE title that is to receive the objects.")],
    *,
    keys: Keys = None,
    level: Level = "STUDY",
    model: Model = "study",
    calling: Calling = None,
    tls: Tls = False,
    user: User = "",
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Have a peer send objects to an AE title (C-MOVE); exit code 1 if any failed."""
    from digital_twins import dicom

    remote = _remote(peer, calling, tls=tls, user=user, config_file=config_file)
    _report(dicom.move(remote, destination, _keys(keys), level=level, model=model), as_json=as_json)


def get(  # noqa: PLR0913  (each parameter is an option)
    peer: PeerName,
    folder: Annotated[Path, typer.Argument(help="Where the files go.", show_default=False)],
    *,
    keys: Keys = None,
    level: Level = "STUDY",
    model: Model = "study",
    calling: Calling = None,
    tls: Tls = False,
    user: User = "",
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Fetch objects into a folder (C-GET); exit code 1 if any failed."""
    from digital_twins import dicom

    remote = _remote(peer, calling, tls=tls, user=user, config_file=config_file)
    _report(dicom.get(remote, _keys(keys), into=folder, level=level, model=model), as_json=as_json)


def worklist(  # noqa: PLR0913  (each parameter is an option)
    peer: PeerName,
    *,
    modality: Annotated[str, typer.Option(help="Only this modality.", show_default=False)] = "",
    station: Annotated[
        str, typer.Option(help="Only this scheduled station AE title.", show_default=False)
    ] = "",
    date: Annotated[str, typer.Option(help="YYYYMMDD, or a range with a hyphen.", show_default=False)] = "",
    calling: Calling = None,
    tls: Tls = False,
    user: User = "",
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Show what is scheduled (modality worklist)."""
    from pydicom.dataset import Dataset

    from digital_twins import dicom

    names = (
        "PatientID",
        "PatientName",
        "AccessionNumber",
        "StudyInstanceUID",
        "RequestedProcedureDescription",
    )
    asked, step = Dataset(), Dataset()
    asked.SpecificCharacterSet = "ISO_IR 192"
    for name in names:
        setattr(asked, name, None)
    step.Modality, step.ScheduledStationAETitle = modality or None, station or None
    step.ScheduledProcedureStepStartDate, step.ScheduledProcedureStepStartTime = date or None, None
    step.ScheduledProcedureStepID, step.ScheduledProcedureStepDescription = None, None
    asked.ScheduledProcedureStepSequence = [step]
    found = dicom.worklist(_remote(peer, calling, tls=tls, user=user, config_file=config_file), asked)
    rows = []
    for answer in found:
        row = Dataset()
        row.update({element.tag: element for element in answer if element.VR != "SQ"})
        row.update(dict(answer.ScheduledProcedureStepSequence[0].items()))
        rows.append(row)
    columns = ["ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime", "Modality"]
    _show(rows, [*columns, "ScheduledStationAETitle", "ScheduledProcedureStepID", *names], as_json=as_json)


def user(name: Annotated[str, typer.Argument(help="User name.", show_default=False)]) -> None:
    """Print a line for `dicom_users_file`; the passcode is read from standard input."""
    from digital_twins._errors import InputError
    from digital_twins.cli import _output
    from digital_twins.dicom import hash_passcode

    passcode = sys.stdin.readline().rstrip("\n")
    if not passcode or ":" in name or not name.strip():
        raise InputError(
            "No user line was made.",
            "The passcode on standard input is empty, or the name has a colon.",
            "Pipe the passcode in: printf %s PASSCODE | twin dicom user NAME.",
        )
    _output.write_lines([f"{name}:{hash_passcode(passcode)}"])


def conformance(*, as_json: Json = False) -> None:
    """Print the DICOM conformance statement, as Markdown or JSON."""
    from digital_twins import dicom
    from digital_twins.cli import _output

    if as_json:
        _output.write_json(dicom.conformance())
    else:
        _output.write_lines(dicom.conformance_markdown().splitlines())


def _remote(peer: str, calling: str | None, *, tls: bool, user: str, config_file: Path | None) -> "Remote":
    import os

    from digital_twins._errors import InputError
    from digital_twins.config import load_settings
    from digital_twins.dicom import Remote, Tls

    settings = load_settings(config_file=config_file)
    row = settings.dicom_peers.get(peer)
    title, _, address = peer.rpartition("@")
    if row is not None:
        title, host, port = peer, row.host, row.port
    else:
        host, _, digits = address.rpartition(":")
        port = int(digits) if digits.isdecimal() else 0
    if not host or not 0 < port < 65536:
        raise InputError(
            f"The peer '{peer}' cannot be called.",
            "It is neither AE@HOST:PORT nor a row with host and port in the peers table.",
            "Write e.g. PACS@10.1.2.3:104, or add [dicom_peers.PACS] to twin.toml.",
        )
    files = (settings.dicom_tls_certificate, settings.dicom_tls_key, settings.dicom_tls_authority)
    secure = None
    if tls or (row is not None and row.tls):
        certificate, key, authority = files
        if certificate is None or key is None or authority is None:
            raise InputError(
                "The call over TLS needs certificates.",
                "dicom_tls_certificate, dicom_tls_key and dicom_tls_authority are not set.",
                "Set them in twin.toml.",
            )
        secure = Tls(certificate, key, authority, allow_1_2=row is not None and row.tls_1_2)
    return Remote(
        host.strip("[]"),
        port,
        called_ae=title or "ANY-SCP",
        calling_ae=calling or settings.ae_title,
        tls=secure,
        user=user,
        passcode=os.environ.get("TWIN_DICOM_PASSCODE", "") if user else "",
    )


def _keys(given: list[str] | None) -> dict[str, str]:
    from pydicom.datadict import tag_for_keyword

    from digital_twins._errors import InputError

    keys: dict[str, str] = {}
    for each in given or []:
        name, _, value = each.partition("=")
        if tag_for_keyword(name) is None:
            raise InputError(
                f"There is no DICOM attribute '{name}'.",
                "Keys are keywords of the DICOM dictionary.",
                "Write e.g. -k PatientID=123 -k StudyInstanceUID.",
            )
        keys[name] = value
    return keys


def _show(found: list[Any], columns: list[str], *, as_json: bool) -> None:
    from digital_twins.cli import _output

    if as_json:
        _output.write_json([each.to_json_dict(suppress_invalid_tags=True) for each in found])
        return
    rows = [[_text(each.get(name)) for name in columns] for each in found]
    _output.write_table(columns, rows)


def _text(value: Any) -> str:
    from pydicom.multival import MultiValue

    if value is None:
        return ""
    return ",".join(str(each) for each in value) if isinstance(value, MultiValue) else str(value)


def _report(done: "Transfer", *, as_json: bool) -> None:
    from dataclasses import asdict

    from digital_twins.cli import _output

    if as_json:
        _output.write_json(asdict(done))
    else:
        _output.write_lines(
            [f"{done.completed} completed, {done.failed} failed, {done.warning} with a warning"]
            + [f"  failed: {uid}" for uid in done.failed_uids]
        )
    if done.failed:
        raise typer.Exit(1)


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
