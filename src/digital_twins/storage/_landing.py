"""A blob that has got its name and is on its way to the disk."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from typing import TYPE_CHECKING

from digital_twins.storage._failures import from_os_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from digital_twins.storage._spool import Spool

PROVEN_MODE = 0o440
"""Mode of a file whose syncs are done; it reaches the disk after the bytes."""

WHAT = "The bytes could not be stored."


class Landing:
    """What `BlobStore.land` returns: readable under its name at once, on disk when `wait` returns.

    Parameters
    ----------
    root, folder, name
        Of the store, and where in it the file lies.
    spool
        The file; None when the blob was on disk before.
    digest
        SHA-256 of the blob, in hex.
    """

    __slots__ = (
        "_error",
        "_name",
        "_parent",
        "_root",
        "_settling",
        "_spool",
        "_syncs",
        "_writing",
        "digest",
    )

    def __init__(
        self, root: Path, folder: str, name: str, *, spool: Spool | None = None, digest: str
    ) -> None:
        self.digest = digest
        self._root, self._parent, self._name, self._spool = root, folder, f"{folder}/{name}", spool
        self._settling = threading.Lock()
        self._syncs: _Syncs | None = None
        self._writing: _Syncs | None = None
        self._error: OSError | None = None

    def start(self, run: Callable[[Callable[[], None]], None]) -> None:
        """Let file and folder be synced elsewhere, at one time: the disk then flushes once for both.

        Before, the file is written, if its bytes wait in memory.

        Parameters
        ----------
        run
            Gets each of the two pieces of work, to be done in a thread that waits for nothing else.
        """
        if self._spool is None:
            return
        spool, syncs = self._spool, _Syncs(2)
        self._syncs = syncs
        if spool.staged is not None:
            self._writing = _Syncs(1)
        run(lambda: syncs.run(lambda: self._write_and_sync(spool)))
        run(lambda: syncs.run(lambda: sync_path(self._parent)))

    def _write_and_sync(self, spool: Spool) -> None:
        if self._writing is not None:
            self._writing.run(spool.write_out)
            self._writing.wait()
        os.fsync(spool.descriptor)

    def written(self) -> None:
        """Return when whoever opens the file finds all of it, be it on disk or not; further calls do nothing.

        Raises
        ------
        StorageError
            It could not be written; `wait` takes its name back.
        """
        if self._writing is not None:
            try:
                self._writing.wait()
            except OSError as error:
                raise from_os_error(error, WHAT) from error

    def wait(self) -> None:
        """Return when the blob is on disk; further calls do nothing.

        Raises
        ------
        StorageError
            It could not be brought there, and its name was taken back. Each call raises it.
        """
        with self._settling:
            spool, self._spool = self._spool, None
            if spool is not None:
                try:
                    self._settle(spool)
                except OSError as error:
                    self._error = error
                finally:
                    spool.discard()
        if self._error is not None:
            raise from_os_error(self._error, WHAT) from self._error

    def _settle(self, spool: Spool) -> None:
        try:
            if self._syncs is not None:
                self._syncs.wait()
            else:
                spool.write_out()
                os.fsync(spool.descriptor)
                sync_path(self._parent)
        except OSError:
            _unlink_own(self._root, self._name, spool.descriptor)
            raise
        os.fchmod(spool.descriptor, PROVEN_MODE)
        named = os.stat(self._name)  # noqa: PTH116  (a Path costs more)
        if not os.path.samestat(named, os.fstat(spool.descriptor)):
            for path in (self._name, self._parent):  # another put of the same bytes has replaced the file
                sync_path(path)


class _Syncs:
    """Writes or syncs in other threads; the last of them wakes who waits for all."""

    __slots__ = ("_done", "_error", "_left", "_mutex")

    def __init__(self, count: int) -> None:
        self._error: Exception | None = None
        self._left = count
        self._mutex = threading.Lock()
        self._done = threading.Lock()
        self._done.acquire()

    def run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  (edge of a thread: whatever it is goes to the waiter)
            self._error = error
        finally:
            with self._mutex:
                self._left -= 1
                last = self._left == 0
            if last:
                self._done.release()

    def wait(self) -> None:
        with self._done:  # others may wait too
            pass
        if self._error is not None:
            raise self._error


def land_again(root: Path, path: Path, *, whole: Callable[[], bool]) -> bool:
    """Bring a named file to the disk if it is whole, remove it if not, and return which it was.

    Parameters
    ----------
    whole
        Reads the file and tells; not called for a file that bears the mark of a finished sync.

    Raises
    ------
    StorageError
        The device failed.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        if not os.fstat(descriptor).st_mode & 0o222:
            return True
        if not whole():
            _unlink_own(root, str(path), descriptor)
            return False
        os.fsync(descriptor)
        sync_path(path.parent)
        os.fchmod(descriptor, PROVEN_MODE)
    except OSError as error:
        raise from_os_error(error, WHAT) from error
    finally:
        os.close(descriptor)
    return True


def sync_path(path: str | Path) -> None:
    """Sync a folder or a file by its name; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing(root: Path) -> Iterator[None]:
    """Keep every other process and thread from replacing or taking back names."""
    descriptor = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _unlink_own(root: Path, name: str, descriptor: int) -> None:
    """Take back a name whose sync failed, unless another put has replaced its file meanwhile."""
    with contextlib.suppress(OSError), replacing(root):
        if os.path.samestat(os.stat(name), os.fstat(descriptor)):  # noqa: PTH116  (a Path costs more)
            os.unlink(name)  # noqa: PTH108
