"""C-MOVE and C-GET (PS3.4 sections C.4.2 and C.4.3)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from digital_twins._errors import DigitalTwinError, InputError, StorageError
from digital_twins._logging import get_logger
from digital_twins.audit import AuditEvent
from digital_twins.dicom._attributes import Level
from digital_twins.dicom._contexts import IMPLICIT_LE
from digital_twins.dicom._dimse import Status, Tag, response
from digital_twins.dicom._find import UNIQUE, level_of, text_of
from digital_twins.dicom._identifier import read_dataset, write_dataset
from digital_twins.dicom._requestor import DimseFailedError, Proposal, associate
from digital_twins.dicom._sending import Tally, batches, proposals, store_instance
from digital_twins.dicom._store import select_instances

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from concurrent.futures import Executor

    from digital_twins.dicom._channel import Channel
    from digital_twins.dicom._dimse import Command
    from digital_twins.dicom._framing import Message
    from digital_twins.dicom._requestor import Remote
    from digital_twins.dicom._setup import Peer
    from digital_twins.dicom._store import DicomStore
    from digital_twins.dicom._stored import Instance

_COLUMNS = {
    "PatientID": "p.patient_id",
    "StudyInstanceUID": "s.study_uid",
    "SeriesInstanceUID": "e.series_uid",
    "SOPInstanceUID": "i.sop_uid",
}
_MAX_UIDS = 10_000
_log = get_logger(__name__)


def wanted_instances(store: DicomStore, message: Message) -> list[Instance]:
    """Return the stored objects that the identifier of a C-MOVE or C-GET names.

    Unique keys above the level narrow the choice where they are given; lists of UIDs are taken at every
    level. PatientID stands for one patient.

    Raises
    ------
    InputError
        No level, no value for the key of the level, or a wildcard in one.
    """
    identifier = read_dataset(message.dataset, implicit=message.context.transfer_syntax == IMPLICIT_LE)
    _name, level = level_of(identifier, message.context.abstract_syntax)
    keys = UNIQUE[level] if level is Level.PATIENT else ("PatientID", *UNIQUE[level])
    conditions, values = [], []
    for keyword in keys:
        texts = [part.strip() for part in text_of(identifier.get(keyword)).split("\\") if part.strip()]
        if not texts:
            continue
        if len(texts) > _MAX_UIDS or any("*" in text or "?" in text for text in texts):
            raise _unusable(keyword)
        conditions.append(f"{_COLUMNS[keyword]} IN ({', '.join('?' * len(texts))})")
        values += texts
    if not text_of(identifier.get(UNIQUE[level][-1])).strip():
        raise _unusable(UNIQUE[level][-1])
    order = " ORDER BY s.id, e.series_number NULLS FIRST, e.id, i.instance_number NULLS FIRST, i.id"
    return select_instances(store, f" WHERE {' AND '.join(conditions)}{order}", values)


class Retrieval:
    """One C-MOVE or C-GET in progress.

    Parameters
    ----------
    verb
        ``"move"`` or ``"get"``, for the audit trail.
    """

    def __init__(
        self, store: DicomStore, executor: Executor, message: Message, *, peer: Peer, verb: str
    ) -> None:
        self._store = store
        self._executor = executor
        self._message = message
        self._peer = peer
        self._verb = verb
        self._instances: list[Instance] = []
        self._tally = Tally(0)

    async def to_peer(self, remote: Remote) -> AsyncIterator[tuple[Command, bytes | None]]:
        """C-MOVE: send over associations of our own."""
        await self._begin()
        origin = self._peer.calling_ae, int(self._message.command.get(Tag.MESSAGE_ID, 0))
        try:
            for batch in batches(self._instances):
                kinds = [*dict.fromkeys((i.sop_class_uid, i.transfer_syntax) for i in batch)]
                try:
                    async with associate(remote, Proposal(proposals(kinds))) as association:
                        async for pending in self._send(association, batch, origin):
                            yield pending
                except DimseFailedError as error:
                    _log.warning("dicom.move.failed", peer=remote.called_ae, reason=error.why)
                    for instance in batch[self._done_of(batch) :]:
                        self._tally.count(Status.PROCESSING_FAILURE, instance.sop_uid)
                if self._message.cancelled.is_set():
                    break
        finally:
            await self._record(remote.called_ae)
        yield self._final()

    async def here(self, channel: Channel) -> AsyncIterator[tuple[Command, bytes | None]]:
        """C-GET: send over the association that asked."""
        await self._begin()
        try:
            async for pending in self._send(channel, self._instances, None):
                yield pending
        finally:
            await self._record(self._peer.calling_ae)
        yield self._final()

    def _done_of(self, batch: list[Instance]) -> int:
        tally = self._tally
        before = self._instances.index(batch[0])
        return tally.completed + tally.failed + tally.warning - before

    async def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._instances = await loop.run_in_executor(
                self._executor, wanted_instances, self._store, self._message
            )
        except DigitalTwinError as error:
            event = AuditEvent(
                action="R",
                kind=f"dicom.{self._verb}",
                outcome="failure" if isinstance(error, StorageError) else "refused",
                agent=self._peer.agent,
                detail={"why": error.what},
            )
            await asyncio.wrap_future(self._store.record(event))
            raise
        self._tally = Tally(len(self._instances))

    async def _send(
        self, channel: Channel, instances: list[Instance], origin: tuple[str, int] | None
    ) -> AsyncIterator[tuple[Command, bytes | None]]:
        for instance in instances:
            if self._message.cancelled.is_set():
                return
            status = await store_instance(
                channel, self._store, instance, executor=self._executor, origin=origin
            )
            self._tally.count(status, instance.sop_uid)
            if self._tally.remaining:
                pending = response(self._message.command, Status.PENDING)
                yield self._tally.into(pending, final=False), None

    def _final(self) -> tuple[Command, bytes | None]:
        from pydicom.dataset import Dataset

        cancelled = self._message.cancelled.is_set() and self._tally.remaining > 0
        status = self._tally.status(cancelled=cancelled)
        failed = self._tally.failed_uids
        answer = response(self._message.command, status, dataset=bool(failed))
        self._tally.into(answer, final=True)
        if not failed:
            return answer, None
        identifier = Dataset()
        identifier.FailedSOPInstanceUIDList = failed
        implicit = self._message.context.transfer_syntax == IMPLICIT_LE
        return answer, write_dataset(identifier, implicit=implicit, character_set=())

    async def _record(self, destination: str) -> None:
        tally = self._tally
        patients = {instance.patient_id for instance in self._instances}
        complete = tally.completed == len(self._instances)
        event = AuditEvent(
            action="R",
            kind=f"dicom.{self._verb}",
            outcome="success" if complete else "failure",
            agent=self._peer.agent,
            entity=self._instances[0].study_uid if self._instances else None,
            patient=self._store.pseudonym(patients.pop()) if len(patients) == 1 else None,
            detail={
                "destination": destination,
                "instances": len(self._instances),
                "completed": tally.completed,
                "failed": tally.failed,
                "warning": tally.warning,
            },
        )
        await asyncio.wrap_future(self._store.record(event))


def _unusable(keyword: str) -> InputError:
    return InputError(
        f"The identifier has no usable {keyword}.",
        "A retrieval names its objects by the unique keys of its level, without wildcards.",
        "Set the unique key of the query/retrieve level; lists of UIDs are separated by a backslash.",
    )
