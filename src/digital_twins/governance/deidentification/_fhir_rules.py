"""The rules for FHIR resources, read from ``fhir_rules.json``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from digital_twins.fhir.fhirpath import Node, compile_expression

if TYPE_CHECKING:
    from collections.abc import Mapping

    from digital_twins.fhir.fhirpath import Expression


@dataclass(frozen=True)
class FhirRules:
    """Paths and types with what is done to them; see ``about`` in the file."""

    names: Expression
    values: Expression
    patient: Expression
    paths: tuple[tuple[Expression, str], ...]
    types: Mapping[str, str]
    extensions: frozenset[str]
    systems: tuple[str, ...]
    countries: frozenset[str]

    def marked(self, resource: dict[str, Any]) -> dict[tuple[int, str], str]:
        """Return actions by (``id`` of the JSON object around it, JSON name); the first path counts."""
        found: dict[tuple[int, str], str] = {}
        for expression, action in self.paths:
            for node in expression.nodes(resource):
                if not isinstance(node, Node) or node.parent is None:
                    continue
                holder = node.parent.value
                for name in _names(holder, node.value):
                    found.setdefault((id(holder), name), action)
        return found


def _names(holder: Any, value: Any) -> list[str]:
    if not isinstance(holder, dict):
        return []
    return [
        name
        for name, held in holder.items()
        if held is value or (isinstance(held, list) and any(each is value for each in held))
    ]


@cache
def fhir_rules() -> FhirRules:
    """Return the rules of the package."""
    data = json.loads(files(__package__).joinpath("fhir_rules.json").read_text(encoding="utf-8"))
    return FhirRules(
        names=compile_expression(data["known_names"]),
        values=compile_expression(data["known_values"]),
        patient=compile_expression(data["patient"]),
        paths=tuple((compile_expression(each["path"]), each["action"]) for each in data["paths"]),
        types=data["types"],
        extensions=frozenset(data["extensions"]),
        systems=tuple(data["systems"]),
        countries=frozenset(data["countries"]),
    )
