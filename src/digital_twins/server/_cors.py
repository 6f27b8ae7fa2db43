"""Cross-origin access to DICOMweb for viewers of named web sites; nobody by default."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
_SHOWN = ("Content-Location", "Content-Range", "ETag", "Location", "Warning")


def with_cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Return ``app`` open to pages of its own origin and of these, e.g. ``https://viewer.example.org``.

    Browsers let any page open a WebSocket, so the Origin of one is compared here.
    """
    shared = CORSMiddleware(
        app,
        allow_origins=list(origins),
        allow_methods=_METHODS,
        allow_headers=["*"],
        expose_headers=_SHOWN,
        max_age=600,
    )

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and not _may_connect(scope, origins):
            await send({"type": "websocket.close", "code": 1008})
            return
        if not origins:
            await app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                # Without this a page that is isolated from other origins (OHIF is) could not load it.
                MutableHeaders(scope=message)["cross-origin-resource-policy"] = "cross-origin"
            await send(message)

        await shared(scope, receive, answer)

    return answered


def _may_connect(scope: Scope, origins: Sequence[str]) -> bool:
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    origin = headers.get(b"origin")
    own = origin is None or urlsplit(origin).netloc == headers.get(b"host")
    return own or "*" in origins or origin in origins
