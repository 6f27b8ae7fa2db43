"""A file that grows piece by piece and knows its SHA-256, on its way into the blob store."""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import TYPE_CHECKING

from digital_twins.storage._failures import from_os_error

if TYPE_CHECKING:
    from pathlib import Path


class Spool:
    """A temporary file of `BlobStore.spool`; one thread at a time may use it.

    Attributes
    ----------
    path, descriptor
        The file, open for reading and writing until `discard`.
    size_bytes
        What has been written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
        self.size_bytes = 0
        self._hash = hashlib.sha256()
        self._open = True

    @property
    def digest(self) -> str:
        """SHA-256 of what has been written, in hex."""
        return self._hash.hexdigest()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes.

        Raises
        ------
        StorageError
            Disk full, quota used up or device error; the spool is of no more use.
        """
        rest = memoryview(data)
        self._hash.update(rest)
        self.size_bytes += len(rest)
        try:
            while rest:
                rest = rest[os.write(self.descriptor, rest) :]
        except OSError as error:
            raise from_os_error(error, "The bytes could not be stored.") from error

    def discard(self) -> None:
        """Close the file, and remove it unless the store has taken it; further calls do nothing."""
        if not self._open:
            return
        self._open = False
        os.close(self.descriptor)
        with contextlib.suppress(OSError):
            self.path.unlink()
