"""The folder of a node that may be running, for commands that work on it: the database is shared."""

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from digital_twins.config import Settings
    from digital_twins.server import Services


def has_run(settings: "Settings") -> bool:
    """Whether a node has kept something under these settings."""
    from digital_twins.server import DATABASE_FILE

    return bool(settings.database) or (settings.data_dir / DATABASE_FILE).exists()


def need_node(settings: "Settings", what: str) -> None:
    """Raise NotFoundError, which says `what` is not to be had, when no node has run there."""
    from digital_twins._errors import NotFoundError

    if not has_run(settings):
        raise NotFoundError(
            what,
            f"No node has run on the data folder '{settings.data_dir}'.",
            "Name the node's folder with --data or data_dir.",
        )


@contextmanager
def open_node(settings: "Settings", what: str) -> "Iterator[Services]":
    """Open the rooms of a node; raises NotFoundError as `need_node`."""
    from digital_twins.server import open_keys, open_services

    need_node(settings, what)
    services = open_services(
        settings.data_dir,
        boot_id="",
        node=settings.ae_title,
        server=settings.database,
        keys=open_keys(settings),
    )
    try:
        yield services
    finally:
        services.close()
