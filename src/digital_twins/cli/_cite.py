"""`twin cite`: the papers on which a twin rests."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from digital_twins.cli._options import Json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("cite")(cite)


def cite(
    twin_file: Annotated[Path, typer.Argument(metavar="FILE.twin", help="What 'twin build' wrote.")],
    *,
    as_json: Json = False,
) -> None:
    """List the sources of a twin's equation, numbers and methods."""
    from digital_twins.cli import _output
    from digital_twins.patient_modeling import PatientTwin, citations

    found = citations(PatientTwin.open(twin_file))
    if as_json:
        _output.write_json({"citations": [asdict(each) for each in found]})
        return
    lines = []
    for each in found:
        unread = "" if each.verified else "  (value not verified in this source)"
        lines += [f"{each.reference}{unread}", f"    {each.used_for}"]
    _output.write_lines(lines)
