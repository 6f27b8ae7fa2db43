"""What a verification found."""

from __future__ import annotations

from dataclasses import dataclass

MOST_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding: the row it is about (None: the trail as a whole) and what is wrong with it."""

    seq: int | None
    what: str
