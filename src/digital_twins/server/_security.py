"""What stands before every HTTP request: the Host check, security headers and a count."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from digital_twins.server._metrics import Metrics

_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_RAW = tuple((name.encode(), value.encode()) for name, value in _HEADERS.items())
_NAMES = frozenset(name for name, _ in _RAW)
_DOORS = frozenset({"api", "auth", "fhir", "dicom-web", "static", "web", "health", "metrics"})
_LOCAL = frozenset({"localhost"})
_NOT_STORED = (b"cache-control", b"no-store")


class Guard:
    """Pure ASGI middleware: refuses foreign Host names, sets headers, counts answers.

    The Host check keeps a web site that the user visits from reaching a node on 127.0.0.1 by DNS rebinding.

    Parameters
    ----------
    app
        What is guarded.
    metrics
        Gets ``twin_http_requests_total{door,status}``.
    hosts
        Host names (without port) that may stand in the request beside ``localhost`` and literal addresses.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._metrics = metrics
        self._hosts = _LOCAL | frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and not self._serves(scope):
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        door = {"": "web", "queues": "web"}.get(name := scope["path"].split("/")[1], name)
        door = door if door in _DOORS else "other"

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                ours = _RAW if given.isdisjoint(_NAMES) else [p for p in _RAW if p[0] not in given]
                headers = [*message["headers"], *ours]
                if door != "static" and b"cache-control" not in given:
                    headers.append(_NOT_STORED)
                message["headers"] = headers
                status = f"{message['status'] // 100}xx"
                self._metrics.add("twin_http_requests_total", door=door, status=status)
            await send(message)

        app = self._app if self._serves(scope) else _refuse
        await app(scope, receive, answer)

    def _serves(self, scope: Scope) -> bool:
        name = _host_name(scope)
        return name in self._hosts or _is_address(name)


def _host_name(scope: Scope) -> str:
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    return host.rsplit(":", 1)[0] if not host.endswith("]") else host


@lru_cache(maxsize=256)
def _is_address(name: str) -> bool:
    """Whether a host is a literal address: a rebound name never is."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    body = {
        "type": "about:blank",
        "title": "Misdirected Request",
        "status": 421,
        "detail": "The Host header names a host that this node does not serve.",
        "what": "The request was refused.",
        "why": "Its Host header names a host that this node does not serve.",
        "fix": "Use 127.0.0.1 or localhost, or start the node with --host set to the name that clients use.",
    }
    await JSONResponse(body, 421, media_type="application/problem+json")(scope, receive, send)
