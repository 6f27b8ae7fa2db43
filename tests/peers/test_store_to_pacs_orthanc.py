"""store_to_pacs against Orthanc: every document of a report, by C-STORE and by STOW-RS, read back whole."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import httpx
import pytest
from pydicom import dcmread

from dicom_support import file_bytes
from digital_twins.dicom import DICOMHandler
from digital_twins.reports import Documents, documents
from foreign import missing_peer
from orthanc_web import Orthanc, orthanc, orthanc_program
from report_samples import sample_report, sample_series

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def made() -> Documents:
    return documents(sample_report(), sample_series())


@pytest.fixture
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    if orthanc_program() is None:
        missing_peer("orthanc with orthanc-dicomweb")
    with orthanc(tmp_path_factory.mktemp("orthanc")) as peer:
        yield peer


@pytest.mark.parametrize("way", ["C-STORE", "STOW-RS"])
def test_every_document_reaches_orthanc_whole(made: Documents, archive: Orthanc, way: str) -> None:
    dimse = f"dicom://ORTHANC@127.0.0.1:{archive.dicom_port}"
    endpoint = dimse if way == "C-STORE" else archive.dicom_web
    for document in made.dicom:
        DICOMHandler().store_to_pacs(document, endpoint)
    kept = {}
    for identifier in httpx.get(f"{archive.rest}/instances").json():
        file = httpx.get(f"{archive.rest}/instances/{identifier}/file").content
        dataset = dcmread(BytesIO(file))
        kept[dataset.SOPInstanceUID] = dataset
    assert kept.keys() == {document.SOPInstanceUID for document in made.dicom}
    for document in made.dicom:
        written = dcmread(BytesIO(file_bytes(document)))  # numbers as files have them
        assert kept[document.SOPInstanceUID].to_json_dict() == written.to_json_dict()
