"""A patient small enough to be built in a second: a CT of 10 slices with a ball, its SEG and a record."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from ct_series import ball, ct_series
from digital_twins.dicom import Remote, echo, send
from digital_twins.imaging import SegDetails, as_mask, seg_from_masks, volume_from_series

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydicom import Dataset

    from digital_twins.imaging import Mask
    from digital_twins.server import Node

SHAPE = (10, 24, 24)
SPACING_MM = (3.0, 2.0, 2.0)
CENTRE = (4.5, 11.5, 11.5)
WAIT_S = 120.0


def affine() -> np.ndarray[Any, np.dtype[np.float64]]:
    matrix = np.zeros((4, 4))
    matrix[2, 0], matrix[1, 1], matrix[0, 2] = SPACING_MM
    matrix[:3, 3], matrix[3, 3] = (-24, -24, 0), 1
    return matrix


@dataclass
class PhantomPatient:
    """What a hospital would send of one patient; tests spoil it before they send it."""

    name: str
    images: list[Dataset] = field(default_factory=list)
    segs: list[Dataset] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)

    @property
    def patient_id(self) -> str:
        return f"PHANTOM-{self.name}"

    @property
    def frame(self) -> str:
        return str(self.images[0].FrameOfReferenceUID)

    def mask(self, radius: float = 3.0) -> Mask:
        return as_mask(volume_from_series(self.images), ball(SHAPE, CENTRE, radius))

    def seg(self, mask: Mask, *, date: str = "20260102") -> Dataset:
        number = len(self.segs) + 1
        at = datetime.strptime(date, "%Y%m%d").replace(tzinfo=UTC)
        details = SegDetails(created=at, algorithm="MANUAL")
        made = seg_from_masks(
            [mask], self.images, series_description="Lesion", series_number=100 + number, details=details
        )
        made.StudyDate = date
        if number > 1:
            made.StudyInstanceUID = f"{self.images[0].StudyInstanceUID}.{number}"
        return made

    def resource(self, kind: str, **content: Any) -> dict[str, Any]:
        return {
            "resourceType": kind,
            "id": f"{self.name}-{len(self.resources)}",
            "subject": {"reference": f"Patient/{self.name}"},
            **content,
        }


def phantom(name: str, number: int) -> PhantomPatient:
    """A sound patient; `number` keeps the UIDs apart."""
    array = np.full(SHAPE, 40, dtype=np.int16)
    array[:, :2] = -1000
    array[ball(SHAPE, CENTRE, 3.0)] = 60
    patient = PhantomPatient(name)
    root = f"1.2.3.77.{number}"
    patient.images = ct_series(array, affine(), frame_uid=f"{root}.4")
    for k, image in enumerate(patient.images):
        image.PatientID, image.PatientName = patient.patient_id, "Phantom^Test"
        image.StudyInstanceUID, image.SeriesInstanceUID = f"{root}.1", f"{root}.2"
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"{root}.3.{k}"
    patient.segs = [patient.seg(patient.mask())]
    patient.resources = [
        {
            "resourceType": "Patient",
            "id": name,
            "identifier": [{"system": "urn:test:mrn", "value": patient.patient_id}],
            "birthDate": "1960-01-01",
            "gender": "other",
        }
    ]
    patient.resources.append(
        patient.resource("Condition", code={"text": "Malignant neoplasm of lung"}),
    )
    return patient


def transaction(resources: list[dict[str, Any]]) -> dict[str, Any]:
    entries = [
        {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}}
        for r in resources
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def remote(node: Node) -> Remote:
    return Remote("127.0.0.1", node.dicom_port, called_ae="TWIN", calling_ae="HOSPITAL")


def send_all(node: Node, patient: PhantomPatient) -> None:
    """Record first, then images and segmentations, as the demo's hospital does."""
    answer = httpx.post(f"{node.base_url}/fhir", json=transaction(patient.resources), timeout=30)
    assert answer.status_code == 200, answer.text
    send(remote(node), [*patient.images, *patient.segs])


def _ended(mine: dict[str, Any]) -> bool:
    return (mine["latest_job"] or {}).get("state") in {"succeeded", "failed"}


def outcome(
    node: Node, patient: PhantomPatient, *, until: Callable[[dict[str, Any]], bool] = _ended
) -> dict[str, Any]:
    """Wait until the patient's newest job has ended; return the patient's line of the list."""
    deadline = time.monotonic() + WAIT_S
    mine: dict[str, Any] = {}
    while time.monotonic() < deadline:
        listed = httpx.get(f"{node.base_url}/api/patients", timeout=30).json()
        mine = next((p for p in listed if p["patient_id"] == patient.patient_id), {})
        if mine and until(mine):
            return mine
        time.sleep(0.05)
    raise AssertionError(f"no end in time: {mine}")


def assert_alive(node: Node) -> None:
    """The node answers on both ports and says that it is well."""
    echo(remote(node))
    assert httpx.get(f"{node.base_url}/health", timeout=30).json()["status"] == "ok"


def part10(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
