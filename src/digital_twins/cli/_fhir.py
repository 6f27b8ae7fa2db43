"""`twin fhir`: tables, paths and validation over FHIR files, loading them, and the packages of the node."""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from digital_twins._errors import InputError
from digital_twins.cli._options import ConfigFile, DataDir, Json

if TYPE_CHECKING:
    from digital_twins.config import Settings
    from digital_twins.fhir import FHIRClient
    from digital_twins.fhir.validation import FhirPackage

_LOAD_S = 300.0
_Files = Annotated[
    list[Path],
    typer.Argument(metavar="FILE...", help="FHIR R4 JSON, NDJSON or XML; a bundle gives its entries."),
]


def register(app: typer.Typer) -> None:
    """Add the command and its parts."""
    fhir = typer.Typer(
        no_args_is_help=True, help="Tables, paths and validation over FHIR files; packages of the node."
    )
    fhir.command("view")(view)
    fhir.command("path")(path)
    fhir.command("validate")(validate)
    fhir.command("load")(load)
    package = typer.Typer(no_args_is_help=True, help="FHIR packages whose profiles the node validates.")
    package.command("add")(package_add)
    package.command("list")(package_list)
    fhir.add_typer(package, name="package")
    app.add_typer(fhir, name="fhir")


def view(
    definition: Annotated[
        Path, typer.Argument(metavar="VIEW.json", help="A ViewDefinition (SQL on FHIR v2).")
    ],
    files: _Files,
    *,
    as_json: Json = False,
) -> None:
    """Run a ViewDefinition over resources and write the rows as CSV, or as one JSON array."""
    from digital_twins.cli import _output
    from digital_twins.fhir import View

    table = View(_object(definition))
    rows = table.rows(resource for file in files for resource in _resources(file))
    if as_json:
        _output.write_json(list(rows))
        return
    names = [column.name for column in table.columns]
    writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})


def path(
    expression: Annotated[str, typer.Argument(metavar="EXPRESSION", help="A FHIRPath expression.")],
    files: _Files,
    *,
    as_json: Json = False,
) -> None:
    """Evaluate a FHIRPath expression on each resource and write what it finds, one value a line."""
    from digital_twins.cli import _output
    from digital_twins.fhir.fhirpath import evaluate

    found = [
        _cell(v) for file in files for resource in _resources(file) for v in evaluate(expression, resource)
    ]
    if as_json:
        _output.write_json(found)
    else:
        _output.write_lines(str(value) for value in found)


def validate(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="FHIR R4 JSON, NDJSON or XML; a bundle as a whole."),
    ],
    *,
    profile: Annotated[
        list[str] | None, typer.Option(help="A profile to conform to; may be repeated.")
    ] = None,
    package: Annotated[list[Path] | None, typer.Option(help="A FHIR package file; may be repeated.")] = None,
    as_json: Json = False,
) -> None:
    """Validate resources against R4, the profiles that they claim and those given; exit code 1 on errors."""
    from digital_twins.cli import _output
    from digital_twins.fhir.validation import DefinitionSet, Validator

    validator = Validator(DefinitionSet.from_packages(package or []))
    unknown = [url for url in profile or [] if validator.profile(url) is None]
    if unknown:
        raise InputError("A profile is not known.", "No package has it.", "Give its package by --package.")
    found = [
        {"file": str(file), "resource": number, **issue.to_dict()}
        for file in files
        for number, document in enumerate(_documents(file))
        for issue in validator.validate(_as_resource(document), profiles=profile or [])
    ]
    failed = any(issue["severity"] == "error" for issue in found)
    if as_json:
        _output.write_json({"valid": not failed, "issues": found})
    else:
        _output.write_lines(_issue_line(issue) for issue in found)
        _output.write_lines(["not valid" if failed else "valid"])
    if failed:
        raise typer.Exit(1)


def _as_resource(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise InputError("The file is no FHIR resource.", "It holds no JSON object.", "Give a JSON object.")
    return document


def _issue_line(issue: dict[str, Any]) -> str:
    place = ", ".join(issue.get("expression", ["-"]))
    return f"{issue['file']}#{issue['resource']}: {issue['severity']}: {place}: {issue['diagnostics']}"


def load(
    places: Annotated[
        list[Path],
        typer.Argument(metavar="DIR_OR_FILE...", help="Bulk NDJSON, or Bundles and resources in JSON."),
    ],
    *,
    to: Annotated[
        str, typer.Option("--to", metavar="URL", help="FHIR base of the server.")
    ] = "http://127.0.0.1:8042/fhir",
    credentials: Annotated[
        Path | None, typer.Option(help='File {"access_token": ...} with mode 0600.', show_default=False)
    ] = None,
    size: Annotated[int, typer.Option(min=1, max=5000, help="Resources in one transaction.")] = 100,
    as_json: Json = False,
) -> None:
    """Load FHIR files into a server in transactions; resources of NDJSON keep their ids.

    Without --credentials a sign-in of `twin login` to that node is used.
    """
    from digital_twins.cli import _output
    from digital_twins.fhir import fhir_files, load_steps

    counts: dict[str, int] = {}
    with _client(to, credentials) as client:
        for step in load_steps(fhir_files(places), size=size):
            client.transaction(step.bundle)
            counts[step.file.name] = counts.get(step.file.name, 0) + step.count
    if as_json:
        _output.write_json({"resources": sum(counts.values()), "files": counts})
    else:
        lines = [f"{name}: {count}" for name, count in counts.items()]
        _output.write_lines([*lines, f"{sum(counts.values())} resources loaded"])


def _client(to: str, credentials: Path | None) -> "FHIRClient":
    """Return a client that signs in by a file, else as who signed in to that node, else as nobody."""
    import httpx

    from digital_twins.cli._sign_ins import SignedIn, SignIns, tls
    from digital_twins.fhir import FHIRClient

    store = SignIns()
    held = store.covering(to) if credentials is None else None
    if held is None:
        return FHIRClient(to, credentials_path=credentials, timeout_s=_LOAD_S)
    transport = httpx.HTTPTransport(verify=tls(held.authority))
    return FHIRClient(to, auth=SignedIn(held, store), timeout_s=_LOAD_S, transport=transport)


def package_add(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.tgz", help="A FHIR package, as registries publish them.")
    ],
    *,
    data: DataDir = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Add a FHIR package to the node: its profiles and search parameters are then served, without a restart.

    What is stored already is indexed for the new search parameters; a running node goes on serving.
    """
    from dataclasses import asdict

    from digital_twins.cli import _output
    from digital_twins.config import load_settings
    from digital_twins.fhir.validation import PACKAGES_FOLDER, add_package

    settings = load_settings(config_file=config_file, data_dir=data)
    added = add_package(file, settings.data_dir / PACKAGES_FOLDER)
    indexed = _reindex(settings)
    if as_json:
        _output.write_json({**asdict(added), "indexed": indexed})
    else:
        _output.write_lines([_package_line(added), f"{indexed} stored resources indexed"])


def _reindex(settings: "Settings") -> int:
    """Index the resources that the node holds, if it holds any; return how many were read."""
    from digital_twins.cli import _output
    from digital_twins.cli._node_folder import has_run
    from digital_twins.fhir import MIGRATIONS, PackageParameters
    from digital_twins.fhir.validation import PACKAGES_FOLDER
    from digital_twins.server import DATABASE_FILE, database_key, opened_keys
    from digital_twins.storage import Database

    if not has_run(settings):
        return 0
    with (
        opened_keys(settings) as keys,
        Database(
            settings.data_dir / DATABASE_FILE,
            migrations=MIGRATIONS,
            server=settings.database,
            key=database_key(keys, settings.database),
            keys=keys,
        ) as database,
        _output.steps() as steps,
        steps("index the stored resources") as step,
    ):
        parameters = PackageParameters(settings.data_dir / PACKAGES_FOLDER, database)
        return parameters.reindex(lambda done, total: step(done / total, f"{done} of {total}"))


def _package_line(package: "FhirPackage") -> str:
    counts = f"{package.profiles} profiles, {package.search_parameters} search parameters"
    return f"{package.name} {package.version}: {counts}"


def package_list(*, data: DataDir = None, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """List the FHIR packages of the node."""
    from dataclasses import asdict

    from digital_twins.cli import _output
    from digital_twins.config import load_settings
    from digital_twins.fhir.validation import PACKAGES_FOLDER, packages_in

    found = packages_in(load_settings(config_file=config_file, data_dir=data).data_dir / PACKAGES_FOLDER)
    if as_json:
        _output.write_json([asdict(each) for each in found])
    else:
        _output.write_lines(map(_package_line, found))


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if value is None or isinstance(value, int | float) else str(value)


def _object(file: Path) -> dict[str, Any]:
    found = next(_documents(file))
    if not isinstance(found, dict):
        raise InputError("The file is no FHIR resource.", "It holds no JSON object.", "Give a JSON object.")
    return found


def _resources(file: Path) -> Iterator[dict[str, Any]]:
    for document in _documents(file):
        if isinstance(document, dict) and document.get("resourceType") == "Bundle":
            entries = document.get("entry", [])
            yield from (
                e["resource"] for e in entries if isinstance(e, dict) and isinstance(e.get("resource"), dict)
            )
        elif isinstance(document, dict):
            yield document


def _documents(file: Path) -> Iterator[Any]:
    from digital_twins.fhir import resource_from_xml

    try:
        data = file.read_bytes()
        if data.lstrip()[:1] == b"<":
            yield resource_from_xml(data)
        elif file.suffix == ".ndjson":
            yield from (json.loads(line) for line in data.splitlines() if line.strip())
        else:
            yield json.loads(data)
    except (OSError, ValueError) as error:
        raise InputError(
            "The file cannot be read.",
            f"It is missing or no JSON, NDJSON or XML ({type(error).__name__}).",
            "Give FHIR R4 files in UTF-8.",
        ) from None
