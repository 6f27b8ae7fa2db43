"""Whether images and a record speak of the same person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydicom import Dataset

    from digital_twins.records import PatientRecord

_DICOM_SEX = {"male": "M", "female": "F", "other": "O"}


def refuse_other_patients(record: PatientRecord, datasets: Iterable[Dataset]) -> None:
    """Raise unless every dataset belongs to the record's patient.

    PatientID must equal the record's medical record number; PatientBirthDate and PatientSex must not
    contradict it where both sides state them (DICOM PS3.3 C.7.1.1, FHIR Patient).

    Raises
    ------
    InputError
        An image belongs to another patient; the message names the attribute, never its value.
    """
    for dataset in datasets:
        for keyword, agrees in (
            ("PatientID", _text(dataset, "PatientID") == record.patient_id),
            ("PatientBirthDate", _birth_date_agrees(record, dataset)),
            ("PatientSex", _sex_agrees(record, dataset)),
        ):
            if not agrees:
                raise InputError(
                    what="The imaging study and the clinical record belong to different patients.",
                    why=f"{keyword} of the images contradicts the record.",
                    fix="Check the medical record number in both systems and correct the wrong one.",
                )


def _text(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip()


def _birth_date_agrees(record: PatientRecord, dataset: Dataset) -> bool:
    stated = _text(dataset, "PatientBirthDate")
    return not stated or record.birth_date is None or stated == record.birth_date.strftime("%Y%m%d")


def _sex_agrees(record: PatientRecord, dataset: Dataset) -> bool:
    stated = _text(dataset, "PatientSex")
    expected = _DICOM_SEX.get((record.sex or "").lower())
    return stated not in {"M", "F"} or expected not in {"M", "F"} or stated == expected
