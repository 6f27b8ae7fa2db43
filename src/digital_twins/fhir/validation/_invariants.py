"""Invariants as checks: in their quick form where one is known, else by FHIRPath."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins.fhir.fhirpath import Environment, FhirPathError
from digital_twins.fhir.fhirpath._values import Node
from digital_twins.fhir.validation._doubt import Doubt
from digital_twins.fhir.validation._presence import BY_HAND, certain_test, presence_test, silent_without

if TYPE_CHECKING:
    from digital_twins.fhir.validation._doubt import At, Check, Pass
    from digital_twins.fhir.validation._rules import Constraint

_ELSEWHERE = ("resolve(", "conformsTo(", "%context")


def invariant_check(constraint: Constraint, kind: str) -> Check:
    """Return the check of an invariant on elements of a type; it never passes what FHIRPath would refuse."""
    severity = "error" if constraint.severity == "error" else "warning"
    said = ("invariant", f"The rule {constraint.key} does not hold.")
    exact = presence_test(constraint.expression.text, kind)
    if exact is not None:
        known = exact

        def check(value: Any, at: At, run: Pass) -> None:
            if not known(value):
                run.say(*said, at, severity)

        return check
    certain = BY_HAND.get(constraint.expression.text) or certain_test(constraint.expression.text, kind)
    names = silent_without(constraint.expression, kind)
    elsewhere = any(word in constraint.expression.text for word in _ELSEWHERE)

    def evaluate(value: Any, at: At, run: Pass) -> None:
        if names is not None and type(value) is dict and names.isdisjoint(value):
            return
        if certain is not None and certain(value, run):
            return
        if elsewhere:
            raise Doubt
        if not _holds(constraint, Node(value, kind), run):
            run.say(*said, at, severity)

    return evaluate


def _holds(constraint: Constraint, node: Node, run: Pass) -> bool:
    around = Node(run.resource, run.resource["resourceType"])
    root = around if run.root is run.resource else Node(run.root, run.root["resourceType"])
    environment = Environment(
        variables={"resource": [around], "rootResource": [root]}, member_of=run.now.member_of, now=run.now.now
    )
    try:
        return constraint.expression.holds(node, root=around, environment=environment)
    except FhirPathError:
        return True
