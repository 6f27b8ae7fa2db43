"""Bodies of known length made of bytes and slices of files, and ranges of them (RFC 9110 section 14)."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from digital_twins._errors import DigitalTwinError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from digital_twins.storage import BlobFile, BlobReader

PIECE_BYTES = 2**20
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class RangeError(DigitalTwinError):
    """The range that was asked for lies outside the body (HTTP 416)."""

    http_status = 416


@dataclass(frozen=True, slots=True)
class Slice:
    """A run of bytes of a blob, which never changes."""

    file: BlobFile
    offset: int
    length: int


class Body:
    """A body that is read as it is sent; never more than about 2 MiB of it are in memory.

    Parameters
    ----------
    segments
        What it is made of, in order.
    """

    def __init__(self, segments: Sequence[bytes | Slice]) -> None:
        self.segments = segments
        self.length = sum(_length(segment) for segment in segments)

    def read(self) -> memoryview:
        """Return the whole body."""
        return next(self._pieces(0, self.length, self.length), memoryview(b""))

    async def pieces(self, start: int, stop: int) -> AsyncIterator[memoryview]:
        """Yield the bytes from ``start`` to before ``stop``; a thread reads on while a piece is sent."""
        from anyio.to_thread import run_sync

        pieces = self._pieces(start, stop, PIECE_BYTES)
        nothing = memoryview(b"")
        coming = asyncio.ensure_future(run_sync(next, pieces, nothing))
        try:
            while piece := await coming:
                coming = asyncio.ensure_future(run_sync(next, pieces, nothing))
                yield piece
        finally:
            coming.cancel()

    def _pieces(self, start: int, stop: int, size: int) -> Iterator[memoryview]:
        """Fill one piece after the other: joining what was read would cost as much as reading it."""
        rest = stop - start
        piece = _room(min(size, rest))
        filled = 0
        for segment, begin, last in self._parts(start, stop):
            first = begin
            reader = None if isinstance(segment, bytes) else segment.file.reader()
            try:
                while first < last:
                    count = _copy(segment, reader, first, piece[filled : filled + last - first])
                    if count == 0:
                        return  # the file is shorter than it should be
                    first, filled, rest = first + count, filled + count, rest - count
                    if filled == len(piece):
                        yield piece
                        piece, filled = _room(min(size, rest)), 0
            finally:
                if reader is not None:
                    reader.close()

    def _parts(self, start: int, stop: int) -> Iterator[tuple[bytes | Slice, int, int]]:
        """Yield the segments of a range, each with its first byte and the one after its last."""
        position = 0
        for segment in self.segments:
            length = _length(segment)
            first, last = max(start - position, 0), min(stop - position, length)
            position += length
            if first < last:
                yield segment, first, last


def _room(size: int) -> memoryview:
    """Return memory that is all overwritten before it is read: clearing it would cost as much as a copy."""
    from numpy import empty, uint8

    return empty(size, uint8).data


def _copy(segment: bytes | Slice, reader: BlobReader | None, first: int, room: memoryview) -> int:
    """Copy bytes of a segment and return how many."""
    if isinstance(segment, bytes):
        room[:] = segment[first : first + len(room)]
        return len(room)
    assert reader is not None
    return reader.read_at(segment.offset + first, room)


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
