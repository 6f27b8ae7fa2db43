"""What encryption at rest costs: storing CT objects and creating FHIR resources, durable and audited.

Each figure is CPU seconds of this process; the peer is the same work on a store in clear in the same run, so
a ratio of 1.1 means a tenth more. The objects are 512x512 CT slices of noise-free random content of one
seed; the resources are Observations of one patient.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

from digital_twins.config import Settings
from digital_twins.server import open_keys, open_services

Figure = tuple[str, float, str, float | None]
OBJECTS = 60
RESOURCES = 400
ROUNDS = 3


def figures() -> Iterator[Figure]:
    objects = [_ct(number) for number in range(OBJECTS)]
    for name, unit, count, work in (
        ("store_ct", "ms", OBJECTS, lambda services: _store(services, objects)),
        ("read_ct", "ms", OBJECTS, lambda services: _read(services, objects)),
        ("fhir_create", "ms", RESOURCES, _create),
        ("fhir_read", "ms", RESOURCES, _get),
    ):
        both = [(_cpu_s(work, encrypted=True), _cpu_s(work, encrypted=False)) for _ in range(ROUNDS)]
        encrypted = statistics.median(one for one, _ in both)
        yield name, 1e3 * encrypted / count, unit, statistics.median(one / clear for one, clear in both)


def _cpu_s(work: Callable[[Any], float], *, encrypted: bool) -> float:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = Settings(
            data_dir=folder / "data",
            encryption_at_rest=encrypted,
            encryption_keys=f"local:{folder / 'wrapping.json'}" if encrypted else "",
        )
        with closing(open_services(settings.data_dir, boot_id="", keys=open_keys(settings))) as services:
            return work(services)


def _timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _store(services: Any, objects: list[tuple[str, bytes]]) -> float:
    return _timed(lambda: [services.dicom.ingest(file) for _, file in objects])


def _read(services: Any, objects: list[tuple[str, bytes]]) -> float:
    _store(services, objects)
    return _timed(lambda: [services.dicom.read(uid) for uid, _ in objects])


def _create(services: Any) -> float:
    services.fhir.update({"resourceType": "Patient", "id": "p1"})
    return _timed(lambda: [services.fhir.create(_observation(number)) for number in range(RESOURCES)])


def _get(services: Any) -> float:
    services.fhir.update({"resourceType": "Patient", "id": "p1"})
    names = [services.fhir.create(_observation(number)).id for number in range(RESOURCES)]
    return _timed(lambda: [services.fhir.read("Observation", name) for name in names])


def _observation(number: int) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}], "text": "Body weight"},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2026-01-10T09:30:00Z",
        "valueQuantity": {"value": 60 + number / 10, "unit": "kg"},
    }


def _ct(number: int) -> tuple[str, bytes]:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    uid = f"1.2.3.9.{number}"
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
    meta.MediaStorageSOPInstanceUID = uid
    image = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, uid
    image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.3.9", "1.2.3.9.1"
    image.PatientID, image.PatientName, image.Modality, image.InstanceNumber = "P1", "A^B", "CT", number
    image.Rows = image.Columns = 512
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.PixelData = random.Random(number).randbytes(512 * 512 * 2)
    buffer = BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return uid, buffer.getvalue()
