"""What a topic subscription says and gets: its filters and payload, and the notification bundles.

Subscriptions R5 Backport (http://hl7.org/fhir/uv/subscriptions-backport), form for R4: a Bundle of type
history whose first entry is a Parameters resource with the status of the subscription.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digital_twins.fhir._dates import to_instant
from digital_twins.fhir._twin_report import TWIN_CODE_SYSTEM

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BASE = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
_STATUS_PROFILE = f"{BASE}backport-subscription-status-r4"
_RESULT = f"{TWIN_CODE_SYSTEM}|digital-twin-analysis"
TOPICS: Mapping[str, tuple[str, ...]] = {
    "urn:digital-twins:SubscriptionTopic:twin-result": (f"DiagnosticReport?code={_RESULT}",),
    "urn:digital-twins:SubscriptionTopic:patient-data": (
        "Condition?",
        "Observation?",
        "DiagnosticReport?",
        "ImagingStudy?",
        "MedicationAdministration?",
        "Procedure?",
    ),
    "urn:digital-twins:SubscriptionTopic:encounter": ("Encounter?",),
}
"""Topics of a node by canonical address, and the searches that trigger them."""
_CONTENTS = {"empty", "id-only", "full-resource"}


@dataclass(frozen=True, slots=True)
class Wish:
    """What a Subscription resource asks for, ready to be matched.

    ``topic`` is empty for a subscription by criteria; ``queries`` are the searches of which one must find the
    resource, ``filters`` those of its type that must find it too.
    """

    name: str
    topic: str
    queries: tuple[str, ...]
    filters: tuple[str, ...]
    endpoint: str
    headers: tuple[str, ...]
    payload: str
    content: str
    heartbeat_s: int
    timeout_s: int


def wish_of(resource: Mapping[str, Any]) -> Wish:
    """Return what a Subscription asks for; what it lacks is empty."""
    channel = resource.get("channel", {})
    criteria = str(resource.get("criteria", ""))
    topic = criteria if criteria in TOPICS or "?" not in criteria else ""
    content = str(_extension(channel.get("_payload"), "backport-payload-content") or "empty")
    heartbeat = _extension(channel, "backport-heartbeat-period")
    timeout = _extension(channel, "backport-timeout")
    filters = _extensions(resource.get("_criteria"), "backport-filter-criteria")
    return Wish(
        name=str(resource.get("id", "")),
        topic=topic,
        queries=TOPICS.get(topic, ()) if topic else (criteria,),
        filters=tuple(str(text) for text in filters),
        endpoint=str(channel.get("endpoint", "")),
        headers=tuple(str(line) for line in channel.get("header", ())),
        payload=str(channel.get("payload", "")),
        content=content if content in _CONTENTS else "empty",
        heartbeat_s=heartbeat if isinstance(heartbeat, int) else 0,
        timeout_s=min(timeout, 60) if isinstance(timeout, int) and timeout > 0 else 30,
    )


def _extensions(node: Any, name: str) -> list[Any]:
    found = node.get("extension", ()) if isinstance(node, dict) else ()
    return [
        next((value for key, value in each.items() if key.startswith("value")), None)
        for each in found
        if isinstance(each, dict) and each.get("url") == f"{BASE}{name}"
    ]


def _extension(node: Any, name: str) -> Any:
    return next(iter(_extensions(node, name)), None)


def status_parameters(
    wish: Wish, *, status: str, kind: str, events: int, event: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the Parameters that tell where a subscription stands.

    Parameters
    ----------
    wish
        Of the subscription.
    status
        ``Subscription.status``.
    kind
        ``"handshake"``, ``"heartbeat"``, ``"event-notification"`` or ``"query-status"``.
    events
        Events since the subscription began.
    event
        ``{"number", "at_us", "focus"}`` of the event that is told.
    """
    parameters: list[dict[str, Any]] = [
        {"name": "subscription", "valueReference": {"reference": f"Subscription/{wish.name}"}},
        {"name": "topic", "valueCanonical": wish.topic},
        {"name": "status", "valueCode": status},
        {"name": "type", "valueCode": kind},
        {"name": "events-since-subscription-start", "valueString": str(events)},
    ]
    if event is not None:
        parts: list[dict[str, Any]] = [
            {"name": "event-number", "valueString": str(event["number"])},
            {"name": "timestamp", "valueInstant": to_instant(event["at_us"])},
        ]
        if wish.content != "empty":
            parts.append({"name": "focus", "valueReference": {"reference": event["focus"]}})
        parameters.append({"name": "notification-event", "part": parts})
    return {
        "resourceType": "Parameters",
        "id": str(uuid.uuid4()),
        "meta": {"profile": [_STATUS_PROFILE]},
        "parameter": [each for each in parameters if each.get("valueCanonical") != ""],
    }


def notification(
    parameters: dict[str, Any], wish: Wish, *, base_url: str, focus: Sequence[Any] = ()
) -> dict[str, Any]:
    """Return the notification Bundle.

    Parameters
    ----------
    parameters
        As `status_parameters` returns them.
    wish
        Of the subscription.
    base_url
        Address of the FHIR base, for full addresses.
    focus
        ``(reference, resource)`` of what the event is about; the resource is None unless it is sent along.
    """
    entries: list[dict[str, Any]] = [
        {
            "fullUrl": f"urn:uuid:{parameters['id']}",
            "resource": parameters,
            "request": {"method": "GET", "url": f"{base_url}/Subscription/{wish.name}/$status"},
            "response": {"status": "200"},
        }
    ]
    for reference, resource in focus:
        entry: dict[str, Any] = {"fullUrl": f"{base_url}/{reference}"}
        if resource is not None:
            entry["resource"] = resource
        entries.append(
            {**entry, "request": {"method": "PUT", "url": reference}, "response": {"status": "200"}}
        )
    return {
        "resourceType": "Bundle",
        "id": str(uuid.uuid4()),
        "type": "history",
        "timestamp": to_instant_now(),
        "entry": entries,
    }


def to_instant_now() -> str:
    """Return the present instant."""
    from digital_twins.fhir._write import now_us

    return to_instant(now_us())
