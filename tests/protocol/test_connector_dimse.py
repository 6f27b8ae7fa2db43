"""The connector at an archive that speaks DIMSE: echo, query, C-GET and C-MOVE, beside DICOMweb."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_peers import free_port
from dicom_support import ct_slice
from digital_twins import InputError
from digital_twins.clinical_integration import ClinicalConnector
from digital_twins.dicom import DimseFailedError, Progress
from digital_twins.testing import MockPACS

NOWHERE = "http://127.0.0.1:9/fhir"


def filled(pacs: MockPACS) -> None:
    for study, modality, part, day in (
        ("1", "CT", "CHEST", "20240110"),
        ("2", "PT", "", "20240210"),
        ("3", "CT", "FOOT", "20240310"),
    ):
        slices = [ct_slice(number, study=study, series=f"{study}.1") for number in (1, 2)]
        for ds in slices:
            ds.Modality, ds.StudyDate = modality, day
            if part:
                ds.BodyPartExamined = part
        pacs.add_study(slices)


@pytest.mark.parametrize("door", ["get", "move", "web"])
def test_query_and_download(tmp_path: Path, door: str) -> None:
    port = free_port()
    with MockPACS(destinations={"TWIN": ("127.0.0.1", port)}) as pacs:
        filled(pacs)
        endpoint = f"dicom://{pacs.ae_title}@127.0.0.1:{pacs.dicom_port}"
        endpoint = {"get": endpoint, "move": f"{endpoint}?receive={port}", "web": pacs.dicom_web}[door]
        connector = ClinicalConnector(endpoint, NOWHERE)
        status = connector.test_connection()
        assert status["pacs"].ok
        assert status["pacs"].detail == ("QIDO-RS" if door == "web" else "C-ECHO")
        assert not status["fhir"]
        studies = connector.query_imaging("P1")
        assert [each.id for each in studies] == ["1.2.3.1", "1.2.3.2", "1.2.3.3"]
        assert studies[0].instance_count == 2
        assert [each.id for each in connector.query_imaging("P1", modality="PET")] == ["1.2.3.2"]
        chest = connector.query_imaging("P1", body_part="chest")
        assert [(each.id, each.body_parts) for each in chest] == [("1.2.3.1", ("CHEST",)), ("1.2.3.2", ())]
        ranged = connector.query_imaging("P1", date_range=("2024-02-01", "2024-02-28"))
        assert [each.id for each in ranged] == ["1.2.3.2"]
        told: list[Progress] = []
        study = connector.download_study("1.2.3.1", folder=tmp_path / "files", progress=told.append)
        assert sorted(ds.InstanceNumber for ds in study) == [1, 2]
        assert study[0].PixelData == ct_slice(int(study[0].InstanceNumber)).PixelData
        assert told[-1].instances == 2
        assert {path.parent for path in study.paths} == {tmp_path / "files"}
        assert len(connector.download_study("1.2.3.3")) == 2


def test_an_archive_that_is_not_there() -> None:
    connector = ClinicalConnector(f"dicom://PACS@127.0.0.1:{free_port()}", NOWHERE)
    assert not connector.test_connection()["pacs"]
    with pytest.raises(DimseFailedError):
        connector.query_imaging("P1")


@pytest.mark.parametrize(
    "address", ["dicom://127.0.0.1:104", "dicom://PACS@host", "dicom://PACS@host:104?get=1", "dicom://P@h:x"]
)
def test_addresses_that_cannot_be_read(address: str) -> None:
    with pytest.raises(InputError, match="address"):
        _ = ClinicalConnector(address, NOWHERE).pacs
