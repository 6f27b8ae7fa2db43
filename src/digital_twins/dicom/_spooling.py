"""Large data sets on their way to disk, beside the event loop."""

from __future__ import annotations

import mmap
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from digital_twins._errors import DigitalTwinError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from digital_twins.storage import Spool


class SpoolWriter:
    """Writes pieces in their order in a thread of its own.

    Parameters
    ----------
    spool
        The file.
    on_written
        Called in that thread after each piece, for whoever waits for room.
    """

    def __init__(self, spool: Spool, on_written: Callable[[], None]) -> None:
        self.spool = spool
        self._on_written = on_written
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._last: Future[None] | None = None
        self._error: DigitalTwinError | None = None
        self._ended = False
        self._fed = self._written = 0  # each is counted by one thread

    @property
    def waiting(self) -> int:
        """Pieces that are still in memory."""
        return self._fed - self._written

    def feed(self, piece: memoryview) -> None:
        """Queue a piece; the caller must not touch its memory again."""
        self._fed += 1
        self._last = self._thread.submit(self._write, piece)

    def finish(self) -> Spool:
        """Wait until everything is written; raises StorageError when a piece could not be."""
        if self._last is not None:
            self._last.result()
        if self._error is not None:
            raise self._error
        return self.spool

    @contextmanager
    def mapped(self) -> Iterator[memoryview]:
        """Lend the whole file as memory that the system may drop again."""
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
        if not self._ended:
            self._ended = True
            self._thread.submit(self.spool.discard)
            self._thread.shutdown(wait=False)

    def _write(self, piece: memoryview) -> None:
        try:
            if self._error is None:
                self.spool.write(piece)
        except DigitalTwinError as error:
            self._error = error
        finally:
            self._written += 1
            self._on_written()
