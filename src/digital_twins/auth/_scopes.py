"""SMART App Launch scopes of version 1 and 2: read, compared and narrowed.

HL7 SMART App Launch 2.2.0, section "Scopes for requesting FHIR Resources":
``patient/Observation.rs?category=...``, ``user/*.cruds``, ``system/*.read``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote

if TYPE_CHECKING:
    from collections.abc import Iterable

ACTIONS = "cruds"
"""Create, read, update (and patch), delete, search: in this order they stand in a scope."""

_FHIR = re.compile(r"(patient|user|system)/(\*|[A-Z][A-Za-z]{1,40})\.([a-z*]+)(?:\?(.+))?")
_V1 = {"read": "rs", "write": "cud", "*": "cruds"}
_PARAMETER = re.compile(r"[a-z][a-z-]{0,40}(?::[a-z-]{1,20})?")


@dataclass(frozen=True, slots=True)
class FhirScope:
    """One right on FHIR resources.

    Attributes
    ----------
    level
        ``"patient"`` (the patient in context alone), ``"user"`` or ``"system"``.
    kind
        Resource type, or ``"*"``.
    actions
        Letters of ``cruds``, in that order.
    condition
        Search parameter and value that resources must meet (granular scopes), e.g.
        ``("category", "http://terminology.hl7.org/CodeSystem/observation-category|laboratory")``; none: all.
    """

    level: str
    kind: str
    actions: str
    condition: tuple[str, str] | None = None

    def __str__(self) -> str:
        text = f"{self.level}/{self.kind}.{self.actions}"
        if self.condition is None:
            return text
        name, value = self.condition
        return f"{text}?{name}={quote(value, safe=':/|,-._~')}"

    def covers(self, kind: str, action: str) -> bool:
        """Whether it speaks of that resource type and action."""
        return action in self.actions and self.kind in {kind, "*"}


def parse_fhir_scope(text: str) -> FhirScope | None:
    """Return the scope that a text of version 1 or 2 means, None when it is none that this server knows.

    A granular scope has one search parameter; scopes with more are not offered.
    """
    match = _FHIR.fullmatch(text)
    if match is None:
        return None
    level, kind, letters, query = match.groups()
    actions = _V1.get(letters, letters)
    if not actions or "".join(each for each in ACTIONS if each in actions) != actions:
        return None
    if query is None:
        return FhirScope(level, kind, actions)
    pairs = parse_qsl(query, keep_blank_values=True)
    if len(pairs) != 1 or kind == "*" or not _PARAMETER.fullmatch(pairs[0][0]) or not pairs[0][1]:
        return None
    return FhirScope(level, kind, actions, pairs[0])


def narrowed(asked: FhirScope, allowed: Iterable[FhirScope]) -> list[FhirScope]:
    """Return what of an asked scope is allowed: types, actions and conditions that both have.

    An allowed scope of level ``"*"`` stands for every level. A condition on one side holds for both; two
    different conditions have nothing in common that one scope could say, so nothing is given.
    """
    found = []
    for each in allowed:
        if each.level not in {"*", asked.level}:
            continue
        if "*" not in {asked.kind, each.kind} and asked.kind != each.kind:
            continue
        actions = "".join(letter for letter in asked.actions if letter in each.actions)
        conditions = {c for c in (asked.condition, each.condition) if c is not None}
        if not actions or len(conditions) > 1:
            continue
        kind = each.kind if asked.kind == "*" else asked.kind
        found.append(FhirScope(asked.level, kind, actions, next(iter(conditions), None)))
    return list(dict.fromkeys(found))
