"""Bodies of known length made of bytes and slices of files, and ranges of them (RFC 9110 section 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from digital_twins._errors import DigitalTwinError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

PIECE_BYTES = 2**20
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class RangeError(DigitalTwinError):
    """The range that was asked for lies outside the body (HTTP 416)."""

    http_status = 416


@dataclass(frozen=True, slots=True)
class Slice:
    """A run of bytes of a file that never changes."""

    path: Path
    offset: int
    length: int


class Body:
    """A body that is read as it is sent; never more than about 1 MiB of it is in memory.

    Parameters
    ----------
    segments
        What it is made of, in order.
    """

    def __init__(self, segments: Sequence[bytes | Slice]) -> None:
        self.segments = segments
        self.length = sum(_length(segment) for segment in segments)

    def read(self) -> bytes:
        """Return the whole body."""
        return b"".join(self._pieces(0, self.length))

    async def pieces(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the bytes from ``start`` to before ``stop``, read in a thread."""
        from anyio.to_thread import run_sync

        pieces = self._pieces(start, stop)
        while piece := await run_sync(next, pieces, b""):
            yield piece

    def _pieces(self, start: int, stop: int) -> Iterator[bytes]:
        kept: list[bytes] = []
        size = 0
        for data in self._runs(start, stop):
            kept.append(data)
            size += len(data)
            if size >= PIECE_BYTES:
                yield b"".join(kept)
                kept, size = [], 0
        if kept:
            yield b"".join(kept)

    def _runs(self, start: int, stop: int) -> Iterator[bytes]:
        position = 0
        for segment in self.segments:
            length = _length(segment)
            first, last = max(start - position, 0), min(stop - position, length)
            position += length
            if first >= last:
                continue
            if isinstance(segment, bytes):
                yield segment[first:last]
                continue
            with segment.path.open("rb", buffering=0) as file:
                file.seek(segment.offset + first)
                while first < last and (data := file.read(min(last - first, PIECE_BYTES))):
                    first += len(data)
                    yield data


def _length(segment: bytes | Slice) -> int:
    return len(segment) if isinstance(segment, bytes) else segment.length


def parse_range(header: str | None, length: int) -> tuple[int, int] | None:
    """Return start and stop of the one range that a Range header asks for, None for the whole body.

    Several ranges, and units other than bytes, are answered by the whole body, as RFC 9110 allows.

    Raises
    ------
    RangeError
        The range starts behind the end of the body.
    """
    match = _RANGE.fullmatch((header or "").replace(" ", ""))
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        start, stop = max(length - int(match[2]), 0), length
        reached = int(match[2]) > 0
    else:
        start, stop = int(match[1]), min(int(match[2]) + 1, length) if match[2] else length
        reached = start < length
    if match[1] and match[2] and int(match[2]) < int(match[1]):
        return None
    if not reached:
        raise RangeError(
            "The range cannot be given.",
            f"The body has {length} bytes.",
            "Ask for a range that starts within the body.",
        )
    return start, stop
