"""Bad input at the doors of a running node: what, why and fix; nothing half-written; the node goes on."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import struct
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from phantom_study import (
    PhantomPatient,
    assert_alive,
    outcome,
    part10,
    phantom,
    remote,
    send_all,
    transaction,
)
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from ct_series import ball
from dicom_support import RawPeer
from digital_twins import ConflictError, DigitalTwinError, StorageError
from digital_twins.config import Settings, load_settings
from digital_twins.dicom import find, send
from digital_twins.imaging import SegDetails, as_mask, seg_from_masks, volume_from_series
from digital_twins.records import Code
from digital_twins.server import Node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_numbers = itertools.count(1)


def settings(folder: Path, **others: Any) -> Settings:
    return load_settings(
        **{"data_dir": folder, "dicom_port": 0, "http_port": 0, "study_stable_seconds": 0.5, **others}
    )


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Node(settings(tmp_path_factory.mktemp("node"))) as running:
        yield running
        assert_alive(running)


@pytest.fixture
def patient(request: pytest.FixtureRequest) -> PhantomPatient:
    number = next(_numbers)
    return phantom(f"P{number}", number)


def stored_count(node: Node) -> int:
    """Instances that the index knows; what was refused must not be among them."""
    with node.services.database.read() as connection:
        return int(str(connection.execute("SELECT count(*) FROM dicom_instance").fetchone()[0]))


def files(node: Node) -> int:
    return sum(path.is_file() for path in (node.services.data_dir / "blobs").glob("??/*"))


def assert_says(error: dict[str, str] | None, *words: str) -> None:
    assert error is not None
    assert error["what"]
    assert error["why"]
    assert error["fix"]
    text = " ".join(error.values())
    for word in words:
        assert word in text, text


# What cannot be taken at all


@pytest.mark.parametrize(
    "bytes_sent",
    [b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"\x00" * 64, b"\x01\x00\xff\xff\xff\xff" + bytes(32)],
    ids=["http", "zeros", "a-pdu-of-4-gb"],
)
def test_other_protocols_at_the_dicom_port(node: Node, bytes_sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", node.dicom_port), timeout=20) as peer:
        peer.sendall(bytes_sent)
        answer = b""
        while chunk := peer.recv(4096):
            answer += chunk
    assert answer[:1] in {b"\x07", b"\x03", b""}  # abort, reject or closed; never accepted
    assert_alive(node)


def _garbage(data: bytes) -> bytes:
    return bytes(np.random.default_rng(1).bytes(len(data)))


def _truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _four_gigabytes(data: bytes) -> bytes:
    return data + struct.pack("<HH2s2xI", 0x0009, 0x0010, b"OB", 0xFFFFFFF0)


@pytest.mark.parametrize("spoil", [_garbage, _truncated, _four_gigabytes])
def test_objects_that_are_not_whole(
    node: Node, patient: PhantomPatient, spoil: Callable[[bytes], bytes]
) -> None:
    before = stored_count(node), files(node)
    image = patient.images[0]
    whole = part10(image)
    data = spoil(whole[whole.index(b"\x08\x00\x05\x00") if b"\x08\x00\x05\x00" in whole else 400 :])
    peer = RawPeer(node.dicom_port, CTImageStorage, ExplicitVRLittleEndian)
    answer = peer.store(data, str(image.SOPInstanceUID))
    peer.close()
    assert int(answer[0x00000900]) & 0xF000 in {0xA000, 0xC000}
    assert answer[0x00000902]
    stow = httpx.post(
        f"{node.base_url}/dicom-web/studies",
        content=b"--x\r\nContent-Type: application/dicom\r\n\r\n" + spoil(whole) + b"\r\n--x--",
        headers={"Content-Type": 'multipart/related; type="application/dicom"; boundary=x'},
    )
    assert stow.status_code == 409
    assert (stored_count(node), files(node)) == before
    assert_alive(node)


def test_two_patients_in_one_series(node: Node, patient: PhantomPatient) -> None:
    patient.images[4].PatientID = "SOMEBODY-ELSE"
    with pytest.raises(DigitalTwinError, match="another patient") as refused:
        send(remote(node), patient.images)
    assert refused.value.fix
    assert "SOMEBODY" not in str(refused.value)
    kept = find(remote(node), {"StudyInstanceUID": str(patient.images[0].StudyInstanceUID), "PatientID": ""})
    assert [match.PatientID for match in kept] == [patient.patient_id]
    assert_alive(node)


def test_fhir_that_is_not_fhir(node: Node, patient: PhantomPatient) -> None:
    broken = transaction([*patient.resources, {"resourceType": "Observation", "id": "x", "status": 3}])
    answer = httpx.post(f"{node.base_url}/fhir", json=broken)
    assert answer.status_code in {400, 422}
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert answer.json()["issue"][0]["diagnostics"]
    assert httpx.get(f"{node.base_url}/fhir/Patient/{patient.name}").status_code == 404


# What is taken and cannot become a twin: the job says why


def _missing_slices(patient: PhantomPatient) -> None:
    del patient.images[4:6]


def _two_people(patient: PhantomPatient) -> None:
    patient.resources[0]["birthDate"] = "1971-02-03"


def _other_frame(patient: PhantomPatient) -> None:
    patient.segs[0].FrameOfReferenceUID = "1.2.3.99.1"


def _empty_mask(patient: PhantomPatient) -> None:
    patient.segs[0].PixelData = bytes(len(patient.segs[0].PixelData))


def _before_the_baseline(patient: PhantomPatient) -> None:
    patient.segs.append(patient.seg(patient.mask(2.5), date="20251201"))


def _not_finite(patient: PhantomPatient) -> None:
    for image in patient.images:
        image.RescaleSlope = 0.5
    patient.images[0].RescaleIntercept = "1e60"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_missing_slices, ("missing slices",)),
        (_two_people, ("different patients", "PatientBirthDate")),
        (_other_frame, ("frame of reference",)),
        (_empty_mask, ("empty",)),
        (_before_the_baseline, ("before the baseline",)),
        (_not_finite, ("NaN",)),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_studies_that_make_no_twin(
    node: Node, patient: PhantomPatient, spoil: Callable[[PhantomPatient], None], words: tuple[str, ...]
) -> None:
    spoil(patient)
    send_all(node, patient)
    shown = outcome(node, patient)
    assert shown["latest_job"]["state"] == "failed"
    assert_says(shown["latest_job"]["error"], *words)
    assert patient.patient_id not in str(shown["latest_job"])
    assert shown["twin_count"] == 0
    reports = httpx.get(
        f"{node.base_url}/fhir/DiagnosticReport", params={"subject": f"Patient/{patient.name}"}
    )
    assert not reports.json().get("entry")
    assert_alive(node)


def test_a_record_of_another_number_is_waited_for(node: Node, patient: PhantomPatient) -> None:
    patient.resources[0]["identifier"][0]["value"] = f"{patient.patient_id}-OTHER"
    httpx.post(f"{node.base_url}/fhir", json=transaction(patient.resources)).raise_for_status()
    send(remote(node), [*patient.images, *patient.segs])
    shown = outcome(node, patient, until=lambda mine: "record" in (mine["waiting_for"] or ""))
    assert shown["latest_job"] is None


def test_a_mended_study_is_built(node: Node, patient: PhantomPatient) -> None:
    late = patient.images[4:6]
    del patient.images[4:6]
    send_all(node, patient)
    assert outcome(node, patient)["latest_job"]["state"] == "failed"
    send(remote(node), late)
    assert outcome(node, patient, until=lambda mine: mine["twin_count"] == 1)["waiting_for"] is None


# What is mended or left aside, and said so


def test_a_mask_on_another_grid_and_orders_that_cannot_be_simulated(
    node: Node, patient: PhantomPatient
) -> None:
    volume = volume_from_series(patient.images)
    fine = ball((10, 48, 48), (4.5, 23.5, 23.5), 6.0)
    finer = volume.affine.copy()
    finer[:3, 1:3] /= 2
    finer[:3, 3] += volume.affine[:3, 1:3].sum(axis=1) * -0.25
    like = type(volume)(np.zeros(fine.shape, np.int16), finer, frame_of_reference_uid=patient.frame)
    mask = as_mask(like, fine)
    patient.segs.clear()
    patient.segs.append(patient.seg(mask))
    dose = {"doseAndRate": [{"doseQuantity": _quantity(-175, "mg/m2")}], "timing": {"repeat": {"count": 4}}}
    for drug in ("paclitaxel", "elixir of life"):
        order = {"status": "active", "intent": "proposal", "medicationCodeableConcept": {"text": drug}}
        patient.resources.append(patient.resource("MedicationRequest", **order, dosageInstruction=[dose]))
        dose = {"doseAndRate": [{"doseQuantity": _quantity(175, "mg/m2")}]}
    send_all(node, patient)
    shown = outcome(node, patient)
    assert shown["latest_job"]["state"] == "succeeded", shown["latest_job"]["error"]
    twin = httpx.get(f"{node.base_url}/api/twins/{shown['twin_id']}").json()
    assert twin["current_volume"]["value"] == pytest.approx(mask.volume_cm3, rel=0.1)
    assert [scenario["label"] for scenario in twin["scenarios"]] == ["Observation"]
    notes = " ".join(twin["notes"])
    assert "negative" in notes or "positive" in notes or "dose" in notes, notes
    assert "elixir" in notes or "drug" in notes, notes


def _quantity(value: float, unit: str) -> dict[str, Any]:
    return {"value": value, "unit": unit, "code": unit, "system": "http://unitsofmeasure.org"}


# Where it cannot start


def test_an_outline_of_several_segments_in_a_study_of_its_own(node: Node, patient: PhantomPatient) -> None:
    """An outline drawn later on a workstation: another study, and an organ beside the lesion."""
    organ = replace(patient.mask(6.0), meaning=Code("39607008", "SCT", "Lung"))
    details = SegDetails(
        created=datetime(2026, 1, 2, tzinfo=UTC), algorithm="MANUAL", labels=("Lung", "Tumour")
    )
    seg = seg_from_masks(
        [organ, patient.mask()],
        patient.images,
        series_description="Outline",
        series_number=7,
        details=details,
    )
    seg.StudyInstanceUID = f"{patient.images[0].StudyInstanceUID}.9"
    patient.segs = [seg]
    send_all(node, patient)
    shown = outcome(node, patient)
    assert shown["latest_job"]["state"] == "succeeded", shown["latest_job"]["error"]
    twin = httpx.get(f"{node.base_url}/api/twins/{shown['twin_id']}").json()
    assert twin["current_volume"]["value"] == pytest.approx(patient.mask().volume_cm3, rel=0.1)
    assert "SR" in {document["kind"] for document in twin["documents"]}


def test_occupied_ports(node: Node, tmp_path: Path) -> None:
    for name in ("http_port", "dicom_port"):
        taken = getattr(node, name)
        with (
            pytest.raises(StorageError, match=str(taken)) as refused,
            Node(settings(tmp_path / name, **{name: taken})),
        ):
            pass
        assert "--" + name.replace("_", "-") in refused.value.fix
    assert_alive(node)


def test_a_folder_that_another_node_holds(node: Node) -> None:
    with pytest.raises(ConflictError, match="in use"), Node(settings(node.services.data_dir)):
        pass
    assert_alive(node)


# A worker that dies alone, as the kernel's killer of memory hogs ends it


def test_a_killed_worker_is_replaced_and_its_job_done(node: Node, patient: PhantomPatient) -> None:
    send_all(node, patient)
    outcome(node, patient, until=lambda mine: (mine["latest_job"] or {}).get("fraction", 0) > 0)
    (job,) = [job for job in node.services.jobs.list(state="running") if job.kind == "twin.build"]
    os.kill(int(str(job.worker).removeprefix("worker-")), signal.SIGKILL)
    shown = outcome(node, patient)
    assert shown["latest_job"]["state"] == "succeeded"
    assert node.services.jobs.get(job.job_id).attempts == 2
