"""multipart/related bodies (RFC 2387, PS3.18 section 8.6.1.2), read as they arrive."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from digital_twins._errors import InputError

_MAX_HEADER_BYTES = 16384
_PARAMETER = re.compile(r';\s*([\w.-]+)\s*=\s*(?:"([^"]*)"|([^;,\s]+))')


class TooLongError(InputError):
    """A body, or a part of it, is longer than is taken (HTTP 413)."""

    http_status = 413


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
        Not multipart, no boundary, or malformed parts; `TooLongError` for too long ones.
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
                    raise TooLongError(
                        "The multipart body cannot be taken.",
                        f"A part is longer than {self._max_part_bytes} bytes.",
                        "Send smaller objects, or raise the limit of this node.",
                    )
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
    headers, body = _fields(bytes(raw[:head_end])), bytes(raw[head_end + 4 :])
    raw.release()
    return Part(headers, body)


def _fields(head: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in head.decode("latin-1").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            found[name.strip().lower()] = value.strip()
    return found


def _malformed(why: str) -> InputError:
    return InputError(
        "The multipart body cannot be read.",
        why.capitalize() + ".",
        "Send multipart/related as RFC 2387 says.",
    )


class PartSplitter:
    """Cuts a multipart body into pieces of parts while it arrives; holds no whole part.

    Parameters
    ----------
    content_type
        The header of the whole body, which names the boundary.

    Raises
    ------
    InputError
        Not multipart, no boundary, or a malformed part.
    """

    def __init__(self, content_type: str) -> None:
        name, parameters = media_type(content_type)
        boundary = parameters.get("boundary", "")
        if not name.startswith("multipart/") or not 0 < len(boundary) <= 200:
            raise _malformed("the content type names no boundary")
        self._delimiter = b"\r\n--" + boundary.encode("latin-1", "replace")
        self._buffer = bytearray(b"\r\n")
        self._inside = False
        self._wants_headers = False
        self.complete = False

    def feed(self, data: bytes) -> list[dict[str, str] | bytes | None]:
        """Return what the next bytes hold: headers where a part begins, pieces of it, None at its end."""
        self._buffer += data
        found: list[dict[str, str] | bytes | None] = []
        while not self.complete and self._step(found):
            pass
        return found

    def finish(self) -> None:
        """Say that no more bytes come; raises InputError when the closing delimiter has not."""
        if not self.complete:
            raise _malformed("it ends before its closing boundary")

    def _step(self, found: list[dict[str, str] | bytes | None]) -> bool:
        if self._wants_headers:
            return self._headers(found)
        at = self._buffer.find(self._delimiter)
        if at < 0 or len(self._buffer) < at + len(self._delimiter) + 2:
            sure = at if at >= 0 else len(self._buffer) - len(self._delimiter) + 1
            if self._inside and sure > 0:
                found.append(bytes(self._buffer[:sure]))
            if sure > 0:
                del self._buffer[:sure]
            return False
        if self._inside:
            found += [bytes(self._buffer[:at]), None]
        after = at + len(self._delimiter)
        self.complete = self._buffer[after : after + 2] == b"--"
        del self._buffer[:after]  # the line break that ends the delimiter starts the header block
        self._inside, self._wants_headers = False, True
        return True

    def _headers(self, found: list[dict[str, str] | bytes | None]) -> bool:
        end = self._buffer.find(b"\r\n\r\n", 0, _MAX_HEADER_BYTES)
        if end < 0:
            if len(self._buffer) > _MAX_HEADER_BYTES:
                raise _malformed("a part has no header block")
            return False
        found.append(_fields(bytes(self._buffer[:end])))
        del self._buffer[: end + 4]
        self._inside, self._wants_headers = True, False
        return True
