"""Requests to subscribers: only to endpoints that the operator allows, without redirects, bounded in time."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from digital_twins._errors import DigitalTwinError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_FORBIDDEN_HEADERS = {"host", "content-length", "transfer-encoding", "connection", "content-type"}
_PORTS = {"http": 80, "https": 443}


class DeliveryError(DigitalTwinError):
    """A subscriber did not take a notification."""

    http_status = 502


def allowed_endpoint(endpoint: str, allowed: Iterable[str]) -> bool:
    """Whether an endpoint lies under one of the addresses that the operator allows.

    Scheme, host and port must be the same, and the path must lie below that of the allowed address; user
    names, fragments and dot segments are refused. This keeps a Subscription from making the node call
    addresses of the hospital's network that its author cannot reach (server-side request forgery).
    """
    try:
        asked = urlsplit(endpoint)
        place = (asked.scheme, asked.hostname, asked.port or _PORTS.get(asked.scheme))
    except ValueError:
        return False
    strange = "@" in asked.netloc or asked.fragment or "\\" in endpoint or any(c <= " " for c in endpoint)
    parts = asked.path.replace("%2e", ".").replace("%2E", ".").split("/")
    if asked.scheme not in _PORTS or not asked.hostname or strange or ".." in parts or "." in parts:
        return False
    for text in allowed:
        known = urlsplit(text)
        if place == (known.scheme, known.hostname, known.port or _PORTS.get(known.scheme)):
            root = known.path.rstrip("/")
            if asked.path == root or asked.path.startswith(f"{root}/"):
                return True
    return False


def header_lines(lines: Sequence[str]) -> dict[str, str]:
    """Return ``channel.header`` lines as headers.

    Raises
    ------
    InputError
        A line is no header, or names one that the node sets itself.
    """
    found: dict[str, str] = {}
    for line in lines:
        name, mark, value = line.partition(":")
        usable = name.replace("-", "").isalnum() and name.isascii() and value.isprintable()
        if not mark or not usable or name.lower() in _FORBIDDEN_HEADERS:
            raise InputError(
                "The subscription cannot be served.",
                "channel.header has a line that is no usable header.",
                "Write lines such as 'Authorization: Bearer ...'.",
            )
        found[name.strip()] = value.strip()
    return found


def send(
    client: httpx.Client,
    method: str,
    url: str,
    *,
    body: bytes = b"",
    headers: dict[str, str],
    timeout_s: float,
) -> None:
    """Send one request; anything but 2xx is a DeliveryError, whose text holds no address.

    Raises
    ------
    DeliveryError
        The subscriber cannot be reached, or did not accept.
    """
    what, fix = "The subscriber did not take the notification.", "Look into the subscriber's log."
    try:
        answer = client.request(
            method, url, content=body or None, headers=headers, timeout=timeout_s, follow_redirects=False
        )
    except httpx.HTTPError as error:
        raise DeliveryError(what, f"It could not be reached ({type(error).__name__}).", fix) from None
    if not 200 <= answer.status_code < 300:
        raise DeliveryError(what, f"It answered {answer.status_code}.", fix)
