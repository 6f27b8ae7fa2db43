"""An archive made with pynetdicom that keeps the bytes of every C-STORE, and refuses or aborts on demand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification


@dataclass
class Pacs:
    """What came: data sets by SOP Instance UID, and the UIDs in their order."""

    port: int
    received: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    order: list[str] = field(default_factory=list)
    refuse: dict[str, int] = field(default_factory=dict)
    """SOP Instance UID to the status with which it is refused."""
    abort: set[str] = field(default_factory=set)
    tries: dict[str, int] = field(default_factory=lambda: defaultdict(int))


@contextmanager
def pacs(classes: Sequence[tuple[str, Sequence[str]]], *, port: int = 0) -> Iterator[Pacs]:
    """Serve storage classes in the given transfer syntaxes, and verification."""
    found = Pacs(port)
    sockets: list[Any] = []
    entity = AE("PACS")
    entity.maximum_associations = 20
    entity.add_supported_context(Verification)
    for sop_class, syntaxes in classes:
        entity.add_supported_context(sop_class, list(syntaxes))

    def store(event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        found.tries[uid] += 1
        if uid in found.abort:
            event.assoc.abort()
            return 0xA700
        if uid in found.refuse:
            return found.refuse[uid]
        found.received[uid].append(event.request.DataSet.getvalue())
        found.order.append(uid)
        return 0

    def opened(event: Any) -> None:
        sockets.append(event.assoc.dul.socket.socket)

    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store), (evt.EVT_CONN_OPEN, opened)]
    )
    found.port = server.server_address[1]
    try:
        yield found
    finally:
        server.shutdown()
        for each in sockets:  # pynetdicom leaves the socket of an aborted association to the collector
            if each is not None:
                each.close()
