"""Structural validation against the compiled R4 structures: names, cardinality, types and formats.

Bindings, invariants, slicing and profiles are the task of the full validator; this one stands on the request
path and answers whether a resource has the shape that R4 gives it.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError
from digital_twins.fhir._dates import date_range
from digital_twins.fhir._definitions import definitions
from digital_twins.fhir._outcome import FhirError, Issue

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ISSUES = 50
ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_FORMATS = {
    "code": re.compile(r"[^\s]+(\s[^\s]+)*"),
    "id": ID,
    "oid": re.compile(r"urn:oid:[0-2](\.(0|[1-9]\d*))+"),
    "uuid": re.compile(r"urn:uuid:[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
    "time": re.compile(r"([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?"),
    "base64Binary": re.compile(r"(\s*[0-9a-zA-Z+/=]){4,}\s*"),
    "uri": re.compile(r"\S*"),
    "xhtml": re.compile(r"\s*<div[\s>].*", re.DOTALL),
}
_FORMATS |= {"url": _FORMATS["uri"], "canonical": _FORMATS["uri"]}
_DATE_LENGTHS = {"date": {4, 7, 10}, "dateTime": {4, 7, 10}}
_ZONED = re.compile(r".*T\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
INTEGER_LOW = {"integer": -(2**31), "unsignedInt": 0, "positiveInt": 1}
_STRINGS = {"string", "markdown", *_FORMATS}


def _date_ok(kind: str, value: str) -> bool:
    try:
        date_range(value)
    except InputError:
        return False
    if len(value) in _DATE_LENGTHS.get(kind, set()):
        return True
    return kind != "date" and _ZONED.fullmatch(value) is not None


def primitive_ok(kind: str, value: Any) -> bool:
    """Whether a JSON value is a valid literal of a primitive R4 type (data types, section 2.24.0.1)."""
    if kind == "boolean":
        return isinstance(value, bool)
    if kind in INTEGER_LOW:
        return isinstance(value, int) and not isinstance(value, bool) and INTEGER_LOW[kind] <= value < 2**31
    if kind == "decimal":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if not isinstance(value, str) or not value or value.isspace():
        return False
    if kind in {"date", "dateTime", "instant"}:
        return _date_ok(kind, value)
    pattern = _FORMATS.get(kind)
    return pattern is None or pattern.fullmatch(value) is not None


class _Shape:
    """The elements of one type, and what of them must be there."""

    __slots__ = ("choices", "elements", "required")

    def __init__(self, rows: Mapping[str, list[Any]]) -> None:
        self.elements = {name: (row[1], row[2]) for name, row in rows.items()}
        self.required = [n for n, r in rows.items() if r[0] and len(r) == 3]
        groups: dict[str, list[str]] = {}
        needed = set()
        for name, row in rows.items():
            if len(row) > 3:
                groups.setdefault(row[3], []).append(name)
                if row[0]:
                    needed.add(row[3])
        self.choices = [(stem, set(names), stem in needed) for stem, names in groups.items()]


@cache
def _shape(kind: str) -> _Shape | None:
    rows = definitions().structures.get(kind)
    return _Shape(rows) if rows else None


class _Walk:
    """One validation: collects issues, and stops at the limit."""

    def __init__(self) -> None:
        self.issues: list[Issue] = []

    def add(self, code: str, text: str, where: str) -> None:
        if len(self.issues) < MAX_ISSUES:
            self.issues.append(Issue(code, text, where))

    def resource(self, node: Any, where: str) -> None:
        kind = node.get("resourceType") if isinstance(node, dict) else None
        if not isinstance(kind, str) or kind not in definitions().types:
            self.add("structure", "This is not a resource with a known resourceType.", where)
            return
        self.object(node, kind, where)

    def object(self, node: Any, kind: str, where: str) -> None:
        shape = _shape(kind)
        if shape is None or not isinstance(node, dict):
            self.add("structure", f"A JSON object of type {kind} is needed here.", where)
            return
        if not node:
            self.add("structure", "An object must not be empty.", where)
        for name, value in node.items():
            known = shape.elements.get(name)
            if known is not None:
                self.element(value, known[1], known[0], where, name)
            elif name[:1] == "_" and name[1:] in shape.elements:
                self.companion(value, f"{where}.{name[1:]}")
            elif name != "resourceType" or kind not in definitions().types:
                self.add("structure", "Unknown element.", f"{where}.{_safe(name)}")
        self.presence(node, shape, where)

    def presence(self, node: Mapping[str, Any], shape: _Shape, where: str) -> None:
        for name in shape.required:
            if name not in node and f"_{name}" not in node:
                self.add("required", f"The element '{name}' is required.", f"{where}.{name}")
        for stem, names, needed in shape.choices:
            count = len(names.intersection(node))
            if count > 1:
                self.add("structure", f"Only one form of '{stem}[x]' may be given.", f"{where}.{stem}")
            elif needed and not count and not any(f"_{n}" in node for n in names):
                self.add("required", f"The element '{stem}[x]' is required.", f"{where}.{stem}")

    def element(self, value: Any, kind: str, top: int, where: str, name: str) -> None:
        where = f"{where}.{name}"
        if top == 1:
            self.value(value, kind, where)
        elif not isinstance(value, list):
            self.add("structure", "A JSON array is needed here.", where)
        elif not value:
            self.add("structure", "An array must not be empty.", where)
        else:
            if top and len(value) > top:
                self.add("structure", f"At most {top} values are allowed.", where)
            for number, item in enumerate(value):
                if item is not None:
                    self.value(item, kind, f"{where}[{number}]")

    def value(self, value: Any, kind: str, where: str) -> None:
        if kind[0].islower() and "." not in kind:
            if not primitive_ok(kind, value):
                self.add("value", f"This is not a valid {kind}.", where)
        elif kind == "Resource":
            self.resource(value, where)
        else:
            self.object(value, kind, where)

    def companion(self, value: Any, where: str) -> None:
        for item in value if isinstance(value, list) else [value]:
            if item is None:
                continue
            if not isinstance(item, dict) or not item.keys() <= {"id", "extension"}:
                self.add("structure", "Only id and extension may stand beside a primitive.", where)
            elif "extension" in item:
                self.element(item["extension"], "Extension", 0, where, "extension")


def _safe(name: str) -> str:
    """An element name is the caller's text: only what looks like a name is repeated."""
    return name if re.fullmatch(r"[A-Za-z_]\w{0,40}", name) else "?"


def structural_issues(resource: Any) -> list[Issue]:
    """Return what breaks the R4 structure of a resource (at most 50 issues); empty when nothing does."""
    walk = _Walk()
    kind = resource.get("resourceType") if isinstance(resource, dict) else None
    walk.resource(resource, kind if isinstance(kind, str) and kind in definitions().types else "Resource")
    return walk.issues


def check(resource: Any, *, kind: str | None = None) -> None:
    """Refuse a resource that breaks the R4 structure.

    Raises
    ------
    FhirError
        400 when it is no resource or not of type ``kind``; 422 with every location otherwise.
    """
    found = resource.get("resourceType") if isinstance(resource, dict) else None
    if not isinstance(found, str) or found not in definitions().types:
        raise FhirError(400, [Issue("structure", "The body is not a resource with a known resourceType.")])
    if kind is not None and found != kind:
        raise FhirError(400, [Issue("invalid", f"The body is a {found}, the address is for {kind}.")])
    issues = structural_issues(resource)
    if issues:
        raise FhirError(422, issues, fix="Correct the elements named, then send it again.")
