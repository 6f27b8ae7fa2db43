"""Invariants as checks: in their quick form where one is known, else by FHIRPath."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins.fhir.fhirpath import Environment, FhirPathError
from digital_twins.fhir.fhirpath._types import PRIMITIVES
from digital_twins.fhir.fhirpath._values import Node
from digital_twins.fhir.validation._doubt import Check, Doubt
from digital_twins.fhir.validation._presence import (
    BY_HAND,
    Test,
    certain_test,
    presence_test,
    silent_without,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from digital_twins.fhir.validation._doubt import At, Pass
    from digital_twins.fhir.validation._rules import Constraint

Guarded = tuple[Test, Check]
"""A test of a JSON object that shows that a rule holds, and the check for objects that fail it."""

_ELSEWHERE = ("resolve(", "conformsTo(", "%context")


def is_local(constraints: Iterable[Constraint]) -> bool:
    """Whether all of the invariants look at nothing but the value and what is in it."""
    return not any(word in each.expression.text for each in constraints for word in ("%", *_ELSEWHERE))


def invariant_check(constraint: Constraint, kind: str) -> Check | Guarded:
    """Return the check of an invariant on elements of a type; it never passes what FHIRPath would refuse.

    Where a test of the JSON object alone shows that it holds, test and check are a pair: the check is for
    objects that fail the test.
    """
    severity = "error" if constraint.severity == "error" else "warning"
    said = ("invariant", f"The rule {constraint.key} does not hold.")
    text = constraint.expression.text
    exact = presence_test(text, kind)
    if exact is not None:
        return exact, lambda _value, at, run: run.say(*said, at, severity)
    certain = BY_HAND.get(text) or certain_test(text, kind)
    elsewhere = any(word in text for word in _ELSEWHERE)

    def evaluate(value: Any, at: At, run: Pass) -> None:
        if certain is not None and certain(value, run):
            return
        if elsewhere:
            raise Doubt
        if not _holds(constraint, Node(value, kind), run):
            run.say(*said, at, severity)

    names = None if kind in PRIMITIVES else silent_without(constraint.expression, kind)
    return evaluate if names is None else (names.isdisjoint, evaluate)


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
