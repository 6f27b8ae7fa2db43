"""What the synchronous and the asynchronous client share: requests, answers, retries and errors.

No message of an error and no log line holds an address, an id or a text of the server: they may name a
patient.
"""

from __future__ import annotations

import random
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import orjson

from digital_twins._errors import ConflictError, DigitalTwinError, InputError, NotFoundError
from digital_twins._logging import get_logger
from digital_twins.fhir._resource import FHIRResource
from digital_twins.fhir._twin_report import corrected_report

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

MEDIA_TYPE = "application/fhir+json"
_IDEMPOTENT = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}
_TOO_MANY = 429
_RETRIED = {_TOO_MANY, 502, 503, 504}
_LONGEST_WAIT_S = 60.0


class FHIRRequestError(DigitalTwinError):
    """The FHIR server could not be reached or did not do what was asked.

    Attributes
    ----------
    status
        HTTP status of the answer, None when there was none.
    """

    http_status = 502

    def __init__(self, what: str, why: str, fix: str, *, status: int | None = None) -> None:
        super().__init__(what, why, fix)
        self.status = status


@dataclass(frozen=True, slots=True)
class Call:
    """One request: path below the base or a whole address (paging), and what goes with it."""

    method: str
    path: str
    params: Sequence[tuple[str, str]] = ()
    body: bytes | None = None
    headers: Mapping[str, str] | None = None
    what: str = "The FHIR request failed."


def read_credentials(path: str | os.PathLike[str]) -> str:
    """Return the access token of a credentials file, ``{"access_token": "..."}``.

    Raises
    ------
    InputError
        The file is missing, readable by others than its owner (it must have mode 0600 or less), or holds no
        token.
    """
    place = Path(path)
    what = "The credentials file cannot be used."
    try:
        mode = place.stat().st_mode
        content = orjson.loads(place.read_bytes())
    except OSError:
        raise InputError(what, "It cannot be read.", "Check credentials_path.") from None
    except orjson.JSONDecodeError:
        raise InputError(what, "It is not JSON.", 'Write {"access_token": "..."}.') from None
    if stat.S_IMODE(mode) & 0o077:
        raise InputError(what, "Others than its owner may read it.", f"chmod 600 {place.name}")
    token = content.get("access_token") if isinstance(content, dict) else None
    if not isinstance(token, str) or not token:
        raise InputError(what, "It holds no access_token.", 'Write {"access_token": "..."}.')
    return token


def checked_base(base_url: str) -> str:
    """Return the base address without a slash at its end; InputError when it is no http address."""
    parts = urlsplit(base_url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise InputError(
            "The FHIR base address cannot be used.",
            "It does not start with http:// or https:// and a host.",
            "Give base_url like https://fhir.hospital.example/R4.",
        )
    return base_url.rstrip("/")


def search_pairs(params: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Return search parameters as pairs; a list of values repeats its name (AND)."""

    def text(value: Any) -> str:
        return str(value).lower() if isinstance(value, bool) else str(value)

    pairs: list[tuple[str, str]] = []
    for name, value in (params or {}).items():
        values = value if isinstance(value, list | tuple) else [value]
        pairs.extend((name, text(one)) for one in values)
    return pairs


def outgoing(resource: Mapping[str, Any], kind: str | None = None) -> tuple[dict[str, Any], str]:
    """Return the resource to send, with a digital twin report corrected, and its type.

    Raises
    ------
    InputError
        The resource has no type, or another than ``kind``.
    """
    found = resource.get("resourceType")
    if not isinstance(found, str) or (kind is not None and found != kind):
        raise InputError(
            "The resource cannot be sent.",
            "Its resourceType is missing or differs from the type of the call.",
            "Set resourceType.",
        )
    corrected, changes = corrected_report(resource)
    if changes:
        get_logger(__name__).warning("fhir.report.corrected", count=len(changes), reason="; ".join(changes))
    return corrected, found


def corrected_bundle(bundle: Mapping[str, Any]) -> dict[str, Any]:
    """Return a bundle with every resource as `outgoing` would send it."""
    entries = []
    for entry in bundle.get("entry", ()):
        inner = entry.get("resource")
        entries.append({**entry, "resource": outgoing(inner)[0]} if isinstance(inner, dict) else entry)
    return {**bundle, "entry": entries} if entries else dict(bundle)


def retry_delay(call: Call, attempt: int, outcome: httpx.Response | httpx.TransportError) -> float | None:
    """Return the seconds to wait before another attempt, None to give up.

    Repeated are calls that may be sent twice (GET, PUT, DELETE) after 502, 503, 504 or a lost connection, and
    any call after 429 (the server did nothing yet) or whose connection was never made. ``Retry-After`` is
    honoured up to a minute.
    """
    if isinstance(outcome, httpx.Response):
        repeatable = call.method in _IDEMPOTENT or outcome.status_code == _TOO_MANY
        if outcome.status_code not in _RETRIED or not repeatable:
            return None
        wished = outcome.headers.get("retry-after", "")
        if wished.isdecimal():
            return min(float(wished), _LONGEST_WAIT_S)
    elif call.method not in _IDEMPOTENT and not isinstance(outcome, httpx.ConnectError):
        return None
    return float(min(0.2 * 2**attempt, 10.0)) * random.uniform(0.5, 1.0)  # noqa: S311  (spreads retries, no secret)


def unreachable(call: Call, error: httpx.TransportError) -> FHIRRequestError:
    """Return the error for a server that gave no answer."""
    reason = (
        "It took too long to answer."
        if isinstance(error, httpx.TimeoutException)
        else "It could not be reached."
    )
    return FHIRRequestError(call.what, reason, "Check base_url, the network and that the server runs.")


def answer_of(call: Call, response: httpx.Response) -> FHIRResource:
    """Return the parsed answer; an empty one becomes an empty resource.

    Raises
    ------
    NotFoundError, ConflictError, InputError, FHIRRequestError
        By the HTTP status; the reasons are the codes and places of the OperationOutcome, never its texts.
    """
    status = response.status_code
    if status >= 300:
        raise _refusal(call, response)
    if not response.content:
        return FHIRResource(_from_location(response))
    try:
        parsed = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        parsed = None
    if not isinstance(parsed, dict):
        raise FHIRRequestError(
            call.what, "The answer is not FHIR JSON.", "Check that base_url is the FHIR base.", status=status
        )
    return FHIRResource(parsed)


def _from_location(response: httpx.Response) -> dict[str, str]:
    """A server that answers a create with Location only still tells type and id."""
    parts = [p for p in urlsplit(response.headers.get("location", "")).path.split("/") if p]
    if "_history" in parts:
        parts = parts[: parts.index("_history")]
    return {"resourceType": parts[-2], "id": parts[-1]} if len(parts) >= 2 else {}


def _issue_words(response: httpx.Response) -> str:
    try:
        parsed = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return ""
    issues = parsed.get("issue", []) if isinstance(parsed, dict) else []
    words = []
    for issue in issues[:5]:
        if isinstance(issue, dict):
            where = next(iter(issue.get("expression") or issue.get("location") or []), "")
            safe = (
                where if all(c.isalnum() or c in ".[]:" for c in str(where)) and len(str(where)) < 120 else ""
            )
            words.append(f"{issue.get('code', 'unknown')}{' at ' + safe if safe else ''}")
    return f" Issues: {', '.join(words)}." if words else ""


def _refusal(call: Call, response: httpx.Response) -> DigitalTwinError:
    status = response.status_code
    why = f"The server answered {status}.{_issue_words(response)}"
    if status in {404, 410}:
        return NotFoundError(call.what, why, "Check type and id, or search for it.")
    if status in {409, 412}:
        return ConflictError(call.what, why, "Read the current version and repeat the change on it.")
    if status in {400, 405, 406, 413, 415, 422}:
        return InputError(call.what, why, "Correct what the issues name.")
    if status in {401, 403}:
        fix = "Give auth= or credentials_path= with the right scope."
        return FHIRRequestError(call.what, why, fix, status=status)
    return FHIRRequestError(call.what, why, "Try again later, or ask who runs the server.", status=status)
