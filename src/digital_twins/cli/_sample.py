"""`twin sample`: write a sample patient's files."""

from pathlib import Path
from typing import Annotated

import typer

from digital_twins.cli._options import Json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sample")(sample)


def sample(
    name: Annotated[str, typer.Argument(help="Which sample patient, e.g. lung or brain.")],
    folder: Annotated[Path, typer.Argument(help="Where to write; made when missing.")],
    *,
    as_json: Json = False,
) -> None:
    """Write a sample patient: DICOM series, SEG and FHIR bundle (real images, an invented record)."""
    from digital_twins.cli import _output
    from digital_twins.samples import write_sample

    written = write_sample(name, folder)
    if as_json:
        _output.write_json({"name": name, "folder": folder, "written": written})
    else:
        _output.write_lines([f"{folder}: sample patient '{name}'"])
