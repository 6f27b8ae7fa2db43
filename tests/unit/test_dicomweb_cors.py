"""Who may reach DICOMweb from a web page: nobody by default, named origins by a setting."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from digital_twins.server._cors import with_cors
from digital_twins.server._metrics import Metrics
from digital_twins.server._security import Guard

VIEWER = "https://viewer.example.org"


async def _hello(_request: Any) -> PlainTextResponse:
    return PlainTextResponse("hello")


def ask(origins: tuple[str, ...], method: str, **headers: str) -> httpx.Response:
    app = Guard(with_cors(Starlette(routes=[Route("/", _hello)]), origins), metrics=Metrics())

    async def work() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            return await client.request(method, "http://localhost/", headers=fields)

    return asyncio.run(work())


def connect(origins: tuple[str, ...], **headers: str) -> str:
    """The first message that the guarded application sends to a WebSocket."""
    sent: list[Any] = []

    async def accept(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})

    async def note(message: Any) -> None:
        sent.append(message["type"])

    fields = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope: Any = {"type": "websocket", "path": "/dicom-web/subscribers/A", "headers": fields}
    asyncio.run(Guard(with_cors(accept, origins), metrics=Metrics())(scope, accept, note))  # type: ignore[arg-type]
    return str(sent[0])


def test_off_by_default() -> None:
    answer = ask((), "GET", Origin=VIEWER)
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_named_origin() -> None:
    allowed = ask((VIEWER,), "GET", Origin=VIEWER)
    assert allowed.headers["access-control-allow-origin"] == VIEWER
    assert "ETag" in allowed.headers["access-control-expose-headers"]
    assert allowed.headers["cross-origin-resource-policy"] == "cross-origin"
    other = ask((VIEWER,), "GET", Origin="https://evil.example.org")
    assert "access-control-allow-origin" not in other.headers
    preflight = ask((VIEWER,), "OPTIONS", Origin=VIEWER, Access_Control_Request_Method="PUT")
    assert preflight.status_code == 200
    assert "PUT" in preflight.headers["access-control-allow-methods"]


def test_web_sockets_of_foreign_pages_are_closed() -> None:
    assert connect((), host="localhost:8042") == "websocket.accept"
    assert connect((), host="localhost:8042", origin="http://localhost:8042") == "websocket.accept"
    assert connect((), host="localhost:8042", origin=VIEWER) == "websocket.close"
    assert connect((VIEWER,), host="localhost:8042", origin=VIEWER) == "websocket.accept"
    assert connect((), host="rebound.example.org") == "websocket.close"
