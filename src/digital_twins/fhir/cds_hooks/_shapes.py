"""The JSON shapes of CDS Hooks 2.0: what is wrong with a request, a response, or a list of services."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from digital_twins.fhir._outcome import Issue
from digital_twins.fhir._validate import ID

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_USER = re.compile(r"(Practitioner|PractitionerRole|Patient|RelatedPerson)/[A-Za-z0-9.\-]{1,64}")
_SELECTION = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9.\-]{1,64}")
_ORDERS = {"order-select": ("draftOrders", "selections"), "order-sign": ("draftOrders",)}
_INDICATORS = {"info", "warning", "critical"}
_ACTIONS = {"create", "update", "delete"}


def _text(node: Mapping[str, Any], name: str, where: str, *, needed: bool = True) -> Iterator[Issue]:
    value = node.get(name)
    if value is None and not needed:
        return
    if not isinstance(value, str) or not value.strip():
        yield Issue("required" if value is None else "value", f"{name} must be a text.", f"{where}.{name}")


def _address(node: Mapping[str, Any], name: str, where: str) -> Iterator[Issue]:
    value = node.get(name)
    if value is not None and (not isinstance(value, str) or urlsplit(value).scheme not in {"http", "https"}):
        yield Issue("value", f"{name} must be an http address.", f"{where}.{name}")


def _objects(node: Mapping[str, Any], name: str, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield place and object of every item of an array; what is no object stands as an empty one."""
    found = node.get(name, [])
    for number, item in enumerate(found if isinstance(found, list) else [None]):
        yield f"{where}.{name}[{number}]", item if isinstance(item, dict) else {}


def request_issues(body: Any) -> list[Issue]:
    """Return what is wrong with the body of a call of a service; empty when nothing is.

    Checked are the fields that CDS Hooks 2.0 requires, the context of patient-view, order-select and
    order-sign (other hooks: that it is an object), and that a prefetched value is a resource or null.
    """
    if not isinstance(body, dict):
        return [Issue("structure", "The request must be a JSON object.", "request")]
    return list(_request(body))


def _request(body: Mapping[str, Any]) -> Iterator[Issue]:
    yield from _text(body, "hook", "request")
    yield from _text(body, "hookInstance", "request")
    try:
        uuid.UUID(str(body.get("hookInstance")))
    except ValueError:
        yield Issue("value", "hookInstance must be a UUID.", "request.hookInstance")
    yield from _address(body, "fhirServer", "request")
    if body.get("fhirAuthorization") is not None and not body.get("fhirServer"):
        yield Issue("required", "fhirAuthorization needs fhirServer.", "request.fhirServer")
    context = body.get("context")
    if not isinstance(context, dict):
        yield Issue("required", "context must be an object.", "request.context")
    else:
        yield from _context(context, str(body.get("hook")))
    prefetch = body.get("prefetch")
    if prefetch is not None and not isinstance(prefetch, dict):
        yield Issue("structure", "prefetch must be an object.", "request.prefetch")
    for name, value in (prefetch or {}).items() if isinstance(prefetch, dict) else ():
        if value is not None and not (isinstance(value, dict) and isinstance(value.get("resourceType"), str)):
            yield Issue(
                "structure", "A prefetched value must be a resource or null.", f"request.prefetch.{name}"
            )


def _context(context: Mapping[str, Any], hook: str) -> Iterator[Issue]:
    where = "request.context"
    if hook not in {"patient-view", *_ORDERS}:
        return
    if not _USER.fullmatch(str(context.get("userId", ""))):
        yield Issue("value", "userId must be Type/id of a person.", f"{where}.userId")
    for name, needed in (("patientId", True), ("encounterId", False)):
        value = context.get(name)
        if (value is None and needed) or (value is not None and not ID.fullmatch(str(value))):
            yield Issue("value", f"{name} must be the bare id of a resource.", f"{where}.{name}")
    yield from _order_context(context, _ORDERS.get(hook, ()), where)


def _order_context(context: Mapping[str, Any], wanted: tuple[str, ...], where: str) -> Iterator[Issue]:
    if "draftOrders" in wanted:
        orders = context.get("draftOrders")
        if not isinstance(orders, dict) or orders.get("resourceType") != "Bundle":
            yield Issue("required", "draftOrders must be a Bundle.", f"{where}.draftOrders")
    if "selections" in wanted:
        selections = context.get("selections")
        if not isinstance(selections, list) or not selections:
            yield Issue("required", "selections must be a list.", f"{where}.selections")
        for text in selections if isinstance(selections, list) else ():
            if not _SELECTION.fullmatch(str(text)):
                yield Issue("value", "A selection must be Type/id.", f"{where}.selections")


def response_issues(body: Any) -> list[Issue]:
    """Return what is wrong with the answer of a service: cards, sources, suggestions, links, actions."""
    if not isinstance(body, dict) or not isinstance(body.get("cards"), list):
        return [Issue("structure", "The response must be an object with the array cards.", "response.cards")]
    found = [issue for where, card in _objects(body, "cards", "response") for issue in _card(card, where)]
    for where, action in _objects(body, "systemActions", "response"):
        found.extend(_action(action, where))
    return found


def _card(card: Mapping[str, Any], where: str) -> Iterator[Issue]:
    yield from _text(card, "summary", where)
    if card.get("indicator") not in _INDICATORS:
        yield Issue("value", "indicator must be info, warning or critical.", f"{where}.indicator")
    source = card.get("source")
    if isinstance(source, dict):
        yield from _text(source, "label", f"{where}.source")
        yield from _address(source, "url", f"{where}.source")
        yield from _address(source, "icon", f"{where}.source")
    else:
        yield Issue("required", "A card needs a source.", f"{where}.source")
    if card.get("suggestions") and card.get("selectionBehavior") not in {"at-most-one", "any"}:
        yield Issue("required", "Suggestions need a selectionBehavior.", f"{where}.selectionBehavior")
    for place, suggestion in _objects(card, "suggestions", where):
        yield from _text(suggestion, "label", place)
        for at, action in _objects(suggestion, "actions", place):
            yield from _action(action, at)
    for place, link in _objects(card, "links", where):
        yield from _text(link, "label", place)
        yield from _text(link, "url", place)
        if link.get("type", "absolute") not in {"absolute", "smart"}:
            yield Issue("value", "The type of a link must be absolute or smart.", f"{place}.type")


def _action(action: Mapping[str, Any], where: str) -> Iterator[Issue]:
    kind = action.get("type")
    if kind not in _ACTIONS:
        yield Issue("value", "An action must create, update or delete.", f"{where}.type")
    yield from _text(action, "description", where)
    resource = action.get("resource")
    if kind in {"create", "update"} and not (isinstance(resource, dict) and resource.get("resourceType")):
        yield Issue("required", "The action needs a resource.", f"{where}.resource")


def services_issues(body: Any) -> list[Issue]:
    """Return what is wrong with the answer of discovery."""
    if not isinstance(body, dict) or not isinstance(body.get("services"), list):
        return [Issue("structure", "Discovery must be an object with the array services.", "services")]
    found: list[Issue] = []
    for where, service in _objects(body, "services", "discovery"):
        for name in ("id", "hook", "description"):
            found.extend(_text(service, name, where))
        found.extend(_text(service, "title", where, needed=False))
        prefetch = service.get("prefetch", {})
        if not isinstance(prefetch, dict) or not all(isinstance(v, str) for v in prefetch.values()):
            found.append(Issue("structure", "prefetch must name queries.", f"{where}.prefetch"))
    return found
