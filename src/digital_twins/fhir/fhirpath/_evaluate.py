"""Expressions, compiled once and kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from digital_twins.fhir.fhirpath._compile import compiled
from digital_twins.fhir.fhirpath._errors import FhirPathError
from digital_twins.fhir.fhirpath._parse import parse
from digital_twins.fhir.fhirpath._scope import Environment, Scope
from digital_twins.fhir.fhirpath._values import Node, items, node_of, truth

if TYPE_CHECKING:
    from digital_twins.fhir.fhirpath._scope import Run


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled FHIRPath expression (HL7 FHIRPath N1, http://hl7.org/fhirpath/N1).

    Made by :func:`compile_expression`.
    """

    text: str
    _run: Run

    def nodes(self, focus: Any, *, root: Any = None, environment: Environment | None = None) -> list[Any]:
        """Evaluate and return the items: nodes of the resource, and System values.

        Parameters
        ----------
        focus
            A resource as JSON (a dictionary with ``resourceType``), a node, or a collection of them.
        root
            The resource that ``%resource`` and ``%rootResource`` name; the focus by default.
        environment
            Variables, look-ups and the strictness.

        Raises
        ------
        FhirPathError
            When the expression cannot be evaluated on it.
        """
        start = [_node(item) for item in focus] if isinstance(focus, list) else [_node(focus)]
        around = start if root is None else [_node(root)]
        environment = environment or Environment()
        fixed = {"context": start, "resource": around, "rootResource": around}
        environment = replace(environment, variables={**fixed, **environment.variables})
        try:
            return self._run(start, Scope(environment, start))
        except RecursionError as error:
            raise FhirPathError("It is nested too deeply.") from error

    def evaluate(self, focus: Any, *, root: Any = None, environment: Environment | None = None) -> list[Any]:
        """Evaluate and return plain values: JSON of elements, and System values.

        See :meth:`nodes`.
        """
        values = items(self.nodes(focus, root=root, environment=environment))
        return [value.value if isinstance(value, Node) else value for value in values]

    def holds(self, focus: Any, *, root: Any = None, environment: Environment | None = None) -> bool:
        """Whether an invariant holds: it fails on false, and an empty answer (nothing to judge) passes.

        See :meth:`nodes`; FHIR R4, ElementDefinition.constraint.
        """
        return truth(self.nodes(focus, root=root, environment=environment)) is not False


def _node(value: Any) -> Any:
    if not isinstance(value, dict):
        return value  # a node, or a System value of a collection
    kind = value.get("resourceType")
    if not isinstance(kind, str):
        raise FhirPathError("The focus is no resource.", "Pass a dictionary with a resourceType.")
    return node_of(value, kind)


@lru_cache(maxsize=4096)
def compile_expression(text: str) -> Expression:
    """Compile an expression; the last 4,096 are kept.

    Raises
    ------
    FhirPathError
        When it is not FHIRPath, names an unknown function or type, or is longer than 20,000 characters.
    """
    return Expression(text, compiled(parse(text)))


def evaluate(text: str, resource: Any, *, environment: Environment | None = None) -> list[Any]:
    """Evaluate an expression on a resource and return plain values.

    Raises
    ------
    FhirPathError
        When it cannot be compiled or evaluated.

    Examples
    --------
    >>> evaluate("name.given.first()", {"resourceType": "Patient", "name": [{"given": ["Ada"]}]})
    ['Ada']
    """
    return compile_expression(text).evaluate(resource, environment=environment)
