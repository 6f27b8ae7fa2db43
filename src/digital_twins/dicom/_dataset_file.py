"""Stored DICOM files for pydicom, which reads a path or a stream, encrypted or not."""

from __future__ import annotations

from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, cast

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydicom.dataset import FileDataset

    from digital_twins.storage import BlobFile

_WHOLE_BYTES = 1 << 22
"""Up to here a file is decrypted at once: many short reads then cost nothing."""


@contextmanager
def readable(file: BlobFile) -> Iterator[Path | BinaryIO]:
    """Lend what pydicom's readers take: the path of a file in clear, a stream of an encrypted one."""
    if file.keys is None:
        yield file.path
        return
    with file.reader() as reader:
        whole = reader.size_bytes <= _WHOLE_BYTES
        # pydicom takes an io.BufferedReader for a file with a name, so it gets the reader itself.
        yield BytesIO(reader.read()) if whole else cast("BinaryIO", reader)


def load(file: BlobFile, **options: Any) -> FileDataset:
    """Return a stored file as a data set; options are those of ``pydicom.dcmread``."""
    from pydicom import dcmread

    with readable(file) as source:
        dataset = dcmread(source, **options)
    if file.keys is not None:
        dataset.buffer = None  # it is closed, and a copy of the data set must not look for it
    return dataset
