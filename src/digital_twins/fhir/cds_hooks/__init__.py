"""CDS Hooks 2.0: discovery, calls, cards, feedback; and the cards that offer the findings of a twin."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.fhir.cds_hooks._cards import (
        TWIN_SERVICES as TWIN_SERVICES,
        CdsService as CdsService,
        order_cards as order_cards,
        twin_cards as twin_cards,
    )
    from digital_twins.fhir.cds_hooks._routes import CdsHooks as CdsHooks, cds_routes as cds_routes
    from digital_twins.fhir.cds_hooks._shapes import (
        request_issues as request_issues,
        response_issues as response_issues,
        services_issues as services_issues,
    )

_ROOM = "digital_twins.fhir.cds_hooks"
_WHERE = {
    **dict.fromkeys(("TWIN_SERVICES", "CdsService", "order_cards", "twin_cards"), f"{_ROOM}._cards"),
    **dict.fromkeys(("CdsHooks", "cds_routes"), f"{_ROOM}._routes"),
    **dict.fromkeys(("request_issues", "response_issues", "services_issues"), f"{_ROOM}._shapes"),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
