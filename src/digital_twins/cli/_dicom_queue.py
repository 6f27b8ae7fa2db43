"""`twin dicom queue`: look at the queues of outgoing objects, pause them, send dead letters again."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digital_twins.cli._options import ConfigFile, DataDir, Json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from digital_twins.dicom import SendQueues

Name = Annotated[str, typer.Argument(help="AE title of the destination.", show_default=False)]


def register(group: typer.Typer) -> None:
    """Add the commands to the group `twin dicom`."""
    queue = typer.Typer(
        help="The queues of outgoing objects: list, pause, resume, replay.", no_args_is_help=True
    )
    queue.command("list")(listed)
    for command in (pause, resume, replay):
        queue.command(command.__name__)(command)
    group.add_typer(queue, name="queue")


def listed(*, data: DataDir = None, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """Show every queue."""
    from dataclasses import asdict

    from digital_twins.cli import _output

    with _queues(data, config_file) as queues:
        states = [asdict(state) for state in queues.states()]
    if as_json:
        _output.write_json(states)
        return
    names = ("destination", "paused", "waiting", "dead", "oldest_s", "sent", "failed", "error")
    _output.write_table(names, [[state[name] for name in names] for state in states])


def pause(
    destination: Name, *, data: DataDir = None, config_file: ConfigFile = None, as_json: Json = False
) -> None:
    """Send nothing more to a destination; what is on its way ends."""
    with _queues(data, config_file) as queues:
        queues.pause(destination, agent="cli")
        _show(queues, destination, "is paused", as_json=as_json)


def resume(
    destination: Name, *, data: DataDir = None, config_file: ConfigFile = None, as_json: Json = False
) -> None:
    """End a pause, and try a destination at once that was not reached."""
    with _queues(data, config_file) as queues:
        queues.resume(destination, agent="cli")
        _show(queues, destination, "goes on", as_json=as_json)


def replay(
    destination: Name, *, data: DataDir = None, config_file: ConfigFile = None, as_json: Json = False
) -> None:
    """Put the dead letters of a destination back into its queue."""
    with _queues(data, config_file) as queues:
        count = queues.replay(destination, agent="cli")
        _show(queues, destination, f"has {count} dead letters less", as_json=as_json)


@contextmanager
def _queues(data: Path | None, config_file: Path | None) -> "Iterator[SendQueues]":
    """Open the queues of a node that may be running: the database is shared."""
    from digital_twins.audit import OUTBOX_MIGRATIONS
    from digital_twins.cli._node_folder import need_node
    from digital_twins.config import load_settings
    from digital_twins.dicom import MIGRATIONS, SendQueues
    from digital_twins.server import DATABASE_FILE, database_key, opened_keys
    from digital_twins.storage import Database

    settings = load_settings(config_file=config_file, data_dir=data)
    need_node(settings, "There are no queues.")
    with (
        opened_keys(settings) as keys,
        Database(
            settings.data_dir / DATABASE_FILE,
            migrations=(*OUTBOX_MIGRATIONS, *MIGRATIONS),
            server=settings.database,
            key=database_key(keys, settings.database),
            keys=keys,
        ) as database,
    ):
        yield SendQueues(database)


def _show(queues: "SendQueues", destination: str, what: str, *, as_json: bool) -> None:
    from dataclasses import asdict

    from digital_twins.cli import _output

    state = queues.state(destination)
    if as_json:
        _output.write_json(asdict(state))
    else:
        _output.write_lines([f"{destination} {what}: {state.waiting} waiting, {state.dead} dead"])
