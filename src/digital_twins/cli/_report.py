"""`twin report`: the Part 11 report, regulatory documents, and electronic signatures of files."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digital_twins.cli._options import ConfigFile, DataDir, Json
from digital_twins.cli._report_documents import documents

if TYPE_CHECKING:
    from digital_twins.config import Settings
    from digital_twins.governance import ElectronicSignature

File = Annotated[Path, typer.Argument(help="The record.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Reports for compliance, and electronic signatures.", no_args_is_help=True)
    group.command("compliance")(compliance)
    group.command("documents")(documents)
    group.command("sign")(sign)
    group.command("verify")(verify)
    group.command("key")(key)
    app.add_typer(group, name="report")


def compliance(
    output: Annotated[Path, typer.Argument(help="PDF to write.", show_default=False)],
    *,
    period: Annotated[
        str, typer.Option("--period", help="2026, 2026-Q1, 2026-03 or 2026-01..2026-03.", show_default=False)
    ],
    data: DataDir = None,
    config_file: ConfigFile = None,
) -> None:
    """Verify the audit trail and write what it says about a period (21 CFR Part 11) as PDF."""
    from digital_twins.cli import _output
    from digital_twins.cli._auth import open_tables
    from digital_twins.config import load_settings
    from digital_twins.governance import Signatures, compliance_pdf, signature_key

    settings = load_settings(config_file=config_file, data_dir=data)
    with open_tables(config_file, data) as authority:
        made = compliance_pdf(
            settings.audit_file,
            period,
            regulation="21 CFR Part 11",
            anchor=settings.audit_anchor_file,
            signatures=Signatures(authority, signature_key(settings.data_dir)),
        )
    _write(output, made)
    _output.write_lines([str(output)])


def sign(
    file: File,
    *,
    user: Annotated[str, typer.Option("--user", help="Account that signs.", show_default=False)],
    meaning: Annotated[
        str, typer.Option(help="authorship, review, approval or responsibility.")
    ] = "approval",
    record: Annotated[str | None, typer.Option(help="Reference of the record. [the file's name]")] = None,
    data: DataDir = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Sign a file; password and one-time code come as two lines of standard input.

    Writes FILE.signature.json and, for a PDF with a document certificate, FILE with .signed.pdf.
    """
    from digital_twins.auth import NotSignedInError
    from digital_twins.cli import _output
    from digital_twins.cli._auth import open_tables
    from digital_twins.config import load_settings
    from digital_twins.governance import Signatures, SigningComponents, signature_key

    settings, content = load_settings(config_file=config_file, data_dir=data), _read(file)
    password, code = _components()
    with open_tables(config_file, data) as authority:
        account = authority.accounts.get(user)
        if account is None:
            raise NotSignedInError("The file was not signed.", "There is no such account.", "Check --user.")
        secret = authority.sessions.start(account)
        try:
            found = authority.sessions.find(secret)
            session = found[1].session if found else ""
            made = Signatures(authority, signature_key(settings.data_dir)).sign(
                content,
                SigningComponents(session, name=user, password=password, code=code),
                record=record or file.name,
                meaning=meaning,  # type: ignore[arg-type]  # the manifest refuses other words
            )
        finally:
            authority.sessions.end(secret)
    written = [file.with_name(f"{file.name}.signature.json")]
    _write(written[0], made.to_json().encode() + b"\n")
    written += _sealed(file, content, made, settings)
    if as_json:
        _output.write_json({"signature": made.manifest.signature_id, "files": written})
    else:
        _output.write_lines([f"signed as {made.manifest.signature_id}", *map(str, written)])


def verify(
    file: File,
    *,
    signature: Annotated[
        Path | None, typer.Option("--signature", help="FILE.signature.json; without it the PDF's own.")
    ] = None,
    verifier: Annotated[
        str | None, typer.Option("--key", help="Verifier key of the node. [that of the data folder]")
    ] = None,
    authority: Annotated[
        Path | None, typer.Option("--authority", help="ca.pem, for the signatures inside of a PDF.")
    ] = None,
    data: DataDir = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Check a signature of a file, or those inside of a PDF; exit code 1 if one does not hold."""
    from digital_twins._errors import InputError
    from digital_twins.cli import _output

    if signature is not None:
        problems = _detached(file, signature, verifier, (config_file, data))
    elif authority is not None:
        problems = _inside(file, authority)
    else:
        raise InputError(
            "Nothing was verified.", "It is not said against what.", "Give --signature or --authority."
        )
    if as_json:
        _output.write_json({"ok": not problems, "problems": problems})
    else:
        _output.write_lines(problems or ["the signatures hold"])
    if problems:
        raise typer.Exit(1)


def key(*, data: DataDir = None, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """Show the public key of the node's signatures: as verifier key and as PEM for openssl."""
    from digital_twins.cli import _output
    from digital_twins.config import load_settings
    from digital_twins.governance import signature_key

    verifier = signature_key(load_settings(config_file=config_file, data_dir=data).data_dir).verifier
    if as_json:
        _output.write_json({"verifier_key": verifier.to_text(), "pem": verifier.to_pem()})
    else:
        _output.write_lines([verifier.to_text(), *verifier.to_pem().splitlines()])


def _components() -> tuple[str, str]:
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, err=True)), str(
            typer.prompt("One-time code", err=True)
        )
    return sys.stdin.readline().rstrip("\n"), sys.stdin.readline().rstrip("\n")


def _sealed(file: Path, content: bytes, made: "ElectronicSignature", settings: "Settings") -> list[Path]:
    from digital_twins.governance import DocumentCertificate, sign_pdf

    certificate, secret = settings.document_certificate, settings.document_key
    if not content.startswith(b"%PDF-") or certificate is None or secret is None:
        return []
    target = file.with_name(f"{file.stem}.signed.pdf")
    _write(target, sign_pdf(content, made, DocumentCertificate(certificate, secret)))
    return [target]


def _detached(
    file: Path, signature: Path, verifier: str | None, place: tuple[Path | None, Path | None]
) -> list[str]:
    from digital_twins.config import load_settings
    from digital_twins.crypto import VerifierKey
    from digital_twins.governance import ElectronicSignature, signature_key, signature_problems

    if verifier is not None:
        trusted = VerifierKey.from_text(verifier)
    else:
        trusted = signature_key(load_settings(config_file=place[0], data_dir=place[1]).data_dir).verifier
    given = ElectronicSignature.from_json(_read(signature).decode(errors="replace"))
    return list(signature_problems(given, _read(file), key=trusted))


def _inside(file: Path, authority: Path) -> list[str]:
    from digital_twins.governance import verify_pdf

    found = verify_pdf(_read(file), [authority])
    if not found:
        return ["the file has no signature"]
    return [
        f"{each.place}: {what}"
        for each in found
        for what, holds in (
            ("the signed bytes were changed", each.intact),
            ("its certificate is not of this authority", each.trusted),
            ("something was added to the file since", each.unchanged),
        )
        if not holds
    ]


def _read(path: Path) -> bytes:
    from digital_twins._errors import NotFoundError

    try:
        return path.read_bytes()
    except OSError as error:
        raise NotFoundError(
            "A file was not read.", f"Reading failed ({type(error).__name__}).", "Check the path."
        ) from error


def _write(path: Path, content: bytes) -> None:
    from digital_twins._errors import StorageError

    try:
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_bytes(content)
        fresh.replace(path)
    except OSError as error:
        raise StorageError(
            "A file was not written.", f"Writing failed ({type(error).__name__}).", "Check folder and disk."
        ) from error
