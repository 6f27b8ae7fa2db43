"""Streams of Tink's AES-GCM-HKDF format written piece by piece, and read from any place."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from digital_twins.crypto._stream import (
    FIRST_PLAIN_BYTES,
    HEADER_BYTES,
    PLAIN_BYTES,
    SEGMENT_BYTES,
    TAG_BYTES,
    DecryptionError,
    Segments,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import WriteableBuffer


class StreamSealer:
    """Encrypts what it is fed as :func:`digital_twins.crypto.encrypt_stream` does, without reading a source.

    Parameters
    ----------
    write
        Receives the ciphertext, at most 1 MiB at a time; it keeps no reference to what it gets.
    key
        Key of 32 bytes.
    associated_data
        Bytes that must be the same at decryption.

    Raises
    ------
    InputError
        The key is not 32 bytes long.
    """

    def __init__(self, write: Callable[[memoryview], None], *, key: bytes, associated_data: bytes) -> None:
        self._segments = Segments.new(key, associated_data)
        self._write = write
        self._plain = bytearray()
        self._sealed: memoryview | None = None
        self._number = 0
        write(memoryview(self._segments.header))

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take plaintext; a segment leaves once it is known not to be the last."""
        rest = memoryview(data).cast("B")
        while rest:
            size = PLAIN_BYTES if self._number else FIRST_PLAIN_BYTES
            if len(self._plain) == size:
                self._emit(self._plain, last=False)
                self._plain.clear()
                continue
            if not self._plain and len(rest) > size:
                self._emit(rest[:size], last=False)
                rest = rest[size:]
                continue
            room = size - len(self._plain)
            self._plain += rest[:room]
            rest = rest[room:]

    def finish(self) -> None:
        """Write the last segment; nothing may be fed any more."""
        self._emit(self._plain, last=True)
        self._plain.clear()

    def _emit(self, plain: bytearray | memoryview, *, last: bool) -> None:
        if self._sealed is None or len(self._sealed) < len(plain) + TAG_BYTES:
            self._sealed = memoryview(bytearray(len(plain) + TAG_BYTES))
        piece = self._sealed[: len(plain) + TAG_BYTES]
        self._segments.cipher.encrypt_into(self._segments.nonce(self._number, last=last), plain, None, piece)
        self._number += 1
        self._write(piece)


class SealedReader(io.RawIOBase):
    """The plaintext of an encrypted file, readable from any place; each segment is verified before use.

    The segment that was opened last stays in memory (1 MiB), so neighbouring reads open it once. One thread
    at a time may use a reader.

    Parameters
    ----------
    descriptor
        Of the file; closed with the reader.
    start
        Where the encrypted stream begins in the file.
    key, associated_data
        As at encryption.

    Attributes
    ----------
    size_bytes
        Length of the plaintext.

    Raises
    ------
    DecryptionError
        The file is too short or does not start as an encrypted stream does.
    """

    def __init__(self, descriptor: int, *, start: int, key: bytes, associated_data: bytes) -> None:
        self._descriptor = descriptor
        self._start = start
        self._segments = Segments.read(os.pread(descriptor, HEADER_BYTES, start), key, associated_data)
        self._sealed_bytes = os.fstat(descriptor).st_size - start
        self._count = max(-(-self._sealed_bytes // SEGMENT_BYTES), 1)
        self.size_bytes = self._sealed_bytes - HEADER_BYTES - TAG_BYTES * self._count
        if self.size_bytes < 0:
            raise DecryptionError("It ends in the middle of a segment.")
        self._position = 0
        self._opened: tuple[int, memoryview] = (-1, memoryview(b""))

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Return the position in the plaintext."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a place of the plaintext and return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size_bytes}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read on at the position; 0 at the end."""
        room = memoryview(buffer).cast("B")
        count = self.read_at(self._position, room)
        self._position += count
        return count

    def read_at(self, position: int, room: memoryview) -> int:
        """Fill a buffer with the plaintext from a position on and return how much there was.

        Raises
        ------
        DecryptionError
            A segment that is needed does not verify; nothing of it is given.
        """
        filled = 0
        while filled < len(room) and position < self.size_bytes:
            number = (position + HEADER_BYTES) // PLAIN_BYTES
            begin = number * PLAIN_BYTES - HEADER_BYTES if number else 0
            plain = self._segment(number)[position - begin : position - begin + len(room) - filled]
            room[filled : filled + len(plain)] = plain
            filled += len(plain)
            position += len(plain)
        return filled

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()

    def _segment(self, number: int) -> memoryview:
        if self._opened[0] == number:
            return self._opened[1]
        from cryptography.exceptions import InvalidTag

        begin = number * SEGMENT_BYTES + (0 if number else HEADER_BYTES)
        stop = min((number + 1) * SEGMENT_BYTES, self._sealed_bytes)
        sealed = os.pread(self._descriptor, stop - begin, self._start + begin)
        last = number == self._count - 1
        try:
            plain = self._segments.cipher.decrypt(self._segments.nonce(number, last=last), sealed, None)
        except InvalidTag:
            raise DecryptionError(f"Segment {number} does not verify.") from None
        self._opened = (number, memoryview(plain))
        return self._opened[1]
