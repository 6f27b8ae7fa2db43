"""A DICOM node in a thread, and objects to send to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from digital_twins import audit, dicom, storage


@contextmanager
def open_store(folder: Path, **options: Any) -> Iterator[dicom.DicomStore]:
    migrations = (*audit.OUTBOX_MIGRATIONS, *dicom.MIGRATIONS)
    with storage.Database(folder / "index.db", migrations=migrations) as database:
        yield dicom.DicomStore(database, storage.BlobStore(folder / "blobs"), **options)


class LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


@contextmanager
def listening(store: dicom.DicomStore, **options: Any) -> Iterator[dicom.Listener]:
    thread = LoopThread()
    listener = thread.run(dicom.start_listener(store, port=0, **options))
    try:
        yield listener
    finally:
        thread.run(listener.close(grace_s=5))
        thread.close()


def ct_slice(
    number: int, *, patient: str = "P1", study: str = "1", series: str = "1.1", size: int = 64
) -> FileDataset:
    """A synthetic CT slice under the example root 1.2.3."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"1.2.3.{series}.{number}"
    ds = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"1.2.3.{study}", f"1.2.3.{series}"
    ds.PatientID, ds.PatientName = patient, "Doe^Jane"
    ds.PatientBirthDate, ds.PatientSex = "19600102", "F"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID = "20240110", "101500", "A1", "S1"
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber = "CT", 1, number
    ds.SeriesDescription = "chest"
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [1, 1], 1
    ds.Rows = ds.Columns = size
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = bytes([number % 251, 1]) * (size * size)
    return ds


def file_bytes(ds: Dataset) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
