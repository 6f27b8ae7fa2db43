"""Faults that a simulated archive shows on request, in front of its DICOM and HTTP ports."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PIECE = 65536
_REJECT = bytes([3, 0, 0, 0, 0, 4, 0, 2, 3, 2])
"""A-ASSOCIATE-RJ: transient, by the provider, local limit exceeded (PS3.8 table 9-21)."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong with the next association or HTTP request.

    Attributes
    ----------
    kind
        ``"reject"``: the association is rejected, the request answered with ``status``. ``"time-out"``:
        nothing is answered. ``"truncate"``: the connection breaks after ``after_bytes`` of the answer.
    status
        HTTP status of a reject.
    after_bytes
        How much of the answer comes through before it breaks.
    """

    kind: Literal["reject", "time-out", "truncate"]
    status: int = 503
    after_bytes: int = 1000


class Script:
    """The faults that wait for one port, each for one connection or request."""

    def __init__(self) -> None:
        self._waiting: deque[Fault] = deque()

    def add(self, fault: Fault, times: int) -> None:
        """Queue a fault."""
        self._waiting.extend([fault] * times)

    def next(self) -> Fault | None:
        """Take the fault of this connection or request, if one waits."""
        return self._waiting.popleft() if self._waiting else None


def faulty_app(app: ASGIApp, script: Script) -> ASGIApp:
    """Return an ASGI application before which the faults of a script happen."""

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        fault = script.next() if scope["type"] == "http" else None
        if fault is None:
            await app(scope, receive, send)
        elif fault.kind == "reject":
            await send({"type": "http.response.start", "status": fault.status, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        elif fault.kind == "time-out":
            while (await receive())["type"] != "http.disconnect":
                pass
        else:
            await app(scope, receive, _cut(send, fault.after_bytes))

    return answered


class _CutError(Exception):
    """Ends a request so that the server drops its connection."""


def _cut(send: Send, budget: int) -> Send:
    left = budget

    async def some(message: Message) -> None:
        nonlocal left
        body = message.get("body", b"")
        if message["type"] == "http.response.body" and len(body) >= left:
            await send({**message, "body": body[:left], "more_body": True})
            raise _CutError
        left -= len(body)
        await send(message)

    return some


async def faulty_port(script: Script, port: int) -> asyncio.Server:
    """Open a DICOM port that passes everything on to another one of this machine, but for the faults."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fault = script.next()
        try:
            if fault is not None and fault.kind == "reject":
                await reader.readexactly(6)
                writer.write(_REJECT)
                await writer.drain()
                await reader.read(_PIECE)
            elif fault is not None and fault.kind == "time-out":
                while await reader.read(_PIECE):
                    pass
            else:
                budget = None if fault is None else fault.after_bytes
                await _pass_on(reader, writer, port, budget)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, budget: int | None
) -> None:
    there, back = await asyncio.open_connection("127.0.0.1", port)
    up = asyncio.ensure_future(_pump(reader, back, None))
    down = asyncio.ensure_future(_pump(there, writer, budget))
    try:
        await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (up, down):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await task
        back.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, budget: int | None) -> None:
    while budget is None or budget > 0:
        data = await reader.read(_PIECE if budget is None else min(budget, _PIECE))
        if not data:
            return
        writer.write(data)
        await writer.drain()
        budget = None if budget is None else budget - len(data)
