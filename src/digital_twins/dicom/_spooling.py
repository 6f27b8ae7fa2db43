"""Data sets on their way to disk while they arrive."""

from __future__ import annotations

import mmap
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from digital_twins._errors import DigitalTwinError
from digital_twins.storage import STAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from digital_twins.storage import Spool

INLINE_BYTES = 2**24
"""What is written at once, by whoever feeds: a thread would cost more than these writes, which go to memory
of the system and are synced per object. Beyond, a slow disk must not hold up the event loop."""

_HEAD_BYTES = 2**16
_SMALL_BYTES = 2**15
_PIECE_BYTES = 2**18
_THREAD_PIECE_BYTES = 2**21


class SpoolWriter:
    """Writes and hashes what it is fed: first into memory, and what outgrows that in pieces of a useful size.

    Parameters
    ----------
    spool
        The file.
    on_written
        Called in the thread that writes a large object after each piece, for whoever waits for room.

    """

    def __init__(self, spool: Spool, on_written: Callable[[], None]) -> None:
        self.spool = spool
        self._staged = spool.staged is not None
        self._head = bytearray()
        self._on_written = on_written
        self._stage = bytearray()
        self._thread: ThreadPoolExecutor | None = None
        self._last: Future[None] | None = None
        self._error: DigitalTwinError | None = None
        self._ended = False
        self._fed = self._written = 0  # each is counted by one thread

    @property
    def head(self) -> memoryview:
        """All of a small object, of others the first 64 KiB, which hold what the index needs of most."""
        staged = self.spool.staged
        return memoryview(self._head) if staged is None else staged

    @property
    def waiting(self) -> int:
        """Pieces of a large object that are still in memory."""
        return self._fed - self._written

    def feed(self, fragment: bytes | memoryview) -> None:
        """Take bytes; the caller may touch its memory again."""
        if self._staged:
            if self.spool.size_bytes + len(fragment) <= STAGE_BYTES:
                self._write(fragment)
                return
            self._head += self.head[:_HEAD_BYTES]
            self._staged = False
        room = _HEAD_BYTES - len(self._head)
        if room > 0:
            self._head += fragment[:room]
        if self._thread is None and len(fragment) >= _SMALL_BYTES:
            self._flush()
            self._write(fragment)
        else:
            self._stage += fragment
            if len(self._stage) >= (_PIECE_BYTES if self._thread is None else _THREAD_PIECE_BYTES):
                self._flush()
        if self._thread is None and self.spool.size_bytes >= INLINE_BYTES:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")

    def room(self, count: int) -> memoryview | None:
        """Return where the next bytes may be put instead of feeding them; None: nowhere."""
        return self.spool.room(count) if self._staged else None

    def arrived(self, count: int) -> None:
        """Take as fed what was put into a `room`."""
        self.spool.arrived(count)

    def finish(self) -> Spool:
        """Wait until everything is written; raises StorageError when a piece could not be."""
        self._flush()
        if self._last is not None:
            self._last.result()
        if self._error is not None:
            raise self._error
        return self.spool

    @contextmanager
    def mapped(self) -> Iterator[memoryview]:
        """Lend the whole file as memory; a large one's may be dropped again, where it is not encrypted."""
        staged = self.spool.staged
        if staged is not None:
            yield staged
            return
        if self.spool.data_key:
            yield self.spool.content()
            return
        mapping = mmap.mmap(self.spool.descriptor, 0, access=mmap.ACCESS_READ)
        view = memoryview(mapping)
        try:
            yield view
        finally:
            with suppress(BufferError):  # a slice in the frames of an error: it goes with them
                view.release()
                mapping.close()

    def discard(self) -> None:
        """End the thread, and remove the file unless the store has taken it."""
        if self._ended:
            return
        self._ended = True
        if self._thread is None:
            self.spool.discard()
        else:
            self._thread.submit(self.spool.discard)
            self._thread.shutdown(wait=False)

    def _flush(self) -> None:
        if not self._stage:
            return
        if self._thread is None:
            self._write(self._stage)
        else:
            self._fed += 1
            self._last = self._thread.submit(self._write_there, self._stage)
        self._stage = bytearray()

    def _write_there(self, piece: bytearray) -> None:
        try:
            self._write(piece)
        finally:
            self._written += 1
            self._on_written()

    def _write(self, piece: bytes | bytearray | memoryview) -> None:
        try:
            if self._error is None:
                self.spool.write(piece)
        except DigitalTwinError as error:
            self._error = error
