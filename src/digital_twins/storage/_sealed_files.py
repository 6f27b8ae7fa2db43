"""Files that are written once from front to back and read later, encrypted in an encrypted store."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, BinaryIO, cast

from digital_twins.crypto import SealedReader, StreamSealer

if TYPE_CHECKING:
    from pathlib import Path

    from _typeshed import ReadableBuffer

    from digital_twins.storage._key_register import KeyRegister


class SealedFiles:
    """Opens the files of one purpose, e.g. those of exports.

    An encrypted file is a stream of Tink's AES256_GCM_HKDF_1MB under the key of the purpose; its associated
    data is its name, so that files cannot be exchanged.

    Parameters
    ----------
    keys
        Of the encrypted store; none: the files are in clear.
    purpose
        Names the key.
    """

    def __init__(self, keys: KeyRegister | None, purpose: str) -> None:
        self._keys = keys
        self._owner = f"files:{purpose}"

    @property
    def encrypted(self) -> bool:
        """Whether the files are encrypted."""
        return self._keys is not None

    def create(self, path: Path) -> BinaryIO:
        """Open a new file for writing; it is whole once it is closed. Raises OSError."""
        if self._keys is None:
            return path.open("wb")
        return cast("BinaryIO", _Writer(path, self._keys.for_owner(self._owner).key))

    def open(self, path: Path) -> BinaryIO:
        """Open a file for reading.

        Raises
        ------
        OSError
            It is not there.
        DecryptionError
            It was changed, or is another file.
        """
        if self._keys is None:
            return path.open("rb")
        reader = SealedReader(
            os.open(path, os.O_RDONLY),
            start=0,
            key=self._keys.for_owner(self._owner).key,
            associated_data=path.name.encode(),
        )
        return cast("BinaryIO", io.BufferedReader(reader))


class _Writer(io.RawIOBase):
    def __init__(self, path: Path, key: bytes) -> None:
        self._file = path.open("wb")
        self._stream = StreamSealer(self._put, key=key, associated_data=path.name.encode())

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer) -> int:
        view = memoryview(data)
        self._stream.feed(view)
        return view.nbytes

    def close(self) -> None:
        if not self.closed:
            try:
                self._stream.finish()
                self._file.flush()
                os.fsync(self._file.fileno())
            finally:
                self._file.close()
        super().close()

    def _put(self, piece: memoryview) -> None:
        self._file.write(piece)
