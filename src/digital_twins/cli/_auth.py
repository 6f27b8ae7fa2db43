"""`twin auth`: accounts, clients and the keys that sign tokens."""

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digital_twins.cli._options import ConfigFile, DataDir, Json

if TYPE_CHECKING:
    from collections.abc import Iterator  # named in quotes below: typer reads the annotations

    from digital_twins.auth import Authority

Name = Annotated[str, typer.Argument(help="Name of the account.", show_default=False)]
ClientId = Annotated[str, typer.Argument(help="Identifier of the client.", show_default=False)]
Roles = Annotated[list[str], typer.Option("--role", help="Role; repeat it.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Accounts, clients and token keys of the node.", no_args_is_help=True)
    user = typer.Typer(help="Accounts of people.", no_args_is_help=True)
    user.command("add")(add)
    user.command("disable")(disable)
    user.command("roles")(roles)
    user.command("password")(password)
    user.command("revoke")(revoke)
    user.command("list")(users)
    client = typer.Typer(help="Apps and services.", no_args_is_help=True)
    client.command("add")(client_add)
    client.command("disable")(client_disable)
    client.command("list")(clients)
    group.add_typer(user, name="user")
    group.add_typer(client, name="client")
    group.command("rotate")(rotate)
    app.add_typer(group, name="auth")


@contextmanager
def open_tables(config_file: Path | None, data: Path | None) -> "Iterator[Authority]":
    """Open the tables of a node, which may run meanwhile."""
    from digital_twins import audit, auth, storage
    from digital_twins.config import load_settings
    from digital_twins.governance import SIGNATURE_MIGRATIONS
    from digital_twins.server import DATABASE_FILE, database_key, opened_keys

    settings = load_settings(config_file=config_file, data_dir=data)
    migrations = (*storage.MIGRATIONS, *audit.OUTBOX_MIGRATIONS, *auth.MIGRATIONS, *SIGNATURE_MIGRATIONS)
    with (
        opened_keys(settings) as keys,
        storage.Database(
            settings.data_dir / DATABASE_FILE,
            migrations=migrations,
            server=settings.database,
            key=database_key(keys, settings.database),
            keys=keys,
        ) as database,
    ):
        key = audit.load_pseudonym_key(settings.pseudonym_key_file)
        auditor = audit.Auditor(settings.ae_title, key)
        base = settings.public_url or f"http://{settings.host}:{settings.http_port}"
        yield auth.open_authority(database, auditor, settings.data_dir, base_url=base)


def _new_password() -> str:
    """Return the password of the first line of standard input, or ask twice in a terminal."""
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.readline().rstrip("\n")


def add(  # noqa: PLR0913  (each parameter is an option)
    name: Name,
    *,
    role: Roles,
    display: Annotated[str, typer.Option(help="Printed name.")] = "",
    fhir_user: Annotated[str | None, typer.Option(help="E.g. Practitioner/7.", show_default=False)] = None,
    patient: Annotated[
        str | None, typer.Option(help="Patient whose account it is.", show_default=False)
    ] = None,
    no_code: Annotated[bool, typer.Option("--no-code", help="No one-time codes at sign-in.")] = False,
    data: DataDir = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Make an account; the password comes from standard input."""
    from digital_twins.auth import totp_uri
    from digital_twins.cli import _output

    word = _new_password()
    with open_tables(config_file, data) as authority:
        secret = authority.accounts.add(
            name,
            password=word,
            roles=role,
            display=display,
            fhir_user=fhir_user,
            patient=patient,
            second_factor=not no_code,
        )
    uri = totp_uri(name, secret) if secret else None
    if as_json:
        _output.write_json({"name": name, "totp": uri})
    else:
        shown = [f"for the authenticator app, shown only now: {uri}"] if uri else []
        _output.write_lines([f"account {name} made", *shown])


def disable(name: Name, *, data: DataDir = None, config_file: ConfigFile = None) -> None:
    """Close an account for good; its sessions and tokens end."""
    with open_tables(config_file, data) as authority:
        authority.accounts.disable(name)


def roles(name: Name, *, role: Roles, data: DataDir = None, config_file: ConfigFile = None) -> None:
    """Give an account other roles."""
    with open_tables(config_file, data) as authority:
        authority.accounts.set_roles(name, role)


def password(name: Name, *, data: DataDir = None, config_file: ConfigFile = None) -> None:
    """Give an account another password, from standard input; lifts a lock, ends sessions."""
    word = _new_password()
    with open_tables(config_file, data) as authority:
        authority.accounts.set_password(name, word)


def revoke(name: Name, *, data: DataDir = None, config_file: ConfigFile = None) -> None:
    """Take no answer of an account's authenticators any more: one was lost or stolen."""
    from digital_twins.cli import _output

    with open_tables(config_file, data) as authority:
        count = authority.authenticators.revoke_all(name, agent="operator")
        _output.write_lines([f"{count} authenticators revoked"])


def users(*, data: DataDir = None, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """Show the accounts."""
    from dataclasses import asdict

    from digital_twins.cli import _output

    with open_tables(config_file, data) as authority:
        found = authority.accounts.all()
    if as_json:
        _output.write_json([asdict(each) for each in found])
    else:
        rows = ((u.name, ", ".join(u.roles), "disabled" if u.disabled else "") for u in found)
        _output.write_table(("name", "roles", "state"), rows)


def client_add(  # noqa: PLR0913  (each parameter is an option)
    name: ClientId,
    *,
    scope: Annotated[str, typer.Option(help="All that it may ever get.", show_default=False)],
    display: Annotated[str, typer.Option(help="Name that people are shown.")] = "",
    redirect_uri: Annotated[
        list[str] | None, typer.Option(help="Address to come back to; repeat it.", show_default=False)
    ] = None,
    launch_url: Annotated[str | None, typer.Option(help="Where an EHR launch begins.")] = None,
    jwks: Annotated[Path | None, typer.Option(help="File with its public keys.", show_default=False)] = None,
    jwks_url: Annotated[str | None, typer.Option(help="Address of its public keys.")] = None,
    secret: Annotated[bool, typer.Option("--secret", help="Make a secret for it.")] = False,
    data: DataDir = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Register an app or a service."""
    import json

    from digital_twins._errors import InputError
    from digital_twins.cli import _output

    try:
        keys = json.loads(jwks.read_text(encoding="utf-8")) if jwks is not None else None
    except (OSError, ValueError):
        raise InputError(
            "The keys cannot be used.", "The file is no readable JSON.", "Give a JWK set."
        ) from None
    with open_tables(config_file, data) as authority:
        made = authority.clients.add(
            name,
            scope=scope,
            display=display,
            redirect_uris=redirect_uri or (),
            launch_url=launch_url,
            jwks=keys,
            jwks_url=jwks_url,
            secret=secret,
        )
    if as_json:
        _output.write_json({"client_id": name, "client_secret": made})
    else:
        shown = [f"secret, shown only now: {made}"] if made else []
        _output.write_lines([f"client {name} registered", *shown])


def client_disable(name: ClientId, *, data: DataDir = None, config_file: ConfigFile = None) -> None:
    """Close a client for good; its tokens end."""
    with open_tables(config_file, data) as authority:
        authority.clients.disable(name)


def clients(*, data: DataDir = None, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """Show the clients."""
    from digital_twins.cli import _output

    with open_tables(config_file, data) as authority:
        found = authority.clients.all()
    if as_json:
        rows = [
            {
                "client_id": c.id,
                "scope": c.scope,
                "redirect_uris": list(c.redirect_uris),
                "disabled": c.disabled,
            }
            for c in found
        ]
        _output.write_json(rows)
    else:
        table = ((c.id, c.scope, "disabled" if c.disabled else "") for c in found)
        _output.write_table(("client", "scope", "state"), table)


def rotate(*, data: DataDir = None, config_file: ConfigFile = None) -> None:
    """Let a new key sign tokens; the two before it still verify."""
    from digital_twins.cli import _output

    with open_tables(config_file, data) as authority:
        records, key = authority.records, authority.keys.rotate()
        records.database.write(lambda cursor: records.event(cursor, "rotate", agent="cli", entity=key))
        _output.write_lines([f"tokens are signed by key {key}"])
