"""The node's own store, encrypted: no planted value in any byte of it, and a patient can be erased."""

from __future__ import annotations

import shutil
from contextlib import closing
from typing import TYPE_CHECKING, Any

import apsw
import httpx
import pytest
from phantom_study import outcome, part10, phantom, remote, send_all, transaction

from digital_twins import ConflictError, NotFoundError, StorageError
from digital_twins.audit import AuditTrail, verify_trail
from digital_twins.config import Settings
from digital_twins.dicom import find, get, hold_study, release_study, send
from digital_twins.dicom._json import metadata
from digital_twins.server import Node, encrypt_folder, erase_patient, open_keys, open_services
from digital_twins.storage import ErasedError

if TYPE_CHECKING:
    from pathlib import Path

    from phantom_study import PhantomPatient

    from digital_twins.server import Services

pytestmark = [pytest.mark.timeout(280)]
NAME = "ZYXPLANTEDQVW"
STREET = "Qwxzplanted Street 77"


def settings(folder: Path, *, encrypted: bool, **more: Any) -> Settings:
    keys = {"encryption_at_rest": True, "encryption_keys": f"local:{folder.parent / 'wrapping.json'}"}
    chosen = {"dicom_port": 0, "http_port": 0, "study_stable_seconds": 0.5, "log_level": "WARNING"}
    return Settings(data_dir=folder, **(chosen | (keys if encrypted else {}) | more))


def planted(name: str, number: int) -> PhantomPatient:
    patient = phantom(name, number)
    for each in (*patient.images, *patient.segs):
        each.PatientName = f"{NAME}^Test"
    patient.resources[0] |= {"name": [{"family": NAME}], "address": [{"line": [STREET]}]}
    return patient


def needles(patient: PhantomPatient) -> list[bytes]:
    return [text.encode() for text in (NAME, STREET, patient.patient_id)]


def survivors(folder: Path, patient: PhantomPatient) -> set[str]:
    """Files of a folder that hold a planted value in any of their bytes, the log of a database too."""
    found = set()
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes().lower()
            if any(needle.lower() in content for needle in needles(patient)):
                found.add(path.relative_to(folder).parts[0])
    return found


def pipeline(node: Node, patient: PhantomPatient) -> None:
    """Send, build, search with a wildcard, retrieve over both doors, export."""
    send_all(node, patient)
    assert outcome(node, patient)["latest_job"]["state"] == "succeeded"
    (match,) = find(remote(node), {"PatientName": f"{NAME[:5]}*", "StudyInstanceUID": ""})
    got: list[bytes] = []
    study = str(match.StudyInstanceUID)
    get(remote(node), {"StudyInstanceUID": study}, into=got.append)
    assert any(patient.images[0].PixelData in file for file in got)
    with httpx.Client(base_url=node.base_url, timeout=60) as http:
        image = patient.images[3]
        place = (
            f"/dicom-web/studies/{study}/series/{image.SeriesInstanceUID}/instances/{image.SOPInstanceUID}"
        )
        frame = http.get(
            f"{place}/frames/1", headers={"Accept": 'multipart/related; type="application/octet-stream"'}
        )
        assert image.PixelData in frame.content
        ask = {"Accept": 'multipart/related; type="application/dicom"', "Range": "bytes=100-299"}
        assert http.get(place, headers=ask).status_code in {200, 206}
        assert http.get(f"{place}/rendered").status_code == 200
        found = http.get("/fhir/Patient", params={"name": NAME[:6]}).json()
        assert [entry["resource"]["address"][0]["line"] for entry in found["entry"]] == [[STREET]]
        assert http.get(f"/fhir/Patient/{patient.name}/_history").status_code == 200


def opened(chosen: Settings) -> Services:
    return open_services(chosen.data_dir, boot_id="", keys=open_keys(chosen))


def test_no_byte_of_the_folder_holds_a_planted_value_and_a_patient_can_be_erased(tmp_path: Path) -> None:
    patient, other = planted("erasable", 1), phantom("other", 2)
    folder = tmp_path / "data"
    chosen = settings(folder, encrypted=True)
    with Node(chosen) as node:
        pipeline(node, patient)
        send(remote(node), other.images)
        assert survivors(folder, patient) == set()  # while it runs: log, queue and temporary files too
    assert survivors(folder, patient) == set()
    assert (folder / "twin.sqlite").read_bytes()[:15] != b"SQLite format 3"
    backup = tmp_path / "backup"
    shutil.copytree(folder, backup)

    study = str(patient.images[0].StudyInstanceUID)
    with closing(opened(chosen)) as services:
        digests = [each.digest for each in services.dicom.instances(study)]
        with pytest.raises(ConflictError, match="must be kept until"):
            erase_patient(services, patient.patient_id, reason="asked", agent="test", retention_years=10)
        hold_study(services.dicom, study, reason="court")
        with pytest.raises(ConflictError, match="legal hold"):
            erase_patient(services, patient.patient_id, reason="asked", agent="test", retention_years=0)
        assert services.blobs.get(digests[0])
        release_study(services.dicom, study)
        done = erase_patient(services, patient.patient_id, reason="asked", agent="test", retention_years=0)
        assert (done.studies, done.provider_keys_kept) == (1, ())
        assert done.keys_destroyed == 2  # of the images, and of the Patient resource with what refers to it
        assert done.objects >= 11
        assert done.files > done.objects  # twins, images and reports too
        with pytest.raises(NotFoundError):
            services.dicom.instances(study)
        assert services.registry.list(patient.patient_id) == []
        assert services.dicom.read(str(other.images[0].SOPInstanceUID))
        with closing(AuditTrail(folder / "audit.sqlite")) as trail:
            trail.drain(services.database)
            kinds = [(row.event.kind, row.event.outcome) for row in trail.tail(50)]
        assert kinds.count(("patient.erase", "refused")) == 2
        assert kinds.count(("patient.erase", "success")) == 1
    assert verify_trail(folder / "audit.sqlite").ok

    # A backup from before, with today's register of keys: everything but the patient can be read.
    shutil.copy(folder / "keys.sqlite", backup / "keys.sqlite")
    with closing(opened(settings(backup, encrypted=True))) as restored:
        with pytest.raises(ErasedError):
            restored.dicom.read(str(patient.images[0].SOPInstanceUID))
        assert restored.dicom.read(str(other.images[0].SOPInstanceUID))
        with pytest.raises(ErasedError):
            restored.fhir.read("Patient", patient.name)
        with pytest.raises(ErasedError):
            metadata(restored.dicom, restored.dicom.instances(study))
        theirs = restored.dicom.instances(str(other.images[0].StudyInstanceUID))
        assert len(metadata(restored.dicom, theirs)) == len(other.images)


def test_a_folder_in_clear_is_found_refused_and_encrypted(tmp_path: Path) -> None:
    patient, folder = planted("migrated", 3), tmp_path / "data"
    with closing(opened(settings(folder, encrypted=False))) as services:
        for each in (*patient.images, *patient.segs):
            services.dicom.ingest(part10(each))
        services.fhir.transaction(transaction(patient.resources))
    assert {"twin.sqlite", "blobs"} <= survivors(folder, patient)  # so the search can find something
    chosen = settings(folder, encrypted=True)
    with pytest.raises(StorageError, match="twin keys encrypt"):
        open_keys(chosen)

    class StoppedError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        encrypt_folder(chosen, progress=stop)
    with pytest.raises(StorageError, match="not finished"):
        open_keys(chosen)
    done = encrypt_folder(chosen)
    assert (done.database, done.damaged) == (False, 0)  # the database was done before the stop
    assert done.blobs > 0
    assert survivors(folder, patient) == set()
    with closing(opened(chosen)) as services:
        for image in patient.images:
            assert image.PixelData in services.dicom.read(str(image.SOPInstanceUID))
        erased = erase_patient(services, patient.patient_id, reason="asked", agent="test", retention_years=0)
        assert erased.shared_files == 0
        assert erased.files == len(patient.images) + len(patient.segs)
    with pytest.raises(StorageError, match="encryption_at_rest is off"):
        open_keys(settings(folder, encrypted=False))
    (tmp_path / "wrapping.json").rename(tmp_path / "elsewhere.json")
    with pytest.raises(StorageError, match="does not hold its key"):
        open_keys(chosen)
    assert not (tmp_path / "wrapping.json").exists()  # a lost key is not replaced by a new one
    with pytest.raises(apsw.NotADBError):
        apsw.Connection(str(folder / "twin.sqlite")).execute("SELECT * FROM sqlite_master").fetchall()
