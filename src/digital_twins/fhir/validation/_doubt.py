"""What the quick checks share: the place of a value, what they say, and that they doubt."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from digital_twins.fhir._outcome import Issue

if TYPE_CHECKING:
    from digital_twins.fhir.fhirpath import Environment
    from digital_twins.fhir.validation._plan import Plans

At = tuple[Any, str, "int | None", str]
"""Where a value stands: the place around it, its JSON name, its index, and the type of what is around it."""
Check = Callable[[Any, At, "Pass"], None]


class Doubt(Exception):  # noqa: N818  (no error: a quick answer is not possible)
    """The plan cannot say that a resource is valid."""


class Pass:
    """One run of a plan: the resource, the one around it, and what there is to say.

    ``inside`` are the references to contained resources that were met.
    """

    __slots__ = ("inside", "issues", "now", "plans", "resolve", "resource", "root")

    def __init__(self, resource: Any, root: Any, resolve: Any, now: Environment, plans: Plans) -> None:
        self.resource, self.root, self.resolve = resource, root, resolve
        self.now, self.plans = now, plans
        self.issues: list[Issue] = []
        self.inside: set[str] = set()

    def say(self, code: str, text: str, at: At, severity: str) -> None:
        """Report what is no error; an error is for the full walk to find."""
        if severity == "error":
            raise Doubt
        self.issues.append(Issue(code, text, path_of(at), severity))


def path_of(at: At) -> str:
    """Write a place as a path, e.g. ``Patient.name[0].given``."""
    if at[0] is None and at[2] is None:
        return at[1]
    steps = []
    here: Any = at
    while here is not None:
        steps.append(here[1] if here[2] is None else f"{here[1]}[{here[2]}]")
        here = here[0]
    return ".".join(reversed(steps))


def doubtful(_value: Any, _at: At, _run: Pass) -> None:
    """Leave a value to the full walk."""
    raise Doubt
