"""DICOM files of a STOW-RS body while they arrive: small ones in memory, large ones go to the disk."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from digital_twins._errors import DigitalTwinError, StorageError
from digital_twins.dicom._header import ObjectRefusedError
from digital_twins.dicom._multipart import PartSplitter, TooLongError
from digital_twins.dicom._part10 import file_header, split_file
from digital_twins.dicom._spooling import SpoolWriter
from digital_twins.dicom._walk import LayoutError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from digital_twins.dicom._part10 import Part10
    from digital_twins.dicom._store import DicomStore
    from digital_twins.dicom._stored import Stored

_MEMORY_BYTES = 2**22
"""Up to here a file waits in memory: most objects of a study, for which a file of their own costs more."""
_MAX_WAITING = 4
"""Pieces of 2 MiB that may wait for a slow disk."""


class ArrivingFile:
    """One DICOM file of a request; `feed` and `keep` may block, and go one after the other.

    Parameters
    ----------
    max_bytes
        Longest file that is taken.
    """

    def __init__(self, store: DicomStore, max_bytes: int) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._size = 0
        self._buffer = bytearray()
        self._meta: Part10 | None = None
        self._writer: SpoolWriter | None = None
        self._refusal: DigitalTwinError | None = None
        self._written = threading.Event()

    def fits_in_memory(self, piece: bytes) -> bool:
        """Whether feeding these bytes costs no more than a copy."""
        return self._writer is None and len(self._buffer) + len(piece) <= _MEMORY_BYTES

    def feed(self, piece: bytes) -> None:
        """Take the next bytes; raises TooLongError. What else is wrong is told by `keep`."""
        self._size += len(piece)
        if self._size > self._max_bytes:
            raise TooLongError(
                "The objects cannot be stored.",
                f"One of them is longer than {self._max_bytes} bytes.",
                "Send smaller objects, or raise the limit of this node.",
            )
        if self._refusal is not None:
            return
        if self._writer is None:
            self._buffer += piece
            if len(self._buffer) > _MEMORY_BYTES:
                self._begin_writing()
            return
        self._writer.feed(piece)
        while self._writer.waiting > _MAX_WAITING:
            self._written.wait()
            self._written.clear()

    def identity(self) -> tuple[str, str]:
        """Return SOP class and instance UID as far as the file tells them."""
        try:
            meta = self._meta or split_file(self._buffer)
        except LayoutError:
            return "", ""
        return meta.sop_class_uid, meta.sop_instance_uid

    def keep(self, *, source: str, study_uid: str | None) -> Stored:
        """Store the file; raises as `DicomStore.ingest` does."""
        if self._refusal is not None:
            raise self._refusal
        if self._writer is None or self._meta is None:
            return self._store.ingest(bytes(self._buffer), source=source, study_uid=study_uid)
        prepared = self._store.prepare_spooled(
            self._writer,
            len(self._header(self._meta)),
            self._meta.transfer_syntax,
            expected=(self._meta.sop_class_uid, self._meta.sop_instance_uid),
            source=source,
            study_uid=study_uid,
            sync=lambda work: work(),  # this thread waits for nothing but the disk
        )
        return self._store.keep(prepared)

    def discard(self) -> None:
        """Give back what `keep` has not taken."""
        if self._writer is not None:
            self._writer.discard()

    def _header(self, meta: Part10) -> bytes:
        return file_header(meta.sop_class_uid, meta.sop_instance_uid, meta.transfer_syntax)

    def _begin_writing(self) -> None:
        try:
            self._meta = split_file(self._buffer)
            self._writer = SpoolWriter(self._store.blobs.spool(), self._written.set)
        except LayoutError as error:
            self._refusal = ObjectRefusedError(str(error))
        except StorageError as error:
            self._refusal = error
        else:
            self._writer.feed(self._header(self._meta))
            self._writer.feed(memoryview(self._buffer)[self._meta.dataset_offset :])
        self._buffer = bytearray()


async def arriving_pieces(
    content_type: str, body: AsyncIterator[bytes], *, alone: bool
) -> AsyncIterator[bytes | None]:
    """Yield the bytes of the parts of a body, b'' where a part begins and None at its end.

    Raises
    ------
    InputError
        The body is no multipart/related, or breaks off. A body that is not multipart (``alone``) is one part.
    """
    if alone:
        yield b""
        async for chunk in body:
            yield chunk
        yield None
        return
    splitter = PartSplitter(content_type)
    async for chunk in body:
        for piece in splitter.feed(chunk):
            yield b"" if isinstance(piece, dict) else piece
    splitter.finish()
