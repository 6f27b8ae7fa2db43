"""The DICOM port of a node."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from digital_twins._errors import InputError, StorageError
from digital_twins._logging import get_logger
from digital_twins.dicom._association import Association, Limits, Node
from digital_twins.dicom._framing import Budget
from digital_twins.dicom._scp import Services, received_header

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Collection

    from digital_twins.dicom._store import DicomStore, Stored

_log = get_logger(__name__)
_THREADS = 8


class Listener:
    """A running DICOM port; made by `start_listener`.

    Attributes
    ----------
    port
        The TCP port that it listens on.
    """

    def __init__(self, server: asyncio.Server, node: Node, executor: ThreadPoolExecutor) -> None:
        self._server = server
        self._node = node
        self._executor = executor
        self.port = int(server.sockets[0].getsockname()[1])

    @property
    def associations(self) -> int:
        """Established associations at this moment."""
        return len(self._node.established)

    @property
    def half_open(self) -> int:
        """Connections that have not yet associated."""
        return len(self._node.half_open)

    @property
    def buffered_bytes(self) -> int:
        """Bytes of objects that are arriving or being stored."""
        return self._node.budget.used_bytes

    async def close(self, *, grace_s: float = 10.0) -> None:
        """Stop listening, answer what is being processed within ``grace_s`` seconds, abort the rest."""
        self._server.close()
        open_now = [*self._node.established, *self._node.half_open]
        if open_now:
            tasks = [asyncio.ensure_future(association.finish()) for association in open_now]
            _done, late = await asyncio.wait(tasks, timeout=grace_s)
            for task in late:
                task.cancel()
        for association in (*self._node.established, *self._node.half_open):
            association.drop()
        await asyncio.sleep(0)
        await asyncio.get_running_loop().run_in_executor(None, self._executor.shutdown)


async def start_listener(
    store: DicomStore,
    *,
    host: str = "127.0.0.1",
    port: int = 11112,
    ae_title: str = "TWIN",
    on_stored: Callable[[Stored], None] | None = None,
    limits: Limits | None = None,
    calling_ae_titles: Collection[str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Listener:
    """Open the DICOM port: C-ECHO, C-STORE and C-FIND on the running event loop (asyncio or uvloop).

    Parameters
    ----------
    store
        Where objects go.
    port
        TCP port; 0 takes a free one.
    ae_title
        Our title; with ``calling_ae_titles`` given, others are rejected as 'called AE not recognised'.
    on_stored
        Called in the event loop for every object on disk, repeated ones too; must not block.
    limits
        What peers are granted.
    calling_ae_titles
        The AE titles that may call; None lets every one call, under any called title.
    tls
        Server context for TLS.

    Raises
    ------
    InputError
        The AE title is empty or longer than 16 characters.
    StorageError
        The port is occupied or may not be opened.
    """
    if not 0 < len(ae_title.strip()) <= 16:
        raise InputError(
            "The AE title cannot be used.", "It must have 1 to 16 characters.", "Choose a shorter AE title."
        )
    granted = limits or Limits()
    executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="dicom")
    services = Services(store, ae_title, executor, on_stored)
    allowed = None if calling_ae_titles is None else frozenset(calling_ae_titles)
    node = Node(
        limits=granted,
        budget=Budget(granted.max_buffered_bytes),
        handlers=services.handlers(),
        accepts_called=lambda title: allowed is None or title == ae_title,
        accepts_calling=lambda title: allowed is None or title in allowed,
        prefix=received_header,
        half_open={},
        established={},
    )
    try:
        server = await asyncio.get_running_loop().create_server(
            lambda: Association(node), host, port, ssl=tls, backlog=512
        )
    except OSError as error:
        executor.shutdown()
        raise StorageError(
            f"The DICOM port {port} could not be opened.",
            error.strerror or type(error).__name__,
            "Stop the program that uses the port, or choose another with --dicom-port.",
        ) from error
    listener = Listener(server, node, executor)
    _log.info("dicom.listener.started", port=listener.port)
    return listener
