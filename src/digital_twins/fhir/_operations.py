"""The ``$``-operations: how they are registered, ``$validate`` and ``Patient/$everything``."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from digital_twins.fhir._everything import everything_page, everything_query
from digital_twins.fhir._http import fhir_response, json_response, preference, resource_body
from digital_twins.fhir._json import loads
from digital_twins.fhir._outcome import Issue, bad_request, outcome
from digital_twins.fhir._searchset import linked_bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from digital_twins.fhir._server import Call, FhirServer, Handler

ALL_OK = Issue("informational", "The resource is valid.", severity="information")
_MODES = frozenset({"create", "update", "delete", "profile"})
_STANDARD = "http://hl7.org/fhir/OperationDefinition/"


@dataclass(frozen=True, slots=True)
class FhirOperation:
    """A ``$``-operation that `fhir_routes` serves and the CapabilityStatement names.

    Parameters
    ----------
    name
        Without the dollar sign, e.g. ``"validate"``.
    definition
        Canonical of the OperationDefinition.
    level
        Where it is called: on the base, on a type or on a resource.
    handlers
        Gets the server and returns handlers by HTTP method.
    types
        Resource types that have it; empty for all.
    """

    name: str
    definition: str
    level: Literal["system", "type", "instance"]
    handlers: Callable[[FhirServer], Mapping[str, Handler]]
    types: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ValidationRequest:
    """The resource to judge, and the profiles that it must conform to."""

    resource: Any
    profiles: tuple[str, ...]


def validation_request(
    body: Any, stored: Any, query: Sequence[tuple[str, str]], *, kind: str
) -> ValidationRequest:
    """Read a call: a resource or Parameters in the body, else what is stored; ``profile`` here or there.

    Raises
    ------
    FhirError
        400 without a resource, with one of another type than the address names, or with an unknown mode.
    """
    given = [(name, value) for name, value in query if name in {"profile", "mode"}]
    resource = body
    if isinstance(body, dict) and body.get("resourceType") == "Parameters" and kind != "Parameters":
        parts = body.get("parameter", ())
        parts = [p for p in parts if isinstance(p, dict)] if isinstance(parts, list) else []
        resource = next((p.get("resource") for p in parts if p.get("name") == "resource"), None)
        for part in parts:
            value = next((v for k, v in part.items() if k.startswith("value")), None)
            given.append((str(part.get("name")), str(value)))
    resource = stored if resource is None else resource
    if not isinstance(resource, dict):
        raise bad_request("$validate needs a resource, or Parameters with one.", code="required")
    if resource.get("resourceType") != kind:
        raise bad_request(f"The resource is not a {kind}, as the address says.")
    if any(name == "mode" and value not in _MODES for name, value in given):
        raise bad_request("The mode is not create, update, delete or profile.", code="value")
    return ValidationRequest(resource, tuple(value for name, value in given if name == "profile"))


def _validate_handlers(server: FhirServer) -> Mapping[str, Handler]:
    async def answer(request: Request, call: Call) -> Response:
        validation, stored = server.validation, None
        if validation is None:
            raise bad_request("This server has no $validate.", code="not-supported", status=404)
        if call.id:
            stored = server.store.read(call.type, call.id, agent=server.agent(request)).resource
        body = loads(await resource_body(request)) if request.method == "POST" else None
        asked = validation_request(body, stored, request.query_params.multi_items(), kind=call.type)
        issues = await asyncio.to_thread(validation.issues, asked.resource, asked.profiles)
        return json_response(outcome(issues or [ALL_OK]))

    return {"GET": answer, "POST": answer}


def _everything_handlers(server: FhirServer) -> Mapping[str, Handler]:
    async def answer(request: Request, call: Call) -> Response:
        pairs = request.query_params.multi_items()
        if request.method == "POST" and (raw := await request.body()):
            pairs += _simple_parameters(loads(raw))
        asked = everything_query(pairs, strict=preference(request, "handling") == "strict")
        page = await asyncio.to_thread(everything_page, server.store, call.id, asked, server.agent(request))
        base = server.url(request)
        here = f"{base}/Patient/{call.id}/$everything"
        return fhir_response(linked_bundle(base, here, asked.used, page))

    return {"GET": answer, "POST": answer}


def _simple_parameters(body: Any) -> list[tuple[str, str]]:
    """Return the parameters with simple values of a Parameters resource."""
    parts = body.get("parameter") if isinstance(body, dict) else None
    if not isinstance(parts, list):
        raise bad_request("The body must be a Parameters resource.", code="structure")
    found = []
    for part in parts:
        if isinstance(part, dict):
            value = next((v for k, v in part.items() if k.startswith("value")), None)
            if isinstance(value, str | int) and not isinstance(value, bool):
                found.append((str(part.get("name")), str(value)))
    return found


def _served_elsewhere(server: FhirServer) -> Mapping[str, Handler]:
    """Name no handlers: routes that stand before those of the REST interface answer."""
    return {}


def announced(
    name: str, definition: str, level: Literal["system", "type", "instance"], *types: str
) -> FhirOperation:
    """Return an operation for the CapabilityStatement that routes of another room serve.

    Parameters are those of `FhirOperation`.
    """
    return FhirOperation(name, definition, level, _served_elsewhere, frozenset(types))


VALIDATE = FhirOperation("validate", f"{_STANDARD}Resource-validate", "type", _validate_handlers)
VALIDATE_STORED = FhirOperation("validate", f"{_STANDARD}Resource-validate", "instance", _validate_handlers)
EVERYTHING = FhirOperation(
    "everything",
    f"{_STANDARD}Patient-everything",
    "instance",
    _everything_handlers,
    frozenset({"Patient"}),
)
