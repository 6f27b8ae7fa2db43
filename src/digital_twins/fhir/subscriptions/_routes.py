"""The operation ``$status`` of a Subscription (Subscriptions R5 Backport)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.routing import Route

from digital_twins.fhir._edge import base_of, guarded
from digital_twins.fhir._http import json_response
from digital_twins.fhir._operations import announced

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from digital_twins.fhir.subscriptions._service import Subscriptions


SUBSCRIPTION_OPERATIONS = (
    announced(
        "status",
        "http://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition/backport-subscription-status",
        "instance",
        "Subscription",
    ),
)
"""``$status`` for the CapabilityStatement; `subscription_routes` serves it."""


def subscription_routes(
    subscriptions: Subscriptions, *, base: str = "/fhir", public_url: str | None = None
) -> list[Route]:
    """Return the route of ``$status``; it must stand before those of the REST interface.

    Parameters
    ----------
    subscriptions
        What knows the event numbers.
    base
        Path of the FHIR base on this server.
    public_url
        Address of the base, when a proxy stands in front.
    """

    async def status(request: Request) -> Response:
        name = request.path_params["id"]
        found = await asyncio.to_thread(subscriptions.status, name)
        here = base_of(request, base, public_url)
        entry = {
            "fullUrl": f"urn:uuid:{found['id']}",
            "resource": found,
            "search": {"mode": "match"},
        }
        link = [{"relation": "self", "url": f"{here}/Subscription/{name}/$status"}]
        return json_response(
            {"resourceType": "Bundle", "type": "searchset", "total": 1, "link": link, "entry": [entry]}
        )

    return [Route(f"{base.rstrip('/')}/Subscription/{{id}}/$status", guarded(status), methods=["GET"])]
