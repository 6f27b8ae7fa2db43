"""The data phase of an association in one thread: objects are received, stored and answered there."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field
from itertools import chain
from struct import Struct
from typing import TYPE_CHECKING

from digital_twins.dicom._pdu import DATA_HEADER, PduType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import NoReturn

    from digital_twins.dicom._framing import Assembler, Framer, Message

PATIENCE_S = 0.05
"""How long a lane waits for bytes before it gives the connection back to the event loop."""

_TIMEVAL = Struct("@ll")


@dataclass(slots=True)
class Rest:
    """What a lane read and left to the event loop, in the order of the stream.

    Attributes
    ----------
    unsent
        The end of an answer that the connection did not take at once.
    messages, pdus
        Whole messages, then whole PDUs; reading on may raise what is wrong with the stream.
    """

    unsent: bytes = b""
    messages: Iterator[Message] = field(default_factory=lambda: iter(()))
    pdus: Iterator[tuple[PduType, memoryview]] = field(default_factory=lambda: iter(()))


class Lane:
    """Serves one connection in the thread that calls `run`, until something else than an object comes.

    A sender of a series waits for each answer, so that every change of threads between its bytes and that
    answer is paid for in full: with the event loop there are three of them for an object.

    Parameters
    ----------
    descriptor
        A duplicate of the descriptor of the connection's socket, which blocks until the lane is left; closed
        at the end.
    framer, assembler
        Of the association; nobody else uses them until `ended` is called.
    store
        Stores the object of a message and returns the answer as PDUs, or None to leave it to the loop.
    touch
        Called with the time whenever bytes came; False when the association has ended.
    patience_s
        How long it waits for bytes.
    """

    def __init__(
        self,
        descriptor: int,
        framer: Framer,
        assembler: Assembler,
        *,
        store: Callable[[Message], bytes | None],
        touch: Callable[[float], bool],
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._connection = socket.socket(fileno=descriptor)
        self._patience_s = patience_s
        self._head = bytearray(DATA_HEADER.size)
        self._framer = framer
        self._assembler = assembler
        self._store = store
        self._touch = touch
        self._leaving = self._ended = False

    def leave(self) -> None:
        """Ask the thread to come back after the object in work."""
        self._leaving = True

    def run(self) -> Rest:
        """Work until there is nothing to read, or the event loop is needed, and return what is left to it."""
        try:
            self._be_patient()
            rest = None
            while rest is None:
                rest = self._step()
            return rest
        except Exception as error:  # noqa: BLE001  (edge of a thread: the event loop deals with it)
            return Rest(pdus=map(_raise, [error]))
        finally:
            self._connection.setblocking(False)  # noqa: FBT003  (of the event loop's descriptor too)
            self._connection.close()

    def _be_patient(self) -> None:
        """Let the system watch the time: a time-out of Python's costs a poll for each read."""
        seconds = int(self._patience_s)
        limit = _TIMEVAL.pack(seconds, round((self._patience_s - seconds) * 1e6))
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self._connection.setblocking(True)  # noqa: FBT003

    def _step(self) -> Rest | None:
        if self._leaving:
            return Rest()
        try:
            count = self._connection.recv_into(self._framer.buffer())
        except OSError:  # nothing for a while, or broken: the event loop finds out which
            return Rest()
        if count == 0 or not self._touch(time.monotonic()):
            return Rest()
        rest = self._deal_with(self._framer.received(count))
        if rest is not None:
            return rest
        writer = self._assembler.spooling
        return Rest() if writer is not None and writer.waiting else self._straight()

    def _deal_with(self, pdus: Iterator[tuple[PduType, memoryview]]) -> Rest | None:
        for kind, body in pdus:
            if kind is not PduType.P_DATA_TF:
                return Rest(pdus=chain([(kind, body)], pdus))
            messages = self._assembler.add(body)
            for message in messages:
                answer = self._store(message)
                if answer is None:
                    return Rest(messages=chain([message], messages), pdus=pdus)
                unsent = self._sent(answer)
                if unsent:
                    return Rest(unsent, messages, pdus)
        return None

    def _straight(self) -> Rest | None:
        """Receive the fragments of a small object right where they belong, as long as they come whole.

        One read takes the rest of a PDU and the headers of the next one, so that there is one for each PDU.
        """
        room = self._assembler.room(self._framer.pending(), self._framer.max_pdu_bytes)
        if room is None:
            return None
        pending = self._framer.take()
        self._head[:] = pending[: DATA_HEADER.size]
        position = len(pending) - DATA_HEADER.size
        room.memory[:position] = pending[DATA_HEADER.size :]
        while room is not None:
            position = self._filled(room.memory, position, with_head=not room.last)
            if position < len(room.memory):
                self._framer.give_back(self._head, room.memory[:position])
                return Rest()
            if self._ended:
                return Rest()
            message = self._assembler.arrived(len(room.memory), last=room.last)
            if message is not None:
                return self._answered(message)
            head = memoryview(self._head)[: position - len(room.memory)]
            room, position = self._assembler.room(head, self._framer.max_pdu_bytes), 0
        self._framer.give_back(head)
        return self._deal_with(self._framer.received(0))

    def _filled(self, memory: memoryview, position: int, *, with_head: bool) -> int:
        """Read until memory and the next header are full or nothing comes; return how much there is of both.

        The header stays that of this fragment until its memory is full.
        """
        while position < len(memory) and not self._leaving:
            parts: list[bytearray | memoryview] = [memory[position:]]
            if with_head:
                parts.append(self._head)
            try:
                count = self._connection.recvmsg_into(parts, 0, socket.MSG_WAITALL)[0]
            except OSError:
                break
            position += count
            self._ended = not self._touch(time.monotonic())
            if count == 0 or self._ended:
                break
        return position

    def _answered(self, message: Message) -> Rest | None:
        answer = self._store(message)
        if answer is None:
            return Rest(messages=iter([message]))
        unsent = self._sent(answer)
        return Rest(unsent) if unsent else None

    def _sent(self, answer: bytes) -> bytes:
        """Send an answer and return what was not taken of it."""
        try:
            return answer[self._connection.send(answer) :]
        except OSError:
            return answer


def _raise(error: Exception) -> NoReturn:
    raise error
