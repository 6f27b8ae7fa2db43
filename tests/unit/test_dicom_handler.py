"""DICOMHandler: the seeds' calls on a series on disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import highdicom as hd
import numpy as np
import pytest

from digital_twins import InputError, NotFoundError
from digital_twins.dicom import DICOMHandler
from report_samples import CREATED, SHAPE, sample_series


@dataclass
class Twin:
    twin_id: str = "twin-1"
    version: int = 2
    patient_id: str = "P1"
    current_volume_cm3: float = 12.5
    proliferation_rate: float = 0.03
    proliferation_rate_interval: tuple[float, float] = (0.02, 0.04)
    image: object = field(default_factory=lambda: SimpleNamespace(source_uids=("1.2.3.9.1",)))


@pytest.fixture
def folder(tmp_path):
    for k, dataset in enumerate(reversed(sample_series())):
        dataset.save_as(tmp_path / f"{k}.dcm", enforce_file_format=True)
    (tmp_path / "README.txt").write_text("not DICOM")
    return tmp_path


def test_series_in_geometric_order_with_metadata_and_voxels(folder):
    handler = DICOMHandler()
    series = handler.load_series(str(folder))
    assert [d.InstanceNumber for d in series] in (
        list(range(1, SHAPE[0] + 1)),
        list(range(SHAPE[0], 0, -1)),
    )
    metadata = handler.extract_metadata(series)
    assert (metadata["Modality"], str(metadata["PatientName"]), metadata["StudyDate"]) == (
        "CT",
        "Test^One",
        "20260102",
    )
    assert metadata["NumberOfInstances"] == SHAPE[0]
    voxels = handler.to_numpy(series)
    assert voxels.shape == SHAPE
    stored = np.sort([float((d.pixel_array + d.RescaleIntercept).sum()) for d in sample_series()])
    np.testing.assert_allclose(np.sort(voxels.sum(axis=(1, 2)).astype(float)), stored)


def test_one_file_is_a_series(folder):
    assert len(DICOMHandler().load_series(folder / "0.dcm")) == 1


def test_folder_with_two_series_needs_a_choice(folder):
    other = sample_series()[0]
    other.SeriesInstanceUID, other.SOPInstanceUID = "1.2.3.80", "1.2.3.81"
    other.file_meta.MediaStorageSOPInstanceUID = other.SOPInstanceUID
    other.save_as(folder / "other.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match="2 series"):
        DICOMHandler().load_series(folder)
    assert len(DICOMHandler().load_series(folder, series_uid="1.2.3.80")) == 1
    with pytest.raises(NotFoundError):
        DICOMHandler().load_series(folder, series_uid="1.2.3.999")


def test_nothing_there(tmp_path):
    with pytest.raises(NotFoundError):
        DICOMHandler().load_series(tmp_path / "none")
    with pytest.raises(InputError):
        DICOMHandler().extract_metadata([])


def test_structured_report_of_the_seed(folder):
    handler, twin = DICOMHandler(), Twin()
    handler.load_series(folder)
    sr = handler.create_structured_report(
        patient_dt=twin,
        report_type="digital_twin_analysis",
        content={
            "tumor_volume_cm3": twin.current_volume_cm3,
            "growth_rate": twin.proliferation_rate,
            "predicted_response": "partial_response",
        },
        created=CREATED,
    )
    groups = hd.sr.Comprehensive3DSR.from_dataset(sr).content.get_image_measurement_groups()
    numbers = {m.name.value: m.value for g in groups for m in g.get_measurements()}
    assert numbers["118565006"] == 12.5
    assert (numbers["growth-rate-lo"], numbers["growth-rate-up"]) == (0.02, 0.04)
    values = {e.value.value for g in groups for e in g.get_qualitative_evaluations()}
    assert values == {"model-estimate", "not-acquired", "partial-response"}
    assert (sr.VerificationFlag, sr.PatientID) == ("UNVERIFIED", "P1")


@pytest.mark.parametrize("content", [{}, {"colour": 1}, None])
def test_content_that_cannot_be_coded_is_refused(folder, content):
    handler = DICOMHandler()
    handler.load_series(folder)
    with pytest.raises(InputError):
        handler.create_structured_report(Twin(), content=content)


def test_report_without_images_of_the_patient_or_of_unknown_type_is_refused(folder):
    handler = DICOMHandler()
    with pytest.raises(InputError, match="no images"):
        handler.create_structured_report(Twin(), content={"growth_rate": 0.1})
    handler.load_series(folder)
    with pytest.raises(InputError, match="no images"):
        handler.create_structured_report(Twin(patient_id="P2"), content={"growth_rate": 0.1})
    with pytest.raises(InputError, match="type"):
        handler.create_structured_report(Twin(), "other", {"growth_rate": 0.1})


@pytest.mark.parametrize("endpoint", ["", "ftp://x/y", "dicom://127.0.0.1:104", "dicom://AE@host", "pacs"])
def test_bad_endpoint_is_refused(endpoint):
    with pytest.raises(InputError, match="address"):
        DICOMHandler().store_to_pacs(sample_series()[0], endpoint)
