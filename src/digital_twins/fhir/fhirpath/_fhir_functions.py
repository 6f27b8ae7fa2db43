"""Functions that FHIR adds (FHIR R4, 2.9.1.5), types, and utilities (FHIRPath N1, section 9)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from digital_twins.fhir.fhirpath._errors import FhirPathError
from digital_twins.fhir.fhirpath._quantity import Quantity
from digital_twins.fhir.fhirpath._temporal import Temporal
from digital_twins.fhir.fhirpath._types import PRIMITIVES, SYSTEM_TYPES, ancestors, known_type
from digital_twins.fhir.fhirpath._values import Node, node_of, single, string_of, system

if TYPE_CHECKING:
    from digital_twins.fhir.fhirpath._scope import Collection, Scope

_HTML_BAD = re.compile(
    r"<\s*(script|iframe|object|embed|form|input|link|meta|base|style)\b|\bon\w+\s*=|javascript:", re.I
)
_HTML_TEXT = re.compile(r"<[^>]*>")


def system_name(value: Any) -> str:
    """Return the name of a System value's type."""
    if isinstance(value, bool):
        return "Boolean"
    if isinstance(value, int):
        return "Integer"
    if isinstance(value, str):
        return "String"
    if isinstance(value, Temporal):
        return {"date": "Date", "dateTime": "DateTime", "time": "Time"}[value.kind]
    return "Quantity" if isinstance(value, Quantity) else "Decimal"


def has_type(item: Any, name: str) -> bool:
    """Whether an item is of a type, named as ``Patient``, ``FHIR.string`` or ``System.String``.

    Raises
    ------
    FhirPathError
        When no type has that name.
    """
    space, _, bare = name.rpartition(".")
    if space not in {"", "FHIR", "System"} and not known_type(name):
        raise FhirPathError("A type name is not known.")
    bare = name if space not in {"", "FHIR", "System"} else bare
    if isinstance(item, Node):
        return space != "System" and bare in ancestors(item.type)
    return space != "FHIR" and bare in {system_name(item), "Any"}


def check_type(name: str) -> str:
    """Return the name of a type.

    Raises
    ------
    FhirPathError
        When neither FHIR R4 nor System has it.
    """
    space, _, bare = name.rpartition(".")
    if (space == "System" or bare in SYSTEM_TYPES or known_type(bare) or known_type(name)) and bare:
        return name
    raise FhirPathError("A type name is not known.", "Use a type of FHIR R4 or of System.")


def is_type(focus: Collection, name: str) -> Collection:
    """``is(type)``."""
    if len(focus) > 1:
        raise FhirPathError("'is' takes one item.")
    return [has_type(focus[0], name)] if focus else []


def as_type(focus: Collection, name: str) -> Collection:
    """``as(type)``: the item where it is exactly of the type, for a primitive."""
    if len(focus) > 1:
        raise FhirPathError("'as' takes one item.", "Use ofType() for several.")
    return of_type(focus, name)


def of_type(focus: Collection, name: str) -> Collection:
    """``ofType(type)``: primitives by their own type, others by what they specialise as well."""
    bare = name.rpartition(".")[2]
    found = []
    for item in focus:
        if isinstance(item, Node) and item.type in PRIMITIVES:
            if item.type == bare and not name.startswith("System."):
                found.append(item)
        elif has_type(item, name):
            found.append(item)
    return found


def type_of(focus: Collection, _arguments: list[Collection], _scope: Scope) -> Collection:
    """``type()``: namespace and name of each item's type."""
    found = []
    for item in focus:
        space, name = ("FHIR", item.type) if isinstance(item, Node) else ("System", system_name(item))
        found.append(Node({"namespace": space, "name": name}, "TypeInfo"))
    return found


def extension(focus: Collection, arguments: list[Collection], _scope: Scope) -> Collection:
    """``extension(url)``."""
    url = string_of(arguments[0], "extension()")
    found = []
    for item in focus:
        if isinstance(item, Node):
            found += [child for child in item.child("extension") if child.value.get("url") == url]
    return found


def has_value(focus: Collection, _arguments: list[Collection], _scope: Scope) -> Collection:
    """``hasValue()``."""
    item = focus[0] if len(focus) == 1 else None
    return [
        item is not None
        and (not isinstance(item, Node) or (item.type in PRIMITIVES and item.value is not None))
    ]


def get_value(focus: Collection, arguments: list[Collection], scope: Scope) -> Collection:
    """``getValue()``."""
    return [system(focus[0])] if has_value(focus, arguments, scope) == [True] else []


def resolve(focus: Collection, _arguments: list[Collection], scope: Scope) -> Collection:
    """``resolve()``: contained resources, entries of the same bundle, then what the caller resolves."""
    found = []
    for item in focus:
        text = _reference(item)
        if not text:
            continue
        resource = _near(item, text) or (
            scope.environment.resolve(text) if scope.environment.resolve else None
        )
        if resource is not None:
            found.append(node_of(resource, "Resource"))
    return found


def _reference(item: Any) -> str | None:
    if isinstance(item, str):
        return item
    if isinstance(item, Node):
        text = item.value.get("reference") if isinstance(item.value, dict) else item.value
        return text if isinstance(text, str) else None
    return None


def _near(item: Any, text: str) -> dict[str, Any] | None:
    """Look for ``#id`` in the containing resource and for a full URL in an enclosing bundle."""
    node = item.parent if isinstance(item, Node) else None
    while node is not None:
        value = node.value
        if isinstance(value, dict) and "resourceType" in value:
            if text.startswith("#"):
                inside = (
                    r for r in value.get("contained", ()) if isinstance(r, dict) and r.get("id") == text[1:]
                )
                found = next(inside, value if text == "#" else None)
                if found is not None:
                    return found
            elif value["resourceType"] == "Bundle":
                return next((e.get("resource") for e in value.get("entry", ()) if _answers(e, text)), None)
        node = node.parent
    return None


def _answers(entry: Any, text: str) -> bool:
    url = entry.get("fullUrl") if isinstance(entry, dict) else None
    return isinstance(url, str) and (url == text or url.endswith(f"/{text}"))


def reference_key(focus: Collection, arguments: list[Collection], _scope: Scope) -> Collection:
    """``getReferenceKey([type])`` of SQL on FHIR v2: ``Type/id`` of a relative or absolute reference."""
    wanted = string_of(arguments[0], "getReferenceKey()") if arguments else None
    found = []
    for item in focus:
        parts = (_reference(item) or "").split("/_history/")[0].split("/")
        if len(parts) >= 2 and wanted in {None, parts[-2]}:
            found.append("/".join(parts[-2:]))
    return found


def resource_key(focus: Collection, _arguments: list[Collection], _scope: Scope) -> Collection:
    """``getResourceKey()`` of SQL on FHIR v2: ``Type/id``."""
    return [
        f"{item.type}/{item.value['id']}" for item in focus if isinstance(item, Node) and "id" in item.value
    ]


def member_of(focus: Collection, arguments: list[Collection], scope: Scope) -> Collection:
    """``memberOf(valueset)``: empty where the value set is not known."""
    value_set = string_of(arguments[0], "memberOf()")
    if len(focus) != 1 or value_set is None or scope.environment.member_of is None:
        return []
    item = focus[0]
    found = scope.environment.member_of(item.value if isinstance(item, Node) else item, value_set)
    return [] if found is None else [found]


def conforms_to(focus: Collection, arguments: list[Collection], scope: Scope) -> Collection:
    """``conformsTo(profile)``: a base profile by the type, others by the caller.

    Raises
    ------
    FhirPathError
        When the profile is not known.
    """
    profile = string_of(arguments[0], "conformsTo()")
    item = focus[0] if len(focus) == 1 else None
    if profile is None or not isinstance(item, Node):
        return []
    prefix, _, name = profile.rpartition("/")
    if prefix == "http://hl7.org/fhir/StructureDefinition" and known_type(name):
        return [name in ancestors(item.type)]
    found = scope.environment.conforms_to(item.value, profile) if scope.environment.conforms_to else None
    if found is None:
        raise FhirPathError("The profile of conformsTo() is not known.", "Load the package that defines it.")
    return [found]


def html_checks(focus: Collection, _arguments: list[Collection], _scope: Scope) -> Collection:
    """``htmlChecks()``: no active content, and some text or an image in the narrative."""
    text = single(focus, "htmlChecks()")
    if not isinstance(text, str):
        return []
    return [narrative_ok(text)]


def narrative_ok(text: str) -> bool:
    """Whether a narrative has no active content, and some text or an image."""
    shown = _HTML_TEXT.sub("", text).strip() or "<img" in text
    return bool(shown) and _HTML_BAD.search(text) is None
