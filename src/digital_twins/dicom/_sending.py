"""Stored objects out through an association: contexts to propose, C-STORE, and the count of what happened."""

from __future__ import annotations

import asyncio
import mmap
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from digital_twins._errors import DigitalTwinError
from digital_twins._logging import get_logger
from digital_twins.dicom._contexts import EXPLICIT_LE, IMPLICIT_LE, UNCOMPRESSED
from digital_twins.dicom._dataset_file import readable
from digital_twins.dicom._dimse import CommandField, Status, Tag, request
from digital_twins.dicom._requestor import MAX_CONTEXTS
from digital_twins.dicom._transcode import can_transcode, transcode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Executor

    from digital_twins.dicom._channel import Channel
    from digital_twins.dicom._contexts import AcceptedContext
    from digital_twins.dicom._dimse import Command
    from digital_twins.dicom._store import DicomStore
    from digital_twins.dicom._stored import Instance
    from digital_twins.storage import BlobFile

_READ_AT_ONCE = 2**24
_WARNINGS = range(0xB000, 0xC000)
_log = get_logger(__name__)


class Sendable(Protocol):
    """What `store_instance` must know of an object that lies in the blob store."""

    @property
    def sop_uid(self) -> str:
        """SOP Instance UID."""

    @property
    def sop_class_uid(self) -> str:
        """SOP Class UID."""

    @property
    def transfer_syntax(self) -> str:
        """Transfer syntax of the file."""

    @property
    def digest(self) -> str:
        """Name of its file in the blob store."""

    @property
    def dataset_offset(self) -> int:
        """Where the data set begins in the file."""

    @property
    def size_bytes(self) -> int:
        """Length of the file."""


def is_accepted(status: int) -> bool:
    """Whether a status of C-STORE means that the peer has the object: success or a warning."""
    return status == Status.SUCCESS or status in _WARNINGS or status in {0x0001, 0x0107, 0x0116}


@dataclass(slots=True)
class Tally:
    """Sub-operations of one C-MOVE or C-GET (PS3.4 section C.4.2.1.6 and following)."""

    remaining: int
    completed: int = 0
    failed: int = 0
    warning: int = 0
    failed_uids: list[str] = field(default_factory=list)

    def count(self, status: int, sop_uid: str) -> None:
        """Count one finished sub-operation."""
        self.remaining -= 1
        if status == Status.SUCCESS:
            self.completed += 1
        elif is_accepted(status):
            self.warning += 1
        else:
            self.failed += 1
            self.failed_uids.append(sop_uid)

    def status(self, *, cancelled: bool) -> int:
        """Return the status of the final response."""
        if cancelled:
            return Status.CANCELLED
        if not self.failed and not self.warning:
            return Status.SUCCESS
        return Status.SUBOPERATIONS_WARNING if self.completed or self.warning else Status.UNABLE_TO_PERFORM

    def into(self, response: Command, *, final: bool) -> Command:
        """Add the counts to a response; a final one that is not a cancel counts nothing as remaining."""
        if not final or response[Tag.STATUS] == Status.CANCELLED:
            response[Tag.REMAINING] = self.remaining
        response[Tag.COMPLETED] = self.completed
        response[Tag.FAILED] = self.failed
        response[Tag.WARNING] = self.warning
        return response


def proposals(
    kinds: Sequence[tuple[str, str]], *, taken: frozenset[str] = frozenset()
) -> list[tuple[str, tuple[str, ...]]]:
    """Return the contexts for pairs of SOP class and transfer syntax: as they are, and uncompressed.

    Parameters
    ----------
    taken
        Transfer syntaxes that the peer is to be offered; empty: all. Others go uncompressed if they can.
    """
    contexts: list[tuple[str, tuple[str, ...]]] = []
    for sop_class in dict.fromkeys(sop_class for sop_class, _ in kinds):
        syntaxes = {syntax for each, syntax in kinds if each == sop_class}
        offered = sorted(each for each in syntaxes if not taken or each in taken or each in UNCOMPRESSED)
        contexts += [(sop_class, (syntax,)) for syntax in offered]
        if any(syntax not in UNCOMPRESSED and can_transcode(syntax, EXPLICIT_LE) for syntax in syntaxes) or (
            len(syntaxes) == 1 and syntaxes <= UNCOMPRESSED
        ):
            contexts.append((sop_class, (EXPLICIT_LE, IMPLICIT_LE)))
    return contexts


def batches(instances: Sequence[Instance]) -> Iterator[list[Instance]]:
    """Cut a list so that each part needs at most the 128 contexts of one association."""
    batch: list[Instance] = []
    kinds: dict[tuple[str, str], None] = {}
    for instance in instances:
        kind = instance.sop_class_uid, instance.transfer_syntax
        if kind not in kinds and len(proposals([*kinds, kind])) > MAX_CONTEXTS:
            yield batch
            batch, kinds = [], {}
        kinds[kind] = None
        batch.append(instance)
    if batch:
        yield batch


async def store_instance(
    channel: Channel,
    store: DicomStore,
    instance: Sendable,
    *,
    executor: Executor,
    origin: tuple[str, int] | None = None,
) -> int:
    """Send one stored object and return the peer's status; what cannot be sent gives a failure status.

    Parameters
    ----------
    origin
        AE title and message id of the C-MOVE that it is a part of.

    Raises
    ------
    ConnectionError, TimeoutError
        The association ended.
    """
    context = context_for(channel, instance.sop_class_uid, instance.transfer_syntax)
    if context is None:
        return Status.SOP_CLASS_NOT_SUPPORTED
    command = request(CommandField.C_STORE_RQ, instance.sop_class_uid, dataset=True)
    command |= {Tag.AFFECTED_SOP_INSTANCE: instance.sop_uid, Tag.PRIORITY: 0}
    if origin is not None:
        command |= {Tag.MOVE_ORIGINATOR_AE: origin[0], Tag.MOVE_ORIGINATOR_MESSAGE_ID: origin[1]}
    loop = asyncio.get_running_loop()
    file = store.blobs.file(instance.digest)
    try:
        if context.transfer_syntax != instance.transfer_syntax:
            encoded = await loop.run_in_executor(executor, _transcoded, file, context.transfer_syntax)
            return await send_dataset(channel, context, command, memoryview(encoded))
        if instance.size_bytes <= _READ_AT_ONCE:
            whole = await loop.run_in_executor(executor, file.view)
            return await send_dataset(channel, context, command, whole[instance.dataset_offset :])
        with _mapped(file) as whole_file:
            return await send_dataset(channel, context, command, whole_file[instance.dataset_offset :])
    except (DigitalTwinError, FileNotFoundError) as error:
        why = error.why if isinstance(error, DigitalTwinError) else "The file is missing."
        _log.warning("dicom.send.failed", reason=why)
        return Status.PROCESSING_FAILURE


def context_for(channel: Channel, sop_class_uid: str, transfer_syntax: str) -> AcceptedContext | None:
    """Return the context in which an object can go: as it is, else Explicit, else Implicit Little Endian."""
    for syntax in dict.fromkeys((transfer_syntax, EXPLICIT_LE, IMPLICIT_LE)):
        if can_transcode(transfer_syntax, syntax):
            found = channel.context(sop_class_uid, transfer_syntaxes=frozenset({syntax}))
            if found is not None:
                return found
    return None


async def send_dataset(
    channel: Channel, context: AcceptedContext, command: Command, dataset: memoryview
) -> int:
    """Send a request that has one response and return its status."""
    status = int(Status.PROCESSING_FAILURE)
    async for answer, _dataset in channel.call(context, command, dataset):
        status = int(answer.get(Tag.STATUS, Status.PROCESSING_FAILURE))
    return status


def _transcoded(file: BlobFile, transfer_syntax: str) -> bytes:
    with readable(file) as source:
        return transcode(source, transfer_syntax)


@contextmanager
def _mapped(file: BlobFile) -> Iterator[memoryview]:
    if file.keys is not None:  # decrypted into memory: a file to map would hold it in clear
        yield file.view()
        return
    with file.path.open("rb") as stream:
        mapping = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    view = memoryview(mapping)
    try:
        yield view
    finally:
        with suppress(BufferError):  # a slice in the frames of an error: it goes with them
            view.release()
            mapping.close()
