"""Stored DICOM files for pydicom, which reads a path or a stream, encrypted or not."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydicom.dataset import FileDataset

    from digital_twins.storage import BlobFile


@contextmanager
def readable(file: BlobFile) -> Iterator[Path | BinaryIO]:
    """Lend what pydicom's readers take: the path of a file in clear, a stream of an encrypted one."""
    if file.keys is None:
        yield file.path
        return
    with file.open() as stream:
        yield stream


def load(file: BlobFile, **options: Any) -> FileDataset:
    """Return a stored file as a data set; options are those of ``pydicom.dcmread``."""
    from pydicom import dcmread

    with readable(file) as source:
        dataset = dcmread(source, **options)
    if file.keys is not None:
        dataset.buffer = None  # it is closed, and a copy of the data set must not look for it
    return dataset
