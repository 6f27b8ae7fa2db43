"""FHIR XML to JSON (FHIR R4, section 2.1.2), read with expat and without document types or entities."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from digital_twins._errors import InputError
from digital_twins.fhir._definitions import definitions
from digital_twins.fhir._json import ExactDecimal
from digital_twins.fhir.fhirpath._types import PRIMITIVES, resource_types

NAMESPACE = "http://hl7.org/fhir"
XHTML = "http://www.w3.org/1999/xhtml"
_LARGEST_BYTES = 50 * 1024 * 1024
_DEEPEST = 100
_DECIMAL = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_WHOLE = re.compile(r"-?\d{1,18}", re.ASCII)
_NUMBERS = {"integer": int, "positiveInt": int, "unsignedInt": int}


@dataclass(slots=True)
class _Element:
    name: str
    attributes: dict[str, str]
    children: list[_Element] = field(default_factory=list)
    raw: str | None = None


class _Builder:
    """Collects elements; a narrative is kept as the text that it was."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._stack: list[_Element] = []
        self._narrative: int | None = None
        self.root: _Element | None = None

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._stack) >= _DEEPEST:
            raise _refused(f"It is nested more than {_DEEPEST} levels deep.")
        space, _, local = name.rpartition(" ")
        element = _Element(local, attributes)
        if self._narrative is None and space == XHTML:
            self._narrative = len(self._stack)
            element.raw = ""
            self._from = self.parser.CurrentByteIndex
        elif self._narrative is None and space != NAMESPACE:
            raise _refused("An element is not in the FHIR namespace.")
        if self._stack and (self._narrative is None or self._narrative == len(self._stack)):
            self._stack[-1].children.append(element)
        elif not self._stack:
            self.root = element
        self._stack.append(element)

    def end(self, _name: str) -> None:
        element = self._stack.pop()
        if self._narrative == len(self._stack):
            stop = self._data.index(b">", self.parser.CurrentByteIndex) + 1
            element.raw = self._data[self._from : stop].decode("utf-8")
            self._narrative = None

    def build(self) -> _Element:
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.StartDoctypeDeclHandler = _doctype
        try:
            self.parser.Parse(self._data, True)  # noqa: FBT003 - expat's own signature
        except expat.ExpatError as error:
            raise _refused(f"It is not well formed (line {error.lineno}).") from error
        if self.root is None:
            raise _refused("It is empty.")
        return self.root


def _refused(why: str) -> InputError:
    return InputError("The FHIR XML cannot be read.", why, "Send UTF-8 FHIR R4 XML without a document type.")


def _doctype(*_: Any) -> None:
    raise _refused("It has a document type declaration.")


def resource_from_xml(data: bytes) -> dict[str, Any]:
    """Read a resource in FHIR XML as the JSON that says the same.

    Parameters
    ----------
    data
        UTF-8 XML of at most 50 MB.

    Raises
    ------
    InputError
        When it is too large, not well formed, has a document type, or has an element that R4 does not have.
    """
    if len(data) > _LARGEST_BYTES:
        raise _refused("It is larger than 50 MB.")
    root = _Builder(data).build()
    if root.name not in resource_types():
        raise _refused("Its root is no R4 resource.")
    return _resource(root)


def _resource(element: _Element) -> dict[str, Any]:
    return {"resourceType": element.name, **_complex(element, element.name)}


def _complex(element: _Element, type_name: str) -> dict[str, Any]:
    rows = definitions().structures.get(type_name, {})
    made: dict[str, Any] = {}
    for name in ("id", "url"):
        if name in element.attributes and name in rows:
            made[name] = element.attributes[name]
    groups: dict[str, list[_Element]] = {}
    for child in element.children:
        groups.setdefault(child.name, []).append(child)
    for name, children in groups.items():
        label = "text" if name == "div" else name
        if name == "div":
            made["div"] = children[0].raw
            continue
        if name not in rows:
            raise _refused(f"{type_name} has no element of one of the names used.")
        _add(made, label, children, rows[name])
    return made


def _add(made: dict[str, Any], name: str, children: list[_Element], row: list[Any]) -> None:
    kind, repeats = str(row[2]), row[1] == 0 or row[1] > 1
    pairs = [_value(child, kind) for child in children]
    values, extras = [p[0] for p in pairs], [p[1] for p in pairs]
    if any(value is not None for value in values):
        made[name] = values if repeats or len(values) > 1 else values[0]  # too many: a check tells them
    if any(extras):
        made[f"_{name}"] = extras if repeats else extras[0]


def _value(element: _Element, kind: str) -> tuple[Any, dict[str, Any] | None]:
    if kind in PRIMITIVES:
        if kind == "xhtml":
            return element.raw, None
        extra = _complex(_Element(element.name, element.attributes, element.children), "Element") or None
        text = element.attributes.get("value")
        return (None if text is None else _primitive(text, kind)), extra
    if kind in {"Resource", "DomainResource"}:
        if len(element.children) != 1 or element.children[0].name not in resource_types():
            raise _refused("A contained resource is not one R4 resource.")
        return _resource(element.children[0]), None
    return _complex(element, kind), None


def _decimal(text: str) -> Any:
    """Return a number that keeps its digits; the text where it is none."""
    if _DECIMAL.fullmatch(text) is None:
        return text
    if _WHOLE.fullmatch(text):
        return int(text)
    value = float(text)
    return value if repr(value) == text else ExactDecimal(text)


def _primitive(text: str, kind: str) -> Any:
    if kind == "boolean":
        return {"true": True, "false": False}.get(text, text)
    if kind == "decimal":
        return _decimal(text)
    if kind not in _NUMBERS:
        return text
    try:
        return _NUMBERS[kind](text)
    except ValueError:
        return text
