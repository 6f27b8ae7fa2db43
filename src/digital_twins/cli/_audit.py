"""`twin audit`: verify, prove, export and tail."""

from pathlib import Path
from typing import Annotated

import typer

from digital_twins.cli._options import ConfigFile, DataDir, Json


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Look at the audit trail and verify it.", no_args_is_help=True)
    group.command("verify")(verify)
    group.command("prove")(prove)
    group.command("export")(export)
    group.command("tail")(tail)
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
    report = verify_trail(settings.audit_file, anchor=anchor or settings.audit_anchor_file, key=key)
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
    data: DataDir = None,
    config_file: ConfigFile = None,
) -> None:
    """Write the events as JSON lines with their hashes."""
    import sys

    from digital_twins.audit import export_trail
    from digital_twins.config import load_settings

    lines = export_trail(load_settings(config_file=config_file, data_dir=data).audit_file, period=period)
    if output is None:
        sys.stdout.writelines(lines)
        return
    with output.open("w", encoding="utf-8") as file:
        file.writelines(lines)


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
