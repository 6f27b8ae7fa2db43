"""`twin report documents`: the regulatory documents of this installation, and of a twin."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digital_twins.cli._options import ConfigFile, DataDir, Json

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECONDS = 30.0


def documents(
    output: Annotated[Path, typer.Argument(help="Folder to write to.", show_default=False)],
    *,
    twin_file: Annotated[
        Path | None,
        typer.Option("--twin", help="F.twin: also its model card, IEC 62304 set, PCCP and checklists."),
    ] = None,
    safety_class: Annotated[str, typer.Option(help="Software safety class: A, B or C.")] = "C",
    http: Annotated[
        str | None, typer.Option("--http", help="URL of the running node: also its CapabilityStatement.")
    ] = None,
    data: DataDir = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Write what a regulator and a security office ask for; what only the operator knows is marked so."""
    from digital_twins.cli import _output
    from digital_twins.config import load_settings
    from digital_twins.governance import write_security_documents

    settings = load_settings(config_file=config_file, data_dir=data)
    with _output.steps() as step:
        with step("security answers from the settings"):
            written = [*write_security_documents(settings, output), *_always(output)]
        if http is not None:
            with step("CapabilityStatement of the node"):
                written.append(_capability(http, output))
        if twin_file is not None:
            with step("documents of the twin"):
                written += _of_twin(twin_file, output, safety_class)
    asked = {"--http": http, "--twin": twin_file}
    left_out = [option for option, given in asked.items() if given is None]
    if as_json:
        _output.write_json({"files": sorted(str(path) for path in written), "not_asked_for": left_out})
    else:
        _output.write_lines(sorted(str(path) for path in written))


def _always(folder: Path) -> "Iterator[Path]":
    from digital_twins.dicom import conformance, conformance_markdown
    from digital_twins.governance import software_bill

    contents = {
        "dicom-conformance.md": conformance_markdown(),
        "dicom-conformance.json": _text(conformance()),
        "sbom.cdx.json": _text(software_bill()),
    }
    for name, text in contents.items():
        yield _write(folder / name, text)


def _of_twin(file: Path, folder: Path, safety_class: str) -> list[Path]:
    from digital_twins.governance import ModelDocumentation
    from digital_twins.patient_modeling import PatientTwin

    written = ModelDocumentation(PatientTwin.open(file))
    return [
        *written.generate_iec62304_docs(output_dir=folder / "iec62304", software_safety_class=safety_class),
        *written.generate_regulatory_docs(output_dir=folder / "regulatory"),
    ]


def _capability(http: str, folder: Path) -> Path:
    import httpx

    from digital_twins._errors import StorageError

    try:
        answer = httpx.get(f"{http.rstrip('/')}/fhir/metadata", timeout=_SECONDS, trust_env=False)
        answer.raise_for_status()
        statement = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise StorageError(
            "The CapabilityStatement was not written.",
            f"The node did not answer with one: {type(error).__name__}.",
            "Start the node, and check the address after --http.",
        ) from error
    return _write(folder / "fhir-capability-statement.json", _text(statement))


def _text(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n"


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
