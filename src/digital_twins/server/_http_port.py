"""The HTTP port of a node: uvicorn on a socket that listens already."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

from digital_twins._errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    import uvicorn
    from starlette.types import ASGIApp

    from digital_twins.config import Settings

_GRACE_S = 5


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; the port is taken before anything else of the node starts.

    Raises
    ------
    StorageError
        The port is occupied, or the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(512)
    except OSError as error:
        listening.close()
        raise StorageError(
            f"The HTTP port {port} could not be opened.",
            f"The system answered: {error.strerror or type(error).__name__}.",
            "Stop the program that uses the port, or choose another with --http-port.",
        ) from error
    return listening


async def open_http_port(
    app: ASGIApp, listening: socket.socket, settings: Settings
) -> Callable[[], Awaitable[None]]:
    """Serve `app` on the socket; return what ends it once the requests in flight are answered."""
    import uvicorn

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Leave signals to the node."""
            yield

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    fresh = _speak_tls(config, settings) if settings.http_tls_certificate is not None else None
    server = Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))

    if fresh is not None:
        task.add_done_callback(lambda _: fresh.cancel())

    async def finish() -> None:
        server.should_exit = True
        await task

    while not server.started:
        if task.done():
            await task
        await asyncio.sleep(0.01)
    return finish


def _speak_tls(config: uvicorn.Config, settings: Settings) -> asyncio.Task[None]:
    from digital_twins.server._http_tls import keep_fresh, server_context

    context = server_context(settings)
    config.load()
    config.ssl = context
    return asyncio.create_task(keep_fresh(context, settings))
