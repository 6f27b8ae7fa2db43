"""The FHIR R4 REST interface as plain Starlette routes: addresses, methods and the edge of a request."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from starlette.requests import Request
from starlette.routing import Route

from digital_twins._errors import DigitalTwinError
from digital_twins.fhir._compartment import compartments
from digital_twins.fhir._definitions import definitions
from digital_twins.fhir._http import as_xml, json_response, wants_xml
from digital_twins.fhir._outcome import Issue, bad_request, outcome, outcome_of
from digital_twins.fhir._read_handlers import ReadHandlers
from digital_twins.fhir._server import Call, FhirFeatures, FhirServer, Handler
from digital_twins.fhir._validate import ID
from digital_twins.fhir._write_handlers import WriteHandlers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.responses import Response
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

    from digital_twins.fhir._store import FhirStore
    from digital_twins.fhir.validation import ResourceValidation

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_MAX_VERSION_DIGITS = 9
_NO_FEATURES = FhirFeatures()


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
    features: FhirFeatures = _NO_FEATURES,
    conditional_delete: Literal["single", "multiple"] = "single",
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
    features
        What else the CapabilityStatement names: further ``$``-operations, and where clients sign in.
    conditional_delete
        Whether ``DELETE Type?condition`` may take several matches (at most 1,000), or is then refused.

    Returns
    -------
    list of Route
        Everything that the CapabilityStatement at ``metadata`` names. Every error is an OperationOutcome.
    """
    server = FhirServer(
        store=store,
        base=base.rstrip("/"),
        public_url=public_url.rstrip("/") if public_url else None,
        agent=agent,
        validation=validation,
        conditional_delete=conditional_delete,
        features=features,
        started=datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    return _Door(server, on_error).routes()


class FhirFirst:
    """ASGI application that answers what plainly goes to resources before any route is compared.

    An application of many doors would hold every address of a FHIR request against the patterns of all the
    others first. Operations (``$``) and what else lies below the base take the way of the routes.

    Parameters
    ----------
    app
        The application with the routes.
    routes
        As `fhir_routes` returned them, alone or among others.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._doors = {route.door.base: route.door for route in routes if isinstance(route, _DoorRoute)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for base, door in self._doors.items():
                path = scope["path"]
                if (
                    path[len(base) + 1 : len(base) + 2].isupper()
                    and path.startswith(base)
                    and "$" not in path
                ):
                    response = await door.answer(Request(scope, receive, send))
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)


class _DoorRoute(Route):
    """A route that knows the door behind it."""

    def __init__(self, path: str, door: _Door) -> None:
        super().__init__(path, door.answer, methods=_METHODS)
        self.door = door


class _Door:
    """Finds the handler of an address and a method, and turns every error into an OperationOutcome."""

    def __init__(self, server: FhirServer, on_error: Callable[[BaseException], None] | None) -> None:
        self.base = server.base
        self.on_error = on_error
        reads, writes = ReadHandlers(server), WriteHandlers(server)
        self.system: dict[str, dict[str, Handler]] = {
            "": {"GET": reads.search, "POST": writes.bundle, "OPTIONS": reads.metadata},
            "_search": {"POST": reads.search_form},
            "metadata": {"GET": reads.metadata},
            "openapi.json": {"GET": reads.openapi},
            "_history": {"GET": reads.history},
        }
        self.types: dict[str, dict[str, Handler]] = {
            "": {
                "GET": reads.search,
                "POST": writes.create,
                "PUT": writes.conditional_update,
                "PATCH": writes.conditional_patch,
                "DELETE": writes.conditional_delete,
            },
            "_search": {"POST": reads.search_form},
            "_history": {"GET": reads.history},
        }
        self.instances: dict[str, dict[str, Handler]] = {
            "": {"GET": reads.read, "PUT": writes.update, "PATCH": writes.patch, "DELETE": writes.delete},
            "_history": {"GET": reads.history},
        }
        self.versions: dict[str, Handler] = {"GET": reads.vread}
        levels = {"system": self.system, "type": self.types, "instance": self.instances}
        self.limits: dict[tuple[str, str], frozenset[str]] = {}
        for operation in server.all_operations:
            table = levels[operation.level]
            table.setdefault(f"${operation.name}", {}).update(operation.handlers(server))
            if operation.types:
                self.limits[operation.level, f"${operation.name}"] = operation.types

    def routes(self) -> list[Route]:
        """Return a route for each kind of address.

        The two that most requests go to come first and take those of the others too: `answer` reads the
        address itself, so it does not matter which of them matched.
        """
        names = [
            "{type}/{id}",
            "{type}",
            "",
            *(name for name in self.system if name),
            *(f"{{type}}/{name}" for name in self.types if name),
            *(f"{{type}}/{{id}}/{name}" for name in self.instances if name),
            "{type}/{id}/_history/{version}",
            "{type}/{id}/{member}",
            "{type}/{id}/{member}/_search",
            "{rest:path}",
        ]
        paths = [f"{self.base}/{name}" for name in names]
        if self.base:
            paths.insert(2, self.base)
        return [_DoorRoute(path, self) for path in paths]

    def rest(self, request: Request) -> str:
        """Return the address below the base."""
        path: str = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        return path[len(self.base) + 1 :]

    async def answer(self, request: Request) -> Response:
        """Answer one request, in JSON or in XML."""
        try:
            xml = wants_xml(request)
        except DigitalTwinError as error:
            return json_response(outcome_of(error), error.http_status)
        response = await self.answer_json(request)
        if not xml:
            return response
        try:
            return await as_xml(response)
        except DigitalTwinError as error:
            return json_response(outcome_of(error), error.http_status)

    async def answer_json(self, request: Request) -> Response:
        """Answer one request in JSON."""
        method = "GET" if request.method == "HEAD" else request.method
        try:
            handlers, call = self.find(self.rest(request))
            handler = handlers.get(method)
            if handler is None:
                return _no_handler(", ".join(handlers))
            return await handler(request, call)
        except DigitalTwinError as error:
            return json_response(outcome_of(error), error.http_status)
        except Exception as error:  # noqa: BLE001  (edge of the request: the client gets an answer without internals)
            if self.on_error is not None:
                self.on_error(error)
            text = "The server failed on this request; its log holds the reason."
            return json_response(outcome([Issue("exception", text, severity="fatal")]), 500)

    def find(self, rest: str) -> tuple[dict[str, Handler], Call]:
        """Return the handlers of an address by method, and what the address names."""
        parts = rest.split("/")
        head = parts[0]
        if len(parts) == 1 and head in self.system:
            return self.system[head], Call()
        if not head[:1].isupper():
            return {}, Call()
        if head not in definitions().types:
            raise bad_request("This is not a resource type of FHIR R4.", code="not-supported", status=404)
        if parts[-1] == "" and len(parts) > 1:
            parts.pop()
        second = parts[1] if len(parts) > 1 else ""
        if len(parts) <= 2 and second in self.types:
            return self.allowed("type", second, head, self.types), Call(head)
        if second[:1] in {"$", "_"} or len(parts) > 4:
            return {}, Call(head)
        return self.find_instance(head, second, parts[2:])

    def find_instance(self, kind: str, name: str, rest: list[str]) -> tuple[dict[str, Handler], Call]:
        """Return the handlers of ``Type/id`` and what stands behind it."""
        if not ID.fullmatch(name):
            raise bad_request(f"No {kind} has such an id.", code="not-found", status=404)
        third = rest[0] if rest else ""
        if len(rest) <= 1 and third in self.instances:
            return self.allowed("instance", third, kind, self.instances), Call(kind, name)
        if kind in compartments() and (third == "*" or third in definitions().types) and len(rest) <= 2:
            member = Call("" if third == "*" else third, owner=(kind, name))
            search = {"": self.types[""]["GET"], "_search": self.types["_search"]["POST"]}
            found = search.get(rest[1] if len(rest) == 2 else "")
            return ({"POST" if len(rest) == 2 else "GET": found} if found else {}), member
        if len(rest) != 2 or third != "_history":
            return {}, Call(kind)
        if not rest[1].isdecimal() or len(rest[1]) > _MAX_VERSION_DIGITS:
            raise bad_request("This version does not exist.", code="not-found", status=404)
        return self.versions, Call(kind, name, int(rest[1]))

    def allowed(
        self, level: str, name: str, kind: str, table: dict[str, dict[str, Handler]]
    ) -> dict[str, Handler]:
        """Return the handlers; none where an operation is for other types."""
        limit = self.limits.get((level, name))
        return table[name] if limit is None or kind in limit else {}


def _no_handler(allowed: str) -> Response:
    if not allowed:
        return json_response(
            outcome([Issue("not-found", "This address is no part of the FHIR interface.")]), 404
        )
    answer = json_response(outcome([Issue("not-supported", f"Here are only: {allowed}.")]), 405)
    answer.headers["allow"] = allowed
    return answer
