"""From a byte stream to whole PDUs and whole DIMSE messages, with memory bounds at every step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from digital_twins.dicom._dimse import MAX_COMMAND_BYTES, NO_DATASET, DimseError, Tag, decode_command
from digital_twins.dicom._pdu import DATA_HEADER, HEADER, AbortReason, PduError, PduType, pdvs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from digital_twins.dicom._contexts import AcceptedContext
    from digital_twins.dicom._dimse import Command
    from digital_twins.dicom._spooling import SpoolWriter

MAX_ASSOCIATE_BYTES = 2**20
_FIRST_BUFFER_BYTES = 4096
_DATA_BUFFER_BYTES = 2**18 + 4096
"""Room for two PDUs of the length that is announced."""

_FIRST_OBJECT_BYTES = 2**16
_KEPT_BUFFER_BYTES = 2**24


_KINDS = {int(kind): kind for kind in PduType}


class Framer:
    """Cuts the stream into PDUs inside a buffer that grows only as bytes really arrive.

    Parameters
    ----------
    max_pdu_bytes
        Largest P-DATA-TF that is accepted; a longer declared length raises `PduError` before any byte of
        it is stored.
    """

    def __init__(self, max_pdu_bytes: int) -> None:
        self.max_pdu_bytes = max_pdu_bytes
        self._limits = {
            PduType.ASSOCIATE_RQ: MAX_ASSOCIATE_BYTES,
            PduType.ASSOCIATE_AC: MAX_ASSOCIATE_BYTES,
            PduType.P_DATA_TF: max_pdu_bytes,
        }
        self._buffer = bytearray(_FIRST_BUFFER_BYTES)
        self._start = 0
        self._end = 0
        self._needed = 0

    def buffer(self) -> memoryview:
        """Return the free part of the buffer for the transport to fill; never empty."""
        if self._end == len(self._buffer):
            if self._start:
                kept = self._end - self._start
                view = memoryview(self._buffer)  # moves in place, where a slice would be copied first
                view[:kept] = view[self._start : self._end]
                self._start, self._end = 0, kept
            else:
                grown = bytearray(min(len(self._buffer) * 2, max(self._needed, _DATA_BUFFER_BYTES)))
                grown[: self._end] = self._buffer
                self._buffer = grown
        return memoryview(self._buffer)[self._end :]

    def pending(self) -> memoryview:
        """Return what came of a PDU that is not whole; valid until the next call."""
        return memoryview(self._buffer)[self._start : self._end]

    def take(self) -> memoryview:
        """Return what `pending` does and forget it."""
        pending = self.pending()
        self._start = self._end = self._needed = 0
        return pending

    def give_back(self, *parts: bytes | bytearray | memoryview) -> None:
        """Take bytes back, before any others came; `received` has to look at them."""
        data = b"".join(parts)
        if len(data) > len(self._buffer):
            self._buffer = bytearray(max(len(data), _DATA_BUFFER_BYTES))
        self._buffer[: len(data)] = data
        self._start, self._end, self._needed = 0, len(data), 0

    def received(self, count: int) -> Iterator[tuple[PduType, memoryview]]:
        """Take ``count`` new bytes and yield each whole PDU; a body is valid until the next buffer call.

        Raises
        ------
        PduError
            Unknown type (at its first byte) or a length beyond the limit (at its header).
        """
        self._end += count
        if self._end - self._start < self._needed:
            return
        while self._start < self._end:
            first = self._buffer[self._start]
            if not PduType.ASSOCIATE_RQ <= first <= PduType.ABORT:
                raise PduError("the first byte is that of no DICOM PDU", AbortReason.UNRECOGNIZED_PDU)
            if self._end - self._start < HEADER.size:
                break
            kind, length = _KINDS[first], HEADER.unpack_from(self._buffer, self._start)[1]
            if length > self._limits.get(kind, 4):
                raise PduError(f"a PDU of type {kind} declares {length} bytes")
            self._needed = HEADER.size + length
            if self._end - self._start < self._needed:
                break
            begin = self._start + HEADER.size
            self._start += self._needed
            self._needed = 0
            yield kind, memoryview(self._buffer)[begin : self._start]
        if self._start == self._end:
            self._start = self._end = 0


class Budget:
    """Bytes that all associations together may hold in unfinished objects."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0

    def take(self, count: int) -> bool:
        """Reserve ``count`` bytes; False when the budget is spent."""
        if self.used_bytes + count > self.limit_bytes:
            return False
        self.used_bytes += count
        return True

    def give(self, count: int) -> None:
        """Hand ``count`` bytes back."""
        self.used_bytes -= count


class Cancelled:
    """Whether the peer has cancelled a request; an asyncio.Event costs more than all else here."""

    __slots__ = ("_set",)

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        """Note the cancel."""
        self._set = True

    def is_set(self) -> bool:
        """Whether it was noted."""
        return self._set


@dataclass(slots=True)
class Message:
    """One DIMSE request as it came: command, presentation context, data set bytes.

    Attributes
    ----------
    file
        The data set behind the prefix that the assembler was told to put before it; valid until the message
        is recycled.
    prefix_bytes
        Length of that prefix.
    spool
        Where prefix and data set went instead: those of an object that is to be stored.
    refused
        Why the data set was dropped while it arrived (too big), or ''.
    failure
        What storing it has raised already; its handler has only to answer.
    """

    command: Command
    context: AcceptedContext
    file: memoryview = field(default_factory=lambda: memoryview(b""))
    prefix_bytes: int = 0
    spool: SpoolWriter | None = None
    refused: str = ""
    failure: Exception | None = None
    cancelled: Cancelled = field(default_factory=Cancelled)

    @property
    def dataset(self) -> memoryview:
        """The data set as it came."""
        return self.file[self.prefix_bytes :]


def no_prefix(command: Command, context: AcceptedContext) -> bytes:
    """Put nothing before a data set."""
    del command, context
    return b""


def no_spool(message: Message) -> SpoolWriter | None:
    """Keep every data set in memory."""
    del message
    return None


class Room(NamedTuple):
    """Where the only value of a PDU goes, and whether it ends its data set."""

    memory: memoryview
    last: bool


class Assembler:
    """Joins presentation data values into messages (PS3.7 section 6.3, PS3.8 annex E).

    Parameters
    ----------
    contexts
        The accepted presentation contexts by identifier.
    max_object_bytes
        A data set beyond this is read to its end and dropped.
    budget
        Shared with all associations; a data set that it cannot hold is dropped in the same way.
    prefix
        Bytes to put before the data set of a message, so that a file need not be copied together later.
    spool
        Opens a file for the data set that a command announces; None keeps it in memory.
    """

    def __init__(
        self,
        contexts: Mapping[int, AcceptedContext],
        max_object_bytes: int,
        budget: Budget,
        prefix: Callable[[Command, AcceptedContext], bytes] = no_prefix,
        *,
        spool: Callable[[Message], SpoolWriter | None] = no_spool,
    ) -> None:
        self._contexts = contexts
        self._max_object_bytes = max_object_bytes
        self._budget = budget
        self._command = bytearray()
        self._context_id: int | None = None
        self._open: Message | None = None
        self._prefix = prefix
        self._spool = spool
        self._buffer = bytearray()
        self._length = 0

    def add(self, body: memoryview) -> Iterator[Message]:
        """Take the body of one P-DATA-TF and yield the messages that it completes.

        Raises
        ------
        PduError, DimseError
            Unknown context, mixed contexts, a data set without command, a bad command.
        """
        for context_id, control, fragment in pdvs(body):
            if context_id not in self._contexts:
                raise PduError("data came on a presentation context that was not accepted")
            if self._context_id not in {None, context_id}:
                raise PduError("a message changes its presentation context")
            self._context_id = context_id
            message = (
                self._command_part(context_id, fragment, last=bool(control & 2))
                if control & 1
                else self._dataset_part(fragment, last=bool(control & 2))
            )
            if message is not None:
                self._context_id = None
                yield message

    def room(self, head: memoryview, max_pdu_bytes: int) -> Room | None:
        """Return where the fragment goes whose headers a PDU begins with, if it may be put there.

        None: it is too long, no plain part of the data set under way, or that does not wait in memory; `add`
        sees what is wrong with it, if anything.
        """
        message = self._open
        if message is None or message.spool is None or message.refused or len(head) < DATA_HEADER.size:
            return None
        kind, length, value_bytes, context_id, control = DATA_HEADER.unpack_from(head)
        count = value_bytes - 2
        if (
            kind != PduType.P_DATA_TF
            or length > max_pdu_bytes
            or length != value_bytes + 4
            or count <= 0
            or context_id != self._context_id
            or control & 1
            or self._length + count - message.prefix_bytes > self._max_object_bytes
        ):
            return None
        memory = message.spool.room(count)
        return None if memory is None else Room(memory, bool(control & 2))

    def arrived(self, count: int, *, last: bool) -> Message | None:
        """Take over what was put into a `room`, and return the message if that ends it."""
        message = self._open
        assert message is not None
        assert message.spool is not None
        message.spool.arrived(count)
        self._length += count
        if not last:
            return None
        self._open = self._context_id = None
        return message

    @property
    def spooling(self) -> SpoolWriter | None:
        """Where the message that is arriving goes to disk, if it does."""
        return self._open.spool if self._open is not None else None

    def drop(self) -> None:
        """Give the bytes of an unfinished message back to the budget."""
        if self._open is not None:
            self._drop_dataset(self._open)
            self._open = None

    def recycle(self, message: Message) -> None:
        """Take back the memory of an answered message: touching new pages costs as much as the copying."""
        if message.spool is not None:
            message.spool.discard()
            return
        self._budget.give(len(message.dataset))
        buffer = message.file.obj
        message.file = memoryview(b"")
        if isinstance(buffer, bytearray) and len(self._buffer) < len(buffer) <= _KEPT_BUFFER_BYTES:
            self._buffer = buffer

    def _command_part(self, context_id: int, fragment: memoryview, *, last: bool) -> Message | None:
        if self._open is not None:
            raise DimseError("a command starts before the data set of the last one ended")
        self._command += fragment
        if len(self._command) > MAX_COMMAND_BYTES:
            raise DimseError("a command set is too long")
        if not last:
            return None
        command = decode_command(self._command)
        self._command = bytearray()
        message = Message(command, self._contexts[context_id])
        if command[Tag.DATASET_TYPE] == NO_DATASET:
            return message
        self._open = message
        prefix = self._prefix(command, message.context)
        message.prefix_bytes = self._length = len(prefix)
        message.spool = self._spool(message)
        if message.spool is not None:
            message.spool.feed(prefix)
            return None
        if len(self._buffer) < self._length:
            self._buffer = bytearray(_FIRST_OBJECT_BYTES)
        self._buffer[: self._length] = prefix
        return None

    def _dataset_part(self, fragment: memoryview, *, last: bool) -> Message | None:
        message = self._open
        if message is None:
            raise DimseError("a data set came without its command")
        if not message.refused:
            self._keep(message, fragment)
        if not last:
            return None
        self._open = None
        if message.spool is None and not message.refused:
            message.file = memoryview(self._buffer)[: self._length]
            self._buffer = bytearray()
        return message

    def _keep(self, message: Message, fragment: memoryview) -> None:
        end = self._length + len(fragment)
        if end - message.prefix_bytes > self._max_object_bytes:
            message.refused = f"object is larger than {self._max_object_bytes} bytes"
        elif message.spool is not None:
            message.spool.feed(fragment)
            self._length = end
            return
        elif not self._budget.take(len(fragment)):
            message.refused = "the node's receive memory is in use, send again later"
        else:
            if end > len(self._buffer):
                grown = bytearray(max(2 * len(self._buffer), end))
                grown[: self._length] = memoryview(self._buffer)[: self._length]
                self._buffer = grown
            self._buffer[self._length : end] = fragment
            self._length = end
            return
        self._drop_dataset(message)

    def _drop_dataset(self, message: Message) -> None:
        if message.spool is not None:
            message.spool.discard()
            message.spool = None
        elif self._length > message.prefix_bytes:
            self._budget.give(self._length - message.prefix_bytes)
        self._length = message.prefix_bytes
        self._buffer = bytearray()
