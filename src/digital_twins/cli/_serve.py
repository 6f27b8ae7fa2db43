"""`twin serve`: run a node."""

import os
from typing import Annotated

import typer

from digital_twins.cli._options import ConfigFile, DataDir


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve")(serve)


def serve(
    *,
    data: DataDir = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default=False)] = None,
    dicom_port: Annotated[int | None, typer.Option(help="DICOM port.", show_default=False)] = None,
    http_port: Annotated[int | None, typer.Option(help="HTTP port.", show_default=False)] = None,
    ae_title: Annotated[str | None, typer.Option(help="DICOM AE title.", show_default=False)] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes.", show_default=False)] = None,
    config_file: ConfigFile = None,
) -> None:
    """Run a node until Ctrl-C or SIGTERM: DICOM, FHIR, DICOMweb, web pages and workers.

    The log goes to standard error, as JSON lines.
    """
    from digital_twins._logging import setup_logging
    from digital_twins.config import load_settings

    setup_logging()
    os.umask(0o077)  # what the node writes holds patient data: for its own user only
    settings = load_settings(
        config_file=config_file,
        data_dir=data,
        host=host,
        dicom_port=dicom_port,
        http_port=http_port,
        ae_title=ae_title,
        workers=workers,
    )
    setup_logging(settings.log_level)
    from digital_twins.server import run_node

    run_node(settings)
