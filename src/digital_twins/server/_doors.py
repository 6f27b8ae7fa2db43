"""The HTTP doors of a node wired to its rooms."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from starlette.routing import Mount, Router

from digital_twins.server._api import ApiParts
from digital_twins.server._app import create_app
from digital_twins.server._cors import with_cors
from digital_twins.server._operations import retention_rules
from digital_twins.server._operations_api import Operations

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from digital_twins.config import Settings
    from digital_twins.dicom import Stored
    from digital_twins.fhir.subscriptions import Subscriptions
    from digital_twins.server._models import Health
    from digital_twins.server._services import Services

_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


def node_app(
    services: Services,
    *,
    subscriptions: Subscriptions,
    health: Callable[[], Health],
    on_stored: Callable[[Stored], None],
    on_record: Callable[[], None],
    stopping: Callable[[], bool],
    settings: Settings,
) -> ASGIApp:
    """Return the application with FHIR and DICOMweb on the stores of `services`."""
    from digital_twins.dicom import dicomweb_routes
    from digital_twins.fhir import fhir_routes
    from digital_twins.fhir.bulk import bulk_routes
    from digital_twins.fhir.cds_hooks import CdsHooks, cds_routes
    from digital_twins.fhir.subscriptions import subscription_routes

    web = services.auditor.acting("web")

    def audit(action: Literal["R", "U"], kind: str, entity: str, patient_id: str | None) -> None:
        services.audit(web.event(action, kind, entity=entity, patient_id=patient_id))

    web_routes = dicomweb_routes(
        services.dicom, on_stored=on_stored, max_object_bytes=settings.max_object_bytes
    )
    services.metrics.gauge("twin_jobs", services.job_counts)
    app = create_app(
        ApiParts(
            services.catalogue,
            services.jobs,
            audit,
            stopping,
            services.queues,
            services.stale,
            Operations(services, retention_rules(settings), on_changed=on_record),
        ),
        metrics=services.metrics,
        health=health,
        routes=[
            *cds_routes(CdsHooks(services.fhir)),
            *bulk_routes(services.exports),
            *subscription_routes(subscriptions),
            *fhir_routes(services.fhir, base="/fhir", validation=services.validation),
            Mount("/dicom-web", with_cors(_query_accept(Router(web_routes)), settings.dicomweb_cors_origins)),
        ],
        hosts=(settings.host, socket.gethostname()),
    )
    return _watch_records(app, on_record)


def _query_accept(app: ASGIApp) -> ASGIApp:
    """Let the query parameter ``accept`` stand for the header (PS3.18 section 8.3.3.1): links can say it."""

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        asked = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        wanted = [value for name, value in asked if name == "accept"]
        if wanted:
            rest = urlencode([(name, value) for name, value in asked if name != "accept"])
            headers = [(name, value) for name, value in scope["headers"] if name != b"accept"]
            headers.append((b"accept", wanted[0].encode("latin-1", "replace")))
            scope = {**scope, "headers": headers, "query_string": rest.encode("latin-1")}
        await app(scope, receive, send)

    return answered


def _watch_records(app: ASGIApp, on_record: Callable[[], None]) -> ASGIApp:
    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope.get("path", ""))
        writes = scope["type"] == "http" and scope["method"] in _WRITES and path.split("/")[1:2] == ["fhir"]
        if not writes or path.endswith("/_search"):
            await app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start" and message["status"] < 300:
                on_record()

        await app(scope, receive, answer)

    return watched
