"""What a search finds, and the bodies of resources by their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Executes(Protocol):
    """A cursor or connection of the store."""

    def execute(self, statements: str, bindings: Any = ..., /) -> Any:
        """Run SQL with bound values."""

    def executemany(self, statements: str, sequenceofbindings: Any, /) -> Any:
        """Run SQL once for each sequence of values."""


class Hit(NamedTuple):
    """One resource of a result: its body as stored and why it is there (match or include)."""

    rid: int
    type: str
    id: str
    body: bytes
    mode: str = "match"


def bodies(cursor: Executes, rids: Sequence[int], mode: str) -> list[Hit]:
    """Return the live resources of these numbers, in the order given."""
    found: dict[int, Hit] = {}
    for start in range(0, len(rids), 500):
        part = rids[start : start + 500]
        marks = ",".join("?" * len(part))
        text = f"SELECT rid, type, id, body FROM fhir_resource WHERE rid IN ({marks}) AND deleted=0"  # noqa: S608  (question marks only)  # nosec B608
        for rid, kind, name, body in cursor.execute(text, part):
            found[rid] = Hit(rid, kind, name, body, mode)
    return [found[rid] for rid in rids if rid in found]
