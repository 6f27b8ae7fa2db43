"""A multi-frame object of any size in a store, without its bytes ever being in memory."""

from __future__ import annotations

import hashlib
import mmap
from io import BytesIO
from pathlib import Path

from dicom_support import ct_slice
from digital_twins.dicom import DicomStore, Stored
from digital_twins.dicom._header import read_header
from digital_twins.dicom._part10 import split_file
from digital_twins.dicom._stored import Prepared

SIDE = 512


def store_large_object(store: DicomStore, frames: int) -> Stored:
    """Store a secondary capture of ``frames`` 16-bit frames of 512x512 (half a megabyte each), all zero."""
    ds = ct_slice(1, study="7", series="7.1", size=SIDE)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7.3"
    ds.NumberOfFrames, ds.PixelData = frames, b""
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    length = frames * SIDE * SIDE * 2
    head = buffer.getvalue()[:-4] + length.to_bytes(4, "little")
    path = Path(store.blobs.root) / "tmp" / "large"
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + length)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
            offset = split_file(head).dataset_offset
            with view[offset:] as dataset:
                header = read_header(dataset, "1.2.840.10008.1.2.1")
    path.chmod(0o440)
    path.rename(store.blobs.path(digest))
    return store.commit(Prepared(header, digest, offset, len(head) + length, "test")).result()
