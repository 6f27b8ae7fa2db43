"""The items of a collection: elements of a resource and plain System values."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from digital_twins.fhir.fhirpath._errors import FhirPathError
from digital_twins.fhir.fhirpath._quantity import Quantity
from digital_twins.fhir.fhirpath._temporal import Temporal
from digital_twins.fhir.fhirpath._types import PRIMITIVES, children_of, resource_types

_TEMPORAL = {"date": "date", "dateTime": "dateTime", "instant": "dateTime", "time": "time"}
_QUANTITIES = frozenset(
    {"Quantity", "Age", "Duration", "Count", "Distance", "SimpleQuantity", "MoneyQuantity"}
)
UCUM = "http://unitsofmeasure.org"


class Node:
    """An element of a resource.

    ``value`` is its JSON value (None for a primitive that has only extensions), ``type`` its FHIR type or the
    path of its backbone, ``extra`` the ``_name`` object of a primitive, ``parent`` the element around it.
    """

    __slots__ = ("extra", "parent", "type", "value")

    def __init__(self, value: Any, type_name: str, extra: Any = None, parent: Node | None = None) -> None:
        self.value = value
        self.type = type_name
        self.extra = extra
        self.parent = parent

    def child(self, name: str) -> list[Any]:
        """Return the elements of a name (FHIRPath N1, section 3.1), in order."""
        holder = self.extra if self.type in PRIMITIVES else self.value
        if not isinstance(holder, dict):
            return []
        found: list[Any] = []
        for json_name, type_name in self.names().get(name, ()):
            if json_name in holder or f"_{json_name}" in holder:
                self._collect(holder, json_name, type_name, found)
        return found

    def names(self) -> Any:
        """Return the element names that the type has."""
        return children_of("Element" if self.type in PRIMITIVES else self.type)

    def children(self) -> list[Any]:
        """Return every child element, in the order of the definition."""
        return [item for name in self.names() for item in self.child(name)]

    def _collect(self, holder: dict[str, Any], name: str, type_name: str, found: list[Any]) -> None:
        value, extra = holder.get(name), holder.get(f"_{name}")
        values = value if isinstance(value, list) else [value]
        extras = extra if isinstance(extra, list) else [extra]
        for i in range(max(len(values) if value is not None else 0, len(extras) if extra is not None else 0)):
            item = values[i] if i < len(values) else None
            more = extras[i] if i < len(extras) else None
            if item is not None or more is not None:
                found.append(node_of(item, type_name, more, self))


def node_of(value: Any, type_name: str, extra: Any = None, parent: Node | None = None) -> Node:
    """Return the node of a JSON value; a resource says its own type."""
    if (
        isinstance(value, dict)
        and "resourceType" in value
        and (type_name in {"Resource", "DomainResource"} or type_name in resource_types())
    ):
        type_name = str(value["resourceType"])
    return Node(value, type_name, extra, parent)


def system(item: Any) -> Any:
    """Return the System value behind an item, or the item itself where it has none."""
    if not isinstance(item, Node):
        return item
    value, name = item.value, item.type
    if name in PRIMITIVES:
        return _primitive(value, name) if value is not None else item
    if name in _QUANTITIES and isinstance(value, dict):
        return _quantity(value) or item
    return item


def _primitive(value: Any, name: str) -> Any:
    kind = _TEMPORAL.get(name)
    if kind is not None:
        return Temporal.maybe(kind, str(value)) or value  # type: ignore[arg-type]
    if name == "decimal" and isinstance(value, int | float) and not isinstance(value, bool):
        return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    return value


def _quantity(value: dict[str, Any]) -> Quantity | None:
    number = value.get("value")
    if not isinstance(number, int | float | Decimal) or isinstance(number, bool) or "comparator" in value:
        return None
    unit = value.get("code") if value.get("system", UCUM) == UCUM else None
    return Quantity(Decimal(str(number)), str(unit or value.get("unit") or "1"))


def items(values: list[Any]) -> list[Any]:
    """Return the System values of a collection."""
    return [system(item) for item in values]


def single(values: list[Any], what: str) -> Any:
    """Return the System value of the one item, or None for an empty collection.

    Raises
    ------
    FhirPathError
        When there are several (section 4.5, singleton evaluation).
    """
    if not values:
        return None
    if len(values) > 1:
        raise FhirPathError(
            f"{what} takes one item, and there are {len(values)}.", "Use first(), where() or single()."
        )
    return system(values[0])


def truth(values: list[Any]) -> bool | None:
    """Return the Boolean of a collection: one item that is no Boolean counts as true (section 4.5).

    Raises
    ------
    FhirPathError
        When there are several items.
    """
    value = single(values, "A condition")
    return value if value is None or isinstance(value, bool) else True


def string_of(values: list[Any], what: str) -> str | None:
    """Return the one string, or None for an empty collection.

    Raises
    ------
    FhirPathError
        When it is no string, or there are several.
    """
    value = single(values, what)
    if value is None or isinstance(value, str):
        return value
    raise FhirPathError(f"{what} takes a string.")


def integer_of(values: list[Any], what: str) -> int | None:
    """Return the one integer, or None for an empty collection.

    Raises
    ------
    FhirPathError
        When it is no integer, or there are several.
    """
    value = single(values, what)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise FhirPathError(f"{what} takes an integer.")


def is_number(value: Any) -> bool:
    """Whether a System value is an Integer or a Decimal."""
    return isinstance(value, int | Decimal) and not isinstance(value, bool)
