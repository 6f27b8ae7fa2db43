"""`twin audit`: verify, prove, export, tail and timestamp."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digital_twins.cli._options import ConfigFile, DataDir, Json

if TYPE_CHECKING:
    from digital_twins.audit import VerifyReport


class Form(StrEnum):
    """How events are written."""

    ROWS = "rows"
    FHIR = "fhir"
    DICOM = "dicom"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Look at the audit trail and verify it.", no_args_is_help=True)
    group.command("verify")(verify)
    group.command("prove")(prove)
    group.command("export")(export)
    group.command("tail")(tail)
    group.command("timestamp")(timestamp)
    app.add_typer(group, name="audit")


def verify(
    *,
    anchor: Annotated[
        Path | None,
        typer.Option("--anchor", help="Checkpoints that were kept elsewhere. [audit_anchor_file]"),
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="Verifier key that must have signed. [the trail's .vkey]")
    ] = None,
    syslog: Annotated[
        Path | None,
        typer.Option("--syslog", help="File of a syslog receiver: its checkpoints are the anchor."),
    ] = None,
    timestamps: Annotated[
        Path | None,
        typer.Option("--timestamps", help="Root of the time stamp authority, PEM: check its stamps."),
    ] = None,
    data: DataDir = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Recompute every hash and check every signed checkpoint; exit code 1 if anything was changed."""
    from dataclasses import asdict

    from digital_twins.audit import verify_trail
    from digital_twins.cli import _output
    from digital_twins.config import load_settings

    settings = load_settings(config_file=config_file, data_dir=data)
    anchor = anchor or settings.audit_anchor_file
    if syslog is not None or timestamps is not None:
        report = _from_outside(settings.audit_file, key, syslog, timestamps)
    else:
        report = verify_trail(settings.audit_file, anchor=anchor, key=key)
    if as_json:
        _output.write_json({"ok": report.ok, **asdict(report)})
    else:
        state = "nothing was changed" if report.ok else "CHANGED"
        anchored = "no anchor" if report.anchored_events is None else f"{report.anchored_events} anchored"
        _output.write_lines(
            [
                f"{report.events} events, {state}",
                f"{report.signed_events or 0} signed, {anchored}",
                f"chain hash of the last event (keep it elsewhere as an anchor): {report.chain}",
                f"Merkle root: {report.root}",
                *(f"  row {problem.seq or '-'}: {problem.what}" for problem in report.problems),
            ]
        )
    if not report.ok:
        raise typer.Exit(1)


def _from_outside(
    trail: Path, key: str | None, syslog: Path | None, timestamps: Path | None
) -> "VerifyReport":
    """Verify against checkpoints that came back from a syslog receiver or a time stamp authority."""
    import tempfile
    from dataclasses import replace

    from digital_twins._errors import NotFoundError
    from digital_twins.audit import check_timestamps, checkpoints_of_syslog, verify_trail

    stamps, problems = check_timestamps(trail, timestamps) if timestamps is not None else ((), ())
    notes = "".join(f"{each.note}\n" for each in stamps)
    if syslog is not None:
        try:
            with syslog.open(encoding="utf-8", errors="replace") as lines:
                notes = checkpoints_of_syslog(lines)
        except OSError as error:
            raise NotFoundError(
                f"The file '{syslog.name}' was not read.",
                f"Reading failed ({type(error).__name__}).",
                "Name the file that the receiver writes.",
            ) from error
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "anchor"
        file.write_text(notes, encoding="utf-8")
        report = verify_trail(trail, anchor=file, key=key)
    return replace(report, problems=(*report.problems, *problems))


def timestamp(
    *,
    url: Annotated[
        str, typer.Option("--url", help="Address of the authority (RFC 3161).", show_default=False)
    ],
    authority: Annotated[
        Path, typer.Option("--authority", help="Root of its certificate, PEM.", show_default=False)
    ],
    data: DataDir = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Let a time stamp authority stamp the newest checkpoint, and keep its answer beside the trail."""
    from digital_twins.audit import timestamp_trail
    from digital_twins.cli import _output
    from digital_twins.config import load_settings

    trail = load_settings(config_file=config_file, data_dir=data).audit_file
    made = timestamp_trail(trail, url, authority=authority)
    if as_json:
        _output.write_json({"events": made.size, "at_utc": made.at_utc})
    else:
        _output.write_lines([f"{made.size} events stamped at {made.at_utc:%Y-%m-%d %H:%M:%S} UTC"])


def prove(
    sequence: Annotated[int, typer.Argument(min=1, help="Number of the event, as tail shows it.")],
    *,
    data: DataDir = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Prove that an event is in the signed tree: as C2SP tlog-proof, or as JSON with the event itself."""
    from dataclasses import asdict

    from digital_twins.audit import prove_event
    from digital_twins.cli import _output
    from digital_twins.config import load_settings

    proof = prove_event(load_settings(config_file=config_file, data_dir=data).audit_file, sequence)
    if as_json:
        _output.write_json(asdict(proof))
    else:
        _output.write_lines(proof.to_text().splitlines())


def export(
    output: Annotated[Path | None, typer.Argument(help="File to write. [standard output]")] = None,
    *,
    period: Annotated[
        str | None, typer.Option("--period", help="2026, 2026-Q1, 2026-03, 2026-03-05 or 2026-01..2026-03.")
    ] = None,
    form: Annotated[
        Form, typer.Option("--format", help="Rows with hashes, FHIR AuditEvent, or DICOM audit messages.")
    ] = Form.ROWS,
    data: DataDir = None,
    config_file: ConfigFile = None,
) -> None:
    """Write the events, one a line: as JSON with their hashes, as FHIR, or as DICOM XML."""
    import sys

    from digital_twins.audit import export_messages, export_trail
    from digital_twins.config import load_settings

    file = load_settings(config_file=config_file, data_dir=data).audit_file
    if form is Form.ROWS:
        lines = export_trail(file, period=period)
    else:
        lines = export_messages(file, "fhir" if form is Form.FHIR else "dicom", period=period)
    if output is None:
        sys.stdout.writelines(lines)
        return
    with output.open("w", encoding="utf-8") as target:
        target.writelines(lines)


def tail(
    *,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many events.")] = 20,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new events, as JSON lines.")
    ] = False,
    data: DataDir = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Show the last events of the audit trail, oldest first."""
    import json

    from digital_twins.audit import tail_trail
    from digital_twins.cli import _output
    from digital_twins.config import load_settings

    file = load_settings(config_file=config_file, data_dir=data).audit_file
    rows = tail_trail(file, count)
    if follow:
        _follow(file, rows[0].seq - 1 if rows else 0)
    elif as_json:
        _output.write_json(
            [{"seq": row.seq, "chain": row.chain, **json.loads(row.event.to_json())} for row in rows]
        )
    else:
        _output.write_table(
            ("seq", "time (UTC)", "kind", "outcome", "agent", "object"),
            [
                (each.seq, event.at_utc, event.kind, event.outcome, event.agent, event.entity or "")
                for each in rows
                for event in (each.event,)
            ],
        )


def _follow(file: Path, after: int) -> None:
    """Write rows as they come until the user stops it."""
    import json
    import sys
    import time

    from digital_twins.audit import export_trail

    while True:
        for line in export_trail(file, after=after):
            sys.stdout.write(line)
            after = int(json.loads(line)["seq"])
        sys.stdout.flush()
        time.sleep(0.5)
