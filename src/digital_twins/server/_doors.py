"""The HTTP doors of a node wired to its rooms."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

import orjson
from starlette.routing import Mount, Router

from digital_twins.server._acting import agent_name
from digital_twins.server._api import ApiParts
from digital_twins.server._app import create_app
from digital_twins.server._cors import with_cors
from digital_twins.server._gate import Gate
from digital_twins.server._operations import retention_rules
from digital_twins.server._operations_api import Operations
from digital_twins.server._signed_reports import report_signing

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal

    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from digital_twins.auth import Authority
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
    authority: Authority | None = None,
) -> ASGIApp:
    """Return the application with FHIR and DICOMweb on the stores of `services`.

    With an `authority` every request passes the gate; without one all doors are open.
    """
    from digital_twins.auth import acting_as, auth_routes
    from digital_twins.dicom import dicomweb_routes

    def audit(action: Literal["R", "U"], kind: str, entity: str, patient_id: str | None) -> None:
        web = services.auditor.acting(agent_name("web"))
        services.audit(web.event(action, kind, entity=entity, patient_id=patient_id))

    def stored(found: Stored) -> None:
        with acting_as(None):
            on_stored(found)

    def record_changed() -> None:
        with acting_as(None):
            on_record()

    web_routes = dicomweb_routes(
        services.dicom,
        on_stored=stored,
        authorize=None if authority is None else lambda *_: agent_name("web"),
        max_object_bytes=settings.max_object_bytes,
        max_file_bytes=settings.max_dicom_object_bytes,
    )
    signing_in = auth_routes(authority, patients=lambda: patients_of(services)) if authority else []
    services.metrics.gauge("twin_jobs", services.job_counts)
    app = create_app(
        ApiParts(
            services.catalogue,
            services.jobs,
            audit,
            stopping,
            services.queues,
            services.stale,
            Operations(services, retention_rules(settings), on_changed=record_changed),
            report_signing(services, settings, authority),
        ),
        metrics=services.metrics,
        health=health,
        routes=[
            *(each for each in signing_in if each.path.startswith("/fhir/")),
            *_fhir_doors(services, subscriptions, settings, authority),
            # Behind the FHIR routes: each request there would be compared with every one of these first.
            *(each for each in signing_in if not each.path.startswith("/fhir/")),
            Mount("/dicom-web", with_cors(_query_accept(Router(web_routes)), settings.dicomweb_cors_origins)),
        ],
        hosts=(settings.host, socket.gethostname(), urlsplit(settings.public_url).hostname or settings.host),
        gate=None if authority is None else lambda inner: Gate(inner, authority),
    )
    return _watch_records(app, record_changed)


def _fhir_doors(
    services: Services, subscriptions: Subscriptions, settings: Settings, authority: Authority | None
) -> list[BaseRoute]:
    """Return the routes of the FHIR base, CDS Hooks, bulk export and subscriptions."""
    from digital_twins.fhir import FhirFeatures, fhir_routes
    from digital_twins.fhir.bulk import BULK_OPERATIONS, bulk_routes
    from digital_twins.fhir.cds_hooks import CdsHooks, cds_routes
    from digital_twins.fhir.subscriptions import SUBSCRIPTION_OPERATIONS, subscription_routes

    fhir_url = f"{settings.public_url.rstrip('/')}/fhir" if settings.public_url else None
    return [
        *cds_routes(CdsHooks(services.fhir, verify=lambda _: agent_name("anonymous")), public_url=fhir_url),
        *bulk_routes(
            services.exports,
            public_url=fhir_url,
            agent=lambda _: agent_name("anonymous"),
            requires_token=authority is not None,
        ),
        *subscription_routes(subscriptions, public_url=fhir_url),
        *fhir_routes(
            services.fhir,
            base="/fhir",
            validation=services.validation,
            agent=lambda _: agent_name("anonymous"),
            public_url=fhir_url,
            features=FhirFeatures(
                (*BULK_OPERATIONS, *SUBSCRIPTION_OPERATIONS),
                oauth=authority.oauth_addresses if authority else None,
            ),
        ),
    ]


def patients_of(services: Services, *, limit: int = 200) -> list[tuple[str, str]]:
    """Return ids and labels of patients that the person who acts may choose from at a launch."""
    page = services.fhir.search("Patient", {"_count": str(limit)}, agent=agent_name("web"))
    return [(hit.id, _label(hit.id, orjson.loads(hit.body))) for hit in page.matches]


def _label(name: str, patient: dict[str, Any]) -> str:
    names = patient.get("name") or [{}]
    words = [*names[0].get("given", ()), names[0].get("family", "")]
    shown = names[0].get("text") or " ".join(filter(None, words)) or name
    return f"{shown}, {patient['birthDate']}" if "birthDate" in patient else shown


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
