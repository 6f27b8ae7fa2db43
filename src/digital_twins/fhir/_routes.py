"""The FHIR R4 REST interface as plain Starlette routes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from starlette.responses import Response
from starlette.routing import Route

from digital_twins._errors import DigitalTwinError
from digital_twins.fhir._capability import capability_statement
from digital_twins.fhir._definitions import definitions
from digital_twins.fhir._http import (
    bounded_body,
    check_accept,
    fhir_response,
    json_body,
    json_response,
    preference,
    version_headers,
)
from digital_twins.fhir._json import dumps, loads
from digital_twins.fhir._operations import ALL_OK, validation_request
from digital_twins.fhir._outcome import FhirError, Issue, bad_request, outcome, outcome_of
from digital_twins.fhir._query import Query, parse_query
from digital_twins.fhir._searchset import history_bundle, searchset
from digital_twins.fhir._validate import ID

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from digital_twins.fhir._store import FhirStore
    from digital_twins.fhir._write import Saved
    from digital_twins.fhir.validation import ResourceValidation

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_FORM = "application/x-www-form-urlencoded"


def _anonymous(request: Request) -> str:
    return "anonymous"


def fhir_routes(
    store: FhirStore,
    *,
    base: str = "/fhir",
    public_url: str | None = None,
    agent: Callable[[Request], str] = _anonymous,
    on_error: Callable[[BaseException], None] | None = None,
    validation: ResourceValidation | None = None,
) -> list[Route]:
    """Return the routes of a FHIR R4 server.

    Parameters
    ----------
    store
        Where resources live.
    base
        Path of the FHIR base on this server.
    public_url
        Address of the base for links, when a proxy stands in front; by default that of the request.
    agent
        Names who asks, for the audit trail.
    on_error
        Told of exceptions that nothing else explains, before the client gets a 500.
    validation
        Answers ``$validate`` and names the profiles of packages in the CapabilityStatement; without it there
        is no such operation. What is stored is checked by the store's own ``validate``.

    Returns
    -------
    list of Route
        ``metadata``, create, read, vread, history of an instance, update, delete, search by GET and POST,
        transaction and batch, ``$validate``. Every error is an OperationOutcome.
    """
    server = _Server(store, base.rstrip("/"), public_url, agent, on_error)
    server.validation = validation
    return server.routes()


class _Server:
    def __init__(
        self,
        store: FhirStore,
        base: str,
        public_url: str | None,
        agent: Callable[[Request], str],
        on_error: Callable[[BaseException], None] | None,
    ) -> None:
        self.store = store
        self.base = base
        self.public_url = public_url.rstrip("/") if public_url else None
        self.agent = agent
        self.on_error = on_error
        self.validation: ResourceValidation | None = None
        self.started = datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def routes(self) -> list[Route]:
        at = self.base
        operation: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "GET": self.validate,
            "POST": self.validate,
        }
        table: list[tuple[str, dict[str, Callable[[Request], Awaitable[Response]]]]] = [
            (at or "/", {"POST": self.bundle, "OPTIONS": self.metadata}),
            (f"{at}/", {"POST": self.bundle, "OPTIONS": self.metadata}),
            (f"{at}/metadata", {"GET": self.metadata}),
            (f"{at}/{{type}}", {"GET": self.search, "POST": self.create}),
            (f"{at}/{{type}}/_search", {"POST": self.search_form}),
            *([(f"{at}/{{type}}/$validate", operation)] if self.validation else []),
            *([(f"{at}/{{type}}/{{id}}/$validate", operation)] if self.validation else []),
            (f"{at}/{{type}}/{{id}}", {"GET": self.read, "PUT": self.update, "DELETE": self.delete}),
            (f"{at}/{{type}}/{{id}}/_history", {"GET": self.history}),
            (f"{at}/{{type}}/{{id}}/_history/{{version}}", {"GET": self.vread}),
            (f"{at}/{{rest:path}}", {}),
        ]
        return [Route(path, self.endpoint(handlers), methods=_METHODS) for path, handlers in table]

    def endpoint(
        self, handlers: dict[str, Callable[[Request], Awaitable[Response]]]
    ) -> Callable[[Request], Awaitable[Response]]:
        allowed = ", ".join(handlers)

        async def answer(request: Request) -> Response:
            method = "GET" if request.method == "HEAD" else request.method
            try:
                handler = handlers.get(method)
                if handler is None:
                    return _no_handler(allowed)
                check_accept(request)
                return await handler(request)
            except DigitalTwinError as error:
                return json_response(outcome_of(error), error.http_status)
            except Exception as error:  # noqa: BLE001  (edge of the request: the client gets an answer without internals)
                if self.on_error is not None:
                    self.on_error(error)
                text = "The server failed on this request; its log holds the reason."
                return json_response(outcome([Issue("exception", text, severity="fatal")]), 500)

        return answer

    def url(self, request: Request) -> str:
        if self.public_url:
            return self.public_url
        host = request.headers.get("host", "localhost")
        return f"{request.url.scheme}://{host}{self.base}"

    def target(self, request: Request) -> tuple[str, str]:
        kind, name = self.kind(request), request.path_params["id"]
        if not ID.fullmatch(name):
            raise bad_request(f"No {kind} has such an id.", code="not-found", status=404)
        return kind, name

    def kind(self, request: Request) -> str:
        kind: str = request.path_params["type"]
        if kind not in definitions().types:
            raise bad_request("This is not a resource type of FHIR R4.", code="not-supported", status=404)
        return kind

    async def metadata(self, request: Request) -> Response:
        profiles = await asyncio.to_thread(self.validation.profiles) if self.validation else None
        return json_response(capability_statement(self.url(request), date=self.started, profiles=profiles))

    async def validate(self, request: Request) -> Response:
        if self.validation is None:
            raise bad_request("This server has no $validate.", code="not-supported", status=404)
        kind, name, stored = self.kind(request), request.path_params.get("id"), None
        if name is not None:
            stored = self.store.read(*self.target(request), agent=self.agent(request)).resource
        body = loads(await json_body(request)) if request.method == "POST" else None
        asked = validation_request(body, stored, request.query_params.multi_items(), kind=kind)
        issues = await asyncio.to_thread(self.validation.issues, asked.resource, asked.profiles)
        return json_response(outcome(issues or [ALL_OK]))

    async def read(self, request: Request) -> Response:
        kind, name = self.target(request)
        saved = self.store.read(kind, name, agent=self.agent(request))
        if request.headers.get("if-none-match") == saved.etag:
            return Response(status_code=304, headers=version_headers(saved))
        return fhir_response(saved.body, headers=version_headers(saved))

    async def vread(self, request: Request) -> Response:
        kind, name = self.target(request)
        version = request.path_params["version"]
        if not version.isdigit() or len(version) > 9:
            raise bad_request("This version does not exist.", code="not-found", status=404)
        saved = await asyncio.to_thread(self.store.vread, kind, name, int(version), agent=self.agent(request))
        return fhir_response(saved.body, headers=version_headers(saved))

    async def history(self, request: Request) -> Response:
        kind, name = self.target(request)
        found = await asyncio.to_thread(self.store.history, kind, name, agent=self.agent(request))
        return fhir_response(history_bundle(found, self.url(request)))

    async def create(self, request: Request) -> Response:
        kind = self.kind(request)
        work = self.store.prepare_create(
            await json_body(request),
            kind=kind,
            if_none_exist=request.headers.get("if-none-exist"),
            agent=self.agent(request),
        )
        saved = await asyncio.wrap_future(self.store.database.submit(work))
        return self.saved_response(request, saved)

    async def update(self, request: Request) -> Response:
        kind, name = self.target(request)
        work = self.store.prepare_update(
            await json_body(request),
            address=f"{kind}/{name}",
            if_match=request.headers.get("if-match"),
            agent=self.agent(request),
        )
        saved = await asyncio.wrap_future(self.store.database.submit(work))
        return self.saved_response(request, saved)

    def saved_response(self, request: Request, saved: Saved) -> Response:
        headers = {**version_headers(saved), "location": f"{self.url(request)}/{saved.location}"}
        status = 201 if saved.created else 200
        wanted = preference(request, "return")
        if wanted == "minimal":
            return Response(status_code=status, headers=headers)
        if wanted == "operationoutcome":
            issue = Issue("informational", "The resource was stored.", severity="information")
            return fhir_response(dumps(outcome([issue])), status, headers=headers)
        return fhir_response(saved.body, status, headers=headers)

    async def delete(self, request: Request) -> Response:
        kind, name = self.target(request)
        work = self.store.prepare_delete(
            kind, name, if_match=request.headers.get("if-match"), agent=self.agent(request)
        )
        saved = await asyncio.wrap_future(self.store.database.submit(work))
        return Response(status_code=204, headers={"etag": saved.etag} if saved else None)

    async def search(self, request: Request) -> Response:
        return await self.answer_search(request, request.query_params.multi_items())

    async def search_form(self, request: Request) -> Response:
        form = request.headers.get("content-type", _FORM).partition(";")[0].strip().lower()
        if form != _FORM:
            raise FhirError(415, [Issue("not-supported", f"_search takes {_FORM}.")])
        body = await bounded_body(request, limit=2**20)
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise bad_request("The form is not UTF-8.") from None
        pairs = [*request.query_params.multi_items(), *parse_qsl(text, keep_blank_values=True)]
        return await self.answer_search(request, pairs)

    async def answer_search(self, request: Request, pairs: list[tuple[str, str]]) -> Response:
        strict = preference(request, "handling") == "strict"
        query = parse_query(self.kind(request), pairs, strict=strict)
        who = self.agent(request)
        if _is_light(query):
            page = self.store.run(query, agent=who)
        else:
            page = await asyncio.to_thread(self.store.run, query, agent=who)
        return fhir_response(searchset(query, page, self.url(request)))

    async def bundle(self, request: Request) -> Response:
        body = loads(await json_body(request))
        kind = body.get("type") if isinstance(body, dict) else None
        representation = preference(request, "return") == "representation"
        return fhir_response(
            await asyncio.to_thread(
                self.store.transaction,
                _bundle_of(body, kind),
                agent=self.agent(request),
                representation=representation,
            )
        )


def _bundle_of(body: Any, kind: Any) -> dict[str, Any]:
    if (
        not isinstance(body, dict)
        or body.get("resourceType") != "Bundle"
        or kind not in {"transaction", "batch"}
    ):
        raise bad_request(
            "POST to the base takes a Bundle of type transaction or batch.", location="Bundle.type"
        )
    return body


def _is_light(query: Query) -> bool:
    """Whether a search follows one index and stops at a page: such run at once, others in a thread."""
    if query.sort or query.includes or query.total or query.count > 100 or query.summary == "count":
        return False
    tests = [test for found in query.predicates for test in found.tests]
    return (
        bool(tests) and all(test.ordered for test in tests) and not any(p.negated for p in query.predicates)
    )


def _no_handler(allowed: str) -> Response:
    if not allowed:
        return json_response(
            outcome([Issue("not-found", "This address is no part of the FHIR interface.")]), 404
        )
    answer = json_response(outcome([Issue("not-supported", f"Here are only: {allowed}.")]), 405)
    answer.headers["allow"] = allowed
    return answer
