"""Handlers that read: metadata, read, vread, history and search."""

from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from starlette.responses import Response

from digital_twins.fhir._capability import capability_statement
from digital_twins.fhir._history import history_query
from digital_twins.fhir._http import (
    bounded_body,
    fhir_response,
    header,
    json_response,
    preference,
    query_pairs,
    version_headers,
)
from digital_twins.fhir._json import dumps
from digital_twins.fhir._openapi import openapi_document
from digital_twins.fhir._outcome import FhirError, Issue, bad_request
from digital_twins.fhir._searchset import history_bundle, local_values, searchset, shaped

if TYPE_CHECKING:
    from starlette.requests import Request

    from digital_twins.fhir._query import Query
    from digital_twins.fhir._server import Call, FhirServer
    from digital_twins.fhir._write import Saved

_FORM = "application/x-www-form-urlencoded"


class ReadHandlers:
    """The reading half of the REST interface."""

    def __init__(self, server: FhirServer) -> None:
        self.server = server
        self.store = server.store

    async def metadata(self, request: Request, call: Call) -> Response:
        """Answer ``GET metadata``."""
        server = self.server
        profiles = await asyncio.to_thread(server.validation.profiles) if server.validation else {}
        statement = capability_statement(
            server.url(request),
            date=server.started,
            profiles=profiles,
            operations=server.all_operations,
            conditional_delete=server.conditional_delete,
            oauth=server.features.oauth,
            extra=await asyncio.to_thread(lambda: self.store.package_parameters),
        )
        return json_response(statement)

    async def openapi(self, request: Request, call: Call) -> Response:
        """Answer ``GET openapi.json``."""
        document = openapi_document(self.server.base, self.server.all_operations)
        return Response(dumps(document), media_type="application/json")

    async def read(self, request: Request, call: Call) -> Response:
        """Answer ``GET Type/id``, also conditionally (FHIR R4, http section 3.1.0.2.1)."""
        saved = self.store.read(call.type, call.id, agent=self.server.agent(request))
        headers = version_headers(saved)
        if _unchanged(request, saved):
            return Response(status_code=304, headers=headers)
        return fhir_response(_shaped(request, saved.body), headers=headers)

    async def vread(self, request: Request, call: Call) -> Response:
        """Answer ``GET Type/id/_history/version``."""
        agent = self.server.agent(request)
        saved = await asyncio.to_thread(self.store.vread, call.type, call.id, call.version, agent=agent)
        return fhir_response(_shaped(request, saved.body), headers=version_headers(saved))

    async def history(self, request: Request, call: Call) -> Response:
        """Answer ``_history`` of the store, a type or a resource."""
        strict = preference(request, "handling") == "strict"
        asked = history_query(request.query_params.multi_items(), strict=strict)
        page = await asyncio.to_thread(
            self.store.versions,
            asked,
            kind=call.type or None,
            name=call.id or None,
            agent=self.server.agent(request),
        )
        base = self.server.url(request)
        here = "/".join(part for part in (base, call.type, call.id, "_history") if part)
        return fhir_response(history_bundle(page, base, here, asked.used))

    async def search(self, request: Request, call: Call) -> Response:
        """Answer ``GET Type?parameters``, the search over several types and that of a compartment."""
        raw = request.scope["query_string"].decode("latin-1")
        return await self.answer_search(request, call, query_pairs(raw), raw)

    async def search_form(self, request: Request, call: Call) -> Response:
        """Answer ``POST Type/_search`` and ``POST _search``."""
        form = header(request, b"content-type", _FORM).partition(";")[0].strip().lower()
        if form != _FORM:
            raise FhirError(415, [Issue("not-supported", f"_search takes {_FORM}.")])
        body = await bounded_body(request, limit=2**20)
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise bad_request("The form is not UTF-8.") from None
        pairs = [*request.query_params.multi_items(), *query_pairs(text)]
        return await self.answer_search(request, call, pairs)

    async def answer_search(
        self, request: Request, call: Call, pairs: list[tuple[str, str]], raw: str = ""
    ) -> Response:
        """Run a search: at once when it is light, otherwise in a thread."""
        strict = preference(request, "handling") == "strict"
        who, base = self.server.agent(request), self.server.url(request)
        pairs = local_values(pairs, base)
        if not call.type:
            across = await asyncio.to_thread(self.store.parse_across, pairs, strict=strict, owner=call.owner)
            found = await asyncio.to_thread(self.store.run_across, across, agent=who)
            return fhir_response(searchset(across.shape, found, base))
        query = self.store.parse(call.type, pairs, strict=strict, owner=call.owner)
        if raw and query.used == pairs:
            query.asked = raw
        if _is_light(query):
            page = self.store.run(query, agent=who)
        else:
            page = await asyncio.to_thread(self.store.run, query, agent=who)
        return fhir_response(searchset(query, page, base))


def _shaped(request: Request, body: bytes) -> bytes:
    raw = request.scope["query_string"]
    return shaped(body, query_pairs(raw.decode("latin-1"))) if raw else body


def _unchanged(request: Request, saved: Saved) -> bool:
    """Whether the client's copy is this version, by ETag, or by date when no ETag is sent."""
    tags = header(request, b"if-none-match")
    if tags:
        ours = saved.etag.removeprefix("W/")
        return any(tag.strip().removeprefix("W/") in {ours, "*"} for tag in tags.split(","))
    since = header(request, b"if-modified-since")
    if not since:
        return False
    try:
        moment = parsedate_to_datetime(since)
        return saved.updated // 1_000_000 <= moment.timestamp()
    except (ValueError, OverflowError):
        return False  # RFC 9110 section 13.1.3: a date that cannot be read is ignored


def _is_light(query: Query) -> bool:
    """Whether a search follows one index and stops at a page: such run at once, others in a thread."""
    if not query.plain or query.count > 100:
        return False
    found = query.predicates
    return bool(found) and all(
        not p.negated and not p.either and not p.also and p.tests and all(t.ordered for t in p.tests)
        for p in found
    )
