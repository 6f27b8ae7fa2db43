"""What both ends of an association do once it stands: messages, requests and their answers."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from contextlib import aclosing, suppress
from enum import IntEnum
from typing import TYPE_CHECKING, cast

from digital_twins._errors import DigitalTwinError, StorageError
from digital_twins._logging import get_logger
from digital_twins.dicom._contexts import DEFLATED
from digital_twins.dicom._dimse import (
    NO_DATASET,
    RESPONSE,
    CommandField,
    DimseError,
    Status,
    Tag,
    encode_command,
    is_pending,
    response,
)
from digital_twins.dicom._framing import Assembler, Framer, Message
from digital_twins.dicom._lane import PATIENCE_S, Lane, Rest
from digital_twins.dicom._pdu import AbortReason, PduError, PduType, encode_abort, encode_data
from digital_twins.dicom._setup import Peer
from digital_twins.dicom._spooling import SpoolWriter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from digital_twins.dicom._contexts import AcceptedContext
    from digital_twins.dicom._dimse import Command
    from digital_twins.dicom._keepers import Keepers
    from digital_twins.dicom._setup import Setup

_QUEUE_LENGTH = 8
_SPOOL_PIECES = 4
_WRITE_AT_ONCE = 2**18
_log = get_logger(__name__)


class State(IntEnum):
    """States of an association by their numbers in PS3.8 tables 9-1 to 9-5."""

    IDLE = 1
    AWAITING_REQUEST = 2
    AWAITING_LOCAL_RESPONSE = 3
    AWAITING_ACCEPTANCE = 5
    ESTABLISHED = 6
    AWAITING_RELEASE_REPLY = 7
    AWAITING_LOCAL_RELEASE = 8
    AWAITING_CLOSE = 13


class Channel(asyncio.BufferedProtocol):
    """One connection; the two ends differ in how the association begins and ends."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._framer = Framer(setup.limits.max_pdu_bytes)
        self._assembler: Assembler | None = None
        self._transport: asyncio.Transport | None = None
        self._state = State.IDLE
        self._queue: asyncio.Queue[Message | None] = asyncio.Queue()
        self._current: Message | None = None
        self._worker: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._sending = asyncio.Lock()
        self._last_byte = 0.0
        self._peer_max_pdu = 0
        self._answers: dict[int, asyncio.Queue[tuple[Command, bytes] | None]] = {}
        self._last_id = 0
        self._peer = Peer("", "", "", "")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lane: Lane | None = None
        self._lane_over: asyncio.Future[None] | None = None
        self._ending = False
        self.contexts: dict[int, AcceptedContext] = {}

    @property
    def state(self) -> State:
        """The state of PS3.8 tables 9-1 to 9-5 that the association is in."""
        return self._state

    def context(self, abstract_syntax: str, *, transfer_syntaxes: frozenset[str]) -> AcceptedContext | None:
        """Return an accepted context on which this end may send requests of a SOP class, or None."""
        for found in self.contexts.values():
            if (
                found.abstract_syntax == abstract_syntax
                and found.may_request
                and found.transfer_syntax in transfer_syntaxes
            ):
                return found
        return None

    async def call(
        self, context: AcceptedContext, command: Command, dataset: bytes | memoryview | None = None
    ) -> AsyncIterator[tuple[Command, bytes]]:
        """Send a request and yield its answers up to the final one.

        Raises
        ------
        ConnectionError, TimeoutError
            The association ended, or the peer was silent for ``idle_s``.
        """
        self._last_id = self._last_id % 0xFFFF + 1
        message_id = self._last_id
        inbox: asyncio.Queue[tuple[Command, bytes] | None] = asyncio.Queue()
        self._answers[message_id] = inbox
        try:
            request = {**command, Tag.MESSAGE_ID: message_id}
            await self._send(context.context_id, request, dataset)
            while True:
                if self._state is not State.ESTABLISHED and inbox.empty():
                    raise ConnectionResetError
                async with asyncio.timeout(self._setup.limits.idle_s):
                    answer = await inbox.get()
                if answer is None:
                    raise ConnectionResetError
                yield answer
                if not is_pending(answer[0]):
                    return
        finally:
            del self._answers[message_id]

    async def cancel(self, context: AcceptedContext) -> None:
        """Ask the peer to stop the request that was sent last (C-CANCEL, PS3.7 section 9.3.2.3)."""
        command: Command = {
            Tag.COMMAND_FIELD: CommandField.C_CANCEL_RQ,
            Tag.RESPONDED_MESSAGE_ID: self._last_id,
            Tag.DATASET_TYPE: NO_DATASET,
        }
        await self._send(context.context_id, command, None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection; its end decides what comes first."""
        self._transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        name = transport.get_extra_info("peername")
        self._peer = Peer("", "", str(name[0]) if name else "", "")

    def get_buffer(self, sizehint: int) -> memoryview:
        """Give the transport room for the next bytes."""
        del sizehint
        return self._framer.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Handle what arrived; no exception leaves this boundary."""
        self._last_byte = time.monotonic()
        self._understand((), self._framer.received(nbytes))

    def _understand(self, messages: Iterable[Message], pdus: Iterable[tuple[PduType, memoryview]]) -> None:
        try:
            for message in messages:
                self._on_message(message)
            for kind, body in pdus:
                self._event(kind, body)
                if self._state is State.IDLE:
                    return
        except PduError as error:
            self._provider_abort(error.reason, str(error))
        except DimseError as error:
            self._provider_abort(AbortReason.INVALID_PARAMETER, str(error))
        except Exception as error:  # noqa: BLE001  (edge: a hostile peer must not end the listener)
            self._provider_abort(AbortReason.NOT_SPECIFIED, type(error).__name__)

    def eof_received(self) -> bool:
        """A peer that closes its sending side is gone."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """AA-4, AA-5, AR-5: forget the connection; an object being committed is still committed."""
        del exc
        self._state = State.IDLE
        self._disarm()
        if self._lane is not None:
            self._lane.leave()
        elif self._assembler is not None:
            self._assembler.drop()
        if self._current is not None:
            self._current.cancelled.set()
        self._give_up_answers()
        self._writable.set()
        self._queue.put_nowait(None)

    def _give_up_answers(self) -> None:
        """End the wait for every answer that is still to come."""
        for inbox in self._answers.values():
            inbox.put_nowait(None)

    def pause_writing(self) -> None:
        """The peer reads slower than we write."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._writable.set()

    def drop(self) -> None:
        """Close the connection without a word (AA-2)."""
        self._close_now()

    def _event(self, kind: PduType, body: memoryview) -> None:
        """Table 9-10 of PS3.8 for this end."""
        raise AssertionError("each end has its own table")

    def _released(self) -> None:
        """The worker has answered everything that came before the end."""

    def _begin(self, contexts: dict[int, AcceptedContext]) -> None:
        setup = self._setup
        self.contexts = contexts
        self._assembler = Assembler(
            contexts, setup.limits.max_object_bytes, setup.budget, setup.prefix, spool=self._spool
        )
        self._state = State.ESTABLISHED
        self._worker = asyncio.get_running_loop().create_task(self._serve())

    def _on_data(self, body: memoryview) -> None:
        assert self._assembler is not None
        for message in self._assembler.add(body):
            self._on_message(message)
        if self._is_full() and self._transport is not None:
            self._transport.pause_reading()

    def _on_message(self, message: Message) -> None:
        number = int(message.command[Tag.COMMAND_FIELD])
        if number == CommandField.C_CANCEL_RQ:
            self._cancel(message.command.get(Tag.RESPONDED_MESSAGE_ID))
        elif number & RESPONSE:
            self._on_answer(message)
        else:
            self._queue.put_nowait(message)

    def _is_full(self) -> bool:
        """Whether requests or pieces of an object wait that should be dealt with before more is read."""
        writer = None if self._assembler is None else self._assembler.spooling
        return self._queue.qsize() >= _QUEUE_LENGTH or (
            writer is not None and writer.waiting >= _SPOOL_PIECES
        )

    def _spool(self, message: Message) -> SpoolWriter | None:
        """Open a file for an object; a deflated one must be inflated in memory anyway."""
        new_spool = self._setup.new_spool
        is_object = message.command[Tag.COMMAND_FIELD] == CommandField.C_STORE_RQ
        if new_spool is None or not is_object or message.context.transfer_syntax in DEFLATED:
            return None
        loop = self._loop
        assert loop is not None

        def on_written() -> None:
            with suppress(RuntimeError):  # the loop may have ended meanwhile
                loop.call_soon_threadsafe(self._read_on)

        try:
            return SpoolWriter(new_spool(), on_written)
        except StorageError as error:
            message.refused = error.why
            return None

    def _read_on(self) -> None:
        """Let the event loop read again, unless a lane reads."""
        mine = self._lane is None and not self._ending and self._state is State.ESTABLISHED
        if mine and self._transport is not None:
            self._transport.resume_reading()

    def _on_answer(self, message: Message) -> None:
        assert self._assembler is not None
        inbox = self._answers.get(int(message.command.get(Tag.RESPONDED_MESSAGE_ID, 0)))
        answer = message.command, bytes(message.dataset)
        self._assembler.recycle(message)
        if inbox is not None:  # one that comes after its request was given up is dropped
            inbox.put_nowait(answer)

    def _cancel(self, message_id: object) -> None:
        if self._current is not None and self._current.command.get(Tag.MESSAGE_ID) == message_id:
            self._current.cancelled.set()

    async def _serve(self) -> None:
        """Answer requests in their order; None ends the association."""
        while (message := await self._queue.get()) is not None:
            self._current = message
            self._read_on()
            try:
                await self._before(message)
                await self._answer(message)
            except (ConnectionError, TimeoutError) as error:
                unanswered = isinstance(error, ConnectionError)
                if not (unanswered and self._state is State.AWAITING_LOCAL_RELEASE):
                    self._close_now()
            except Exception as error:  # noqa: BLE001  (edge: one request must not end the listener)
                _log.error("dicom.request.failed", reason=type(error).__name__)
                await self._respond(message, response(message.command, Status.PROCESSING_FAILURE), None)
            finally:
                self._current = None
                if self._assembler is not None:
                    self._assembler.recycle(message)
            lanes = self._setup.lanes
            if lanes is not None and message.spool is not None and lanes.idle and self._may_leave_loop():
                self._enter_lane(lanes)
        self._released()

    def _may_leave_loop(self) -> bool:
        """Whether the event loop has nothing more to do for this connection than to read it."""
        transport = self._transport
        return (
            self._state is State.ESTABLISHED
            and self._queue.empty()
            and not (self._lane or self._ending or self._answers or self._sending.locked())
            and transport is not None
            and not transport.is_closing()
            and transport.get_write_buffer_size() == 0
            and transport.get_extra_info("ssl_object") is None
            and not self._is_full()
        )

    def _enter_lane(self, lanes: Keepers) -> None:
        """Give the connection to a thread for as long as objects follow each other."""
        transport, loop, assembler = self._transport, self._loop, self._assembler
        assert transport is not None
        assert loop is not None
        assert assembler is not None
        lane = Lane(
            os.dup(transport.get_extra_info("socket").fileno()),
            self._framer,
            assembler,
            store=self._store_in_lane,
            touch=self._touched,
            patience_s=PATIENCE_S,
        )

        def work() -> None:
            rest = lane.run()
            with suppress(RuntimeError):  # the loop may have ended meanwhile
                loop.call_soon_threadsafe(self._after_lane, rest)

        self._lane, self._lane_over = lane, loop.create_future()
        transport.pause_reading()
        lanes.put(work)

    def _after_lane(self, rest: Rest) -> None:
        """Take the connection back, with what the lane left."""
        self._lane = self._current = None
        if self._lane_over is not None and not self._lane_over.done():
            self._lane_over.set_result(None)
        if self._state is State.IDLE:
            assert self._assembler is not None
            with suppress(PduError, DimseError):
                for message in rest.messages:
                    self._assembler.recycle(message)
            self._assembler.drop()
            return
        assert self._transport is not None
        if not (self._ending or self._transport.is_closing()):
            self._transport.resume_reading()
        if rest.unsent:
            self._write(rest.unsent)
        self._understand(rest.messages, rest.pdus)
        if self._is_full() and self._state is State.ESTABLISHED:
            self._transport.pause_reading()

    def _touched(self, now_s: float) -> bool:
        self._last_byte = now_s
        return self._state is State.ESTABLISHED

    def _store_in_lane(self, message: Message) -> bytes | None:
        assert self._setup.store_here is not None
        assert self._assembler is not None
        assert self._loop is not None
        if int(message.command[Tag.COMMAND_FIELD]) != CommandField.C_STORE_RQ or message.spool is None:
            return None
        self._current = message
        command = self._setup.store_here(message, self._peer, self._loop)
        self._current = None
        if command is None:
            return None
        self._assembler.recycle(message)
        return b"".join(self._pdus(message.context.context_id, command, None))

    async def _leave_lane(self) -> None:
        """Wait until the event loop has the connection."""
        while self._lane is not None:
            self._lane.leave()
            assert self._lane_over is not None
            await asyncio.shield(self._lane_over)

    async def _before(self, message: Message) -> None:
        """Wait where the peer must be slowed down."""

    async def _answer(self, message: Message) -> None:
        request = message.command
        handler = self._setup.handlers.get(int(request[Tag.COMMAND_FIELD]))
        if handler is None:
            await self._respond(message, response(request, Status.UNRECOGNIZED_OPERATION), None)
            return
        if message.refused:
            if self._setup.dropped is not None:
                await self._setup.dropped(message, self._peer, message.refused)
            answer = response(request, Status.OUT_OF_RESOURCES, comment=message.refused)
            await self._respond(message, answer, None)
            return
        try:
            async with aclosing(handler(message, self._peer)) as answers:  # type: ignore[type-var]
                async for command, dataset in answers:
                    await self._respond(message, command, dataset)
        except DigitalTwinError as error:
            status = Status.OUT_OF_RESOURCES if isinstance(error, StorageError) else Status.DOES_NOT_MATCH
            await self._respond(message, response(request, status, comment=error.what), None)

    async def _respond(self, message: Message, command: Command, dataset: bytes | None) -> None:
        if self._state is not State.IDLE:
            await self._send(message.context.context_id, command, dataset)

    async def _send(self, context_id: int, command: Command, dataset: bytes | memoryview | None) -> None:
        """Write one message; a large data set goes out as fast as the peer takes it."""
        if self._lane is not None:
            await self._leave_lane()
        if dataset is None and not self._sending.locked():
            await self._flush([*self._pdus(context_id, command, None)])
            return
        async with self._sending:  # fragments of two messages must not mix (PS3.8 annex E.2)
            waiting: list[bytes] = []
            size = 0
            for pdu in self._pdus(context_id, command, dataset):
                waiting.append(pdu)
                size += len(pdu)
                if size >= _WRITE_AT_ONCE:
                    await self._flush(waiting)
                    waiting, size = [], 0
            await self._flush(waiting)

    def _pdus(self, context_id: int, command: Command, dataset: bytes | memoryview | None) -> Iterator[bytes]:
        limit = self._peer_max_pdu
        yield from encode_data(context_id, encode_command(command), command=True, max_pdu_bytes=limit)
        if dataset is not None:
            yield from encode_data(context_id, dataset, command=False, max_pdu_bytes=limit)

    async def _flush(self, parts: list[bytes]) -> None:
        if self._state is State.IDLE:
            raise ConnectionResetError
        self._write(parts[0] if len(parts) == 1 else b"".join(parts))
        if not self._writable.is_set():
            async with asyncio.timeout(self._setup.limits.idle_s):
                await self._writable.wait()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _provider_abort(self, reason: AbortReason, text: str) -> None:
        """AA-1, AA-7, AA-8: send A-ABORT, then wait for the close under ARTIM."""
        _log.warning("dicom.association.aborted", peer=self._peer.calling_ae, reason=text)
        self._write(encode_abort(2, reason))
        # The rest of a broken stream cannot be understood: closing at once keeps the memory bounded.
        if self._transport is not None:
            self._transport.close()
        self._state = State.IDLE
        self._arm_artim()

    def _await_close(self) -> None:
        self._state = State.AWAITING_CLOSE
        self._arm_artim()

    def _close_now(self) -> None:
        self._state = State.IDLE
        if self._transport is not None:
            self._transport.abort()

    def _arm_artim(self) -> None:
        self._disarm()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._setup.limits.artim_s, self._close_now)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
