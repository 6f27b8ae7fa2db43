"""Content-addressed files: what `put` has returned is on disk."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from digital_twins._errors import InputError, StorageError
from digital_twins.crypto import DecryptionError
from digital_twins.storage._blob_file import BlobFile
from digital_twins.storage._failures import from_os_error
from digital_twins.storage._key_register import COMMON, ErasedError
from digital_twins.storage._landing import PROVEN_MODE, WHAT, Landing, land_again, replacing, sync_path
from digital_twins.storage._sealed import BlobKeys, read_header, sealed_bytes
from digital_twins.storage._spool import Spool, direct_works, nameless_works
from digital_twins.storage._stage import Stages

if TYPE_CHECKING:
    from collections.abc import Iterable

    from digital_twins.storage._key_register import KeyRegister

_DIGEST = re.compile(r"[0-9a-f]{64}")
_OPEN_FILES = 256
"""Files that `put_many` holds open at once, well below the usual limit of 1024."""

_NEW_MODE = 0o640
_READ_BYTES = 1 << 20


class BlobStore:
    """Immutable bytes under their SHA-256, as files ``root/ab/cdef...``.

    A blob is written to a temporary file, and file and folder are synced before anybody is told its name.
    A file is made read-only once both syncs are done: that mark reaches the disk after the bytes, so a name
    that bears it holds whole bytes whatever happened. A name without it may be torn after a power failure or
    the end of the process that was storing it, unless an earlier version or a restore left it; the next `put`
    of the same bytes replaces it. Threads and processes may share a root. Temporary files of processes that
    died are removed when a store opens.

    Parameters
    ----------
    root
        Folder of the store; made when missing.
    verify_on_read
        Compare the SHA-256 of every blob that `get` reads with its name.
    keys
        Encrypts every blob under a data key of its own that the key of its owner wraps; none: files are the
        bytes themselves.

    Raises
    ------
    StorageError
        The folder cannot be made or written.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        verify_on_read: bool = False,
        keys: KeyRegister | None = None,
    ) -> None:
        self.root = Path(root)
        self._verify = verify_on_read
        self._keys = None if keys is None else BlobKeys(keys)
        try:
            (self.root / "tmp").mkdir(parents=True, exist_ok=True)
            _remove_leftovers(self.root / "tmp")
            self._scratch, lock = _own_folder(self.root / "tmp")
            _make_folders(self.root)
        except OSError as error:
            raise from_os_error(error, "The blob store could not be opened.") from error
        self._nameless = nameless_works(self._scratch)
        self._direct = direct_works(self._scratch)
        self._stages = Stages()
        weakref.finalize(self, _give_up_folder, self._scratch, lock, os.getpid())

    def put(self, data: bytes, *, owner: str = COMMON) -> str:
        """Store `data` durably and return its SHA-256 in hex; bytes already stored are not written again.

        Parameters
        ----------
        data
            The blob.
        owner
            The patient whom it is about (medical record number): in an encrypted store that patient's key
            opens it, and it goes with that key.

        Raises
        ------
        StorageError
            Disk full, quota used up, read-only volume or device error; nothing of `data` is left behind.
        """
        digest = hashlib.sha256(data).hexdigest()
        try:
            if self._holds(digest, len(data), owner):
                return digest
        except OSError as error:
            raise from_os_error(error, WHAT) from error
        spool = self._spool(None)
        try:
            spool.append(data)
        except BaseException:
            spool.discard()
            raise
        self._land(spool, digest, owner).wait()
        return digest

    def put_many(self, blobs: Iterable[bytes], *, owner: str = COMMON) -> list[str]:
        """Store several blobs of one owner durably with one pass of syncs and return their SHA-256 in order.

        All files are written before they are synced, and each folder is synced once, which lets the file
        system commit its journal once for many files. Names appear only when every file is on disk.

        Raises
        ------
        StorageError
            As for `put`.
        """
        digests: list[str] = []
        temporary: dict[str, Path] = {}
        unsynced: list[int] = []
        try:
            for data in blobs:
                digest = hashlib.sha256(data).hexdigest()
                digests.append(digest)
                if digest not in temporary and not self._holds(digest, len(data), owner):
                    temporary[digest] = self._scratch / secrets.token_hex(8)
                    unsynced.append(_open_new(temporary[digest]))
                    self._fill(unsynced[-1], data, digest, owner)
                if len(unsynced) >= _OPEN_FILES:
                    _sync_and_close(unsynced)
            _sync_and_close(unsynced)
            if temporary:
                with replacing(self.root):
                    for digest, path in temporary.items():
                        path.replace(self.path(digest))
            for folder in sorted({self.path(digest).parent for digest in temporary}):
                sync_path(folder)
            for digest in temporary:
                self.path(digest).chmod(PROVEN_MODE)
        except OSError as error:
            raise from_os_error(error, WHAT) from error
        finally:
            _discard(unsynced, temporary.values())
        return digests

    def spool(self) -> Spool:
        """Open a blob that is written piece by piece; a small one waits in memory until `land`.

        Raises
        ------
        StorageError
            No file can be made.
        """
        return self._spool(self._stages)

    def _spool(self, stages: Stages | None) -> Spool:
        try:
            return Spool(
                self._scratch,
                nameless=self._nameless,
                sealed=self._keys is not None,
                stages=stages,
                direct=self._direct,
            )
        except OSError as error:
            raise from_os_error(error, WHAT) from error

    def put_spooled(self, spool: Spool, *, owner: str = COMMON) -> str:
        """Store what was spooled durably and return its SHA-256; the spool is used up, also by an error.

        Parameters
        ----------
        spool
            From `spool`.
        owner
            As for `put`.

        Raises
        ------
        StorageError
            As for `put`.
        """
        landing = self.land(spool, owner=owner)
        landing.wait()
        return landing.digest

    def land(self, spool: Spool, *, owner: str = COMMON) -> Landing:
        """Do what `put_spooled` does up to the syncs, for a caller with other work to do meanwhile.

        Parameters
        ----------
        spool
            From `spool`; its file may be used until `Landing.wait` has returned.
        owner
            As for `put`.

        Raises
        ------
        StorageError
            As for `put`; the spool is used up.
        """
        return self._land(spool, spool.digest, owner)

    def settle(self, digest: str) -> bool:
        """Bring a blob to the disk that may have got its name only, before the node stopped.

        Returns
        -------
        bool
            False: it is not there, or it was torn (then it is removed).

        Raises
        ------
        StorageError
            The device failed: nothing is known and nothing was removed.
        """

        def is_whole() -> bool:
            try:
                with self.file(digest).open() as stream:
                    whole = hashlib.sha256()
                    while piece := stream.read(_READ_BYTES):
                        whole.update(piece)
                    return whole.hexdigest() == digest
            except ErasedError:
                return True
            except DecryptionError:
                return False

        return land_again(self.root, self.path(digest), whole=is_whole)

    def get(self, digest: str) -> bytes:
        """Return the bytes of a blob.

        Raises
        ------
        InputError
            `digest` is not 64 hexadecimal digits.
        NotFoundError
            No blob has that SHA-256; ErasedError when its key was destroyed.
        StorageError
            The device failed, the file was changed (encrypted store), or (with `verify_on_read`) the bytes
            no longer match their name.
        """
        data = self.file(digest).read_bytes()
        if self._verify and hashlib.sha256(data).hexdigest() != digest:
            raise _damaged(digest)
        return data

    def verify(self, digest: str) -> None:
        """Read a blob and compare it with its name.

        Raises
        ------
        NotFoundError, StorageError
            It is missing, or its bytes have changed.
        """
        if hashlib.sha256(self.get(digest)).hexdigest() != digest:
            raise _damaged(digest)

    def file(self, digest: str) -> BlobFile:
        """Return a blob for reading it in pieces; raises InputError for what is no name."""
        return BlobFile(self.path(digest), digest, self._keys)

    def path(self, digest: str) -> Path:
        """Return the path at which a blob lies or would lie; read it through `file`."""
        if not _DIGEST.fullmatch(digest):
            raise InputError(
                "The blob name cannot be used.",
                "A blob is named by the 64 lower-case hexadecimal digits of its SHA-256.",
                "Pass the name that put() returned.",
            )
        return self.root / digest[:2] / digest[2:]

    def exists(self, digest: str) -> bool:
        """Whether a blob is stored."""
        return self.path(digest).is_file()

    def is_proven(self, digest: str) -> bool:
        """Whether a blob bears the mark of a file that is on disk."""
        try:
            return not self.path(digest).stat().st_mode & 0o222
        except FileNotFoundError:
            return False

    def _holds(self, digest: str, size: int, owner: str) -> bool:
        """Whether the name exists and bears the mark of a file whose syncs are done."""
        path = f"{self.root}/{digest[:2]}/{digest[2:]}"
        try:
            found = os.stat(path)  # noqa: PTH116  (a Path costs more)
            if found.st_mode & 0o222:
                return False
            if self._keys is None:
                return found.st_size == size
            return found.st_size == sealed_bytes(size) and self._keys.is_owner(
                read_header(path), digest, owner
            )
        except FileNotFoundError:
            return False

    def _fill(self, descriptor: int, data: bytes, digest: str, owner: str) -> None:
        """Write a blob; one that others own too keeps them, as far as they have it at this moment."""
        if self._keys is None:
            _write_all(descriptor, data)
            return
        data_key, pieces = self._keys.seal(data, digest, owner)
        with contextlib.suppress(FileNotFoundError):
            pieces[0] = self._keys.widened(data_key, digest, owner, read_header(self.path(digest)))
        for piece in pieces:
            _write_all(descriptor, piece)

    def _land(self, spool: Spool, digest: str, owner: str) -> Landing:
        """Give a whole file its name.

        The name is made before the syncs: a file system with a journal then needs one commit for both.
        """
        folder, name = f"{self.root}/{digest[:2]}", digest[2:]
        try:
            if self._keys is not None:
                spool.seal(self._keys.header(spool.data_key, digest, [owner]))
            if not spool.link(f"{folder}/{name}") and not self._replaced(spool, digest, owner):
                spool.discard()
                return Landing(self.root, folder, name, digest=digest)
        except BaseException as error:
            spool.discard()
            if isinstance(error, OSError):
                raise from_os_error(error, WHAT) from error
            raise
        return Landing(self.root, folder, name, spool=spool, digest=digest)

    def _replaced(self, spool: Spool, digest: str, owner: str) -> bool:
        """Put a file into the place of one that cannot be trusted; False when that one is on disk."""
        if self._holds(digest, spool.size_bytes, owner):
            return False
        target = f"{self.root}/{digest[:2]}/{digest[2:]}"
        spool.write_out()  # somebody may be about to read what goes
        with replacing(self.root):
            if self._keys is not None:
                with contextlib.suppress(FileNotFoundError):
                    before = read_header(target)
                    spool.seal(self._keys.widened(spool.data_key, digest, owner, before))
            spool.replace(target)
        return True


def _open_new(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _NEW_MODE)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _sync_and_close(descriptors: list[int]) -> None:
    while descriptors:
        os.fsync(descriptors[-1])
        os.close(descriptors.pop())


def _discard(descriptors: Iterable[int], paths: Iterable[Path]) -> None:
    """Remove what is left after a failure; on a failing device that waits for the next start."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()


def _damaged(digest: str) -> StorageError:
    return StorageError(
        f"The blob {digest} is damaged.",
        "The SHA-256 of its bytes is no longer its name.",
        "Restore this file from the backup and check the disk.",
    )


def _own_folder(parent: Path) -> tuple[Path, int]:
    """Make a folder for this process and lock it; the kernel drops the lock when the process ends."""
    while True:
        folder = parent / secrets.token_hex(8)
        folder.mkdir()
        try:
            lock = os.open(folder / "lock", os.O_RDONLY | os.O_CREAT, 0o640)
        except FileNotFoundError:
            continue  # another process that was just starting took it for a leftover
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return folder, lock
        os.close(lock)


def _remove_leftovers(parent: Path) -> None:
    for folder in parent.iterdir():
        try:
            lock = os.open(folder / "lock", os.O_RDONLY | os.O_CREAT, 0o640)
        except (FileNotFoundError, NotADirectoryError):
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _give_up_folder(folder: Path, lock: int, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _make_folders(root: Path) -> None:
    present = {path.name for path in root.iterdir()}
    for number in range(256):
        if f"{number:02x}" not in present:
            (root / f"{number:02x}").mkdir(exist_ok=True)
    sync_path(root)
