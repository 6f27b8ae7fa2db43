"""Accepting a valid resource quickly: a plan of plain functions a type, over JSON without nodes or paths.

The plan answers with the warnings and information that the full walk would give, or that it doubts. Then the
full walk decides, so that an error is only ever found, named and placed in one way. Tests compare both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from digital_twins.fhir._outcome import Issue
from digital_twins.fhir.fhirpath._types import resource_types
from digital_twins.fhir.validation._doubt import Doubt, Pass
from digital_twins.fhir.validation._plan import Plans

if TYPE_CHECKING:
    from collections.abc import Callable

    from digital_twins.fhir.fhirpath import Environment
    from digital_twins.fhir.validation._validator import Validator

_WALKED_IN_FULL = frozenset({"Bundle", "Parameters"})
_ASKED_MORE = _WALKED_IN_FULL | {"QuestionnaireResponse", "ValueSet"}
UNKNOWN_PROFILE = "A profile that is claimed is not known here."


@dataclass(slots=True)
class Quick:
    """Plans of the types of one validator, made when they are first needed."""

    validator: Validator
    plans: Plans = field(init=False)

    def __post_init__(self) -> None:
        self.plans = Plans(self.validator)

    def issues(
        self, resource: dict[str, Any], path: str, resolve: Callable[[str], Any] | None, now: Environment
    ) -> list[Issue] | None:
        """Return what there is to say of a resource with no error against its base type; None in doubt."""
        kind = resource.get("resourceType")
        if kind in _WALKED_IN_FULL or kind not in resource_types():
            return None
        run = Pass(resource, resource, resolve, now, self.plans)
        try:
            self.plans.resource(resource, (None, path, None, str(kind)), run)
        except (Doubt, RecursionError, AttributeError, TypeError, KeyError, IndexError):
            return None  # a shape that no plan expects: the full walk says what it is
        return run.issues

    def alone(self, resource: Any) -> list[Issue] | None:
        """Return all there is to say of a resource with no error; None where the full walk has to decide.

        So it is for a resource that claims a profile which is at hand.
        """
        if not isinstance(resource, dict) or resource.get("resourceType") in _ASKED_MORE:
            return None
        kind = str(resource.get("resourceType"))
        said = self.issues(resource, kind, None, self.validator.environment)
        if said is None:
            return None
        for url in resource.get("meta", {}).get("profile", ()):
            if self.validator.profile(url) is not None:
                return None
            if not any(issue.text == UNKNOWN_PROFILE for issue in said):
                said.append(Issue("not-found", UNKNOWN_PROFILE, f"{kind}.meta", "warning"))
        return said
