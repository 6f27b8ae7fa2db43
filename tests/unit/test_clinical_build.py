"""Which images make the baseline, which the follow-up, and whose they are."""

from __future__ import annotations

from datetime import date

import pytest
from pydicom import Dataset

from digital_twins import InputError, NotFoundError
from digital_twins.clinical_integration import ClinicalTwin
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
