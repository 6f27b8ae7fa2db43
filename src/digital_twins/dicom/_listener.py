"""The DICOM port of a node."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from digital_twins._errors import DigitalTwinError, InputError, StorageError
from digital_twins._logging import get_logger
from digital_twins.dicom._admission import Doorkeeper
from digital_twins.dicom._arrivals import settle_arrivals
from digital_twins.dicom._association import Association, Node
from digital_twins.dicom._availability import availability_handlers
from digital_twins.dicom._commitment import Reporter, commitment_handlers
from digital_twins.dicom._contexts import storage_classes, transfer_syntaxes
from digital_twins.dicom._framing import Budget
from digital_twins.dicom._keepers import Keepers
from digital_twins.dicom._limits import Limits
from digital_twins.dicom._mpps import mpps_handlers
from digital_twins.dicom._peers import PeerTable
from digital_twins.dicom._scp import Services, received_header
from digital_twins.dicom._setup import Setup
from digital_twins.dicom._text import python_encodings
from digital_twins.dicom._worklist import worklist_handlers

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydicom.dataset import Dataset

    from digital_twins.dicom._commitment import CommitmentResult
    from digital_twins.dicom._store import DicomStore
    from digital_twins.dicom._stored import Stored
    from digital_twins.dicom._tls import Tls
    from digital_twins.dicom._users import UserTable
    from digital_twins.storage import JobQueue

_log = get_logger(__name__)
_THREADS = 8


class Listener:
    """A running DICOM port; made by `start_listener`.

    Attributes
    ----------
    port
        The TCP port that it listens on.
    """

    def __init__(
        self,
        server: asyncio.Server,
        node: Node,
        services: Services,
        *,
        reporter: Reporter | None,
    ) -> None:
        self._server = server
        self._node = node
        self._reporter = reporter
        self._services = services
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
        return self._node.setup.budget.used_bytes

    async def close(self, *, grace_s: float = 10.0) -> None:
        """Stop listening, answer what is being processed within ``grace_s`` seconds, abort the rest."""
        self._server.close()
        if self._reporter is not None:
            await self._reporter.close()
        open_now = [*self._node.established, *self._node.half_open]
        if open_now:
            tasks = [asyncio.ensure_future(association.finish()) for association in open_now]
            _done, late = await asyncio.wait(tasks, timeout=grace_s)
            for task in late:
                task.cancel()
        for association in (*self._node.established, *self._node.half_open):
            association.drop()
        await asyncio.sleep(0)
        await asyncio.get_running_loop().run_in_executor(None, self._services.close)


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call a DICOM port, and how.

    Attributes
    ----------
    peers
        The peers table.
    tls
        Our certificate; with it peers that want TLS can be called, and the port speaks TLS only.
    tls_port
        False leaves the port itself without TLS, though there is a certificate.
    users
        Whose passcodes are accepted (user identity types 1 and 2).
    verify_token
        Turns a JSON web token (user identity type 5) into a user name, or None; without it such an identity
        is not accepted.
    on_association
        Called with calling AE title, address and whether the call was let in; must not block.
    """

    peers: PeerTable = PeerTable({})  # noqa: RUF009  (frozen)
    tls: Tls | None = None
    users: UserTable | None = None
    verify_token: Callable[[bytes], str | None] | None = None
    tls_port: bool = True
    on_association: Callable[[str, str, bool], None] | None = None


@dataclass(frozen=True, slots=True)
class Events:
    """What a DICOM port tells the rest of the node, each in a thread of the port.

    Attributes
    ----------
    jobs
        The queue of storage commitment reports; without it they go out on the association of the request,
        once.
    reports
        Whether this port delivers the queued reports; one port on a queue does.
    on_commitment
        Called when a peer has answered a commitment request of ours.
    on_available
        Called with each instance availability notice of a peer.
    """

    jobs: JobQueue | None = None
    reports: bool = True
    on_commitment: Callable[[CommitmentResult], None] | None = None
    on_available: Callable[[Dataset], None] | None = None


async def start_listener(
    store: DicomStore,
    *,
    host: str = "127.0.0.1",
    port: int = 11112,
    ae_title: str = "TWIN",
    on_stored: Callable[[Stored], None] | None = None,
    events: Events | None = None,
    limits: Limits | None = None,
    access: Access | None = None,
) -> Listener:
    """Open the DICOM port on the running event loop (asyncio or uvloop).

    Before that, objects go whose files a power failure left torn; none of them was ever acknowledged.

    Parameters
    ----------
    store
        Where objects go.
    port
        TCP port; 0 takes a free one.
    ae_title
        Our title; with a strict peers table, others are rejected as 'called AE not recognised'.
    on_stored
        Called in the event loop for every object on disk, repeated ones too; must not block.
    events
        What else is to be told, and the queue of reports that must not be lost.
    limits
        What peers are granted.
    access
        Who may call, and how; default: anybody, without TLS.

    Raises
    ------
    InputError
        The AE title is empty or longer than 16 characters, or a certificate cannot be used.
    StorageError
        The port is occupied or may not be opened; disk or database failed.
    """
    if not 0 < len(ae_title.strip()) <= 16:
        raise InputError(
            "The AE title cannot be used.", "It must have 1 to 16 characters.", "Choose a shorter AE title."
        )
    access = access or Access()
    executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="dicom")
    services = _services(
        store, ae_title, executor, access=access, events=events or Events(), on_stored=on_stored
    )
    node = _node(store, services, limits or Limits(), ae_title=ae_title, access=access)
    loop = asyncio.get_running_loop()
    try:
        await loop.run_in_executor(executor, _warm_up)
        await loop.run_in_executor(executor, settle_arrivals, store)
        server = await _open_port(node, host, port, access)
    except DigitalTwinError:
        await loop.run_in_executor(None, services.close)
        raise
    jobs = events.jobs if events is not None and events.reports else None
    reporter = None if jobs is None else Reporter(store, jobs, executor, remote=services.remote)
    listener = Listener(server, node, services, reporter=reporter)
    _log.info("dicom.listener.started", port=listener.port)
    return listener


def _node(store: DicomStore, services: Services, limits: Limits, *, ae_title: str, access: Access) -> Node:
    """Return what the associations share: handlers, limits, and who decides which call is let in."""
    established: dict[Association, None] = {}
    return Node(
        setup=Setup(
            limits,
            Budget(limits.max_buffered_bytes),
            services.handlers(),
            received_header,
            new_spool=store.blobs.spool,
            dropped=services.no_room,
            lanes=services.lanes,
            store_here=services.keep_here,
        ),
        doorkeeper=Doorkeeper(
            table=access.peers,
            ae_title=ae_title,
            executor=services.executor,
            associations_of=lambda title: sum(each.calling_ae == title for each in established),
            record=store.record,
            users=access.users,
            verify_token=access.verify_token,
            max_per_minute=limits.max_associations_per_minute,
            on_decided=access.on_association,
        ),
        half_open={},
        established=established,
    )


async def _open_port(node: Node, host: str, port: int, access: Access) -> asyncio.Server:
    try:
        return await asyncio.get_running_loop().create_server(
            lambda: Association(node),
            host,
            port,
            ssl=access.tls.server() if access.tls is not None and access.tls_port else None,
            backlog=512,
        )
    except OSError as error:
        raise StorageError(
            f"The DICOM port {port} could not be opened.",
            error.strerror or type(error).__name__,
            "Stop the program that uses the port, or choose another with --dicom-port.",
        ) from error


def _warm_up() -> None:
    """Load what the first object needs, so that its sender does not wait for imports."""
    python_encodings(b"ISO_IR 100")
    storage_classes()
    transfer_syntaxes()


def _services(
    store: DicomStore,
    ae_title: str,
    executor: ThreadPoolExecutor,
    *,
    access: Access,
    events: Events,
    on_stored: Callable[[Stored], None] | None,
) -> Services:
    table = access.peers

    def reachable(title: str) -> bool:
        return title in table.peers and table.peers[title].port > 0

    others = {
        **worklist_handlers(store, executor),
        **mpps_handlers(store, executor),
        **commitment_handlers(
            store, executor, reachable=reachable, jobs=events.jobs, on_result=events.on_commitment
        ),
        **availability_handlers(store, executor, on_available=events.on_available),
    }
    keepers, syncers = Keepers(_THREADS, "keep"), Keepers(2 * _THREADS, "sync")
    return Services(
        store,
        ae_title,
        executor,
        keepers,
        syncers,
        lanes=Keepers(0 if access.tls is not None and access.tls_port else _THREADS, "lane"),
        table=table,
        tls=access.tls,
        on_stored=on_stored,
        others=others,
    )
