"""Which images make the baseline, which the follow-up, and whose they are."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from pydicom import Dataset

from digital_twins import InputError, NotFoundError
from digital_twins.clinical_integration import ClinicalConnector, ClinicalTwin
from digital_twins.clinical_integration._identity import refuse_other_patients
from digital_twins.clinical_integration._visits import study_date
from digital_twins.records import PatientRecord

RECORD = PatientRecord(patient_id="MRN-1", birth_date=date(1960, 5, 4), sex="female")


def image(**attributes: str) -> Dataset:
    dataset = Dataset()
    for keyword, value in {"PatientID": "MRN-1", "PatientBirthDate": "19600504", "PatientSex": "F"}.items():
        setattr(dataset, keyword, attributes.get(keyword, value))
    return dataset


def test_images_of_the_same_patient_pass() -> None:
    assert refuse_other_patients(RECORD, [image(), image(PatientBirthDate="", PatientSex="")]) is None


@pytest.mark.parametrize(
    ("keyword", "value"), [("PatientID", "MRN-2"), ("PatientBirthDate", "19610504"), ("PatientSex", "M")]
)
def test_images_of_another_patient_are_refused_without_naming_anyone(keyword: str, value: str) -> None:
    with pytest.raises(InputError) as refused:
        refuse_other_patients(RECORD, [image(), image(**{keyword: value})])
    assert keyword in refused.value.why
    assert value not in str(refused.value)


def test_an_image_without_a_study_date_cannot_be_placed_in_time() -> None:
    with pytest.raises(InputError, match="StudyDate"):
        study_date(Dataset())


def test_a_clinical_twin_without_imaging_says_so() -> None:
    with pytest.raises(NotFoundError, match="without imaging"):
        _ = ClinicalTwin(record=RECORD).current_volume_cm3


def test_the_connector_signs_in_to_both_endpoints_with_the_token_of_its_file(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials.json"
    credentials.write_text('{"access_token": "secret"}')
    credentials.chmod(0o600)
    connector = ClinicalConnector(
        "http://127.0.0.1:9/dicom-web",
        "http://127.0.0.1:9/fhir",
        auth_method="bearer",
        credentials_path=credentials,
    )
    assert connector.pacs._http.headers["authorization"] == "Bearer secret"
    assert connector.fhir._http.headers["authorization"] == "Bearer secret"
    status = connector.test_connection()
    assert not status["pacs"]
    assert str(status["fhir"]).startswith("failed")


def test_a_connector_without_credentials_or_with_an_unknown_method_is_refused() -> None:
    with pytest.raises(InputError, match="credentials_path"):
        ClinicalConnector("http://127.0.0.1:9", "http://127.0.0.1:9", auth_method="oauth2")
    with pytest.raises(InputError, match="kerberos"):
        ClinicalConnector("http://127.0.0.1:9", "http://127.0.0.1:9", auth_method="kerberos")
