"""What an expression sees while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Collection = list[Any]
Run = Callable[[Collection, "Scope"], Collection]


@dataclass(frozen=True, slots=True)
class Environment:
    """What stays the same during one evaluation, and what the caller lends to it.

    Attributes
    ----------
    variables
        Values of ``%name``, each a collection.
    resolve
        Reference or canonical -> resource as JSON, or None.
    member_of
        ``(coded JSON value, value set) -> bool``, or None where the value set is not known.
    conforms_to
        ``(resource JSON, profile) -> bool``, or None where the profile is not known.
    trace
        Called with the name and the collection of each ``trace()``.
    now
        The time of ``now()`` and ``today()``.
    strict
        Whether an element that the type does not have is an error.
    """

    variables: dict[str, Collection] = field(default_factory=dict)
    resolve: Callable[[str], dict[str, Any] | None] | None = None
    member_of: Callable[[Any, str], bool | None] | None = None
    conforms_to: Callable[[Any, str], bool | None] | None = None
    trace: Callable[[str, Collection], None] | None = None
    now: datetime = field(default_factory=lambda: datetime.now(tz=UTC))
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Scope:
    """The focus of ``$this``, ``$index`` and ``$total``."""

    environment: Environment
    this: Collection
    index: int | None = None
    total: Collection | None = None

    def on(self, item: Any, index: int) -> Scope:
        """Return the scope of one item of a collection."""
        return Scope(self.environment, [item], index, self.total)
