"""Where the rows of a trail are: in the file itself, or on a PostgreSQL server that a note beside names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from digital_twins._errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path


def place(trail: Path) -> tuple[str, str] | None:
    """Return URL and schema of a trail on a server; None for one in a file."""
    try:
        url, schema = trail.with_suffix(".server").read_text("utf-8").split()
    except (FileNotFoundError, ValueError):
        return None
    return url, schema


def settle(trail: Path, location: tuple[str, str] | None, *, existed: bool) -> None:
    """Note where the rows are, so that readers find them by the trail's path.

    Raises
    ------
    StorageError
        The trail was begun on the other kind of database: a chain cannot go on there.
    """
    begun_on_server = place(trail) is not None
    if (location is None and begun_on_server and not existed) or (location is not None and existed):
        if location is None:
            trail.unlink(missing_ok=True)
        raise StorageError(
            f"The audit trail '{trail.name}' cannot go on here.",
            f"It was begun {'on a PostgreSQL server' if location is None else 'in a SQLite file'}.",
            "Keep the setting 'database' as it was, or begin with a new data_dir and keep the old one.",
        )
    if location is not None:
        trail.parent.mkdir(parents=True, exist_ok=True)
        trail.with_suffix(".server").write_text("\n".join(location) + "\n", "utf-8")
