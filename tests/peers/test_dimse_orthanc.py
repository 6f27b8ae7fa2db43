"""Our client and our node against Debian's Orthanc: the five verbs both ways, and its storage commitment."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_peers import free_port, orthanc, rest
from dicom_support import ct_slice, file_bytes, listening
from digital_twins import audit, dicom, storage
from digital_twins.dicom._part10 import split_file

pytestmark = pytest.mark.peers


def test_five_verbs_both_ways_and_commitment(tmp_path: Path) -> None:
    migrations = (*storage.MIGRATIONS, *audit.OUTBOX_MIGRATIONS, *dicom.MIGRATIONS)
    our_port = free_port()
    modality: dict[str, list[object]] = {"twin": ["TWIN", "127.0.0.1", our_port]}
    with (
        storage.Database(tmp_path / "index.db", migrations=migrations) as database,
        orthanc(tmp_path / "orthanc", modalities=modality) as (port, root),
    ):
        store = dicom.DicomStore(database, storage.BlobStore(tmp_path / "blobs"))
        peers = dicom.PeerTable.of([dicom.DicomPeer("ORTHANC", "127.0.0.1", port)])
        access, events = dicom.Access(peers=peers), dicom.Events(jobs=storage.JobQueue(database))
        with listening(store, on_port=our_port, access=access, events=events):
            archive = dicom.Remote("127.0.0.1", port, called_ae="ORTHANC")
            _ours_to_orthanc(archive, store, tmp_path)
            _commitment(archive, store)
            _orthanc_to_ours(root, store)


def _ours_to_orthanc(archive: dicom.Remote, store: dicom.DicomStore, folder: Path) -> None:
    dicom.echo(archive)
    assert dicom.send(archive, [ct_slice(n, size=16) for n in range(1, 5)]) == 4
    keys = {"PatientID": "P1", "StudyInstanceUID": "", "NumberOfStudyRelatedInstances": ""}
    (found,) = dicom.find(archive, keys)
    assert (found.StudyInstanceUID, found.NumberOfStudyRelatedInstances) == ("1.2.3.1", 4)
    study = {"StudyInstanceUID": "1.2.3.1"}
    assert dicom.move(archive, "TWIN", study).status == 0
    assert len(store.instances("1.2.3.1")) == 4
    assert dicom.get(archive, study, into=folder / "got").completed == 4
    for path in (folder / "got").iterdir():
        data, kept = path.read_bytes(), store.read(split_file(path.read_bytes()).sop_instance_uid)
        assert data[split_file(data).dataset_offset :] == kept[split_file(kept).dataset_offset :]


def _commitment(archive: dicom.Remote, store: dicom.DicomStore) -> None:
    """Orthanc reports on a new association to our port."""
    held = [("1.2.840.10008.5.1.4.1.1.2", f"1.2.3.1.1.{n}") for n in (1, 2)]
    good = dicom.request_commitment(store, archive, held)
    assert dicom.commitment_result(store, good, wait_s=30).state == "committed"
    bad = dicom.request_commitment(store, archive, [*held, ("1.2.840.10008.5.1.4.1.1.2", "1.2.3.404")])
    answer = dicom.commitment_result(store, bad, wait_s=30)
    assert (answer.state, answer.failed) == ("failed", {"1.2.3.404": 0x0112})


def _orthanc_to_ours(root: str, store: dicom.DicomStore) -> None:
    store.ingest_many(file_bytes(ct_slice(n, study="5", series="5.1", size=16)) for n in range(1, 4))
    rest(f"{root}/modalities/twin/echo", {})
    query = rest(
        f"{root}/modalities/twin/query", {"Level": "Study", "Query": {"StudyInstanceUID": "1.2.3.5"}}
    )
    assert isinstance(query, dict)
    assert rest(f"{root}/queries/{query['ID']}/answers") == ["0"]
    # C-MOVE: our node sends to Orthanc.
    rest(f"{root}/queries/{query['ID']}/answers/0/retrieve", {"TargetAet": "ORTHANC", "Synchronous": True})
    found = rest(f"{root}/tools/find", {"Level": "Instance", "Query": {"StudyInstanceUID": "1.2.3.5"}})
    assert isinstance(found, list)
    assert len(found) == 3
    asked = {
        "DicomInstances": [
            {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "SOPInstanceUID": uid}
            for uid in ("1.2.3.5.5.1.1", "1.2.3.5.1.1", "1.2.3.404")
        ]
    }
    started = rest(f"{root}/modalities/twin/storage-commitment", asked)
    assert isinstance(started, dict)
    import time

    deadline = time.monotonic() + 120
    while True:
        report = rest(f"{root}/storage-commitment/{started['ID']}")
        assert isinstance(report, dict)
        if report["Status"] != "Pending" or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    assert report["Status"] == "Failure"
    assert [each["SOPInstanceUID"] for each in report["Success"]] == ["1.2.3.5.1.1"]
