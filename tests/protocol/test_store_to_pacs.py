"""store_to_pacs against our own node: C-STORE and STOW-RS of every document, read back whole."""

from __future__ import annotations

import pytest

from dicom_support import http_serving, listening, open_store
from digital_twins import DigitalTwinError
from digital_twins.dicom import DICOMHandler, dicomweb_routes
from digital_twins.reports import documents
from report_samples import sample_report, sample_series


@pytest.fixture(scope="module")
def made():
    return documents(sample_report(), sample_series())


def _check_stored(store, made) -> None:
    for document in made.dicom:
        (kept,) = [
            instance
            for instance in store.instances(str(document.StudyInstanceUID))
            if str(instance.sop_uid) == str(document.SOPInstanceUID)
        ]
        assert kept
    again = store.read(str(made.encapsulated_pdf.SOPInstanceUID))
    assert made.pdf in (again if isinstance(again, bytes) else again.EncapsulatedDocument)


def test_c_store(made, tmp_path):
    with open_store(tmp_path) as store, listening(store, ae_title="TWIN") as node:
        for document in made.dicom:
            DICOMHandler().store_to_pacs(document, f"dicom://TWIN@127.0.0.1:{node.port}")
        _check_stored(store, made)


def test_stow_rs(made, tmp_path):
    with open_store(tmp_path) as store, http_serving(dicomweb_routes(store)) as root:
        for document in made.dicom:
            DICOMHandler().store_to_pacs(document, root)
        _check_stored(store, made)


# pynetdicom does not close its socket when the connection is refused
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_nobody_there_is_an_error_that_says_so(made):
    with pytest.raises(DigitalTwinError):
        DICOMHandler().store_to_pacs(made.sr, "dicom://TWIN@127.0.0.1:9")
