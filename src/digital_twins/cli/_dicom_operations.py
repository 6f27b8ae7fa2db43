"""`twin dicom retention, hold, reject, restore, merge, unmerge`: what an operator does to stored objects."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digital_twins.cli._options import ConfigFile, DataDir, Json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from digital_twins.config import Settings
    from digital_twins.server import Services

Study = Annotated[str, typer.Argument(help="Study Instance UID.", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")]
_AGENT = "cli"


def register(group: typer.Typer) -> None:
    """Add the commands to the group `twin dicom`."""
    for command in (retention, hold, release, holds, reject, restore, merge, unmerge):
        group.command(command.__name__)(command)


def retention(
    *, dry_run: DryRun = False, data: DataDir = None, config_file: ConfigFile = None, as_json: Json = False
) -> None:
    """Remove the studies that the rules of `dicom_retention` let go."""
    from dataclasses import asdict

    from digital_twins.cli import _output
    from digital_twins.dicom import Retention
    from digital_twins.server import retention_rules

    with _services(data, config_file) as (services, settings):
        rules = retention_rules(settings)
        report = Retention(services.dicom, rules, protected=services.stale.objects_in).run(
            dry_run=dry_run, agent=_AGENT
        )
        if dry_run:
            _looked(services, "cli.dicom.retention")
    if as_json:
        _output.write_json(asdict(report))
        return
    names = ("study_uid", "instances", "size_bytes", "last_received_utc", "rule", "kept_because")
    _output.write_table(names, [[getattr(each, name) for name in names] for each in report.items])
    word = "would be freed" if dry_run else "freed"
    _output.write_lines([f"{report.freed_bytes} bytes {word}"])


def hold(
    study: Study,
    *,
    reason: Annotated[str, typer.Option(help="Why, for the list of holds.")],
    data: DataDir = None,
    config_file: ConfigFile = None,
) -> None:
    """Keep a study from retention (legal hold)."""
    from digital_twins.cli import _output
    from digital_twins.dicom import hold_study

    with _services(data, config_file) as (services, _):
        hold_study(services.dicom, study, reason=reason, agent=_AGENT)
    _output.write_lines([f"{study} is held"])


def release(study: Study, *, data: DataDir = None, config_file: ConfigFile = None) -> None:
    """End a legal hold."""
    from digital_twins.cli import _output
    from digital_twins.dicom import release_study

    with _services(data, config_file) as (services, _):
        release_study(services.dicom, study, agent=_AGENT)
    _output.write_lines([f"{study} is no longer held"])


def holds(*, data: DataDir = None, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """List the legal holds."""
    from digital_twins.cli import _output
    from digital_twins.dicom import holds as held

    with _services(data, config_file) as (services, _):
        found = held(services.dicom)
        _looked(services, "cli.dicom.holds")
    if as_json:
        _output.write_json(found)
    else:
        names = ("study_uid", "reason", "agent", "since_utc")
        _output.write_table(names, [[each[name] for name in names] for each in found])


def reject(
    study: Study,
    *,
    reason: Annotated[str, typer.Option(help="113001, 113037, 113038 or 113039 (IHE IOCM).")],
    series: Annotated[str | None, typer.Option(help="Only this series.", show_default=False)] = None,
    instance: Annotated[
        list[str] | None, typer.Option(help="Only these objects; repeat it.", show_default=False)
    ] = None,
    description: Annotated[str, typer.Option(help="Words for the note.", show_default=False)] = "",
    data: DataDir = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Withdraw objects with a rejection note; routes send it on."""
    from digital_twins.cli import _output

    with _services(data, config_file) as (services, _):
        rejections = services.rejections
        uids = tuple(instance or ()) or rejections.objects_of(study, series)
        note = rejections.reject(uids, reason, description=description, agent=_AGENT)
    if as_json:
        _output.write_json({"note": note.sop_uid, "reason": reason, "sop_uids": list(uids)})
    else:
        _output.write_lines([f"{len(uids)} objects withdrawn by note {note.sop_uid}"])


def restore(
    note: Annotated[str, typer.Argument(help="SOP Instance UID of the note.", show_default=False)],
    *,
    data: DataDir = None,
    config_file: ConfigFile = None,
) -> None:
    """Undo a rejection note that should never have been sent."""
    from digital_twins.cli import _output

    with _services(data, config_file) as (services, _):
        count = services.rejections.restore(note, agent=_AGENT)
        services.database.write(lambda cursor: services.stale.undo_in(cursor, note))
    _output.write_lines([f"{count} objects are back"])


def merge(
    prior: Annotated[str, typer.Argument(help="PatientID that goes.", show_default=False)],
    into: Annotated[str, typer.Argument(help="PatientID that stays.", show_default=False)],
    *,
    issuer: Annotated[str, typer.Option(help="Issuer of the first.", show_default=False)] = "",
    into_issuer: Annotated[str, typer.Option(help="Issuer of the second.", show_default=False)] = "",
    data: DataDir = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """File the studies of one patient under another."""
    from digital_twins.cli import _output
    from digital_twins.server import merge_patient

    with _services(data, config_file) as (services, _):
        made = merge_patient(services, (prior, issuer), (into, into_issuer), agent=_AGENT)
    if as_json:
        _output.write_json({"merge": made.id, "studies": list(made.studies)})
    else:
        _output.write_lines([f"merge {made.id}: {len(made.studies)} studies moved"])


def unmerge(
    number: Annotated[int, typer.Argument(help="Number of the merge.", show_default=False)],
    *,
    data: DataDir = None,
    config_file: ConfigFile = None,
) -> None:
    """Undo a patient merge."""
    from digital_twins.cli import _output
    from digital_twins.server import undo_merge

    with _services(data, config_file) as (services, _):
        undo_merge(services, number, agent=_AGENT)
    _output.write_lines([f"merge {number} is undone"])


def _looked(services: "Services", kind: str) -> None:
    """Record that a list of patients' studies was read; changes are recorded where they are made."""
    services.audit(services.auditor.acting(_AGENT).event("R", kind))


@contextmanager
def _services(data: Path | None, config_file: Path | None) -> "Iterator[tuple[Services, Settings]]":
    """Open the rooms of a node that may be running: the database is shared."""
    from digital_twins.cli._node_folder import open_node
    from digital_twins.config import load_settings
    from digital_twins.server import follow_settings

    settings = load_settings(config_file=config_file, data_dir=data)
    with open_node(settings, "There are no stored objects.") as services:
        follow_settings(settings, services)
        yield services, settings
