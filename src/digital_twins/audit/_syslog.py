"""Audit events over syslog: RFC 5424 messages, framed and sent over TLS as RFC 5425 says (IHE ITI-20)."""

from __future__ import annotations

import base64
import fcntl
import os
import socket
import ssl
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from digital_twins._errors import StorageError
from digital_twins.audit._dicom_message import dicom_message

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from digital_twins.audit._event import AuditEvent

_PRIORITY = 10 * 8 + 5
"""Facility security/authorisation (10), severity notice (5)."""

_UNSENT = 0x5411  # TIOCOUTQ, for a socket SIOCOUTQ: bytes that the peer's system has not acknowledged
_CONNECT_S = 10.0
_CONFIRM_S = 10.0
CHECKPOINT = "TWIN-CHECKPOINT"
"""MSGID of messages that hold a signed checkpoint in base64."""


@dataclass(frozen=True, slots=True)
class SyslogTarget:
    """A syslog receiver over TLS.

    Attributes
    ----------
    host, port
        Where it listens; 6514 is the port of RFC 5425.
    authority
        PEM file of the authority whose certificate the receiver shows.
    certificate, key
        PEM files that this node shows, where the receiver asks.
    """

    host: str
    port: int
    authority: Path
    certificate: Path | None = None
    key: Path | None = None


def event_message(event: AuditEvent, *, sequence: int) -> bytes:
    """Return one RFC 5424 message with the DICOM audit message of an event.

    ``meta sequenceId`` is the row in the trail, so that a receiver sees gaps and repetitions.
    """
    number = (sequence - 1) % (2**31 - 1) + 1  # RFC 5424 section 7.3.1: 1 to 2147483647
    return _message(
        event.at_utc, event.node, "DICOM+RFC3881", f'[meta sequenceId="{number}"]', dicom_message(event)
    )


def checkpoint_message(note: str, *, at_utc: str, node: str) -> bytes:
    """Return one RFC 5424 message with a signed checkpoint: kept by the receiver it is an anchor."""
    return _message(at_utc, node, CHECKPOINT, "-", base64.b64encode(note.encode()).decode("ascii"))


def _message(at_utc: str, node: str, message_id: str, data: str, text: str) -> bytes:
    host = "".join(sign for sign in socket.gethostname() if "!" <= sign <= "~")[:255] or "-"
    name = "".join(sign for sign in node if "!" <= sign <= "~")[:48] or "digital-twins"
    head = f"<{_PRIORITY}>1 {at_utc} {host} {name} {os.getpid()} {message_id} {data} "
    return head.encode("ascii") + b"\xef\xbb\xbf" + text.encode()


class SyslogConnection:
    """One TLS connection; `send` returns once the receiver's system has acknowledged the bytes.

    Syslog itself acknowledges nothing: what the receiver's system took and its program did not can be lost.
    `SyslogForwarder` therefore sends the last seconds again after a connection broke.

    Raises
    ------
    StorageError
        The receiver cannot be reached, or is not who it should be.
    """

    def __init__(self, target: SyslogTarget) -> None:
        try:
            context = ssl.create_default_context(cafile=str(target.authority))
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            if target.certificate is not None:
                context.load_cert_chain(target.certificate, target.key)
            raw = socket.create_connection((target.host, target.port), timeout=_CONNECT_S)
        except OSError as error:
            raise _failed(type(error).__name__) from error
        try:
            self._socket = context.wrap_socket(raw, server_hostname=target.host)
        except OSError as error:
            raw.close()
            raise _failed(type(error).__name__) from error

    def send(self, messages: list[bytes]) -> None:
        """Send messages in their order, each with its length before it (RFC 5425 section 4.3).

        Raises
        ------
        StorageError
            The connection broke: any of the messages may be lost.
        """
        try:
            self._check_open()
            self._socket.sendall(b"".join(b"%d %b" % (len(each), each) for each in messages))
            self._confirm()
        except OSError as error:
            raise _failed(type(error).__name__) from error

    def _check_open(self) -> None:
        """Notice a receiver that has gone: what is written to it would vanish."""
        self._socket.settimeout(0.0)
        try:
            if self._socket.recv(4096) == b"":
                raise ConnectionResetError
        except (ssl.SSLWantReadError, BlockingIOError):
            pass
        finally:
            self._socket.settimeout(_CONNECT_S)

    def _confirm(self) -> None:
        deadline = time.monotonic() + _CONFIRM_S
        while struct.unpack("i", fcntl.ioctl(self._socket.fileno(), _UNSENT, bytes(4)))[0]:
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.002)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _failed(why: str) -> StorageError:
    return StorageError(
        "Audit events were not sent to the syslog receiver.",
        f"The connection failed or broke ({why}).",
        "Check host, port and certificates; what was not sent is sent when the receiver is back.",
    )
