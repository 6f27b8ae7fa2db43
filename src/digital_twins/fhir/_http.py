"""What FHIR says about HTTP: content types, headers, preferences and bounded bodies."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from digital_twins.fhir._json import MAX_BODY_BYTES, dumps, loads, too_large
from digital_twins.fhir._outcome import FhirError, Issue
from digital_twins.fhir._xml import resource_from_xml
from digital_twins.fhir._xml_write import resource_to_xml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from digital_twins.fhir._write import Saved

FHIR_JSON = "application/fhir+json; charset=utf-8"
_CONTENT_TYPE = (b"content-type", FHIR_JSON.encode())
_JSON_TYPES = {"application/fhir+json", "application/json", "text/json", "application/json+fhir"}
_FHIR_XML = "application/fhir+xml"
_XML_TYPES = {_FHIR_XML, "application/xml", "text/xml", "application/xml+fhir"}
FHIR_XML = "application/fhir+xml; charset=utf-8"
_KEPT_TEXT = 128
"""Longest criterion whose decoded text is kept for the next search."""
_ACCEPTED = {*_JSON_TYPES, "*/*", "application/*", "text/*"}


class _FhirResponse(Response):
    """A response whose headers are known: those of Starlette's are gathered anew for each."""

    def __init__(self, body: bytes, status: int, headers: Mapping[str, str]) -> None:
        self.status_code = status
        self.background = None
        self.body = body
        self.raw_headers = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        self.raw_headers.append((b"content-length", b"%d" % len(body)))
        self.raw_headers.append(_CONTENT_TYPE)


def fhir_response(body: bytes, status: int = 200, *, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with the FHIR JSON content type; names of headers in small letters."""
    return _FhirResponse(body, status, headers or {})


def json_response(resource: Mapping[str, Any], status: int = 200) -> Response:
    """Return a resource that is not stored, e.g. an OperationOutcome."""
    return fhir_response(dumps(resource), status)


def query_pairs(text: str) -> list[tuple[str, str]]:
    """Return names and values of a query as ``urllib.parse.parse_qsl`` does, blank values too.

    Most names and values of a search are plain text, and nothing is to be decoded.
    """
    pairs = []
    for part in text.split("&"):
        if part:
            name, _, value = part.partition("=")
            if "%" in part or "+" in part:
                decode = _decoded if len(part) <= _KEPT_TEXT else unquote_plus
                name, value = decode(name), decode(value)
            pairs.append((name, value))
    return pairs


@lru_cache(maxsize=1024)
def _decoded(text: str) -> str:
    """Return a name or value without its escapes: codes with their systems are sent again and again."""
    return unquote_plus(text)


def http_date(microseconds: int) -> str:
    """Return the HTTP date of a moment in microseconds since 1970."""
    return _http_date(microseconds // 1_000_000)


@lru_cache(maxsize=4096)
def _http_date(seconds: int) -> str:
    return format_datetime(datetime.fromtimestamp(seconds, tz=UTC), usegmt=True)


def header(request: Request, name: bytes, otherwise: str = "") -> str:
    """Return the first value of a header; ``name`` in small letters, as ASGI gives them."""
    for found, value in request.scope["headers"]:
        if found == name:
            return str(value, "latin-1")
    return otherwise


def version_headers(saved: Saved) -> dict[str, str]:
    """Return ETag and Last-Modified of a version."""
    return {"etag": saved.etag, "last-modified": http_date(saved.updated)}


def wants_xml(request: Request) -> bool:
    """Whether the answer is to be XML: by ``_format``, else by Accept; JSON where both will do.

    Raises
    ------
    FhirError
        406 when neither will do.
    """
    wanted = request.query_params.get("_format") if b"_format" in request.scope["query_string"] else None
    accept = header(request, b"accept", "*/*")
    if wanted is None and accept in _ACCEPTED:
        return False
    if wanted is not None:
        name = wanted.partition(";")[0].strip().replace(" ", "+")
        if name in {*_JSON_TYPES, "json"}:
            return False
        acceptable = name in {*_XML_TYPES, "xml"}
    else:
        quality = _qualities(accept)
        json, xml = (
            max((quality.get(t, 0.0) for t in types), default=0.0) for types in (_ACCEPTED, _XML_TYPES)
        )
        if json > 0 and (json >= xml or quality.get(_FHIR_XML, 0.0) < xml):
            return False  # XML goes before JSON only under FHIR's own name: browsers take any XML
        acceptable = xml > 0
    if not acceptable:
        issue = Issue(
            "not-supported", "This server answers in application/fhir+json and application/fhir+xml."
        )
        raise FhirError(406, [issue], fix="Send Accept: application/fhir+json.")
    return True


def _qualities(accept: str) -> dict[str, float]:
    """Return media type -> how much it is wanted (RFC 9110 section 12.5.1)."""
    found = {}
    for part in accept.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        given = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            found[name] = float(given)
        except ValueError:
            found[name] = 1.0
    return found


async def as_xml(response: Response) -> Response:
    """Return a FHIR response with its resource as XML; others as they are."""
    if (b"content-type", FHIR_JSON.encode()) not in response.raw_headers or not response.body:
        return response
    body = await asyncio.to_thread(_converted, bytes(response.body))
    kept = {b"content-length", b"content-type", b"vary"}
    response.raw_headers = [pair for pair in response.raw_headers if pair[0] not in kept]
    response.raw_headers += [
        (b"content-length", b"%d" % len(body)),
        (b"content-type", FHIR_XML.encode()),
        (b"vary", b"accept"),
    ]
    response.body = body
    return response


def _converted(body: bytes) -> bytes:
    return resource_to_xml(loads(body))


async def json_body(request: Request) -> bytes:
    """Return the body of a request that carries FHIR JSON.

    Raises
    ------
    FhirError
        415 for another content type, 413 beyond 32 MB (read no further than that).
    """
    kind = header(request, b"content-type").partition(";")[0].strip().lower()
    if kind not in _JSON_TYPES:
        issue = Issue("not-supported", "The content type must be application/fhir+json.")
        raise FhirError(415, [issue], fix="Send Content-Type: application/fhir+json.")
    return await bounded_body(request)


async def resource_body(request: Request) -> bytes:
    """Return the body of a request that carries a resource, as JSON; it may come as XML.

    Raises
    ------
    FhirError
        415 for another content type, 413 beyond 32 MB (read no further than that).
    InputError
        XML that is no FHIR R4, or has a document type.
    """
    kind = header(request, b"content-type").partition(";")[0].strip().lower()
    if kind not in _XML_TYPES:
        return await json_body(request)
    raw = await bounded_body(request)
    return dumps(await asyncio.to_thread(resource_from_xml, raw))


async def bounded_body(request: Request, *, limit: int = MAX_BODY_BYTES) -> bytes:
    """Return the body, reading no more than ``limit`` bytes of it."""
    declared = header(request, b"content-length")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large(limit)
    parts: list[bytes] = []
    size, receive, more = 0, request.receive, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise too_large(limit)
        parts.append(part)
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def preference(request: Request, name: str) -> str:
    """Return one value of the Prefer header, e.g. ``preference(request, "return")``; empty when not given."""
    said = header(request, b"prefer")
    if not said:
        return ""
    for part in said.replace(";", ",").split(","):
        key, _, value = part.strip().partition("=")
        if key.lower() == name:
            return value.strip().strip('"').lower()
    return ""
