"""The one audit event of a C-FIND, whichever way it ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

from digital_twins._errors import StorageError
from digital_twins.audit import AuditEvent
from digital_twins.dicom._dimse import Status, response

if TYPE_CHECKING:
    from digital_twins._errors import DigitalTwinError
    from digital_twins.dicom._dimse import Command
    from digital_twins.dicom._setup import Peer
    from digital_twins.dicom._store import DicomStore


class FindEvent:
    """Counts what a query has sent out; it failed unless something says otherwise."""

    def __init__(self, store: DicomStore, peer: Peer, kind: str) -> None:
        self._store, self._peer, self._kind = store, peer, kind
        self.outcome: Literal["success", "refused", "failure"] = "failure"
        self.detail: dict[str, str | int] = {"matches": 0}
        self._matches = 0

    def count(self) -> None:
        """Count an answer that is about to go out."""
        self._matches += 1
        self.detail["matches"] = self._matches

    def refused(self, request: Command, error: DigitalTwinError) -> Command:
        """Note the error that ended the query and return the response that tells it."""
        storage = isinstance(error, StorageError)
        status = Status.OUT_OF_RESOURCES if storage else Status.DOES_NOT_MATCH
        self.outcome = "failure" if storage else "refused"
        self.detail |= {"status": f"{status:04X}", "why": error.what}
        return response(request, status, comment=error.what)

    async def record(self) -> None:
        """Write the event and wait until it is durable."""
        event = AuditEvent("E", self._kind, self.outcome, self._peer.agent, detail=self.detail)
        await asyncio.wrap_future(self._store.record(event))
