"""A subscriber for MQTT 3.1.1 and 5 on asyncio: parses only what a subscriber gets, in whole buffers.

OASIS MQTT 3.1.1 sections 2 and 3, MQTT 5.0 sections 2 and 3. The session is kept by the broker: what
devices publish with QoS 1 while nobody listens is delivered afterwards. QoS 1 is acknowledged once taken
and, where asked for, durable.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote, urlsplit

from digital_twins._errors import DigitalTwinError, InputError
from digital_twins._logging import get_logger

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    Take = Callable[[str, bytes], bool]

_log = get_logger(__name__)
_CONNECT, _CONNACK, _PUBLISH, _PUBACK, _SUBSCRIBE, _SUBACK, _PINGREQ = 1, 2, 3, 4, 8, 9, 12
_KEEP_ALIVE_S = 30
_LONGEST = 1 << 20
_RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)
_ANSWER_S = 10.0
_WHOLE_BYTES = 1 << 18
_GATHER_S = 0.02


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where a broker listens.

    Attributes
    ----------
    host, port
        TCP address.
    user, password
        Empty: none.
    version
        4 for MQTT 3.1.1, 5 for MQTT 5.
    tls
        Whether the connection is TLS.
    """

    host: str
    port: int
    user: str = ""
    password: str = ""
    version: int = 4
    tls: bool = False

    @classmethod
    def parse(cls, url: str) -> BrokerAddress:
        """Read ``mqtt://user:password@host:1883``; ``mqtts`` is TLS, ``mqtt5`` and ``mqtt5s`` version 5.

        Raises
        ------
        InputError
            It is no such URL.
        """
        kinds = {"mqtt": (4, False), "mqtts": (4, True), "mqtt5": (5, False), "mqtt5s": (5, True)}
        try:
            parts = urlsplit(url)
            version, tls = kinds[parts.scheme]
            port = parts.port or (8883 if tls else 1883)
        except (KeyError, ValueError):
            raise _no_url() from None
        if not parts.hostname:
            raise _no_url()
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        return cls(parts.hostname, port, user, password, version, tls)


def _no_url() -> InputError:
    return InputError(
        "The broker's address cannot be used.",
        "It is no URL of the form mqtt://host:port.",
        "Write mqtt, mqtts, mqtt5 or mqtt5s, then ://host:port.",
    )


class MqttSubscriber:
    """A subscription that connects again by itself: ``async with MqttSubscriber(...)``.

    Parameters
    ----------
    address
        The broker.
    topic
        Filter such as ``vitals/+``.
    take
        Called with topic and payload. False: there is no room; the message is not acknowledged, and the
        subscriber stops reading for a moment, so that the broker holds the rest (back-pressure).
    client_id
        Name of the session at the broker.
    durable
        Awaited before messages of QoS 1 are acknowledged: what was acknowledged is not lost.
    tls
        Context for ``mqtts``.

    Attributes
    ----------
    connected
        Whether the broker has accepted the subscription.
    messages
        How many came.
    """

    def __init__(
        self,
        address: BrokerAddress,
        *,
        topic: str,
        take: Take,
        client_id: str = "digital-twins-monitor",
        durable: Callable[[], Awaitable[None]] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.address = address
        self.connected = asyncio.Event()
        self.messages = 0
        self._topic, self._take, self._client_id, self._tls = topic, take, client_id, tls
        self._durable = durable
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        attempt = 0
        while True:
            try:
                await self._session()
            except (OSError, TimeoutError, asyncio.IncompleteReadError, DigitalTwinError) as error:
                _log.warning("mqtt.lost", host=self.address.host, reason=type(error).__name__)
            attempt = 0 if self.connected.is_set() else attempt + 1
            self.connected.clear()
            await asyncio.sleep(_RETRY_S[min(attempt, len(_RETRY_S) - 1)])

    async def _session(self) -> None:
        where = self.address
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await asyncio.open_connection(
                where.host, where.port, ssl=self._tls, limit=_WHOLE_BYTES
            )
        pinger: asyncio.Task[None] | None = None
        try:
            writer.write(_connect(where, self._client_id) + _subscribe(where, self._topic))
            pinger = asyncio.create_task(_ping(writer))
            buffer = bytearray()
            while True:
                async with asyncio.timeout(_KEEP_ALIVE_S * 1.5):
                    data = await reader.read(_WHOLE_BYTES)
                if not data:
                    return
                buffer += data
                await self._packets(buffer, writer)
                if self.connected.is_set() and len(data) < _WHOLE_BYTES // 4:
                    await _gather(writer.transport)
        finally:
            if pinger is not None:
                pinger.cancel()
            writer.close()

    async def _packets(self, buffer: bytearray, writer: asyncio.StreamWriter) -> None:
        """Use every whole packet of the buffer and cut it off."""
        place, view, acknowledged = 0, bytes(buffer), []
        while (found := _frame(view, place)) is not None:
            start, end = found
            kind = view[place] >> 4
            if kind == _PUBLISH:
                topic, identifier, body = _publish(view, place, (start, end), self.address.version)
                self.messages += 1
                while not self._take(topic, view[body:end]):
                    await asyncio.sleep(0.05)
                if identifier:
                    acknowledged.append(b"\x40\x02" + identifier)
            elif kind in {_CONNACK, _SUBACK}:
                self._answered(kind, view[start:end])
            place = end
        if acknowledged:
            if self._durable is not None:
                await self._durable()
            writer.write(b"".join(acknowledged))
            await writer.drain()
        del buffer[:place]

    def _answered(self, kind: int, body: bytes) -> None:
        refused = body[1] != 0 if kind == _CONNACK else body[-1] >= 0x80
        if refused:
            raise InputError(
                "The broker refused the subscription.",
                f"It answered with code {body[1] if kind == _CONNACK else body[-1]}.",
                "Check user, password, topic and version.",
            )
        if kind == _SUBACK:
            self.connected.set()


async def _gather(transport: asyncio.WriteTransport) -> None:
    """Let messages collect in the socket: waking up for each small piece costs more than reading it."""
    if isinstance(transport, asyncio.Transport) and not transport.is_closing():
        transport.pause_reading()
        await asyncio.sleep(_GATHER_S)
        transport.resume_reading()


async def _ping(writer: asyncio.StreamWriter) -> None:
    while True:
        await asyncio.sleep(_KEEP_ALIVE_S / 2)
        writer.write(bytes((_PINGREQ << 4, 0)))


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def _packet(head: int, body: bytes) -> bytes:
    length, left = bytearray(), len(body)
    while True:
        left, low = divmod(left, 128)
        length.append(low | (0x80 if left else 0))
        if not left:
            return bytes((head,)) + bytes(length) + body


def _connect(where: BrokerAddress, client_id: str) -> bytes:
    flags = (0x80 if where.user else 0) | (0x40 if where.password else 0)
    body = _text("MQTT") + bytes((where.version, flags)) + struct.pack(">H", _KEEP_ALIVE_S)
    if where.version == 5:
        body += b"\x05\x11" + struct.pack(">I", 86_400)  # session expiry interval: a day
    body += _text(client_id)
    for part in (where.user, where.password):
        body += _text(part) if part else b""
    return _packet(_CONNECT << 4, body)


def _subscribe(where: BrokerAddress, topic: str) -> bytes:
    properties = b"\x00" if where.version == 5 else b""
    return _packet((_SUBSCRIBE << 4) | 2, b"\x00\x01" + properties + _text(topic) + b"\x01")


def _frame(data: bytes, place: int) -> tuple[int, int] | None:
    """Return start and end of the body of the packet at a place; None until it is whole."""
    length, shift, at = 0, 0, place + 1
    if at < len(data) and (byte := data[at]) < 0x80:  # nearly every message is that short
        end = at + 1 + byte
        return (at + 1, end) if end <= len(data) else None
    while at < len(data):
        byte = data[at]
        length |= (byte & 0x7F) << shift
        at += 1
        if not byte & 0x80:
            if length > _LONGEST:
                break
            return (at, at + length) if at + length <= len(data) else None
        shift += 7
        if shift > 21:
            break
    else:
        return None
    raise InputError("The broker sent what is no MQTT.", "A packet is too long.", "Check host and port.")


def _publish(data: bytes, place: int, body: tuple[int, int], version: int) -> tuple[str, bytes, int]:
    """Return topic, packet identifier (empty for QoS 0) and the start of the payload."""
    start, end = body
    size = (data[start] << 8) | data[start + 1]
    at = start + 2 + size
    topic = data[start + 2 : at].decode("utf-8", "replace")
    identifier = b""
    if data[place] & 0x06:
        identifier = data[at : at + 2]
        at += 2
    if version == 5:
        length, shift = 0, 0
        while at < end:
            byte = data[at]
            length |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if not byte & 0x80:
                break
        at += length
    return topic, identifier, at
