"""The simulated archive: what it answers, and the faults that a test can ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dicom_support import ct_slice, file_bytes, listening, open_store
from digital_twins import InputError, dicom
from digital_twins.dicom import DicomWebClient, DicomWebError, DimseFailedError, Remote
from digital_twins.testing import MockPACS

STUDY = "1.2.3.1"


@pytest.fixture(scope="module")
def pacs() -> Iterator[MockPACS]:
    with MockPACS() as pacs:
        pacs.add_study(ct_slice(n, size=128) for n in range(1, 6))
        pacs.add_study([file_bytes(ct_slice(1, patient="P2", study="2", series="2.1"))])
        yield pacs


def brief(pacs: MockPACS) -> Remote:
    return Remote("127.0.0.1", pacs.dicom_port, called_ae=pacs.ae_title, timeout_s=2)


def test_find_and_get(pacs: MockPACS, tmp_path: Path) -> None:
    dicom.echo(pacs.remote)
    found = dicom.find(pacs.remote, {"PatientID": "P2", "StudyInstanceUID": ""})
    assert [ds.StudyInstanceUID for ds in found] == ["1.2.3.2"]
    with DicomWebClient(pacs.dicom_web) as client:
        assert len(client.search_studies()) == 2
        assert len(client.download_study(STUDY, tmp_path)) == 5


def test_move_to_a_third(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, listening(store, ae_title="DEST") as destination:
        with MockPACS(destinations={"DEST": ("127.0.0.1", destination.port)}) as pacs:
            pacs.add_study([ct_slice(1), ct_slice(2)])
            done = dicom.move(pacs.remote, "DEST", {"StudyInstanceUID": STUDY})
            assert done.completed == 2
        assert len(store.instances(STUDY)) == 2


def test_rejected_and_silent_associations(pacs: MockPACS) -> None:
    pacs.fail("dicom", "reject", times=2)
    for _ in range(2):
        with pytest.raises(DimseFailedError):
            dicom.echo(brief(pacs))
    dicom.echo(brief(pacs))
    pacs.fail("dicom", "time-out")
    with pytest.raises(DimseFailedError):
        dicom.echo(brief(pacs))
    pacs.fail("dicom", "truncate", after_bytes=100)
    with pytest.raises(DimseFailedError):
        dicom.find(brief(pacs), {"StudyInstanceUID": ""})
    dicom.echo(brief(pacs))


def test_rejected_and_silent_requests(pacs: MockPACS) -> None:
    pacs.fail("dicom-web", "reject", status=503, times=2)
    with DicomWebClient(pacs.dicom_web) as client:
        assert len(client.search_studies()) == 2
        pacs.fail("dicom-web", "reject", status=409)
        with pytest.raises(InputError):
            client.search_studies()
    pacs.fail("dicom-web", "time-out")
    with DicomWebClient(pacs.dicom_web, timeout_s=1, retries=0) as client, pytest.raises(DicomWebError):
        client.search_studies()
    assert httpx.get(f"{pacs.dicom_web}/studies").status_code == 200


def test_truncated_objects(pacs: MockPACS, tmp_path: Path) -> None:
    pacs.fail("dicom-web", "truncate", after_bytes=50_000)
    with DicomWebClient(pacs.dicom_web, retries=0) as client, pytest.raises(DicomWebError):
        list(client.retrieve_study(STUDY))
    pacs.fail("dicom-web", "truncate", after_bytes=50_000)
    with DicomWebClient(pacs.dicom_web) as client:
        study = client.download_study(STUDY, tmp_path)
    assert [path.read_bytes() for path in study.paths] == [
        pacs.store.read(f"{STUDY}.1.{n}") for n in range(1, 6)
    ]
