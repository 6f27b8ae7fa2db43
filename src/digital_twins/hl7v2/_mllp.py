"""MLLP over TCP (HL7 v2 transport specification, MLLP release 1): server and client on asyncio.

A frame is VT, the message, FS CR. One message is under way at a time on a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from digital_twins._errors import DigitalTwinError, StorageError
from digital_twins._logging import get_logger
from digital_twins.hl7v2._build import acknowledge
from digital_twins.hl7v2._errors import HL7Error, malformed
from digital_twins.hl7v2._message import MAX_MESSAGE_BYTES, Message, parse

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterator
    from types import TracebackType

    Handler = Callable[[Message], Awaitable[None]]
    Refused = Callable[[Message | None, HL7Error], Awaitable[None]]

_log = get_logger(__name__)
_START, _END = b"\x0b", b"\x1c\r"
_REJECTED = {"200", "201", "202", "203"}  # table 0357: what MSH asks for is not served


@dataclass(frozen=True, slots=True)
class MllpLimits:
    """What one port bears.

    Attributes
    ----------
    max_message_bytes
        Longest message; a longer one is answered AR and ends the connection.
    max_connections
        Connections at a time; a further one is closed at once.
    idle_s
        Longest wait for the next message.
    message_s
        Longest time from the first byte of a message to its last, and for the peer to take an answer.
    """

    max_message_bytes: int = MAX_MESSAGE_BYTES
    max_connections: int = 32
    idle_s: float = 600.0
    message_s: float = 60.0


class MllpServer:
    """An open MLLP port; made by `start_mllp`."""

    def __init__(self, handler: Handler, limits: MllpLimits, on_refused: Refused | None = None) -> None:
        self._handler = handler
        self._on_refused = on_refused
        self._limits = limits
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return len(self._tasks)

    async def _open(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        server = await asyncio.start_server(
            self._serve, host, port, limit=self._limits.max_message_bytes, ssl=tls, backlog=128
        )
        self._server = server
        self.port = int(server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening, let messages under way be answered for a second, and end the connections."""
        if self._server is not None:
            self._server.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._tasks) >= self._limits.max_connections:
            writer.close()
            _log.warning("hl7.refused", count=len(self._tasks))
            return
        self._tasks.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            _log.info("hl7.ended", reason=type(error).__name__)
        finally:
            self._tasks.discard(task)
            writer.transport.abort() if not writer.transport.is_closing() else writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one message; False ends the connection."""
        limits = self._limits
        try:
            data = await read_frame(reader, idle_s=limits.idle_s, message_s=limits.message_s)
        except HL7Error as error:
            await self._tell(None, error)
            await self._write(writer, acknowledge(None, "AR", error=error))
            writer.close()
            return False
        if data is None:
            writer.close()
            return False
        for answer in await self._answers(data):
            await self._write(writer, answer)
        return True

    async def _write(self, writer: asyncio.StreamWriter, answer: Message) -> None:
        writer.write(_START + answer.to_bytes() + _END)
        async with asyncio.timeout(self._limits.message_s):
            await writer.drain()

    async def _answers(self, data: bytes) -> list[Message]:
        message: Message | None = None
        error: HL7Error | None = None
        severity = "A"
        try:
            message = parse(data, max_bytes=self._limits.max_message_bytes)
            await self._handler(message)
        except HL7Error as refusal:
            error = refusal
            severity = "R" if message is None or refusal.code in _REJECTED else "E"
        except DigitalTwinError as refusal:
            error = HL7Error(refusal.what, refusal.why, refusal.fix, code="207")
            severity = "E"
            if isinstance(refusal, StorageError):
                _log.error("hl7.storage", what=refusal.what, why=refusal.why)
        except Exception as failure:  # noqa: BLE001  (edge of the port: the peer must learn that nothing was kept)
            _log.error("hl7.failed", error=type(failure).__name__)
            error = HL7Error("The message was not taken.", "The node failed.", "Send it again.", code="207")
            severity = "E"
        if error is not None:
            await self._tell(message, error)
        return list(_acknowledgements(message, severity, error))

    async def _tell(self, message: Message | None, error: HL7Error) -> None:
        """Tell of a refusal; trouble with that must not keep the sender from its answer."""
        if self._on_refused is None:
            return
        try:
            await self._on_refused(message, error)
        except DigitalTwinError as trouble:
            _log.error("hl7.refusal.untold", what=trouble.what)


def _acknowledgements(message: Message | None, severity: str, error: HL7Error | None) -> Iterator[Message]:
    """Yield the answers that MSH-15 and MSH-16 ask for; without them (original mode) one A ack.

    The handler has written durably by now, so the commit acknowledgement and the application's say the same.
    """
    accept, application = (message["MSH-15"], message["MSH-16"]) if message is not None else ("", "")
    if not accept and not application:
        yield acknowledge(message, f"A{severity}", error=error)
        return
    wanted = {"AL": True, "NE": False, "ER": error is not None, "SU": error is None}
    for kind, condition in (("C", accept), ("A", application)):
        if wanted.get(condition, False):
            yield acknowledge(message, f"{kind}{severity}", error=error)


async def read_frame(reader: asyncio.StreamReader, *, idle_s: float, message_s: float) -> bytes | None:
    """Return the message of the next frame, None when the peer has closed between frames.

    Raises
    ------
    HL7Error
        What comes is no frame, or longer than the reader's limit.
    TimeoutError
        Nothing came within `idle_s`, or the rest not within `message_s`.
    IncompleteReadError
        The peer closed within a frame.
    """
    async with asyncio.timeout(idle_s):
        first = await reader.read(1)
        while first in {b"\r", b"\n"}:  # some senders end frames with more than the standard's CR
            first = await reader.read(1)
    if not first:
        return None
    if first != _START:
        raise malformed("What came over MLLP does not begin with VT.", "Frame messages as MLLP says.")
    try:
        async with asyncio.timeout(message_s):
            return (await reader.readuntil(_END))[: -len(_END)]
    except asyncio.LimitOverrunError:
        raise malformed("The frame is longer than this port takes.", "Send less at once.") from None


async def start_mllp(
    handler: Handler,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    limits: MllpLimits | None = None,
    tls: ssl.SSLContext | None = None,
    on_refused: Refused | None = None,
) -> MllpServer:
    """Open an MLLP port and return it.

    Parameters
    ----------
    handler
        Awaited for each message; the acknowledgement goes out after it has returned, so it must have written
        durably by then. It raises `HL7Error` to refuse: AR for the codes 200 to 203, AE for others. Any
        other error is answered AE with code 207.
    host, port
        Where to listen; port 0 takes a free one.
    limits
        What the port bears.
    tls
        Context of the server side; None speaks plain TCP.
    on_refused
        Awaited before a refusal is answered, with the message (None when it could not be read) and why.

    Raises
    ------
    StorageError
        The port is occupied.
    """
    server = MllpServer(handler, limits or MllpLimits(), on_refused)
    try:
        await server._open(host, port, tls)
    except OSError as error:
        raise StorageError(
            f"The HL7 port {port} could not be opened.",
            f"The system answered: {error.strerror or type(error).__name__}.",
            "Stop the program that uses the port, or choose another.",
        ) from error
    return server


class MllpClient:
    """A connection to an MLLP port: ``async with MllpClient("127.0.0.1", 2575) as client``.

    Parameters
    ----------
    host, port
        Where the receiver listens.
    tls
        Context of the client side; None speaks plain TCP.
    timeout_s
        Longest wait for the connection, and for an answer.
    """

    def __init__(
        self, host: str, port: int, *, tls: ssl.SSLContext | None = None, timeout_s: float = 30.0
    ) -> None:
        self.host = host
        self.port = port
        self._tls = tls
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(self._timeout_s):
                self._reader, self._writer = await asyncio.open_connection(
                    self.host, self.port, ssl=self._tls, limit=MAX_MESSAGE_BYTES
                )
        except (OSError, TimeoutError) as error:
            raise _unanswered("the connection could not be opened") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(self._timeout_s):
                await self._writer.wait_closed()

    async def send(self, message: Message) -> Message:
        """Send a message and return its acknowledgement, whatever that says (MSA-1).

        Raises
        ------
        HL7Error
            No answer came in time, or one that does not belong to the message (MSA-2).
        """
        async with self._lock:
            try:
                async with asyncio.timeout(self._timeout_s):
                    self._writer.write(_START + message.to_bytes() + _END)
                    await self._writer.drain()
                    data = await read_frame(self._reader, idle_s=self._timeout_s, message_s=self._timeout_s)
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                raise _unanswered("no whole answer came") from error
        if data is None:
            raise _unanswered("the receiver closed the connection")
        answer = parse(data)
        if answer["MSA-2"] != message.control_id:
            raise _unanswered("the answer is for another message (MSA-2)")
        return answer


def send_message(
    message: Message, host: str, port: int, *, tls: ssl.SSLContext | None = None, timeout_s: float = 30.0
) -> Message:
    """Send one message over a connection of its own and return the acknowledgement.

    Raises
    ------
    HL7Error
        As for `MllpClient`.
    """

    async def once() -> Message:
        async with MllpClient(host, port, tls=tls, timeout_s=timeout_s) as client:
            return await client.send(message)

    return asyncio.run(once())


def _unanswered(why: str) -> HL7Error:
    return HL7Error(
        "The HL7 v2 message was not acknowledged.",
        f"Over MLLP {why}.",
        "Check host, port and receiver, then send it again.",
        code="207",
    )
