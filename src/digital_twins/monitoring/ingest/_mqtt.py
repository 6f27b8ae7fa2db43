"""A subscriber for MQTT 3.1.1 and 5 on asyncio: parses only what a subscriber gets, in whole buffers.

OASIS MQTT 3.1.1 sections 2 and 3, MQTT 5.0 sections 2 and 3. The session is kept by the broker: what
devices publish with QoS 1 while nobody listens is delivered afterwards. QoS 1 is acknowledged once taken
and, where asked for, durable.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import numpy as np

from digital_twins._errors import DigitalTwinError, InputError
from digital_twins._logging import get_logger
from digital_twins.monitoring.ingest._message import Payloads
from digital_twins.monitoring.ingest._packets import CUT, NO_MQTT, packets
from digital_twins.monitoring.ingest._running import Running

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from numpy.typing import NDArray

    Packets = NDArray[np.int64]
    Take = Callable[[str, bytes], bool]
    TakeMany = Callable[[Payloads], Awaitable[None]]

_log = get_logger(__name__)
_CONNECT, _CONNACK, _PUBLISH, _SUBSCRIBE, _SUBACK, _PINGREQ = 1, 2, 3, 8, 9, 12
_KEEP_ALIVE_S = 30
_RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)
_ANSWER_S = 10.0
_WHOLE_BYTES = 1 << 18
_GATHER_S, _GATHER_ASKED_S = 0.1, 0.02  # where somebody waits for an acknowledgement, the shorter
_PACKETS = 4096


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


class MqttSubscriber(Running):
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
    take_many
        Instead of `take`: awaited with all messages that one read has brought; it returns once there was
        room for them.
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
        take: Take | None = None,
        take_many: TakeMany | None = None,
        client_id: str = "digital-twins-monitor",
        durable: Callable[[], Awaitable[None]] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.address = address
        self.connected = asyncio.Event()
        self.messages = 0
        self._topic, self._client_id, self._tls = topic, client_id, tls
        self._take, self._take_many = take, take_many
        self._found = np.empty((_PACKETS, 6), dtype=np.int64)
        packets(np.frombuffer(b"", np.uint8), address.version, self._found)  # compiled before anything comes
        self._durable = durable

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
                asked = await self._packets(buffer, writer)
                if self.connected.is_set() and len(data) < _WHOLE_BYTES // 4:
                    await _gather(writer.transport, _GATHER_ASKED_S if asked else _GATHER_S)
        finally:
            if pinger is not None:
                pinger.cancel()
            writer.close()

    async def _packets(self, buffer: bytearray, writer: asyncio.StreamWriter) -> bool:
        """Use every whole packet of the buffer and cut it off; return whether any had to be acknowledged."""
        data, place, identifiers = bytes(buffer), 0, b""
        table = np.frombuffer(data, np.uint8)
        while True:
            count, used, end = packets(table[place:], self.address.version, self._found)
            if end == NO_MQTT:
                raise InputError(
                    "The broker sent what is no MQTT.", "A packet has no such length.", "Check host and port."
                )
            found = self._found[:count].copy()
            found[:, 1:5] += place
            identifiers += await self._taken(data, found)
            place += used
            if end == CUT or place == len(data):
                break
        if identifiers:
            if self._durable is not None:
                await self._durable()
            writer.write(identifiers)
            await writer.drain()
        del buffer[:place]
        return bool(identifiers)

    async def _taken(self, data: bytes, found: Packets) -> bytes:
        """Use whole packets; return the acknowledgements of those of QoS 1."""
        published = found[:, 0] >> 4 == _PUBLISH
        for head, _, _, start, end, _ in found[~published].tolist():
            if head >> 4 in {_CONNACK, _SUBACK}:
                self._answered(head >> 4, data[start:end])
        found = found[published]
        self.messages += len(found)
        topics = [
            data[start:end] for start, end in zip(found[:, 1].tolist(), found[:, 2].tolist(), strict=True)
        ]
        if self._take_many is not None and topics:
            await self._take_many(Payloads(data, topics, found[:, 3].copy(), found[:, 4].copy()))
        if self._take is not None:
            for topic, (start, end) in zip(topics, found[:, 3:5].tolist(), strict=True):
                while not self._take(topic.decode("utf-8", "replace"), data[start:end]):
                    await asyncio.sleep(0.05)
        again = found[found[:, 5] > 0, 5]
        answers = np.empty((len(again), 4), dtype=np.uint8)
        answers[:, 0], answers[:, 1], answers[:, 2], answers[:, 3] = 0x40, 2, again >> 8, again & 0xFF
        return answers.tobytes()

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


async def _gather(transport: asyncio.WriteTransport, wait_s: float) -> None:
    """Let messages collect in the socket: waking up for each small piece costs more than reading it."""
    if isinstance(transport, asyncio.Transport) and not transport.is_closing():
        transport.pause_reading()
        await asyncio.sleep(wait_s)
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
