"""Search parameters of FHIR packages: read from their SearchParameter resources, found by FHIRPath."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from digital_twins.fhir._definitions import SearchParameter, definitions
from digital_twins.fhir._index import IndexRows, extract, reference_targets
from digital_twins.fhir._paths import Path
from digital_twins.fhir.fhirpath import FhirPathError, compile_expression

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Extra = dict[str, dict[str, SearchParameter]]
"""Resource type -> code -> parameter, beside those of R4."""

_KINDS = frozenset({"token", "reference", "date", "string", "quantity", "number", "uri"})
_TARGET = re.compile(r"\.where\(\s*resolve\(\)\s+is\s+(\w+)\s*\)\s*$")
_TYPED_CHOICE = re.compile(r"\.value([A-Z]\w*)")
_COMPLEX = frozenset(
    {"CodeableConcept", "Coding", "Identifier", "Reference", "Period", "Quantity", "Range", "Ratio"}
)


def _choice(match: re.Match[str]) -> str:
    name = match[1]
    return f".value.ofType({name if name in _COMPLEX else name[0].lower() + name[1:]})"


def _parameter(resource: Mapping[str, Any], kind: str, code: str) -> SearchParameter | None:
    """Return the parameter for one resource type; None when its expression is no FHIRPath."""
    expression = str(resource.get("expression") or "")
    target = _TARGET.search(expression)
    # US Core 6.1.0 writes value[x] as in JSON ("valueDateTime"), which FHIRPath does not know.
    expression = _TYPED_CHOICE.sub(_choice, _TARGET.sub("", expression))
    try:
        compile_expression(expression)
    except FhirPathError:
        return None
    name = f"{kind}.{code} {resource['type']} {expression}"
    number, identifier = (
        int.from_bytes(blake2b(f"{name}{end}".encode(), digest_size=8).digest(), "big") >> 1
        for end in ("", ":i")
    )
    targets = [t for t in resource.get("target", ()) if t in definitions().types]
    return SearchParameter(
        kind,
        code,
        resource["type"],
        (Path((), "", target[1] if target else None),),
        targets=tuple(targets),
        number=number,
        identifier_number=identifier,
        expression=expression,
        definition=str(resource.get("url", "")),
    )


def _bases(resource: Mapping[str, Any]) -> Iterator[str]:
    for base in resource.get("base", ()):
        if base in {"Resource", "DomainResource"}:
            yield from sorted(definitions().types)
        elif base in definitions().types:
            yield base


def extra_parameters(resources: Iterable[Mapping[str, Any]]) -> Extra:
    """Return what the SearchParameter resources add to R4's.

    Parameters
    ----------
    resources
        FHIR resources; only SearchParameters of the seven simple types with a usable expression count. Of two
        for the same type and code the last one counts. A code that R4 has already keeps R4's meaning.
    """
    found: Extra = {}
    for resource in resources:
        code = resource.get("code")
        if resource.get("resourceType") != "SearchParameter" or resource.get("type") not in _KINDS:
            continue
        if not isinstance(code, str) or not code or code[0] == "_" or resource.get("status") == "retired":
            continue
        for kind in _bases(resource):
            known = code in definitions().parameters[kind]
            if not known and (parameter := _parameter(resource, kind, code)) is not None:
                found.setdefault(kind, {})[code] = parameter
    return found


def targets_of(resource: Mapping[str, Any], parameter: SearchParameter) -> list[str]:
    """Return the references that a parameter, of R4 or of a package, finds in a resource."""
    if not parameter.expression:
        return reference_targets(resource, parameter)
    rows = IndexRows()
    add_rows(rows, parameter, resource)
    return sorted(target for number, target in rows.reference if number == parameter.number)


def add_rows(rows: IndexRows, parameter: SearchParameter, resource: Mapping[str, Any]) -> None:
    """Add the index rows that a parameter of a package finds in a resource."""
    target = parameter.paths[0].target
    try:
        nodes = compile_expression(parameter.expression).nodes(resource)
    except FhirPathError:
        return  # values that the expression cannot take: as with R4's parameters, nothing is found
    for node in nodes:
        value, leaf = getattr(node, "value", node), getattr(node, "type", "")
        if value is not None:
            extract(rows, parameter, value, Path((), leaf, target))
