"""Every operation of the DIMSE and DICOMweb protocols of seed document 003, by its Python counterpart."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_forwarding import wait_for
from dicom_peers import free_port
from dicom_support import ct_slice, file_bytes, listening, open_store
from digital_twins import dicom
from digital_twins.testing import MockPACS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "dicom.md"
OPERATIONS = {
    "DIMSEClient": {"connect", "disconnect", "echo", "find", "move", "store"},
    "DICOMwebClient": {"queryStudies", "retrieveStudy", "retrieveMetadata", "storeInstance"},
}


def remote_of(pacs: MockPACS) -> dicom.Remote:
    return dicom.Remote("127.0.0.1", pacs.dicom_port, called_ae=pacs.ae_title, calling_ae="VISION_PRO")


def connect(pacs: MockPACS, _folder: Path) -> None:
    """An association is part of each call; one that cannot be made raises."""
    dicom.echo(remote_of(pacs))
    with pytest.raises(dicom.DimseFailedError):
        dicom.echo(dicom.Remote("127.0.0.1", free_port()))


def disconnect(pacs: MockPACS, folder: Path) -> None:
    """After each call the association is released: the port has none left."""
    with open_store(folder) as store, listening(store) as listener:
        dicom.echo(dicom.Remote("127.0.0.1", listener.port))
        wait_for(lambda: listener.associations == 0)
    assert pacs.dicom_port


def echo(pacs: MockPACS, _folder: Path) -> None:
    dicom.echo(remote_of(pacs))
    pacs.fail("dicom", "reject")
    with pytest.raises(dicom.DimseFailedError):  # DICOMError.associationRejected
        dicom.echo(remote_of(pacs))


def find(pacs: MockPACS, _folder: Path) -> None:
    """Every member of DICOMQuery matches, and every member of DICOMQueryResult is answered."""
    asked = {
        "PatientID": "P1",
        "PatientName": "Doe*",
        "StudyDate": "20240101-20241231",
        "StudyDescription": "",
        "ModalitiesInStudy": "CT",
        "AccessionNumber": "A1",
        "StudyInstanceUID": "",
        "NumberOfStudyRelatedSeries": "",
        "NumberOfStudyRelatedInstances": "",
    }
    (found,) = dicom.find(remote_of(pacs), asked)
    assert (found.StudyInstanceUID, found.PatientID, str(found.PatientName)) == ("1.2.3.1", "P1", "Doe^Jane")
    assert (found.StudyDate, found.ModalitiesInStudy) == ("20240110", "CT")
    assert (found.NumberOfStudyRelatedSeries, found.NumberOfStudyRelatedInstances) == (1, 2)
    assert dicom.find(remote_of(pacs), {**asked, "StudyDate": "20250101-"}) == []


def move(pacs: MockPACS, folder: Path) -> None:
    with open_store(folder) as store, listening(store, on_port=PORT):
        done = dicom.move(remote_of(pacs), "VISION_PRO", {"StudyInstanceUID": "1.2.3.1"})
        assert (done.completed, done.failed) == (2, 0)
        assert len(store.instances("1.2.3.1")) == 2


def store(pacs: MockPACS, _folder: Path) -> None:
    assert dicom.send(remote_of(pacs), [ct_slice(3)]) == 1
    keys = {"StudyInstanceUID": "1.2.3.1", "NumberOfStudyRelatedInstances": ""}
    (found,) = dicom.find(remote_of(pacs), keys)
    assert found.NumberOfStudyRelatedInstances == 3


def query_studies(pacs: MockPACS, _folder: Path) -> None:
    (found,) = dicom.DicomWebClient(pacs.dicom_web).search_studies(PatientID="P1")
    assert found.StudyInstanceUID == "1.2.3.1"


def retrieve_study(pacs: MockPACS, _folder: Path) -> None:
    client = dicom.DicomWebClient(pacs.dicom_web)
    assert len(list(client.retrieve_study("1.2.3.1"))) == len(client.download_study("1.2.3.1")) == 2


def retrieve_metadata(pacs: MockPACS, _folder: Path) -> None:
    found = dicom.DicomWebClient(pacs.dicom_web).retrieve_metadata("1.2.3.1")
    assert {each.SOPInstanceUID for each in found} == {"1.2.3.1.1.1", "1.2.3.1.1.2"}


def store_instance(pacs: MockPACS, folder: Path) -> None:
    path = folder / "3.dcm"
    path.write_bytes(file_bytes(ct_slice(3)))
    client = dicom.DicomWebClient(pacs.dicom_web)
    client.store([path])
    assert len(client.search_instances("1.2.3.1")) == 3


PORT = free_port()
COUNTERPARTS: dict[str, Callable[[MockPACS, Path], None]] = {
    "DIMSEClient.connect": connect,
    "DIMSEClient.disconnect": disconnect,
    "DIMSEClient.echo": echo,
    "DIMSEClient.find": find,
    "DIMSEClient.move": move,
    "DIMSEClient.store": store,
    "DICOMwebClient.queryStudies": query_studies,
    "DICOMwebClient.retrieveStudy": retrieve_study,
    "DICOMwebClient.retrieveMetadata": retrieve_metadata,
    "DICOMwebClient.storeInstance": store_instance,
}


@pytest.mark.parametrize("operation", COUNTERPARTS)
def test_an_operation_works(tmp_path: Path, operation: str) -> None:
    with MockPACS(destinations={"VISION_PRO": ("127.0.0.1", PORT)}) as pacs:
        pacs.add_study([ct_slice(1), ct_slice(2)])
        COUNTERPARTS[operation](pacs, tmp_path)


def test_no_operation_lacks_a_counterpart_and_the_page_names_each() -> None:
    named = {f"{protocol}.{name}" for protocol, names in OPERATIONS.items() for name in names}
    assert named == set(COUNTERPARTS)
    page = PAGE.read_text(encoding="utf-8")
    assert [each for each in named if f"| `{each}` |" not in page] == []
    called = re.findall(r"`digital_twins\.dicom\.(\w+)", page)
    assert [name for name in called if not hasattr(dicom, name)] == []


@pytest.mark.shared
def test_the_operations_are_those_of_the_document(seeds: Path) -> None:
    text = (seeds / "003_26c1d9361794e47a.txt").read_text(encoding="utf-8")
    for protocol, names in OPERATIONS.items():
        body = re.search(rf"protocol {protocol} \{{(.*?)\n\}}", text, re.DOTALL)
        assert body is not None
        assert set(re.findall(r"func (\w+)\(", body[1])) == names
