"""What validation needs of a StructureDefinition, a CodeSystem and a ValueSet, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ELEMENT = ("id", "path", "sliceName", "min", "max", "contentReference", "slicing", "maxLength")
_STRUCTURE = ("url", "version", "name", "kind", "type", "abstract", "derivation", "baseDefinition", "context")
_VALUES = ("fixed", "pattern", "minValue", "maxValue")


def reduced_structure(resource: Mapping[str, Any]) -> dict[str, Any]:
    """Reduce a StructureDefinition with a snapshot.

    Raises
    ------
    InputError
        When it has none.
    """
    elements = resource.get("snapshot", {}).get("element")
    if not elements:
        raise InputError(
            "A StructureDefinition cannot be used.",
            "It has no snapshot, only differences to its base.",
            "Use a package whose profiles carry snapshots.",
        )
    return {**_head(resource), "elements": [_element(element) for element in elements]}


def reduced_differences(resource: Mapping[str, Any]) -> dict[str, Any]:
    """Reduce a StructureDefinition that has only a differential; its elements are ``differences``."""
    elements = resource.get("differential", {}).get("element", ())
    return {**_head(resource), "differences": [_element(e) for e in elements if "path" in e]}


def _head(resource: Mapping[str, Any]) -> dict[str, Any]:
    return {name: resource[name] for name in _STRUCTURE if name in resource}


def _element(element: Mapping[str, Any]) -> dict[str, Any]:
    made = {name: element[name] for name in _ELEMENT if name in element}
    made.update({name: value for name, value in element.items() if name.startswith(_VALUES)})
    if "type" in element:
        made["type"] = [_type(each) for each in element["type"]]
    binding = element.get("binding")
    if binding is not None and "valueSet" in binding:
        made["binding"] = [binding["strength"], binding["valueSet"]]
    rules = [
        [c["key"], c["severity"], c["expression"]]
        for c in element.get("constraint", ())
        if "expression" in c and c["key"] not in {"ele-1", "ext-1"}
    ]
    if rules:
        made["constraint"] = rules
    return made


def _type(each: Mapping[str, Any]) -> dict[str, Any]:
    made = {name: each[name] for name in ("code", "profile", "targetProfile") if name in each}
    for extension in each.get("extension", ()):
        if extension["url"].endswith("structuredefinition-fhir-type"):
            made["code"] = extension.get("valueUrl") or extension.get("valueUri") or made["code"]
    return made


def reduced_code_system(resource: Mapping[str, Any]) -> dict[str, Any]:
    """Reduce a CodeSystem to ``codes``: code -> parents, and whether the list is complete."""
    codes = {
        code: [display, parent] for code, display, parent in _concepts(resource.get("concept", ()), None)
    }
    extra = {"supplement": True} if resource.get("content") == "supplement" else {}
    return {
        **extra,
        **_version(resource),
        "complete": resource.get("content") == "complete",
        "caseless": resource.get("caseSensitive") is False,
        "codes": codes,
    }


def _version(resource: Mapping[str, Any]) -> dict[str, Any]:
    return {"version": resource["version"]} if isinstance(resource.get("version"), str) else {}


def _concepts(concepts: Any, parent: str | None) -> Iterator[tuple[str, str | None, str | None]]:
    for concept in concepts:
        yield concept["code"], concept.get("display"), parent
        yield from _concepts(concept.get("concept", ()), concept["code"])


def reduced_value_set(resource: Mapping[str, Any]) -> dict[str, Any]:
    """Reduce a ValueSet to its composition, or to the codes of its expansion where it has only that."""
    compose = resource.get("compose", {})
    made: dict[str, Any] = _version(resource)
    for name in ("include", "exclude"):
        parts = [_part(part) for part in compose.get(name, ())]
        if parts:
            made[name] = parts
    expansion = resource.get("expansion", {}).get("contains")
    if expansion and not made.keys() - {"version"}:
        made["include"] = _expanded(expansion)
    return made


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    made = {name: part[name] for name in ("system", "version", "valueSet") if name in part}
    if "concept" in part:
        made["codes"] = [concept["code"] for concept in part["concept"]]
    if "filter" in part:
        made["filter"] = [[f.get("property"), f.get("op"), f.get("value")] for f in part["filter"]]
    return made


def _expanded(contains: Any) -> list[dict[str, Any]]:
    by_system: dict[str, list[str]] = {}
    stack = list(contains)
    while stack:
        item = stack.pop()
        stack += item.get("contains", ())
        if "code" in item and not item.get("abstract"):
            by_system.setdefault(item.get("system", ""), []).append(item["code"])
    return [{"system": system, "codes": codes} for system, codes in by_system.items()]
