"""What a database has to be able to do so that `Database` can run on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from digital_twins.storage._groups import Unit


class Engine(Protocol):
    """A writer connection and a way to open readers; used by one group of units at a time."""

    name: str
    """As it is called in messages."""

    location: tuple[str, str] | None
    """URL and schema on a server; None for a file."""

    def run(self, units: Sequence[Unit]) -> list[Any]:
        """Run units in one transaction and return an outcome for each; raise when all of it was lost."""
        ...

    def execute(self, sql: str, values: Sequence[Any]) -> None:
        """Run one statement as a transaction of its own."""
        ...

    def may_repeat(self, error: BaseException) -> bool:
        """Tell whether a transaction that raised certainly left nothing, so that it may be run again."""
        ...

    def explain(self, error: BaseException, what: str) -> BaseException:
        """Return the error to raise for one of the driver's; anything else comes back as it is."""
        ...

    def reading(self, *, one_statement: bool = False) -> AbstractContextManager[Any]:
        """Lend a read-only connection; what is read inside is one snapshot.

        With ``one_statement`` each statement may be a snapshot of its own.
        """
        ...

    def close(self) -> None:
        """Close every connection."""
        ...
