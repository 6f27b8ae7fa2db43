"""The OpenAPI 3.1 description of the REST interface, for tools that read no CapabilityStatement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins import __version__
from digital_twins.fhir._capability import PATCH_FORMATS
from digital_twins.fhir._definitions import definitions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from digital_twins.fhir._operations import FhirOperation

_JSON = "application/fhir+json"
_ANSWERS = {
    "2XX": {"description": "Done", "content": {_JSON: {"schema": {"type": "object"}}}},
    "304": {"description": "The client's copy is this version"},
    "4XX": {
        "description": "Refused",
        "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Outcome"}}},
    },
}
_SEARCH = (
    "_id",
    "_lastUpdated",
    "_text",
    "_content",
    "_list",
    "_filter",
    "_sort",
    "_count",
    "_total",
    "_summary",
    "_elements",
    "_include",
    "_revinclude",
)
_HISTORY = ("_since", "_at", "_count")


def _operation(
    about: str,
    *,
    query: Sequence[str] = (),
    headers: Sequence[str] = (),
    body: Sequence[str] = (),
) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "query", "schema": {"type": "string"}} for name in query
    ]
    parameters += [{"name": name, "in": "header", "schema": {"type": "string"}} for name in headers]
    found: dict[str, Any] = {"summary": about, "responses": _ANSWERS}
    if parameters:
        found["parameters"] = parameters
    if body:
        schema = {"$ref": "#/components/schemas/Resource"}
        found["requestBody"] = {"required": True, "content": {kind: {"schema": schema} for kind in body}}
    return found


def _paths(base: str) -> dict[str, Any]:
    search = _operation("Search", query=_SEARCH, headers=("prefer",))
    form = _operation("Search by form")
    form["requestBody"] = {
        "content": {"application/x-www-form-urlencoded": {"schema": {"type": "object"}}},
    }
    change = {"headers": ("if-match", "prefer")}
    return {
        f"{base}/metadata": {"get": _operation("CapabilityStatement")},
        base or "/": {
            "get": _operation("Search over several types", query=("_type", *_SEARCH), headers=("prefer",)),
            "post": _operation("Transaction or batch", body=(_JSON,)),
        },
        f"{base}/_search": {"post": form},
        f"{base}/_history": {"get": _operation("History of everything", query=_HISTORY)},
        f"{base}/{{type}}": {
            "get": search,
            "post": _operation("Create", headers=("if-none-exist", "prefer"), body=(_JSON,)),
            "put": _operation("Conditional update", query=("identifier",), body=(_JSON,), **change),
            "patch": _operation("Conditional patch", query=("identifier",), body=PATCH_FORMATS, **change),
            "delete": _operation("Conditional delete", query=("identifier",)),
        },
        f"{base}/{{type}}/_search": {"post": form},
        f"{base}/{{type}}/_history": {"get": _operation("History of a type", query=_HISTORY)},
        f"{base}/{{type}}/{{id}}": {
            "get": _operation("Read", headers=("if-none-match", "if-modified-since")),
            "put": _operation("Update", body=(_JSON,), **change),
            "patch": _operation("Patch", body=PATCH_FORMATS, **change),
            "delete": _operation("Delete", headers=("if-match",)),
        },
        f"{base}/Patient/{{id}}/{{type}}": {"get": search},
        f"{base}/{{type}}/{{id}}/_history": {"get": _operation("History of a resource", query=_HISTORY)},
        f"{base}/{{type}}/{{id}}/_history/{{version}}": {"get": _operation("Read a version")},
    }


def openapi_document(base: str, operations: Sequence[FhirOperation] = ()) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the FHIR server.

    Parameters
    ----------
    base
        Path of the FHIR base.
    operations
        The ``$``-operations that run.
    """
    paths = _paths(base)
    starts = {"system": base, "type": f"{base}/{{type}}", "instance": f"{base}/{{type}}/{{id}}"}
    for operation in operations:
        about = f"Operation {operation.definition}"
        paths[f"{starts[operation.level]}/${operation.name}"] = {
            "get": _operation(about),
            "post": _operation(about, body=(_JSON,)),
        }
    for path, item in paths.items():
        names = [name for name in ("type", "id", "version") if f"{{{name}}}" in path]
        if names:
            item["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in names]
    kinds = sorted(definitions().types)
    text = {"type": "string"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Digital Twins FHIR R4 server", "version": __version__},
        "paths": paths,
        "components": {
            "parameters": {
                "type": _path_parameter("type", {"type": "string", "enum": kinds}),
                "id": _path_parameter("id", {"type": "string", "pattern": "^[A-Za-z0-9.-]{1,64}$"}),
                "version": _path_parameter("version", {"type": "integer", "minimum": 1}),
            },
            "schemas": {
                "Resource": {
                    "type": "object",
                    "required": ["resourceType"],
                    "properties": {"resourceType": {"type": "string", "enum": kinds}, "id": text},
                },
                "Outcome": {
                    "type": "object",
                    "required": ["resourceType", "issue"],
                    "properties": {"resourceType": {"const": "OperationOutcome"}},
                },
            },
        },
    }


def _path_parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": schema}
