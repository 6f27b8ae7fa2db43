"""One ASGI application of every HTTP door: pages, API, FHIR, DICOMweb, health, metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from digital_twins.fhir import FhirFirst
from digital_twins.server._api import ApiParts, create_api
from digital_twins.server._metrics import CONTENT_TYPE, Metrics
from digital_twins.server._security import Guard
from digital_twins.server._static import STATIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from starlette.requests import Request
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp

    from digital_twins.server._models import Health


def create_app(
    parts: ApiParts,
    *,
    metrics: Metrics,
    health: Callable[[], Health],
    routes: Sequence[BaseRoute] = (),
    hosts: Iterable[str] = (),
    gate: Callable[[ASGIApp], ASGIApp] | None = None,
) -> ASGIApp:
    """Return the application.

    Parameters
    ----------
    parts
        What the API reads.
    metrics
        Counted into, and shown at ``/metrics``.
    health
        Called for each ``/health``; may block for a moment.
    routes
        Routes of other rooms, e.g. mounts of ``/fhir`` and ``/dicom-web``.
    hosts
        Further host names that requests may carry beside the local ones.
    gate
        Wraps the application in what asks people to sign in; none: every door is open.
    """

    def show_health(_: Request) -> Response:
        found = health()
        return Response(
            found.model_dump_json(), 200 if found.status == "ok" else 503, media_type="application/json"
        )

    def show_metrics(_: Request) -> Response:
        return PlainTextResponse(metrics.exposition(), media_type=CONTENT_TYPE)

    def page(name: str) -> Callable[[Request], Response]:
        return lambda _: FileResponse(STATIC / name)

    app: ASGIApp = Starlette(
        routes=[
            Route("/", page("index.html")),
            Route("/patients/{key}", page("patient.html")),
            Route("/queues", page("queues.html")),
            Route("/health", show_health),
            Route("/metrics", show_metrics),
            *routes,
            Mount("/api", create_api(parts)),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]
    )
    app = FhirFirst(app, routes)
    return Guard(app if gate is None else gate(app), metrics=metrics, hosts=hosts)
