"""`twin audit verify` and `twin audit tail`."""

from typing import Annotated

import typer

from digital_twins.cli._options import ConfigFile, DataDir, Json


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Look at the audit trail and verify it.", no_args_is_help=True)
    group.command("verify")(verify)
    group.command("tail")(tail)
    app.add_typer(group, name="audit")


def verify(*, data: DataDir = None, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """Recompute every hash of the audit trail; exit code 1 if anything was changed."""
    from dataclasses import asdict

    from digital_twins.audit import verify_trail
    from digital_twins.cli import _output
    from digital_twins.config import load_settings

    report = verify_trail(load_settings(config_file=config_file, data_dir=data).audit_file)
    if as_json:
        _output.write_json({"ok": report.ok, **asdict(report)})
    else:
        state = "nothing was changed" if report.ok else "CHANGED"
        _output.write_lines(
            [
                f"{report.events} events, {state}",
                f"chain hash of the last event (keep it elsewhere as an anchor): {report.chain}",
                *(f"  row {problem.seq or '-'}: {problem.what}" for problem in report.problems),
            ]
        )
    if not report.ok:
        raise typer.Exit(1)


def tail(
    *,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many events.")] = 20,
    data: DataDir = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Show the last events of the audit trail, oldest first."""
    import json

    from digital_twins.audit import tail_trail
    from digital_twins.cli import _output
    from digital_twins.config import load_settings

    rows = tail_trail(load_settings(config_file=config_file, data_dir=data).audit_file, count)
    if as_json:
        _output.write_json(
            [{"seq": row.seq, "chain": row.chain, **json.loads(row.event.to_json())} for row in rows]
        )
        return
    _output.write_table(
        ("seq", "time (UTC)", "kind", "outcome", "agent", "object"),
        [
            (
                row.seq,
                row.event.at_utc,
                row.event.kind,
                row.event.outcome,
                row.event.agent,
                row.event.entity or "",
            )
            for row in rows
        ],
    )
