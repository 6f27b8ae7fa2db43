"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Write one JSON document to standard output.")]
DataDir = Annotated[Path | None, typer.Option("--data", help="Data folder of the node.", show_default=False)]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Settings file instead of ./twin.toml.", show_default=False)
]
