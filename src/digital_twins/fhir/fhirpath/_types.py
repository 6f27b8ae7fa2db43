"""Types of elements, and what specialises what (FHIRPath N1, section 10; FHIR R4, section 2.24)."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING

from digital_twins.fhir._definitions import definitions

if TYPE_CHECKING:
    from collections.abc import Mapping

_PARENTS = {
    **dict.fromkeys(("code", "id", "markdown"), "string"),
    **dict.fromkeys(("url", "canonical", "uuid", "oid"), "uri"),
    **dict.fromkeys(("positiveInt", "unsignedInt"), "integer"),
    **dict.fromkeys(("Age", "Duration", "Count", "Distance", "SimpleQuantity", "MoneyQuantity"), "Quantity"),
    **dict.fromkeys(("Bundle", "Binary", "Parameters", "DomainResource"), "Resource"),
    "BackboneElement": "Element",
}
PRIMITIVES = frozenset(
    {
        "base64Binary",
        "boolean",
        "canonical",
        "code",
        "date",
        "dateTime",
        "decimal",
        "id",
        "instant",
        "integer",
    }
    | {"markdown", "oid", "positiveInt", "string", "time", "unsignedInt", "uri", "url", "uuid", "xhtml"}
)
SYSTEM_TYPES = frozenset(
    {"Boolean", "String", "Integer", "Decimal", "Date", "DateTime", "Time", "Quantity", "Any"}
)
_BACKBONE = frozenset({"Timing", "Dosage", "ElementDefinition"})


@cache
def _tables() -> Mapping[str, Mapping[str, list[object]]]:
    return definitions().structures


@cache
def resource_types() -> frozenset[str]:
    """Names of all R4 resource types."""
    return definitions().types


@lru_cache(maxsize=4096)
def known_type(name: str) -> bool:
    """Whether R4 has a type of this name."""
    return name in PRIMITIVES or name in _tables() or name in _PARENTS or name in {"Resource", "Element"}


@lru_cache(maxsize=4096)
def ancestors(name: str) -> tuple[str, ...]:
    """Return the type itself and what it specialises, nearest first."""
    found = [name]
    while True:
        if name in _PARENTS:
            name = _PARENTS[name]
        elif name in resource_types():
            name = "DomainResource"
        elif name in {"Element", "Resource"} or not known_type(name):
            return tuple(found)
        elif "." in name or name in _BACKBONE:
            name = "BackboneElement"
        else:
            name = "Element"
        found.append(name)


@lru_cache(maxsize=8192)
def children_of(type_name: str) -> Mapping[str, tuple[tuple[str, str], ...]]:
    """Return, for each FHIRPath element name of a type, its JSON names and their types.

    A choice such as ``value[x]`` appears once, as ``value``.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for name, row in _tables().get(type_name, {}).items():
        label = str(row[3]) if len(row) > 3 else name
        found.setdefault(label, []).append((name, str(row[2])))
    return {name: tuple(rows) for name, rows in found.items()}
