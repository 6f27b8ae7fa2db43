"""The data phase of an association in one thread: objects are received, stored and answered there."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from digital_twins.dicom._pdu import PduType

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from typing import NoReturn

    from digital_twins.dicom._framing import Assembler, Framer, Message

PATIENCE_S = 0.05
"""How long a lane waits for bytes before it gives the connection back to the event loop."""


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
    connection
        A duplicate of the connection's socket with a time-out of `PATIENCE_S`; closed at the end.
    framer, assembler
        Of the association; nobody else uses them until `ended` is called.
    store
        Stores the object of a message and returns the answer as PDUs, or None to leave it to the loop.
    touch
        Called with the time whenever bytes came; False when the association has ended.
    """

    def __init__(
        self,
        connection: socket.socket,
        framer: Framer,
        assembler: Assembler,
        *,
        store: Callable[[Message], bytes | None],
        touch: Callable[[float], bool],
    ) -> None:
        self._connection = connection
        self._framer = framer
        self._assembler = assembler
        self._store = store
        self._touch = touch
        self._leaving = False

    def leave(self) -> None:
        """Ask the thread to come back after the object in work."""
        self._leaving = True

    def run(self) -> Rest:
        """Work until there is nothing to read, or the event loop is needed, and return what is left to it."""
        try:
            rest = None
            while rest is None:
                rest = self._step()
            return rest
        except Exception as error:  # noqa: BLE001  (edge of a thread: the event loop deals with it)
            return Rest(pdus=map(_raise, [error]))
        finally:
            self._connection.close()

    def _step(self) -> Rest | None:
        if self._leaving:
            return Rest()
        try:
            count = self._connection.recv_into(self._framer.buffer())
        except OSError:  # nothing for a while, or broken: the event loop finds out which
            return Rest()
        if count == 0 or not self._touch(time.monotonic()):
            return Rest()
        pdus = self._framer.received(count)
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
        writer = self._assembler.spooling
        return Rest() if writer is not None and writer.waiting else None

    def _sent(self, answer: bytes) -> bytes:
        """Send an answer and return what was not taken of it."""
        try:
            return answer[self._connection.send(answer) :]
        except OSError:
            return answer


def _raise(error: Exception) -> NoReturn:
    raise error
