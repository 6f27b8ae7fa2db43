"""Subscriptions: REST hooks by criteria (FHIR R4) and by topic (Subscriptions R5 Backport, R4 form)."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.fhir.subscriptions._bundles import TOPICS as TOPICS
    from digital_twins.fhir.subscriptions._deliver import allowed_endpoint as allowed_endpoint
    from digital_twins.fhir.subscriptions._routes import (
        SUBSCRIPTION_OPERATIONS as SUBSCRIPTION_OPERATIONS,
        subscription_routes as subscription_routes,
    )
    from digital_twins.fhir.subscriptions._service import (
        NOTIFY as NOTIFY,
        Subscriptions as Subscriptions,
    )
    from digital_twins.fhir.subscriptions._tables import MIGRATIONS as MIGRATIONS

_ROOM = "digital_twins.fhir.subscriptions"
_WHERE = {
    "TOPICS": f"{_ROOM}._bundles",
    "allowed_endpoint": f"{_ROOM}._deliver",
    **dict.fromkeys(("SUBSCRIPTION_OPERATIONS", "subscription_routes"), f"{_ROOM}._routes"),
    "MIGRATIONS": f"{_ROOM}._tables",
    **dict.fromkeys(("NOTIFY", "Subscriptions"), f"{_ROOM}._service"),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
