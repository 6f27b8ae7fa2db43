"""Debian's dcmtk and the dicomweb-client library against our node."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from dicom_support import ct_slice, file_bytes, http_serving, listening, open_store
from digital_twins import dicom
from digital_twins.dicom._part10 import split_file

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module", autouse=True)
def dcmtk() -> None:
    if shutil.which("storescu") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("dcmtk is missing: apt-get install dcmtk")
        pytest.skip("needs dcmtk: apt-get install dcmtk")


def _run(*command: str) -> str:
    # Without TCP_NODELAY Debian's dcmtk waits 40 ms for each message (Nagle against delayed ACK).
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "TCP_NODELAY": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_echo_store_find(tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    sent.mkdir()
    for number in range(1, 21):
        (sent / f"{number:02}.dcm").write_bytes(file_bytes(ct_slice(number, size=256)))
    with open_store(tmp_path) as store, listening(store) as node:
        address = ("127.0.0.1", str(node.port))
        _run("echoscu", *address)
        _run("storescu", "-xe", "+sd", *address, str(sent))
        for path in sorted(sent.iterdir()):
            raw, kept = path.read_bytes(), store.read(split_file(path.read_bytes()).sop_instance_uid)
            # dcmtk drops nothing from these files and writes explicit little endian as they are.
            assert kept[split_file(kept).dataset_offset :] == raw[split_file(raw).dataset_offset :]
        study = ("-k", "PatientName=DOE*", "-k", "StudyInstanceUID", "-k", "NumberOfStudyRelatedInstances")
        output = _run("findscu", "-S", "-k", "QueryRetrieveLevel=STUDY", *study, *address)
        assert "1.2.3.1" in output, output
        assert "[20]" in output
        series = ("-k", "StudyInstanceUID=1.2.3.1", "-k", "SeriesInstanceUID", "-k", "Modality=CT")
        assert "1.2.3.1.1" in _run("findscu", "-S", "-k", "QueryRetrieveLevel=SERIES", *series, *address)
        patient = ("-k", "PatientID=P1", "-k", "PatientName", "-k", "NumberOfPatientRelatedInstances")
        output = _run("findscu", "-P", "-k", "QueryRetrieveLevel=PATIENT", *patient, *address)
        assert "[Doe^Jane]" in output
        _run(
            "findscu",
            "-S",
            "--cancel",
            "1",
            "-k",
            "QueryRetrieveLevel=IMAGE",
            "-k",
            "SOPInstanceUID",
            *address,
        )


def test_dicomweb_client_library(tmp_path: Path) -> None:
    from dicomweb_client.api import DICOMwebClient

    with open_store(tmp_path) as store:
        store.ingest_many(file_bytes(ct_slice(n)) for n in range(1, 4))
        with http_serving(dicom.dicomweb_routes(store)) as base:
            client = DICOMwebClient(base)
            (study,) = client.search_for_studies(search_filters={"PatientID": "P1"})
            uid = study["0020000D"]["Value"][0]
            assert client.search_for_studies(search_filters={"PatientID": "none"}) == []
            (series,) = client.search_for_series(uid)
            assert len(client.search_for_instances(uid, limit=2)) == 2
            series_uid = series["0020000E"]["Value"][0]
            assert len(client.retrieve_study_metadata(uid)) == 3
            assert [ds.InstanceNumber for ds in client.retrieve_series(uid, series_uid)] == [1, 2, 3]
            one = client.retrieve_instance(uid, series_uid, f"{series_uid}.2")
            assert one.PixelData == ct_slice(2).PixelData
            (frame,) = client.retrieve_instance_frames(uid, series_uid, f"{series_uid}.2", [1])
            assert frame == ct_slice(2).PixelData
            bulk = f"{base}/studies/{uid}/series/{series_uid}/instances/{series_uid}.2/bulkdata/7FE00010"
            assert client.retrieve_bulkdata(bulk) == [frame]
            answer = client.store_instances([ct_slice(4)])
            assert answer.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3.1.1.4"
            assert len(store.instances(uid)) == 4
