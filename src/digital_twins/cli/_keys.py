"""`twin keys`: encryption at rest of the node's data folder, and the erasure of a patient."""

from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digital_twins.cli._options import ConfigFile, DataDir, Json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from digital_twins.config import Settings
    from digital_twins.server import Services

_AGENT = "cli"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Encryption at rest and its keys.", no_args_is_help=True)
    for command in (status, encrypt, rotate, erase):
        group.command(command.__name__)(command)
    app.add_typer(group, name="keys")


def status(*, data: DataDir = None, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """Show what is encrypted, who keeps the key, and how many data keys there are."""
    from dataclasses import asdict

    from digital_twins.cli import _output
    from digital_twins.config import load_settings
    from digital_twins.server import opened_keys

    settings = load_settings(config_file=config_file, data_dir=data)
    with opened_keys(settings) as keys:
        shown: dict[str, object] = {"encrypted": keys is not None}
        if keys is not None:
            database = "AES-SIV by column" if settings.database else "AES-256 (SQLCipher 4)"
            shown |= {"blobs": "AES-256-GCM", "database": database, **asdict(keys.status())}
    if as_json:
        _output.write_json(shown)
    else:
        _output.write_lines(f"{name}: {value}" for name, value in shown.items())


def encrypt(*, data: DataDir = None, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """Encrypt an existing data folder in place; broken off, it goes on when it is run again."""
    from dataclasses import asdict

    from digital_twins._errors import InputError
    from digital_twins.cli import _output
    from digital_twins.config import load_settings
    from digital_twins.server import encrypt_folder

    settings = load_settings(config_file=config_file, data_dir=data)
    if not settings.encryption_at_rest:
        raise InputError(
            "The data folder is not encrypted.",
            "encryption_at_rest is off.",
            "Set encryption_at_rest = true and encryption_keys in twin.toml, then run this again.",
        )
    with _progress("encrypting") as progress:
        done = encrypt_folder(settings, progress=progress)
    if as_json:
        _output.write_json(asdict(done))
        return
    _output.write_lines(
        [
            f"{done.blobs} blobs encrypted, {done.damaged} of them damaged before; database encrypted:"
            f" {'yes' if done.database else 'not needed'}",
            "Older backups and free blocks of the disk still hold the data in clear: wipe or retire them.",
        ]
    )


def rotate(
    *,
    to: Annotated[
        str, typer.Option(help="Move to this keeper of the key, written as encryption_keys is.")
    ] = "",
    data: DataDir = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Wrap all data keys under a new key; no data are rewritten. Broken off, it goes on when run again."""
    from dataclasses import asdict

    from digital_twins.audit import AuditEvent
    from digital_twins.cli import _output
    from digital_twins.crypto import open_provider

    with _services(data, config_file) as (services, settings):
        assert services.keys is not None  # _services has checked it
        provider = None
        if to:
            provider = open_provider(to, vault_token_file=settings.encryption_vault_token_file)
        with _progress("wrapping keys") as progress:
            done = services.keys.rotate(to=provider, progress=progress)
        services.audit(
            AuditEvent("U", "keys.rotate", "success", _AGENT, detail={"data_keys": done.rewrapped})
        )
    if as_json:
        _output.write_json(asdict(done))
        return
    lines = [f"{done.rewrapped} data keys wrapped anew. Back up keys.sqlite and the keeper's key now."]
    _output.write_lines([*lines, *([f"Now set encryption_keys = '{to}'."] if to else [])])


def erase(
    *,
    patient: Annotated[str, typer.Option(help="Medical record number (PatientID).")],
    reason: Annotated[str, typer.Option(help="Why, for the audit trail; no patient data.")],
    data: DataDir = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Erase a patient for ever: the key is destroyed, so that backups are unreadable too (node stopped)."""
    from dataclasses import asdict

    from digital_twins.audit import AuditTrail
    from digital_twins.cli import _output
    from digital_twins.config import load_settings
    from digital_twins.server import DataFolder, erase_patient

    settings = load_settings(config_file=config_file, data_dir=data)
    with (
        closing(DataFolder(settings.data_dir)),
        _services(data, config_file) as (services, _),
        closing(
            AuditTrail(settings.audit_file, anchor=settings.audit_anchor_file, server=settings.database)
        ) as trail,
    ):
        try:
            done = erase_patient(
                services,
                patient,
                reason=reason,
                agent=_AGENT,
                retention_years=settings.record_retention_years,
            )
        finally:
            trail.drain(services.database)
    if as_json:
        _output.write_json(asdict(done))
        return
    lines = [
        f"erased: {done.studies} studies, {done.objects} objects, {done.resources} resources,"
        f" {done.twins} twin versions, {done.files} files; {done.keys_destroyed} keys destroyed",
        "Back up keys.sqlite and the keeper's key now: older copies of them open nothing any more.",
    ]
    if done.shared_files or done.shared_resources:
        shared = ", ".join(done.shared_resources)
        lines.append(f"Shared with other patients and kept: {done.shared_files} files; {shared}")
    if done.provider_keys_kept:
        lines.append(
            "The keeper did not destroy its old key: destroy older copies of keys.sqlite, or that key,"
            f" yourself ({', '.join(done.provider_keys_kept)})."
        )
    _output.write_lines(lines)


@contextmanager
def _services(data: Path | None, config_file: Path | None) -> "Iterator[tuple[Services, Settings]]":
    from digital_twins._errors import InputError
    from digital_twins.cli._node_folder import open_node
    from digital_twins.config import load_settings

    settings = load_settings(config_file=config_file, data_dir=data)
    if not settings.encryption_at_rest:
        raise InputError(
            "There are no keys.",
            "This data folder is not encrypted: encryption_at_rest is off.",
            "Set encryption_at_rest = true and encryption_keys, then run 'twin keys encrypt'.",
        )
    with open_node(settings, "There are no keys.") as services:
        yield services, settings


@contextmanager
def _progress(name: str) -> "Iterator[Callable[[int, int], None]]":
    from digital_twins.cli import _output

    with _output.steps() as step, step(name) as show:
        yield lambda done, total: show(done / max(total, 1), f"{done} of {total}")
