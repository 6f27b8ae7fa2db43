"""`twin fhir`: tables and paths over FHIR files."""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from digital_twins._errors import InputError
from digital_twins.cli._options import Json

_Files = Annotated[
    list[Path],
    typer.Argument(metavar="FILE...", help="FHIR R4 JSON, NDJSON or XML; a bundle gives its entries."),
]


def register(app: typer.Typer) -> None:
    """Add the command and its parts."""
    fhir = typer.Typer(no_args_is_help=True, help="Tables and paths over FHIR files.")
    fhir.command("view")(view)
    fhir.command("path")(path)
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
