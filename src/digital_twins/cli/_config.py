"""`twin config`: the settings in force and where they come from."""

from typing import Annotated

import typer

from digital_twins.cli._options import ConfigFile, DataDir, Json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("config")(config)


def config(
    *,
    show_origin: Annotated[
        bool, typer.Option("--show-origin", help="Tell where each setting comes from.")
    ] = False,
    data: DataDir = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Show the settings in force."""
    from digital_twins.cli import _output
    from digital_twins.config import load_with_origins

    _, origins = load_with_origins(config_file=config_file, data_dir=data)
    if as_json:
        _output.write_json(
            {
                name: {"value": origin.value, "origin": origin.origin} if show_origin else origin.value
                for name, origin in origins.items()
            }
        )
    elif show_origin:
        _output.write_table(
            ("setting", "value", "origin"), [(name, *origin) for name, origin in origins.items()]
        )
    else:
        _output.write_lines(f"{name} = {origin.value}" for name, origin in origins.items())
