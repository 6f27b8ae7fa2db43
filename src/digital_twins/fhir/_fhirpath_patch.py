"""FHIRPath Patch: changes of a resource as a Parameters resource (FHIR R4, section 3.1.0.9)."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digital_twins.fhir._definitions import definitions
from digital_twins.fhir._outcome import FhirError, Issue, bad_request
from digital_twins.fhir.fhirpath import FhirPathError, Node, compile_expression

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_OPERATIONS = 1000
_TYPES = frozenset({"add", "insert", "delete", "replace", "move"})
_LAST_INDEX = re.compile(r"(.+)\.(\w+)\[(\d{1,6})\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Operation:
    number: int
    type: str
    path: str
    name: str
    value: Any
    kind: str
    places: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where an element stands: in ``holder[name]``, at ``index`` when that is a list."""

    holder: dict[str, Any]
    name: str
    index: int | None


def _refused(text: str, number: int) -> FhirError:
    issue = Issue("processing", f"Operation {number} of the patch: {text}")
    return FhirError(422, [issue], fix="Read the resource again and correct the patch.")


def _part_value(part: Mapping[str, Any]) -> Any:
    """Return the value of a part; an anonymous type is given as parts of its own."""
    if isinstance(part.get("part"), list):
        built: dict[str, Any] = {}
        for inner in part["part"]:
            if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
                raise bad_request("A part of the patch has no name.", code="structure")
            built[inner["name"]] = _part_value(inner)
        return built
    return next((v for k, v in part.items() if k.startswith("value") or k == "resource"), None)


def _operation(number: int, parameter: Any) -> _Operation:
    if not isinstance(parameter, dict) or parameter.get("name") != "operation":
        raise bad_request("Every parameter of a FHIRPath Patch is named 'operation'.", code="structure")
    parts = {p.get("name"): p for p in parameter.get("part", ()) if isinstance(p, dict)}
    said = {name: _part_value(part) for name, part in parts.items()}
    type_, path = said.get("type"), said.get("path")
    if type_ not in _TYPES or not isinstance(path, str):
        raise bad_request(f"Operation {number} of the patch has no known type, or no path.", code="structure")
    places = {}
    for place in ("index", "source", "destination"):
        value = said.get(place)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise bad_request(f"The {place} of operation {number} is no place in a list.", code="value")
        if value is not None:
            places[place] = value
    name = said.get("name")
    if type_ == "add" and not isinstance(name, str):
        raise bad_request(
            f"Operation {number} of the patch adds an element without a name.", code="structure"
        )
    if type_ in {"add", "insert", "replace"} and said.get("value") is None:
        raise bad_request(f"Operation {number} of the patch has no value.", code="structure")
    kind = next((k.removeprefix("value") for k in parts.get("value", ()) if k.startswith("value")), "")
    return _Operation(number, type_, path, str(name), said.get("value"), kind, places)


class _Patch:
    def __init__(self, resource: dict[str, Any]) -> None:
        self.resource = resource

    def find(self, path: str, number: int) -> list[Node]:
        try:
            found = compile_expression(path).nodes(self.resource)
        except FhirPathError:
            raise bad_request(f"The path of operation {number} cannot be evaluated.", code="value") from None
        if not all(isinstance(item, Node) for item in found):
            raise _refused("its path does not lead to an element.", number)
        return found

    def one(self, path: str, number: int) -> Node:
        found = self.find(path, number)
        if len(found) != 1:
            raise _refused(f"its path leads to {len(found)} elements, one is needed.", number)
        return found[0]

    def spot(self, path: str, node: Node, number: int) -> _Spot:
        """Return where a node stands in the JSON."""
        holder = node.parent.value if node.parent is not None else None
        if not isinstance(holder, dict):
            raise _refused("its path leads to the whole resource.", number)
        for name, value in holder.items():
            if isinstance(node.value, dict):
                if value is node.value:
                    return _Spot(holder, name, None)
                index = next((i for i, item in enumerate(_list(value)) if item is node.value), None)
                if index is not None:
                    return _Spot(holder, name, index)
            elif value is node.value and _ends_with(path, name):
                return _Spot(holder, name, None)
        if match := _LAST_INDEX.fullmatch(path):
            return _Spot(holder, match[2], int(match[3]))
        only = next((n for n, v in holder.items() if v == [node.value] and _ends_with(path, n)), None)
        if only is None:
            raise _refused("its path does not lead to one place.", number)
        return _Spot(holder, only, 0)

    def listed(self, path: str, number: int) -> list[Any]:
        """Return the list that a path names, for insert and move."""
        head, _, name = path.rpartition(".")
        holder = self.one(head, number).value if head else None
        found = holder.get(name) if isinstance(holder, dict) else None
        if not isinstance(holder, dict) or not isinstance(found, list):
            raise _refused("its path does not lead to a list.", number)
        if f"_{name}" in holder:
            raise _refused("the list has extensions beside its values; replace the list instead.", number)
        return found

    def run(self, operation: _Operation) -> None:
        getattr(self, operation.type)(operation)

    def add(self, operation: _Operation) -> None:
        node = self.one(operation.path, operation.number)
        if not isinstance(node.value, dict):
            raise _refused("its path leads to a primitive, which has no elements.", operation.number)
        name, repeats = _element(node.type, operation)
        if repeats:
            node.value.setdefault(name, []).append(operation.value)
        elif name in node.value:
            raise _refused("the element is there already and does not repeat.", operation.number)
        else:
            node.value[name] = operation.value

    def insert(self, operation: _Operation) -> None:
        found = self.listed(operation.path, operation.number)
        place = operation.places.get("index")
        if place is None or place > len(found):
            raise _refused("it has no index within the list.", operation.number)
        found.insert(place, operation.value)

    def delete(self, operation: _Operation) -> None:
        found = self.find(operation.path, operation.number)
        if not found:
            return
        spot = self.spot(operation.path, self.one(operation.path, operation.number), operation.number)
        if spot.index is None:
            del spot.holder[spot.name]
            spot.holder.pop(f"_{spot.name}", None)
            return
        del spot.holder[spot.name][spot.index]
        extras = spot.holder.get(f"_{spot.name}")
        if isinstance(extras, list) and spot.index < len(extras):
            del extras[spot.index]
        if not spot.holder[spot.name]:
            del spot.holder[spot.name]
            spot.holder.pop(f"_{spot.name}", None)

    def replace(self, operation: _Operation) -> None:
        node = self.one(operation.path, operation.number)
        spot = self.spot(operation.path, node, operation.number)
        if spot.index is None:
            row = definitions().structures.get(node.parent.type, {}).get(spot.name, ()) if node.parent else ()
            del spot.holder[spot.name]
            spot.holder[f"{row[3]}{operation.kind}" if len(row) > 3 else spot.name] = operation.value
        else:
            spot.holder[spot.name][spot.index] = operation.value

    def move(self, operation: _Operation) -> None:
        found = self.listed(operation.path, operation.number)
        source, destination = operation.places.get("source"), operation.places.get("destination")
        if source is None or destination is None or max(source, destination) >= len(found):
            raise _refused("its source or destination is not within the list.", operation.number)
        found.insert(destination, found.pop(source))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _ends_with(path: str, name: str) -> bool:
    """Whether a path ends in this element; ``value`` stands for ``valueString`` too (choice)."""
    last = path.rpartition(".")[2].partition("[")[0]
    return name == last or (name.startswith(last) and name[len(last) : len(last) + 1].isupper())


def _element(type_name: str, operation: _Operation) -> tuple[str, bool]:
    """Return the JSON name of an element to add and whether it repeats; a choice takes the value's type."""
    rows = definitions().structures.get(type_name, {})
    name = operation.name if operation.name in rows else f"{operation.name}{operation.kind}"
    if name not in rows:
        raise _refused("the element that it adds is not known there.", operation.number)
    return name, rows[name][1] != 1


def fhirpath_patch(resource: Mapping[str, Any], patch: Any) -> dict[str, Any]:
    """Return a copy of a resource with a FHIRPath Patch applied: all of it or nothing.

    Parameters
    ----------
    resource
        The resource, which stays as it is.
    patch
        The Parameters resource, with at most 1,000 operations.

    Raises
    ------
    FhirError
        400 for what is no patch; 422 where an operation cannot be done.
    """
    if not isinstance(patch, dict) or patch.get("resourceType") != "Parameters":
        raise bad_request("A FHIRPath Patch is a Parameters resource.", code="structure")
    parameters = patch.get("parameter", [])
    if not isinstance(parameters, list) or len(parameters) > MAX_OPERATIONS:
        raise bad_request(f"A patch has at most {MAX_OPERATIONS} operations.", code="too-costly")
    operations = [_operation(number, parameter) for number, parameter in enumerate(parameters)]
    work = _Patch(copy.deepcopy(dict(resource)))
    for operation in operations:
        work.run(operation)
    return {name: value for name, value in work.resource.items() if _pruned(value)}


def _pruned(node: Any) -> bool:
    """Take out objects and lists that a deletion has emptied; whether anything is left."""
    if isinstance(node, dict):
        for name in [name for name, value in node.items() if not _pruned(value)]:
            del node[name]
        return bool(node)
    if isinstance(node, list):
        node[:] = [item for item in node if _pruned(item)]
        return bool(node)
    return True
