"""The services behind the listener: Verification, Storage and Query (PS3.4 annexes A, B and C)."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING

from digital_twins._errors import DigitalTwinError, InputError, StorageError
from digital_twins.audit import AuditEvent
from digital_twins.dicom._attributes import NUMBERS, Level, by_keyword
from digital_twins.dicom._contexts import (
    IMPLICIT_LE,
    PATIENT_ROOT_FIND,
    STUDY_ROOT_FIND,
    VERIFICATION,
    storage_classes,
)
from digital_twins.dicom._dimse import CommandField, Status, Tag, response
from digital_twins.dicom._header import ObjectRefusedError
from digital_twins.dicom._part10 import file_header
from digital_twins.dicom._query import Query, find_all, supported
from digital_twins.dicom._text import quiet_pydicom

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from concurrent.futures import Executor

    from pydicom.dataset import Dataset

    from digital_twins.dicom._association import Peer
    from digital_twins.dicom._contexts import AcceptedContext
    from digital_twins.dicom._dimse import Command
    from digital_twins.dicom._framing import Message
    from digital_twins.dicom._query import Match
    from digital_twins.dicom._store import DicomStore, Prepared, Stored

_LEVELS = {"PATIENT": Level.PATIENT, "STUDY": Level.STUDY, "SERIES": Level.SERIES, "IMAGE": Level.INSTANCE}
_CONTROL = frozenset({"SpecificCharacterSet", "QueryRetrieveLevel", "TimezoneOffsetFromUTC"})
_BATCH = 50


class Services:
    """Handlers of one listener.

    Parameters
    ----------
    store
        Where objects go and queries are answered from.
    ae_title
        Named in C-FIND answers as RetrieveAETitle.
    executor
        Threads for parsing, hashing and file syncs.
    on_stored
        Called in the event loop for every object that came to be on disk, before its response is sent.
    """

    def __init__(
        self, store: DicomStore, ae_title: str, executor: Executor, on_stored: Callable[[Stored], None] | None
    ) -> None:
        self._store = store
        self._ae_title = ae_title
        self._executor = executor
        self._on_stored = on_stored

    def handlers(self) -> dict[int, Callable[[Message, Peer], AsyncIterator[tuple[Command, bytes | None]]]]:
        """Return the handler of each command field."""
        return {
            CommandField.C_ECHO_RQ: self.echo,
            CommandField.C_STORE_RQ: self.store,
            CommandField.C_FIND_RQ: self.find,
        }

    async def echo(self, message: Message, peer: Peer) -> AsyncIterator[tuple[Command, bytes | None]]:
        """C-ECHO (PS3.7 section 9.1.5)."""
        del peer
        known = message.context.abstract_syntax == VERIFICATION
        yield response(message.command, Status.SUCCESS if known else Status.SOP_CLASS_NOT_SUPPORTED), None

    async def store(self, message: Message, peer: Peer) -> AsyncIterator[tuple[Command, bytes | None]]:
        """C-STORE (PS3.4 annex B): success only when file and index rows are on disk."""
        request, context = message.command, message.context
        expected = (
            str(request.get(Tag.AFFECTED_SOP_CLASS, "")),
            str(request.get(Tag.AFFECTED_SOP_INSTANCE, "")),
        )
        if context.abstract_syntax not in storage_classes() or expected[0] != context.abstract_syntax:
            yield response(request, Status.SOP_CLASS_NOT_SUPPORTED), None
            return
        try:
            stored = await asyncio.wrap_future(self._keep(message, expected, peer.calling_ae))
        except ObjectRefusedError as error:
            await self._record_refusal(peer, expected[1], error.status, error.why)
            yield response(request, error.status, comment=error.why), None
        except StorageError as error:
            yield response(request, Status.OUT_OF_RESOURCES, comment=error.why), None
        else:
            if self._on_stored is not None:
                self._on_stored(stored)
            yield response(request, Status.SUCCESS), None

    async def find(self, message: Message, peer: Peer) -> AsyncIterator[tuple[Command, bytes | None]]:
        """C-FIND (PS3.4 section C.4.1) with C-CANCEL."""
        request, context = message.command, message.context
        if context.abstract_syntax not in {STUDY_ROOT_FIND, PATIENT_ROOT_FIND}:
            yield response(request, Status.SOP_CLASS_NOT_SUPPORTED), None
            return
        implicit = context.transfer_syntax == IMPLICIT_LE
        loop = asyncio.get_running_loop()
        try:
            search = await loop.run_in_executor(
                self._executor,
                lambda: _Search.read(bytes(message.dataset), context.abstract_syntax, implicit=implicit),
            )
            batches = search.answers(self._store, self._ae_title)
            matches = 0
            while batch := await loop.run_in_executor(self._executor, lambda: next(batches, None)):
                for identifier in batch:
                    if message.cancelled.is_set():
                        yield response(request, Status.CANCELLED), None
                        return
                    matches += 1
                    yield response(request, search.pending, dataset=True), identifier
                # Lets a C-CANCEL that waits in the socket be read between two batches.
                await asyncio.sleep(0)
        except DigitalTwinError as error:
            status = Status.OUT_OF_RESOURCES if isinstance(error, StorageError) else Status.DOES_NOT_MATCH
            yield response(request, status, comment=error.what), None
            return
        self._store.record(
            AuditEvent(
                action="E",
                kind="dicom.find",
                outcome="success",
                agent=peer.calling_ae,
                detail={"level": search.query.level.name.lower(), "matches": matches},
            )
        )
        yield response(request, Status.SUCCESS), None

    def _keep(self, message: Message, expected: tuple[str, str], source: str) -> Future[Stored]:
        """Prepare in a thread that also hands over to the writer: the event loop wakes once, at the end."""
        answer: Future[Stored] = Future()
        answer.set_running_or_notify_cancel()
        prepare = partial(
            self._store.prepare_received,
            message.file,
            message.prefix_bytes,
            message.context.transfer_syntax,
            expected=expected,
            source=source,
        )
        self._executor.submit(_prepare_and_commit, answer, prepare, self._store.commit)
        return answer

    async def _record_refusal(self, peer: Peer, sop_uid: str, status: int, why: str) -> None:
        event = AuditEvent(
            action="C",
            kind="dicom.store",
            outcome="refused",
            agent=peer.calling_ae,
            entity=sop_uid,
            detail={"status": f"{status:04X}", "why": why},
        )
        await asyncio.wrap_future(self._store.record(event))


def _prepare_and_commit(
    answer: Future[Stored],
    prepare: Callable[[], Prepared],
    commit: Callable[[Prepared], Future[Stored]],
) -> None:
    try:
        commit(prepare()).add_done_callback(partial(_pass_on, answer))
    except Exception as error:  # noqa: BLE001  (edge of a thread: whatever it is goes to the waiter)
        answer.set_exception(error)
        del answer  # or the error would hold itself, and through its frames an open cursor, alive


def _pass_on(answer: Future[Stored], committed: Future[Stored]) -> None:
    error = committed.exception()
    if error is None:
        answer.set_result(committed.result())
    else:
        answer.set_exception(error)


def received_header(command: Command, context: AcceptedContext) -> bytes:
    """Return the file header of an object that a C-STORE command announces, b'' for other commands."""
    if command[Tag.COMMAND_FIELD] != CommandField.C_STORE_RQ:
        return b""
    uids = (command.get(Tag.AFFECTED_SOP_CLASS, ""), command.get(Tag.AFFECTED_SOP_INSTANCE, ""))
    return file_header(str(uids[0]), str(uids[1]), context.transfer_syntax)


class _Search:
    """A C-FIND identifier turned into a query, and matches turned into identifiers."""

    def __init__(self, query: Query, level_name: str, keywords: frozenset[str], *, implicit: bool) -> None:
        self.query = query
        self._level_name = level_name
        self._keywords = keywords
        self._implicit = implicit
        unsupported = keywords - supported(query.level) - query.returning - {"RetrieveAETitle"}
        self.pending = Status.PENDING_OPTIONAL_KEYS if unsupported else Status.PENDING

    @classmethod
    def read(cls, data: bytes, root: str, *, implicit: bool) -> _Search:
        """Read the identifier of a request; raises InputError."""
        identifier = _decode(data, implicit=implicit)
        level_name = str(identifier.get("QueryRetrieveLevel", "")).strip()
        if level_name not in _LEVELS or (level_name == "PATIENT" and root != PATIENT_ROOT_FIND):
            raise InputError(
                "Query/Retrieve level is missing or wrong.",
                "This information model has no such level.",
                "Set (0008,0052) to PATIENT (patient root only), STUDY, SERIES or IMAGE.",
            )
        level = _LEVELS[level_name]
        values = {element.keyword: _text(element.value) for element in identifier if element.keyword}
        keywords = frozenset(values) - _CONTROL
        conditions = {k: v for k, v in values.items() if k in supported(level) and v}
        computed = frozenset(k for k in keywords if k in by_keyword() and by_keyword()[k].level <= level)
        return cls(Query(level, conditions, computed), level_name, keywords, implicit=implicit)

    def answers(self, store: DicomStore, ae_title: str) -> Iterator[list[bytes]]:
        """Yield encoded identifiers in batches."""
        batch: list[bytes] = []
        for match in find_all(store.database, self.query):
            batch.append(self._encode(match, ae_title))
            if len(batch) >= _BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def _encode(self, match: Match, ae_title: str) -> bytes:
        from pydicom.dataset import Dataset
        from pydicom.filebase import DicomBytesIO
        from pydicom.filewriter import write_dataset

        with quiet_pydicom():
            answer = Dataset()
            answer.SpecificCharacterSet = "ISO_IR 192"
            answer.QueryRetrieveLevel = self._level_name
            answer.RetrieveAETitle = ae_title
            # Unique keys of the level and those above it come even when they were not asked for.
            for keyword in self._keywords | _UNIQUE[self.query.level]:
                value = match.get(keyword)
                if keyword in by_keyword():
                    setattr(answer, keyword, _dicom_value(keyword, value))
                elif keyword != "RetrieveAETitle":
                    setattr(answer, keyword, [] if _is_sequence(keyword) else None)
            buffer = DicomBytesIO()
            buffer.is_little_endian, buffer.is_implicit_VR = True, self._implicit
            write_dataset(buffer, answer, parent_encoding="utf-8")
            return bytes(buffer.getvalue())


_UNIQUE = {
    Level.PATIENT: frozenset({"PatientID"}),
    Level.STUDY: frozenset({"StudyInstanceUID"}),
    Level.SERIES: frozenset({"StudyInstanceUID", "SeriesInstanceUID"}),
    Level.INSTANCE: frozenset({"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"}),
}


def _dicom_value(keyword: str, value: str | int | None) -> object:
    if value is None:
        return None
    if by_keyword()[keyword].vr in NUMBERS:
        return int(value)
    text = str(value)
    return text.split("\\") if "\\" in text else text


def _is_sequence(keyword: str) -> bool:
    from pydicom.datadict import dictionary_VR

    return dictionary_VR(keyword) == "SQ"


def _text(value: object) -> str:
    from pydicom.multival import MultiValue
    from pydicom.sequence import Sequence

    if value is None or isinstance(value, Sequence):
        return ""
    return "\\".join(str(v) for v in value) if isinstance(value, MultiValue) else str(value)


def _decode(data: bytes, *, implicit: bool) -> Dataset:
    from pydicom.filereader import read_dataset

    try:
        with quiet_pydicom():
            identifier = read_dataset(BytesIO(data), implicit, True)  # noqa: FBT003  (pydicom's signature)
            identifier.decode()
            for element in identifier:
                str(element.value)
    except Exception as error:  # noqa: BLE001  (edge: pydicom raises many kinds on foreign bytes)
        raise InputError(
            "The identifier of the query cannot be read.",
            f"pydicom raised {type(error).__name__}.",
            "Send a data set in the negotiated transfer syntax.",
        ) from None
    return identifier
