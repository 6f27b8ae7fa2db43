"""`twin certs`: a local certificate authority for TLS, and certificates that sign documents."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from digital_twins.cli._options import Json

Folder = Annotated[Path, typer.Option("--folder", help="Folder of the authority.")]


class Purpose(StrEnum):
    """What a certificate is for."""

    SERVER = "server"
    CLIENT = "client"
    BOTH = "both"
    DOCUMENT = "document"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="A local certificate authority for TLS.", no_args_is_help=True)
    group.command("init")(init)
    group.command("issue")(issue)
    app.add_typer(group, name="certs")


def init(
    *,
    folder: Folder = Path("certs"),
    days: Annotated[int, typer.Option(min=1, help="Days of validity.")] = 3650,
    as_json: Json = False,
) -> None:
    """Make an authority: ca.pem for everybody, ca.key for nobody."""
    from digital_twins import crypto

    _told(crypto.create_authority(folder, days=days), as_json=as_json)


def issue(
    name: Annotated[str, typer.Argument(help="Name of the certificate and its files.", show_default=False)],
    *,
    host: Annotated[list[str] | None, typer.Option(help="Host name or address; repeat it.")] = None,
    purpose: Annotated[Purpose, typer.Option(help="What it is for.")] = Purpose.BOTH,
    days: Annotated[int, typer.Option(min=1, help="Days of validity.")] = 397,
    replace: Annotated[bool, typer.Option("--replace", help="Renew one that is there.")] = False,
    folder: Folder = Path("certs"),
    as_json: Json = False,
) -> None:
    """Issue a certificate with its key; a running node takes a renewed one up by itself."""
    from digital_twins import crypto

    made = crypto.issue_certificate(
        folder, name, hosts=host or (), purpose=purpose.value, days=days, replace=replace
    )
    _told(made, as_json=as_json)


def _told(certificate: Path, *, as_json: bool) -> None:
    from digital_twins.cli import _output

    key = certificate.with_suffix(".key")
    if as_json:
        _output.write_json({"certificate": certificate, "key": key})
    else:
        _output.write_lines([f"certificate {certificate}", f"key         {key}"])
