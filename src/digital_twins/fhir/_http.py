"""What FHIR says about HTTP: content types, headers, preferences and bounded bodies."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from digital_twins.fhir._json import MAX_BODY_BYTES, dumps, too_large
from digital_twins.fhir._outcome import FhirError, Issue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from digital_twins.fhir._write import Saved

FHIR_JSON = "application/fhir+json; charset=utf-8"
_CONTENT_TYPE = (b"content-type", FHIR_JSON.encode())
_JSON_TYPES = {"application/fhir+json", "application/json", "text/json", "application/json+fhir"}
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
                name, value = unquote_plus(name), unquote_plus(value)
            pairs.append((name, value))
    return pairs


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


def check_accept(request: Request) -> None:
    """Refuse a request that does not take JSON (406)."""
    wanted = request.query_params.get("_format") if b"_format" in request.scope["query_string"] else None
    accept = header(request, b"accept", "*/*")
    if wanted is None and accept in _ACCEPTED:
        return
    if wanted is not None:
        acceptable = wanted.partition(";")[0].strip().replace(" ", "+") in {*_JSON_TYPES, "json"}
    else:
        acceptable = any(part.partition(";")[0].strip().lower() in _ACCEPTED for part in accept.split(","))
    if not acceptable:
        issue = Issue("not-supported", "This server answers in application/fhir+json only.")
        raise FhirError(406, [issue], fix="Send Accept: application/fhir+json.")


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
    """Return the body of a request that carries a resource, as JSON; see `json_body`."""
    return await json_body(request)


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
