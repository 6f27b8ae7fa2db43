"""The services behind the listener: Verification, Storage, Query/Retrieve, and the dispatch to all others."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from digital_twins._errors import DigitalTwinError, StorageError
from digital_twins.audit import AuditEvent
from digital_twins.dicom._contexts import SERVICES, VERIFICATION, is_storage, service_of
from digital_twins.dicom._dimse import CommandField, Status, Tag, response
from digital_twins.dicom._find import Search
from digital_twins.dicom._find_event import FindEvent
from digital_twins.dicom._header import ObjectRefusedError
from digital_twins.dicom._part10 import file_header
from digital_twins.dicom._peers import Service
from digital_twins.dicom._retrieve import Retrieval

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from concurrent.futures import Executor

    from digital_twins.dicom._contexts import AcceptedContext
    from digital_twins.dicom._dimse import Command
    from digital_twins.dicom._framing import Message
    from digital_twins.dicom._keepers import Keepers
    from digital_twins.dicom._peers import PeerTable
    from digital_twins.dicom._requestor import Remote
    from digital_twins.dicom._setup import Handler, Peer
    from digital_twins.dicom._store import DicomStore
    from digital_twins.dicom._stored import Prepared, Stored
    from digital_twins.dicom._tls import Tls


@dataclass(frozen=True, slots=True)
class Services:
    """Handlers of one listener.

    Attributes
    ----------
    store
        Where objects go and queries are answered from.
    ae_title
        Named in C-FIND answers as RetrieveAETitle, and our calling title in C-MOVE sub-operations.
    executor, keepers, syncers, lanes
        Threads for queries and retrievals, for parsing and indexing what arrives, and for syncing its files:
        those wait for nothing but the disk, so that a keeper may wait for them. The last take associations
        over while objects follow each other.
    table, tls
        Where C-MOVE destinations are found, and our certificate for those that want TLS.
    on_stored
        Called in the event loop for every object that came to be on disk, before its response is sent or,
        in a lane, at the same time.
    others
        Handlers of other services by command field and SOP class of the presentation context.
    """

    store: DicomStore
    ae_title: str
    executor: Executor
    keepers: Keepers
    syncers: Keepers
    lanes: Keepers
    table: PeerTable
    tls: Tls | None = None
    on_stored: Callable[[Stored], None] | None = None
    others: Mapping[tuple[int, str], Handler] = field(default_factory=dict)

    def handlers(self) -> dict[int, Handler]:
        """Return the handler of each command field."""
        return {
            CommandField.C_ECHO_RQ: self.echo,
            CommandField.C_STORE_RQ: self.keep,
            CommandField.C_FIND_RQ: self.find,
            CommandField.C_MOVE_RQ: self.move,
            CommandField.C_GET_RQ: self.get,
            **dict.fromkeys(
                (number for number, _ in self.others if number != CommandField.C_FIND_RQ), self.other
            ),
        }

    def close(self) -> None:
        """Finish what is queued and end the threads."""
        self.lanes.close()
        self.keepers.close()
        self.syncers.close()
        self.executor.shutdown()

    def remote(self, ae_title: str) -> Remote | None:
        """Return how to call a peer, or None when the table does not say where it listens."""
        rule = self.table.peers.get(ae_title)
        return None if rule is None else rule.remote(self.ae_title, self.tls)

    async def echo(self, message: Message, peer: Peer) -> AsyncIterator[tuple[Command, bytes | None]]:
        """C-ECHO (PS3.7 section 9.1.5)."""
        del peer
        known = message.context.abstract_syntax == VERIFICATION
        yield response(message.command, Status.SUCCESS if known else Status.SOP_CLASS_NOT_SUPPORTED), None

    async def other(self, message: Message, peer: Peer) -> AsyncIterator[tuple[Command, bytes | None]]:
        """Pass a request to the service of its presentation context."""
        number = int(message.command[Tag.COMMAND_FIELD])
        handler = self.others.get((number, message.context.abstract_syntax))
        if handler is None:
            yield await self._not_supported(message, peer)
            return
        async for answer in handler(message, peer):
            yield answer

    async def keep(self, message: Message, peer: Peer) -> AsyncIterator[tuple[Command, bytes | None]]:
        """C-STORE (PS3.4 annex B): success only when file and index rows are on disk."""
        request = message.command
        expected = _named(message)
        if not _names_its_class(message):
            yield await self._not_supported(message, peer)
            return
        if not _may_store(peer):
            await self._record_refusal(peer, expected[1], Status.NOT_AUTHORISED, "not allowed to this peer")
            yield response(request, Status.NOT_AUTHORISED, comment="this peer may not store"), None
            return
        try:
            if message.failure is not None:
                raise message.failure
            stored = await self._keep(message, expected, peer.agent)
        except ObjectRefusedError as error:
            await self._record_refusal(peer, expected[1], error.status, error.why)
            yield response(request, error.status, comment=error.why), None
        except StorageError as error:
            await self.no_room(message, peer, error.what)
            yield response(request, Status.OUT_OF_RESOURCES, comment=error.why), None
        except Exception as error:
            await self._failed(message, peer, "dicom.store", type(error).__name__)
            raise
        else:
            if self.on_stored is not None:
                self.on_stored(stored)
            yield response(request, Status.SUCCESS), None

    def keep_here(self, message: Message, peer: Peer, loop: asyncio.AbstractEventLoop) -> Command | None:
        """Do in the thread of the caller what `keep` does in the loop; None leaves the message to `keep`."""
        if message.spool is None or message.refused or not (_names_its_class(message) and _may_store(peer)):
            return None
        try:
            stored = self.store.keep(self._preparation(message, _named(message), peer.agent)())
        except Exception as error:  # noqa: BLE001  (whatever it is, `keep` records and answers it)
            message.failure = error
            return None
        if self.on_stored is not None:
            with suppress(RuntimeError):  # the loop may have ended meanwhile
                loop.call_soon_threadsafe(self.on_stored, stored)
        return response(message.command, Status.SUCCESS)

    async def find(self, message: Message, peer: Peer) -> AsyncIterator[tuple[Command, bytes | None]]:
        """C-FIND (PS3.4 section C.4.1) with C-CANCEL."""
        request, model = message.command, message.context.abstract_syntax
        if (CommandField.C_FIND_RQ, model) in self.others:
            async for answer in self.others[(CommandField.C_FIND_RQ, model)](message, peer):
                yield answer
            return
        if SERVICES.get(model) is not Service.FIND:
            yield await self._not_supported(message, peer)
            return
        loop = asyncio.get_running_loop()
        event = FindEvent(self.store, peer, "dicom.find")
        final = response(request, Status.SUCCESS)
        try:
            search = await loop.run_in_executor(self.executor, Search, self.store, message, peer)
            event.detail["level"] = search.query.level.name.lower()
            batches = search.answers(self.ae_title)
            while batch := await loop.run_in_executor(self.executor, lambda: next(batches, None)):
                for identifier in batch:
                    if message.cancelled.is_set():
                        break
                    event.count()
                    yield response(request, search.pending, dataset=True), identifier
                # Lets a C-CANCEL that waits in the socket be read between two batches.
                await asyncio.sleep(0)
                if message.cancelled.is_set():
                    final = response(request, Status.CANCELLED)
                    break
            event.outcome = "success"
        except DigitalTwinError as error:
            final = event.refused(request, error)
        finally:  # also of an association that is aborted between two answers
            await event.record()
        yield final, None

    async def move(self, message: Message, peer: Peer) -> AsyncIterator[tuple[Command, bytes | None]]:
        """C-MOVE (PS3.4 section C.4.2) to a destination of the peers table."""
        request = message.command
        if service_of(message.context.abstract_syntax) is not Service.MOVE:
            yield await self._not_supported(message, peer)
            return
        remote = self.remote(str(request.get(Tag.MOVE_DESTINATION, "")))
        if remote is None:
            event = AuditEvent(
                action="R",
                kind="dicom.move",
                outcome="refused",
                agent=peer.agent,
                detail={"why": "unknown destination"},
            )
            await asyncio.wrap_future(self.store.record(event))
            yield response(request, Status.MOVE_DESTINATION_UNKNOWN, comment="unknown move destination"), None
            return
        retrieval = Retrieval(self.store, self.executor, message, peer=peer, verb="move")
        async for answer in retrieval.to_peer(remote):
            yield answer

    async def get(self, message: Message, peer: Peer) -> AsyncIterator[tuple[Command, bytes | None]]:
        """C-GET (PS3.4 section C.4.3) over the association of the request."""
        if service_of(message.context.abstract_syntax) is not Service.GET or peer.channel is None:
            yield await self._not_supported(message, peer)
            return
        retrieval = Retrieval(self.store, self.executor, message, peer=peer, verb="get")
        async for answer in retrieval.here(peer.channel):
            yield answer

    def _keep(self, message: Message, expected: tuple[str, str], source: str) -> asyncio.Future[Stored]:
        """Prepare and commit in one thread: the event loop wakes once, at the end."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Stored] = loop.create_future()
        prepare = self._preparation(message, expected, source)
        self.keepers.put(partial(_prepare_and_keep, loop, answer, prepare=prepare, keep=self.store.keep))
        return answer

    def _preparation(
        self, message: Message, expected: tuple[str, str], source: str
    ) -> Callable[[], Prepared]:
        syntax = message.context.transfer_syntax
        if message.spool is None:
            return partial(self.store.prepare, message.dataset, syntax, expected=expected, source=source)
        return partial(
            self.store.prepare_spooled,
            message.spool,
            message.prefix_bytes,
            syntax,
            expected=expected,
            source=source,
            sync=self.syncers.put,
        )

    async def no_room(self, message: Message, peer: Peer, why: str) -> None:
        """Record an object that was sent and could not be taken, for want of room or memory."""
        await self._failed(message, peer, "dicom.store", why)

    async def _failed(self, message: Message, peer: Peer, kind: str, why: str) -> None:
        uid = str(message.command.get(Tag.AFFECTED_SOP_INSTANCE, "")) or None
        event = AuditEvent("C", kind, "failure", peer.agent, uid, detail={"why": why})
        await asyncio.wrap_future(self.store.record(event))

    async def _not_supported(self, message: Message, peer: Peer) -> tuple[Command, None]:
        """Refuse a request that the SOP class of its presentation context does not have, and record it."""
        detail: dict[str, str | int] = {
            "command": f"{int(message.command[Tag.COMMAND_FIELD]):04X}",
            "sop_class": message.context.abstract_syntax,
            "status": f"{Status.SOP_CLASS_NOT_SUPPORTED:04X}",
        }
        event = AuditEvent("E", "dicom.request", "refused", peer.agent, detail=detail)
        await asyncio.wrap_future(self.store.record(event))
        return response(message.command, Status.SOP_CLASS_NOT_SUPPORTED), None

    async def _record_refusal(self, peer: Peer, sop_uid: str, status: int, why: str) -> None:
        event = AuditEvent(
            action="C",
            kind="dicom.store",
            outcome="refused",
            agent=peer.agent,
            entity=sop_uid,
            detail={"status": f"{status:04X}", "why": why},
        )
        await asyncio.wrap_future(self.store.record(event))


def _named(message: Message) -> tuple[str, str]:
    """Return the SOP class and instance UID that a C-STORE command states."""
    get = message.command.get
    return str(get(Tag.AFFECTED_SOP_CLASS, "")), str(get(Tag.AFFECTED_SOP_INSTANCE, ""))


def _names_its_class(message: Message) -> bool:
    abstract_syntax = message.context.abstract_syntax
    return is_storage(abstract_syntax) and _named(message)[0] == abstract_syntax


def _may_store(peer: Peer) -> bool:
    return peer.rule is None or Service.STORE in peer.rule.services


def _prepare_and_keep(
    loop: asyncio.AbstractEventLoop,
    answer: asyncio.Future[Stored],
    *,
    prepare: Callable[[], Prepared],
    keep: Callable[[Prepared], Stored],
) -> None:
    try:
        outcome: Stored | Exception = keep(prepare())
    except Exception as error:  # noqa: BLE001  (edge of a thread: whatever it is goes to the waiter)
        outcome = error
    with suppress(RuntimeError):  # the loop may have ended meanwhile
        loop.call_soon_threadsafe(_settle, answer, outcome)
    del outcome  # or an error would hold itself, and through its frames an open cursor, alive


def _settle(answer: asyncio.Future[Stored], outcome: Stored | Exception) -> None:
    if answer.done():
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)


def received_header(command: Command, context: AcceptedContext) -> bytes:
    """Return the file header of an object that a C-STORE command announces, b'' for other commands."""
    if command[Tag.COMMAND_FIELD] != CommandField.C_STORE_RQ:
        return b""
    uids = (command.get(Tag.AFFECTED_SOP_CLASS, ""), command.get(Tag.AFFECTED_SOP_INSTANCE, ""))
    return file_header(str(uids[0]), str(uids[1]), context.transfer_syntax)
