"""Handlers that write: create, update, patch, delete, their conditional forms, and bundles."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from digital_twins.fhir._fhirpath_patch import fhirpath_patch
from digital_twins.fhir._http import (
    bounded_body,
    fhir_response,
    header,
    preference,
    resource_body,
    version_headers,
)
from digital_twins.fhir._json import dumps, loads
from digital_twins.fhir._json_patch import json_patch, merge_patch
from digital_twins.fhir._outcome import FhirError, Issue, bad_request, outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    import apsw
    from starlette.requests import Request

    from digital_twins.fhir._changes import Patch
    from digital_twins.fhir._server import Call, FhirServer
    from digital_twins.fhir._write import Saved

_JSON_PATCH = "application/json-patch+json"
_MERGE_PATCH = "application/merge-patch+json"


class WriteHandlers:
    """The writing half of the REST interface."""

    def __init__(self, server: FhirServer) -> None:
        self.server = server
        self.store = server.store

    async def done(self, work: Callable[[apsw.Cursor], Any]) -> Any:
        """Run a unit of work and return its result once it is durable."""
        return await self.store.database.commit(work)

    async def create(self, request: Request, call: Call) -> Response:
        """Answer ``POST Type``, also with ``If-None-Exist``."""
        work = self.store.changes.create(
            await resource_body(request),
            kind=call.type,
            if_none_exist=header(request, b"if-none-exist") or None,
            agent=self.server.agent(request),
        )
        return self.saved(request, await self.done(work))

    async def update(self, request: Request, call: Call) -> Response:
        """Answer ``PUT Type/id``."""
        work = self.store.changes.update(
            await resource_body(request),
            address=f"{call.type}/{call.id}",
            if_match=header(request, b"if-match") or None,
            agent=self.server.agent(request),
        )
        return self.saved(request, await self.done(work))

    async def conditional_update(self, request: Request, call: Call) -> Response:
        """Answer ``PUT Type?condition``."""
        work = self.store.changes.conditional_update(
            await resource_body(request),
            call.type,
            _condition(request),
            if_match=header(request, b"if-match") or None,
            agent=self.server.agent(request),
        )
        return self.saved(request, await self.done(work))

    async def patch(self, request: Request, call: Call) -> Response:
        """Answer ``PATCH Type/id``."""
        work = self.store.changes.patch(
            call.type,
            call.id,
            await _patch(request),
            if_match=header(request, b"if-match") or None,
            agent=self.server.agent(request),
        )
        return self.saved(request, await self.done(work))

    async def conditional_patch(self, request: Request, call: Call) -> Response:
        """Answer ``PATCH Type?condition``."""
        work = self.store.changes.patch(
            call.type,
            _condition(request),
            await _patch(request),
            conditional=True,
            if_match=header(request, b"if-match") or None,
            agent=self.server.agent(request),
        )
        return self.saved(request, await self.done(work))

    async def delete(self, request: Request, call: Call) -> Response:
        """Answer ``DELETE Type/id``."""
        work = self.store.changes.delete(
            call.type,
            call.id,
            if_match=header(request, b"if-match") or None,
            agent=self.server.agent(request),
        )
        saved = await self.done(work)
        return Response(status_code=204, headers={"etag": saved.etag} if saved else None)

    async def conditional_delete(self, request: Request, call: Call) -> Response:
        """Answer ``DELETE Type?condition``."""
        work = self.store.changes.conditional_delete(
            call.type,
            _condition(request),
            several=self.server.conditional_delete == "multiple",
            agent=self.server.agent(request),
        )
        await self.done(work)
        return Response(status_code=204)

    async def bundle(self, request: Request, call: Call) -> Response:
        """Answer a transaction or batch."""
        body = loads(await resource_body(request))
        kind = body.get("type") if isinstance(body, dict) else None
        representation = preference(request, "return") == "representation"
        answer = await asyncio.to_thread(
            self.store.transaction,
            _bundle_of(body, kind),
            agent=self.server.agent(request),
            representation=representation,
            base_url=self.server.url(request),
        )
        return fhir_response(answer)

    def saved(self, request: Request, saved: Saved) -> Response:
        """Return the answer to a write, as ``Prefer: return`` asks for it."""
        headers = {**version_headers(saved), "location": f"{self.server.url(request)}/{saved.location}"}
        status = 201 if saved.created else 200
        wanted = preference(request, "return")
        if wanted == "minimal":
            return Response(status_code=status, headers=headers)
        if wanted == "operationoutcome":
            issue = Issue("informational", "The resource was stored.", severity="information")
            return fhir_response(dumps(outcome([issue])), status, headers=headers)
        return fhir_response(saved.body, status, headers=headers)


def _condition(request: Request) -> str:
    text: str = request.scope["query_string"].decode("latin-1")
    if not text:
        raise bad_request("Without an id in the address, this needs a condition behind '?'.", code="required")
    return text


async def _patch(request: Request) -> Patch:
    """Return the change that a PATCH asks for: JSON Patch, FHIRPath Patch, or a JSON Merge Patch.

    FHIR R4 names the first two; clients such as fhirpy send an object with the elements to change.
    """
    kind = header(request, b"content-type").partition(";")[0].strip().lower()
    if kind not in {_JSON_PATCH, _MERGE_PATCH, "application/fhir+json", "application/json"}:
        issue = Issue("not-supported", f"A patch is {_JSON_PATCH}, or Parameters in application/fhir+json.")
        raise FhirError(415, [issue], fix=f"Send Content-Type: {_JSON_PATCH}.")
    patch = loads(await bounded_body(request))
    if kind == _JSON_PATCH or isinstance(patch, list):
        return partial(json_patch, operations=patch)
    if not isinstance(patch, dict):
        raise bad_request("A patch is an array of operations, or an object.", code="structure")
    if kind != _MERGE_PATCH and patch.get("resourceType") == "Parameters":
        return partial(fhirpath_patch, patch=patch)
    return partial(merge_patch, patch=patch)


def _bundle_of(body: Any, kind: Any) -> dict[str, Any]:
    if (
        not isinstance(body, dict)
        or body.get("resourceType") != "Bundle"
        or not isinstance(kind, str)
        or kind not in {"transaction", "batch"}
    ):
        raise bad_request(
            "POST to the base takes a Bundle of type transaction or batch.", location="Bundle.type"
        )
    return body
