"""multipart/related bodies (RFC 2387, PS3.18 section 8.6.1.2), read as they arrive."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from digital_twins._errors import InputError

_MAX_HEADER_BYTES = 16384
_PARAMETER = re.compile(r';\s*([\w.-]+)\s*=\s*(?:"([^"]*)"|([^;,\s]+))')


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its header fields by lower-case name, and its body."""

    headers: dict[str, str]
    body: bytes


def media_type(value: str) -> tuple[str, dict[str, str]]:
    """Split a media type into its lower-case name and its parameters."""
    name = value.split(";", 1)[0].strip().lower()
    return name, {m[1].lower(): m[2] if m[2] is not None else m[3] for m in _PARAMETER.finditer(value)}


def new_boundary() -> str:
    """Return a boundary that no body holds by chance."""
    return secrets.token_hex(16)


class MultipartReader:
    """Cuts a multipart body into parts while it arrives; holds one part at a time.

    Parameters
    ----------
    content_type
        The header of the whole body, which names the boundary.
    max_part_bytes
        Longest part that is accepted.

    Raises
    ------
    InputError
        Not multipart, no boundary, malformed or too long parts.
    """

    def __init__(self, content_type: str, *, max_part_bytes: int) -> None:
        name, parameters = media_type(content_type)
        boundary = parameters.get("boundary", "")
        if not name.startswith("multipart/") or not 0 < len(boundary) <= 200:
            raise _malformed("the content type names no boundary")
        self._delimiter = b"\r\n--" + boundary.encode("latin-1", "replace")
        self._max_part_bytes = max_part_bytes
        self._buffer = bytearray(b"\r\n")
        self._searched = 0
        self._preamble = True
        self.complete = False

    def feed(self, data: bytes) -> list[Part]:
        """Take the next bytes and return the parts that they complete."""
        self._buffer += data
        parts: list[Part] = []
        while not self.complete:
            at = self._buffer.find(self._delimiter, self._searched)
            if at < 0:
                self._searched = max(0, len(self._buffer) - len(self._delimiter))
                if len(self._buffer) > self._max_part_bytes + _MAX_HEADER_BYTES:
                    raise _malformed(f"a part is longer than {self._max_part_bytes} bytes")
                break
            tail = bytes(self._buffer[at + len(self._delimiter) : at + len(self._delimiter) + 2])
            if len(tail) < 2:
                self._searched = at
                break
            if not self._preamble:
                parts.append(_part(memoryview(self._buffer)[:at]))
            self._preamble = False
            del self._buffer[: at + len(self._delimiter)]
            # The line break that ends the delimiter stays: it starts the header block.
            self._searched = 0
            self.complete = tail == b"--"
        return parts

    def finish(self) -> None:
        """Say that no more bytes come; raises InputError when the closing delimiter has not."""
        if not self.complete:
            raise _malformed("it ends before its closing boundary")


def _part(raw: memoryview) -> Part:
    head_end = bytes(raw[:_MAX_HEADER_BYTES]).find(b"\r\n\r\n")
    if head_end < 0:
        raise _malformed("a part has no header block")
    headers: dict[str, str] = {}
    for line in bytes(raw[:head_end]).decode("latin-1").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    body = bytes(raw[head_end + 4 :])
    raw.release()
    return Part(headers, body)


def _malformed(why: str) -> InputError:
    return InputError(
        "The multipart body cannot be read.",
        why.capitalize() + ".",
        "Send multipart/related as RFC 2387 says.",
    )
