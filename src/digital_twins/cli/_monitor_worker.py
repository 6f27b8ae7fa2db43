"""``twin monitor worker``: a worker of a divided ward, on any machine that reaches database and broker."""

from pathlib import Path
from typing import Annotated

import typer

from digital_twins.cli._options import ConfigFile


def worker(
    *,
    data: Annotated[Path, typer.Option(help="Folder of the monitor, shared by all workers.")] = Path(
        "monitor-data"
    ),
    broker: Annotated[
        str,
        typer.Option(envvar="TWIN_MONITOR_BROKER", help="URL of the broker; better from the environment."),
    ],
    topic: Annotated[
        str | None,
        typer.Option(help="Topic of a part, with {part}; default: vitals/+, and drop.", show_default=False),
    ] = None,
    lease: Annotated[float, typer.Option(min=1, help="Seconds until a silent worker's parts go.")] = 4.0,
    together: Annotated[int, typer.Option(min=0, help="Workers that start at the same time.")] = 1,
    config_file: ConfigFile = None,
) -> None:
    """Watch parts of a ward that ``twin monitor serve --workers`` divides, until Ctrl-C.

    The database follows the setting `database`: SQLite for workers of one machine, PostgreSQL for several.
    """
    import asyncio
    import os

    from digital_twins._logging import setup_logging
    from digital_twins.config import load_settings
    from digital_twins.monitoring import WardSize, run_worker
    from digital_twins.server import monitor_key

    settings = load_settings(config_file=config_file, data_dir=data)
    setup_logging(settings.log_level)
    os.umask(0o077)
    size = WardSize(max(1, together), topic=topic, lease_s=lease)
    asyncio.run(
        run_worker(data, database=settings.database, broker=broker, size=size, key=monitor_key(settings))
    )
