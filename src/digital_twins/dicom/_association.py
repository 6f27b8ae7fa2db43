"""The acceptor's side of an association: the state machine of PS3.8 section 9.2 on asyncio."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, cast

from digital_twins._errors import DigitalTwinError, StorageError
from digital_twins._logging import get_logger
from digital_twins.dicom._contexts import negotiate
from digital_twins.dicom._dimse import (
    CommandField,
    DimseError,
    Status,
    Tag,
    encode_command,
    response,
)
from digital_twins.dicom._framing import Assembler, Framer, Message
from digital_twins.dicom._pdu import (
    APPLICATION_CONTEXT,
    AbortReason,
    AssociateAccept,
    PduError,
    PduType,
    decode_associate,
    encode_abort,
    encode_accept,
    encode_data,
    encode_reject,
    encode_release_reply,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from digital_twins.dicom._contexts import AcceptedContext
    from digital_twins.dicom._dimse import Command
    from digital_twins.dicom._framing import Budget
    from digital_twins.dicom._pdu import AssociateRequest

IMPLEMENTATION_CLASS_UID = "2.25.212706317014384166152386157236482106837"
IMPLEMENTATION_VERSION = "DIGITALTWINS_01"
_QUEUE_LENGTH = 8
_log = get_logger(__name__)


class State(IntEnum):
    """The acceptor's states by their numbers in PS3.8 table 9-1."""

    IDLE = 1
    AWAITING_REQUEST = 2
    ESTABLISHED = 6
    AWAITING_LOCAL_RELEASE = 8
    AWAITING_CLOSE = 13


@dataclass(frozen=True, slots=True)
class Limits:
    """What one listener grants its peers.

    Attributes
    ----------
    max_pdu_bytes
        Largest P-DATA-TF that is received; announced to the peer.
    max_associations
        Established associations at a time; the next request is rejected as 'local limit exceeded'.
    max_half_open
        Connections that have not yet associated; beyond it the oldest is dropped.
    max_object_bytes, max_buffered_bytes
        Largest single object, and bytes of unfinished objects of all associations together.
    artim_s
        Seconds that a new connection has for its request, and a finished one for closing (PS3.8 9.1.5).
    idle_s
        Seconds without a byte, while nothing is being processed, after which an association is aborted.
    """

    max_pdu_bytes: int = 131072
    max_associations: int = 64
    max_half_open: int = 128
    max_object_bytes: int = 2**30
    max_buffered_bytes: int = 2**31
    artim_s: float = 30.0
    idle_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of an association."""

    calling_ae: str
    called_ae: str
    address: str
    implementation_version: str


@dataclass(slots=True)
class Node:
    """What all associations of one listener share.

    Attributes
    ----------
    handlers
        Command field of a request to the coroutine generator that yields its responses.
    accepts_called, accepts_calling
        Given an AE title, whether it may be called here, and whether it may call.
    prefix
        Bytes to put before a data set that arrives: the file header of an object.
    """

    limits: Limits
    budget: Budget
    handlers: Mapping[int, Callable[[Message, Peer], AsyncIterator[tuple[Command, bytes | None]]]]
    accepts_called: Callable[[str], bool]
    accepts_calling: Callable[[str], bool]
    prefix: Callable[[Command, AcceptedContext], bytes]
    half_open: dict[Association, None]
    established: dict[Association, None]


class Association(asyncio.BufferedProtocol):
    """One accepted connection from its first byte to its end."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._framer = Framer(node.limits.max_pdu_bytes)
        self._assembler: Assembler | None = None
        self._transport: asyncio.Transport | None = None
        self._state = State.IDLE
        self._queue: asyncio.Queue[Message | None] = asyncio.Queue()
        self._current: Message | None = None
        self._worker: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._last_byte = 0.0
        self._peer_max_pdu = 0
        self._peer = Peer("", "", "", "")

    @property
    def state(self) -> State:
        """The state of PS3.8 table 9-1 that the association is in."""
        return self._state

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """AE-5: start ARTIM and wait for the request."""
        self._transport = cast("asyncio.Transport", transport)
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        name = transport.get_extra_info("peername")
        self._peer = Peer("", "", str(name[0]) if name else "", "")
        self._state = State.AWAITING_REQUEST
        half_open = self._node.half_open
        if len(half_open) >= self._node.limits.max_half_open:
            next(iter(half_open)).drop()
        half_open[self] = None
        self._arm_artim()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Give the transport room for the next bytes."""
        del sizehint
        return self._framer.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Handle what arrived; no exception leaves this boundary."""
        self._last_byte = asyncio.get_running_loop().time()
        try:
            for kind, body in self._framer.received(nbytes):
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
        self._node.half_open.pop(self, None)
        self._node.established.pop(self, None)
        if self._assembler is not None:
            self._assembler.drop()
        if self._current is not None:
            self._current.cancelled.set()
        self._writable.set()
        self._queue.put_nowait(None)

    def pause_writing(self) -> None:
        """The peer reads slower than we write."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._writable.set()

    async def finish(self) -> None:
        """Let the request in work be answered, then abort: the end of an association at shutdown."""
        if self._transport is None:
            return
        if self._state is not State.IDLE:
            self._transport.pause_reading()
        while self._working():
            await asyncio.sleep(0.01)
        if self._state is not State.IDLE:
            self._transport.write(encode_abort(0, 0))
            self._transport.close()

    def _working(self) -> bool:
        if self._worker is None or self._worker.done():
            return False
        return self._current is not None or not self._queue.empty()

    def _event(self, kind: PduType, body: memoryview) -> None:
        """Table 9-10 of PS3.8 for the acceptor."""
        if kind is PduType.ABORT:
            self._close_now()
        elif self._state is State.AWAITING_CLOSE:
            if kind is PduType.ASSOCIATE_RQ:
                self._provider_abort(AbortReason.UNEXPECTED_PDU, "a request came after the end")
        elif self._state is State.AWAITING_REQUEST and kind is PduType.ASSOCIATE_RQ:
            self._on_request(decode_associate(body))
        elif self._state is State.ESTABLISHED and kind is PduType.P_DATA_TF:
            self._on_data(body)
        elif self._state is State.ESTABLISHED and kind is PduType.RELEASE_RQ:
            self._state = State.AWAITING_LOCAL_RELEASE
            self._queue.put_nowait(None)
        else:
            self._provider_abort(AbortReason.UNEXPECTED_PDU, f"PDU {kind} in state {self._state}")

    def _on_request(self, request: AssociateRequest) -> None:
        node = self._node
        self._peer = Peer(
            request.calling_ae, request.called_ae, self._peer.address, request.implementation_version
        )
        refusal = self._refusal(request)
        if refusal is not None:
            _log.warning("dicom.association.rejected", peer=request.calling_ae, reason=refusal[2])
            self._write(encode_reject(*refusal))
            self._await_close()
            return
        answers, accepted = negotiate(request.contexts)
        self._assembler = Assembler(accepted, node.limits.max_object_bytes, node.budget, node.prefix)
        self._peer_max_pdu = request.max_pdu_bytes
        node.half_open.pop(self, None)
        node.established[self] = None
        self._disarm()
        self._state = State.ESTABLISHED
        self._timer = asyncio.get_running_loop().call_later(node.limits.idle_s, self._check_idle)
        self._worker = asyncio.get_running_loop().create_task(self._serve())
        self._write(
            encode_accept(
                AssociateAccept(
                    called_ae=request.called_ae,
                    calling_ae=request.calling_ae,
                    contexts=answers,
                    max_pdu_bytes=node.limits.max_pdu_bytes,
                    implementation_class_uid=IMPLEMENTATION_CLASS_UID,
                    implementation_version=IMPLEMENTATION_VERSION,
                )
            )
        )

    def _refusal(self, request: AssociateRequest) -> tuple[int, int, int] | None:
        """Result, source and reason of PS3.8 table 9-21, or None to accept."""
        if not request.protocol_version & 1:
            return (1, 2, 2)
        if request.application_context != APPLICATION_CONTEXT:
            return (1, 1, 2)
        if not self._node.accepts_called(request.called_ae):
            return (1, 1, 7)
        if not self._node.accepts_calling(request.calling_ae):
            return (1, 1, 3)
        if len(self._node.established) >= self._node.limits.max_associations:
            return (2, 3, 2)
        if 0 < request.max_pdu_bytes <= 12:
            return (1, 1, 1)
        return None

    def _on_data(self, body: memoryview) -> None:
        assert self._assembler is not None
        for message in self._assembler.add(body):
            if message.command[Tag.COMMAND_FIELD] == CommandField.C_CANCEL_RQ:
                self._cancel(message.command.get(Tag.RESPONDED_MESSAGE_ID))
                continue
            self._queue.put_nowait(message)
            if self._queue.qsize() >= _QUEUE_LENGTH and self._transport is not None:
                self._transport.pause_reading()

    def _cancel(self, message_id: object) -> None:
        if self._current is not None and self._current.command.get(Tag.MESSAGE_ID) == message_id:
            self._current.cancelled.set()

    async def _serve(self) -> None:
        """Answer requests in their order; None ends the association."""
        while (message := await self._queue.get()) is not None:
            self._current = message
            if self._transport is not None and self._state is State.ESTABLISHED:
                self._transport.resume_reading()
            try:
                await self._answer(message)
            except (ConnectionError, TimeoutError):
                self._close_now()
            except Exception as error:  # noqa: BLE001  (edge: one request must not end the listener)
                _log.error("dicom.request.failed", reason=type(error).__name__)
                await self._send(message, response(message.command, Status.PROCESSING_FAILURE), None)
            finally:
                self._current = None
                if self._assembler is not None:
                    self._assembler.recycle(message)
        if self._state is State.AWAITING_LOCAL_RELEASE:
            self._write(encode_release_reply())
            self._await_close()

    async def _answer(self, message: Message) -> None:
        request = message.command
        handler = self._node.handlers.get(int(request[Tag.COMMAND_FIELD]))
        if handler is None:
            await self._send(message, response(request, Status.UNRECOGNIZED_OPERATION), None)
            return
        if message.refused:
            answer = response(request, Status.OUT_OF_RESOURCES, comment=message.refused)
            await self._send(message, answer, None)
            return
        try:
            async for command, dataset in handler(message, self._peer):
                await self._send(message, command, dataset)
        except DigitalTwinError as error:
            status = Status.OUT_OF_RESOURCES if isinstance(error, StorageError) else Status.DOES_NOT_MATCH
            await self._send(message, response(request, status, comment=error.what), None)

    async def _send(self, message: Message, command: Command, dataset: bytes | None) -> None:
        if self._state is State.IDLE:
            return
        context_id, limit = message.context.context_id, self._peer_max_pdu
        parts = list(encode_data(context_id, encode_command(command), command=True, max_pdu_bytes=limit))
        if dataset is not None:
            parts += encode_data(context_id, dataset, command=False, max_pdu_bytes=limit)
        self._write(b"".join(parts))
        if not self._writable.is_set():
            async with asyncio.timeout(self._node.limits.idle_s):
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

    def drop(self) -> None:
        """Close the connection without a word (AA-2)."""
        self._close_now()

    def _close_now(self) -> None:
        self._state = State.IDLE
        self._node.half_open.pop(self, None)
        if self._transport is not None:
            self._transport.abort()

    def _arm_artim(self) -> None:
        self._disarm()
        self._timer = asyncio.get_running_loop().call_later(self._node.limits.artim_s, self._close_now)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_idle(self) -> None:
        loop = asyncio.get_running_loop()
        quiet_s = loop.time() - self._last_byte
        idle_s = self._node.limits.idle_s
        if self._current is None and quiet_s >= idle_s:
            self._provider_abort(AbortReason.NOT_SPECIFIED, "idle for too long")
            return
        wait_s = idle_s if self._current is not None else idle_s - quiet_s
        self._timer = loop.call_later(max(wait_s, 0.01), self._check_idle)
