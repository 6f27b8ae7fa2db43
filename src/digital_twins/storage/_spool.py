"""A file that grows piece by piece and knows its SHA-256, on its way into the blob store."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import mmap
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from digital_twins.storage._failures import from_os_error
from digital_twins.storage._sealed import ASSOCIATED_DATA, HEADER_BYTES, new_data_key, new_stream
from digital_twins.storage._stage import STAGE_BYTES

if TYPE_CHECKING:
    from digital_twins.crypto import StreamSealer
    from digital_twins.storage._stage import Stages

_NEW_MODE = 0o640
_HASH_BYTES = 2**17
_BLOCK_BYTES = 4096
_DIRECT_BYTES = 2**16
"""From how many bytes on it pays to write past the page cache."""
_NO_LINK = frozenset({errno.EEXIST, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS})
"""Why a name cannot be made by a link: it exists, or this file system has no links."""


class Spool:
    """A temporary file of `BlobStore.spool`; one thread at a time may use it.

    Parameters
    ----------
    folder
        Where the file lies until it gets its name.
    nameless
        Whether it needs no name until then, as `nameless_works` found out: that saves two changes of a folder
        for every file, and a process that dies leaves nothing behind.
    sealed
        Encrypt what is written, under a new data key; the header comes with `seal`.
    stages
        Where what is to be written waits in memory, up to `STAGE_BYTES`, until `write_out`; without them, or
        encrypted, it is written as it comes.
    direct
        Write what waited in memory past the page cache, where `direct_works`: pages that nobody may ever read
        are neither found nor filled.

    Attributes
    ----------
    descriptor
        The file, open for reading and writing until `discard`.
    size_bytes
        What has been written, before encryption.
    data_key
        Key of an encrypted file; empty for another.
    """

    def __init__(
        self,
        folder: Path,
        *,
        nameless: bool,
        sealed: bool = False,
        stages: Stages | None = None,
        direct: bool = False,
    ) -> None:
        self._folder = folder
        self._direct = direct
        self._name = "" if nameless else self._new_name()
        self._stages = None if sealed else stages
        self.descriptor = (
            os.open(folder, os.O_RDWR | os.O_TMPFILE, _NEW_MODE)
            if nameless
            else os.open(self._name, os.O_RDWR | os.O_CREAT | os.O_EXCL, _NEW_MODE)
        )
        self.size_bytes = 0
        self._hash = hashlib.sha256()
        self._open = True
        self.data_key = b""
        self._stream: StreamSealer | None = None
        self._hashed = 0  # of the staged bytes
        self._stage = None if self._stages is None else self._stages.take()
        if sealed:
            self.data_key = new_data_key()
            self._write(bytes(HEADER_BYTES))
            self._stream = new_stream(self._write, self.data_key)

    @property
    def digest(self) -> str:
        """SHA-256 of what `write` has got, in hex."""
        self._hash_staged()
        return self._hash.hexdigest()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes.

        Raises
        ------
        StorageError
            Disk full, quota used up or device error; the spool is of no more use.
        """
        room = self.room(len(data))
        if room is not None:
            room[:] = data
            self.arrived(len(data))
            return
        if self._stage is not None:
            self._unstage()
        self._hash.update(data)
        self.append(data)

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes whose digest the caller knows, to a spool without stages; raises as `write` does."""
        self.size_bytes += len(data)
        if self._stream is None:
            self._write(data)
        else:
            self._stream.feed(data)

    def room(self, count: int) -> memoryview | None:
        """Return the memory where the next bytes would wait; None: they would not wait there."""
        end = self.size_bytes + count
        return None if self._stage is None or end > STAGE_BYTES else self._stage[self.size_bytes : end]

    def arrived(self, count: int) -> None:
        """Take over what was put into the whole of a `room`."""
        self.size_bytes += count
        if self.size_bytes - self._hashed >= _HASH_BYTES:
            self._hash_staged()

    @property
    def staged(self) -> memoryview | None:
        """All that `write` got, as long as it waits in memory; its memory is used again after `discard`."""
        return None if self._stage is None else self._stage[: self.size_bytes]

    def write_out(self) -> None:
        """Write what waits in memory; raises OSError. Further calls do nothing."""
        content = self.staged
        if content is not None:
            if self._direct and self.size_bytes >= _DIRECT_BYTES:
                content = _written_past_cache(self.descriptor, content)
            while content:
                content = content[os.write(self.descriptor, content) :]
            self._give_stage()

    def start_writing(self) -> None:
        """Let the system start to write what it holds in memory, so that the sync to come waits for less."""
        if self._stage is None and hasattr(os, "posix_fadvise"):
            # Linux starts the write-out on this advice, and drops only what is on disk already.
            os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def _hash_staged(self) -> None:
        if self._stage is not None:
            self._hash.update(self._stage[self._hashed : self.size_bytes])
            self._hashed = self.size_bytes

    def _unstage(self) -> None:
        self._hash_staged()
        try:
            self.write_out()
        except OSError as error:
            raise from_os_error(error, "The bytes could not be stored.") from error

    def _give_stage(self) -> None:
        stage, self._stage = self._stage, None
        if stage is not None and self._stages is not None:
            self._stages.give(stage)

    def close_content(self) -> None:
        """Write what encryption holds back; nothing may be appended any more. Further calls do nothing."""
        if self._stream is not None:
            self._stream.finish()
            self._stream = None

    def seal(self, header: bytes) -> None:
        """Put the header before the content of an encrypted file; raises as `write` does."""
        self.close_content()
        try:
            os.pwrite(self.descriptor, header, 0)
        except OSError as error:
            raise from_os_error(error, "The bytes could not be stored.") from error

    def content(self) -> memoryview:
        """Return all that was written of an encrypted file, from memory: it lies nowhere in clear."""
        from digital_twins.crypto import SealedReader

        self.close_content()
        with SealedReader(
            os.dup(self.descriptor), start=HEADER_BYTES, key=self.data_key, associated_data=ASSOCIATED_DATA
        ) as reader:
            whole = memoryview(bytearray(self.size_bytes))
            return whole[: reader.read_at(0, whole)]

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self.descriptor, rest) :]
        except OSError as error:
            raise from_os_error(error, "The bytes could not be stored.") from error

    def link(self, target: str) -> bool:
        """Give the file a name that nobody has yet; False when somebody has, or links do not work here."""
        try:
            self._link(target)
        except OSError as error:
            if error.errno in _NO_LINK:
                return False
            raise
        return True

    def replace(self, target: str) -> None:
        """Give the file a name, whoever has it."""
        if not self._name:
            name = self._new_name()
            self._link(name)
            self._name = name
        Path(self._name).replace(target)
        self._name = ""

    def discard(self) -> None:
        """Close the file, and remove it unless it has got a name; further calls do nothing."""
        if not self._open:
            return
        self._open = False
        self._give_stage()
        os.close(self.descriptor)
        if self._name:
            with contextlib.suppress(OSError):
                Path(self._name).unlink()

    def _new_name(self) -> str:
        return str(self._folder / secrets.token_hex(8))

    def _link(self, target: str) -> None:
        if self._name:
            os.link(self._name, target)
        else:
            # Any descriptor does: it makes Python follow the link, and the path is absolute.
            os.link(f"/proc/self/fd/{self.descriptor}", target, src_dir_fd=self.descriptor)


def _written_past_cache(descriptor: int, content: memoryview) -> memoryview:
    """Write the whole blocks of what lies at the start of a page of memory, and return the rest.

    The rest goes the usual way: a file that ended within a block that was written whole would be cut, for
    which the system reads that block again. A file system that takes none of it raises EINVAL.
    """
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
    try:
        while len(content) >= _BLOCK_BYTES:
            content = content[os.write(descriptor, content[: len(content) // _BLOCK_BYTES * _BLOCK_BYTES]) :]
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
    return content


def direct_works(folder: Path) -> bool:
    """Whether files in a folder can be written past the page cache (most file systems on a disk)."""
    if not hasattr(os, "O_DIRECT"):
        return False
    try:
        spool = Spool(folder, nameless=False)
    except OSError:
        return False
    try:
        with mmap.mmap(-1, _BLOCK_BYTES) as page, memoryview(page) as content:
            return not _written_past_cache(spool.descriptor, content)
    except OSError:
        return False
    finally:
        spool.discard()


def nameless_works(folder: Path) -> bool:
    """Whether files without a name can be made in a folder and be named later (Linux, most file systems)."""
    if not hasattr(os, "O_TMPFILE"):
        return False
    try:
        spool = Spool(folder, nameless=True)
    except OSError:
        return False
    target = folder / secrets.token_hex(8)
    try:
        worked = spool.link(str(target))
    except OSError:
        return False
    finally:
        spool.discard()
    target.unlink(missing_ok=True)
    return worked
