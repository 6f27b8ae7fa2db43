"""Sends what waits in the queues: one task a destination, by DIMSE or STOW-RS."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import TYPE_CHECKING

from digital_twins._errors import DigitalTwinError
from digital_twins._logging import get_logger
from digital_twins.dicom._coercion import COERCE, coerced, source_of
from digital_twins.dicom._contexts import EXPLICIT_LE, IMPLICIT_LE, VERIFICATION
from digital_twins.dicom._dataset_file import load
from digital_twins.dicom._header import read_header
from digital_twins.dicom._part10 import split_file
from digital_twins.dicom._requestor import MAX_CONTEXTS, DimseFailedError, Proposal, Remote, associate
from digital_twins.dicom._sending import is_accepted, proposals, store_instance
from digital_twins.dicom._store import select_instances
from digital_twins.dicom._stow_out import Outcome, stow_file
from digital_twins.dicom._text import quiet_pydicom
from digital_twins.storage import COMMON

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Executor

    from pydicom.dataset import Dataset

    from digital_twins.dicom._coercion import Coercion
    from digital_twins.dicom._queues import QueueEntry, SendQueues
    from digital_twins.dicom._store import DicomStore

    Deidentify = Callable[[Dataset], Dataset]

_POLL_S = 0.5
_AFTER_ERROR_S = 5.0
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Destination:
    """How objects get to a destination of routes.

    Attributes
    ----------
    remote
        The peer by DIMSE; None when it is sent to by STOW-RS.
    web_url
        DICOMweb root for STOW-RS.
    headers
        Sent with each request, e.g. an API key.
    transfer_syntaxes
        The only compressed transfer syntaxes that it is offered by DIMSE; empty: all.
    """

    remote: Remote | None = None
    web_url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    transfer_syntaxes: frozenset[str] = frozenset()


class Forwarder:
    """Empties the queues of the given destinations; made in the event loop that runs it.

    Parameters
    ----------
    destinations
        By the names that the routes use.
    deidentifiers
        Functions by the names that the routes use: each takes a data set that it may change and returns the
        one to send. What they return is kept before it is sent, so that a repeated sending is the same.
    coercions
        Rules that change objects before they are sent, after the de-identification.
    system
        Our AE title, which the changed objects name.
    """

    def __init__(
        self,
        store: DicomStore,
        queues: SendQueues,
        executor: Executor,
        *,
        destinations: Mapping[str, Destination],
        deidentifiers: Mapping[str, Deidentify] | None = None,
        coercions: Sequence[Coercion] = (),
        system: str = "",
    ) -> None:
        self._store, self._queues, self._executor = store, queues, executor
        self._deidentifiers = dict(deidentifiers or {})
        self._coercions, self._system = tuple(coercions), system
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run(name, to)) for name, to in destinations.items()]

    async def close(self) -> None:
        """Stop; what is not acknowledged stays queued."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, name: str, to: Destination) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                due = await loop.run_in_executor(self._executor, self._queues.due, name)
                if due and (ready := await self._ready(due)):
                    if to.remote is None:
                        await self._by_stow(to, ready)
                    else:
                        await self._by_dimse(to.remote, ready, to.transfer_syntaxes)
                elif not due:
                    await asyncio.sleep(_POLL_S)
            except DigitalTwinError as error:  # a full disk: what was sent may be sent again, nothing is lost
                _log.error("dicom.forward.failed", what=error.what, why=error.why)
                await asyncio.sleep(_AFTER_ERROR_S)

    async def _ready(self, due: list[QueueEntry]) -> list[QueueEntry]:
        """De-identify what must be; an object for which that fails is never sent as it is."""
        loop = asyncio.get_running_loop()
        ready = []
        for entry in due:
            if not entry.deidentify:
                ready.append(entry)
                continue
            try:
                made = await loop.run_in_executor(self._executor, self._made, entry)
            except Exception as error:  # noqa: BLE001  (edge: a function that others wrote)
                step = "Coercion" if entry.deidentify == COERCE else "De-identification"
                why = f"{step} failed ({type(error).__name__})."
                await asyncio.wrap_future(self._queues.refused(entry, why))
            else:
                await asyncio.wrap_future(self._queues.fix_bytes(made))
                ready.append(made)
        return ready

    def _made(self, entry: QueueEntry) -> QueueEntry:
        """Return the entry with the bytes that leave, which are on disk and go with their patient."""
        found = select_instances(self._store, " WHERE i.sop_uid = ?", (entry.sop_uid,))
        owner = found[0].patient_id if found else COMMON
        if entry.deidentify == COERCE:
            file = self._store.blobs.get(entry.digest)
        else:
            file = self._deidentified(entry)
        file = self._coerced(entry, file)
        head = split_file(file)
        return replace(
            entry,
            sop_uid=head.sop_instance_uid,
            sop_class_uid=head.sop_class_uid,
            transfer_syntax=head.transfer_syntax,
            digest=self._store.blobs.put(file, owner=owner),
            dataset_offset=head.dataset_offset,
            size_bytes=len(file),
            deidentify="",
        )

    def _deidentified(self, entry: QueueEntry) -> bytes:
        with quiet_pydicom():
            dataset = self._deidentifiers[entry.deidentify](load(self._store.blobs.file(entry.digest)))
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            buffer = BytesIO()
            dataset.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()

    def _coerced(self, entry: QueueEntry, file: bytes) -> bytes:
        if not self._coercions:
            return file
        head = split_file(file)
        dataset = memoryview(file)[head.dataset_offset :]
        header = read_header(dataset, head.transfer_syntax)
        source = source_of(self._store, entry.sop_uid)
        rules = [rule for rule in self._coercions if rule.fits(header, source, entry.destination)]
        made = coerced(header, dataset, rules, source=source, system=self._system)
        return file if made is None else file[: head.dataset_offset] + made

    async def _by_dimse(self, remote: Remote, entries: list[QueueEntry], taken: frozenset[str]) -> None:
        loop = asyncio.get_running_loop()
        batch, contexts = _fitting(entries, taken)
        settled: list[asyncio.Future[None]] = []
        under_way: QueueEntry | None = None
        name = batch[0].destination
        try:
            async with associate(remote, Proposal(contexts)) as channel:
                for entry in batch:
                    if await loop.run_in_executor(self._executor, self._queues.is_paused, name):
                        break
                    under_way = entry
                    status = await store_instance(channel, self._store, entry, executor=self._executor)
                    under_way = None
                    end = (
                        self._queues.sent(entry)
                        if is_accepted(status)
                        else self._queues.refused(entry, f"Status {status:04X}.")
                    )
                    settled.append(asyncio.wrap_future(end))
        except DimseFailedError as error:
            _log.warning("dicom.forward.unreachable", peer=name, reason=error.why)
            if (
                under_way is not None
            ):  # an object that breaks its association must not stop the queue for ever
                settled.append(asyncio.wrap_future(self._queues.refused(under_way, error.why)))
            settled.append(asyncio.wrap_future(self._queues.unreachable(name, error.why)))
        finally:
            await asyncio.gather(*settled)

    async def _by_stow(self, to: Destination, entries: list[QueueEntry]) -> None:
        loop = asyncio.get_running_loop()
        for entry in entries:
            if await loop.run_in_executor(self._executor, self._queues.is_paused, entry.destination):
                return
            file = self._store.blobs.file(entry.digest)
            outcome, why = await stow_file(to.web_url, file, headers=to.headers)
            if outcome is Outcome.STORED:
                await asyncio.wrap_future(self._queues.sent(entry))
                continue
            if outcome in {Outcome.REFUSED, Outcome.BROKEN}:
                await asyncio.wrap_future(self._queues.refused(entry, why))
            if outcome in {Outcome.UNREACHABLE, Outcome.BROKEN}:
                await asyncio.wrap_future(self._queues.unreachable(entry.destination, why))
                return


def _fitting(
    entries: list[QueueEntry], taken: frozenset[str]
) -> tuple[list[QueueEntry], list[tuple[str, tuple[str, ...]]]]:
    """Return the first entries whose contexts fit into one association, and the contexts.

    Verification is among them: an association then stands although every storage class is refused, and the
    refusal counts for the objects instead of passing for a destination that cannot be reached.
    """
    verification = (VERIFICATION, (EXPLICIT_LE, IMPLICIT_LE))
    kinds: list[tuple[str, str]] = []
    contexts: list[tuple[str, tuple[str, ...]]] = []
    for position, entry in enumerate(entries):
        kind = entry.sop_class_uid, entry.transfer_syntax
        if kind not in kinds:
            wider = proposals([*kinds, kind], taken=taken)
            if len(wider) >= MAX_CONTEXTS:
                return entries[:position], [verification, *contexts]
            kinds.append(kind)
            contexts = wider
    return entries, [verification, *contexts]
