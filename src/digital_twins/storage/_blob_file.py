"""A stored blob that is read piece by piece, encrypted or not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from io import BufferedReader, FileIO
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from digital_twins._errors import NotFoundError
from digital_twins.storage._failures import from_os_error

if TYPE_CHECKING:
    from pathlib import Path

    from digital_twins.crypto import SealedReader
    from digital_twins.storage._sealed import BlobKeys

_BUFFER_BYTES = 1 << 16


class PlainReader(FileIO):
    """A file in clear with the calls of `digital_twins.crypto.SealedReader`."""

    @property
    def size_bytes(self) -> int:
        """Length of the file."""
        return os.fstat(self.fileno()).st_size

    def read_at(self, position: int, room: memoryview) -> int:
        """Fill a buffer from a position on and return how much there was."""
        filled = 0
        while filled < len(room):
            count = os.preadv(self.fileno(), [room[filled:]], position + filled)
            if not count:
                break
            filled += count
        return filled


class BlobReader(Protocol):
    """What reads a blob from any place; for one thread at a time."""

    @property
    def size_bytes(self) -> int:
        """Length of the blob."""
        ...

    def read_at(self, position: int, room: memoryview) -> int:
        """Fill a buffer from a position on and return how much there was."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


@dataclass(frozen=True, slots=True)
class BlobFile:
    """The bytes of a blob, wherever they are; equal for equal blobs of one store.

    Parameters
    ----------
    path
        Where its file lies or would lie. What is in the file may be encrypted: read through this object.
    digest
        SHA-256 of its bytes, in hex.
    keys
        Opens it; none when the store is not encrypted.
    """

    path: Path
    digest: str
    keys: BlobKeys | None = None

    def reader(self) -> PlainReader | SealedReader:
        """Open the blob, unbuffered, with ``read_at(position, memoryview)``; for one thread at a time.

        Raises
        ------
        NotFoundError
            The blob is not stored; ErasedError when its key was destroyed.
        StorageError
            The device failed; DecryptionError when the file was changed.
        """
        try:
            if self.keys is None:
                return PlainReader(str(self.path))
            return self.keys.open(self.path, self.digest)
        except FileNotFoundError:
            raise NotFoundError(
                f"The blob {self.digest} is not stored.",
                "It was never put into this store, or its file was removed from outside.",
                "Send the object again, or restore the blob folder from the backup.",
            ) from None
        except OSError as error:
            raise from_os_error(error, f"The blob {self.digest} could not be read.") from error

    def open(self) -> BinaryIO:
        """Open the blob as a buffered stream that can be positioned; raises as `reader` does."""
        return cast("BinaryIO", BufferedReader(self.reader(), _BUFFER_BYTES))

    def read_bytes(self) -> bytes:
        """Return the whole blob; raises as `reader` does."""
        return bytes(self.view())

    def view(self) -> memoryview:
        """Return the whole blob in memory of its own; raises as `reader` does."""
        with self.reader() as reader:
            content = memoryview(bytearray(reader.size_bytes))
            return content[: reader.read_at(0, content)]

    def exists(self) -> bool:
        """Whether the blob is stored."""
        return self.path.is_file()
