"""Search and history bundles, put together from stored bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import orjson

from digital_twins.fhir._dates import to_instant
from digital_twins.fhir._definitions import definitions
from digital_twins.fhir._outcome import bad_request, outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from digital_twins.fhir._history import HistoryPage
    from digital_twins.fhir._hits import Hit
    from digital_twins.fhir._query import Query
    from digital_twins.fhir._search import SearchPage

_SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}
_ALWAYS = {"resourceType", "id", "meta"}


def shaped(body: bytes, parameters: Sequence[tuple[str, str]]) -> bytes:
    """Return a resource that is read by itself as ``_summary`` or ``_elements`` asks for it (search 3.1.1.5).

    Raises
    ------
    FhirError
        400 for a ``_summary`` that is not true, false, text or data.
    """
    summary, elements = "false", list[str]()
    for name, text in parameters:
        if name == "_summary":
            summary = text
        elif name == "_elements":
            elements.extend(text.split(","))
    if summary not in {"true", "false", "text", "data"}:
        raise bad_request("_summary of a read must be true, false, text or data.", code="value")
    return _subset(body, summary, elements) if elements or summary != "false" else body


def _subset(body: bytes, summary: str, elements: Sequence[str]) -> bytes:
    """Return the body cut to ``_summary`` or ``_elements``, tagged SUBSETTED; mandatory elements stay."""
    resource = orjson.loads(body)
    kind = resource["resourceType"]
    shape = definitions().structures[kind]
    keep = _ALWAYS | {name for name, row in shape.items() if row[0]}
    if summary == "data":
        keep = set(resource) - {"text"}
    elif summary == "text":
        keep |= {"text"}
    elif summary == "true":
        keep |= set(definitions().summary[kind])
    else:
        wanted = set(elements)
        keep |= {name for name, row in shape.items() if name in wanted or (len(row) > 3 and row[3] in wanted)}
    cut = {name: value for name, value in resource.items() if name.lstrip("_") in keep}
    meta = cut.setdefault("meta", {})
    meta["tag"] = [*meta.get("tag", ()), _SUBSETTED]
    return orjson.dumps(cut)


def local_values(pairs: Sequence[tuple[str, str]], base_url: str) -> list[tuple[str, str]]:
    """Return search parameters without the server's own address, which may stand before a reference."""
    own = f"{base_url}/"
    return [
        (name, text.replace(own, "") if name == "_filter" else text.removeprefix(own)) for name, text in pairs
    ]


def searchset(query: Query, page: SearchPage, base_url: str) -> bytes:
    """Return the searchset Bundle of one page, with ``self`` and ``next`` links.

    Bodies are copied as they are stored, unless ``_summary`` or ``_elements`` asks for less.
    """
    place = query.place or query.type
    here = f"{base_url}/{place}" if place else base_url
    own = f"{here}?{query.asked}" if query.asked else _link(here, query.used)
    links = [{"relation": "self", "url": own}]
    if page.next_cursor:
        mark = "&" if query.used else "?"
        links.append({"relation": "next", "url": f"{own}{mark}_cursor={page.next_cursor}"})
    head: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset"}
    if page.total is not None:
        head["total"] = page.total
    head["link"] = links
    cut = bool(query.elements) or query.summary not in {"false", "count"}
    entries = []
    for hit in page.hits:
        body = _subset(hit.body, query.summary, query.elements) if cut else hit.body
        entries.append(_entry(base_url, hit, body))
    if query.warnings:
        warning = {"resource": outcome(query.warnings), "search": {"mode": "outcome"}}
        entries.append(orjson.dumps(warning))
    text = orjson.dumps(head)
    return text[:-1] + (b',"entry":[' + b",".join(entries) + b"]}" if entries else b"}")


def _link(here: str, parameters: Sequence[tuple[str, str]]) -> str:
    return f"{here}?{urlencode(parameters)}" if parameters else here


def _entry(base_url: str, hit: Hit, body: bytes) -> bytes:
    place = f"{base_url}/{hit.type}/{hit.id}".encode()
    return b'{"fullUrl":"%b","resource":%b,"search":{"mode":"%b"}}' % (place, body, hit.mode.encode())


def linked_bundle(base_url: str, here: str, used: Sequence[tuple[str, str]], page: SearchPage) -> bytes:
    """Return a searchset of whole resources with ``self`` and ``next`` links to the address ``here``."""
    links = [{"relation": "self", "url": _link(here, used)}]
    if page.next_cursor:
        links.append({"relation": "next", "url": _link(here, [*used, ("_cursor", page.next_cursor)])})
    text = orjson.dumps({"resourceType": "Bundle", "type": "searchset", "link": links})
    entries = [_entry(base_url, hit, hit.body) for hit in page.hits]
    return text[:-1] + (b',"entry":[' + b",".join(entries) + b"]}" if entries else b"}")


def history_bundle(
    page: HistoryPage, base_url: str, here: str, used: Sequence[tuple[str, str]] = ()
) -> bytes:
    """Return a history Bundle of one page, newest version first, with links to the address ``here``."""
    entries = []
    for saved in page.versions:
        entry: dict[str, Any] = {"fullUrl": f"{base_url}/{saved.reference}"}
        if not saved.deleted:
            entry["resource"] = orjson.Fragment(saved.body)
        method = saved.method
        url = saved.type if method == "POST" else saved.reference
        entry["request"] = {"method": method, "url": url}
        status = {"POST": "201", "DELETE": "204"}.get(method, "200")
        entry["response"] = {"status": status, "etag": saved.etag, "lastModified": to_instant(saved.updated)}
        entries.append(entry)
    links = [{"relation": "self", "url": _link(here, used)}]
    if page.next_position:
        links.append({"relation": "next", "url": _link(here, [*used, ("_cursor", page.next_position)])})
    head: dict[str, Any] = {"resourceType": "Bundle", "type": "history", "link": links}
    if entries:
        head["entry"] = entries
    return orjson.dumps(head)
